"""What to run, on which models: sections of the config (surefoot/config.py). No torch here."""

from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from surefoot.names import CONFIG, WEIGHTS
from surefoot.spaces import Name, Section

TowerName = Literal["resnet26", "resnet50"]
TOWER_NAMES: tuple[str, ...] = get_args(TowerName)
CHECKPOINTS = (".safetensors", ".pt", ".pth", ".bin")


class Model(Section):
    """Where a model comes from: a folder of files, open_clip's own downloads, or an image tower alone."""

    folder: str | None = Field(None, description="Folder with open_clip_config.json and open_clip_model.safetensors.")
    architecture: str | None = Field(None, description="open_clip's name of the architecture, such as ViT-B-16.")
    pretrained: str | None = Field(
        None,
        description="open_clip's name of the weights, such as openai, or a checkpoint file of its training (ending in "
        f"{', '.join(CHECKPOINTS)}), whose images are prepared as the architecture's "
        "published weights agree; of a tower torchvision's, such as IMAGENET1K_V2, or null for random weights.",
    )
    tower: TowerName | None = Field(
        None,
        description="An image tower without text tower: resnet26 (for small images, group norms, random weights) or "
        "torchvision's resnet50. Its head starts at random, so methods without training are at chance.",
    )
    image_size: int | None = Field(
        None, ge=8, multiple_of=4, description="Side of a tower's input in pixels; null: 32 (resnet26), 224 (resnet50)."
    )

    @property
    def checkpoint(self) -> str | None:
        """The file that the weights of an architecture are read from; None: they are not in a file of the user's."""
        return self.pretrained if self.architecture and (self.pretrained or "").endswith(CHECKPOINTS) else None

    @property
    def files(self) -> list[str]:
        """Files that the weights are taken from; none where they are downloaded or made."""
        if self.checkpoint:
            return [self.checkpoint]
        return [f"{self.folder}/{name}" for name in (CONFIG, WEIGHTS)] if self.folder else []

    @model_validator(mode="after")
    def _one_source(self) -> "Model":
        given = [key for key in ("folder", "architecture", "tower") if getattr(self, key) is not None]
        complete = {"folder": self.pretrained is None, "architecture": self.pretrained is not None, "tower": True}
        if len(given) != 1 or not complete[given[0]]:
            raise ValueError("give either folder, or architecture and pretrained, or tower")
        if self.tower == "resnet26" and self.pretrained:
            raise ValueError("resnet26 has no tag of weights: leave pretrained out, or name a folder with weights")
        if self.image_size and not self.tower:
            raise ValueError("image_size is for a tower; a CLIP model knows its own")
        return self


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


class Adaptation(Section):
    """Tasks and the methods that adapt to them."""

    @property
    def arms(self) -> list[str]:
        """The methods, where there is a task for them."""
        return self.methods if self.tasks else []


class Surgical(Adaptation):
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
        default=[3],
        min_length=1,
        description="Numbers of labelled target images a class; a class with fewer gives all it has.",
    )


class Online(Adaptation):
    """Unsupervised adaptation to a stream of target images (Surgical Fine-Tuning, with MEMO's loss)."""

    tasks: list[Name] = Field(default=[], description="Entries of surgical.tasks.")
    methods: list[Name] = Field(default=[], description="Entries of methods: which parts move.")
    recipe: Name = Field(
        "online", description="Entry of recipes: weight decay and changes of the copies; SGD is plain."
    )
    copies: int = Field(16, gt=1, description="Changed copies of each image, whose mean prediction gets certain.")
    learning_rates: list[Annotated[float, Field(gt=0)]] = Field(
        default=[1.0e-4, 1.0e-3, 1.0e-2], min_length=1, description="Rates of SGD; chosen on a stream of target_val."
    )


class Shared(Section):
    """Published numbers of another task that a task meets too: test sets are the same, the training may be another."""

    task: Name = Field(description="Whose numbers: a name in the column task of config/published.")
    eval_sets: list[Name] = Field(min_length=1, description="The test sets that both have, with the same images.")
    trained: bool = Field(
        True, description="Whether numbers of trained models stand there too; false: the zero-shot model's alone."
    )
    differs: str = Field(
        description="What is otherwise in training. It stands beside the numbers of trained models, which are only "
        "roughly comparable; a zero-shot model is the same. Empty: nothing, so that all are comparable.",
    )


class Comparison(Section):
    """Our numbers beside the published ones (config/published), where a task of the run has any."""

    tolerance: float = Field(
        1.0, ge=0, description="Difference that still counts as reproduced, in points (NLL: hundredths of a nat)."
    )
    deviations: float = Field(
        2.0, ge=0, description="Or so many of their standard deviations, where they print one and it is larger."
    )
    shared: dict[Name, Shared] = Field(
        default={}, description="Per task: another one whose published numbers stand beside it too."
    )


class Tuning(Section):
    """Choosing recipes on validation images (target `tune`).

    A method has one recipe for all seeds, so on tasks with folds the mean over seeds that chooses it covers concepts
    that other seeds test: one choice of a few settings a method, the same for all methods, but not none.
    """

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
