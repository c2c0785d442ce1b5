"""Profiles agree with the rules, and runs through the scripts of profiles/generic-cluster, on this machine."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from surefoot.fingerprint import _closure
from tests.cluster import await_, end_all, finish, start, trains
from tests.workflow.conftest import ROOT, SMOKE, copy_repository, snakemake

CLUSTERS = ("slurm", "generic-cluster")  # their profiles need the plugins
EVERY = {
    name: yaml.safe_load((ROOT / f"profiles/{name}/config.yaml").read_text())
    for name in ("default", "local-gpu", *CLUSTERS)
}

# Prints, for every rule that is run as a job, what it asks for; of memory what it asks for with the embedded model.
RULES = """
import json, sys
from pathlib import Path
from types import SimpleNamespace
from snakemake.api import SnakemakeApi
from snakemake.settings.types import ConfigSettings, ResourceSettings
with SnakemakeApi() as api:
    settings = ResourceSettings(cores=1), ConfigSettings(configfiles=[Path("config/experiments/smoke.yaml")])
    workflow = api.workflow(resource_settings=settings[0], config_settings=settings[1], snakefile=Path("Snakefile"))
    found = {}
    for rule in workflow._workflow.rules:
        if rule.name not in workflow._workflow._localrules:
            how = {"wildcards": SimpleNamespace(model="emoji-clip", dataset="emoji"), "attempt": 1}
            asks = {
                key: resource.evaluate(how["wildcards"], attempt=1).value
                for key, resource in rule.resources.items() if key not in ("tmpdir", "_nodes")
            }
            found[rule.name] = {"script": rule.script, "asks": asks, "log": bool(rule.log)}
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def rules() -> dict[str, dict[str, Any]]:
    """Rule -> its script and what it asks for."""
    done = subprocess.run([sys.executable, "-c", RULES], cwd=ROOT, check=True, text=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout.splitlines()[-1])


def limits(profile: dict[str, Any]) -> dict[str, int]:
    """The limits of a profile: `resources`, and `jobs` or `cores` do not count."""
    return {key: int(value) for key, value in (item.split("=") for item in profile.get("resources", []))}


# Limit of a partition -> what of a job it is for.
LIMITED = {"max_runtime": "runtime", "max_mem_mb": "mem_mb", "max_threads": "_cores", "max_gpu": "gpu"}


def mistakes(profile: dict[str, Any], rules: dict[str, dict[str, Any]], partitions: dict[str, Any]) -> list[str]:
    """What is wrong with a profile: rules that do not exist, jobs without resources, jobs that can never start."""
    changed = profile.get("set-resources", {})
    grouped = [item.split("=")[0] for item in profile.get("groups", [])]
    found = [
        f"unknown rule {name}" for name in [*changed, *profile.get("set-threads", {}), *grouped] if name not in rules
    ]
    for name, rule in rules.items():
        asks = profile.get("default-resources", {}) | rule["asks"] | changed.get(name, {})
        found += [f"{name} has no {key}" for key in ("mem_mb", "runtime", "_cores") if not int(asks.get(key, 0)) > 0]
        found += [f"{name}: {key} over the limit" for key, most in limits(profile).items() if asks.get(key, 0) > most]
        fits = {"max_runtime": "runtime", "max_mem_mb": "mem_mb", "max_threads": "_cores", "max_gpu": "gpu"}
        room = [
            all(asks.get(key, 0) <= most.get(limit, 0) for limit, key in fits.items()) for most in partitions.values()
        ]
        found += [f"{name} fits into no partition"] if partitions and not any(room) else []
    return found


PARTITIONS = {"slurm": yaml.safe_load((ROOT / "profiles/slurm/partitions.yaml").read_text())["partitions"]}


@pytest.mark.parametrize("name", EVERY)
def test_a_profile_agrees_with_the_rules(name: str, rules: dict) -> None:
    assert mistakes(EVERY[name], rules, PARTITIONS.get(name, {})) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"set-resources": {"fintune": {"runtime": 1}}}, "unknown rule fintune"),
        ({"groups": ["make_table=report"]}, "unknown rule make_table"),
        ({"resources": ["gpu=0"]}, "finetune: gpu over the limit"),
        ({"resources": ["mem_mb=2500"]}, "finetune: mem_mb over the limit"),
        ({"set-resources": {"finetune": {"runtime": 0}}}, "finetune has no runtime"),
        ({"set-resources": {"search": {"runtime": 3000}}}, "search fits into no partition"),
        ({"set-resources": {"prepare": {"gpu": 9}}}, "prepare fits into no partition"),
    ],
)
def test_a_wrong_profile_is_found(change: dict, message: str, rules: dict) -> None:
    assert message in mistakes(change, rules, PARTITIONS["slurm"])


def test_every_rule_says_what_it_needs_itself(rules: dict) -> None:
    assert mistakes({}, rules, {}) == []
    assert all(rule["log"] for rule in rules.values())


def test_rules_ask_for_a_gpu_exactly_where_their_script_does(rules: dict) -> None:
    for name, rule in rules.items():
        script = ROOT / "scripts" / Path(rule["script"]).name
        modules = _closure(script) - {ROOT / "surefoot/device.py"}
        picks = any("pick_device()" in path.read_text() for path in modules)
        uses_cpu = "use_cpu()" in script.read_text()
        assert (rule["asks"].get("gpu", 0) == 1) == (picks and not uses_cpu), name


def test_only_profiles_for_gpus_limit_them() -> None:
    assert {name for name, profile in EVERY.items() if "gpu" in limits(profile)} == {*EVERY} - {"default"}


@pytest.mark.parametrize("name", EVERY)
def test_every_setting_of_a_profile_says_why(name: str) -> None:
    before = ""
    for line in (ROOT / f"profiles/{name}/config.yaml").read_text().splitlines():
        if re.match(r"[a-z]", line):
            assert before.startswith("#"), f"{name}: {line} has no comment above"
        before = line


@pytest.mark.parametrize("name", EVERY)
def test_snakemake_takes_a_profile(name: str, clone: Path) -> None:
    arguments = ["-n", "-q", "--profile", f"profiles/{name}", *SMOKE]
    if name not in CLUSTERS:
        snakemake(clone, *arguments)
    else:
        done = start(clone, *arguments)
        said = finish(done, clone)
        assert done.returncode == 0, said


def test_memory_follows_the_weights_and_the_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from surefoot.config import parse_config
    from surefoot.flow import BASE_MB, COPIES, Plan
    from tests.tiny import raw_config

    monkeypatch.chdir(tmp_path)
    plan, large = Plan(parse_config(raw_config())), SimpleNamespace(model="large")
    assert plan.compute_mb(large, attempt=1) == BASE_MB
    (tmp_path / "results/models/large").mkdir(parents=True)
    with (tmp_path / "results/models/large/open_clip_model.safetensors").open("wb") as file:
        file.truncate(1700 * 2**20)  # a file with a hole
    assert plan.compute_mb(large, attempt=1) == BASE_MB + COPIES * 1700
    assert plan.compute_mb(large, attempt=2) == 2 * (BASE_MB + COPIES * 1700)
    assert plan.compute_mb(SimpleNamespace(seed=0), attempt=1) == BASE_MB


WEIGHTS = "results/finetune/emoji-smoke/emoji-clip/ft/seed-0/weights.safetensors"
METRICS = "results/evaluate/emoji-smoke/emoji-clip/ft/metrics.parquet"
PRINTED = "results/logs/cluster/finetune-*.log"
LOG = "results/logs/finetune/emoji-smoke/emoji-clip/ft/seeds.log"
# Training takes long enough to be hit in the middle; status is asked often for the sake of the test's time.
LONG = "{seeds: [0], methods: {ft: {recipes: {smoke: {epochs: 120}}}}}"
BROKEN = "{seeds: [0], methods: {ft: {recipes: {smoke: {learning_rate: 1.0e+30, clip_norm: null}}}}}"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository with everything that fine-tuning starts from. Tests must not change it."""
    folder = copy_repository(tmp_path_factory.mktemp("cluster") / "repository")
    snakemake(folder, "--cores", "2", METRICS, "--until", "prepare", "zero_shot", *SMOKE)
    return folder


@pytest.fixture
def cluster(prepared: Path, tmp_path: Path):
    """A way to run FT and its evaluation on the cluster, in a copy of what is prepared, under one seed."""
    folder = Path(shutil.copytree(prepared, tmp_path / "repository", symlinks=True))
    (folder / "overlay.yaml").write_text(LONG)

    def run(*more: str) -> subprocess.Popen:
        profile = ["--profile", "profiles/generic-cluster", "--seconds-between-status-checks", "1"]
        return start(folder, METRICS, *profile, *SMOKE, "overlay.yaml", *more)

    run.folder = folder
    yield run
    end_all()


def sessions(said: str) -> list[int]:
    """Ids of the jobs of a run: each leads a session."""
    return [int(pid) for pid in re.findall(r"external jobid '(\d+)'", said)]


def alive(pid: int) -> bool:
    """Whether any process of a session lives."""
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, session = entry.read_text().rsplit(")", 1)[1].split()[:4]
        except OSError:
            continue
        if int(session) == pid and state != "Z":
            return True
    return False


@pytest.mark.fault(
    "interruption",
    "a job of a cluster fails",
    "reported with its log; other jobs go on",
)
def test_a_failing_job_of_a_cluster_is_reported_with_its_log(cluster) -> None:
    (cluster.folder / "overlay.yaml").write_text(BROKEN)
    running = cluster("--retries", "0")
    said = finish(running, cluster.folder)
    assert running.returncode == 1 and "Error in rule finetune" in said and LOG in said
    assert "the loss is nan" in (cluster.folder / LOG).read_text()
    logs = (cluster.folder / "results/logs/cluster").glob("finetune-*.log")
    assert any("surefoot: ft seed 0: the loss is nan" in path.read_text() for path in logs)


@pytest.mark.fault(
    "interruption",
    "Ctrl-C of a run on a cluster, also while it asks for the states of its jobs",
    "its jobs end too, none stays behind; a rerun goes on from their saved states",
)
def test_an_interrupted_run_ends_its_jobs_and_a_rerun_goes_on(cluster) -> None:
    """At the worst moment: Snakemake forgets jobs while it asks for their states, and Ctrl-C ends the question too."""
    status = cluster.folder / "profiles/generic-cluster/status.sh"
    status.write_text(status.read_text().replace("\n", "\n[ ! -e ask ] || { touch asked; sleep 5; }\n", 1))
    before, running = time.time_ns(), cluster()
    await_("training", lambda: trains(cluster.folder, PRINTED, before))
    (cluster.folder / "ask").touch()
    await_("the question", (cluster.folder / "asked").exists)
    os.killpg(running.pid, signal.SIGINT)
    said = finish(running, cluster.folder, 60)
    assert sessions(said)
    await_("the jobs to end", lambda: not any(map(alive, sessions(said))), 20)
    assert not (cluster.folder / WEIGHTS).exists()
    (cluster.folder / "ask").unlink()
    # The next one gets TERM, as a job whose time is up does; the profile's retries start it again.
    before, running = time.time_ns(), cluster()
    await_("training", lambda: trains(cluster.folder, PRINTED, before))
    jobs = sessions((cluster.folder / "run.log").read_text(errors="replace"))
    os.killpg(jobs[-1], signal.SIGTERM)
    said = finish(running, cluster.folder)
    assert running.returncode == 0, said
    assert "Trying to restart job" in said
    assert (cluster.folder / METRICS).is_file()
    assert json.loads((cluster.folder / WEIGHTS).with_name("meter.json").read_text())["resumed"]
    assert not list((cluster.folder / "results/.state/finetune").rglob("*.pt"))
    assert not any(map(alive, sessions(said)))


@pytest.mark.fault(
    "interruption",
    "a job of a cluster runs longer than it asked for",
    "it gets TERM, and time to save, before it is killed",
)
def test_a_job_that_takes_too_long_is_ended_by_the_local_script(tmp_path: Path) -> None:
    """With TERM first, which the job's own processes get."""
    folder = ROOT / "profiles/generic-cluster"
    (tmp_path / "job.sh").write_text(
        f"{sys.executable} -c \"import signal, sys, time; signal.signal(15, lambda *_: (print('saved', flush=True),"
        ' sys.exit(3))); time.sleep(60)" && exit 0 || exit 1\n'
    )
    submit = [folder / "submit.sh", "finetune", "1", "1000", "0.03", "0", "job.sh"]
    job = subprocess.run(submit, cwd=tmp_path, check=True, text=True, stdout=subprocess.PIPE).stdout.strip()

    def status() -> str:
        ask = [folder / "status.sh", job]
        return subprocess.run(ask, cwd=tmp_path, check=True, text=True, stdout=subprocess.PIPE).stdout.strip()

    assert status() == "running"
    await_("the end of the job", lambda: status() != "running", 20)
    assert status() == "failed"
    assert "saved" in (tmp_path / "results/logs/cluster/finetune-job.sh.log").read_text()
    (tmp_path / "job.sh").write_text("true && exit 0 || exit 1\n")
    submit[4] = "1"
    job = subprocess.run(submit, cwd=tmp_path, check=True, text=True, stdout=subprocess.PIPE).stdout.strip()
    await_("success", lambda: status() == "success", 20)
