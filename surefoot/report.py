"""The report: one HTML page that needs no other file, written for someone who has not read the papers."""

import base64
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markdown_it import MarkdownIt

from surefoot.files import atomic
from surefoot.layouts import layout

HERE = Path(__file__).resolve().parent
TABLE_TITLES = {
    "main": "Methods on the test sets",
    "shifts": "All shifted test sets of all tasks",
    "effects": "What the runs say about the papers' claims",
    "alpha": "How alpha is chosen",
    "ensembles": "Ensembles in weight space and in output space",
    "metrics": "All metrics at the two ends",
    "comparison": "Beside the published numbers",
    "search": "Learning the objective",
    "learned": "What the searches learned",
    "trials": "The trials of the searches",
    "lengths": "Do short runs tell what full runs find?",
    "without": "Leaving out a term",
    "importances": "Which dimensions decide the scores",
    "surgical": "Adapting to a target with few labels: which layers to tune",
    "targets": "Adapting to each target of a task",
    "choices": "Adapting to a target: what validation chose",
    "online": "Adapting online without labels",
    "methods": "The methods",
    "cost": "What it cost",
}


def write_report(
    tables: list[Path], figures: list[Path], sheets: list[Path], cards: list[Path], story: dict[str, Any], page: Path
) -> None:
    """Fill the page with tables, figures, contact sheets and task cards."""
    frames = {path.stem: _read(path) for path in tables}
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    html = environment.get_template("report.html.j2").render(
        story=story,
        titles=TABLE_TITLES,
        tables={name: _html(layout(name, frame, story)) for name, frame in frames.items()},
        figures={path.stem: _inline(path) for path in figures},
        sheets={path.stem.removeprefix("contact-"): _inline(path) for path in sheets},
        cards={path.stem.removeprefix("task-"): _card(path) for path in cards},
    )
    with atomic(page) as partial:
        partial.write_text(html, encoding="utf-8")


def _read(path: Path) -> pd.DataFrame:
    """A tidy table as it was written: only an empty cell has no value, and in a column of text it is an empty text."""
    frame = pd.read_csv(path, keep_default_na=False, na_values=[""])
    texts = frame.select_dtypes(exclude=["number", "bool"]).columns
    return frame.fillna(dict.fromkeys(texts, ""))


def _html(printed: pd.DataFrame) -> str:
    return printed.fillna("").to_html(index=False, border=0, classes="table")


def _card(path: Path) -> str:
    """A card of Markdown, its heading below the page's; HTML, images and links (names come from configs) stay text."""
    return MarkdownIt("js-default").disable(["image", "link"]).render("##" + path.read_text(encoding="utf-8"))


def _inline(path: Path) -> str:
    kind = "svg+xml" if path.suffix == ".svg" else path.suffix[1:]
    return f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
