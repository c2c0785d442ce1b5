"""Results on a disk that is full, or that cannot be written. Needs the right to mount: root, or a skip."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workflow.conftest import SMOKE, snakemake
from tests.workflow.test_smoke import results

WEIGHTS = "results/finetune/emoji-smoke/emoji-clip/ft/seed-{}/weights.safetensors"


@pytest.fixture
def small_disk(after_smoke: Path) -> Iterator[Path]:
    """A copy of the finished smoke run whose results lie on a disk of their own, of 400 MB."""
    folder, moved = after_smoke / "results", after_smoke / "moved"
    folder.rename(moved)
    folder.mkdir()
    if os.getuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m", "none", folder]).returncode:
        pytest.skip("a small disk cannot be mounted here; as root it can")
    try:
        shutil.copytree(moved, folder, symlinks=True, dirs_exist_ok=True)
        yield after_smoke
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.fault(
    "disk",
    "the disk of results/ is full when weights are written",
    "the job ends; nothing half-written is left; with room again the run goes on to the same bytes",
)
def test_a_full_disk_is_told_and_a_rerun_finishes(smoke: Path, small_disk: Path, said) -> None:
    for seed in (0, 1, 2):
        (small_disk / WEIGHTS.format(seed)).unlink()
    filler = small_disk / "results/.filler"
    free = shutil.disk_usage(filler.parent).free
    with filler.open("wb") as file:
        file.write(bytes(free - 300_000))  # logs fit, weights do not
    done = snakemake(small_disk, "--cores", "1", WEIGHTS.format(0), *SMOKE, check=False)
    assert done.returncode != 0
    assert "surefoot: cannot write results/" in done.stdout and "No space left on device" in done.stdout
    assert "free space or mend permissions, then rerun" in done.stdout
    said(done.stdout)
    assert not list((small_disk / "results").rglob("*.part"))
    assert not (small_disk / WEIGHTS.format(2)).exists()
    filler.unlink()
    snakemake(small_disk, "--cores", "1", WEIGHTS.format(0), *SMOKE)
    assert results(small_disk) == results(smoke)


@pytest.mark.fault("disk", "results/ cannot be written", "told before anything runs")
def test_a_read_only_folder_is_told(small_disk: Path, said) -> None:
    (small_disk / WEIGHTS.format(0)).unlink()
    subprocess.run(["mount", "-o", "remount,ro", small_disk / "results"], check=True)
    done = snakemake(small_disk, "--cores", "1", *SMOKE, check=False)
    assert done.returncode != 0
    message = "the folder results/ is read-only; make it writable and run again"
    assert message in done.stdout and "Traceback" not in done.stdout
    said(message)
