"""How much sooner two workers of one thread finish a round of a search than one: the workflow itself, start-up and all.

Run `python benchmarks/workers.py` in the root of the repository, on a machine with two idle cores; README.md in this
folder says what it prints.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.workflow.conftest import copy_repository  # noqa: E402  (found through the line above)

SEARCH = "results/search/emoji-style/emoji-clip/{}/search-0"


def snakemake(folder: Path, workers: int, trials: int, *targets: str) -> float:
    """Wall seconds of a run of one round in a copy of the repository."""
    overlay = folder / "overlay.yaml"
    overlay.write_text(f"search: {{trials: {trials}, round_size: {trials}, shards: {workers}}}\n")
    command = [Path(sys.executable).with_name("snakemake"), "--cores", str(workers)]
    begin = time.monotonic()
    subprocess.run([*command, *targets, "--configfile", overlay], cwd=folder, check=True, capture_output=True)
    return time.monotonic() - begin


def main() -> None:
    """Make what both need, then time a round with one worker and with two, in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=20, help="trials of the round")
    parser.add_argument("--space", default="autoft", help="one of search.spaces of the default config")
    parser.add_argument("--rounds", type=int, default=1, help="repetitions")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = copy_repository(Path(name, "repository"))
        target = SEARCH.format(given.space)
        snakemake(folder, 2, 2, f"{target}/objective.yaml")  # with all that a search needs
        for _ in range(given.rounds):
            seconds = {}
            for workers in (1, 2):
                shutil.rmtree(folder / target, ignore_errors=True)
                shutil.rmtree(folder / target.replace("results", "results/.state"), ignore_errors=True)
                seconds[workers] = snakemake(folder, workers, given.trials, f"{target}/objective.yaml")
            print(
                f"{given.trials} trials of {given.space}: one worker {seconds[1]:.0f} s, two {seconds[2]:.0f} s, "
                f"{seconds[1] / seconds[2]:.2f} times sooner"
            )


if __name__ == "__main__":
    main()
