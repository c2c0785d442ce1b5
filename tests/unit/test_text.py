"""The text tower agrees with open_clip's, and random texts are what Lipsum-FT's code draws."""

from pathlib import Path

import open_clip
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from surefoot.clip import State, load_clip, load_tokenizer
from surefoot.files import UserError
from surefoot.text import TextTower, class_rows
from tests.tiny import CLASSES, TEMPLATES, Bench

FAST = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
TEXT = {"context_length": 12, "vocab_size": 50, "width": 16, "heads": 2, "layers": 2}
VISION = {"image_size": 16, "patch_size": 8, "width": 16, "layers": 1, "head_width": 8}


@pytest.fixture
def tower(model: Path) -> TextTower:
    """The text tower of the tiny model."""
    return TextTower(load_clip(model))


def stream(seed: int) -> torch.Generator:
    """Random numbers."""
    return torch.Generator().manual_seed(seed)


@torch.no_grad()
def test_encoding_equals_open_clips(model: Path, tower: TextTower) -> None:
    """Texts of any length, whose padding the tower cuts off."""
    texts = [template.format(name) for template in TEMPLATES for name in CLASSES] + ["", "a sun a sun a sun"]
    tokens = load_tokenizer(model)(texts)
    assert len({int(row.argmax()) for row in tokens}) > 2, "texts of several lengths"
    torch.testing.assert_close(tower.encode(tokens), load_clip(model).encode_text(tokens, normalize=True))
    for row in tokens:  # alone, a text is cut to its own length
        torch.testing.assert_close(tower.encode(row[None]), load_clip(model).encode_text(row[None], normalize=True))


@FAST
@given(seed=st.integers(0, 2**31), texts=st.integers(1, 6), length=st.integers(1, 10))
@torch.no_grad()
def test_random_texts_encode_like_their_padded_rows(model: Path, seed: int, texts: int, length: int) -> None:
    tower = TextTower(clip := load_clip(model))
    tokens = tower.random_tokens(texts, length, stream(seed))
    padded = F.pad(tokens, (0, 12 - tokens.shape[1]))
    torch.testing.assert_close(tower.encode(tokens), clip.encode_text(padded, normalize=True))


# "causal" is assumed. A plain CLIP may have no causal mask (CLIPA's models: pool "last",
# no_causal_mask), where attn_mask is None and encode stops with a TypeError; a UserError in __init__ would do, because
# the random texts of such a vocabulary have other ends too. A tower without projection (proj_type "none") fails alike.
@pytest.mark.parametrize(
    "text",
    [
        {},
        {"pool_type": "last"},
        {"pool_type": "first"},
        {"pool_type": "eos", "eos_id": 49},
        {"proj_bias": True},
        {"pool_type": "last", "no_causal_mask": True},
        {"proj_type": "none"},
    ],
    ids=str,
)
@torch.no_grad()
def test_other_text_towers_are_encoded_alike_or_refused(text: dict) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        clip = open_clip.CLIP(16, VISION, {**TEXT, **text}).eval()
        nn.init.normal_(clip.positional_embedding)
    tokens = torch.tensor([[48, 3, 4, 49, *[0] * 8], [48, 5, 6, 7, 8, 49, *[0] * 6]])
    expected = clip.encode_text(tokens, normalize=True)
    try:
        found = TextTower(clip).encode(tokens)
    except UserError:
        return
    torch.testing.assert_close(found, expected)


def test_another_kind_of_model_is_refused() -> None:
    with pytest.raises(UserError, match="the text tower of this Linear is not built as"):
        TextTower(nn.Linear(1, 1))


def test_the_tower_holds_no_image_tower_and_keeps_the_pretrained_scale(model: Path, tower: TextTower) -> None:
    expected = {name for name in load_clip(model).state_dict() if not name.startswith("visual.")}
    assert {name.removeprefix("clip.") for name in tower.state_dict()} == expected
    before = load_clip(model).logit_scale.exp().item()
    with torch.no_grad():
        tower.clip.logit_scale += 1
    assert tower.pretrained_scale == pytest.approx(before)


@FAST
@given(seed=st.integers(0, 2**31), texts=st.integers(1, 50), length=st.integers(1, 10))
def test_random_tokens_stay_between_the_ends(tower: TextTower, seed: int, texts: int, length: int) -> None:
    tokens, last = tower.random_tokens(texts, length, stream(seed)), tower.vocabulary - 1
    assert tokens.shape == (texts, length + 2)
    assert (tokens[:, 0] == last - 1).all() and (tokens[:, -1] == last).all()
    assert tokens[:, 1:-1].min() >= 0 and tokens[:, 1:-1].max() < last - 1
    assert (tokens.argmax(1) == length + 1).all(), "the feature is read behind all random tokens"


def test_random_tokens_are_uniform_and_use_the_whole_vocabulary(tower: TextTower) -> None:
    drawn = tower.random_tokens(4000, 10, stream(0))[:, 1:-1]
    known = tower.vocabulary - 2
    counts = torch.bincount(drawn.flatten(), minlength=known)
    assert len(counts) == known and counts.min() > 0
    expected = 40000 / known
    assert ((counts - expected) ** 2 / expected).sum() < known + 5 * (2 * known) ** 0.5


def test_the_ends_are_the_tokenizers(model: Path, tower: TextTower) -> None:
    tokens, tokenizer = tower.random_tokens(1, 3, stream(0))[0], load_tokenizer(model)
    assert (tokens[0], tokens[-1]) == (tokenizer.sot_token_id, tokenizer.eot_token_id)
    row = tokenizer(["cat"])[0]
    assert row[0] == tokens[0] and row[row.argmax()] == tokens[-1]


def test_clips_own_vocabulary_gives_the_numbers_of_the_released_code() -> None:
    """Ids 0 to 49405 between 49406 and 49407, eight of them, as in Lipsum-FT's script."""
    tower = TextTower(open_clip.CLIP(8, VISION, {**TEXT, "vocab_size": 49408, "context_length": 77, "width": 8}))
    tokens = tower.random_tokens(2000, 8, stream(0))
    assert tokens.shape[1] == 10 and set(tokens[:, 0].tolist()) == {49406} and set(tokens[:, -1].tolist()) == {49407}
    assert 49300 < tokens[:, 1:-1].max() <= 49405 and tokens[:, 1:-1].min() < 100


def test_texts_that_do_not_fit_are_refused(tower: TextTower) -> None:
    tower.random_tokens(1, 10, stream(0))
    with pytest.raises(UserError, match=r"options\.lipsum_length: 11 tokens .* exceed the model's 12"):
        tower.random_tokens(1, 11, stream(0))


@torch.no_grad()
def test_class_rows_are_the_zero_shot_head(tower: TextTower, head: State, bench: Bench) -> None:
    tokens = bench.references().tokens
    assert tokens.shape == (len(CLASSES), len(TEMPLATES), 12)
    torch.testing.assert_close(class_rows(tower.encode, tokens), head["weight"], rtol=1e-5, atol=1e-6)
