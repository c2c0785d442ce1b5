"""After a kill -9: remove Snakemake's lock on this folder, but only if no live process works on it.

Snakemake itself may be gone while its jobs live on: they would write the same files as the jobs of a new run.
`python -m surefoot.unlock` is what `make results` runs first. Plain snakemake leaves this to its user.
"""

import os
import subprocess
import sys
from pathlib import Path


def holders(folder: Path) -> list[int]:
    """Process ids of other live processes of Snakemake and its jobs that work in a folder (Linux: read from /proc)."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().split(b"\0")
            here = (entry / "cwd").resolve() == folder.resolve()
        except OSError:  # the process ended meanwhile, or belongs to someone else
            continue
        programs = [part.rsplit(b"/", 1)[-1] for part in command[:2]]
        is_snakemake = b"snakemake" in programs or any(b".snakemake/scripts/" in part for part in command[:2])
        if here and is_snakemake and int(entry.name) not in (os.getpid(), os.getppid()):
            found.append(int(entry.name))
    return sorted(found)


def main() -> None:
    """Unlock the current folder if its lock is left over."""
    folder = Path.cwd()
    locks = folder / ".snakemake" / "locks"
    if not locks.is_dir() or not any(locks.iterdir()):
        return
    if not Path("/proc").is_dir():
        sys.exit("surefoot: an earlier run holds its lock; if none of its processes lives, run: snakemake --unlock")
    if pids := holders(folder):
        names = " ".join(map(str, pids))
        sys.exit(f"surefoot: an earlier run still works on this folder; wait for it, or stop it: kill {names}")
    print("surefoot: an earlier run was killed; removing its lock")
    snakemake = Path(sys.executable).with_name("snakemake")
    subprocess.run([snakemake, "--unlock"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
