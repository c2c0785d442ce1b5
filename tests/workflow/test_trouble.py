"""Bad input and interruptions: one clear message with the next step, and nothing finished is lost."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_killed_run_goes_on_and_ends_with_the_same_bytes(smoke: Path, after_smoke: Path, kind: signal.Signals) -> None:
    # Everything downstream of training is to be made again, and the run is hit in the middle of training.
    for part in ("finetune/emoji-smoke", "evaluate", "tables", "figures"):
        for path in sorted((after_smoke / "results" / part).rglob("*.*"), reverse=True):
            path.unlink() if path.is_file() else None
    state = after_smoke / "results/.state/finetune/emoji-smoke/emoji-clip/ft/seed-0/fingerprint"
    running = subprocess.Popen(
        [SNAKEMAKE, "--cores", "1", f"{FINETUNE}/seed-0/weights.safetensors", *SMOKE],
        cwd=after_smoke,
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
    os.killpg(running.pid, kind)
    running.wait(timeout=60)
    assert not (after_smoke / FINETUNE / "seed-2/weights.safetensors").exists()
    subprocess.run([sys.executable, "-m", "surefoot.unlock"], cwd=after_smoke, check=True)
    # One of the three goes on to the end; for the others what was hit and its evaluation must do.
    whole = kind == signal.SIGKILL
    targets = [] if whole else [f"{FINETUNE.replace('finetune', 'evaluate')}/metrics.parquet"]
    snakemake(after_smoke, "--cores", "2", *targets, *SMOKE)
    first, second = results(smoke), results(after_smoke)
    again = ("evaluate/emoji-smoke/emoji-clip/ft/", *(f"{FINETUNE[8:]}/seed-{seed}/" for seed in (0, 1, 2)))
    checked = set(first) if whole else {name for name in first if name.startswith(again)}
    assert len(checked) > 5 and {name for name in checked if first[name] != second.get(name)} == set()
    left = [path for path in (after_smoke / "results/.state").rglob("*.pt") if "search" not in path.parts]
    assert not left, "saved states are left over (a search keeps its trials for a longer one)"


def test_unlock_refuses_while_a_run_is_alive(after_smoke: Path) -> None:
    locks = after_smoke / ".snakemake/locks"
    locks.mkdir(parents=True, exist_ok=True)
    (locks / "0.input.lock").write_text("results/report.html\n")
    alive = subprocess.Popen(["bash", "-c", "exec -a snakemake sleep 60"], cwd=after_smoke)
    try:
        while not Path(f"/proc/{alive.pid}/cmdline").read_bytes().startswith(b"snakemake"):
            time.sleep(0.05)
        done = subprocess.run(
            [sys.executable, "-m", "surefoot.unlock"], cwd=after_smoke, text=True, stderr=subprocess.PIPE
        )
        assert done.returncode != 0 and f"process {alive.pid} still works" in done.stderr
    finally:
        alive.kill()
        alive.wait()
