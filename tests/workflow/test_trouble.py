"""Bad input and interruptions: one clear message with the next step, and nothing finished is lost."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from surefoot.files import sha256
from surefoot.provenance import receipt
from surefoot.records import run_digest
from surefoot.unlock import holders
from tests.workflow.conftest import SMOKE, SNAKEMAKE, snakemake
from tests.workflow.test_smoke import results

FINETUNE = "results/finetune/emoji-smoke/emoji-clip/ft"


@pytest.mark.fault("mistake", "a misspelt or impossible key or name in the config", "named, with the nearest name")
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("seeds=[1]\nseeds: [2]", "overlay.yaml: 'seeds' stands in lines 1 and 2; keep one"),
        ("sedds=[1]", "unknown key sedds; did you mean 'seeds'?"),
        ("run={methods: [fft]}", "run.methods: unknown name 'fft'; did you mean 'ft'?"),
        ("run={tasks: [emoji-stile]}", "run.tasks: unknown name 'emoji-stile'; did you mean 'emoji-style'?"),
        ("alpha_step=0.3", "alpha_step: 0.3 does not divide 1"),
        ("fixed_alpha=1.5", "fixed_alpha: Input should be less than or equal to 1"),
        ("methods={ft: {train: [heat]}}", "unknown value 'heat'; did you mean 'head'?"),
        ("tasks={emoji-smoke: {classes: [mammal, frut]}}", "unknown class 'frut'; did you mean 'fruit'?"),
    ],
)
def test_mistakes_in_the_config_are_named(clone: Path, setting: str, message: str, said) -> None:
    overlay = clone / "overlay.yaml"
    overlay.write_text(setting.replace("=", ": ", 1))
    done = snakemake(clone, "-n", "--configfile", "config/experiments/smoke.yaml", "overlay.yaml", check=False)
    assert done.returncode != 0
    assert message in done.stdout
    assert "Traceback" not in done.stdout
    said(message)


def test_wrong_alpha_of_an_export_is_named(clone: Path) -> None:
    target = "results/export/emoji-smoke/emoji-clip/ft/alpha-1.5.safetensors"
    done = snakemake(clone, "-n", target, *SMOKE, check=False)
    assert done.returncode != 0
    assert "alpha 1.5 is not between 0 (zero-shot) and 1 (fine-tuned)" in done.stdout


@pytest.mark.fault("damaged file", "published weights are cut off", "refused before they are used")
def test_truncated_published_weights_are_refused(clone: Path, said) -> None:
    weights = clone / "resources/emoji-clip/open_clip_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    done = snakemake(clone, "--cores", "1", "results/models/emoji-clip", *SMOKE, check=False)
    assert done.returncode != 0
    assert f"surefoot: {weights.relative_to(clone)} does not match" in done.stdout
    assert "git checkout" in done.stdout
    said(done.stdout)


# What is damaged, and what the job that reads it makes.
EVALUATION = "evaluate/emoji-smoke/emoji-clip/ft/metrics.parquet"
SEARCH = "search/emoji-smoke/emoji-clip/autoft/search-0"
DAMAGED = {
    "data/emoji/line/images.npy": EVALUATION,
    "zeroshot/emoji-smoke/emoji-clip/head.safetensors": EVALUATION,
    "finetune/emoji-smoke/emoji-clip/ft/seed-1/weights.safetensors": EVALUATION,
    "finetune/emoji-smoke/emoji-clip/ft/seed-1/record.json": EVALUATION,
    "evaluate/emoji-smoke/emoji-clip/ft/predictions.parquet": "tables/main.csv",
    f"{SEARCH}/round-1/shard-0.parquet": f"{SEARCH}/objective.yaml",
    f"{SEARCH}/objective.yaml": f"{SEARCH}/without.parquet",
    "tables/main.csv": "figures/frontier.svg",
}


@pytest.mark.fault(
    "damaged file",
    "prepared images, head, weights, a record, predictions, trials, an objective or a table: cut off or a bit flipped, "
    "at an unchanged time stamp",
    "the job that reads it refuses; everything else stays; after deleting the file the run goes on to the same bytes",
)
@pytest.mark.parametrize("path", DAMAGED)
def test_damaged_results_are_refused_and_made_again(smoke: Path, after_smoke: Path, path: str, said) -> None:
    file, made = after_smoke / "results" / path, f"results/{DAMAGED[path]}"
    content, times, before = bytearray(file.read_bytes()), file.stat(), results(after_smoke)
    content[len(content) // 2] ^= 1
    file.write_bytes(content[:-1] if path.endswith("npy") else content)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))  # a damage that no time stamp shows
    done = snakemake(after_smoke, "--cores", "1", made, "--forcerun", made, *SMOKE, check=False)
    assert done.returncode != 0
    assert f"surefoot: results/{path} does not match the digest that results/manifests/" in done.stdout
    assert "delete it and rerun snakemake" in done.stdout
    said(done.stdout)
    after = results(after_smoke)
    again = str(Path(DAMAGED[path]).parent)  # Snakemake deletes the outputs of a job that is to run
    changed = {name for name in before if before[name] != after.get(name)}
    assert path in changed and {name for name in changed if not name.startswith(again)} <= {path}
    if path == "tables/main.csv":  # one goes all the way
        audited = snakemake(after_smoke, "--cores", "1", "verify", *SMOKE, check=False)
        assert audited.returncode != 0 and f"  results/{path}\n" in audited.stdout
        file.unlink()
        snakemake(after_smoke, "--cores", "2", *SMOKE)
        assert results(after_smoke) == results(smoke)


def test_every_file_of_a_run_is_accounted_for(smoke: Path) -> None:
    """And each names a manifest with the same digest."""
    found = snakemake(smoke, "--cores", "1", "verify", *SMOKE).stdout
    assert "0 files are changed" in found and "0 files are made by no job" in found and "0 files are gone" in found
    rows = pd.read_parquet(smoke / "results/evaluate/emoji-smoke/emoji-clip/ft/metrics.parquet")
    for seed, runs in rows[rows["alpha"] == 1].groupby("seed")["run"]:
        record = smoke / FINETUNE / f"seed-{seed}/record.json"
        kept = json.loads((smoke / receipt(record.relative_to(smoke))).read_text())
        manifest = json.loads((smoke / kept["manifest"]).read_text())
        assert set(runs) == {run_digest(record)}
        assert manifest["outputs"][str(record.relative_to(smoke))] == kept["sha256"] == sha256(record)
        assert manifest["params"]["method"]["name"] == "ft" and manifest["params"]["code"]


@pytest.mark.fault(
    "numbers", "the loss is no number, or explodes beyond what a number can be", "the job ends and says where"
)
def test_nan_loss_is_named(after_smoke: Path, said) -> None:
    overlay = after_smoke / "overlay.yaml"
    overlay.write_text("methods: {ft: {recipes: {smoke: {learning_rate: 1.0e+30, clip_norm: null}}}}")
    target = f"{FINETUNE}/seed-0/weights.safetensors"
    done = snakemake(after_smoke, "--cores", "1", target, *SMOKE, "overlay.yaml", check=False)
    assert done.returncode != 0
    assert "surefoot: ft seed 0: the loss is nan" in done.stdout
    assert "lower the learning_rate" in done.stdout
    said(done.stdout)


def hit_in_training(folder: Path, stdout: int = subprocess.DEVNULL) -> subprocess.Popen:
    """A Snakemake process, leader of a group with its job, in the middle of training, where SIGSTOP holds them both.

    All seeds together train for about a second, so beside other work they would end before a test has looked at them.
    """
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
        stdout=stdout,
        stderr=subprocess.STDOUT,
        text=True,
    )
    for _ in range(6000):
        if state.exists() or running.poll() is not None:
            break
        time.sleep(0.01)
    assert running.poll() is None, "training ended before it could be hit"
    os.killpg(running.pid, signal.SIGSTOP)
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


@pytest.mark.fault(
    "interruption",
    "kill -9, Ctrl-C or TERM of a whole run in training",
    "the same command goes on from the last saved step and ends with the bytes of a run that nobody hit",
)
@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_killed_run_goes_on_and_ends_with_the_same_bytes(smoke: Path, after_smoke: Path, kind: signal.Signals) -> None:
    running = hit_in_training(after_smoke)
    os.killpg(running.pid, kind)
    os.killpg(running.pid, signal.SIGCONT)
    running.wait(timeout=60)
    assert not (after_smoke / FINETUNE / "seed-2/weights.safetensors").exists()
    assert unlock(after_smoke).returncode == 0
    assert_goes_on(smoke, after_smoke, whole=kind == signal.SIGKILL)


@pytest.mark.fault(
    "interruption",
    "Snakemake is killed, and its job lives on",
    "the folder is not unlocked while the job lives, so that no two write the same file; then the run goes on",
)
@pytest.mark.parametrize("orphan", ["stopped", "finished"])
def test_a_job_outlives_snakemake_without_a_second_writer(smoke: Path, after_smoke: Path, orphan: str, said) -> None:
    running = hit_in_training(after_smoke)
    jobs = set(holders(after_smoke)) - {running.pid}
    assert jobs, "no job process to be orphaned"
    running.kill()
    running.wait(timeout=60)
    try:
        done = unlock(after_smoke)
        assert done.returncode != 0 and f"kill {min(jobs)}" in done.stderr
        said(done.stderr)
        assert any((after_smoke / ".snakemake/locks").iterdir()), "the lock is gone although a job lives"
    finally:
        for job in jobs:
            if orphan == "stopped":
                os.kill(job, signal.SIGTERM)  # waits for the job to go on, which cannot end before
            os.kill(job, signal.SIGCONT)
    for _ in range(1200):
        if not holders(after_smoke):
            break
        time.sleep(0.1)
    assert (after_smoke / FINETUNE / "seed-2/weights.safetensors").exists() == (orphan == "finished")
    assert unlock(after_smoke).returncode == 0
    assert_goes_on(smoke, after_smoke, whole=False)


@pytest.mark.fault("interruption", "only a job is killed (-9), not Snakemake", "reported with its log; a rerun goes on")
def test_a_killed_job_is_reported_and_a_rerun_goes_on(smoke: Path, after_smoke: Path) -> None:
    running = hit_in_training(after_smoke, stdout=subprocess.PIPE)
    for job in set(holders(after_smoke)) - {running.pid}:
        os.kill(job, signal.SIGKILL)
    os.killpg(running.pid, signal.SIGCONT)
    out, _ = running.communicate(timeout=60)
    assert running.returncode != 0
    assert "Error in rule finetune" in out and "results/logs/finetune/emoji-smoke/emoji-clip/ft/seeds.log" in out
    assert_goes_on(smoke, after_smoke, whole=False)


@pytest.mark.fault("interruption", "a second run is started in the same folder", "refused; the first is not disturbed")
def test_a_second_run_in_the_same_folder_is_refused(smoke: Path, after_smoke: Path, said) -> None:
    running = hit_in_training(after_smoke)
    try:
        done = snakemake(after_smoke, "--cores", "1", "--forceall", *SMOKE, check=False)
    finally:
        os.killpg(running.pid, signal.SIGCONT)
    assert done.returncode != 0 and "Directory cannot be locked" in done.stdout
    said(next(line for line in done.stdout.splitlines() if "Directory cannot be locked" in line))
    assert running.wait(timeout=300) == 0
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
