"""Manifests of jobs, receipts of files, and the audit that reads them."""

import logging
import os
from pathlib import Path

import pytest

from surefoot import files
from surefoot.files import UserError, digest_of, read_json, sha256
from surefoot.provenance import Audit, Job, audit, manifested, receipt, tell


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs name their files from the working directory."""
    monkeypatch.chdir(tmp_path)


def a_job(name: str, inputs: list[str] = (), outputs: list[str] = (), **params: object) -> Job:
    return Job(
        "rule",
        {"x": name},
        params,
        list(map(Path, inputs)),
        list(map(Path, outputs)),
        Path(f"results/logs/{name}/a.log"),
    )


def write(path: str, content: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(content)


def run(job: Job, content: str = "made") -> dict:
    """Run a job that writes the same into all of its outputs; its manifest."""
    with manifested(job):
        for path in job.outputs:
            write(str(path), content)
    return read_json(job.manifest)


def test_a_manifest_tells_what_was_read_and_written() -> None:
    write("results/in.txt", "read")
    found = run(a_job("one", ["results/in.txt"], ["results/a/out.txt"], code="c0de", seeds=[1, 2]))
    assert a_job("one").manifest == Path("results/manifests/one/a.json")
    assert found["params"] == {"code": "c0de", "seeds": [1, 2]} and found["wildcards"] == {"x": "one"}
    assert found["inputs"] == {"results/in.txt": sha256(Path("results/in.txt"))}
    assert found["outputs"] == {"results/a/out.txt": sha256(Path("results/a/out.txt"))}
    assert read_json(receipt(Path("results/a/out.txt"))) == {
        "sha256": sha256(Path("results/a/out.txt")),
        "manifest": "results/manifests/one/a.json",
        "job": found["digest"],
    }
    assert {"torch", "snakemake", "python"} <= found["versions"].keys()
    assert found["host"]["cores"] >= 1 and found["seconds"] >= 0 and found["begin"].endswith("+00:00")
    assert os.uname().nodename not in found["host"].values(), "the machine's name is nobody's business"


def test_the_digest_names_what_was_run_not_when() -> None:
    write("results/in.txt", "read")
    digests = [
        run(a_job("one", ["results/in.txt"], ["results/out.txt"], seed=seed), content)["digest"]
        for seed, content in [(1, "a"), (1, "b"), (2, "a")]
    ]
    assert digests[0] == digests[1] != digests[2]
    write("results/in.txt", "other")
    assert run(a_job("one", ["results/in.txt"], ["results/out.txt"], seed=1))["digest"] != digests[0]


def test_folders_stand_for_their_files_without_hidden_ones() -> None:
    write("results/m/.note", "x")
    write("results/m/b/c.txt", "x")
    with manifested(a_job("one", ["results/m"], ["results/n"])):
        write("results/n/a.txt", "x")
        write("results/n/.b", "x")
    found = read_json(Path("results/manifests/one/a.json"))
    assert list(found["inputs"]) == ["results/m/b/c.txt"] and list(found["outputs"]) == ["results/n/a.txt"]


@pytest.mark.fault(
    "damaged file", "a bit of any file that a job reads flips, or it is cut off", "the job that reads it refuses"
)
@pytest.mark.parametrize("damage", ["flip", "cut"])
def test_what_has_changed_since_it_was_made_is_refused(damage: str, said) -> None:
    run(a_job("one", [], ["results/weights.bin"]))
    content = bytearray(Path("results/weights.bin").read_bytes())
    content[1] ^= 1
    Path("results/weights.bin").write_bytes(content if damage == "flip" else content[:-1])
    with pytest.raises(
        UserError, match=r"weights.bin does not match .*manifests/one/a.json.*delete it and rerun"
    ) as told:
        run(a_job("two", ["results/weights.bin"], ["results/b.txt"]))
    said(str(told.value))
    assert not Path("results/manifests/two/a.json").exists() and not Path("results/b.txt").exists()
    run(a_job("one", [], ["results/weights.bin"]))
    run(a_job("two", ["results/weights.bin"], ["results/b.txt"]))


def test_files_that_no_job_made_are_read_as_they_are() -> None:
    write("resources/x.txt", "x")
    run(a_job("one", ["resources/x.txt"], ["results/a.txt"]))
    write("resources/x.txt", "y")
    run(a_job("one", ["resources/x.txt"], ["results/a.txt"]))


def test_a_job_that_fails_leaves_no_manifest_and_no_receipt() -> None:
    job = a_job("one", [], ["results/a.txt"])
    run(job)
    with pytest.raises(RuntimeError), manifested(job):
        raise RuntimeError
    assert not job.manifest.exists() and not receipt(Path("results/a.txt")).exists()


def test_the_audit_sorts_files() -> None:
    for name in ("kept", "changed", "gone"):
        run(a_job(name, [], [f"results/tables/{name}.csv"]))
    run(a_job("raw", [], ["results/raw/cifar/source.json"]))
    write("results/raw/cifar/files/image.png", "not listed file by file")
    Path("results/tables/gone.csv").unlink()
    write("results/tables/changed.csv", "by hand")
    write("results/tables/orphan.csv", "from elsewhere")
    write("results/README.md", "x")
    write("results/logs/x.log", "x")
    assert audit(Path("results")) == Audit(
        intact=["results/raw/cifar/source.json", "results/tables/kept.csv"],
        changed=["results/tables/changed.csv"],
        gone=["results/tables/gone.csv"],
        orphans=["results/tables/orphan.csv"],
    )


def test_the_audit_is_told_and_fails_where_a_file_has_changed(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    tell(Audit(["a"], [], ["b"], ["c"]))
    lines = ["1 files are what the jobs that made them wrote", "0 files are changed since they were made"]
    lines += ["1 files are made by no job:", "  c", "1 files are gone since they were made:", "  b"]
    assert caplog.messages == lines and capsys.readouterr().err.strip().splitlines() == lines
    with pytest.raises(UserError, match="b is not what its job wrote"):
        tell(Audit([], ["b"], [], []))


def test_a_large_file_is_read_again_only_when_its_size_or_time_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "LARGE", 10)
    path, read = tmp_path / "large.bin", []
    monkeypatch.setattr(files, "sha256", lambda p: read.append(p) or sha256(p))
    path.write_bytes(b"x" * 100)
    digests = []
    for _ in range(2):
        files._digest_of.cache_clear()  # as another process
        digests.append(digest_of(path))
    assert digests == [sha256(path)] * 2 and len(read) == 1
    path.write_bytes(b"y" * 101)
    assert digest_of(path) == sha256(path) != digests[0] and len(read) == 2
