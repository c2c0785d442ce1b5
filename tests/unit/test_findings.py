"""docs/findings.md says what the tables say."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "findings.md").read_text()
BRACKET = r"[+-]?\d+\.\d+ \[[+-]?\d+\.\d+, [+-]?\d+\.\d+\]"
ROWS = [line.split("|") for path in (DOCS / "emoji_full").glob("*.md") for line in path.read_text().splitlines()]
CELLS = [{cell.strip() for cell in row} for row in ROWS]
TITLES = {"corrupt": "emoji-corrupt", "subtype": "emoji-subtype", "flip": "emoji-flip"}


def test_every_value_with_an_interval_stands_in_a_table() -> None:
    said = re.findall(BRACKET, TEXT)
    assert len(said) > 50
    assert [value for value in said if not any(value in cells for cells in CELLS)] == []


def tables() -> list[pytest.param]:
    """Pairs of what must stand in one row of a table: names and one value."""
    found, head = [], []
    for line in TEXT.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|") or line.startswith("|:"):
            continue
        if not re.search(BRACKET, line):
            head = cells
            continue
        for column, cell in zip(head, cells, strict=True):
            if re.fullmatch(BRACKET, cell):
                names = [
                    c for h, c in zip(head, cells, strict=True) if h in ("compared", "with", "on", "method", "tuned")
                ]
                where = {"difference": []}.get(column, [TITLES.get(column, column)])
                found.append(pytest.param({*names, *where, cell}, id=f"{' '.join(names)} {column}"))
    return found


@pytest.mark.parametrize("together", tables())
def test_every_cell_is_of_the_row_it_names(together: set[str]) -> None:
    assert any(together <= cells for cells in CELLS)
