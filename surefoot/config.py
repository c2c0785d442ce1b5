"""Typed models of everything a user can write in config/."""

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A part of the config: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Augmentation(Section):
    """Random changes of each training image. All zero: none."""

    rotate: float = Field(0, ge=0, le=180, description="Largest rotation to either side, in degrees.")
    scale: float = Field(0, ge=0, le=1, description="Largest relative change of size: 0.1 draws from 1/1.1 to 1.1.")
    shift: float = Field(0, ge=0, le=1, description="Largest shift along each axis, as a part of the image's side.")
    mirror: float = Field(0, ge=0, le=1, description="Probability of a left-right mirror image.")


class Pretraining(Section):
    """How the embedded CLIP is made from nothing."""

    seed: int = Field(0, description="Seed of the weights, the order of the samples, the captions and the changes.")
    steps: int = Field(16000, gt=0, description="Optimizer steps.")
    batch_size: int = Field(128, gt=1, description="Image-caption pairs per step.")
    learning_rate: float = Field(1.5e-3, gt=0, description="Peak learning rate of AdamW.")
    weight_decay: float = Field(0.1, ge=0, description="Decoupled weight decay of matrices; biases and norms have none.")
    warmup: int = Field(500, ge=0, description="Steps of linear warm-up; then a half cosine to zero.")
    class_caption: float = Field(
        0.5, ge=0, le=1, description="Share of captions that name the class, for concepts whose captions may."
    )
    group_caption: float = Field(0.3, ge=0, le=1, description="Share of captions that add Unicode's group.")
    augmentation: Augmentation = Field(
        Augmentation(rotate=10, scale=0.2, shift=0.08, mirror=0.5), description="Changes of the images."
    )
    every: int = Field(500, gt=0, description="Steps between two saved states, from which a killed run goes on.")
