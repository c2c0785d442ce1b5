"""Tables as pure functions of records. Every table is a tidy frame; layouts.py says how it is printed."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from surefoot.adaptations import (
    choices_table,
    factors_table,
    load_adaptations,
    online_table,
    surgical_effects,
    surgical_table,
    targets_table,
)
from surefoot.files import read_json
from surefoot.intervals import interval
from surefoot.meets import shared
from surefoot.published import compare, load_published, metric_rows, online_rows, surgical_rows
from surefoot.results import AVERAGE, Results, System, load_results
from surefoot.searched import (
    costs_table,
    importances_table,
    learned_table,
    lengths_table,
    over_searches,
    search_effects,
    search_table,
    trials_table,
    without_table,
)

RULES = {
    "id_val": "best on id_val",
    "ood_val": "best on ood_val",
    "oracle": "oracle (best on test)",
}


def main_systems(results: Results) -> list[System]:
    """Zero-shot, and every trained method alone and with WiSE-FT at the fixed and at the chosen alpha."""
    fixed, systems = results.story["fixed_alpha"], []
    for method in results.methods:
        label = results.story["labels"][method]
        if not results.trained(method):
            systems.append(System(method, label, (results.constant(method, 0.0),)))
            continue
        systems += [
            System(method, label, (results.constant(method, 1.0),)),
            System(method, f"{label} + WiSE ({fixed:g})", (results.constant(method, fixed),)),
            System(method, f"{label} + WiSE ({results.chooser})", (results.chosen(method, results.chooser),)),
        ]
    return systems


def main_table(results: Results) -> pd.DataFrame:
    """Method x test set, with the average under shift and, where there is a line, effective robustness."""
    rows = []
    for system in main_systems(results):
        rows += [results.estimate(system, column) for column in results.columns]
        if results.has_line:
            rows.append(results.effective_robustness(system))
    return pd.DataFrame(rows)


def shifts_table(cells: list[Results]) -> pd.DataFrame:
    """Method x every shifted test set of all tasks, and their plain mean (AutoFT: nine natural shifts).

    Each set has its own main metric. Of methods that were run on every task; where tasks choose alpha on different
    validation sets, the label names none. Tasks are resampled by themselves.
    """
    rows = []
    for model in dict.fromkeys(cell.model for cell in cells):
        here = [cell for cell in cells if cell.model == model and cell.ood_tests]
        every = [_main_systems_of(cell) for cell in here]
        for key in (key for key in every[0] if all(key in known for known in every)):
            systems, draws = [known[key] for known in every], []
            same = len({system.label for system in systems}) == 1
            named = {"label": systems[0].label if same else f"{here[0].story['labels'][key[0]]} + WiSE (chosen)"}
            for cell, system in zip(here, systems, strict=True):
                rows += [cell.estimate(system, name) | named for name in cell.ood_tests]
                draws += [cell.draws(system, name) for name in cell.ood_tests]
            value, low, high = interval(np.mean(draws, axis=0), here[0].level)
            mean = {"task": "", "eval_set": AVERAGE, "metric": "", "value": value, "low": low, "high": high}
            rows.append(rows[-1] | mean | {"alpha": float("nan")})
    return pd.DataFrame(rows)


def _main_systems_of(results: Results) -> dict[tuple[str, int], System]:
    """The systems of the main table by method and place: alone, at the fixed alpha, at the chosen one."""
    found: dict[tuple[str, int], System] = {}
    for system in main_systems(results):
        found[system.method, sum(method == system.method for method, _ in found)] = system
    return found


def alpha_systems(results: Results, method: str) -> dict[str, System]:
    """Rule -> the model that it picks on a method's line."""
    label, fixed = results.story["labels"][method], results.story["fixed_alpha"]
    alphas = {
        "alpha 0 (zero-shot)": results.constant(method, 0.0),
        "alpha 1 (fine-tuned)": results.constant(method, 1.0),
        f"fixed {fixed:g}": results.constant(method, fixed),
        RULES["id_val"]: results.chosen(method, "id_val"),
        **({RULES["ood_val"]: results.chosen(method, "ood_val")} if results.chooser == "ood_val" else {}),
        RULES["oracle"]: results.oracle(method),
    }
    ends = {"alpha 0 (zero-shot)": "Zero-shot", "alpha 1 (fine-tuned)": label}
    return {
        rule: System(method, ends.get(rule, f"{label} + WiSE ({rule})"), (per_seed,))
        for rule, per_seed in alphas.items()
    }


def alpha_table(results: Results) -> pd.DataFrame:
    """How alpha is chosen: each rule on the test sets, and the gap of its average under shift to the oracle's.

    Without a shifted test set: the gap in distribution.
    """
    rows, last = [], results.summary[-1]
    for method in filter(results.trained, results.methods):
        systems = alpha_systems(results, method)
        oracle = systems[RULES["oracle"]]
        for rule, system in systems.items():
            gap, low, high = results.difference(system, oracle, last)
            for column in results.summary:
                rows.append(results.estimate(system, column) | {"rule": rule})
            rows.append(
                results.estimate(system, last)
                | {"rule": rule, "eval_set": "gap to oracle", "value": gap, "low": low, "high": high}
            )
    return pd.DataFrame(rows)


def ensemble_systems(results: Results) -> list[System]:
    """Weight-space and output-space ensembles with the zero-shot model, and of two fine-tuned seeds."""
    fixed, systems = results.story["fixed_alpha"], []
    for method in filter(results.trained, results.methods):
        label = results.story["labels"][method]
        for space, name in (("weights", "weight-space"), ("outputs", "output-space")):
            systems += [
                System(method, f"{label} and zero-shot, {name} {fixed:g}", (results.constant(method, fixed),), space),
                System(
                    method,
                    f"{label} and zero-shot, {name} ({results.chooser})",
                    (results.chosen(method, results.chooser, space),),
                    space,
                ),
            ]
    for pair in results.pairs:
        label = results.story["labels"][pair]
        half = results.constant(pair, 0.5)
        ends = (results.constant(pair, 0.0), results.constant(pair, 1.0))
        systems += [
            System(pair, f"{label}, each alone (mean)", ends),
            System(pair, f"{label}, weight-space 0.5", (half,)),
            System(pair, f"{label}, output-space 0.5", (half,), "outputs"),
        ]
    return systems


def ensembles_table(results: Results) -> pd.DataFrame:
    """Ensembles on the test sets."""
    systems = ensemble_systems(results)
    return pd.DataFrame(results.estimate(system, column) for system in systems for column in results.columns)


def effects_table(results: Results) -> pd.DataFrame:
    """What must be reported: paired differences with intervals over test images and, of searched methods, over
    searches, and whether they are clear of zero."""
    rows = []

    def claim(effect: str, expected: str, system: System, other: System, eval_set: str, found: tuple = ()) -> None:
        value, low, high = found or results.difference(system, other, eval_set)
        searches = over_searches(results, system, other, eval_set) if system.method in results.searched else None
        lows, highs = zip(*filter(None, [(low, high), searches]), strict=True)
        rows.append(
            results.estimate(system, eval_set)
            | {"effect": effect, "against": other.label, "expected": expected}
            | {"value": value, "low": low, "high": high}
            | dict(zip(("searches_low", "searches_high"), searches or (math.nan, math.nan), strict=True))
            | {"verdict": "higher" if min(lows) > 0 else "lower" if max(highs) < 0 else "not clear"}
        )

    reference = results.story["reference"]
    rules = alpha_systems(results, reference)
    zero_shot, tuned = rules["alpha 0 (zero-shot)"], rules["alpha 1 (fine-tuned)"]
    claim("1 fine-tuning, in distribution", "higher", tuned, zero_shot, results.id_test)
    for name in results.columns[1:]:
        claim("1 fine-tuning, under shift", "", tuned, zero_shot, name)
    if results.ood_tests:
        less = results.gain_under_shift(tuned, zero_shot)
        claim("1 gain under shift minus gain in distribution", "lower", tuned, zero_shot, AVERAGE, less)
    for rule in (f"fixed {results.story['fixed_alpha']:g}", RULES[results.chooser]):
        for other in (zero_shot, tuned):
            for name in results.summary:
                claim(f"2 WiSE-FT, alpha {rule}", "higher", rules[rule], other, name)
    for method in filter(results.trained, results.methods):
        if method != reference and method not in results.searched:
            system = System(method, results.story["labels"][method], (results.constant(method, 1.0),))
            for name in results.summary:
                claim(f"3 method against {tuned.label}", "", system, tuned, name)
    searched = search_effects(results)
    autoft = next((system.method for kind, system, _ in searched if kind == "learned objective"), "")
    for kind, system, other in searched:
        papers = kind == "learned objective" and system.method == autoft
        for name in results.summary:
            expected = "higher" if name == AVERAGE and papers else ""
            claim(f"4 {kind} against {other.label}", expected, system, other, name)
    for pair in results.pairs:
        alone, weights, outputs = [s for s in ensemble_systems(results) if s.method == pair]
        for system in (weights, outputs):
            expected = "does not help under shift" if results.ood_tests else ""
            claim("ensemble of two seeds", expected, system, alone, results.summary[-1])
    return pd.DataFrame(rows)


def metrics_table(results: Results) -> pd.DataFrame:
    """Every metric at every alpha, as mean over seeds; AVERAGE rows over the OOD test sets."""
    keys = ["task", "model", "method", "space", "alpha", "metric"]
    # What was searched on some folds only would not be comparable with the rest.
    shown = results.metrics["method"].isin([*results.methods, *results.pairs, *results.baselines])
    per_set = (
        results.metrics[shown]
        .groupby([*keys, "eval_set", "role"], as_index=False, sort=False)
        .agg(value=("value", "mean"), n=("n", "sum"), seeds=("seed", "nunique"))
    )
    shifted = per_set[per_set["role"] == "ood_test"]
    if shifted.empty:
        return per_set
    average = shifted.groupby(keys, as_index=False, sort=False).agg(
        value=("value", "mean"), n=("n", "sum"), seeds=("seeds", "first")
    )
    return pd.concat([per_set, average.assign(eval_set=AVERAGE, role="ood_test")], ignore_index=True)


def cost_table(
    meters: list[Path], adaptations: list[Path], searches: list[Path], inference: list[Path], reference: str
) -> pd.DataFrame:
    """What training runs, adaptations and searches cost, and seconds per batch of one, a merged and two models.

    Runs and searches are means over seeds, an adaptation all that one job tries; `relative_to_reference` is its
    seconds (of the processor on a CPU, where jobs run side by side) over those of a run of the reference method on the
    same task and device. Times differ between runs.
    """
    jobs = [(path, path.parts[-5:-2], "training run") for path in meters]
    jobs += [(path, path.parts[-4:-1], "adaptation, all seeds and rates") for path in adaptations]
    jobs += [(path, path.parts[-5:-2], "search, all trials") for path in searches]
    rows = []
    for path, (task, model, method), what in jobs:
        measured = read_json(path)
        if not measured.get("resumed"):  # a resumed job measured only its last part; searches sum up their trials
            rows.append({"task": task, "model": model, "method": method, "what": what, **measured})
    table = pd.DataFrame(rows)
    if len(table):
        numbers = ["seconds", "cpu_seconds", "images_per_second", "peak_memory_mb"]
        keys = ["task", "model", "method", "what", "device"]
        table = table.groupby(keys, as_index=False, sort=False)[numbers].mean()
        where = ["task", "model", "device"]
        runs = table[(table["method"] == reference) & (table["what"] == "training run")]
        spent = table["cpu_seconds"].where(table["device"].str.startswith("CPU"), table["seconds"])
        one = table[where].merge(runs[where].assign(spent=spent), "left", where)["spent"]
        table = table.assign(relative_to_reference=spent / one).round(2)
    for path in inference:
        task, model, method = path.parts[-4:-1]
        measured = read_json(path)
        for name, seconds in measured["seconds"].items():
            relative = seconds / measured["seconds"]["fine-tuned"]
            row = {
                "task": task,
                "model": model,
                "method": method,
                "what": f"inference, {name}",
                "seconds": round(seconds, 5),
            }
            row |= {
                "images_per_second": round(measured["images"] / seconds, 1),
                "relative_to_one_model": round(relative, 3),
            }
            table = pd.concat([table, pd.DataFrame([row])], ignore_index=True)
    return table


def tuning_table(trials: pd.DataFrame, eval_set: str) -> pd.DataFrame:
    """Every setting of every method: mean over seeds on both validation sets, and which one `eval_set` chooses.

    Of equal settings the first in the grid is chosen.
    """
    keys = ["task", "model", "method", "point", "setting"]
    wide = trials.pivot_table(index=keys, columns="eval_set", values="value", sort=False).reset_index()
    best = wide.groupby(["task", "model", "method"], sort=False)[eval_set].transform("max")
    first = wide[wide[eval_set] == best].drop_duplicates(["task", "model", "method"]).index
    return wide.assign(seeds=trials["seed"].nunique(), chosen=wide.index.isin(first)).rename_axis(columns=None)


KINDS = (
    *("metrics", "predictions", "meters", "adapt_meters", "inference", "trials", "adapted", "factors", "online"),
    *("objectives", "searches", "search_meters", "finals", "lengths", "without", "published"),
)


def build_tables(files: dict[str, list[Path]], story: dict[str, Any]) -> dict[str, pd.DataFrame]:
    """All tables of a run by name.

    Args:
        files: records by kind: metrics and predictions of evaluations; meters, adapt_meters and inference (costs);
            trials, adapted (predictions) and factors of adaptations; online (predictions of online adaptations);
            objectives, searches (trials), search_meters, finals (records of final runs), lengths and without (analyses)
            of searches; published (the papers' numbers).
        story: what the tables read of the config.
    """
    cells = load_results(files["metrics"], files["predictions"], story)
    builders = {
        "main": main_table,
        "alpha": alpha_table,
        "ensembles": ensembles_table,
        "effects": effects_table,
        "metrics": metrics_table,
    }
    tables = {name: pd.concat([build(cell) for cell in cells], ignore_index=True) for name, build in builders.items()}
    tables |= {
        "cost": cost_table(
            meters=files["meters"],
            adaptations=files["adapt_meters"],
            searches=files["search_meters"],
            inference=files["inference"],
            reference=story["reference"],
        ),
        "methods": pd.DataFrame(story["methods"]),
    }
    if len({cell.task for cell in cells if cell.ood_tests}) > 1:
        tables["shifts"] = shifts_table(cells)
    if files["trials"]:
        found = load_adaptations(files["trials"], files["adapted"], story)
        tables |= {"surgical": surgical_table(found), "choices": choices_table(found)}
        tables["factors"] = factors_table(files["factors"])
        if len(targets := targets_table(found)):
            tables["targets"] = targets
        tables["effects"] = pd.concat([tables["effects"], surgical_effects(found)], ignore_index=True)
    if files["objectives"]:
        costs = costs_table(files["objectives"], files["search_meters"], files["finals"])
        tables["search"] = pd.concat([search_table(cell, costs) for cell in cells], ignore_index=True)
        tables |= {"trials": trials_table(files["searches"]), "learned": learned_table(files["objectives"])}
        analyses = {"lengths": lengths_table, "without": without_table}
        tables |= {name: make(files[name]) for name, make in analyses.items() if files[name]}
        tables["importances"] = importances_table(files["searches"], story)
    if files["online"]:
        tables["online"] = online_table(files["online"], story)
    if files["published"]:
        ours = [tables["main"]]
        if "surgical" in tables:
            ours.append(surgical_rows(tables["surgical"], story["surgical"]["tasks"]))
        if "online" in tables:
            ours.append(online_rows(tables["online"], story["surgical"]["tasks"]))
        tables["comparison"] = compare(
            pd.concat(ours, ignore_index=True),
            metric_rows(tables["metrics"], story["labels"]),
            shared(load_published(files["published"]), story["comparison"]["shared"]),
            story["comparison"],
        )
    return tables
