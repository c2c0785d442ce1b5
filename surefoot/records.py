"""Records of runs: what was run, what it cost."""

import hashlib
import json
import platform
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surefoot.files import UserError, digest_of, read_json

if TYPE_CHECKING:
    from surefoot.clip import State  # who only adds up costs need not wait for torch

VERSIONED = ("torch", "torchvision", "open_clip_torch", "numpy", "pandas")


def versions(*others: str) -> dict[str, str]:
    """Versions of Python and of the packages that decide the bytes of a result; `others`: packages of one stage."""
    return {"python": platform.python_version()} | {package: version(package) for package in (*VERSIONED, *others)}


def load_trained(weights: Path) -> "State":
    """Weights of a fine-tuning run, checked against the record beside them.

    Raises UserError when they are missing, cut off or changed.
    """
    from surefoot.clip import load_state

    expected = read_json(weights.with_name("record.json")).get("weights")
    if weights.is_file() and digest_of(weights) != expected:
        raise UserError(
            f"{weights} does not match its record: it was cut off or changed; delete it and rerun snakemake"
        )
    return load_state(weights)


def run_digest(record: Path) -> str:
    """Twelve hexadecimal digits that name a run: those of its record's content."""
    content = json.dumps(read_json(record), sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def total_cost(meters: list[dict[str, Any]]) -> dict[str, Any]:
    """Cost of several jobs that make one thing: their times in sum, their largest memory, their mean speed."""
    seconds = sum(meter["seconds"] for meter in meters)
    images = sum(meter["seconds"] * meter["images_per_second"] for meter in meters)
    return {
        "seconds": round(seconds, 3),
        "cpu_seconds": round(sum(meter["cpu_seconds"] for meter in meters), 3),
        "images_per_second": round(images / seconds, 1) if seconds else 0.0,
        "peak_memory_mb": max(meter["peak_memory_mb"] for meter in meters),
        "device": meters[0]["device"],
        "jobs": len(meters),
        "steps": sum(meter["steps"] for meter in meters),
    }


def peaks() -> dict[str, int]:
    """The most memory that this process has had so far, in MB, and of the GPU since it was last metered (0: no GPU)."""
    import torch

    gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"peak_memory_mb": round(own), "peak_gpu_memory_mb": round(gpu / 2**20)}


@contextmanager
def metered(images: int) -> Iterator[dict[str, Any]]:
    """Measure a block: wall and CPU seconds, images per second, peak memory in MB, device.

    The dictionary is filled when the block ends.
    """
    import torch

    meter: dict[str, Any] = {}
    wall, cpu = time.perf_counter(), time.process_time()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    yield meter
    seconds = time.perf_counter() - wall
    on_gpu = torch.cuda.is_available()
    meter |= {
        "seconds": round(seconds, 3),
        "cpu_seconds": round(time.process_time() - cpu, 3),
        "images_per_second": round(images / seconds, 1) if seconds else 0.0,
        **peaks(),
        "device": torch.cuda.get_device_name() if on_gpu else f"CPU, {torch.get_num_threads()} thread",
    }
