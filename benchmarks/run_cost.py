"""What a finished run cost: wall and CPU time and peak memory per job, and the part of the CPU time that is start-up.

`python benchmarks/run_cost.py` reads the timings that Snakemake left in results/benchmarks/ and measures here what
importing the library costs a job.
"""

import resource
import subprocess
import sys
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
# What the scripts of a stage import: models (torch, open_clip), or tables only.
IMPORTS = {"torch": "import surefoot.finetune, surefoot.evaluate", "light": "import surefoot.tables"}
LIGHT = ("prepare", "tables.tsv", "figures.tsv", "report.tsv", "cards")


def import_seconds(code: str) -> float:
    """CPU seconds of a fresh Python that only imports."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print a row per job and the totals."""
    cost = {kind: import_seconds(code) for kind, code in IMPORTS.items()}
    rows = []
    for path in sorted((ROOT / "results/benchmarks").rglob("*.tsv")):
        inside = path.relative_to(ROOT / "results/benchmarks")
        measured = pd.read_csv(path, sep="\t", na_values="-").iloc[0]
        start = cost["light" if inside.parts[0] in LIGHT else "torch"]
        rows.append((str(inside.with_suffix("")), measured["s"], measured["cpu_time"], start, measured["max_rss"]))
    if not rows:
        sys.exit("no timings below results/benchmarks/; run `make results` first")
    table = pd.DataFrame(rows, columns=["job", "wall_s", "cpu_s", "startup_s", "peak_mb"])
    print(table.round(1).to_markdown(index=False))
    # A job's own start-up cannot be more than its CPU time.
    startup = table[["cpu_s", "startup_s"]].min(axis=1).sum()
    print(f"\nCPU {table['cpu_s'].sum():.0f} s, start-up {100 * startup / table['cpu_s'].sum():.0f} %, ", end="")
    print(f"peak memory of a job {table['peak_mb'].max():.0f} MB")


if __name__ == "__main__":
    main()
