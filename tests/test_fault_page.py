"""The page of faults says what the tests saw."""

import pytest

from tests.fault_table import PAGE, failed, key_of, marked, page, rows


def test_the_page_of_faults_is_what_the_tests_saw(request: pytest.FixtureRequest) -> None:
    """Rows of tests that did not run, or were skipped, stay as they are."""
    whole = request.config.args_source.name == "TESTPATHS" and not request.config.option.keyword
    lines = PAGE.read_text(encoding="utf-8").splitlines() if PAGE.is_file() else []
    old = {key_of(line): line for line in lines if line.endswith("` |")}
    gone = old.keys() - marked.keys() if whole else set()
    if request.config.getoption("--write-faults"):
        old = {test: row for test, row in old.items() if test not in gone} | rows()
        PAGE.write_text(page(old), encoding="utf-8")
        return
    assert not gone, "docs/faults.md has rows of tests that do not exist or inject no fault; run pytest --write-faults"
    missing = [row for row in rows().values() if row not in lines]
    assert not missing, "docs/faults.md lacks, or has otherwise (run pytest --write-faults):\n" + "\n".join(missing)
    assert not failed & old.keys(), "tests of the page failed"
