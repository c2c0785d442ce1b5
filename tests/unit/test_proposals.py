"""Proposals: what Optuna's own ask and tell would propose, as a function of space, seed and the trials before."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.samplers import QMCSampler, TPESampler
from scipy.stats import qmc

from surefoot.proposals import SAMPLERS, distributions, known, propose
from surefoot.seeds import derive
from surefoot.spaces import SAMPLER_NAMES, Dimension
from surefoot.trials import Space, Trial, dimensions_of, read_trials, write_trials

pytestmark = [
    pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning"),
    pytest.mark.filterwarnings("ignore:Clip non-finite values"),
]

WEIGHT = {"low": 1e-4, "high": 10, "log": True}
SPACE = dimensions_of(
    {
        "weight_decay": {"low": 0, "high": 1},
        "objective.ce": 1.0,
        "learning_rate": {"low": 1e-6, "high": 1e-2, "log": True},
        "objective.hinge": WEIGHT | {"optional": True},
        "schedule": {"choices": ["constant", "cosine"]},
        "seed": {"low": 0, "high": 10, "integer": True},
        "ema": {"low": 0.5, "high": 0.9, "optional": True},
    }
)
FLOATS = dimensions_of({"objective.ce": WEIGHT, "weight_decay": {"low": -1, "high": 3}})


def score(proposal: dict[str, Any]) -> float:
    """A value that depends on every dimension."""
    found = -((math.log10(proposal["learning_rate"]) + 3) ** 2) - (proposal["weight_decay"] - 0.3) ** 2
    found += 0.1 * (proposal["schedule"] == "cosine") + 0.01 * proposal["seed"]
    return found - 0.2 * abs(math.log10(proposal.get("objective.hinge", 10))) + proposal.get("ema", 0)


def done(number: int, proposal: dict[str, Any], value: float) -> Trial:
    """A finished trial."""
    base = {"number": number, "round": 0, "reason": "", "proposal": proposal, "changes": {}}
    return base | {"state": "done", "score": value}


def failed(number: int, proposal: dict[str, Any]) -> Trial:
    """A failed trial."""
    return done(number, proposal, math.nan) | {"state": "failed", "reason": "the loss is nan"}


def search(
    sampler: str, trials: int, size: int, seed: int = 0, space: Space = SPACE, value: Any = score
) -> list[Trial]:
    """A whole search in rounds of some size."""
    past: list[Trial] = []
    while len(past) < trials:
        found = propose(space, sampler, seed, past, min(size, trials - len(past)))
        past += [done(number, p, value(p)) for number, p in enumerate(found, len(past))]
    return past


def proposals(trials: list[Trial]) -> list[dict[str, Any]]:
    """What was proposed."""
    return [trial["proposal"] for trial in trials]


def by_hand(asked: optuna.Trial) -> dict[str, Any]:
    """SPACE as one would write it with Optuna, dimension after dimension in the order of their names."""
    found: dict[str, Any] = {"ema?": asked.suggest_categorical("ema?", [True, False])}
    if found["ema?"]:
        found["ema"] = asked.suggest_float("ema", 0.5, 0.9)
    found["learning_rate"] = asked.suggest_float("learning_rate", 1e-6, 1e-2, log=True)
    found["objective.hinge?"] = asked.suggest_categorical("objective.hinge?", [True, False])
    if found["objective.hinge?"]:
        found["objective.hinge"] = asked.suggest_float("objective.hinge", 1e-4, 10, log=True)
    found["schedule"] = asked.suggest_categorical("schedule", ["constant", "cosine"])
    found["seed"] = asked.suggest_int("seed", 0, 10)
    found["weight_decay"] = asked.suggest_float("weight_decay", 0, 1)
    return found


# TPE


@pytest.mark.parametrize("seed", [0, 1])
def test_rounds_of_one_are_a_sequential_search_with_ask_and_tell(seed: int) -> None:
    """The sampler is made anew before each trial; 10 of the 30 trials are Optuna's random start."""
    study, expected = optuna.create_study(direction="maximize"), []
    for number in range(30):
        own = derive(seed, "proposal", number) % 2**32
        study.sampler = TPESampler(seed=own, multivariate=False, constant_liar=True)
        asked = study.ask()
        expected.append(by_hand(asked))
        study.tell(asked, score(expected[-1]) + number * 1e-10)
    assert proposals(search("tpe", 30, 1, seed)) == expected


def test_trials_of_a_round_know_the_earlier_ones_of_it_as_pending() -> None:
    study, expected = optuna.create_study(direction="maximize"), []
    for first in range(0, 24, 8):
        pending = []
        for number in range(first, first + 8):
            own = derive(3, "proposal", number) % 2**32
            study.sampler = TPESampler(seed=own, multivariate=False, constant_liar=True)
            pending.append((asked := study.ask(), by_hand(asked)))
        for asked, proposal in pending:
            study.tell(asked, score(proposal) + asked.number * 1e-10)
            expected.append(proposal)
    assert proposals(search("tpe", 24, 8, 3)) == expected
    assert proposals(search("tpe", 24, 1, 3)) != expected, "a round does not see its own scores"


@pytest.mark.parametrize("sampler", SAMPLER_NAMES)
def test_proposals_are_fixed_by_the_seed(sampler: str) -> None:
    np.random.seed(5)
    one = search(sampler, 14, 4)
    np.random.seed(6)
    assert one == search(sampler, 14, 4)
    assert not any(proposal in proposals(one) for proposal in proposals(search(sampler, 14, 4, seed=1)))


@pytest.mark.parametrize("sampler", SAMPLER_NAMES)
def test_no_proposal_stands_twice(sampler: str) -> None:
    trials = 20 if sampler == "gp" else 40  # it takes its time
    found = [tuple(p.values()) for p in proposals(search(sampler, trials, 5))]
    assert len(set(found)) == trials


@pytest.mark.parametrize("sampler", SAMPLER_NAMES)
def test_the_order_of_the_dimensions_in_the_config_does_not_matter(sampler: str) -> None:
    other = dict(reversed(SPACE.items()))
    assert search(sampler, 14, 4) == search(sampler, 14, 4, space=other)


@pytest.mark.parametrize("cuts", [[13], [1, 12], [5, 5, 3], [1] * 13])
def test_it_does_not_matter_how_the_records_are_split_into_files(cuts: list[int], tmp_path: Path) -> None:
    past = search("tpe", 12, 4)
    past.append(failed(12, propose(SPACE, "tpe", 0, past, 1)[0]))
    expected = propose(SPACE, "tpe", 0, past, 5)
    rest = sorted(past, key=lambda trial: -trial["number"] % 5)  # shards hold every so many-th trial
    for i, size in enumerate(cuts):
        write_trials(tmp_path / f"{i}.parquet", rest[:size], "mark")
        del rest[:size]
    files = sorted(tmp_path.iterdir(), reverse=True)
    assert propose(SPACE, "tpe", 0, read_trials(files), 5) == expected


def test_scores_drive_tpe_and_gp_and_nothing_else() -> None:
    past = search("tpe", 20, 5)
    upside_down = [trial | {"score": -trial["score"]} for trial in past]
    for sampler in SAMPLER_NAMES:
        same = propose(SPACE, sampler, 0, past, 4) == propose(SPACE, sampler, 0, upside_down, 4)
        assert same is (sampler not in ("tpe", "gp"))


def test_a_failed_trial_counts_as_worse_than_any_finished_one() -> None:
    past = search("tpe", 20, 5)
    worst = min(trial["score"] for trial in past)
    broken = failed(20, propose(SPACE, "tpe", 0, past, 1)[0])
    as_worse = done(20, broken["proposal"], worst - 1)
    assert propose(SPACE, "tpe", 0, [*past, broken], 5) == propose(SPACE, "tpe", 0, [*past, as_worse], 5)
    assert known(broken, distributions(SPACE)).value == -math.inf


@pytest.mark.parametrize(("learning", "trials"), [("tpe", 60), ("gp", 30)])
def test_a_region_of_failures_is_left_even_where_all_finished_trials_tie(learning: str, trials: int) -> None:
    space = {"rate": Dimension(low=0, high=1)}
    past: list[Trial] = []
    while len(past) < trials:
        proposal = propose(space, learning, 0, past, 1)[0]
        past.append(failed(len(past), proposal) if proposal["rate"] > 0.3 else done(len(past), proposal, 0.5))
    states = [trial["state"] == "failed" for trial in past]
    assert np.mean(states[:10]) > 0.5 and np.mean(states[trials // 2 :]) < 0.35


@pytest.mark.parametrize("learning", ["tpe", "gp"])
def test_where_all_failed_there_is_a_next_proposal(learning: str) -> None:
    past = [failed(number, p) for number, p in enumerate(propose(SPACE, learning, 0, [], 12))]
    assert len(propose(SPACE, learning, 0, past, 3)) == 3


@pytest.mark.parametrize(("learning", "trials"), [("tpe", 40), ("gp", 24)])
def test_tpe_and_gp_learn_where_random_proposals_do_not(learning: str, trials: int) -> None:
    """A parabola on [0, 1] with its top at 0.7: in every search the last half of the proposals comes nearer to it."""
    line, distance = dimensions_of({"x": {"low": 0, "high": 1}}), {}
    for sampler in (learning, "random"):
        every = [search(sampler, trials, 1, seed, line, lambda p: -((p["x"] - 0.7) ** 2)) for seed in range(4)]
        last = [found[trials // 2 :] for found in every]
        distance[sampler] = np.array([np.mean([abs(p["x"] - 0.7) for p in proposals(trials)]) for trials in last])
    assert (distance[learning] < distance["random"]).all()
    assert distance[learning].mean() < 0.5 * distance["random"].mean()


# Quasi-random and random


@pytest.mark.parametrize("sampler", ["qmc", "random"])
@pytest.mark.parametrize("size", [3, 5, 14])
def test_without_learning_the_size_of_the_rounds_does_not_matter(sampler: str, size: int) -> None:
    assert search(sampler, 14, size) == search(sampler, 14, 1)


def test_qmc_is_the_sequence_of_one_sampler_for_all_trials() -> None:
    """Optuna draws the first trial at random, to learn the dimensions."""
    sampler = QMCSampler(scramble=True, seed=derive(4, "sequence") % 2**32)
    study, expected = optuna.create_study(sampler=sampler), []
    for _ in range(12):
        asked = study.ask()
        expected.append(
            {
                "objective.ce": asked.suggest_float("objective.ce", 1e-4, 10, log=True),
                "weight_decay": asked.suggest_float("weight_decay", -1, 3),
            }
        )
        study.tell(asked, 0)
    found = propose(FLOATS, "qmc", 4, [], 12)
    assert found[1:] == expected[1:] and found[0] != expected[0]


def test_qmc_is_scipys_scrambled_sobol_sequence() -> None:
    points = qmc.Sobol(2, scramble=True, seed=derive(4, "sequence") % 2**32).random(16)
    found = propose(FLOATS, "qmc", 4, [], 17)[1:]
    unit = [((math.log10(p["objective.ce"]) + 4) / 5, (p["weight_decay"] + 1) / 4) for p in found]
    np.testing.assert_allclose(unit, points, atol=1e-12)


@pytest.mark.parametrize("on", [True, False])
def test_optional_dimensions_do_not_disturb_the_sequence_of_the_others(on: bool) -> None:
    """The first trial fixes which dimensions the sequence has: z? always, z where it is on."""
    unit = {"low": 0, "high": 1}
    space = dimensions_of({"x": unit, "y": unit, "z": unit | {"optional": True}})
    seed = next(s for s in range(99) if propose(space, "qmc", s, [], 1)[0]["z?"] is on)
    points = qmc.Sobol(3 + on, scramble=True, seed=derive(seed, "sequence") % 2**32).random(16)
    found = propose(space, "qmc", seed, [], 17)[1:]
    assert {p["z?"] for p in found} == {True, False}
    np.testing.assert_allclose([(p["x"], p["y"]) for p in found], points[:, :2], atol=1e-12)


def test_qmc_covers_every_cell_of_a_grid() -> None:
    """64 points of a Sobol sequence: one in each of 8 x 8 cells."""
    unit = dimensions_of({"x": {"low": 0, "high": 1}, "y": {"low": 0, "high": 1}})
    cells = {(int(8 * p["x"]), int(8 * p["y"])) for p in propose(unit, "qmc", 0, [], 65)[1:]}
    assert len(cells) == 64


# What a proposal holds


@pytest.mark.parametrize("sampler", SAMPLER_NAMES)
def test_a_proposal_holds_the_free_dimensions_and_the_optional_ones_that_are_on(sampler: str) -> None:
    always = {"weight_decay", "learning_rate", "schedule", "seed", "objective.hinge?", "ema?"}
    seen = {"objective.hinge": set(), "ema": set()}
    for proposal in proposals(search(sampler, 24, 4)):
        on = {key for key in seen if proposal[f"{key}?"]}
        assert set(proposal) == always | on
        for key in seen:
            seen[key].add(key in on)
    assert all(states == {True, False} for states in seen.values())


@st.composite
def a_dimension(draw: st.DrawFn) -> dict[str, Any]:
    """A range or a list of choices."""
    kind = draw(st.sampled_from(["linear", "log", "integer", "log integer", "choices"]))
    optional = {"optional": draw(st.booleans())}
    if kind == "choices":
        values = st.one_of(
            st.none(), st.booleans(), st.integers(2, 99), st.floats(0.1, 0.9), st.text("abc", min_size=1)
        )
        return optional | {"choices": draw(st.lists(values, min_size=2, max_size=5, unique=True))}
    if "integer" in kind:
        low = draw(st.integers(1 if "log" in kind else -50, 50))
        return optional | {"low": low, "high": low + draw(st.integers(1, 60)), "integer": True, "log": "log" in kind}
    low = draw(st.floats(1e-6, 10) if kind == "log" else st.floats(-100, 100))
    return optional | {"low": low, "high": low + draw(st.floats(1e-3, 100)), "log": kind == "log"}


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(st.sampled_from("abcdef"), a_dimension(), min_size=1, max_size=4),
    st.sampled_from(SAMPLER_NAMES),
    st.integers(0, 2**31),
)
def test_every_value_is_in_its_range_and_of_its_kind(given_dimensions: dict, sampler: str, seed: int) -> None:
    space = dimensions_of(given_dimensions | {"pinned": 2.5})
    trials = search(sampler, 14, 7, seed, space, lambda p: float(len(p)))
    for proposal in proposals(trials):
        assert "pinned" not in proposal
        for key, value in proposal.items():
            how = space[key.removesuffix("?")]
            assert isinstance(how, Dimension)
            if key.endswith("?"):
                assert how.optional and isinstance(value, bool)
            elif how.choices:
                assert any(value is choice or value == choice for choice in how.choices)
            else:
                assert how.low <= value <= how.high and isinstance(value, int if how.integer else float)


def test_a_logarithmic_range_is_even_in_the_logarithm() -> None:
    """Of 1000 random values between 1e-4 and 1 a half is below 1e-2, and of linear ones a hundredth."""
    for log, share in ((True, 0.5), (False, 0.01)):
        space = dimensions_of({"x": {"low": 1e-4, "high": 1, "log": log}})
        small = np.mean([p["x"] < 1e-2 for p in propose(space, "random", 0, [], 1000)])
        assert small == pytest.approx(share, abs=0.05)


def test_every_sampler_of_the_config_is_known() -> None:
    assert tuple(SAMPLERS) == SAMPLER_NAMES
