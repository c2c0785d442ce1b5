"""docs/findings.md says what the tables say: its words are for a reader to check, its numbers are checked here."""

import re
from pathlib import Path

import pandas as pd
import pytest
import yaml

from surefoot.names import prediction_column
from tests.golden.packed import unpacked

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "findings.md").read_text()
BRACKET = r"[+-]?\d+\.\d+ \[[+-]?\d+\.\d+, [+-]?\d+\.\d+\]"
TITLES = {"corrupt": "emoji-corrupt", "subtype": "emoji-subtype", "flip": "emoji-flip"}
Row = dict[str, str]


def rows(text: str) -> list[list[Row]]:
    """The tables of a Markdown text: rows of head -> cell."""
    found = []
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        head, _, *body = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
        found.append([dict(zip(head, cells, strict=True)) for cells in body])
    return found


def made(name: str, experiment: str = "emoji_full") -> list[Row]:
    """Rows of a table of a run."""
    return rows((DOCS / f"{experiment}/{name}.md").read_text())[0]


def effect(
    first: str, second: str, on: str, experiment: str = "emoji_full", what: str = "difference", **where: str
) -> str:
    """What the table of effects gives for two models, not for two gains."""
    wanted = {"model 1": first, "model 2": second, "on": on, **where}
    kept = [row for row in made("effects", experiment) if "minus" not in row["effect"]]
    [found] = [row[what] for row in kept if wanted.items() <= row.items()]
    return found


COMPARED, METHODS, SEARCHED, PARTS, TARGETS = rows(TEXT)
CASES = [
    *((row["difference"], effect(row["compared"], row["with"], row["on"])) for row in COMPARED),
    *(
        (row[on], effect(row["searched"], row["with"], on, "emoji_autoft"))
        for row in SEARCHED
        for on in ("ID test", "Average under shift")
    ),
    *(
        (
            row["under shift, over searches"],
            effect(row["searched"], row["with"], "Average under shift", "emoji_autoft", "over searches"),
        )
        for row in SEARCHED
    ),
    *((row[on], effect(row["method"], "FT", on)) for row in METHODS for on in ("ID test", "Average under shift")),
    *(
        (row[kind], effect(row["tuned"], "All", "target_test, 3 shots", task=task))
        for row in PARTS
        for kind, task in TITLES.items()
    ),
    *(
        (row[target], next(r[target] for r in made("targets") if (r["shots"], r["method"]) == ("3", row["tuned"])))
        for row in TARGETS
        for target in ("gaussian_noise", "brightness", "contrast")
    ),
]


def test_all_rows_are_seen() -> None:
    assert [len(table) for table in (COMPARED, METHODS, SEARCHED, PARTS, TARGETS)] == [6, 12, 19, 5, 6]


@pytest.mark.parametrize(("said", "found"), CASES)
def test_a_cell_is_that_of_its_row(said: str, found: str) -> None:
    assert said == found


def test_short_and_full_runs_of_the_winners_score_as_said() -> None:
    records = Path(__file__).parents[1] / "golden/emoji_autoft/records"
    text, scores = re.sub(r"\s+", " ", TEXT), {}
    for space in ("autoft", "autoft-random", "l2-sp-searched", "flyp-searched", "lipsum-searched", "ft-searched"):
        searches = [pd.read_parquet(path) for path in records.glob(f"search/*/*/{space}/*/trials.parquet")]
        short = sum(trials["score"].max() for trials in searches) / len(searches)
        every = pd.read_parquet(records / f"evaluate/emoji-style/emoji-clip/{space}/metrics.parquet")
        where = {"eval_set": "ood_val", "metric": "mean_per_class", "space": "weights", "alpha": 1.0}
        full = every[(every[list(where)] == pd.Series(where)).all(axis=1)]["value"]
        assert len(searches) == len(full) == 6
        scores[space] = f"{short:.1f} and {full.mean():.1f}"
    named = zip(("AutoFT", "random search", "L2-SP", "FLYP", "Lipsum-FT", "FT"), scores.values(), strict=True)
    assert all(f"{name} {score}" in text for name, score in named), scores


def test_searches_differ_as_said(tmp_path: Path) -> None:
    """First minus second of each pair, search by search, from the plain predictions."""
    records, found = unpacked("emoji_autoft", tmp_path), {}
    for space in ("autoft", "autoft-id", "lipsum-searched", "ft-searched", "ft"):
        table = pd.read_parquet(records / f"evaluate/emoji-style/emoji-clip/{space}/predictions.parquet")
        right = table["label"] == table[prediction_column("weights", 1.0)]
        per_class = right.groupby([table[key] for key in ("role", "seed", "eval_set", "label")]).mean()
        found[space] = 100 * per_class.groupby(level=[0, 1, 2]).mean()
    pairs = (
        ("autoft", "ft-searched", "ood_test", ".1f"),
        ("lipsum-searched", "ft-searched", "id_test", "+.1f"),
        ("autoft-id", "autoft", "ood_test", "+.1f"),
        ("autoft-id", "ft", "ood_test", "+.1f"),
    )
    for first, second, role, form in pairs:
        gaps = (found[first] - found[second])[role].groupby(level=0).mean()
        said = [f"{gap:{form}}".replace("-0.0", "0.0") for gap in gaps]
        assert f"{', '.join(said[:-1])} and {said[-1]} points" in re.sub(r"\s+", " ", TEXT), said


def test_searches_had_as_many_validation_images_as_said() -> None:
    records, found = Path(__file__).parents[1] / "golden/emoji_autoft/records", {}
    for space in ("autoft", "autoft-id", "autoft-few"):
        files = records.glob(f"search/*/*/{space}/*/objective.yaml")
        counts = [yaml.safe_load(path.read_text())["validation_images"] for path in files]
        assert len(counts) == 6
        found[space] = (min(counts), max(counts))
    assert found == {"autoft": (512, 532), "autoft-id": (208, 212), "autoft-few": (240, 240)}
    assert "some 210 of id_val" in TEXT and "AutoFT with all 512 to 532" in TEXT


def test_searches_of_lipsum_ft_agree_as_said() -> None:
    table = pd.read_csv(DOCS / "emoji_autoft/importances.csv")
    half = table[(table["space"] == "lipsum-searched") & (table["among"] == "better half")]
    mean = half.groupby("key")["importance"].mean()
    assert half["search_seed"].nunique() == 6
    weight, decay, rate = (f"{mean[key]:.2f}" for key in ("objective.lipsum", "weight_decay", "learning_rate"))
    told = f"For Lipsum-FT, all six, its weight explains {weight}, the decay {decay} and the rate {rate}"
    learned = pd.read_csv(DOCS / "emoji_autoft/learned.csv").query("space == 'lipsum-searched'")
    weights = learned.loc[learned["key"] == "objective.lipsum", "learned"]
    assert len(weights) == 6 and (round(weights.min(), 1), round(weights.max(), 1)) == (0.8, 3.9)
    assert told in re.sub(r"\s+", " ", TEXT)


def test_weights_of_entropy_and_hinge_are_as_said() -> None:
    learned = pd.read_csv(DOCS / "emoji_autoft/learned.csv").pivot(
        index=["space", "search_seed"], columns="key", values="learned"
    )
    random, few = learned.loc["autoft-random"], learned.loc["autoft-few", "objective.entropy"]
    assert random["objective.entropy"].min() > 4 and random["objective.hinge"].max() < 0.01
    assert (len(few), (few >= 4).sum()) == (6, 5)


def test_terms_are_missed_as_said() -> None:
    found = pd.read_csv(DOCS / "emoji_autoft/without.csv").set_index(["search_seed", "without"])
    missed = found[found["high"] < 0]["difference"].round(1).to_dict()
    said = {(0, "entropy"): -1.4, (1, "flyp"): -0.4, (2, "ce"): -1.3, (2, "dcm"): -0.6, (2, "flyp"): -0.8}
    assert missed == said
    told = ("`entropy` in search 0 (-1.4)", "`ce`, `dcm` and `flyp` in search 2 (-1.3, -0.6, -0.8)", "search 1 (-0.4)")
    assert all(words in re.sub(r"\s+", " ", TEXT) for words in told)
    norms = found["difference"].unstack()[["l1zero", "l2zero", "l1init", "l2init"]].abs()
    assert norms.max(axis=None) < 0.05 and (norms > 0).sum(axis=None) == 1


def test_importances_are_as_said() -> None:
    table = pd.read_csv(DOCS / "emoji_autoft/importances.csv")
    half = table[table["among"] == "better half"].pivot(
        index=["space", "search_seed"], columns="key", values="importance"
    )
    text, keys = re.sub(r"\s+", " ", TEXT), ["learning_rate", "objective.entropy", "objective.hinge"]
    rate, entropy, hinge = (f"{value:.2f}" for value in half.loc["autoft", keys].mean())
    each = [f"{value:.2f}" for value in half.loc["autoft", "objective.entropy"]]
    assert f"explains {rate}, `entropy` {entropy} ({each[0]}, {each[1]} and {each[2]}) and `hinge` {hinge}" in text
    rate, entropy, hinge = (f"{value:.2f}" for value in half.loc["autoft-random", keys].mean())
    assert f"all six, it is {rate}, {entropy} and {hinge}" in text
    assert (len(half.loc["autoft"]), len(half.loc["autoft-random"]), "ft-searched" in half.index) == (3, 6, False)


def test_short_runs_rank_as_said() -> None:
    table = pd.read_csv(DOCS / "emoji_autoft/lengths.csv")
    wide = table.pivot(index="steps", columns="search_seed", values="correlation")
    lost = (table["best"] - table["chosen"]).groupby(table["steps"]).mean()
    for steps, row in wide.iterrows():
        cells = [*(f"{value:.2f}" for value in (*row, row.mean())), f"{lost[steps]:.1f}"]
        assert f"| {steps} | {' | '.join(cells)} |" in (DOCS / "tuning.md").read_text()


def test_every_value_with_an_interval_stands_in_a_table() -> None:
    tables = [path.read_text() for name in ("emoji_full", "emoji_autoft") for path in (DOCS / name).glob("*.md")]
    known = {value for text in tables for value in re.findall(BRACKET, text)}
    said = re.findall(BRACKET, re.sub(r"\s+", " ", TEXT))
    assert len(said) > 80
    assert set(said) <= known
