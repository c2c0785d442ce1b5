"""docs/experiments.md: every experiment on published data, what it takes and what it meets. No torch."""

import re
from collections.abc import Iterable
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from surefoot.budget import estimate
from surefoot.config import parse_config
from surefoot.fingerprint import ROOT
from surefoot.flow import Plan
from surefoot.flow_search import Searches
from surefoot.published import MEAN, TARGET, Published, load_published, published_files

INTRO = """\
<!-- Made by `python -m surefoot.docs --write`; edit config/experiments or surefoot/experiments_page.py instead. -->
# Experiments on published data

`snakemake --cores all --configfile config/experiments/<name>.yaml` makes an experiment's tables and figures; with `-n`
it prints the same estimate of GPU hours and disk and lists the jobs, and with `config/scales/smoke.yaml` behind it the
same graph runs in minutes on the embedded CLIP. Each file begins with what it follows and where it differs.

GPU hours are those of a GPU that keeps 50 TFLOP/s (`estimate_tflops`; `benchmarks/paper_scale.py` measures yours), with
nothing trained before; experiments share what they have in common. Disk counts weights, archives, what comes out of
them and prepared splits. Published: how many [published numbers](published.md) the table `comparison` sets beside its
own.

"""


def meets(plan: Plan, rows: Iterable[Published]) -> set[Published]:
    """The comparable published numbers whose quantity a run measures."""
    run, surgical, alphas = plan.config.run, plan.config.surgical, plan.config.alphas
    methods = {*run.methods, *plan.config.search.spaces}
    sets = {task: {s.name for s in plan.tasks[task].eval_sets} for task in run.tasks}

    def measured(row: Published) -> bool:
        if row.comparable == "no" or row.model not in run.models:
            return False
        if row.eval_set == TARGET:
            return row.task in surgical.tasks and row.method in surgical.methods
        tested = set(row.eval_set.removeprefix(MEAN).split("+")) <= sets.get(row.task, set())
        return tested and row.method in methods and row.alpha in (None, *alphas)

    return {row for row in rows if measured(row)}


def plans() -> dict[str, Plan]:
    """Experiment -> plan, of those that need nothing of the user's own."""
    default = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))
    found = {}
    for path in sorted((ROOT / "config/experiments").glob("*.yaml")):
        merged = merge(deepcopy(default), yaml.safe_load(path.read_text(encoding="utf-8")))
        if path.stem != "folder":
            found[path.stem] = Plan(parse_config(merged))
    return found


def merge(config: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A config with changes, as Snakemake merges files: maps merge, everything else is replaced."""
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(config.get(key), dict)
        config[key] = merge(config[key], value) if both else value
    return config


def experiments_page() -> str:
    """The page: a table with a row per experiment."""
    numbers = load_published(published_files())
    heads = ["experiment", "what", "tasks", "models", "methods", "GPU hours", "disk (GB)", "published"]
    lines = [heads, ["---"] * len(heads)]
    for name, plan in plans().items():
        if (budget := estimate(Searches(plan))) is None:
            continue
        config = plan.config
        methods = [
            *config.run.methods,
            *config.search.spaces,
            *(config.surgical.methods if config.surgical.tasks else ()),
        ]
        lines.append(
            [
                f"[{name}](../config/experiments/{name}.yaml)",
                first_sentence(ROOT / f"config/experiments/{name}.yaml"),
                ", ".join(plan.shown_tasks()),
                ", ".join(config.run.models),
                ", ".join(dict.fromkeys(methods)),
                told(budget.hours(config.estimate_tflops)),
                told(budget.gigabytes()),
                str(len(meets(plan, numbers)) or ""),
            ]
        )
    return INTRO + "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def told(values: dict[str, float]) -> str:
    """The sum of some values, as a reader needs it."""
    total = sum(values.values())
    return f"{total:,.0f}" if total >= 10 else f"{total:.1f}"


def first_sentence(path: Path) -> str:
    """The first sentence of the comment that a file begins with."""
    comment = re.match(r"(?:#.*\n)+", path.read_text(encoding="utf-8"))[0]
    text = re.sub(r"\s*\n#\s*", " ", comment.removeprefix("#")).strip()
    return re.split(r"(?<! al)\.\s|\.$", text, maxsplit=1)[0]
