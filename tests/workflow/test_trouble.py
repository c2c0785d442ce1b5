"""Bad input and interruptions: one clear message with the next step, and nothing finished is lost."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from surefoot.unlock import holders
from tests.workflow.conftest import SMOKE, SNAKEMAKE, snakemake
from tests.workflow.test_smoke import results

FINETUNE = "results/finetune/emoji-smoke/emoji-clip/ft"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("sedds=[1]", "unknown key sedds; did you mean 'seeds'?"),
        ("run={methods: [fft]}", "run.methods: unknown name 'fft'; did you mean 'ft'?"),
        ("run={tasks: [emoji-stile]}", "run.tasks: unknown name 'emoji-stile'; did you mean 'emoji-style'?"),
        ("alpha_step=0.3", "alpha_step: 0.3 does not divide 1"),
        ("fixed_alpha=1.5", "fixed_alpha: Input should be less than or equal to 1"),
        ("methods={ft: {train: [heat]}}", "unknown value 'heat'; did you mean 'head'?"),
        ("tasks={emoji-smoke: {classes: [mammal, frut]}}", "unknown class 'frut'; did you mean 'fruit'?"),
    ],
)
def test_mistakes_in_the_config_are_named(clone: Path, setting: str, message: str) -> None:
    overlay = clone / "overlay.yaml"
    overlay.write_text(setting.replace("=", ": ", 1))
    done = snakemake(clone, "-n", "--configfile", "config/experiments/smoke.yaml", "overlay.yaml", check=False)
    assert done.returncode != 0
    assert message in done.stdout
    assert "Traceback" not in done.stdout


def test_wrong_alpha_of_an_export_is_named(clone: Path) -> None:
    target = "results/export/emoji-smoke/emoji-clip/ft/alpha-1.5.safetensors"
    done = snakemake(clone, "-n", target, *SMOKE, check=False)
    assert done.returncode != 0
    assert "alpha 1.5 is not between 0 (zero-shot) and 1 (fine-tuned)" in done.stdout


def test_truncated_published_weights_are_refused(clone: Path) -> None:
    weights = clone / "resources/emoji-clip/open_clip_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    done = snakemake(clone, "--cores", "1", "results/models/emoji-clip", *SMOKE, check=False)
    assert done.returncode != 0
    assert f"surefoot: {weights.relative_to(clone)} does not match" in done.stdout
    assert "git checkout" in done.stdout


def test_truncated_split_is_refused_and_nothing_else_is_lost(after_smoke: Path) -> None:
    images = after_smoke / "results/data/emoji/line/images.npy"
    times = images.stat()
    images.write_bytes(images.read_bytes()[:-1000])
    os.utime(images, ns=(times.st_atime_ns, times.st_mtime_ns))  # a damage that no time stamp shows
    before = (after_smoke / FINETUNE / "seed-0/weights.safetensors").read_bytes()
    done = snakemake(after_smoke, "--cores", "1", "--forcerun", "evaluate", *SMOKE, check=False)
    assert done.returncode != 0
    assert "images.npy does not match the digest" in done.stdout
    assert "Delete the folder results/data/emoji/line and rerun" in done.stdout
    assert (after_smoke / FINETUNE / "seed-0/weights.safetensors").read_bytes() == before


def test_truncated_weights_are_refused(after_smoke: Path) -> None:
    weights = after_smoke / FINETUNE / "seed-1/weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    target = "results/evaluate/emoji-smoke/emoji-clip/ft/metrics.parquet"
    done = snakemake(after_smoke, "--cores", "1", target, *SMOKE, check=False)
    assert done.returncode != 0
    assert "seed-1/weights.safetensors does not match its record" in done.stdout


def test_nan_loss_is_named(after_smoke: Path) -> None:
    overlay = after_smoke / "overlay.yaml"
    overlay.write_text("methods: {ft: {recipes: {smoke: {learning_rate: 1.0e+30, clip_norm: null}}}}")
    target = f"{FINETUNE}/seed-0/weights.safetensors"
    done = snakemake(after_smoke, "--cores", "1", target, *SMOKE, "overlay.yaml", check=False)
    assert done.returncode != 0
    assert "surefoot: ft seed 0: the loss is nan" in done.stdout
    assert "lower the learning_rate" in done.stdout


def hit_in_training(folder: Path) -> subprocess.Popen:
    """A live Snakemake process, leader of a group with its job, that is in the middle of training."""
    # Everything downstream of training is to be made again.
    for part in ("finetune/emoji-smoke", "evaluate", "tables", "figures"):
        for path in sorted((folder / "results" / part).rglob("*.*"), reverse=True):
            path.unlink() if path.is_file() else None
    state = folder / "results/.state/finetune/emoji-smoke/emoji-clip/ft/seed-0/fingerprint"
    running = subprocess.Popen(
        [SNAKEMAKE, "--cores", "1", f"{FINETUNE}/seed-0/weights.safetensors", *SMOKE],
        cwd=folder,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # background jobs ignore Ctrl-C
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for _ in range(600):
        if state.exists() or running.poll() is not None:
            break
        time.sleep(0.1)
    assert running.poll() is None, "training ended before it could be hit"
    return running


def unlock(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "surefoot.unlock"], cwd=folder, text=True, stderr=subprocess.PIPE)


def assert_goes_on(smoke: Path, folder: Path, whole: bool) -> None:
    """The next run ends with the bytes of one that nobody hit; not whole: what was hit and its evaluation must do."""
    targets = [] if whole else [f"{FINETUNE.replace('finetune', 'evaluate')}/metrics.parquet"]
    snakemake(folder, "--cores", "2", *targets, *SMOKE)
    first, second = results(smoke), results(folder)
    again = ("evaluate/emoji-smoke/emoji-clip/ft/", *(f"{FINETUNE[8:]}/seed-{seed}/" for seed in (0, 1, 2)))
    checked = set(first) if whole else {name for name in first if name.startswith(again)}
    assert len(checked) > 5 and {name for name in checked if first[name] != second.get(name)} == set()
    left = [path for path in (folder / "results/.state").rglob("*.pt") if "search" not in path.parts]
    assert not left, "saved states are left over (a search keeps its trials for a longer one)"


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_killed_run_goes_on_and_ends_with_the_same_bytes(smoke: Path, after_smoke: Path, kind: signal.Signals) -> None:
    running = hit_in_training(after_smoke)
    os.killpg(running.pid, kind)
    running.wait(timeout=60)
    assert not (after_smoke / FINETUNE / "seed-2/weights.safetensors").exists()
    assert unlock(after_smoke).returncode == 0
    assert_goes_on(smoke, after_smoke, whole=kind == signal.SIGKILL)


@pytest.mark.parametrize("orphan", ["stopped", "finished"])
def test_a_job_outlives_snakemake_without_a_second_writer(smoke: Path, after_smoke: Path, orphan: str) -> None:
    running = hit_in_training(after_smoke)
    jobs = set(holders(after_smoke)) - {running.pid}
    assert jobs, "no job process to be orphaned"
    for job in jobs:
        os.kill(job, signal.SIGSTOP)  # so that it lives for as long as the test needs it
    running.kill()
    running.wait(timeout=60)
    try:
        done = unlock(after_smoke)
        assert done.returncode != 0 and f"kill {min(jobs)}" in done.stderr
        assert any((after_smoke / ".snakemake/locks").iterdir()), "the lock is gone although a job lives"
    finally:
        for job in jobs:
            os.kill(job, signal.SIGCONT)
            if orphan == "stopped":
                os.kill(job, signal.SIGTERM)
    for _ in range(1200):
        if not holders(after_smoke):
            break
        time.sleep(0.1)
    assert (after_smoke / FINETUNE / "seed-2/weights.safetensors").exists() == (orphan == "finished")
    assert unlock(after_smoke).returncode == 0
    assert_goes_on(smoke, after_smoke, whole=False)


def test_unlock_refuses_while_a_run_is_alive(after_smoke: Path) -> None:
    locks = after_smoke / ".snakemake/locks"
    locks.mkdir(parents=True, exist_ok=True)
    (locks / "0.input.lock").write_text("results/report.html\n")
    alive = subprocess.Popen(["bash", "-c", "exec -a snakemake sleep 60"], cwd=after_smoke)
    try:
        while not Path(f"/proc/{alive.pid}/cmdline").read_bytes().startswith(b"snakemake"):
            time.sleep(0.05)
        done = unlock(after_smoke)
        assert done.returncode != 0 and f"kill {alive.pid}" in done.stderr
    finally:
        alive.kill()
        alive.wait()
