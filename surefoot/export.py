"""Merged models for use without this project."""

import json
from pathlib import Path

from safetensors.torch import save_file

from surefoot.clip import convention_of, load_clip, load_state, zero_shot_classifier
from surefoot.files import atomic
from surefoot.interpolate import interpolate
from surefoot.records import load_trained

IMAGE = "image."


def export_model(
    folder: Path, head: Path, end: Path, alpha: float, classes: tuple[str, ...], model_file: Path, head_file: Path
) -> None:
    """Write the interpolated CLIP as a whole open_clip state dict, and its head with the class names.

    The text tower is CLIP's own. The head's file holds 'weight' [C, D] (and 'logit_scale', 'bias' where the convention
    has them) and the class names as JSON in its metadata: logits = exp(logit_scale) * (features @ weight.T + bias), for
    unit-norm features.
    """
    theta1 = load_trained(end)
    theta0 = zero_shot_classifier(folder, load_state(head), convention_of(theta1)).state_dict()
    merged = interpolate(theta0, theta1, alpha)
    clip = load_clip(folder)
    tower = {f"visual.{key.removeprefix(IMAGE)}": t for key, t in merged.items() if key.startswith(IMAGE)}
    state = {**clip.state_dict(), **tower}
    if "logit_scale" in merged:
        state["logit_scale"] = merged["logit_scale"]
    with atomic(model_file) as partial:
        save_file({key: tensor.contiguous() for key, tensor in state.items()}, partial)
    rest = {key.removeprefix("head."): t.contiguous() for key, t in merged.items() if not key.startswith(IMAGE)}
    with atomic(head_file) as partial:
        save_file(rest, partial, metadata={"classes": json.dumps(classes), "alpha": str(alpha)})
