"""The outer loop of AutoFT: short training runs from one start, each scored on a small validation set.

Model, data and validation images are loaded once; weights are set back in place before every trial. N images.
"""

import math
import time
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from surefoot.augment import augment
from surefoot.clip import CONFIG, WEIGHTS, Preprocess, load_state
from surefoot.data import Data, Examples
from surefoot.device import pick_device
from surefoot.evaluate import METRICS, Scored
from surefoot.files import BadValues, UserError, digest_of, write_json
from surefoot.finetune import start_classifier
from surefoot.gradients import NoMemory
from surefoot.images import Crops
from surefoot.method_entries import Augmentation, Recipe, Training, changed
from surefoot.proposals import propose
from surefoot.records import metered, peaks, versions
from surefoot.references import References
from surefoot.resume import Resumable, fingerprint, state_folder
from surefoot.roles import VALIDATION_ROLES
from surefoot.seeds import derive, numpy_stream, stream_seed, torch_stream
from surefoot.spaces import Dimension
from surefoot.train import Run, fit
from surefoot.trials import Trial, changes, dimensions_of, read_trials, write_trials

LOWER_IS_BETTER = ("nll", "ece")
SPENT = ("steps", "images", "seconds", "cpu_seconds")
# Dimensions with which a trial can need more memory than the method itself.
TAKES_MEMORY = ("batch_size", "accumulation", "precision")
BATCH = 256


def validation_images(data: Data, seed: int, eval_set: str, images: int | None, balanced: bool) -> Examples:
    """The labelled images that score the trials, the same for every trial of a search.

    Balanced: N // C images of each of the C classes present (all of a class that has fewer). Raises UserError for
    fewer than two classes, and says whether more `images` would help.
    """
    if eval_set not in VALIDATION_ROLES:
        raise ValueError(f"selection was handed {eval_set}")
    if not (parts := data.task.parts_of(eval_set)):
        raise UserError(f"task {data.task.name} has no {eval_set} to score a search; choose another eval_set")
    examples = whole = data.examples(parts, seed)
    if images is not None:
        stream = numpy_stream(seed, "search validation", eval_set, images, balanced)
        examples = examples.subset(_draw(examples.labels, images, balanced, stream))
    if len(present := np.unique(examples.labels)) < 2:
        more = len(np.unique(whole.labels)) > 1
        raise UserError(
            f"task {data.task.name}, {eval_set}: {len(examples)} images of {len(present)} classes cannot score a "
            f"search; {'raise the images of the space' if more else 'choose another eval_set of the space'}"
        )
    return examples


def _draw(labels: np.ndarray, images: int, balanced: bool, stream: np.random.Generator) -> np.ndarray:
    order = stream.permutation(len(labels))
    if not balanced:
        return order[:images]
    present = np.unique(labels)
    chosen = [order[labels[order] == label][: images // len(present)] for label in present]
    return np.concatenate([order[:0], *chosen])


class Arena:
    """Where the trials of one search run."""

    def __init__(
        self, model: Path, head: Path, data: Data, space: dict[str, Any], base: Path | None, seed: int
    ) -> None:
        """Args: space: what a job is given of the space's entry, see `flow_search.Searches.search_entry`; seed: of the
        search."""
        self.model, self.encoded, self.spent = model, {}, Counter()
        read = (model / CONFIG, model / WEIGHTS, head, *([base] if base else []))
        self.digests = [data.digests, *(digest_of(file) for file in read)]
        self.data, self.space, self.seed, self.device = data, space, seed, pick_device()
        self.dimensions = dimensions_of(space["dimensions"])
        recipe = Recipe.model_validate(space["recipe"])
        training = Training.model_validate(space["training"])
        zero_shot, self.preprocess = load_state(head), Preprocess.of(model)
        data.check_transform(self.preprocess.size, model)
        start = start_classifier(model, zero_shot, training, recipe.head, base, seed)
        self.classifier = start.to(self.device)
        self.start = {key: tensor.clone() for key, tensor in self.classifier.state_dict().items()}
        self.references = References(model, zero_shot, data.task, training.options, seed, self.device)
        self.examples = data.training(seed, training.share)
        how = (space["eval_set"], space["images"], space["balanced"])
        self.validation = validation_images(data, seed, *how)
        self.metric = space["metric"]
        if self.metric == "worst_group" and len(np.unique(self.validation.groups)) < 2:
            raise UserError(
                f"spaces.{space['name']}.metric: worst_group needs groups, and the images of {how[0]} are of one; "
                "choose another metric"
            )

    def mark(self, task: dict[str, Any], code: str, *others: Any) -> str:
        """Digest of everything that decides the trials; task: entry of the config; code: digest of what runs."""
        return fingerprint(task, self.space, self.seed, code, self.digests, versions("optuna"), *others)

    @cached_property
    def images(self) -> torch.Tensor:
        """Validation images, uint8 [N, H, W, 3], on the device."""
        return self.validation.images(np.arange(len(self.validation))).to(self.device)

    def views(self, number: int) -> Iterator[torch.Tensor]:
        """Batches [B, 3, H, W] of the validation images, as they are or changed at random like training images."""
        how, images = Augmentation(), None
        if self.space["changed"]:
            how = Recipe.model_validate(self.space["recipe"]).augmentation
        if how.crop:
            everything = np.arange(len(self.validation))
            images = self.validation.images(
                everything, Crops(how.crop, derive(self.seed, "validation crops"), number)
            ).to(self.device)
        stream = torch_stream(self.seed, "validation changes", number)
        for batch in (self.images if images is None else images).split(BATCH):
            yield self.preprocess.normalise(augment(self.preprocess.scale(batch), how, stream))

    def run(self, number: int, proposal: dict[str, Any]) -> Trial:
        """One trial: the start, a few steps, a score, what it cost. What goes wrong is part of the record."""
        values = changes(self.dimensions, proposal, "trials")
        before, wall, cpu = self.spent.copy(), time.perf_counter(), time.process_time()
        score, reason = self.attempt(values, number, self.space["trial"])
        self.spent += {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
        return {
            "number": number,
            "proposal": proposal,
            "changes": values,
            "state": "failed" if reason else "done",
            "score": score,
            "reason": reason,
            "cost": {key: self.spent[key] - before[key] for key in SPENT} | peaks(),
        }

    def attempt(self, values: dict[str, Any], number: int, settings: dict[str, Any]) -> tuple[float, str]:
        """Score of a run on the validation images, higher is better; NaN and the reason where it failed.

        What says nothing of the values ends the job, so that it is tried again by the next: an image that cannot be
        read, a part that the model lacks. Raises UserError also when the GPU has no memory left, where no value asked
        for more than the method itself: another GPU would not fail.
        """
        try:
            self.train(values, number, settings)
            score = self.evaluate(number)
            if not math.isfinite(score):
                raise BadValues("the score is not finite")
            return score, ""
        except BadValues as error:
            return math.nan, str(error)
        except (NoMemory, torch.OutOfMemoryError) as error:
            torch.cuda.empty_cache()
            if any(isinstance(self.dimensions.get(key), Dimension) for key in TAKES_MEMORY):
                return math.nan, f"no memory left on the GPU ({error})"
            raise UserError(
                f"spaces.{self.space['name']}: trial {number} does not fit into the memory of the GPU; lower "
                f"batch_size, raise accumulation, or use a larger GPU; finished trials are kept ({error})"
            ) from error

    def train(self, values: dict[str, Any], number: int, settings: dict[str, Any]) -> None:
        """Leave the classifier as a run from the start ends. Raises BadValues for values without meaning."""
        own = {key: value for key, value in values.items() if key != "seed"}
        where = f"spaces.{self.space['name']}"
        try:
            # Only the final run has epochs to choose from.
            settings = {**settings, **own, "keep": "last"}
            training, recipe = changed(self.space["training"], self.space["recipe"], settings, where)
        except ValueError as error:
            raise BadValues(str(error)) from None
        self.classifier.load_state_dict(self.start)
        seed = stream_seed(self.seed, values)
        self.references.options, self.references.seed = training.options, seed
        steps = recipe.steps or recipe.epochs * math.ceil(len(self.examples) / recipe.batch_size)
        self.spent += {"steps": steps, "images": steps * min(recipe.batch_size, len(self.examples))}
        name = f"{self.space['name']} trial {number}"
        how = (training, recipe, self.examples, self.preprocess, self.references, seed, None, name)
        fit(self.classifier, Run(*how, quiet=True, section="spaces", encoded=self.encoded))

    @torch.no_grad()
    def evaluate(self, number: int) -> float:
        """Value of the classifier as it is. Raises BadValues where it has none: the last step can end in NaN."""
        labels = torch.from_numpy(self.validation.labels).to(self.device)
        logits = torch.cat([self.classifier(batch) for batch in self.views(number)])
        if not torch.isfinite(logits).all():
            raise BadValues("the logits are not finite; lower the learning_rate or the weights of the terms")
        log_p = logits.log_softmax(-1)
        confidence, predicted = log_p.max(-1)
        label = log_p.gather(1, labels[:, None])[:, 0]
        arrays = [tensor.cpu().numpy() for tensor in (predicted, confidence.exp(), label)]
        value = METRICS[self.metric](
            Scored(*arrays, self.validation.labels, self.validation.groups, self.validation.clusters)
        )
        return -value if self.metric in LOWER_IS_BETTER else value


def run_round(
    arena: Arena, numbers: range, mine: slice, history: list[Trial], progress: Resumable, bar: str
) -> list[Trial]:
    """Some trials of a round, in the order of their numbers.

    Args:
        numbers: of all trials of the round, which are proposed together.
        mine: which of them are run here.
        history: the trials of all rounds before, in the order of their numbers.
        progress: finished trials; a killed job goes on behind the last one.
        bar: words beside the progress bar.

    Raises UserError when the history is not that of the rounds before.
    """
    if [trial["number"] for trial in history] != list(range(numbers.start)):
        raise UserError(
            f"spaces.{arena.space['name']}: trial {numbers.start} needs all before it, but the records hold "
            f"{len(history)}; delete the folder of the search and rerun"
        )
    proposals = propose(arena.dimensions, arena.space["sampler"], arena.seed, history, len(numbers))
    found = []
    for number, proposal in tqdm([*zip(numbers, proposals, strict=True)][mine], desc=bar, leave=False):
        trial = progress.load(f"trial-{number}.pt")
        if not trial or trial["proposal"] != proposal:
            trial = arena.run(number, proposal)
            progress.save(f"trial-{number}.pt", trial)
        found.append(trial)
    return found


def search(
    arena: Arena,
    rounds: list[tuple[int, int]],
    shards: int,
    mark: str,
    history: list[Path],
    outputs: list[Path],
    meter: Path,
) -> None:
    """Run all rounds of a search, or one shard of one round, and write the records.

    Args:
        rounds: first trial, and the one behind the last, of the round of each output.
        shards: jobs that share a round: trial t of a round is that of shard t mod shards.
        mark: of the search, see `Arena.mark`.
        history: records of the rounds before the first output's.
        outputs: records to write, named round-{k}/shard-{i}.parquet; one shard of one round, or all rounds in order.
        meter: what the trials cost, those included that an interrupted job had run.
    """
    past, run = read_trials(history, mark), []
    # One for all shards, so that another number of them keeps what is there; and one for each config, code and data.
    progress = Resumable(state_folder(meter.parent.parent) / mark[:16], mark)
    with metered(0) as cost:
        for output, (first, behind) in zip(outputs, rounds, strict=True):
            k, shard = (int(name.partition("-")[2]) for name in (output.parent.name, output.stem))
            bar = f"{arena.space['name']} search {arena.seed} round {k}"
            mine = slice(shard, None, shards)
            found = [t | {"round": k} for t in run_round(arena, range(first, behind), mine, past, progress, bar)]
            columns = {"task": arena.data.task.name, "model": arena.model.name, "space": arena.space["name"]}
            write_trials(output, found, mark, **columns, search_seed=arena.seed)
            past, run = past + found, run + found
    total = {key: sum(trial["cost"][key] for trial in run) for key in SPENT}
    for key in ("seconds", "cpu_seconds"):  # with those of trials that were run before this job was interrupted
        cost[key] = round(cost[key] + total[key] - arena.spent[key], 3)
    for key in peaks():
        cost[key] = max([cost[key], *(trial["cost"][key] for trial in run)])
    cost["images_per_second"] = round(total["images"] / cost["seconds"], 1)
    images = {"training_images": len(arena.examples), "validation_images": len(arena.validation)}
    write_json(meter, cost | images | {"steps": total["steps"]})
    # The trials' states stay: a search with more trials goes on behind them.
