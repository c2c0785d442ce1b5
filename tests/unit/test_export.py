"""Merged models for use elsewhere, and what inference with them costs."""

import json
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file

from surefoot.clip import State, load_clip, save_state, zero_shot_classifier
from surefoot.export import export_model
from surefoot.files import sha256, write_json
from surefoot.fingerprint import ROOT
from surefoot.interpolate import interpolate
from surefoot.method_entries import Head


@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
def test_the_export_is_the_merged_model(model: Path, tmp_path: Path, alpha: float) -> None:
    width = load_clip(model).visual.output_dim
    head: State = {"weight": torch.randn(3, width), "logit_scale": torch.tensor(2.0)}
    save_state(tmp_path / "head.safetensors", head)
    start = zero_shot_classifier(model, head).state_dict()
    end = {key: tensor + 1 for key, tensor in start.items()}
    save_state(tmp_path / "weights.safetensors", end)
    write_json(tmp_path / "record.json", {"weights": sha256(tmp_path / "weights.safetensors")})
    model_file, head_file = tmp_path / "m.safetensors", tmp_path / "h.safetensors"
    export_model(
        model,
        tmp_path / "head.safetensors",
        tmp_path / "weights.safetensors",
        alpha,
        ("a", "b", "c"),
        model_file,
        head_file,
    )
    exported, original = load_file(model_file), load_clip(model).state_dict()
    assert exported.keys() == original.keys()
    for key, tensor in exported.items():
        moved = key.startswith("visual.") or key == "logit_scale"
        source = start[key.replace("visual.", "image.")] if moved else original[key]
        torch.testing.assert_close(tensor, source + alpha if moved else source)
    torch.testing.assert_close(load_file(head_file)["weight"], head["weight"] + alpha)
    with safe_open(head_file, "pt") as file:
        assert json.loads(file.metadata()["classes"]) == ["a", "b", "c"]


@pytest.mark.parametrize("convention", [{}, {"scaled": True, "bias": True}])
def test_the_lines_of_the_readme_give_the_logits_of_the_merged_model(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, convention: dict
) -> None:
    monkeypatch.chdir(tmp_path)
    [lines] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    clip = load_clip(model)
    head: State = {
        "weight": F.normalize(torch.randn(3, clip.visual.output_dim), dim=1),
        "logit_scale": torch.tensor(2.0),
    }
    save_state(tmp_path / "head.safetensors", head)
    start = zero_shot_classifier(model, head, Head(**convention))
    end = {key: tensor + 0.01 * torch.randn_like(tensor) for key, tensor in start.state_dict().items()}
    save_state(tmp_path / "weights.safetensors", end)
    write_json(tmp_path / "record.json", {"weights": sha256(tmp_path / "weights.safetensors")})
    export = tmp_path / "results/export/emoji-style/emoji-clip/ft"
    export.mkdir(parents=True)
    files = export / "alpha-0.5.safetensors", export / "alpha-0.5.head.safetensors"
    export_model(model, tmp_path / "head.safetensors", tmp_path / "weights.safetensors", 0.5, ("a", "b", "c"), *files)
    (tmp_path / "results/models").mkdir()
    (tmp_path / "results/models/emoji-clip").symlink_to(model)
    images = torch.randn(4, 3, *clip.visual.image_size)
    found: dict = {"images": images}
    with torch.no_grad():
        exec(lines, found)
        start.load_state_dict(interpolate(start.state_dict(), end, 0.5))
        torch.testing.assert_close(found["logits"], start(images), rtol=1e-4, atol=1e-4)
