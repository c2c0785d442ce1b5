"""docs/experiments.md: every experiment on published data, what it takes and what it meets. No torch."""

import re
from pathlib import Path
from typing import Any

import yaml

from surefoot.budget import estimate, told
from surefoot.config import parse_config
from surefoot.fingerprint import ROOT
from surefoot.flow import Plan
from surefoot.flow_search import Searches
from surefoot.published import load_published, published_files

INTRO = """\
<!-- Made by `python -m surefoot.docs --write`; edit config/experiments or surefoot/experiments_page.py instead. -->
# Experiments on published data

`snakemake --cores all --configfile config/experiments/<name>.yaml` makes an experiment's tables and figures; with `-n`
it prints the same estimate of GPU hours and disk and lists the jobs, and with `config/scales/smoke.yaml` behind it the
same graph runs in minutes on the embedded CLIP. Each file begins with what it follows and where it differs.

GPU hours are those of a GPU that keeps 50 TFLOP/s (`estimate_tflops`; `benchmarks/paper_scale.py` measures yours), with
nothing trained before; experiments share what they have in common. Disk counts weights, archives, what comes out of
them and prepared splits; *and more*: some sizes are not known here, `-n` names them. Published: how many
[published numbers](published.md) the table `comparison` sets beside its own.

"""


def plan_of(experiment: str, *others: str) -> Plan:
    """The plan of an experiment of this repository, with other files of config/ behind it."""
    merged: dict[str, Any] = {}
    for name in ("config", f"experiments/{experiment}", *others):
        merge(merged, yaml.safe_load((ROOT / f"config/{name}.yaml").read_text(encoding="utf-8")))
    return Plan(parse_config(merged))


def plans() -> dict[str, Plan]:
    """Experiment -> plan, of those that need nothing of the user's own."""
    names = sorted(path.stem for path in (ROOT / "config/experiments").glob("*.yaml"))
    return {name: plan_of(name) for name in names if name != "folder"}


def merge(config: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A config with changes, as Snakemake merges files: maps merge, everything else is replaced."""
    for key, value in changes.items():
        if isinstance(value, dict):  # copied, because YAML's aliases are one object
            known = config.get(key)
            config[key] = merge(known if isinstance(known, dict) else {}, value)
        else:
            config[key] = value
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
        methods = [*config.run.methods, *config.search.spaces, *config.surgical.arms]
        lines.append(
            [
                f"[{name}](../config/experiments/{name}.yaml)",
                first_sentence(ROOT / f"config/experiments/{name}.yaml"),
                ", ".join(plan.shown_tasks()),
                ", ".join(config.run.models),
                ", ".join(dict.fromkeys(methods)),
                told(sum(budget.hours(config.estimate_tflops).values())) + (" and more" if budget.uncounted else ""),
                told(sum(budget.gigabytes().values())) + (" and more" if budget.unknown else ""),
                str(len(plan.meets(numbers)) or ""),
            ]
        )
    return INTRO + "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def first_sentence(path: Path) -> str:
    """The first sentence of the comment that a file begins with."""
    comment = re.match(r"(?:#.*\n)+", path.read_text(encoding="utf-8"))[0]
    text = re.sub(r"\s*\n#\s*", " ", comment.removeprefix("#")).strip()
    return re.split(r"(?<! al)\.\s|\.$", text, maxsplit=1)[0]
