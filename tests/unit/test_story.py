"""What the report says of the config: names and methods in words."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from surefoot.config import parse_config
from surefoot.flow import Plan
from surefoot.report import write_report
from surefoot.story import build_story, plain

ROOT = Path(__file__).resolve().parents[2]


def story(**run: object) -> dict[str, Any]:
    raw = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))
    return build_story(Plan(parse_config({**raw, "run": raw["run"] | run})))


def test_methods_say_what_they_do_beyond_their_loss() -> None:
    also = {page["method"]: page["also"] for page in story()["methods"]}
    assert also["ft"] == "" and also["lp-ft"] == "from lp" and also["ema"].startswith("EMA 0.")
    assert also["tpgm"].startswith("from ft; TPGM, 100 steps at")


def test_an_arm_does_not_name_the_settings_that_it_has_elsewhere() -> None:
    recipes = {page["method"]: page["recipe"] for page in story(methods=["zeroshot", "lp"], pairs=[])["methods"]}
    assert "learning_rate" in recipes["lp"] and recipes["zeroshot"] == ""
    assert "learning_rate" not in recipes["tune-all"] and "epochs" in recipes["tune-all"]


def test_the_reference_is_the_first_method_that_trains_everything() -> None:
    assert story(reference=None, methods=["lp", "lp-ft", "ft"], pairs=[])["reference"] == "lp-ft"
    assert story(reference=None, methods=["zeroshot", "lp"], pairs=[])["reference"] == "lp"
    assert story(reference="flyp")["reference"] == "flyp"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3e-5, "3.0e-5"),
        (0.0015, "1.5e-3"),
        (1.0, "1"),
        (0.25, "0.25"),
        (0.0, "0"),
        (512, "512"),
        (None, "null"),
        ({"a": [1.0, True]}, "{a: [1, true]}"),
    ],
)
def test_numbers_as_people_write_them(value, text):
    assert plain(value) == text
    assert yaml.safe_load(plain(value)) == value


@pytest.mark.parametrize(("baselines", "said"), [(["scratch-25", "scratch-100"], "crosses"), ([], "a published line")])
def test_the_report_says_which_line_effective_robustness_is_above(
    baselines: list[str], said: str, tmp_path: Path
) -> None:
    figure, page = tmp_path / "robustness.svg", tmp_path / "report.html"
    figure.write_text("<svg/>")
    write_report([], [figure], [], [], story(baselines=baselines), page)
    text = page.read_text()
    assert text.count(said) == 2 and ("crosses" in text) == bool(baselines)


def test_the_report_says_how_many_recipes_were_tuned() -> None:
    told = story()["tuned"]
    assert (told["settings"], told["eval_set"]) == (6, "id_val") and told["methods"] > 10
    assert story(methods=["zeroshot", "ft-both"], pairs=[])["tuned"] is None


def test_a_notice_stands_at_the_top_of_the_report(tmp_path: Path) -> None:
    told, page = story(), tmp_path / "report.html"
    write_report([], [], [], [], told, page)
    assert '<p class="notice">' not in page.read_text()
    write_report([], [], [], [], told | {"notice": "Only a <trial>."}, page)
    assert page.read_text().index("Only a &lt;trial&gt;.") < page.read_text().index("<h2>")


def test_arms_without_a_task_are_not_in_the_report() -> None:
    raw = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))
    told = build_story(Plan(parse_config({**raw, "surgical": raw["surgical"] | {"tasks": []}})))
    known = {page["method"] for page in told["methods"]}
    assert not known & set(raw["surgical"]["methods"]) and set(raw["run"]["methods"]) <= known
    assert not set(told["labels"]) & set(raw["surgical"]["methods"])
