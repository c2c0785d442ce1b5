"""The exported study: a storage that Optuna reads by itself, with every trial of every search."""

import json
import math
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from surefoot.proposals import export_studies
from surefoot.trials import Trial, read_trials

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
    assert study.trials_dataframe()["value"].max() == pytest.approx(best)
    assert sum(optuna.importance.get_param_importances(study).values()) == pytest.approx(1)
