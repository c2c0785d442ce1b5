"""Merged models for use elsewhere, and what inference with them costs."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from surefoot.clip import State, load_clip, save_state, zero_shot_classifier
from surefoot.export import export_model
from surefoot.files import sha256, write_json


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
