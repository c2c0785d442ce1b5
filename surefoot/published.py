"""The papers' numbers (config/published/*.csv), and our numbers beside them.

No torch, numpy or pandas at import: the Snakefile imports this module.
"""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from surefoot.files import UserError
from surefoot.fingerprint import ROOT

if TYPE_CHECKING:
    import pandas as pd

FOLDER = ROOT / "config" / "published"
CHOSEN = (" + WiSE (ood_val)", " + WiSE (id_val)")  # how labels of lines at their chosen alpha end in the main table
MEAN = "mean:"  # an eval set that is the plain mean of others: mean:a+r+v2, names in order
TARGET = "target_test"  # the test images of an adaptation, which the table of surgical fine-tuning names by the task
STREAM = "target_stream"  # the same as a stream, for an online adaptation, which the table of these names by the task

ENSEMBLES = ("none", "wise", "soup", "unknown")
SPREADS = ("", "std", "ci90", "as printed")
COMPARABLE = ("yes", "roughly", "no")
VERIFICATIONS = ("verified", "digitised", "one source", "not verified")
VERDICTS = (
    "inside our interval",
    "within tolerance",
    "outside",
    "other protocol",
    "not verified",
    "no published number",
)


class Published(NamedTuple):
    """One published number; config/published/README.md says what each column means."""

    paper: str
    table: str
    task: str
    model: str
    method: str
    ensemble: str
    alpha: float | None
    eval_set: str
    metric: str
    value: float | None
    std: float | None
    spread: str
    n_seeds: int | None
    comparable: str
    verification: str
    words: str
    note: str
    source: str


COLUMNS = Published._fields
CHOICES = {"ensemble": ENSEMBLES, "spread": SPREADS, "comparable": COMPARABLE, "verification": VERIFICATIONS}
# What tells two numbers of one paper apart.
KEY = ("paper", "table", "task", "model", "method", "ensemble", "alpha", "eval_set", "metric")


def published_files(folder: Path = FOLDER) -> list[Path]:
    """The files of published numbers, in order."""
    return sorted(folder.glob("*.csv"))


def load_published(files: Iterable[Path]) -> list[Published]:
    """Read published numbers. Raises UserError, which names file and line, for a number that breaks the schema."""
    rows: list[Published] = []
    seen: dict[tuple, str] = {}
    for path in files:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, strict=True)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise UserError(f"{path}: the columns must be {','.join(COLUMNS)}")
            for number, raw in enumerate(reader, start=2):
                where = f"{path}, row {number}"
                row = _parse(raw, where)
                key = tuple(getattr(row, name) for name in KEY)
                if key in seen:
                    raise UserError(f"{where}: the same number as in {seen[key]}; keep one of the two")
                seen[key] = where
                rows.append(row)
    return rows


def _parse(raw: dict[str, Any], where: str) -> Published:
    if None in raw or None in raw.values():
        raise UserError(f"{where}: not {len(COLUMNS)} cells; put cells with commas in quotes")
    for name, known in CHOICES.items():
        if raw[name] not in known:
            raise UserError(f"{where}: {name} is {raw[name]!r}, not one of {', '.join(filter(None, known))}")
    numbers = {name: _number(raw, name, where) for name in ("alpha", "value", "std", "n_seeds")}
    seeds = numbers["n_seeds"]
    row = Published(**raw | numbers | {"n_seeds": None if seeds is None else int(seeds)})
    wrong = []
    wrong += [f"{name} is empty" for name in ("paper", "table", "method", "verification", "source") if not raw[name]]
    wrong += ["alpha is not between 0 and 1"] if row.alpha is not None and not 0 <= row.alpha <= 1 else []
    wrong += ["ensemble none needs alpha 0 or 1"] if row.ensemble == "none" and row.alpha not in (0, 1) else []
    wrong += ["a std and its spread go together"] if (row.std is None) != (row.spread == "") else []
    if row.comparable != "no":
        wrong += [f"{name} is empty" for name in ("task", "model", "eval_set", "metric") if not raw[name]]
        wrong += ["value is empty"] if row.value is None else []
        wrong += ["only none and wise are comparable"] if row.ensemble not in ("none", "wise") else []
    wrong += ["note must say why"] if row.comparable != "yes" and not row.note else []
    parts = row.eval_set.removeprefix(MEAN).split("+")
    wrong += (
        ["the parts of a mean must be in order"] if row.eval_set.startswith(MEAN) and parts != sorted(parts) else []
    )
    if wrong:
        raise UserError(f"{where}: {'; '.join(wrong)}")
    return row


def _number(raw: dict[str, str], name: str, where: str) -> float | None:
    try:
        return float(raw[name]) if raw[name] else None
    except ValueError:
        raise UserError(f"{where}: {name} is {raw[name]!r}, not a number") from None


def verdict(value: float, low: float, high: float, published: Published | None, rule: dict[str, float]) -> str:
    """How our `value` with its interval stands to a published one: the first of these that holds.

    "no published number"; "not verified": theirs is not; "other protocol": theirs is only roughly comparable;
    "inside our interval"; "within tolerance": at most rule["tolerance"] points (NLL: hundredths of a nat), or
    rule["deviations"] times their standard deviation, away; "outside".
    """
    if published is None or published.value is None:
        return "no published number"
    if published.verification == "not verified":
        return "not verified"
    if published.comparable == "roughly":
        return "other protocol"
    if low <= published.value <= high:  # false where there is no interval (NaN)
        return "inside our interval"
    # What is printed as ± is taken for a standard deviation only where the source says that it is one.
    deviation = published.std if published.std is not None and published.spread == "std" else 0.0
    point = 0.01 if published.metric == "nll" else 1.0
    allowed = max(rule["tolerance"] * point, rule["deviations"] * deviation)
    # Published numbers have few decimals; without the slack 82.3 - 81.3 would be more than 1.
    return "within tolerance" if abs(value - published.value) <= allowed + 1e-9 else "outside"


def compare(
    ours: "pd.DataFrame", further: "pd.DataFrame", published: Iterable[Published], rule: dict[str, float]
) -> "pd.DataFrame":
    """Our main table, and what else was measured, with every published number of the same quantity.

    The same are model, method, alpha, test set and metric. A plain method meets theirs at alpha 1, a fixed alpha the
    same alpha, the chosen alpha those of which only is known that they are ensembled. Our mean over other test sets
    than all shifted ones has no interval.

    Args:
        ours: rows of `tables.main_table`: task, model, method, label, alpha, eval_set, role, metric, value, low, high,
            seeds. Those of a (task, model) of which nothing is published are left out.
        further: from `metric_rows`, in the same form; only what has a partner, and is not in `ours`, is shown.
        published: from `load_published`.
        rule: tolerance (points) and deviations, as in `verdict`.

    Returns: a row per pair, and one for each of `ours` without partner (verdict "no published number").
    """
    import pandas as pd

    by_key: dict[tuple, list[Published]] = {}
    means: dict[tuple[str, str], list[str]] = {}
    for row in published:
        if row.comparable == "no":
            continue
        key = (row.task, row.model, row.method, row.ensemble, row.alpha, row.eval_set, row.metric)
        by_key.setdefault(key, []).append(row)
        sets = means.setdefault((row.task, row.model), [])
        if row.eval_set.startswith(MEAN) and row.eval_set not in sets:
            sets.append(row.eval_set)

    def pairs(table: "pd.DataFrame") -> list[dict[str, Any]]:
        found = []
        for (task, model, _, label), rows in table.groupby(["task", "model", "method", "label"], sort=False):
            if (task, model) not in means:
                continue
            for name, cell in _cells(rows, means[task, model]):
                ensemble, alpha = _ensemble(label, cell["alpha"])
                key = (task, model, cell["method"], ensemble, alpha, name, cell["metric"])
                found += [_pair(cell, theirs, rule) for theirs in by_key.get(key, [None])]
        return found

    found = pairs(ours)
    quantity = ("task", "model", "method", "alpha", "eval_set", "metric")
    known = {tuple(row[name] for name in quantity) for row in found if not row["label"].endswith(CHOSEN)}
    for _, rows in further.groupby("metric", sort=False):
        others = [row for row in pairs(rows) if "published" in row]
        found += [row for row in others if tuple(row[name] for name in quantity) not in known]
    # A column in which nobody prints a number would hold None, not NaN.
    return pd.DataFrame(found, columns=PAIR).astype(dict.fromkeys(("published", "std", "n_seeds", "difference"), float))


PAIR = [
    *("task", "model", "method", "label", "alpha", "eval_set", "metric", "value", "low", "high", "seeds"),
    *("published", "std", "n_seeds", "difference", "verdict", "verification", "paper", "table", "note"),
]


def _cells(rows: "pd.DataFrame", means: list[str]) -> list[tuple[str, dict[str, Any]]]:
    """Cells of one of our models by their published names, with further means that a paper prints."""
    sets = rows[~rows["eval_set"].isin(["average", "effective"])].set_index("eval_set")
    ood = sets[sets["role"] == "ood_test"]
    # A mean over sets with metrics of their own, such as a worst group, is nobody's published mean.
    shifted = MEAN + "+".join(sorted(ood.index)) if ood["metric"].nunique() == 1 else "average"
    cells = [
        (shifted if cell["eval_set"] == "average" else cell["eval_set"], cell)
        for cell in rows.to_dict("records")
        if cell["eval_set"] != "effective"
    ]
    for name in means:
        parts = name.removeprefix(MEAN).split("+")
        if name not in dict(cells) and set(parts) <= set(sets.index) and sets["metric"][parts].nunique() == 1:
            mean = {"eval_set": name, "value": sets["value"][parts].mean(), "low": float("nan"), "high": float("nan")}
            cells.append((name, cells[0][1] | mean | {"metric": sets["metric"][parts[0]]}))
    return cells


def _ensemble(label: str, alpha: float) -> tuple[str, float | None]:
    """How a published number of the same model would be recorded: columns ensemble and alpha."""
    if label.endswith(CHOSEN):
        return "wise", None
    return ("none" if alpha in (0, 1) else "wise"), float(alpha)


def _pair(cell: dict[str, Any], theirs: Published | None, rule: dict[str, float]) -> dict[str, Any]:
    row = {name: cell[name] for name in PAIR if name in cell}
    row["verdict"] = verdict(cell["value"], cell["low"], cell["high"], theirs, rule)
    if theirs is None:
        return row
    return row | {
        "published": theirs.value,
        "std": theirs.std,
        "n_seeds": theirs.n_seeds,
        "difference": cell["value"] - theirs.value,
        **{name: getattr(theirs, name) for name in ("verification", "paper", "table", "note")},
    }


def metric_rows(metrics: "pd.DataFrame", labels: dict[str, str]) -> "pd.DataFrame":
    """The table of metrics in the form of the main table: every metric at every alpha, without intervals.

    Alpha 0 is the zero-shot model whatever the method, so it is kept for zero-shot alone, which has no other.
    """
    rows = metrics[metrics["space"] == "weights"]
    last = rows.groupby(["task", "model", "method"])["alpha"].transform("max")
    rows = rows[(rows["alpha"] > 0) | (rows["alpha"] == last)]
    between = rows["alpha"].map(lambda alpha: f", alpha {alpha:g}" if 0 < alpha < 1 else "")
    return rows.assign(label=rows["method"].map(labels) + between, low=float("nan"), high=float("nan"))


def surgical_rows(surgical: "pd.DataFrame", metrics: dict[str, str]) -> "pd.DataFrame":
    """The table of surgical fine-tuning in the form of the main table; `metrics`: surgical task -> main metric."""
    rows = surgical[surgical["eval_set"].isin(list(metrics))]
    return _adapted(rows, metrics, ", " + rows["shots"].astype(str) + " images a class", TARGET)


def online_rows(online: "pd.DataFrame", metrics: dict[str, str]) -> "pd.DataFrame":
    """The table of online adaptation in the form of the main table; `metrics`: surgical task -> main metric."""
    return _adapted(online, metrics, ", online", STREAM)


def _adapted(rows: "pd.DataFrame", metrics: dict[str, str], how: Any, eval_set: str) -> "pd.DataFrame":
    """Rows whose eval set is a surgical task, as rows of that task's `eval_set`; `how` ends the labels."""
    named = {"task": rows["eval_set"], "metric": rows["eval_set"].map(metrics), "label": rows["label"] + how}
    return rows.assign(**named, eval_set=eval_set, role="ood_test", alpha=1.0)


def printed(table: "pd.DataFrame") -> "pd.DataFrame":
    """The printed comparison: what has a published number."""
    rows = table[table["verdict"] != "no published number"]

    def decimals(row: "pd.Series") -> int:
        return 2 if row["metric"] == "nll" else 1

    def ours(row: "pd.Series") -> str:
        ends = [f"{row[name]:.{decimals(row)}f}" for name in ("value", "low", "high")]
        return f"{ends[0]} [{ends[1]}, {ends[2]}]" if row["low"] == row["low"] else ends[0]

    def theirs(row: "pd.Series") -> str:
        return f"{row['published']:g}" + (f" ± {row['std']:g}" if row["std"] == row["std"] else "")

    cells = {
        "test set": [published_name(name) for name in rows["eval_set"]],
        "ours": [ours(row) for _, row in rows.iterrows()],
        "published": [theirs(row) for _, row in rows.iterrows()],
        "difference": [f"{row['difference']:+.{decimals(row)}f}" for _, row in rows.iterrows()],
    }
    rows = rows.assign(**cells)
    columns = ["task", "model", "label", "test set", "metric", "ours", "published", "difference", "verdict"]
    return rows[[*columns, "verification", "paper", "table", "note"]].reset_index(drop=True)


def published_name(name: str) -> str:
    """An eval set in words: a mean with its parts."""
    return f"mean of {name.removeprefix(MEAN).replace('+', ', ')}" if name.startswith(MEAN) else name


def published_markdown(rows: list[Published]) -> str:
    """Every paper's tables as Markdown: a line per method and alpha, a column per test set."""
    tables: dict[str, dict[tuple, list[Published]]] = {}
    for row in rows:
        block = (row.table, row.task, row.model, row.metric)
        tables.setdefault(row.paper, {}).setdefault(block, []).append(row)
    return "\n".join(
        [
            f"## {paper}\n\n" + "\n".join(_block(block, cells) for block, cells in blocks.items())
            for paper, blocks in sorted(tables.items(), key=lambda item: item[0].lower())
        ]
    )


MARKS = {"verified": "", "digitised": "~", "one source": "", "not verified": "?"}


def _block(block: tuple[str, str, str, str], rows: list[Published]) -> str:
    table, task, model, metric = block
    columns = list(dict.fromkeys(row.eval_set for row in rows))
    value, std = _decimals([row.value for row in rows]), _decimals([row.std for row in rows])
    lines: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        spread = "" if row.std is None else f" ± {row.std:.{std}f}"
        star = "*" if row.comparable == "roughly" else ""
        # A range is in the note, as "value: 4 to 6; …".
        number = row.note.partition(";")[0] if row.value is None else f"{row.value:.{value}f}{spread}{star}"
        lines.setdefault((row.method, _alpha(row)), {})[row.eval_set] = MARKS[row.verification] + number
    heads = ["method", "alpha", *map(published_name, columns)]
    body = [[*line, *(cells.get(name, "") for name in columns)] for line, cells in lines.items()]
    title = ", ".join(filter(None, [table, task, model, metric]))
    sources = "; ".join(dict.fromkeys(row.verification for row in rows))
    text = "".join(
        f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in [heads, ["---"] * len(heads), *body]
    )
    return f"**{title}** ({sources})\n\n{text}"


def _decimals(numbers: list[float | None]) -> int:
    """Most decimals of any of the numbers: what their table was printed with."""
    return max((len(f"{number:g}".partition(".")[2]) for number in numbers if number is not None), default=0)


def _alpha(row: Published) -> str:
    if row.ensemble == "none":
        return ""
    if row.ensemble != "wise":
        return {"soup": "soup"}.get(row.ensemble, "not stated")
    return "not known" if row.alpha is None else f"{row.alpha:g}"
