"""The table of faults in docs/faults.md, from the tests that inject them.

A test that is marked `fault(kind, fault, outcome)` proves one row. It may keep the message that the user sees with
`said`, a fixture. `pytest --write-faults` writes the page; an ordinary run holds it equal to what the tests saw.
"""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[1] / "docs/faults.md"
KINDS = ("interruption", "disk", "damaged file", "data set", "numbers", "memory and GPUs", "mistake")
HEAD = """# What happens when something goes wrong

Each row is a test of the suite (`make test`), which injects the fault and checks the outcome; the tests write this page
(`pytest --write-faults`). What a message leaves open (paths of the test's own folder, process ids) is shown as `…`.

"""

marked: dict[str, tuple[str, str, str]] = {}  # test -> kind, fault, outcome
passed: dict[str, str] = {}  # test -> message
failed: set[str] = set()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-faults", action="store_true", help="write docs/faults.md from what the tests saw")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "fault(kind, fault, outcome): the test injects a fault; a row of docs/faults.md")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Notes the marked tests, and moves the test of the page behind them."""
    for item in items:
        if mark := item.get_closest_marker("fault"):
            kind, fault, outcome = mark.args
            assert kind in KINDS, f"{item.nodeid}: unknown kind of fault {kind!r}"
            marked[name(item.nodeid)] = (kind, fault, outcome)
    items.sort(key=lambda item: "test_fault_page" in item.nodeid)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Notes which marked tests passed in all their parameters, and the last message that one kept."""
    test = name(report.nodeid)
    if report.when == "call" and report.passed and test not in failed:
        passed[test] = dict(report.user_properties).get("said") or passed.get(test, "")
    elif not report.passed:
        failed.add(test)
        passed.pop(test, None)


def name(nodeid: str) -> str:
    """tests/unit/test_x.py::test_y[1] -> unit/test_x.py: test_y"""
    path, _, test = nodeid.partition("[")[0].partition("::")
    return f"{path.removeprefix('tests/')}: {test}"


@pytest.fixture
def said(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Keeps what the user is told: the first message of the library or of Snakemake in a text, or the text itself."""

    def keep(text: str) -> None:
        found = re.search(r"^surefoot: (.+)$", text, re.MULTILINE)
        text = (found[1] if found else text).strip()
        text = re.sub(r"/\S*?/(?=(?:results|resources)/)", "…/", text)
        text = re.sub(r"/tmp/\S+?(?=[\s:;,]|$)", "…", text)
        record_property("said", re.sub(r"\b\d{3,}\b(?! %)", "…", text))

    return keep


def key_of(row: str) -> str:
    """The test that a row names."""
    return row.rsplit("`", 2)[1]


def rows() -> dict[str, str]:
    """Test -> row, of marked tests that passed."""
    found = {}
    for test, (kind, fault, outcome) in marked.items():
        if test in passed:
            message = passed[test].replace("|", "\\|")
            cells = (kind, fault, outcome, f"`{message}`" if message else "", f"`{test}`")
            found[test] = "| " + " | ".join(cells) + " |"
    return found


def page(found: dict[str, str]) -> str:
    """The page of some rows, by kind and test."""
    ordered = sorted(found.items(), key=lambda item: (KINDS.index(item[1].split(" | ")[0][2:]), item[0]))
    head = "| kind | fault | outcome | what it says | test |\n| --- | --- | --- | --- | --- |\n"
    return HEAD + head + "\n".join(row for _, row in ordered) + "\n"
