"""Layers and parts, by the tensor names of the towers that open_clip, timm and torchvision build."""

import re

import open_clip
import pytest
import timm
import torch
import torchvision
from torch import nn

from surefoot.clip import Classifier
from surefoot.files import UserError
from surefoot.layers import PREFIXES, layers, named, parts
from surefoot.method_entries import PART_NAMES
from surefoot.text import TextTower

HEAD = ["head.weight", "head.bias", "logit_scale"]
TEXT = {"context_length": 8, "vocab_size": 50, "width": 16, "heads": 2, "layers": 1}


def clip(vision: dict) -> open_clip.CLIP:
    """A CLIP without memory for its weights."""
    with torch.device("meta"):
        return open_clip.CLIP(16, vision, TEXT)


def names_of(tower: nn.Module) -> list[str]:
    """Tensor names of a classifier on a tower."""
    return [*(f"image.{name}" for name, _ in tower.named_parameters()), *HEAD]


def vit() -> nn.Module:
    """ViT-B/16 has twelve blocks; their width does not matter here."""
    return clip({"image_size": 32, "patch_size": 16, "width": 32, "layers": 12, "head_width": 16}).visual


def clip_resnet() -> nn.Module:
    """CLIP's ModifiedResNet: a stem of three convolutions, four stages, attention pooling."""
    return clip({"image_size": 32, "layers": [1, 2, 1, 1], "width": 8}).visual


def resnet50() -> nn.Module:
    """torchvision's ResNet-50."""
    with torch.device("meta"):
        return torchvision.models.resnet50(weights=None)


def timm_vit() -> nn.Module:
    """A tower of open_clip's TimmModel: `trunk` and `head`."""
    with torch.device("meta"):
        trunk = timm.create_model("vit_tiny_patch16_224", num_classes=0)
    return nn.ModuleDict({"trunk": trunk, "head": nn.ModuleDict({"proj": nn.Linear(1, 1)})})


def convnext() -> nn.Module:
    """timm's ConvNeXt: a stem and four stages."""
    with torch.device("meta"):
        return nn.ModuleDict({"trunk": timm.create_model("convnext_atto", num_classes=0)})


TOWERS = {"vit": vit, "clip_resnet": clip_resnet, "resnet50": resnet50, "timm_vit": timm_vit, "convnext": convnext}
NAMES = {name: names_of(make()) for name, make in TOWERS.items()}
BLOCKS = {"vit": 12, "clip_resnet": 4, "resnet50": 4, "timm_vit": 12, "convnext": 4}


@pytest.mark.parametrize("tower", TOWERS)
def test_each_tensor_of_tower_and_head_belongs_to_one_layer(tower: str) -> None:
    found = layers(NAMES[tower])
    assert list(found) == ["embedding", *(f"block-{k}" for k in range(BLOCKS[tower])), "head"]
    assert sorted(name for members in found.values() for name in members) == sorted(
        name for name in NAMES[tower] if name != "logit_scale"
    )
    assert found["head"] == ["head.weight", "head.bias"]


@pytest.mark.parametrize(
    ("tower", "pattern", "first"),
    [
        ("vit", r"image\.transformer\.resblocks\.(\d+)\.", 0),
        ("clip_resnet", r"image\.layer(\d+)\.", 1),
        ("resnet50", r"image\.layer(\d+)\.", 1),
        ("timm_vit", r"image\.trunk\.blocks\.(\d+)\.", 0),
        ("convnext", r"image\.trunk\.stages\.(\d+)\.", 0),
    ],
)
def test_blocks_hold_the_tensors_of_their_number(tower: str, pattern: str, first: int) -> None:
    found = layers(NAMES[tower])
    for name in NAMES[tower]:
        if match := re.match(pattern, name):
            assert name in found[f"block-{int(match[1]) - first}"]


@pytest.mark.parametrize(
    ("tower", "before", "behind"),
    [
        (
            "vit",
            ["class_embedding", "positional_embedding", "conv1.weight", "ln_pre.weight", "ln_pre.bias"],
            ["proj", "ln_post.weight", "ln_post.bias"],
        ),
        (
            "clip_resnet",
            [
                f"{kind}{k}.{end}"
                for k in (1, 2, 3)
                for kind, end in (("conv", "weight"), ("bn", "weight"), ("bn", "bias"))
            ],
            [
                "attnpool.positional_embedding",
                *(f"attnpool.{p}_proj.{end}" for p in ("q", "k", "v", "c") for end in ("weight", "bias")),
            ],
        ),
        ("resnet50", ["conv1.weight", "bn1.weight", "bn1.bias"], ["fc.weight", "fc.bias"]),
        (
            "timm_vit",
            ["trunk.cls_token", "trunk.pos_embed", "trunk.patch_embed.proj.weight", "trunk.patch_embed.proj.bias"],
            ["trunk.norm.weight", "trunk.norm.bias", "head.proj.weight", "head.proj.bias"],
        ),
        (
            "convnext",
            [f"trunk.stem.{k}.{end}" for k in (0, 1) for end in ("weight", "bias")],
            ["trunk.head.norm.weight", "trunk.head.norm.bias"],
        ),
    ],
)
def test_what_stands_before_the_blocks_is_embedding_and_what_follows_is_in_the_last_block(
    tower: str, before: list[str], behind: list[str]
) -> None:
    found = layers(NAMES[tower])
    assert sorted(found["embedding"]) == sorted(f"image.{name}" for name in before)
    assert {f"image.{name}" for name in behind} <= set(found[f"block-{BLOCKS[tower] - 1}"])


def test_the_norm_of_a_residual_branch_stays_in_its_block() -> None:
    found = layers(NAMES["resnet50"])
    assert "image.layer1.0.downsample.1.weight" in found["block-0"]
    assert "image.layer3.0.bn1.weight" in found["block-2"] and "image.layer3.0.conv2.weight" in found["block-2"]


def test_the_groups_of_vit_b_16_are_those_of_surgical_fine_tuning() -> None:
    """Embedding, first three blocks, last three blocks, last layer (Lee et al. 2023, table 1)."""
    found = parts(NAMES["vit"])
    numbers = {
        part: {int(m[1]) for name in found[part] if (m := re.search(r"resblocks\.(\d+)\.", name))}
        for part in ("first-blocks", "middle-blocks", "last-blocks")
    }
    assert numbers == {"first-blocks": {0, 1, 2}, "middle-blocks": set(range(3, 9)), "last-blocks": {9, 10, 11}}
    assert {"image.proj", "image.ln_post.weight"} <= set(found["last-blocks"])


@pytest.mark.parametrize("tower", TOWERS)
def test_parts_are_the_documented_ones_and_fit_together(tower: str) -> None:
    found = parts(NAMES[tower])
    assert set(found) == {*PART_NAMES, *(f"block-{k}" for k in range(BLOCKS[tower]))}
    image = {name for name in NAMES[tower] if name.startswith("image.")}
    assert set(found["image"]) == image and found["head"] == HEAD[:2] and found["logit_scale"] == ["logit_scale"]
    assert found["text"] == []
    pieces = ("embedding", "first-blocks", "middle-blocks", "last-blocks")
    assert sorted(name for part in pieces for name in found[part]) == sorted(image)
    quarter = BLOCKS[tower] // 4
    assert found["first-blocks"] == [n for k in range(quarter) for n in found[f"block-{k}"]]


def test_prefixes_cover_a_classifier_with_text_once(classifier: Classifier, model) -> None:
    text = TextTower(open_clip.create_model(f"local-dir:{model}"))
    names = [*classifier.state_dict(), *(f"text.{name}" for name, _ in text.named_parameters())]
    for name in names:
        assert sum(name.startswith(prefix) for prefix in PREFIXES.values()) == 1
    found = parts(names)
    assert {n for n in names if n.startswith("text.")} == set(found["text"])
    assert not any(n.startswith("text.") for layer in layers(names).values() for n in layer)


def test_the_tiny_model_has_a_first_a_middle_and_a_last_block(classifier: Classifier) -> None:
    names = [name for name, _ in classifier.named_parameters()]
    found = parts(names)
    assert list(layers(names)) == ["embedding", "block-0", "block-1", "block-2", "head"]
    for part, block in (("first-blocks", "block-0"), ("middle-blocks", "block-1"), ("last-blocks", "block-2")):
        assert found[part] == found[block] and found[part]
    assert "image.ln_post.weight" in found["block-2"] and "image.conv1.weight" in found["embedding"]


def test_one_block_is_first_and_last() -> None:
    names = ["image.conv1.weight", "image.transformer.resblocks.0.ln_1.weight", "head.weight"]
    found = parts(names)
    assert found["first-blocks"] == found["last-blocks"] == names[1:2] and found["middle-blocks"] == []


def test_a_tower_without_blocks_still_has_its_tensors_in_one_layer() -> None:
    found = layers(["image.conv1.weight", "image.fc.weight", "head.weight"])
    assert sorted(name for members in found.values() for name in members) == [
        "head.weight",
        "image.conv1.weight",
        "image.fc.weight",
    ]


def test_named_is_the_union_of_the_parts() -> None:
    names = NAMES["vit"]
    found = parts(names)
    assert named(names, ["head", "block-3", "embedding"], "x") == {
        *found["head"],
        *found["block-3"],
        *found["embedding"],
    }
    assert named(names, [], "x") == set()


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("block-12", "no part 'block-12': it has .*block-11"),
        ("text", "no part 'text': its text tower is not loaded"),
        ("haed", "no part 'haed': it has image, head"),
        ("logit_scale", "no part 'logit_scale': is the logit scale folded into the head"),
    ],
)
def test_a_part_that_is_not_there_is_named_with_the_entry(part: str, words: str) -> None:
    names = [name for name in NAMES["vit"] if name != "logit_scale"]
    with pytest.raises(UserError, match=rf"methods\.mine\.train: this model has {words}"):
        named(names, ["head", part], "methods.mine.train")
