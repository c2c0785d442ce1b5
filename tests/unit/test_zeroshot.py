"""The zero-shot head and the classifier that it starts."""

from pathlib import Path

import open_clip
import pytest
import torch
import torch.nn.functional as F

from surefoot.clip import (
    Preprocess,
    State,
    convention_of,
    in_convention,
    load_clip,
    load_tokenizer,
    zero_shot_classifier,
)
from surefoot.method_entries import Head
from surefoot.zeroshot import zero_shot_head
from tests.tiny import CLASSES, TEMPLATES, clone, same_bytes, same_state


@torch.no_grad()
def rows_by_hand(folder: Path) -> torch.Tensor:
    """Normalise each embedding, mean over templates, normalise; in float64."""
    clip, tokenize = load_clip(folder), load_tokenizer(folder)
    rows = []
    for name in CLASSES:
        embedded = [clip.encode_text(tokenize([t.format(name)]))[0].double() for t in TEMPLATES]
        mean = sum(e / e.norm() for e in embedded) / len(embedded)
        rows.append(mean / mean.norm())
    return torch.stack(rows).float()


def test_rows_are_normalised_averaged_and_normalised_again(model: Path, head: State) -> None:
    torch.testing.assert_close(head["weight"], rows_by_hand(model), rtol=1e-4, atol=1e-6)


def test_the_order_matters_for_this_model(model: Path, head: State) -> None:
    """Otherwise the test above would prove little."""
    clip, tokenize = load_clip(model), load_tokenizer(model)
    with torch.no_grad():
        raw = torch.stack([clip.encode_text(tokenize([t.format(c) for t in TEMPLATES])).mean(0) for c in CLASSES])
        unit = torch.stack(
            [clip.encode_text(tokenize([t.format(c) for t in TEMPLATES]), normalize=True).mean(0) for c in CLASSES]
        )
    assert not torch.allclose(F.normalize(raw, dim=-1), head["weight"], atol=1e-5)
    assert not torch.allclose(unit, head["weight"], atol=1e-5)


def test_default_convention_keeps_unit_rows_and_the_scale_outside(model: Path, head: State) -> None:
    assert set(head) == {"weight", "logit_scale"}
    torch.testing.assert_close(head["weight"].norm(dim=1), torch.ones(len(CLASSES)))
    assert same_bytes(head["logit_scale"], load_clip(model).logit_scale.detach())


CONVENTIONS = [Head(), Head(scaled=True), Head(bias=True), Head(scaled=True, bias=True)]


def test_scaled_convention_folds_the_scale_into_the_rows(head: State) -> None:
    scaled = in_convention(head, Head(scaled=True))
    assert set(scaled) == {"weight"}
    torch.testing.assert_close(scaled["weight"], head["logit_scale"].exp() * head["weight"])


def test_bias_starts_at_zero(head: State) -> None:
    biased = in_convention(head, Head(bias=True))
    assert set(biased) == {"weight", "logit_scale", "bias"}
    assert same_bytes(biased["bias"], torch.zeros(len(CLASSES)))


def test_the_default_convention_is_the_heads_own(head: State) -> None:
    assert same_state(in_convention(head, Head()), head)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_a_convention_leaves_the_head_on_disk_alone_and_is_told_from_the_tensors(
    model: Path, head: State, convention: Head
) -> None:
    before = clone(head)
    classifier = zero_shot_classifier(model, head, convention)
    assert convention_of(classifier.state_dict()) == convention
    with torch.no_grad():
        classifier.head.weight += 1
    assert same_state(head, before)


@pytest.mark.parametrize("convention", CONVENTIONS)
@torch.no_grad()
def test_logits_are_open_clips_own(model: Path, preprocess: Preprocess, convention: Head) -> None:
    """With one template the classifier must agree with CLIP's forward pass of images and texts."""
    images = preprocess(torch.randint(0, 256, (5, 16, 16, 3), dtype=torch.uint8))
    clip, tokenize = open_clip.create_model(f"local-dir:{model}").eval(), load_tokenizer(model)
    image, text, scale = clip(images, tokenize([TEMPLATES[0].format(name) for name in CLASSES]))[:3]
    classifier = zero_shot_classifier(model, zero_shot_head(model, CLASSES, TEMPLATES[:1]), convention)
    torch.testing.assert_close(classifier(images), scale * image @ text.T, rtol=1e-4, atol=1e-4)
