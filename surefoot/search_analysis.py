"""What a search could be wrong about: short runs that mislead, and terms that do not matter. Validation images only."""

from typing import Any

import pandas as pd
from tqdm import tqdm

from surefoot.proposals import propose
from surefoot.resume import Resumable
from surefoot.search import Arena
from surefoot.seeds import derive
from surefoot.trials import changes

FULL = 0  # number of steps that stands for the final run


def score_lengths(arena: Arena, proposals: int, lengths: list[int], progress: Resumable) -> pd.DataFrame:
    """Scores of random proposals after different numbers of inner steps, and after the final run (AutoFT's code).

    Returns rows: number, steps (0: the final run), score (NaN where the run failed), reason.
    """
    drawn = propose(arena.dimensions, "random", derive(arena.seed, "lengths"), [], proposals)
    rows = []
    for number, proposal in enumerate(tqdm(drawn, desc=f"{arena.space['name']} lengths")):
        name = f"lengths-{number}.pt"
        if not (found := progress.load(name)):
            short = changes(arena.dimensions, proposal, "trials")
            found = {"rows": [_row(arena, short, steps, number) for steps in lengths]}
            found["rows"].append(_row(arena, changes(arena.dimensions, proposal, "final"), FULL, number))
            progress.save(name, found)
        rows += found["rows"]
    return pd.DataFrame(rows)


def _row(arena: Arena, changed: dict[str, Any], steps: int, number: int) -> dict[str, Any]:
    settings = {**arena.space["trial"], "steps": steps} if steps else {**arena.space["final"], "keep": "last"}
    score, reason = arena.attempt(changed, number, settings)
    return {"number": number, "steps": steps, "score": score, "reason": reason}


def score_without(arena: Arena, learned: dict[str, Any], repeats: int, progress: Resumable) -> pd.DataFrame:
    """Scores of the final run with a learned objective, and without each of its terms in turn.

    `learned`: the winner's changes. Returns rows: without (empty: all terms), repeat, score, reason; each repeat has a
    random seed of its own, the same for all variants.
    """
    terms = [key for key, weight in learned.items() if key.startswith("objective.") and weight]
    settings = {**arena.space["final"], "keep": "last"}
    rows = []
    variants = ["", *(terms if len(terms) > 1 else [])]
    for repeat, term in tqdm([(r, t) for r in range(repeats) for t in variants], desc=f"{arena.space['name']} without"):
        name = f"without-{term}-{repeat}.pt"
        if not (found := progress.load(name)):
            changed = learned | ({term: None} if term else {}) | ({"seed": f"repeat {repeat}"} if repeat else {})
            score, reason = arena.attempt(changed, repeat, settings)
            found = {"without": term.removeprefix("objective."), "repeat": repeat, "score": score, "reason": reason}
            progress.save(name, found)
        rows.append(found)
    return pd.DataFrame(rows)
