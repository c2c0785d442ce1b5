"""ResNets as image towers without a text tower: their sizes, block maps, and the way of all models with them."""

import shutil
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import timm
import torch
import torchvision
from torch import nn

from surefoot.clip import (
    CONFIG,
    SOURCE,
    WEIGHTS,
    Classifier,
    Preprocess,
    load_clip,
    load_image_tower,
    load_state,
    random_classifier,
    save_state,
    zero_shot_classifier,
)
from surefoot.config import parse_config
from surefoot.data import Data
from surefoot.files import UserError, read_json, write_json
from surefoot.finetune import Bench, Trained
from surefoot.layers import layers, parts
from surefoot.method_entries import TEXT_TERMS, Head, Options, Recipe, Training
from surefoot.models import fetch_model
from surefoot.objective import TERMS
from surefoot.references import References
from surefoot.resnet import TOWERS, ResNet26
from surefoot.resume import Resumable
from surefoot.run_entries import TOWER_NAMES, Model
from surefoot.train import Run, fit
from surefoot.zeroshot import zero_shot_head
from tests.tiny import CLASSES, TEMPLATES, raw_config, same_bytes, same_state

RECIPE = {"learning_rate": 1e-3, "batch_size": 15, "epochs": 1, "warmup": 0}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Fetched model folders of every tower, at 16 px so that runs are short."""
    root = tmp_path_factory.mktemp("towers")
    for name in TOWERS:
        fetch_model(Model(tower=name, image_size=16), root / name)
    return {name: root / name for name in TOWERS}


def start(folder: Path) -> Classifier:
    """The classifier that every method starts from."""
    return zero_shot_classifier(folder, zero_shot_head(folder, CLASSES, TEMPLATES))


def train(folder: Path, data: Data, place: Path, training: dict, **recipe: object) -> Trained:
    """One run through the library's own steps: head, bench, training."""
    head = place / "head.safetensors"
    save_state(head, zero_shot_head(folder, CLASSES, TEMPLATES))
    method = {
        "name": "mine",
        "training": Training(**training).model_dump(),
        "recipe": Recipe(**{**RECIPE, **recipe}).model_dump(),
        "metric": "top1",
    }
    return Bench(folder, head, data, method).run(None, 0, Resumable(place / "state", "job"), quiet=True)


def moved(folder: Path, classifier: Classifier) -> set[str]:
    """The tensors, buffers too, that are not those of the start bit for bit."""
    before = start(folder).state_dict()
    return {name for name, tensor in classifier.state_dict().items() if not same_bytes(before[name], tensor)}


# Sizes and block maps


def count(module: nn.Module) -> int:
    """Number of parameters."""
    return sum(tensor.numel() for tensor in module.parameters())


def test_resnet26_has_the_sizes_of_memos_release() -> None:
    tower, fc = ResNet26(), nn.Linear(64, 10)
    blocks = (tower.conv1, tower.layer1, tower.layer2, tower.layer3, tower.bn, fc)
    assert [count(module) for module in blocks] == [432, 18_688, 69_600, 277_440, 128, 650]
    assert count(tower) + count(fc) == 366_938
    names = [*(n for n, _ in tower.named_parameters()), "fc.weight", "fc.bias"]
    assert len(names) == 77 and sum("bn" not in name for name in names) == 27
    norms = [module for module in tower.modules() if isinstance(module, nn.GroupNorm)]
    assert len(norms) == 25 and {norm.num_groups for norm in norms} == {8}
    assert Counter(type(m).__name__ for m in tower.modules())["Conv2d"] == 25


def test_blocks_of_resnet26() -> None:
    names = [f"image.{name}" for name, _ in ResNet26().named_parameters()] + ["head.weight"]
    found = layers(names)
    assert list(found) == ["embedding", "block-0", "block-1", "block-2", "head"]
    assert found["embedding"] == ["image.conv1.weight"]
    for k in range(3):
        inside = {name for name in names if name.startswith(f"image.layer{k + 1}.")}
        assert set(found[f"block-{k}"]) - inside == ({"image.bn.weight", "image.bn.bias"} if k == 2 else set())
        assert inside <= set(found[f"block-{k}"])
    by_part = parts(names)
    for part, block in (("first-blocks", "block-0"), ("middle-blocks", "block-1"), ("last-blocks", "block-2")):
        assert by_part[part] == found[block]


@pytest.mark.parametrize("family", ["torchvision", "timm"])
def test_blocks_of_resnet50(family: str) -> None:
    with torch.device("meta"):
        tower = TOWERS["resnet50"].make() if family == "torchvision" else timm.create_model("resnet50", num_classes=0)
    sizes = {name: tensor.numel() for name, tensor in tower.named_parameters(prefix="image")}
    found = layers([*sizes, "head.weight"])
    assert list(found) == ["embedding", "block-0", "block-1", "block-2", "block-3", "head"]
    assert set(found["embedding"]) == {"image.conv1.weight", "image.bn1.weight", "image.bn1.bias"}
    for k in range(4):
        assert found[f"block-{k}"] == [name for name in sizes if name.startswith(f"image.layer{k + 1}.")]
        assert f"image.layer{k + 1}.0.downsample.1.weight" in found[f"block-{k}"]
    layer_sizes = [sum(sizes[name] for name in members) for layer, members in found.items() if layer != "head"]
    assert layer_sizes == [9_536, 215_808, 1_219_584, 7_098_368, 14_964_736]


@pytest.mark.parametrize("side", [32, 48, 64])
def test_resnet26_takes_images_of_several_sizes(side: int) -> None:
    tower = ResNet26().eval()
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = tower(images)
        assert features.shape == (2, 64) and (features >= 0).all() and features.std() > 0
        assert same_bytes(features, tower(images))
        torch.testing.assert_close(features[:1], tower(images[:1]))  # group norms see one image at a time


def test_a_shortcut_averages_pixels_and_pads_channels() -> None:
    tower = ResNet26()
    unit = tower.layer2[0]
    nn.init.zeros_(unit.conv2.weight)
    x = torch.rand(1, 16, 8, 8)
    out = unit(x)
    torch.testing.assert_close(out[:, :16], x.unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2)))
    assert out.shape == (1, 32, 4, 4) and not out[:, 16:].any()


# Model folders


def test_towers_are_the_ones_of_the_config() -> None:
    assert tuple(TOWERS) == TOWER_NAMES


@pytest.mark.parametrize("name", TOWERS)
def test_a_tower_is_fetched_the_same_every_time(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    global_state = torch.get_rng_state()
    fetch_model(Model(tower=name), tmp_path)
    assert torch.equal(global_state, torch.get_rng_state())
    assert {path.name for path in tmp_path.iterdir()} == {CONFIG, WEIGHTS, SOURCE}
    assert same_state(load_state(tmp_path / WEIGHTS), load_state(folders[name] / WEIGHTS))
    kind, found = TOWERS[name], Preprocess.of(tmp_path)
    assert (found.size, found.mean, found.std) == (kind.size, kind.mean, kind.std)
    assert Preprocess.of(folders[name]).size == 16
    tower = load_image_tower(tmp_path)
    assert not tower.training and all(p.requires_grad and not p.is_meta for p in tower.parameters())
    assert same_state(tower.state_dict(), load_state(tmp_path / WEIGHTS))


def test_a_folder_of_ones_own_weights_is_a_tower_too(folders: dict[str, Path], tmp_path: Path) -> None:
    fetch_model(Model(folder=str(folders["resnet26"])), tmp_path)
    assert same_state(load_image_tower(tmp_path).state_dict(), load_image_tower(folders["resnet26"]).state_dict())


def test_torchvisions_weights_are_taken_without_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}
    published = {key: tensor + 1 for key, tensor in torchvision.models.resnet50(weights=None).state_dict().items()}

    def download(url: str, **how: object) -> dict[str, torch.Tensor]:
        asked.update(how, url=url)
        return published

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", download)
    fetch_model(Model(tower="resnet50", pretrained="IMAGENET1K_V2"), tmp_path)
    assert asked["weights_only"] is True and asked["check_hash"] is True
    assert asked["url"] == torchvision.models.ResNet50_Weights.IMAGENET1K_V2.url
    del published["fc.weight"], published["fc.bias"]
    assert same_state(load_image_tower(tmp_path).state_dict(), published)
    transform = torchvision.models.ResNet50_Weights.IMAGENET1K_V2.transforms()
    found = Preprocess.of(tmp_path)
    assert [list(found.mean), list(found.std), [found.size]] == [transform.mean, transform.std, transform.crop_size]


def test_a_failed_download_and_an_unknown_name_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(url: str, **how: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fail)
    with pytest.raises(UserError, match=r"no route to host. Check the network, or fetch https://.* to /.*resnet50-"):
        fetch_model(Model(tower="resnet50", pretrained="IMAGENET1K_V1"), tmp_path / "m")
    with pytest.raises(UserError, match="no weights 'IMAGENET1K_V3' for resnet50; did you mean"):
        fetch_model(Model(tower="resnet50", pretrained="IMAGENET1K_V3"), tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_damaged_and_unknown_towers_are_named(folders: dict[str, Path], tmp_path: Path) -> None:
    damaged = Path(shutil.copytree(folders["resnet26"], tmp_path / "damaged"))
    (damaged / WEIGHTS).write_bytes((damaged / WEIGHTS).read_bytes()[:-8])
    with pytest.raises(UserError, match="was cut off or changed; delete"):
        load_image_tower(damaged)
    other = Path(shutil.copytree(folders["resnet26"], tmp_path / "other"))
    written = read_json(other / CONFIG)
    write_json(other / CONFIG, written | {"tower": "resnet50"})
    with pytest.raises(UserError, match="cannot load the resnet50"):
        load_image_tower(other)
    write_json(other / CONFIG, written | {"tower": "resnet62"})
    with pytest.raises(UserError, match="unknown tower 'resnet62'; did you mean"):
        load_image_tower(other)


# Head and classifier


def test_the_head_of_a_tower_is_random_unit_rows(folders: dict[str, Path]) -> None:
    folder = folders["resnet26"]
    one, other = (zero_shot_head(folder, CLASSES, TEMPLATES) for _ in range(2))
    assert same_state(one, other) and one["weight"].shape == (3, 64)
    torch.testing.assert_close(one["weight"].norm(dim=-1), torch.ones(3))
    assert float(one["logit_scale"].exp()) == pytest.approx(1 / 0.07)


def test_a_random_start_differs_between_seeds_and_from_the_folder(folders: dict[str, Path]) -> None:
    folder = folders["resnet26"]
    head = zero_shot_head(folder, CLASSES, TEMPLATES)
    one, again, other = (random_classifier(folder, head, Head(), seed).state_dict() for seed in (0, 0, 1))
    assert same_state(one, again)
    for state in (other, start(folder).state_dict()):
        assert not torch.equal(one["image.layer1.0.conv1.weight"], state["image.layer1.0.conv1.weight"])
        assert not torch.equal(one["head.weight"], state["head.weight"])


# Training


@pytest.mark.parametrize(
    "wanted",
    [["embedding"], ["block-0"], ["block-1"], ["last-blocks"], ["head"], ["embedding", "block-0"], ["image", "head"]],
    ids="+".join,
)
def test_only_the_declared_parts_of_resnet26_move(
    wanted: list[str], folders: dict[str, Path], data: Data, tmp_path: Path
) -> None:
    folder = folders["resnet26"]
    trained = train(folder, data, tmp_path, {"train": wanted})
    found = parts(start(folder).state_dict())
    assert moved(folder, trained.classifier) == {name for part in wanted for name in found[part]}
    assert trained.history["terms"][0]["ce"] > 0


def test_resnet26_learns_the_tiny_task(folders: dict[str, Path], data: Data, tmp_path: Path) -> None:
    how = {"epochs": 12, "learning_rate": 3e-3, "keep": "best"}
    trained = train(folders["resnet26"], data, tmp_path, {"train": ["image", "head"]}, **how)
    assert max(trained.history["watched"]) > 60, "chance is 33"


def test_auto_rgn_runs_on_a_trained_resnet26(folders: dict[str, Path], data: Data, tmp_path: Path) -> None:
    """Biases are zero in a new tower, where the rule is not defined; after training it is."""
    training = {"train": ["image", "head"], "options": {"probe_batches": 1}}
    with pytest.raises(UserError, match=r"relative gradient norm of image\.layer1\.0\.bn1\.bias is not defined"):
        train(folders["resnet26"], data, tmp_path, training | {"rates": "rgn"})
    classifier = train(folders["resnet26"], data, tmp_path, training).classifier
    head, options = zero_shot_head(folders["resnet26"], CLASSES, TEMPLATES), Options(probe_batches=1)
    references = References(folders["resnet26"], head, data.task, options, 0, torch.device("cpu"))
    how = (Training(**training, rates="rgn"), Recipe(**RECIPE), data.training(0))
    progress = Resumable(tmp_path / "rgn", "job")
    run = Run(*how, Preprocess.of(folders["resnet26"]), references, 0, progress, "mine seed 0", quiet=True)
    factors = fit(classifier, run).factors[0]
    assert len(factors) == 76 and max(factors.values()) == 1 and min(factors.values()) >= 0


def test_released_auto_rgn_never_updates_what_is_named_bn(folders: dict[str, Path], data: Data, tmp_path: Path) -> None:
    """All norms of ResNet-26, whose released network has 77 tensors, 27 of them without bn: ours has no bias of fc."""
    training = {"train": ["image", "head"], "options": {"probe_batches": 1}, "rates": "rgn-released"}
    trained = train(folders["resnet26"], data, tmp_path, training)
    names = {name for name, _ in trained.classifier.named_parameters()} - {"logit_scale"}
    still = {name for name in names if "bn" in name}
    assert len(names) == 76 and len(names - still) == 26
    assert moved(folders["resnet26"], trained.classifier) == names - still


@pytest.mark.parametrize("statistics", ["keep", "update"])
def test_batch_norms_are_trained_with_their_block_and_statistics_move_only_if_updated(
    statistics: str, folders: dict[str, Path], data: Data, tmp_path: Path
) -> None:
    folder = folders["resnet50"]
    trained = train(folder, data, tmp_path, {"train": ["block-1"]}, batch_size=30, norm_statistics=statistics)
    classifier = start(folder)
    block = set(parts(dict(classifier.named_parameters()))["block-1"])
    buffers = {name for name, _ in classifier.named_buffers() if name.startswith("image.layer2.")}
    assert "image.layer2.0.bn1.weight" in block and "image.layer2.0.bn1.running_mean" in buffers
    assert moved(folder, trained.classifier) == (block | buffers if statistics == "update" else block)


# What needs text


def test_terms_that_need_text_say_that_there_is_none(folders: dict[str, Path], data: Data) -> None:
    """Every term either works without a text tower or says what is missing; the config knows which."""
    folder = folders["resnet26"]
    head, refused = zero_shot_head(folder, CLASSES, TEMPLATES), []
    for term in TERMS:
        references = References(folder, head, data.task, Options(), 0, torch.device("cpu"))
        training, recipe = (
            Training(train=["head"], objective={term: 1.0}),
            Recipe(**RECIPE),
        )
        nothing = SimpleNamespace(load=lambda name: None, save=lambda name, state: None)
        run = Run(training, recipe, data.training(0), Preprocess.of(folder), references, 0, nothing, "m", quiet=True)
        try:
            fit(start(folder), run)
        except UserError as error:
            assert "model resnet26 is the image tower resnet26 and has no text tower" in str(error)
            refused.append(term)
    assert sorted(refused) == sorted(TEXT_TERMS)
    with pytest.raises(UserError, match="has no text tower"):
        load_clip(folder)


@pytest.mark.parametrize(
    ("method", "words"),
    [("flyp", "objective flyp, train: text"), ("lipsum-ft", "objective lipsum"), ("car-ft", "objective carft")],
)
def test_the_config_refuses_methods_that_need_text(method: str, words: str) -> None:
    raw = raw_config()
    raw["run"] |= {"models": ["resnet-26"], "methods": ["ft", method], "pairs": []}
    raw["search"] = {}
    with pytest.raises(UserError, match=f"run.models: resnet-26 has no text tower, but {method} needs one: {words}$"):
        parse_config(raw)
    raw["run"]["methods"] = ["ft", "kd", "l2-sp", "ema", "tpgm"]
    assert parse_config(raw)
    raw["surgical"]["methods"] = ["tune-head", method]
    with pytest.raises(UserError, match=f"but {method} needs one"):
        parse_config(raw)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"tower": "resnet26", "folder": "x"}, "or tower"),
        ({"tower": "resnet50", "architecture": "RN50"}, "or tower"),
        ({"pretrained": "IMAGENET1K_V2"}, "or tower"),
        ({"tower": "resnet26", "pretrained": "IMAGENET1K_V2"}, "resnet26 has no tag of weights"),
        ({"tower": "resnet52"}, "did you mean 'resnet50'|did you mean 'resnet26'"),
        ({"tower": "resnet26", "image_size": 33}, "multiple of 4"),
        ({"folder": "x", "image_size": 32}, "image_size is for a tower"),
    ],
)
def test_mistakes_in_a_models_source_are_named(entry: dict, words: str) -> None:
    raw = raw_config()
    raw["models"]["mine"] = entry
    with pytest.raises(UserError, match=rf"models\.mine.*({words})"):
        parse_config(raw)
