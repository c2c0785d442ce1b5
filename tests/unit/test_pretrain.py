"""Pre-training of the embedded CLIP: fixed by its seed, and resumable. The vocabulary spells like CLIP's own."""

import gzip
import json
from pathlib import Path

import numpy as np
import open_clip
import pandas as pd
import pytest
from open_clip.tokenizer import SimpleTokenizer

from surefoot import pretrain
from surefoot.clip import CONFIG, MERGES, WEIGHTS, Preprocess, load_clip
from surefoot.config import Pretraining
from surefoot.pretrain import RECORD
from surefoot.resume import Resumable
from surefoot.splits import Split
from surefoot.tasks.emoji_captions import build_merges, corpus
from surefoot.tasks.emoji_names import STYLES, inventory
from tests.tiny import ARCHITECTURE

# Few captions, many subgroups.
SOME = inventory()[::25]
HOW = Pretraining(steps=6, batch_size=8, warmup=2, save_every=2)


@pytest.fixture
def architecture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny architecture, and a tiny inventory."""
    monkeypatch.setattr(pretrain, "inventory", lambda: SOME)
    (tmp_path / "architecture.json").write_text(json.dumps(ARCHITECTURE))
    return tmp_path / "architecture.json"


def run(architecture: Path, name: str, how: Pretraining = HOW) -> bytes:
    """Pre-train and return the bytes of the weights."""
    folder = architecture.parent
    rng = np.random.default_rng(0)
    images = {s: rng.integers(0, 256, (len(SOME), 16, 16, 3), dtype=np.uint8) for s in STYLES}
    splits = {style: Split(array, pd.DataFrame(), "") for style, array in images.items()}
    pretrain.pretrain(splits, architecture, folder / name, how, Resumable(folder / f"{name}.state", "job"))
    return (folder / name / WEIGHTS).read_bytes()


def test_same_seed_same_bytes_and_another_seed_other_bytes(architecture: Path) -> None:
    first = run(architecture, "first")
    assert run(architecture, "second") == first
    assert run(architecture, "third", HOW.model_copy(update={"seed": 1})) != first


@pytest.mark.parametrize("step", [1, 2, 5])
def test_killed_and_resumed_equals_uninterrupted(
    architecture: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    whole, calls, augment = run(architecture, "whole"), [], pretrain.augment

    def killing(*args: object) -> object:
        calls.append(1)
        if len(calls) == step + 1:
            raise KeyboardInterrupt
        return augment(*args)

    monkeypatch.setattr(pretrain, "augment", killing)
    with pytest.raises(KeyboardInterrupt):
        run(architecture, "killed")
    assert not (architecture.parent / "killed" / WEIGHTS).exists()
    done = len(calls)
    assert run(architecture, "killed") == whole
    assert len(calls) - done == 6 - step // 2 * 2


def test_the_result_is_a_model_folder_that_open_clip_loads(architecture: Path) -> None:
    run(architecture, "model")
    folder = architecture.parent / "model"
    assert {p.name for p in folder.iterdir()} == {CONFIG, WEIGHTS, MERGES, RECORD}
    assert Preprocess.of(folder).size == 16
    assert open_clip.create_model(f"local-dir:{folder}").visual.image_size in (16, (16, 16))
    assert load_clip(folder).context_length == 12


def test_the_vocabulary_spells_every_caption_as_clips_own_tokenizer_does(tmp_path: Path) -> None:
    texts = corpus(inventory())
    (tmp_path / MERGES).write_bytes(build_merges(texts))
    own, full = SimpleTokenizer(bpe_path=str(tmp_path / MERGES)), SimpleTokenizer()

    def pieces(tokenizer: SimpleTokenizer, text: str) -> list[str]:
        return [tokenizer.decoder[token] for token in tokenizer.encode(text)]

    wrong = [text for text in dict.fromkeys(texts) if pieces(own, text) != pieces(full, text)]
    assert not wrong
    assert own.vocab_size < full.vocab_size / 5


def test_the_vocabulary_is_the_same_bytes_every_time() -> None:
    texts = ["a cat", "a caterpillar"]
    assert build_merges(texts) == build_merges(texts[::-1])
    assert b"c a" in gzip.decompress(build_merges(texts))
