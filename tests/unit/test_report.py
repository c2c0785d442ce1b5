"""The page of the report, from committed tables."""

import json
import re
from pathlib import Path

import pytest

from surefoot.report import write_report

TESTS = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(("experiment", "said"), [("emoji_full", "[-1.5, +0.9]"), ("emoji_autoft", "[-4.8, +1.2]")])
def test_the_report_prints_tables_with_empty_cells(experiment: str, said: str, tmp_path: Path) -> None:
    """Read from CSV, a column of numbers with an empty cell is one of text; few rows have an interval over searches."""
    story = json.loads((TESTS / f"golden/{experiment}/records/story.json").read_text())
    tables = sorted((TESTS.parent / "docs" / experiment).glob("*.csv"))
    write_report(tables, [], [], [], story, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert said in page and not re.search(r"\bnan\b", page, re.IGNORECASE)


def test_cards_are_headings_tables_and_text_in_which_nothing_runs(tmp_path: Path) -> None:
    story = json.loads((TESTS / "golden/emoji_full/records/story.json").read_text())
    card, sheet = tmp_path / "task-emoji-style.md", tmp_path / "contact-emoji-style.png"
    table = "| eval set | images |\n| --- | --- |\n| a | 3 |"
    card.write_text(f"# Task emoji-style\n\n{table}\n\n**Classes (1).** <script>x ![y](http://z)")
    sheet.write_bytes(b"")
    tables = sorted((TESTS.parent / "docs/emoji_full").glob("*.csv"))
    write_report(tables, [], [sheet], [card], story, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    for text in (
        "<h3>Task emoji-style</h3>",
        "<td>3</td>",
        "<strong>Classes (1).</strong> &lt;script&gt;x ![y](http://z)",
    ):
        assert text in page
