"""The typed model of everything a user can write in config/, the checks between its entries, and the messages for
mistakes.

No torch here: the Snakefile imports this module. The JSON schema in config/schema.json is generated from it.
"""

from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from surefoot.consistency import inconsistencies
from surefoot.files import UserError
from surefoot.method_entries import Augmentation, Method, Recipe, Share, Training, changed
from surefoot.mistakes import messages, repeated_keys
from surefoot.run_entries import Bootstrap, Comparison, Model, Online, Run, Surgical, Tuning
from surefoot.spaces import Dimension, Name, Search, Section, Space
from surefoot.task_entries import FamilyName, Task


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
    notice: str = Field("", description="What a reader of the report must know first, such as that the run is a trial.")
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
    data_root: dict[FamilyName, str] = Field(
        default={},
        description="Family -> folder with your own copies of its data sets, which are used where they are; what is "
        "not there is downloaded to results/raw/ where its licence allows.",
    )
    decode_threads: int = Field(
        8,
        gt=0,
        description="Cores that a job asks for whose images must be decoded: preparing, and jobs on published data or "
        "data of your own, whose training images may stay files. Locally at most --cores.",
    )
    check_sizes: bool = Field(
        True,
        description="Refuse a published data set with another number of images, or other tables in your own copy, than "
        "its makers say.",
    )
    estimate_tflops: float = Field(
        50,
        gt=0,
        description="Sustained TFLOP/s of a GPU, for the hours that a dry run on published data prints. A guess for "
        "GPUs since 2020: benchmarks/paper_scale.py measures images per second of yours.",
    )
    logit_axes: bool = Field(False, description="Draw the frontier on logit-scaled axes.")
    bootstrap: Bootstrap = Field(Bootstrap(), description="Intervals of the tables.")
    tasks: dict[Name, Task] = Field(description="Known tasks.")
    models: dict[Name, Model] = Field(description="Known CLIP models.")
    recipes: dict[Name, Recipe] = Field(description="Known recipes: how training is done on a kind of task.")
    methods: dict[Name, Method] = Field(description="Known methods.")
    surgical: Surgical = Field(Surgical(), description="Adaptation to targets with few labels.")
    online: Online = Field(Online(), description="Unsupervised adaptation to streams.")
    spaces: dict[Name, Space] = Field(default={}, description="Known search spaces.")
    search: Search = Field(Search(), description="Searches for a learned objective (AutoFT).")
    comparison: Comparison = Field(Comparison(), description="Our numbers beside the published ones.")
    tuning: Tuning = Field(Tuning(), description="Choosing recipes on validation images.")
    pretraining: Pretraining = Field(Pretraining(), description="How the embedded CLIP is made.")

    @field_validator("spaces")
    @classmethod
    def _taken_over(cls, spaces: dict[str, Space]) -> dict[str, Space]:
        return {name: space.taken_over(spaces) for name, space in spaces.items()}

    @model_validator(mode="after")
    def _consistent(self) -> "Config":
        if found := inconsistencies(self):
            raise ValueError("\n  ".join(found))
        return self

    @property
    def alphas(self) -> list[float]:
        """The grid from 0 to 1."""
        steps = round(1 / self.alpha_step)
        return [round(step / steps, 6) for step in range(steps + 1)]

    def resolve(self, method: str, recipe: str, changes: dict[str, Any] | None = None) -> tuple[Training, Recipe]:
        """What a method does and how, under a recipe; `changes` come on top, with objective.<term> for one weight.

        Raises ValueError for an unknown key or value.
        """
        training = self.methods[method].model_dump(include=set(Training.model_fields))
        own = self.methods[method].recipes.get(recipe, {})
        where = f"methods.{method}.recipes.{recipe}"
        return changed(training, self.recipes[recipe].model_dump(), {**own, **(changes or {})}, where)

    def dimensions(self, space: str, recipe: str) -> dict[str, float | Dimension]:
        """The dimensions of a search space under a recipe, with ranges in absolute values.

        Raises ValueError for a range relative to a value that the method does not have.
        """
        training, how = self.resolve(self.spaces[space].method, recipe)
        values = how.model_dump() | training.model_dump()
        values |= {f"objective.{term}": weight for term, weight in training.objective.items()}
        found: dict[str, float | Dimension] = {}
        for key, dimension in self.spaces[space].dimensions.items():
            if isinstance(dimension, Dimension) and dimension.relative:
                base = values.get(key)
                if not isinstance(base, int | float) or base <= 0:
                    raise ValueError(
                        f"spaces.{space}.dimensions.{key}: relative needs a positive value of the method "
                        f"{self.spaces[space].method} under recipe {recipe}, which has {base}"
                    )
                ends = {"low": dimension.low * base, "high": dimension.high * base, "relative": False}
                dimension = dimension.model_copy(update=ends)
            found[key] = dimension
        return found

    def grid_points(self, method: str, recipe: str) -> list[dict[str, float]]:
        """All combinations of a method's grid under a recipe; none where it has no grid."""
        grid = self.methods[method].grids.get(recipe, {})
        return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())] if grid else []


def parse_config(raw: dict[str, Any], files: Iterable[Path] = ()) -> Config:
    """Check a merged config. Raises UserError with one line per mistake, each with the key and the nearest name.

    Args:
        raw: the merged config.
        files: what it was read from, to look for keys that stand twice.
    """
    if lines := [line for path in files for line in repeated_keys(path)]:
        raise UserError("mistakes in the config:\n  " + "\n  ".join(lines))
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        lines = messages(error, Config)
    raise UserError("mistakes in the config:\n  " + "\n  ".join(lines))
