"""After a kill -9: remove Snakemake's lock on this folder, but only if no live process holds it.

`python -m surefoot.unlock` is what `make results` runs first. Plain snakemake leaves this to its user.
"""

import os
import subprocess
import sys
from pathlib import Path


def holders(folder: Path) -> list[int]:
    """Process ids of other live Snakemake processes that work in a folder (Linux: read from /proc)."""
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
    return found


def main() -> None:
    """Unlock the current folder if its lock is left over."""
    folder = Path.cwd()
    locks = folder / ".snakemake" / "locks"
    if not locks.is_dir() or not any(locks.iterdir()):
        return
    if pids := holders(folder):
        sys.exit(f"surefoot: process {pids[0]} still works on this folder; wait for it, or stop it (kill {pids[0]})")
    print("surefoot: an earlier run was killed; removing its lock")
    snakemake = Path(sys.executable).with_name("snakemake")
    subprocess.run([snakemake, "--unlock"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
