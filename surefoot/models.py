"""Getting CLIP models: from a folder of files, or through open_clip's own downloads."""

import json
from pathlib import Path

import open_clip
from safetensors.torch import save_file

from surefoot import config
from surefoot.clip import CONFIG, MERGES, SOURCE, WEIGHTS
from surefoot.files import UserError, atomic, read_json, sha256, write_json


def fetch_model(source: config.Model, folder: Path) -> None:
    """Make a model folder: open_clip config, weights as safetensors, and `source.json` with origin and digest.

    Raises UserError when a file is missing, does not match its published digest, or cannot be downloaded.
    """
    if source.folder:
        _copy(Path(source.folder), folder)
    else:
        _download(source.architecture, source.pretrained, folder)
    write_json(folder / SOURCE, {**source.model_dump(exclude_none=True), "sha256": sha256(folder / WEIGHTS)})


def _copy(origin: Path, folder: Path) -> None:
    published = origin / "sha256.json"
    for name in (CONFIG, WEIGHTS, MERGES):
        path = origin / name
        if not path.is_file():
            if name == MERGES:
                continue
            raise UserError(f"{path} is missing; restore it (git checkout {path}) or make it with `snakemake pretrain`")
        if published.is_file() and sha256(path) != read_json(published).get(name):
            raise UserError(
                f"{path} does not match {published}: it was cut off or changed; restore it (git checkout {path})"
            )
        with atomic(folder / name) as partial:
            partial.write_bytes(path.read_bytes())


def _download(architecture: str, pretrained: str, folder: Path) -> None:
    """Fetch weights with open_clip, which checks their digest, and store them without pickle."""
    known = open_clip.list_pretrained_tags_by_model(architecture)
    if pretrained not in known:
        near = config.suggestion(pretrained if known else architecture, known or open_clip.list_models())
        raise UserError(f"open_clip has no weights {pretrained!r} for {architecture!r}{near}")
    # OpenAI's weights were trained with QuickGELU; open_clip only warns when the architecture does not say so.
    quick_gelu = bool(open_clip.get_pretrained_cfg(architecture, pretrained).get("quick_gelu", False))
    try:
        model = open_clip.create_model(
            architecture, pretrained=pretrained, precision="fp32", device="cpu", force_quick_gelu=quick_gelu
        )
    except Exception as error:
        raise UserError(
            f"cannot get the {pretrained} weights of {architecture}: {error}. Check the network, or put the model's "
            f"files in a folder and name it in models.<name>.folder"
        ) from error
    model_config = {**open_clip.get_model_config(architecture), "quick_gelu": quick_gelu}
    preprocess = open_clip.get_model_preprocess_cfg(model)
    write_json(folder / CONFIG, json.loads(json.dumps({"model_cfg": model_config, "preprocess_cfg": preprocess})))
    with atomic(folder / WEIGHTS) as partial:
        save_file({key: tensor.contiguous() for key, tensor in model.state_dict().items()}, partial)
