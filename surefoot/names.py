"""Names that one stage writes and others read. No torch, so that who only needs a name does not wait for it."""

# The files of a model folder; `source.json` says where the weights come from, with their digest.
CONFIG, WEIGHTS, MERGES, SOURCE = "open_clip_config.json", "open_clip_model.safetensors", "merges.txt.gz", "source.json"

# Terms that put the same images through the frozen zero-shot tower, so features of the trained one do not suffice.
ON_IMAGES = {"lipsum", "kd", "carft"}


def prediction_column(space: str, alpha: float) -> str:
    """Column of the per-image table that holds the arg-max of a combination: `weights_0.500`."""
    return f"{space}_{alpha:.3f}"
