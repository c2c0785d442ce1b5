"""What a job costs beside its work: imports and leaving, with Python's own collections of cycles and as jobs have it.

Run `python benchmarks/startup.py` in the root of the repository.
"""

import argparse
import resource
import subprocess
import sys
from statistics import median

MODULES = ("surefoot.finetune", "surefoot.evaluate", "surefoot.tables", "surefoot.figures")
WAYS = {
    "Python's own": "import gc, surefoot; gc.set_threshold(700, 10, 10); import {}",
    "larger threshold": "import {}",
    "frozen at the end": "import gc, surefoot; gc.set_threshold(700, 10, 10); import {}; gc.freeze()",
    "both, as jobs": "import gc, {}; gc.freeze()",
}


def cpu_seconds(code: str) -> float:
    """CPU seconds of a Python process that runs some code."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure all ways in turn, so that other work on the machine hits them alike, and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    print(f"{'module':20}" + "".join(f"{way:>26}" for way in WAYS) + "   (CPU s, ratio to Python's own)")
    for module in MODULES:
        found = [[cpu_seconds(code.format(module)) for code in WAYS.values()] for _ in range(rounds)]
        medians = [median(column) for column in zip(*found, strict=True)]
        print(f"{module:20}" + "".join(f"{value:18.2f} ({value / medians[0]:.2f})" for value in medians))


if __name__ == "__main__":
    main()
