"""Typed models of everything a user can write in config/, the checks between them, and the messages for mistakes.

No torch here: the Snakefile imports this module. The JSON schema in config/schema.json is generated from it.
"""

import difflib
import re
from itertools import product
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from surefoot.files import UserError

# The names of what the library registers; a contract test holds them equal to the registries.
TermName = Literal[
    "ce", "hinge", "flyp", "entropy", "dcm", "l1zero", "l2zero", "l1init", "l2init", "lipsum", "kd", "carft"
]
PartName = Literal["image", "text", "head", "logit_scale", "embedding", "first-blocks", "middle-blocks", "last-blocks"]
RatesName = Literal["one", "rgn", "rgn-group", "snr", "snr-released", "gradual-first", "gradual-last"]
MetricName = Literal["top1", "mean_per_class", "macro_f1", "worst_group", "nll", "ece"]
FamilyName = Literal["emoji"]
TowerName = Literal["resnet26", "resnet50"]

TERM_NAMES: tuple[str, ...] = get_args(TermName)
PART_NAMES: tuple[str, ...] = get_args(PartName)
RATES_NAMES: tuple[str, ...] = get_args(RatesName)
METRIC_NAMES: tuple[str, ...] = get_args(MetricName)
TOWER_NAMES: tuple[str, ...] = get_args(TowerName)
TEXT_TERMS: tuple[TermName, ...] = ("flyp", "lipsum", "carft")  # what an image tower alone cannot compute

# A dot would clash with what the workflow appends, as in ft.pair.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_@-]*$")]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def _known_part(name: str) -> str:
    if name not in PART_NAMES and not re.fullmatch(r"block-\d+", name):
        raise ValueError(f"unknown value {name!r}{suggestion(name, [*PART_NAMES, 'block-0'])}")
    return name


Part = Annotated[str, AfterValidator(_known_part)]


class Section(BaseModel):
    """A part of the config: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Augmentation(Section):
    """Random changes of each training image. All zero: none."""

    rotate: float = Field(0, ge=0, le=180, description="Largest rotation to either side, in degrees.")
    scale: float = Field(0, ge=0, le=1, description="Largest relative change of size: 0.1 draws from 1/1.1 to 1.1.")
    shift: float = Field(0, ge=0, le=1, description="Largest shift along each axis, as a part of the image's side.")
    mirror: float = Field(0, ge=0, le=1, description="Probability of a left-right mirror image.")


class Head(Section):
    """Convention of the classification head."""

    scaled: bool = Field(False, description="Multiply the rows by the logit scale (WiSE-FT's code), or keep unit rows.")
    bias: bool = Field(False, description="Add a trainable bias that starts at zero (WiSE-FT's code).")


class Recipe(Section):
    """How a method is optimised on a kind of task."""

    optimizer: Literal["adamw", "adam", "sgd", "lbfgs"] = Field(
        "adamw",
        description="adamw (decoupled decay), adam (decay added to the gradient), sgd (momentum 0.9), or lbfgs: the "
        "exact logistic regression on encoded features with weight_decay as L2 penalty; only for train: [head].",
    )
    learning_rate: float = Field(3.0e-5, gt=0, description="Peak learning rate.")
    weight_decay: float = Field(0.1, ge=0, description="Weight decay of every trained tensor.")
    batch_size: int = Field(512, gt=0, description="Images per step; the last, smaller batch of an epoch is used too.")
    epochs: int = Field(10, gt=0, description="Passes over the training images.")
    keep: Literal["last", "best"] = Field(
        "last", description="The weights after the last epoch, or after the epoch that is best on id_val."
    )
    warmup: int = Field(500, ge=0, description="Steps of linear warm-up, at most a tenth of all steps.")
    schedule: Literal["cosine", "constant"] = Field("cosine", description="Learning rate after warm-up.")
    clip_norm: float | None = Field(1.0, gt=0, description="Largest global gradient norm; null: no clipping.")
    label_smoothing: float = Field(0, ge=0, lt=1, description="Part of the target spread evenly over the classes.")
    augmentation: Augmentation = Field(Augmentation(), description="Random changes of the training images.")
    norm_statistics: Literal["update", "keep"] = Field(
        "update", description="Running statistics of batch norms in a trained image tower: update or keep them."
    )
    head: Head = Field(Head(), description="Convention of the classification head.")


class Tpgm(Section):
    """Projection of the trained weights into learned radii around the zero-shot model (TPGM, Tian et al. 2023)."""

    steps: int = Field(200, gt=0, description="Steps of Adam on the radii, on images of id_val.")
    learning_rate: float = Field(1.0e-2, gt=0, description="Learning rate of the radii.")
    batch_size: int = Field(64, gt=0, description="Validation images per step.")


class Options(Section):
    """Settings of single terms and rates."""

    lipsum_texts: int = Field(80, gt=0, description="Random texts per step (Lipsum-FT's M).")
    lipsum_length: int = Field(8, gt=0, description="Random tokens per text (Lipsum-FT's L).")
    kd_temperature: float = Field(10, gt=0, description="Temperature of both distributions in kd.")
    carft_temperature: float = Field(1, gt=0, description="Temperature of both context distributions in carft.")
    probe_batches: int = Field(5, gt=0, description="Batches whose gradients set the rates rgn and snr of an epoch.")
    snr_threshold: Share = Field(0.2, description="Tensors whose snr, relative to the largest, is lower are frozen.")


class Training(Section):
    """What a method does to the weights: a point in the space of methods, without its recipe."""

    start: Literal["zero-shot", "random"] = Field(
        "zero-shot", description="The first weights; random: from scratch, a baseline of effective robustness."
    )
    share: float = Field(1, gt=0, le=1, description="Part of the training images that is used, class by class.")
    train: list[Part] = Field(
        default=[],
        description="Parts that are trained; the others stay bit-identical. Any of " + ", ".join(PART_NAMES) + ", or "
        "block-k with k from 0. first-blocks and last-blocks are a quarter of the blocks, middle-blocks the rest.",
    )
    objective: dict[TermName, Weight] = Field(
        default={"ce": 1.0}, min_length=1, description="Terms of the loss and their weights."
    )
    options: Options = Field(Options(), description="Settings of single terms and rates.")
    rates: RatesName | dict[Part, Weight] = Field(
        "one",
        description="How the learning rate is spread over the layers: one rate; a factor per part (1 if not named); "
        "rgn (Auto-RGN per tensor, as released) or rgn-group; snr (Auto-SNR as described) or snr-released; "
        "gradual-first or gradual-last (unfreezing from the first or the last layer).",
    )

    @field_validator("objective")
    @classmethod
    def _says_something(cls, objective: dict[str, float]) -> dict[str, float]:
        if not any(objective.values()):
            raise ValueError("every weight is 0, so there is nothing to minimise")
        return objective

    ema: float | None = Field(
        None, gt=0, lt=1, description="Momentum of an average of the weights over the steps, which replaces them."
    )
    tpgm: Tpgm | None = Field(None, description="Project the final weights (null: not).")


class Method(Training):
    """A fine-tuning method: a point in the space of methods."""

    label: str = Field(description="Name in tables and figures.")
    reference: str = Field(description="Paper and section that the entry follows.")
    differs: str = Field("", description="What differs from the paper or from its released code.")
    base: Name | None = Field(None, description="Method whose trained weights are the start (LP-FT: the linear probe).")
    recipes: dict[Name, dict[str, Any]] = Field(
        default={},
        description="Per recipe name: keys of the recipe or of the method (objective, ema, …) that differ under it. "
        "A map such as augmentation or objective is replaced whole; objective.<term> or tpgm.steps changes one value.",
    )
    grids: dict[Name, dict[str, list[float]]] = Field(
        default={},
        description="Per recipe name: keys as in recipes and the values that the target `tune` tries.",
    )

    @property
    def changes_weights(self) -> bool:
        """Whether the method ends anywhere else than at the zero-shot model."""
        return bool(self.train or self.tpgm or self.base)


class Model(Section):
    """Where a model comes from: a folder of files, open_clip's own downloads, or an image tower alone."""

    folder: str | None = Field(None, description="Folder with open_clip_config.json and open_clip_model.safetensors.")
    architecture: str | None = Field(None, description="open_clip's name of the architecture, such as ViT-B-16.")
    pretrained: str | None = Field(
        None,
        description="open_clip's name of the weights, such as openai; of a tower torchvision's, such as "
        "IMAGENET1K_V2, or null for random weights.",
    )
    tower: TowerName | None = Field(
        None,
        description="An image tower without text tower: resnet26 (for small images, group norms, random weights) or "
        "torchvision's resnet50. Its head starts at random, so methods without training are at chance.",
    )
    image_size: int | None = Field(
        None, ge=8, multiple_of=4, description="Side of a tower's input in pixels; null: 32 (resnet26), 224 (resnet50)."
    )

    @model_validator(mode="after")
    def _one_source(self) -> "Model":
        given = [key for key in ("folder", "architecture", "tower") if getattr(self, key) is not None]
        complete = {"folder": self.pretrained is None, "architecture": self.pretrained is not None, "tower": True}
        if len(given) != 1 or not complete[given[0]]:
            raise ValueError("give either folder, or architecture and pretrained, or tower")
        if self.tower == "resnet26" and self.pretrained:
            raise ValueError("resnet26 has no published weights: leave pretrained out, or name a folder with weights")
        if self.image_size and not self.tower:
            raise ValueError("image_size is for a tower; a CLIP model knows its own")
        return self


class Line(Section):
    """A line of standard models: logit(average under shift) = slope * logit(in distribution) + intercept."""

    slope: float = Field(description="In natural logits.")
    intercept: float = Field(description="In natural logits.")


class Task(Section):
    """A task: a data set, what is trained on and what is tested."""

    family: FamilyName = Field(description="Module of surefoot/tasks that knows the data set.")
    shift: Literal["style", "corrupt", "subtype", "flip"] = Field(
        "style", description="What differs between training and test, or between source and target."
    )
    recipe: Name = Field(description="Entry of recipes used on this task.")
    source: Name | None = Field(
        None, description="Task whose fine-tuned models are adapted to this one's targets; null: this task's own."
    )
    corruptions: list[str] = Field(
        default=["gaussian_noise", "gaussian_blur", "contrast"],
        min_length=1,
        description="With shift corrupt: the corruptions, at severity 5; a model is adapted to each.",
    )
    classes: list[str] | None = Field(None, min_length=2, description="Only these classes; null: all of the data set.")
    concepts: int | None = Field(None, ge=12, description="At most so many concepts a class; null: all.")
    baseline_line: Line | None = Field(
        None, description="Published line of standard models, for effective robustness where run.baselines is empty."
    )
    metric: Literal["top1", "mean_per_class"] = Field(
        "mean_per_class", description="The metric of the main table: those that have intervals; all are in the records."
    )


class Run(Section):
    """What to run: every task with every model with every method."""

    tasks: list[Name] = Field(min_length=1, description="Entries of tasks.")
    models: list[Name] = Field(min_length=1, description="Entries of models.")
    methods: list[Name] = Field(min_length=1, description="Entries of methods.")
    reference: Name | None = Field(
        None, description="Method that the others are compared with in the effects; null: the first that trains all."
    )
    pairs: list[Name] = Field(
        default=[], description="Methods of which two seeds are ensembled (trained again with seed + 3 x fold rounds)."
    )
    baselines: list[Name] = Field(
        default=[],
        description="Methods with start: random, whose line of accuracies effective robustness is measured from.",
    )


class Surgical(Section):
    """Adaptation of source models to targets with few labels (Surgical Fine-Tuning)."""

    tasks: list[Name] = Field(default=[], description="Entries of tasks with a shift of source and target.")
    methods: list[Name] = Field(default=[], description="Entries of methods that adapt: the arms.")
    source: Name = Field("ft", description="Method that makes the source model.")
    recipe: Name = Field(
        "target", description="Entry of recipes for the adaptation; its rate, keep and head serve not."
    )
    learning_rates: list[Annotated[float, Field(gt=0)]] = Field(
        default=[1.0e-4, 1.0e-3, 1.0e-2],
        min_length=1,
        description="Rates that every method tries; rate and epoch are chosen on target_val.",
    )
    shots: list[Annotated[int, Field(gt=0)]] = Field(
        default=[3], min_length=1, description="Numbers of labelled target images a class."
    )


class Online(Section):
    """Unsupervised adaptation to a stream of target images (Surgical Fine-Tuning, with MEMO's loss)."""

    tasks: list[Name] = Field(default=[], description="Entries of surgical.tasks.")
    methods: list[Name] = Field(default=[], description="Entries of methods: which parts move.")
    recipe: Name = Field(
        "online", description="Entry of recipes: learning rate, weight decay and changes of the copies."
    )
    copies: int = Field(16, gt=1, description="Changed copies of each image, whose mean prediction gets certain.")
    learning_rates: list[Annotated[float, Field(gt=0)]] = Field(
        default=[1.0e-4, 1.0e-3, 1.0e-2], min_length=1, description="Rates of SGD; chosen on a stream of target_val."
    )


class Tuning(Section):
    """Choosing recipes on validation images (target `tune`)."""

    eval_set: Literal["id_val", "ood_val"] = Field(
        "id_val", description="Validation set that chooses, for all methods."
    )
    settings: int = Field(6, gt=0, description="Size of every method's grid: all methods have the same budget.")


class Bootstrap(Section):
    """Intervals of the tables."""

    draws: int = Field(2000, ge=100, description="Resamples of the concepts.")
    level: float = Field(0.95, gt=0.5, lt=1, description="Coverage of an interval.")
    seed: int = Field(
        0, description="Seed of the resamples; the same draws serve every row, so differences are paired."
    )


class Pretraining(Section):
    """How the embedded CLIP is made from nothing (target `pretrain`)."""

    seed: int = Field(0, description="Seed of the weights, the order of the samples, the captions and the changes.")
    steps: int = Field(50000, gt=0, description="Optimizer steps.")
    batch_size: int = Field(64, gt=1, description="Image-caption pairs per step.")
    learning_rate: float = Field(1.2e-3, gt=0, description="Peak learning rate of AdamW.")
    weight_decay: float = Field(
        0.1, ge=0, description="Decoupled weight decay of matrices; biases and norms have none."
    )
    warmup: int = Field(500, ge=0, description="Steps of linear warm-up; then a half cosine to zero.")
    style_caption: Share = Field(0.3, description="Share of captions that say the style of the drawing.")
    name_caption: Share = Field(0.8, description="Share of captions that say the emoji's name.")
    class_caption: Share = Field(0.7, description="Share of captions that say the class, for concepts where they may.")
    group_caption: Share = Field(0.5, description="Share of captions that say Unicode's group.")
    patch_dropout: float = Field(0, ge=0, lt=1, description="Part of the image patches dropped in training.")
    augmentation: Augmentation = Field(
        Augmentation(rotate=10, scale=0.2, shift=0.08, mirror=0.5), description="Changes of the images."
    )
    save_every: int = Field(500, gt=0, description="Steps between two saved states, from which a killed run goes on.")


class Config(Section):
    """The whole config."""

    experiment: Name = Field(description="Name of the experiment, shown in the report.")
    run: Run = Field(description="What to run.")
    seeds: list[Annotated[int, Field(ge=0)]] = Field(
        min_length=1, description="Run seeds. On tasks with folds, seed s tests fold s mod 3."
    )
    seeds_per_job: Literal["all", "one"] = Field(
        "one", description="'all': one job trains every seed of a method, which saves start-up where a run is short."
    )
    alpha_step: float = Field(
        0.1, gt=0, le=1, description="Step of the WiSE-FT grid from alpha 0 (zero-shot) to 1 (fine-tuned); divides 1."
    )
    fixed_alpha: Share = Field(0.5, description="The alpha that is reported without any selection; on the grid.")
    evaluation_batch: int = Field(256, gt=0, description="Images per forward pass of an evaluation.")
    renders: int = Field(
        1,
        gt=0,
        description="Versions of each test image: 1, or more with small fixed changes (2 of 48 pixels, 8 degrees).",
    )
    image_size: dict[FamilyName, Annotated[int, Field(ge=8)]] = Field(
        description="Side of the prepared images of a family, in pixels; a model with another input size resizes."
    )
    logit_axes: bool = Field(False, description="Draw the frontier on logit-scaled axes.")
    bootstrap: Bootstrap = Field(Bootstrap(), description="Intervals of the tables.")
    tasks: dict[Name, Task] = Field(description="Known tasks.")
    models: dict[Name, Model] = Field(description="Known CLIP models.")
    recipes: dict[Name, Recipe] = Field(description="Known recipes: how training is done on a kind of task.")
    methods: dict[Name, Method] = Field(description="Known methods.")
    surgical: Surgical = Field(Surgical(), description="Adaptation to targets with few labels.")
    online: Online = Field(Online(), description="Unsupervised adaptation to streams.")
    tuning: Tuning = Field(Tuning(), description="Choosing recipes on validation images.")
    pretraining: Pretraining = Field(Pretraining(), description="How the embedded CLIP is made.")

    @model_validator(mode="after")
    def _consistent(self) -> "Config":
        for key, names, known in (
            ("run.tasks", self.run.tasks, self.tasks),
            ("run.models", self.run.models, self.models),
            ("run.methods", self.run.methods, self.methods),
            ("run.baselines", self.run.baselines, self.methods),
            ("run.reference", [self.run.reference] if self.run.reference else [], self.run.methods),
            ("surgical.tasks", self.surgical.tasks, self.tasks),
            ("surgical.methods", self.surgical.methods, self.methods),
            ("surgical.source", [self.surgical.source] if self.surgical.tasks else [], self.methods),
            ("surgical.recipe", [self.surgical.recipe] if self.surgical.tasks else [], self.recipes),
            ("online.tasks", self.online.tasks, self.surgical.tasks),
            ("online.methods", self.online.methods, self.methods),
            ("online.recipe", [self.online.recipe] if self.online.tasks else [], self.recipes),
            *((f"tasks.{n}.source", [task.source], self.tasks) for n, task in self.tasks.items() if task.source),
            *((f"tasks.{n}.recipe", [task.recipe], self.recipes) for n, task in self.tasks.items()),
            *((f"methods.{n}.recipes", method.recipes, self.recipes) for n, method in self.methods.items()),
            *((f"methods.{n}.grids", method.grids, self.recipes) for n, method in self.methods.items()),
        ):
            for name in names:
                if name not in known:
                    raise ValueError(f"{key}: unknown name {name!r}{suggestion(name, known)}")
        if abs(round(1 / self.alpha_step) * self.alpha_step - 1) > 1e-9:
            raise ValueError(f"alpha_step: {self.alpha_step} does not divide 1; try 0.1 or 0.05")
        if self.fixed_alpha not in self.alphas:
            raise ValueError(f"fixed_alpha: {self.fixed_alpha} is not on the grid {self.alphas}")
        if not any(self.methods[method].changes_weights for method in self.run.methods):
            raise ValueError("run.methods: none of them trains anything; add one that does, such as ft")
        lists = {f"run.{key}": value for key, value in self.run if isinstance(value, list)}
        for name in ("surgical", "online"):
            lists |= {f"{name}.{key}": value for key, value in getattr(self, name) if isinstance(value, list)}
        for key, names in {"seeds": self.seeds, **lists}.items():
            if len(set(names)) < len(names):
                raise ValueError(f"{key}: an entry stands twice in {names}")
        for name, task in self.tasks.items():
            if task.family not in self.image_size:
                raise ValueError(f"image_size: missing key {task.family}, the family of task {name}")
        for pair in self.run.pairs:
            if pair not in self.run.methods:
                near = suggestion(pair, self.run.methods)
                raise ValueError(f"run.pairs: {pair!r} is not in run.methods (or set run.pairs to []){near}")
            if not self.methods[pair].changes_weights:
                raise ValueError(f"run.pairs: {pair} trains nothing, so two seeds of it are one model")
        for name in self.run.baselines:
            if self.methods[name].start != "random" or name in self.run.methods:
                raise ValueError(f"run.baselines: {name} must have start: random, and not stand in run.methods")
        if len(self.run.baselines) == 1:
            raise ValueError("run.baselines: one point makes no line; give two or more, or none")
        for name in self.run.tasks:
            if self.tasks[name].shift != "style":
                raise ValueError(f"run.tasks: {name} has no shifted test set, but targets; use surgical.tasks")
        for key, names in (("surgical", self.surgical.methods), ("online", self.online.methods)):
            for name in names:
                self._check_arm(key, name)
        for name in self.surgical.tasks:
            if self.tasks[name].shift == "style":
                raise ValueError(
                    f"surgical.tasks: {name} has no targets; use a task with shift corrupt, subtype or flip"
                )
        for name, method in self.methods.items():
            for recipe in method.recipes:
                self.resolve(name, recipe)
            for recipe in method.grids:
                points = self.grid_points(name, recipe)
                if len(points) != self.tuning.settings:
                    raise ValueError(
                        f"methods.{name}.grids.{recipe}: {len(points)} settings, but every method tries "
                        f"{self.tuning.settings} (tuning.settings)"
                    )
                for point in points:
                    self.resolve(name, recipe, point)
            self._check_base(name)
            if method.start == "random" and method.base:
                raise ValueError(f"methods.{name}: start random and base {method.base} exclude each other")
            if method.share < 1 and not method.train:
                raise ValueError(f"methods.{name}.share: nothing is trained")
        for name in self.run.models:
            if self.models[name].tower:
                self._check_without_text(name)
        return self

    def _check_without_text(self, model: str) -> None:
        run, surgical = self.run, self.surgical
        pairs = [(method, self.tasks[task].recipe) for task in run.tasks for method in (*run.methods, *run.baselines)]
        if surgical.tasks:
            pairs += [(surgical.source, self.tasks[task].recipe) for task in surgical.tasks]
            pairs += [(method, surgical.recipe) for method in surgical.methods]
        for method, recipe in pairs:
            training, _ = self.resolve(method, recipe)
            needs = [f"objective {term}" for term in training.objective if term in TEXT_TERMS]
            needs += ["train: text"] if "text" in training.train else []
            if needs:
                raise ValueError(f"run.models: {model} has no text tower, but {method} needs one: {', '.join(needs)}")

    def _check_arm(self, key: str, name: str) -> None:
        """An arm adapts a source model, so it has no start of its own; online it follows MEMO's loss alone."""
        arm, plain = self.methods[name], Training()
        ignored = {"base": None, "tpgm": None, "start": "zero-shot", "share": 1}
        if key == "online":
            ignored |= {"objective": plain.objective, "rates": "one", "ema": None}
        for field, default in ignored.items():
            if getattr(arm, field) != default:
                raise ValueError(f"{key}.methods: {name} sets {field}, which has no meaning here")
        recipe = getattr(self, key).recipe
        if getattr(self, key).tasks and self.resolve(name, recipe)[1].optimizer == "lbfgs":
            raise ValueError(f"{key}.methods: {name} uses optimizer lbfgs, which knows no rates and epochs")

    def _check_base(self, method: str) -> None:
        chain = [method]
        while base := self.methods[chain[-1]].base:
            if base not in self.methods:
                raise ValueError(f"methods.{chain[-1]}.base: unknown name {base!r}{suggestion(base, self.methods)}")
            if base in chain:
                raise ValueError(f"methods.{method}.base: {' -> '.join([*chain, base])} goes in a circle")
            chain.append(base)
        if len(chain) > 1 and not self.methods[chain[1]].changes_weights:
            raise ValueError(f"methods.{method}.base: {chain[1]} trains nothing; leave base out")

    @property
    def alphas(self) -> list[float]:
        """The grid from 0 to 1."""
        steps = round(1 / self.alpha_step)
        return [round(step / steps, 6) for step in range(steps + 1)]

    def resolve(self, method: str, recipe: str, changes: dict[str, Any] | None = None) -> tuple[Training, Recipe]:
        """What a method does and how, under a recipe; `changes` come on top, with objective.<term> for one weight.

        Raises ValueError for an unknown key or value.
        """
        where = f"methods.{method}.recipes.{recipe}"
        training = self.methods[method].model_dump(include=set(Training.model_fields))
        settings = self.recipes[recipe].model_dump()
        for key, value in {**self.methods[method].recipes.get(recipe, {}), **(changes or {})}.items():
            if key in settings:
                settings[key] = value
            elif key in training:
                training[key] = value
            elif (part := key.partition("."))[1] and isinstance(training.get(part[0]), dict):
                training[part[0]] = {**training[part[0]], part[2]: value}
            else:
                raise ValueError(f"{where}: unknown key {key!r}{suggestion(key, [*settings, *training])}")
        try:
            return Training.model_validate(training), Recipe.model_validate(settings)
        except ValidationError as error:
            first = next(item for item in error.errors() if _meant(item))
            raise ValueError(f"{where}.{_message(first, {})}") from None

    def grid_points(self, method: str, recipe: str) -> list[dict[str, float]]:
        """All combinations of a method's grid under a recipe; none where it has no grid."""
        grid = self.methods[method].grids.get(recipe, {})
        return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())] if grid else []


def suggestion(name: str, known: Any) -> str:
    """'; did you mean …' with the nearest known name, or the list of all."""
    names = sorted(map(str, known))
    near = difflib.get_close_matches(str(name), names, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(names)}"


def parse_config(raw: dict[str, Any]) -> Config:
    """Check a merged config. Raises UserError with one line per mistake, each with the key and the nearest name."""
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        lines = [_message(item, raw) for item in error.errors() if _meant(item)]
    raise UserError("mistakes in the config:\n  " + "\n  ".join(lines))


def _meant(item: Any) -> bool:
    """Whether an error is of the form of a value that the user wrote: a name or a map, where either may stand."""
    branches = [str(part) for part in item["loc"] if str(part).startswith(("literal[", "dict["))]
    if not branches:
        return True
    return isinstance(item["input"], str) if branches[0].startswith("literal[") else item["type"] != "dict_type"


def _message(item: Any, raw: dict[str, Any]) -> str:
    path = [str(part) for part in item["loc"] if not str(part).startswith(("literal[", "dict["))]
    key = ".".join(path).removesuffix(".[key]")
    if item["type"] == "extra_forbidden":
        return f"unknown key {key}{suggestion(path[-1], _fields_at(path[:-1]))}"
    if item["type"] == "missing":
        return f"missing key {key}"
    if item["type"] == "literal_error":
        allowed = item["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", ")
        name = path[-2] if path[-1] == "[key]" else item["input"]
        return f"{key}: unknown value {name!r}{suggestion(name, allowed)}"
    message = item["msg"].removeprefix("Value error, ")
    return f"{key}: {message}" if key else message


def _fields_at(path: list[str]) -> list[str]:
    """The keys that the schema knows at a path."""
    schema = Config.model_json_schema()
    node = schema
    for part in path:
        node = _resolve(schema, node)
        free = next(iter(node.get("patternProperties", {}).values()), None) or node.get("additionalProperties")
        inner = node.get("properties", {}).get(part) or free or node.get("items") or {}
        node = inner if isinstance(inner, dict) else {}
    return list(_resolve(schema, node).get("properties", {}))


def _resolve(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    for option in [node, *node.get("allOf", []), *node.get("anyOf", [])]:
        if "$ref" in option:
            return schema["$defs"][option["$ref"].rsplit("/", 1)[1]]
    return node
