"""What made each file: a manifest per job, and a receipt per file that says with which digest it was written.

`results/manifests/…json` (named as the job's log) tells what ran, on what, where and when. `results/.receipts/…` holds
for each output its digest, its manifest and the digest of that (what ran on what, without where and when), so that who
reads the file need not search for either.
"""

import hashlib
import json
import logging
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from surefoot.files import UserError, digest_of, files_of, read_json, write_json

logger = logging.getLogger(__name__)
VERSIONED = ("snakemake", "torch", "torchvision", "open_clip_torch", "optuna", "numpy", "pandas")
NOT_MADE_BY_JOBS = ("README.md", "logs", "benchmarks", "manifests")


@dataclass(frozen=True)
class Job:
    """What Snakemake tells of a job. `manifest` is below the results folder, beside logs/."""

    rule: str
    wildcards: dict[str, str]
    params: dict[str, Any]
    inputs: list[Path]
    outputs: list[Path]
    log: Path

    @property
    def results(self) -> Path:
        """The folder of all outputs."""
        return Path(self.log.parts[0])

    @property
    def manifest(self) -> Path:
        """results/logs/a/b.log -> results/manifests/a/b.json"""
        return Path(self.results, "manifests", *self.log.parts[2:]).with_suffix(".json")


def receipt(path: Path) -> Path:
    """Where the receipt of a file below the results folder is kept."""
    return Path(path.parts[0], ".receipts", *path.parts[1:-1], f"{path.name}.json")


@contextmanager
def manifested(job: Job) -> Iterator[None]:
    """Check that a job reads what other jobs wrote; when the block ends well, write its manifest and receipts.

    A job without outputs leaves neither. Raises UserError for an input that is not what its own manifest says.
    """
    job.manifest.unlink(missing_ok=True)
    for path in job.outputs:
        receipt(path).unlink(missing_ok=True)
    inputs = {str(path): checked_digest(path) for path in files_of(job.inputs) if path.is_file()}
    begin, clock = datetime.now(UTC), time.monotonic()
    yield
    if not job.outputs:
        return
    params = json.loads(json.dumps(job.params, default=str))
    what = {"rule": job.rule, "wildcards": job.wildcards, "params": params, "inputs": inputs, "versions": versions()}
    outputs = {str(path): digest_of(path) for path in files_of(job.outputs)}
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
    write_json(
        job.manifest,
        {
            **what,
            "digest": digest,
            "outputs": outputs,
            "host": host(),
            "begin": begin.isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - clock, 3),
        },
    )
    for path, written in outputs.items():
        write_json(receipt(Path(path)), {"sha256": written, "manifest": str(job.manifest), "job": digest})


def checked_digest(path: Path) -> str:
    """Digest of a file that a job reads. Raises UserError where a job wrote it and it has changed since."""
    digest, known = digest_of(path), receipt(path)
    if known.is_file():
        written = read_json(known)
        if written["sha256"] != digest:
            raise UserError(
                f"{path} does not match the digest that {written['manifest']} has of it: it was cut off or changed "
                "since it was made; delete it and rerun snakemake, which makes it again"
            )
    return digest


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that compute."""
    return {"python": platform.python_version()} | {package: version(package) for package in VERSIONED}


def host() -> dict[str, Any]:
    """Kind of machine, without its name: system, processor, cores that may be used, GPU that was used."""
    torch = sys.modules.get("torch")  # a job without torch used no GPU
    on_gpu = torch is not None and torch.cuda.is_available()
    return {
        "system": platform.platform(),
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "gpu": torch.cuda.get_device_name() if on_gpu else None,
    }


def processor() -> str:
    """Model of the processor as Linux names it, or its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


@dataclass(frozen=True)
class Audit:
    """State of the files of a results folder: as their receipts say, changed, gone, or without a receipt (orphans)."""

    intact: list[str]
    changed: list[str]
    gone: list[str]
    orphans: list[str]


def audit(results: Path) -> Audit:
    """Compare every file below a results folder with its receipt.

    Not looked at: hidden files, logs, Snakemake's timings, and the unpacked files of data sets in raw/, whose digests
    their source.json has.
    """
    found = Audit([], [], [], [])
    seen = set()
    for entry in sorted(results.iterdir()):
        if entry.name.startswith(".") or entry.name in NOT_MADE_BY_JOBS:
            continue
        raw = entry.name == "raw"
        for path in sorted(entry.glob("*/source.json")) if raw else files_of([entry]):
            seen.add(receipt(path))
            if not receipt(path).is_file():
                found.orphans.append(str(path))
            elif read_json(receipt(path))["sha256"] == digest_of(path):
                found.intact.append(str(path))
            else:
                found.changed.append(str(path))
    receipts = results / ".receipts"
    for path in sorted(path for path in receipts.rglob("*.json") if path not in seen):
        found.gone.append(str(results / path.relative_to(receipts).with_suffix("")))
    return found


def tell(found: Audit) -> None:
    """Print an audit and write it to the log. Raises UserError where a file has changed."""
    words = (
        ("changed since they were made", found.changed),
        ("made by no job", found.orphans),
        ("gone since they were made", found.gone),
    )
    lines = [f"{len(found.intact)} files are what the jobs that made them wrote"]
    for what, paths in words:
        lines += [f"{len(paths)} files are {what}" + ":" * bool(paths), *(f"  {path}" for path in paths)]
    for line in lines:
        logger.info("%s", line)
    print("\n" + "\n".join(lines) + "\n", file=sys.stderr)
    if found.changed:
        raise UserError(f"{found.changed[0]} is not what its job wrote; delete what has changed and rerun snakemake")
