"""Ours beside published numbers: what meets what, and the verdict that the rule says."""

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from surefoot.config import parse_config
from surefoot.figures import draw_figures
from surefoot.files import UserError
from surefoot.flow import Plan
from surefoot.layouts import layout, write_tables
from surefoot.meets import shared
from surefoot.published import (
    CHOSEN,
    VERDICTS,
    compare,
    metric_rows,
    online_rows,
    published_files,
    surgical_rows,
    verdict,
)
from surefoot.report import write_report
from surefoot.story import build_story
from surefoot.tables import KINDS, build_tables
from tests.golden.packed import unpacked
from tests.published import GOLDEN, ROOT, ROW, RULE, raw_config, written

# ---- verdicts, by hand ----


@pytest.mark.parametrize(
    ("value", "low", "high", "changes", "expected"),
    [
        (80.4, 79.9, 80.9, {}, "inside our interval"),
        (80.4, 80.0, 80.9, {}, "inside our interval"),  # the ends belong to it
        (95.0, 70.0, 99.0, {}, "inside our interval"),  # a wide interval does not tell them apart
        (80.4, 80.1, 80.9, {}, "within tolerance"),
        (81.0, 80.9, 81.1, {}, "within tolerance"),  # exactly 1 point
        (79.0, 78.9, 79.1, {}, "within tolerance"),
        (82.3, 82.2, 82.4, {"value": 81.3}, "within tolerance"),  # 1.0000000000000142 in floating point
        (81.1, 81.0, 81.2, {}, "outside"),
        (78.9, 78.8, 79.0, {}, "outside"),
        (81.1, 81.0, 81.2, {"std": 0.6, "spread": "std"}, "within tolerance"),  # 2 x 0.6 > 1.1
        (81.1, 81.0, 81.2, {"std": 0.5, "spread": "std"}, "outside"),
        (81.1, 81.0, 81.2, {"std": 0.6, "spread": "as printed"}, "outside"),  # not known to be a standard deviation
        (80.4, float("nan"), float("nan"), {}, "within tolerance"),  # no interval
        (81.1, float("nan"), float("nan"), {}, "outside"),
        (80.4, 79.9, 80.9, {"comparable": "roughly", "note": "why"}, "other protocol"),
        (80.4, 79.9, 80.9, {"verification": "not verified"}, "not verified"),
        (80.4, 79.9, 80.9, {"verification": "not verified", "comparable": "roughly"}, "not verified"),
        (80.4, 79.9, 80.9, {"verification": "digitised"}, "inside our interval"),
        (80.4, 79.9, 80.9, {"verification": "one source"}, "inside our interval"),
    ],
)
def test_verdict(value: float, low: float, high: float, changes: dict[str, Any], expected: str) -> None:
    assert verdict(value, low, high, ROW._replace(**changes), RULE) == expected
    assert expected in VERDICTS


def test_the_rule_is_the_configs() -> None:
    assert verdict(81.1, 81.0, 81.2, ROW, {"tolerance": 1.1, "deviations": 0.0}) == "within tolerance"
    assert verdict(80.4, 80.3, 80.5, ROW, {"tolerance": 0.0, "deviations": 0.0}) == "outside"
    with_std = ROW._replace(std=0.4, spread="std")
    assert verdict(81.1, 81.0, 81.2, with_std, {"tolerance": 0.0, "deviations": 3.0}) == "within tolerance"


def test_without_a_published_number_there_is_no_verdict() -> None:
    assert verdict(80.0, 79.0, 81.0, None, RULE) == "no published number"


# ---- the comparison ----


def ours(method: str, label: str, alpha: float, values: dict[str, float], **changes: Any) -> list[dict[str, Any]]:
    """Rows of a main table, each with an interval of half a point to either side."""
    roles = {"id_test": "id_test"}
    named = {"task": "imagenet", "model": "ViT-B-16", "method": method, "label": label, "space": "weights"}
    named |= {"alpha": alpha, "metric": "top1", "seeds": 3} | changes
    return [
        named | {"eval_set": name, "role": roles.get(name, "ood_test"), "value": v, "low": v - 0.5, "high": v + 0.5}
        for name, v in values.items()
    ]


MAIN = pd.DataFrame(
    ours("zeroshot", "Zero-shot", 0.0, {"id_test": 68.0, "v2": 62.0, "r": 77.0, "average": 69.5, "effective": 20.0})
    + ours("ft", "FT", 1.0, {"id_test": 81.0, "v2": 70.0, "r": 66.0, "average": 68.0, "effective": 3.0})
    + ours("ft", "FT + WiSE (0.5)", 0.5, {"id_test": 82.0, "v2": 72.0, "r": 78.0, "average": 75.0})
    # The chosen alpha happens to be the fixed one: it is still not what a paper's alpha 0.5 stands for.
    + ours("ft", "FT" + CHOSEN[0], 0.5, {"id_test": 82.0, "v2": 72.0, "r": 78.0, "average": 75.0})
    + ours("ft", "FT", 1.0, {"id_test": 50.0}, task="emoji-style")
)


NONE = MAIN.iloc[:0]


def pairs(table: pd.DataFrame) -> list[tuple]:
    found = table[table["published"].notna()]
    return [
        (row["label"], row["eval_set"], row["published"], round(row["difference"], 6), row["verdict"])
        for _, row in found.iterrows()
    ]


def test_ours_meet_the_numbers_of_the_same_model_alpha_and_test_set() -> None:
    published = [
        ROW._replace(method="zeroshot", alpha=0.0, value=68.3),
        ROW._replace(value=81.3),
        ROW._replace(paper="Another paper", value=85.0),
        ROW._replace(ensemble="wise", alpha=0.5, value=81.2),
        ROW._replace(ensemble="wise", alpha=0.4, value=80.6),  # we have no such alpha
        ROW._replace(ensemble="wise", alpha=None, value=82.4, comparable="roughly", note="alpha not known"),
        ROW._replace(eval_set="v2", value=70.2, verification="not verified"),
        ROW._replace(eval_set="r", value=66.0, metric="macro_f1"),  # another metric
        ROW._replace(eval_set="r", value=66.0, model="ViT-B-32"),
        ROW._replace(eval_set="r", value=66.0, comparable="no", note="why"),
    ]
    table = compare(MAIN, NONE, published, RULE)
    assert pairs(table) == [
        ("Zero-shot", "id_test", 68.3, -0.3, "inside our interval"),
        ("FT", "id_test", 81.3, -0.3, "inside our interval"),
        ("FT", "id_test", 85.0, -4.0, "outside"),
        ("FT", "v2", 70.2, -0.2, "not verified"),
        ("FT + WiSE (0.5)", "id_test", 81.2, 0.8, "within tolerance"),
        ("FT" + CHOSEN[0], "id_test", 82.4, -0.4, "other protocol"),
    ]
    alone = table[table["verdict"] == "no published number"]
    assert len(table) == 6 + len(alone) and len(alone) == 11  # 4 models x 4 cells, 5 of them with a partner
    assert set(table["task"]) == {"imagenet"} and "effective" not in set(table["eval_set"])
    assert alone[["published", "difference", "paper"]].isna().all(axis=None)


def test_tasks_share_published_numbers_of_test_sets_but_not_of_recipes() -> None:
    published = [
        ROW._replace(method="zeroshot", alpha=0.0, eval_set="v2", value=62.0),
        ROW._replace(eval_set="v2", value=70.0),
        ROW._replace(eval_set="mean:r+v2", value=68.0, comparable="roughly", note="another rate"),
        ROW._replace(value=81.0),  # of a test set that the other task has otherwise
        ROW._replace(eval_set="mean:id_test+v2", value=75.0),
        ROW._replace(eval_set="r", value=66.0, comparable="no", note="why"),
        ROW._replace(task="fmow", eval_set="v2", value=40.0),
    ]
    how = {"task": "imagenet", "eval_sets": ["v2", "r"], "differs": "other crops", "trained": True}
    found = shared(published, {"other": how})
    roughly = {"task": "other", "comparable": "roughly"}
    assert found == [
        *published,
        published[0]._replace(task="other"),
        published[1]._replace(**roughly, note="other crops"),
        published[2]._replace(**roughly, note="another rate; other crops"),
    ]
    here = compare(MAIN.assign(task=MAIN["task"].replace("imagenet", "other")), NONE, found, RULE)
    assert pairs(here) == [
        ("Zero-shot", "v2", 62.0, 0.0, "inside our interval"),
        ("FT", "v2", 70.0, 0.0, "other protocol"),
        ("FT", "average", 68.0, 0.0, "other protocol"),
    ]
    assert shared(published, {}) == published
    assert shared(published, {"other": how | {"trained": False}}) == [*published, published[0]._replace(task="other")]


def test_means_are_of_the_sets_that_a_paper_names() -> None:
    published = [
        ROW._replace(eval_set="mean:r+v2", value=68.2),  # all our shifted sets: our average, with its interval
        ROW._replace(eval_set="mean:id_test+r+v2", value=72.9),  # TPGM's kind: (81 + 66 + 70) / 3
        ROW._replace(eval_set="mean:a+r+v2", value=60.0),  # we have no a
    ]
    table = compare(MAIN, NONE, published, RULE)
    assert pairs(table) == [
        ("FT", "average", 68.2, -0.2, "inside our interval"),
        ("FT", "mean:id_test+r+v2", 72.9, pytest.approx(217 / 3 - 72.9, abs=1e-6), "within tolerance"),
    ]
    assert table[table["eval_set"] == "mean:id_test+r+v2"][["low", "high"]].isna().all(axis=None)


def test_a_mean_of_several_metrics_meets_nothing() -> None:
    rows = MAIN.assign(metric=MAIN["metric"].where(MAIN["eval_set"] != "r", "all_frames"))
    published = [ROW._replace(eval_set="mean:r+v2", value=68.2), ROW._replace(eval_set="mean:id_test+r+v2", value=72.9)]
    assert pairs(compare(rows, NONE, published, RULE)) == []
    theirs = ROW._replace(eval_set="r", metric="all_frames", value=66.1)
    assert pairs(compare(rows, NONE, [theirs], RULE)) == [("FT", "r", 66.1, -0.1, "inside our interval")]


def test_other_alphas_and_metrics_meet_theirs_without_an_interval() -> None:
    """A table of metrics: alpha 0, 0.3 and 1 of a method, in two metrics; only weights count."""
    columns = ["space", "method", "alpha", "metric", "eval_set", "role", "value"]
    measured = [
        ("weights", "ft", alpha, metric, name, role, value + alpha)
        for metric, value in (("top1", 80.0), ("nll", 1.2))
        for alpha in (0.0, 0.3, 1.0)
        for name, role in (("id_test", "id_test"), ("v2", "ood_test"), ("average", "ood_test"))
    ]
    measured += [("outputs", "ft", 0.3, "nll", "id_test", "id_test", 0.5)]
    measured += [("weights", "zeroshot", 0.0, "nll", "v2", "ood_test", 1.9)]
    metrics = pd.DataFrame(measured, columns=columns).assign(task="imagenet", model="ViT-B-16", seeds=3)
    published = [
        ROW._replace(value=81.3),  # in the main table, with an interval
        ROW._replace(ensemble="wise", alpha=0.3, value=80.1),
        ROW._replace(ensemble="wise", alpha=0.3, eval_set="mean:v2", value=79.0),
        ROW._replace(metric="nll", value=2.205),
        ROW._replace(method="zeroshot", alpha=0.0, metric="nll", eval_set="v2", value=1.92),
        ROW._replace(method="ft", ensemble="none", alpha=0.0, metric="nll", value=1.2),  # nobody's fine-tuned model
    ]
    table = compare(MAIN, metric_rows(metrics, {"ft": "FT", "zeroshot": "Zero-shot"}), published, RULE)
    assert pairs(table) == [
        ("FT", "id_test", 81.3, -0.3, "inside our interval"),
        ("FT, alpha 0.3", "id_test", 80.1, 0.2, "within tolerance"),
        ("FT, alpha 0.3", "average", 79.0, 1.3, "outside"),
        ("FT", "id_test", 2.205, -0.005, "within tolerance"),
        ("Zero-shot", "v2", 1.92, -0.02, "outside"),  # a point is a hundredth of a nat
    ]
    shown = layout("comparison", table, {})
    assert list(shown["ours"]) == ["81.0 [80.5, 81.5]", "80.3", "80.3", "2.20", "1.90"]
    assert list(shown["difference"]) == ["-0.3", "+0.2", "+1.3", "-0.00", "-0.02"]
    assert list(shown["metric"]) == ["top1", "top1", "top1", "nll", "nll"]


def test_labels_of_chosen_alphas_end_as_the_main_table_says() -> None:
    labels = pd.read_csv(GOLDEN / "tables" / "main.csv").query("0 < alpha < 1")["label"].unique()
    assert {label.endswith("(0.5)") for label in labels} == {True, False}
    assert all(label.endswith(CHOSEN) for label in labels if not label.endswith("(0.5)"))


def test_nothing_published_gives_an_empty_table_with_columns() -> None:
    table = compare(MAIN, NONE, [], RULE)
    assert table.empty and {"task", "value", "published", "verdict"} <= set(table.columns)
    assert layout("comparison", table, {}).empty


def test_the_printed_form() -> None:
    published = [
        ROW._replace(value=81.3, std=0.2, spread="std"),
        ROW._replace(eval_set="mean:id_test+r+v2", value=72.9),
    ]
    printed = layout("comparison", compare(MAIN, NONE, published, RULE), {"titles": {"id_test": "ID test"}})
    assert printed.to_dict("records") == [
        {"method": "FT", "test set": "ID test", "ours": "81.0 [80.5, 81.5]", "published": "81.3 ± 0.2"}
        | {"difference": "-0.3", "verdict": "inside our interval", "verification": "verified"}
        | {"paper": "A paper", "table": "Table 1", "note": ""},
        {"method": "FT", "test set": "mean of id_test, r, v2", "ours": "72.3", "published": "72.9"}
        | {"difference": "-0.6", "verdict": "within tolerance", "verification": "verified"}
        | {"paper": "A paper", "table": "Table 1", "note": ""},
    ]


def test_a_table_without_any_published_deviation_is_printed() -> None:
    """Where each of our cells has a partner, too, so that no row is filled up."""
    main = MAIN[(MAIN["label"] == "FT") & (MAIN["eval_set"] == "v2")]
    table = compare(main, NONE, [ROW._replace(eval_set="v2", value=70.2)], RULE)
    assert list(layout("comparison", table, {})["published"]) == ["70.2"]


def test_online_adaptations_meet_published_streams_only() -> None:
    online = pd.DataFrame(
        [{"model": "resnet-26", "method": "tune-first", "label": "Block 1", "seeds": 3, "eval_set": "cifar10-c"}]
    ).assign(value=75.0, low=74.5, high=75.5)
    where = {"task": "cifar10-c", "model": "resnet-26", "method": "tune-first"}
    theirs = ROW._replace(**where, eval_set="target_stream", value=75.4)
    adapted = ROW._replace(**where, eval_set="target_test", value=82.8)
    table = compare(online_rows(online, {"cifar10-c": "top1"}), NONE, [theirs, adapted], RULE)
    assert pairs(table) == [("Block 1, online", "target_stream", 75.4, -0.4, "inside our interval")]


def test_adaptations_meet_published_ones() -> None:
    surgical = pd.DataFrame(
        [
            {"model": "ViT-B-16", "shots": 5, "method": "tune-first", "label": "First blocks", "seeds": 3}
            | {"eval_set": name, "value": value, "low": value - 1, "high": value + 1}
            for name, value in (("camelyon17", 93.0), ("average rank", 2.0))
        ]
    )
    theirs = ROW._replace(task="camelyon17", method="tune-first", eval_set="target_test", value=92.5)
    table = compare(surgical_rows(surgical, {"camelyon17": "top1"}), NONE, [theirs], RULE)
    assert pairs(table) == [("First blocks, 5 images a class", "target_test", 92.5, 0.5, "inside our interval")]


# ---- in a run ----


def test_the_default_run_has_no_comparison() -> None:
    plan = Plan(parse_config(raw_config()))
    assert plan.published == [] and "comparison" not in (*plan.tables, *plan.figures)


def imagenet_run(metric: str = "top1") -> Plan:
    """A run on a task that is called imagenet and has its model; its images do not matter here."""
    raw = raw_config()
    raw["tasks"]["imagenet"] = {"family": "emoji", "recipe": "emoji", "metric": metric}
    raw["run"] |= {"tasks": ["imagenet"], "models": ["ViT-B-16"], "methods": ["zeroshot", "ft"]}
    return Plan(parse_config(raw))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"task": "imagnet"},
            "emoji-style.task: no number of 'imagnet' is in config/published; did you mean 'imagenet'?",
        ),
        ({"eval_sets": ["v3"]}, "emoji-style.eval_sets: no number of imagenet's 'v3' is in config/published; known"),
    ],
)
def test_what_a_task_shares_must_have_been_published(changes: dict[str, Any], message: str) -> None:
    how = {"task": "imagenet", "eval_sets": ["v2"], "differs": "other images"}
    Plan(parse_config(raw_config(comparison={"shared": {"emoji-style": how}}))).check()
    plan = Plan(parse_config(raw_config(comparison={"shared": {"emoji-style": how | changes}})))
    with pytest.raises(UserError, match=re.escape(message)):
        plan.check()
    with pytest.raises(UserError, match=r"comparison\.shared: unknown name 'emoji-stile'"):
        parse_config(raw_config(comparison={"shared": {"emoji-stile": how}}))


def test_a_run_with_published_numbers_has_table_figure_and_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    plan = imagenet_run()
    assert plan.published == [f"config/published/{path.name}" for path in published_files()]
    assert plan.tables[-1] == "comparison" and "comparison" in plan.figures
    assert build_story(plan)["comparison"] == RULE
    assert imagenet_run(metric="mean_per_class").published == plan.published  # top1 is measured beside it
    assert all((ROOT / "report" / f"{kind}-comparison.rst").is_file() for kind in ("table", "figure"))


def test_table_figure_and_report_from_records(tmp_path: Path) -> None:
    """The committed records of a smoke run beside made-up numbers."""
    story = json.loads((GOLDEN / "records/story.json").read_text()) | {"comparison": RULE}
    story |= {"figures": ["comparison"], "surgical": {"tasks": {}}, "search": {"spaces": {}, "seeds": []}}
    records = unpacked("smoke", tmp_path / "records")
    files = json.loads((records / "files.json").read_text())
    expected = pd.read_csv(GOLDEN / "tables" / "main.csv").set_index(["label", "eval_set"])["value"]
    where = {"task": "emoji-smoke", "model": "emoji-clip", "metric": "mean_per_class"}
    numbers = written(
        tmp_path,
        ROW._replace(**where, value=round(expected["FT", "id_test"], 1)),
        ROW._replace(**where, value=5.0, eval_set="mean:glyph+line+openmoji", std=0.3, spread="std"),
        ROW._replace(**where, value=50.0, ensemble="wise", alpha=0.5, verification="not verified"),
    )
    given = {kind: [records / path for path in files.get(kind, [])] for kind in ("metrics", "predictions")}
    tables = build_tables({kind: [] for kind in KINDS} | given | {"published": [numbers]}, story)
    write_tables({name: tables[name] for name in ("metrics", "comparison")}, story, tmp_path)
    found = pd.read_csv(tmp_path / "comparison.csv")
    found = found[found["published"].notna()]
    assert list(found["verdict"]) == ["inside our interval", "outside", "not verified"]
    assert found["difference"].iloc[1] == pytest.approx(expected["FT", "average"] - 5.0, abs=1e-3)
    assert "not verified" in (tmp_path / "comparison.md").read_text()
    assert (tmp_path / "comparison.tex").read_text().count(r"\\") == 4  # heads and three rows

    draw_figures(tmp_path, story, tmp_path / "figures")
    points = pd.read_csv(tmp_path / "figures" / "comparison.csv")
    assert list(points["published"]) == list(found["published"])
    assert (tmp_path / "figures" / "comparison.svg").stat().st_size > 5000

    page = tmp_path / "report.html"
    write_report([tmp_path / "comparison.csv"], [tmp_path / "figures" / "comparison.svg"], [], [], story, page)
    text = page.read_text(encoding="utf-8")
    assert "Beside the published numbers" in text and "at most 1 points or 2 of their standard" in text
    assert text.count("<td>A paper</td>") == 3


def test_a_run_sets_its_streams_beside_published_ones(tmp_path: Path) -> None:
    """The committed predictions of adaptations, taken for those of streams."""
    story = json.loads((GOLDEN / "records/story.json").read_text()) | {"comparison": RULE}
    records = unpacked("smoke", tmp_path / "records")
    files = json.loads((records / "files.json").read_text())
    given = {kind: [records / path for path in files.get(kind, [])] for kind in ("metrics", "predictions")}
    given["online"] = [records / path for path in files["adapted"]]
    task, model, method = given["online"][0].parts[-4:-1]
    where = {"task": task, "model": model, "method": method, "metric": story["surgical"]["tasks"][task]}
    numbers = written(tmp_path, ROW._replace(**where, eval_set="target_stream", value=50.0))
    found = build_tables({kind: [] for kind in KINDS} | given | {"published": [numbers]}, story)["comparison"]
    [row] = found[found["published"].notna()].to_dict("records")
    assert row["label"] == f"{story['labels'][method]}, online" and row["eval_set"] == "target_stream"


def test_the_figure_of_nothing_is_drawn(tmp_path: Path) -> None:
    story = json.loads((GOLDEN / "records/story.json").read_text())
    story |= {"figures": ["comparison"], "surgical": {"tasks": {}}, "search": {"spaces": {}, "seeds": []}}
    (tmp_path / "metrics.csv").write_bytes((GOLDEN / "tables" / "metrics.csv").read_bytes())
    compare(MAIN, NONE, [ROW._replace(method="lp")], RULE).to_csv(tmp_path / "comparison.csv", index=False)
    draw_figures(tmp_path, story, tmp_path)
    assert (tmp_path / "comparison.png").is_file()
