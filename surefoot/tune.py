"""Choosing a recipe on validation images: every method tries the same number of settings from its own grid."""

from typing import Any

import pandas as pd
from tqdm import tqdm

from surefoot.clip import Preprocess
from surefoot.data import Data
from surefoot.finetune import Bench
from surefoot.metrics import accuracy
from surefoot.passes import predict
from surefoot.resume import Resumable
from surefoot.roles import VALIDATION_ROLES


def tune(
    benches: list[Bench], points: list[dict[str, Any]], bases: dict[int, Any], data: Data, progress: Resumable
) -> pd.DataFrame:
    """Train every setting under every seed and score it on the validation sets.

    Args:
        benches: one per setting; they differ in the method's entry alone.
        points: what each setting changes, key -> value.
        bases: seed -> weights to start from, or None.
        data: prepared splits of the task.
        progress: finished settings; a killed job goes on behind the last one.

    Returns rows: method, point, setting, seed, eval_set, role, metric, value, n.
    """
    rows = []
    work = [(number, seed) for number in range(len(benches)) for seed in bases]
    for number, seed in tqdm(work, desc=benches[0].method["name"]):
        bench, name = benches[number], f"point-{number} seed-{seed}.pt"
        if not (found := progress.load(name)):
            mark = f" point {number}"
            trained = bench.run(bases[seed], seed, progress, quiet=True, mark=mark)
            found = {"rows": [_score(bench, trained.classifier, data, seed, role) for role in VALIDATION_ROLES]}
            progress.save(name, found)
            progress.forget(f"{bench.method['name']} seed {seed}{mark}.pt")
        setting = ", ".join(f"{key} {value:g}" for key, value in points[number].items())
        rows += [{"method": bench.method["name"], "point": number, "setting": setting, **row} for row in found["rows"]]
    return pd.DataFrame(rows)


def _score(bench: Bench, classifier: Any, data: Data, seed: int, role: str) -> dict[str, Any]:
    examples, metric = data.examples(data.task.parts_of(role), seed), bench.method["metric"]
    predicted = predict(classifier, examples, Preprocess.of(bench.model))
    value = accuracy(metric, predicted, examples.labels, examples.groups, examples.clusters)
    return {"seed": seed, "eval_set": role, "role": role, "metric": metric, "value": value, "n": len(examples)}
