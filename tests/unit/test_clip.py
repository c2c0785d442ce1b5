"""Loading CLIP, its input transform, and the classifier."""

import shutil
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from surefoot.clip import (
    CONFIG,
    MERGES,
    PART,
    WEIGHTS,
    Classifier,
    Preprocess,
    State,
    convention_of,
    in_convention,
    load_clip,
    load_state,
    load_tokenizer,
    save_state,
    tensor_names,
)
from surefoot.files import UserError, sha256, write_json
from surefoot.method_entries import Head
from surefoot.models import _usual_preprocess, fetch_model
from surefoot.run_entries import Model
from tests.tiny import same_state

IMAGES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8))


@pytest.fixture
def copy(model: Path, tmp_path: Path) -> Path:
    """A model folder that a test may damage."""
    return Path(shutil.copytree(model, tmp_path / "model"))


def test_preprocess_agrees_with_torchvision(preprocess: Preprocess) -> None:
    transform = v2.Compose(
        [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5, 0.4, 0.3], [0.5, 0.6, 0.7])]
    )
    expected = torch.stack([transform(Image.fromarray(image.numpy())) for image in IMAGES])
    torch.testing.assert_close(preprocess(IMAGES), expected)


def test_preprocess_resizes_like_torchvision(preprocess: Preprocess) -> None:
    large = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (2, 40, 40, 3), dtype=np.uint8))
    expected = v2.functional.resize(
        large.permute(0, 3, 1, 2) / 255, [16, 16], interpolation=v2.InterpolationMode.BICUBIC, antialias=True
    )
    torch.testing.assert_close(preprocess.scale(large), expected.clamp(0, 1))


def test_preprocess_leaves_its_images_alone(preprocess: Preprocess) -> None:
    before = IMAGES.clone()
    preprocess(IMAGES)
    assert torch.equal(IMAGES, before)


def test_preprocess_takes_clips_statistics_where_a_config_has_none(tmp_path: Path) -> None:
    write_json(tmp_path / CONFIG, {"model_cfg": {"vision_cfg": {"image_size": [24, 24]}}})
    found = Preprocess.of(tmp_path)
    assert found.size == 24
    assert found.mean == pytest.approx((0.48145466, 0.4578275, 0.40821073))
    assert found.std == pytest.approx((0.26862954, 0.26130258, 0.27577711))


@torch.no_grad()
def test_classifier_by_hand(classifier: Classifier, preprocess: Preprocess) -> None:
    raw = classifier.image(preprocess(IMAGES))
    features = raw / raw.norm(dim=1, keepdim=True)
    logits = classifier.logit_scale.exp() * features @ classifier.head.weight.T
    torch.testing.assert_close(classifier.encode(preprocess(IMAGES)), features)
    torch.testing.assert_close(classifier(preprocess(IMAGES)), logits)


@torch.no_grad()
def test_a_bias_is_scaled_with_the_logits_of_unit_rows(classifier: Classifier) -> None:
    rows, bias = torch.eye(3, 16), torch.tensor([1.0, 2.0, 3.0])
    features = torch.zeros(1, 16)
    outside = Classifier(classifier.image, {"weight": rows, "bias": bias, "logit_scale": torch.tensor(2.0).log()})
    inside = Classifier(classifier.image, {"weight": rows, "bias": bias})
    torch.testing.assert_close(outside.classify(features), 2 * bias[None])
    torch.testing.assert_close(inside.classify(features), bias[None])
    assert "logit_scale" not in inside.state_dict()


def test_without_gradients_a_batch_is_computed_in_parts_on_a_cpu(classifier: Classifier) -> None:
    seen: list[int] = []
    hook = classifier.image.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    images = torch.rand(PART + 3, 3, 16, 16)
    whole = classifier(images)
    with torch.no_grad():
        parts = classifier(images)
    hook.remove()
    assert seen == [PART + 3, PART, 3]
    torch.testing.assert_close(parts, whole.detach())


def test_a_classifier_does_not_share_its_head_with_the_state_it_came_from(classifier: Classifier) -> None:
    head = {"weight": torch.zeros(3, 16), "logit_scale": torch.tensor(0.0)}
    built = Classifier(classifier.image, head)
    with torch.no_grad():
        built.head.weight += 1
        built.logit_scale += 1
    assert head["weight"].sum() == 0 and head["logit_scale"] == 0


def test_load_clip_gives_the_weights_of_the_folder(model: Path) -> None:
    assert same_state(load_clip(model).state_dict(), load_state(model / WEIGHTS))
    assert not load_clip(model).training


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_a_missing_file_of_a_model_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(UserError, match=name):
        load_clip(copy)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_truncated_weights_are_named(copy: Path, share: float) -> None:
    content = (copy / WEIGHTS).read_bytes()
    (copy / WEIGHTS).write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=str(copy)):
        load_clip(copy)
    with pytest.raises(UserError, match=WEIGHTS):
        load_state(copy / WEIGHTS)


def test_weights_of_another_architecture_are_refused(copy: Path) -> None:
    save_state(copy / WEIGHTS, {"visual.conv1.weight": torch.zeros(1)})
    with pytest.raises(UserError, match=str(copy)):
        load_clip(copy)


def test_a_missing_state_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.safetensors"):
        load_state(tmp_path / "none.safetensors")
    with pytest.raises(UserError, match=r"none\.safetensors"):
        tensor_names(tmp_path / "none.safetensors")


def test_the_convention_of_a_head_is_known_from_the_names_of_its_tensors(tmp_path: Path, head: State) -> None:
    for convention in (Head(), Head(scaled=True, bias=True)):
        state = Classifier(torch.nn.Identity(), in_convention(head, convention)).state_dict()
        save_state(tmp_path / "weights.safetensors", state)
        assert convention_of(tensor_names(tmp_path / "weights.safetensors")) == convention_of(state) == convention


def test_states_round_trip_bit_for_bit(tmp_path: Path) -> None:
    state = {"a": torch.tensor([-0.0, 1e-45, float("nan")]), "n": torch.tensor(3), "t": torch.arange(6.0).view(2, 3).T}
    save_state(tmp_path / "x.safetensors", state)
    loaded = load_state(tmp_path / "x.safetensors")
    assert same_state(loaded, {key: tensor.contiguous() for key, tensor in state.items()})


def test_fetching_from_a_folder_copies_it_with_its_digest(model: Path, tmp_path: Path) -> None:
    fetch_model(Model(folder=str(model)), tmp_path / "m")
    assert {p.name for p in (tmp_path / "m").iterdir()} == {CONFIG, WEIGHTS, MERGES, "source.json"}
    assert same_state(load_clip(tmp_path / "m").state_dict(), load_clip(model).state_dict())


def test_fetching_checks_the_published_digests(copy: Path, tmp_path: Path) -> None:
    write_json(copy / "sha256.json", {p.name: sha256(p) for p in copy.iterdir()})
    fetch_model(Model(folder=str(copy)), tmp_path / "good")
    (copy / WEIGHTS).write_bytes((copy / WEIGHTS).read_bytes()[:-1])
    with pytest.raises(UserError, match=f"{WEIGHTS} does not match"):
        fetch_model(Model(folder=str(copy)), tmp_path / "bad")


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_fetching_names_a_missing_file(copy: Path, tmp_path: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(UserError, match=name):
        fetch_model(Model(folder=str(copy)), tmp_path / "m")


def test_unknown_weights_are_told_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'openai'"):
        fetch_model(Model(architecture="ViT-B-32", pretrained="openia"), tmp_path)
    with pytest.raises(UserError, match="did you mean 'ViT-B-32'"):
        fetch_model(Model(architecture="ViT-B32", pretrained="openai"), tmp_path)


def test_a_checkpoint_of_open_clips_training_is_a_model(tmp_path: Path) -> None:
    """As open_clip's training writes it from several GPUs: names begin with module."""
    made = open_clip.create_model("ViT-S-32-alt", pretrained=None)
    file = tmp_path / "epoch_1.pt"
    torch.save({"epoch": 1, "state_dict": {f"module.{k}": v for k, v in made.state_dict().items()}}, file)
    fetch_model(Model(architecture="ViT-S-32-alt", pretrained=str(file)), tmp_path / "m")
    assert same_state(load_clip(tmp_path / "m").state_dict(), made.state_dict())
    for name, message in (("ViT-B-32", "does not hold weights of ViT-B-32"), ("ViT-S32", "no architecture")):
        with pytest.raises(UserError, match=message):
            fetch_model(Model(architecture=name, pretrained=str(file)), tmp_path / "other")


def test_a_checkpoint_wants_its_images_as_the_published_weights_of_its_architecture(tmp_path: Path) -> None:
    for name, statistic, interpolation in (("MobileCLIP-S1", 0.0, "bilinear"), ("ViT-B-32", 0.48145466, "bicubic")):
        found = {"mean": open_clip.OPENAI_DATASET_MEAN, "interpolation": "bicubic"}
        found |= _usual_preprocess(name, open_clip.list_pretrained_tags_by_model(name))
        assert (found["mean"][0], found["interpolation"]) == (statistic, interpolation)
    assert _usual_preprocess("ViT-S-32-alt", []) == {}


def test_tokenizer_of_a_folder_uses_its_own_vocabulary(model: Path) -> None:
    tokenizer = load_tokenizer(model)
    assert tokenizer(["a picture of a cat"]).shape == (1, 12)
    assert tokenizer.vocab_size < 1000
