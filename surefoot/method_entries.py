"""Typed models of the space of methods: what a method does to the weights, its recipe, and changes of either.

No torch here: the Snakefile imports this module.
"""

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from surefoot.mistakes import messages, suggestion
from surefoot.spaces import Name, Section

# The names of what the library registers; a contract test holds them equal to the registries.
TermName = Literal[
    "ce", "hinge", "flyp", "entropy", "dcm", "l1zero", "l2zero", "l1init", "l2init", "lipsum", "kd", "carft"
]
PartName = Literal["image", "text", "head", "logit_scale", "embedding", "first-blocks", "middle-blocks", "last-blocks"]
RatesName = Literal["one", "rgn", "rgn-released", "rgn-group", "snr", "snr-released", "gradual-first", "gradual-last"]

TERM_NAMES: tuple[str, ...] = get_args(TermName)
PART_NAMES: tuple[str, ...] = get_args(PartName)
RATES_NAMES: tuple[str, ...] = get_args(RatesName)
NORMS: tuple[TermName, ...] = ("l1zero", "l2zero", "l1init", "l2init")
TEXT_TERMS: tuple[TermName, ...] = ("flyp", "lipsum", "carft")  # what an image tower alone cannot compute

Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def _known_part(name: str) -> str:
    if name not in PART_NAMES and not re.fullmatch(r"block-\d+", name):
        raise ValueError(f"unknown value {name!r}{suggestion(name, [*PART_NAMES, 'block-0'])}")
    return name


Part = Annotated[str, AfterValidator(_known_part)]


def _known_term(key: str) -> str:
    name, at, part = key.partition("@")
    if name not in TERM_NAMES:
        raise ValueError(f"unknown value {name!r}{suggestion(name, TERM_NAMES)}")
    if at and name not in NORMS:
        raise ValueError(f"only {', '.join(NORMS)} can be of one part, as in l2init@head")
    if at:
        _known_part(part)
    return key


TermKey = Annotated[str, AfterValidator(_known_term)]


class Augmentation(Section):
    """Random changes of each training image. All zero: none."""

    crop: tuple[Share, Share] | None = Field(
        None,
        description="Smallest and largest part of the area that a random crop keeps, which is resized to the model's "
        "input (open_clip: [0.9, 1.0]); null: the whole image.",
    )
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
    accumulation: int = Field(
        1,
        gt=0,
        description="Parts of a batch whose gradients are computed one after another and summed, for less memory: the "
        "same step up to rounding, but flyp contrasts the images of a part alone, and batch norms see a part. Not for "
        "lbfgs, online adaptation, and the batch on which rgn and snr are measured.",
    )
    epochs: int = Field(10, gt=0, description="Passes over the training images.")
    keep: Literal["last", "best"] = Field(
        "last", description="The weights after the last epoch, or after the epoch that is best on id_val."
    )
    steps: int | None = Field(None, gt=0, description="Number of steps, whatever the epochs; null: all epochs.")
    batches: Literal["epochs", "draws"] = Field(
        "epochs", description="Every image once an epoch, or each batch drawn anew (AutoFT's released code)."
    )
    warmup: int = Field(500, ge=0, description="Steps of linear warm-up, at most warmup_share of all steps.")
    warmup_share: Share = Field(
        0.1,
        description="Largest part of all steps that is warm-up; 1: never shortened, so a shorter run ends within it "
        "(AutoFT's released code).",
    )
    schedule: Literal["cosine", "constant"] = Field("cosine", description="Learning rate after warm-up.")
    clip_norm: float | None = Field(1.0, gt=0, description="Largest global gradient norm; null: no clipping.")
    label_smoothing: float = Field(0, ge=0, lt=1, description="Part of the target spread evenly over the classes.")
    augmentation: Augmentation = Field(Augmentation(), description="Random changes of the training images.")
    norm_statistics: Literal["update", "keep"] = Field(
        "update", description="Running statistics of batch norms in a trained image tower: update or keep them."
    )
    out_of_memory: Literal["stop", "halve"] = Field(
        "stop",
        description="Where a step does not fit into a GPU's memory: stop with a message, or compute it in halves, "
        "quarters, … and sum the gradients, the same up to rounding; not with flyp, nor where batch norms train.",
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="Of the image and text towers in training steps; bfloat16 is faster on hardware that "
        "multiplies in it. Weights, optimizer, head, terms and all evaluation stay in float32.",
    )
    head: Head = Field(Head(), description="Convention of the classification head.")

    @model_validator(mode="after")
    def _parts(self) -> "Recipe":
        if self.accumulation > self.batch_size:
            raise ValueError(f"accumulation is {self.accumulation}, more parts than batch_size {self.batch_size}")
        return self


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
    distances: Literal["start", "live"] = Field(
        "start",
        description="What l1init and l2init measure from: a copy of the start, or the live weights, which makes them 0 "
        "(the final run of AutoFT's released code).",
    )
    head: Literal["trained", "derived"] = Field(
        "trained",
        description="A trained head as it ends, or its rows made anew from the tuned text tower (an earlier state of "
        "AutoFT's code).",
    )
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
    objective: dict[TermKey, Weight] = Field(
        default={"ce": 1.0},
        min_length=1,
        description="Terms of the loss and their weights: " + ", ".join(TERM_NAMES) + "; "
        "a norm (l1zero, l2zero, l1init, l2init) may be of one part, as in l2init@head.",
    )
    options: Options = Field(Options(), description="Settings of single terms and rates.")
    rates: RatesName | dict[Part, Weight] = Field(
        "one",
        description="How the learning rate is spread over the layers: one rate; a factor per part (1 if not named); "
        "rgn (Auto-RGN per tensor), rgn-released (which freezes what has bn in its name) or rgn-group; "
        "snr (Auto-SNR as described) or snr-released; "
        "gradual-first or gradual-last (unfreezing from the first or the last layer).",
    )

    decays: dict[Part, Weight] = Field(default={}, description="Factors of the weight decay per part (1 if not named).")
    ema: float | None = Field(
        None, gt=0, lt=1, description="Momentum of an average of the weights over the steps, which replaces them."
    )
    tpgm: Tpgm | None = Field(None, description="Project the final weights (null: not).")

    @field_validator("objective")
    @classmethod
    def _says_something(cls, objective: dict[str, float]) -> dict[str, float]:
        if not any(objective.values()):
            raise ValueError("every weight is 0, so there is nothing to minimise")
        return objective


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


def changed(
    training: dict[str, Any], recipe: dict[str, Any], changes: dict[str, Any], where: str
) -> tuple[Training, Recipe]:
    """An entry with some keys of the method or of the recipe changed; objective.<term> or rates.<part> is one value.

    An objective.<term> of None leaves the sum. Raises ValueError for an unknown key or value; `where` stands before it.
    """
    training, recipe = dict(training), dict(recipe)
    for key, value in changes.items():
        section, _, inner = key.partition(".")
        if section == "rates" and inner and training["rates"] == "one":
            training["rates"] = {}
        if key in recipe:
            recipe[key] = value
        elif key in training:
            training[key] = value
        elif inner and isinstance(training.get(section), dict):
            training[section] = {**training[section], inner: value}
            if section == "objective" and value is None:
                del training[section][inner]
        else:
            raise ValueError(f"{where}: unknown key {key!r}{suggestion(key, [*recipe, *training])}")
    try:
        return Training.model_validate(training), Recipe.model_validate(recipe)
    except ValidationError as error:
        raise ValueError(f"{where}.{messages(error, Training)[0]}") from None
