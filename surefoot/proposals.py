"""Proposals of a search as a pure function of its space, its seed and the trials before (Optuna's samplers)."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, GPSampler, QMCSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from surefoot.files import atomic
from surefoot.seeds import derive
from surefoot.spaces import Dimension
from surefoot.trials import Space, Trial, dimensions_of, value

optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
warnings.filterwarnings("ignore", message="Clip non-finite values")  # the Gaussian process takes failures as worst


def _seed(seed: int, *purpose: object) -> int:
    return derive(seed, *purpose) % 2**32


# A sampler is made anew for every trial, so that a proposal depends on the trials before it and on nothing else. The
# quasi-random sequence is one for the whole search.
SAMPLERS: dict[str, Callable[[int, int], BaseSampler]] = {
    "tpe": lambda seed, number: TPESampler(
        seed=_seed(seed, "proposal", number), multivariate=False, constant_liar=True
    ),
    "random": lambda seed, number: RandomSampler(seed=_seed(seed, "proposal", number)),
    "qmc": lambda seed, number: QMCSampler(
        scramble=True,
        seed=_seed(seed, "sequence"),
        independent_sampler=RandomSampler(seed=_seed(seed, "proposal", number)),
        warn_independent_sampling=False,
        warn_asynchronous_seeding=False,
    ),
    "gp": lambda seed, number: GPSampler(seed=_seed(seed, "proposal", number)),
}
LEARNING = {"tpe", "gp"}  # the others' proposals do not depend on scores


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """Every free dimension by name, so that the order in the config does not matter; `key?`: an optional key is on."""
    found: dict[str, BaseDistribution] = {}
    for key, dimension in sorted(space.items()):
        if not isinstance(dimension, Dimension):
            continue
        if dimension.optional:
            found[f"{key}?"] = CategoricalDistribution([True, False])
        if dimension.choices:
            found[key] = CategoricalDistribution(dimension.choices)
        elif dimension.integer:
            found[key] = IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
        else:
            found[key] = FloatDistribution(dimension.low, dimension.high, log=dimension.log)
    return found


def propose(space: Space, sampler: str, seed: int, history: list[Trial], count: int) -> list[dict[str, Any]]:
    """The next `count` proposals after the trials of the rounds before, in the order of their numbers.

    Within a round the sampler knows the earlier proposals as pending (constant liar).
    """
    study = optuna.create_study(direction="maximize")
    free = distributions(space)
    for trial in history if sampler in LEARNING else []:
        study.add_trial(known(trial, free))
    found = []
    for number in range(len(study.trials), len(history) + count):
        study.sampler = SAMPLERS[sampler](seed, number)
        asked = study.ask()
        found.append(_draw(asked, free))
        if number == 0 and sampler not in LEARNING:
            study.tell(asked, 0.0)  # the quasi-random sampler learns its dimensions from a finished trial
    return found[-count:]


def _draw(trial: optuna.Trial, free: dict[str, BaseDistribution]) -> dict[str, Any]:
    proposal: dict[str, Any] = {}
    for name, d in free.items():
        if not proposal.get(f"{name}?", True):
            continue
        if isinstance(d, CategoricalDistribution):
            proposal[name] = trial.suggest_categorical(name, d.choices)
        else:
            suggest = trial.suggest_int if isinstance(d, IntDistribution) else trial.suggest_float
            proposal[name] = suggest(name, d.low, d.high, log=d.log)
    return proposal


def known(trial: Trial, free: dict[str, BaseDistribution]) -> FrozenTrial:
    """A finished trial as Optuna knows it; a failed one is worse than all, which drives the sampler away.

    Optuna itself leaves failed trials out. Its TPE compares ranks only, so minus infinity has no weight of its own.
    """
    return create_trial(
        state=TrialState.COMPLETE,
        value=value(trial),
        params=trial["proposal"],
        distributions={name: free[name] for name in trial["proposal"]},
    )


def as_study(trials: list[Trial], space: Space, name: str, storage: str | None = None) -> optuna.Study:
    """The trials of a search as an Optuna study, in memory or in a storage; failed trials stay failed.

    Its values are the scores with the tie rule, so that Optuna's best trial is the search's.
    """
    study = optuna.create_study(direction="maximize", study_name=name, storage=storage)
    free = distributions(space)
    for trial in trials:
        done = trial["state"] == "done"
        study.add_trial(
            create_trial(
                state=TrialState.COMPLETE if done else TrialState.FAIL,
                value=value(trial) if done else None,
                params=trial["proposal"],
                distributions={key: free[key] for key in trial["proposal"]},
                user_attrs={"round": int(trial["round"]), "reason": trial["reason"], "changes": trial["changes"]},
            )
        )
    return study


def export_studies(searches: list[list[Trial]], spaces: dict[str, dict[str, Any]], path: Path) -> None:
    """Write searches as studies task/model/space/search-seed of one SQLite storage. `spaces`: task -> space -> its
    dimensions."""
    with atomic(path) as partial:
        for trials in searches:
            task, model, space, seed = (trials[0][key] for key in ("task", "model", "space", "search_seed"))
            name = f"{task}/{model}/{space}/search-{seed}"
            as_study(trials, dimensions_of(spaces[task][space]), name, f"sqlite:///{partial.resolve()}")


def importances(trials: list[Trial], space: dict[str, Any]) -> dict[str, float]:
    """Relative importance of each dimension for the scores (fANOVA), largest first; they sum to 1.

    Its variance is that of a model of the scores, so noise does not show. Optuna leaves out what some trials lack; here
    an optional dimension that is off counts as its lowest value (its first choice), and `<key>?`, whether it is on, is
    a dimension of its own. Empty for fewer than two scores.
    """
    free = distributions(dimensions_of(space))
    lowest = {key: d.choices[0] if isinstance(d, CategoricalDistribution) else d.low for key, d in free.items()}
    # Number 0, so that the tie rule adds nothing to a score.
    filled = [trial | {"number": 0, "proposal": lowest | trial["proposal"]} for trial in trials]
    study = as_study(filled, dimensions_of(space), "importances")
    if len({trial["score"] for trial in trials if trial["state"] == "done"}) < 2:
        return {}
    return optuna.importance.get_param_importances(study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0))
