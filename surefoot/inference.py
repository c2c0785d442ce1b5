"""What inference costs: WiSE-FT's claim is that a merged model costs as much as one model."""

import statistics
import time
from pathlib import Path

import torch

from surefoot.clip import Classifier, Preprocess, State, convention_of, load_state, zero_shot_classifier
from surefoot.data import Data
from surefoot.device import pick_device
from surefoot.interpolate import interpolate
from surefoot.records import load_trained

ROUNDS = 7


@torch.no_grad()
def measure_inference(model: Path, head: Path, end: Path, data: Data, seed: int, batch: int, alpha: float) -> dict:
    """Median seconds of one batch for the zero-shot, the fine-tuned and the merged model and the ensemble of outputs.

    The four are timed in turn, `ROUNDS` times, so that a slow moment of the machine hits all of them.
    """
    device = pick_device()
    start = load_state(head)
    theta1 = load_trained(end)
    convention = convention_of(theta1)
    theta0 = zero_shot_classifier(model, start, convention).state_dict()

    def build(theta: State) -> Classifier:
        built = zero_shot_classifier(model, start, convention)
        built.load_state_dict(theta)
        return built.to(device)

    models = {
        "zero-shot": build(theta0),
        "fine-tuned": build(theta1),
        "merged": build(interpolate(theta0, theta1, alpha)),
    }
    examples = data.examples(data.task.eval_sets[0].parts, seed)
    x = Preprocess.of(model)(examples.images(next(examples.batches(batch))).to(device))
    calls = {name: (lambda m=m: m(x).softmax(-1)) for name, m in models.items()}
    calls["output-space ensemble"] = lambda: torch.lerp(
        models["zero-shot"](x).softmax(-1), models["fine-tuned"](x).softmax(-1), alpha
    )
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - begin)
    return {"images": len(x), "seconds": {name: statistics.median(times) for name, times in seconds.items()}}
