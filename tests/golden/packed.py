"""Committed records: predictions are kept as differences from one alpha to the next, most of which are 0."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).resolve().parent
SPACES = ("weights", "outputs")


def unpacked(experiment: str, folder: Path) -> Path:
    """Copy the records of an experiment to a folder, as its run left them."""
    shutil.copytree(HERE / experiment / "records", folder, dirs_exist_ok=True)
    for name in json.loads((folder / "files.json").read_text())["predictions"]:
        _along_alphas(np.cumsum, pd.read_parquet(folder / name)).to_parquet(folder / name)
    return folder


def pack(source: Path, target: Path) -> None:
    """Write predictions as differences, tightly."""
    found = _along_alphas(lambda values, axis: np.diff(values, axis=axis, prepend=0), pd.read_parquet(source))
    found.to_parquet(target, compression="zstd", compression_level=19)


def _along_alphas(change: Callable[..., np.ndarray], predictions: pd.DataFrame) -> pd.DataFrame:
    """Predictions with `change` done to the columns of each space, in the order of alpha."""
    for space in SPACES:
        columns = [name for name in predictions if name.startswith(f"{space}_")]
        predictions[columns] = change(predictions[columns].to_numpy(), axis=1).astype(np.int32)
    return predictions
