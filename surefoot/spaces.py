"""Typed models of what a search may vary and how it is run (AutoFT); part of the config, so no torch here."""

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

SamplerName = Literal["tpe", "random", "qmc", "gp"]
MetricName = Literal["top1", "mean_per_class", "macro_f1", "worst_group", "all_frames", "nll", "ece"]
SAMPLER_NAMES: tuple[str, ...] = get_args(SamplerName)
METRIC_NAMES: tuple[str, ...] = get_args(MetricName)

SEARCH_SEEDS = 3000  # they lie below; a multiple of three, so that seeds this far apart are on the same fold

# A dot would clash with what the workflow appends, as in ft.pair.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_@-]*$")]
Scalar = bool | int | float | str | None


class Section(BaseModel):
    """A part of the config: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Dimension(Section):
    """A key that a search varies: a range of numbers, or a list of choices."""

    low: float | None = Field(None, description="Smallest value.")
    high: float | None = Field(None, description="Largest value.")
    log: bool = Field(False, description="Draw evenly in the logarithm.")
    integer: bool = Field(False, description="Whole numbers only.")
    choices: list[Scalar] | None = Field(None, min_length=2, description="Values to choose from, instead of a range.")
    relative: bool = Field(False, description="low and high are multiples of the base method's own value.")
    optional: bool = Field(
        False,
        description="The key may be off as well, which is a choice of its own: then a term leaves the objective, and "
        "any other key keeps the base method's value.",
    )
    use: Literal["both", "trials", "final", "nowhere"] = Field(
        "both",
        description="Where the proposed value is used; elsewhere the base method's value holds. All but 'both' are "
        "behaviours of AutoFT's released code.",
    )

    @model_validator(mode="after")
    def _one_kind(self) -> "Dimension":
        ends = self.low is not None, self.high is not None
        if any(ends) == bool(self.choices) or any(ends) != all(ends):
            raise ValueError("give either low and high, or choices")
        if self.choices and (self.log or self.integer or self.relative):
            raise ValueError("log, integer and relative are for a range")
        if all(ends) and not self.low < self.high:
            raise ValueError(f"low {self.low:g} is not below high {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError("a logarithmic range needs low above 0")
        if self.integer and (self.relative or self.low % 1 or self.high % 1):
            raise ValueError("integer needs whole low and high, which are not relative")
        return self


class SpaceChanges(Section):
    """What a search does otherwise under a recipe; what is not given stays that of spaces.<name>."""

    images: int | None = Field(None, gt=1, description="Instead of spaces.<name>.images.")
    balanced: bool = Field(True, description="Instead of spaces.<name>.balanced.")
    metric: MetricName | None = Field(None, description="Instead of spaces.<name>.metric.")
    trial: dict[str, Any] = Field({}, description="Instead of spaces.<name>.trial, replaced whole.")


class Learned(Section):
    """A search of the run."""

    space: Name = Field(description="Entry of search.spaces.")
    task: Name = Field(description="Entry of run.tasks.")


class Space(Section):
    """What a search varies around a method, and what it maximises (AutoFT, Choi et al. 2024)."""

    label: str = Field(description="Name in tables and figures.")
    reference: str = Field(description="Paper and section that the entry follows.")
    differs: str = Field("", description="What differs from the paper or from its released code.")
    method: Name = Field(description="Entry of methods that is varied: what is trained, from which start.")
    dimensions: dict[str, float | Dimension] = Field(
        min_length=1,
        description="Keys as under methods.<name>.recipes (objective.<term>, learning_rate, ema, rates.<part>, "
        "decays.<part>, …), or seed: the run's random seed. A number pins the key.",
    )
    sampler: SamplerName = Field(
        "tpe",
        description="tpe (tree-structured Parzen estimator, every dimension by itself), random, qmc (quasi-random, "
        "Sobol), or gp (Gaussian process; what may be off it draws at random). The first 10 trials of tpe and gp are "
        "random, so they learn nothing in searches that are no longer.",
    )
    eval_set: Literal["ood_val", "id_val"] = Field("ood_val", description="Validation set that scores the trials.")
    images: int | None = Field(None, gt=1, description="Size of that set; null: all its images.")
    balanced: bool = Field(True, description="With images: draw them evenly over the classes, else uniformly.")
    changed: bool = Field(
        False, description="Score on images with the training run's random changes, as AutoFT's released code does."
    )
    metric: MetricName | None = Field(
        None, description="What is maximised (nll and ece: minimised); null: the task's metric."
    )
    trial: dict[str, Any] = Field(
        default={"steps": 40, "schedule": "constant", "warmup": 0},
        description="What a trial changes of the base method's entry beside the dimensions: its few inner steps. "
        "Replaced whole: with steps alone, schedule and warm-up are the recipe's.",
    )
    final: dict[str, Any] = Field(
        default={"keep": "best"},
        description="What the final run changes beside the winner's values; keep: best chooses the epoch on id_val.",
    )

    learned: Learned | None = Field(
        None,
        description="No search of its own: the winner that `space` finds on `task` is trained on every other task of "
        "the run, with its values as they were there, also a rate that is searched relative to a recipe's; what a "
        "final run does not take from a search is the task's recipe. All keys but label, reference and differs are "
        "that space's.",
    )
    recipes: dict[Name, SpaceChanges] = Field(
        default={},
        description="Per recipe name: what differs there, so that one run can have several tasks.",
    )

    @model_validator(mode="after")
    def _free(self) -> "Space":
        free = [dimension for dimension in self.dimensions.values() if isinstance(dimension, Dimension)]
        if not free:
            raise ValueError("every dimension is pinned, so there is nothing to search")
        if not any(dimension.use in ("both", "trials") for dimension in free):
            raise ValueError("no dimension is used by the trials, so there is nothing to search")
        if isinstance(self.dimensions.get("seed"), float):
            raise ValueError("dimensions.seed: leave it out to search with the run's own seed")
        return self

    def taken_over(self, spaces: dict[str, "Space"]) -> "Space":
        """A space that is learned elsewhere has everything but its name of the one that is searched."""
        if self.learned is None or self.learned.space not in spaces:
            return self
        own = {key: getattr(self, key) for key in ("label", "reference", "differs", "learned")}
        return spaces[self.learned.space].model_copy(update=own)

    def under(self, recipe: str) -> "Space":
        """The space with what is otherwise under a recipe."""
        changes = self.recipes.get(recipe, SpaceChanges())
        return self.model_copy(update={name: getattr(changes, name) for name in changes.model_fields_set})


class Lengths(Section):
    """How well few inner steps tell the value of a full run: random proposals, scored after both."""

    spaces: list[Name] = Field(default=[], description="Entries of search.spaces; []: not measured.")
    proposals: int = Field(20, gt=2, description="Random proposals of every space.")
    steps: list[Annotated[int, Field(gt=0)]] = Field(default=[5, 10, 20, 40, 80], description="Numbers of inner steps.")


class Without(Section):
    """Which terms of a learned objective matter: its final run again, without each term in turn."""

    spaces: list[Name] = Field(default=[], description="Entries of search.spaces; []: not measured.")
    repeats: int = Field(3, gt=0, description="Runs of every variant, with different random seeds.")


class Search(Section):
    """Which searches are run, and the budget that all of them have."""

    spaces: list[Name] = Field(
        default=[], description="Entries of spaces, searched on every task with every model of the run; []: no search."
    )
    reference: Name | None = Field(
        None, description="Entry of search.spaces that the others are compared with; null: the last that searches."
    )
    seeds: list[Annotated[int, Field(ge=0, lt=SEARCH_SEEDS)]] = Field(
        default=[0],
        min_length=1,
        description="Search seeds. On tasks with folds, search s and its final runs use fold s mod 3, so that what is "
        "learned on validation concepts is never tested on them.",
    )
    final_seeds: int = Field(
        1,
        gt=0,
        description="Final runs of every search, with different seeds on its fold; the first has the seed of the "
        "search, so it begins with the order and the changes of images that the trials saw, the others that plus "
        f"{SEARCH_SEEDS}, {2 * SEARCH_SEEDS}, ….",
    )
    trials: int = Field(60, gt=0, description="Trials of every search.")
    round_size: int = Field(
        10,
        gt=0,
        description="Trials that are proposed together from the results of the rounds before; 1: the paper's "
        "sequential search.",
    )
    lengths: Lengths = Field(Lengths(), description="Correlation of short and full runs.")
    without: Without = Field(Without(), description="Leave-one-out of the terms.")
    shards: int = Field(
        1,
        gt=0,
        description="Jobs that share the trials of a round. The winner does not depend on it. 1: one job for the whole "
        "search, which saves start-up.",
    )

    @property
    def rounds(self) -> int:
        """Number of rounds; the last may be smaller."""
        return -(-self.trials // self.round_size)

    @model_validator(mode="after")
    def _shared_out(self) -> "Search":
        if self.shards > self.round_size:
            raise ValueError(f"shards: {self.shards} jobs cannot share rounds of {self.round_size} trials")
        return self


def dumped(dimensions: dict[str, float | Dimension]) -> dict[str, Any]:
    """Dimensions as plain values, for what a job is given."""
    return {key: d if isinstance(d, float) else d.model_dump() for key, d in dimensions.items()}
