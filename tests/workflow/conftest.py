"""Runs of the real workflow in copies of the repository."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SNAKEMAKE = Path(sys.executable).with_name("snakemake")
SMOKE = ["--configfile", "config/experiments/smoke.yaml"]
COPIED = ("Snakefile", "rules", "scripts", "surefoot", "config", "profiles", "report", "resources")


def copy_repository(target: Path) -> Path:
    """What a clone holds, without results."""
    target.mkdir(parents=True)
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, target / name)
    return target


def snakemake(folder: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run snakemake in a copy; its output is both streams together."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [SNAKEMAKE, *arguments],
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert not check or done.returncode == 0, done.stdout[-6000:]
    return done


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy in which the smoke experiment has run from scratch on two cores. Tests must not change it."""
    folder = copy_repository(tmp_path_factory.mktemp("smoke") / "repository")
    snakemake(folder, "--cores", "2", *SMOKE)
    return folder


@pytest.fixture
def after_smoke(smoke: Path, tmp_path: Path) -> Path:
    """A fresh copy of the finished smoke run, to change."""
    return Path(shutil.copytree(smoke, tmp_path / "repository", symlinks=True))


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A fresh copy of the repository without results."""
    return copy_repository(tmp_path / "repository")


@pytest.fixture
def planned() -> Callable[[Path], set[str]]:
    """Rules that a dry run of the smoke experiment would run."""

    def plan(folder: Path) -> set[str]:
        out = snakemake(folder, "-n", *SMOKE).stdout
        if "Nothing to be done" in out:
            return set()
        table = out.split("Job stats:")[1].split("total")[0].splitlines()[3:]
        return {line.split()[0] for line in table if line.strip()} - {"all"}

    return plan
