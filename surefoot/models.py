"""Getting models: CLIP from a folder of files or through open_clip's own downloads, and image towers alone.

A folder is copied without torch, which a first job would wait for.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surefoot.files import UserError, atomic, read_json, sha256, write_json
from surefoot.mistakes import suggestion
from surefoot.names import CONFIG, MERGES, SOURCE, WEIGHTS
from surefoot.run_entries import Model
from surefoot.seeds import derive

if TYPE_CHECKING:
    from surefoot.clip import State


def fetch_model(source: Model, folder: Path) -> None:
    """Make a model folder: open_clip config, weights as safetensors, and `source.json` with origin and digest.

    Raises UserError when a file is missing, does not match its published digest, or cannot be downloaded.
    """
    if source.folder:
        _copy(Path(source.folder), folder)
    elif source.tower:
        _make_tower(source, folder)
    else:
        _take_weights(source, folder)
    write_json(folder / SOURCE, {**source.model_dump(exclude_none=True), "sha256": sha256(folder / WEIGHTS)})


def _copy(origin: Path, folder: Path) -> None:
    published = origin / "sha256.json"
    for name in (CONFIG, WEIGHTS, MERGES):
        path = origin / name
        if not path.is_file():
            if name == MERGES:
                continue
            raise UserError(
                f"{path} is missing; restore it (git checkout {path}) or make it with `snakemake --cores all pretrain`"
            )
        if published.is_file() and sha256(path) != read_json(published).get(name):
            raise UserError(
                f"{path} does not match {published}: it was cut off or changed; restore it (git checkout {path})"
            )
        with atomic(folder / name) as partial:
            partial.write_bytes(path.read_bytes())


def _take_weights(source: Model, folder: Path) -> None:
    """Weights from open_clip, which checks their digest, or from a checkpoint file; stored without pickle."""
    import open_clip
    from safetensors.torch import save_file

    architecture, pretrained, local = source.architecture, source.pretrained, source.checkpoint
    known = open_clip.list_pretrained_tags_by_model(architecture)
    if local and architecture not in open_clip.list_models():
        near = suggestion(architecture, open_clip.list_models())
        raise UserError(f"open_clip has no architecture {architecture!r}{near}")
    if not local and pretrained not in known:
        near = suggestion(pretrained if known else architecture, known or open_clip.list_models())
        raise UserError(f"open_clip has no weights {pretrained!r} for {architecture!r}{near}")
    # OpenAI's weights were trained with QuickGELU; open_clip only warns when the architecture does not say so.
    published = {} if local else open_clip.get_pretrained_cfg(architecture, pretrained)
    model_config = open_clip.get_model_config(architecture)
    quick_gelu = bool(published.get("quick_gelu", False)) or model_config.get("quick_gelu", False)
    try:
        model = open_clip.create_model(
            architecture,
            pretrained=pretrained,
            precision="fp32",
            device="cpu",
            force_quick_gelu=quick_gelu,
            weights_only=True,
        )
    except Exception as error:
        if local:
            raise UserError(
                f"{pretrained} does not hold weights of {architecture} as open_clip writes them: {error}. (Names that "
                "end in -quickgelu are architectures of their own; OpenAI's files are programs: say pretrained: openai)"
            ) from error
        raise UserError(
            f"cannot get the {pretrained} weights of {architecture}: {error}. Check the network, or put the model's "
            f"files in a folder and name it in models.<name>.folder"
        ) from error
    model_config = {**model_config, "quick_gelu": quick_gelu}
    preprocess = open_clip.get_model_preprocess_cfg(model) | (_usual_preprocess(architecture, known) if local else {})
    write_json(folder / CONFIG, json.loads(json.dumps({"model_cfg": model_config, "preprocess_cfg": preprocess})))
    with atomic(folder / WEIGHTS) as partial:
        save_file({key: tensor.contiguous() for key, tensor in model.state_dict().items()}, partial)


def _usual_preprocess(architecture: str, tags: list[str]) -> dict[str, Any]:
    """What all published weights of an architecture want of their images; where they differ, or none is, nothing.

    A checkpoint file does not say it, and a SigLIP wants other statistics than open_clip's default, which is OpenAI's.
    """
    import open_clip

    keys = ("mean", "std", "interpolation", "resize_mode")
    known = [open_clip.get_pretrained_cfg(architecture, tag) for tag in tags]
    wanted = [{key: cfg[key] for key in keys if cfg.get(key) is not None} for cfg in known]
    return wanted[0] if wanted and all(cfg == wanted[0] for cfg in wanted) else {}


def _make_tower(source: Model, folder: Path) -> None:
    """An image tower with torchvision's weights, or with random ones that are the same for every run."""
    import torch

    from surefoot.clip import save_state
    from surefoot.resnet import TOWERS

    kind = TOWERS[source.tower]
    with torch.random.fork_rng():
        torch.manual_seed(derive(0, "tower", source.tower))
        tower = kind.make()
    if source.pretrained:
        own, published = tower.state_dict(), _published(source)
        tower.load_state_dict({key: tensor for key, tensor in published.items() if key in own})  # all but its fc
    side = source.image_size or kind.size
    model_config = {"embed_dim": kind.width, "vision_cfg": {"image_size": side}}
    preprocess = {"mean": kind.mean, "std": kind.std}
    write_json(folder / CONFIG, {"tower": source.tower, "model_cfg": model_config, "preprocess_cfg": preprocess})
    save_state(folder / WEIGHTS, tower.state_dict())


def _published(source: Model) -> "State":
    """torchvision's weights of a tower, with its digest checked and no code run from the file."""
    import torch

    from surefoot.resnet import TOWERS

    known = TOWERS[source.tower].weights.__members__
    if source.pretrained not in known:
        near = suggestion(source.pretrained, known)
        raise UserError(f"torchvision has no weights {source.pretrained!r} for {source.tower}{near}")
    url = known[source.pretrained].url
    try:
        return torch.hub.load_state_dict_from_url(url, progress=False, check_hash=True, weights_only=True)
    except Exception as error:
        kept = Path(torch.hub.get_dir(), "checkpoints", Path(url).name)
        raise UserError(
            f"cannot get the {source.pretrained} weights of {source.tower}: {error}. Check the network, or fetch {url} "
            f"by other means to {kept} (if that file is there, it is damaged: delete it)"
        ) from error
