"""Where a job computes: on a GPU of its own, or on the CPU with one thread.

Snakemake counts GPUs but hands out none, so the jobs of one machine agree among themselves: a job holds a lock (flock)
on a file that stands for its GPU. The system drops the lock when the process ends, however it ends.
"""

import fcntl
import logging
import os
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from surefoot.files import UserError

if TYPE_CHECKING:
    import torch  # a claim needs no torch, so its tests are quick

ASK_SECONDS = 1.0
PER_GPU = "SUREFOOT_JOBS_PER_GPU"

logger = logging.getLogger("surefoot")


@cache
def pick_device() -> "torch.device":
    """A GPU that no other job of this user on this machine has, else the CPU.

    The first call claims it for the life of the process, and later calls give the same. Only GPUs that torch can see
    are asked for, so CUDA_VISIBLE_DEVICES, set by a batch system or by hand, is respected. Where all are taken the job
    waits. Raises UserError when the number of jobs per GPU is not a number, or the claims cannot be written.
    """
    import torch

    if not torch.cuda.is_available():
        if (visible := os.environ.get("CUDA_VISIBLE_DEVICES", "")) not in ("", "-1", "NoDevFiles"):
            logger.warning("CUDA_VISIBLE_DEVICES is %s, but torch finds no usable GPU; computing on the CPU", visible)
        return use_cpu()
    # By identity, not by number: jobs that see different GPUs would all call theirs 0.
    gpus = [str(torch.cuda.get_device_properties(number).uuid) for number in range(torch.cuda.device_count())]
    device = torch.device("cuda", claim(gpus, jobs_per_gpu()))
    torch.cuda.set_device(device)
    logger.info("computing on GPU %s (%s)", device.index, gpus[device.index])
    return device


def use_cpu() -> "torch.device":
    """The CPU with exactly one thread, because the number of threads changes float sums."""
    import torch

    torch.set_num_threads(1)
    return torch.device("cpu")


def jobs_per_gpu() -> int:
    """How many jobs may share a GPU: 1, or SUREFOOT_JOBS_PER_GPU. Raises UserError when that is no positive number."""
    text = os.environ.get(PER_GPU, "1")
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"{PER_GPU} is {text!r}; it must be a whole number from 1, or unset")
    return int(text)


def claims_folder() -> Path:
    """Where the claims of this user's jobs on this machine lie: never on a shared disk, where locks may be lost."""
    return Path(tempfile.gettempdir(), f"surefoot-gpus-{os.getuid()}")


def claim(gpus: list[str], slots: int = 1, folder: Path | None = None) -> int:
    """Position of a GPU that is this process's until it ends; the emptiest comes first. Waits where all are taken.

    Args:
        gpus: names of the GPUs, the same for every process of this machine.
        slots: how many processes may have the same GPU.
        folder: of the lock files; None: that of this user.

    Raises UserError when the folder cannot be written.
    """
    folder = folder or claims_folder()
    places = [(number, folder / f"{name}.{slot}.lock") for slot in range(slots) for number, name in enumerate(gpus)]
    told = False
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        while True:
            for number, path in places:
                if _lock(path):
                    return number
            if not told:
                _tell(places, slots)
                told = True
            time.sleep(ASK_SECONDS)
    except OSError as error:
        raise UserError(f"cannot claim a GPU in {folder}: {error}; mend it, or set TMPDIR to another folder") from error


def _lock(path: Path) -> bool:
    """Whether this process got the lock of a file; its number goes into the file, for others to read."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)  # stays open, so stays locked, until the process ends
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return False
    os.truncate(file, 0)
    os.write(file, str(os.getpid()).encode())
    return True


def _tell(places: list[tuple[int, Path]], slots: int) -> None:
    """Say, on the screen and in the log, that this job waits, for whom, and how to avoid it."""
    holders = ", ".join(path.read_text() or "?" for _, path in places)
    gpus = len(places) // slots
    message = (
        f"all {gpus} GPUs that this job may use are taken by other jobs of yours (processes {holders}); "
        f"waiting for one. Start no more jobs at a time than there are GPUs: --resources gpu={gpus * slots}; "
        f"small models can share a GPU: {PER_GPU}={slots + 1}"
    )
    logger.warning(message)
    print(f"\nsurefoot: {message}\n", file=sys.stderr, flush=True)
