"""The exported study: a storage that Optuna reads by itself, with every trial of every search."""

import json
import math
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from surefoot.proposals import export_studies, importances
from surefoot.trials import Trial, read_trials, winner

RECORDS = Path(__file__).parents[1] / "golden/smoke/records"


@pytest.fixture(scope="module")
def searches() -> list[list[Trial]]:
    """The searches of the smoke run, one of them with a trial that failed."""
    found = [read_trials([path]) for path in sorted(RECORDS.glob("search/*/*/*/search-0/trials.parquet"))]
    found[0][1] |= {"state": "failed", "score": math.nan, "reason": "the loss is nan"}
    return found


@pytest.fixture(scope="module")
def storage(searches: list[list[Trial]], tmp_path_factory: pytest.TempPathFactory) -> str:
    known = json.loads((RECORDS / "story.json").read_text())["search"]["spaces"]
    spaces: dict[str, dict] = {}
    for name, space in known.items():
        for task, dimensions in space["dimensions"].items():
            spaces.setdefault(task, {})[name] = dimensions
    path = tmp_path_factory.mktemp("study") / "study.db"
    export_studies(searches, spaces, path)
    return f"sqlite:///{path}"


def test_every_search_is_a_study_with_all_its_trials(searches: list[list[Trial]], storage: str) -> None:
    names = {f"emoji-smoke/emoji-clip/{space}/search-0" for space in ("autoft", "ft-searched")}
    assert set(optuna.get_all_study_names(storage)) == names
    for trials in searches:
        study = optuna.load_study(study_name=f"emoji-smoke/emoji-clip/{trials[0]['space']}/search-0", storage=storage)
        assert study.direction == optuna.study.StudyDirection.MAXIMIZE
        for trial, stored in zip(trials, study.trials, strict=True):
            assert stored.params == pytest.approx(trial["proposal"])
            assert (stored.user_attrs["round"], stored.user_attrs["reason"]) == (trial["round"], trial["reason"])
            if trial["state"] == "failed":
                assert stored.state == TrialState.FAIL
            else:
                assert (stored.state, stored.value) == (TrialState.COMPLETE, pytest.approx(trial["score"]))


def test_optunas_own_tools_work_on_it(searches: list[list[Trial]], storage: str) -> None:
    trials = next(trials for trials in searches if trials[0]["space"] == "autoft")
    study = optuna.load_study(study_name="emoji-smoke/emoji-clip/autoft/search-0", storage=storage)
    best = max(trial["score"] for trial in trials if trial["state"] == "done")
    assert study.best_value == pytest.approx(best)
    assert study.best_trial.number == winner(trials)["number"]
    assert study.trials_dataframe()["value"].max() == pytest.approx(best)
    assert sum(optuna.importance.get_param_importances(study).values()) == pytest.approx(1)


def test_what_may_be_off_has_an_importance_too() -> None:
    """Scores that an optional term's weight decides: Optuna itself would give them to whatever is always there."""
    rng = np.random.default_rng(0)
    space = {
        "objective.kd": {"low": 1e-3, "high": 10.0, "log": True, "optional": True},
        "learning_rate": {"low": 0.0, "high": 1.0},
    }
    trials = []
    for number in range(60):
        on, weight = bool(rng.integers(2)), float(10 ** rng.uniform(-3, 1))
        proposal = {"objective.kd?": on, "learning_rate": float(rng.uniform())} | (
            {"objective.kd": weight} if on else {}
        )
        score = math.log10(weight) + 3 if on else 0.0
        about = {"number": number, "round": 0, "state": "done", "reason": "", "changes": {}}
        trials.append(about | {"proposal": proposal, "score": score})
    found = importances(trials, space)
    assert set(found) == {"objective.kd", "objective.kd?", "learning_rate"}
    assert next(iter(found)) == "objective.kd" and found["learning_rate"] < 0.1


def test_of_equal_trials_the_searchs_winner_is_the_studys_best(searches: list[list[Trial]], tmp_path: Path) -> None:
    trials = [trial | {"score": 40.0, "state": "done"} for trial in searches[0]]
    known = json.loads((RECORDS / "story.json").read_text())["search"]["spaces"]
    space = trials[0]["space"]
    export_studies(
        [trials], {trials[0]["task"]: {space: known[space]["dimensions"][trials[0]["task"]]}}, tmp_path / "s.db"
    )
    [name] = optuna.get_all_study_names(f"sqlite:///{tmp_path / 's.db'}")
    study = optuna.load_study(study_name=name, storage=f"sqlite:///{tmp_path / 's.db'}")
    assert study.best_trial.number == winner(trials)["number"] == len(trials) - 1 > 0
