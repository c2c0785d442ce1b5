"""Typed models of the tasks that a user can write in config/; part of the config, so no torch here."""

from typing import Annotated, Literal

from pydantic import Field

from surefoot.spaces import Name, Section

FamilyName = Literal["emoji", "folder", "imagenet", "cifar", "wilds", "domainnet", "breeds", "transfer"]
MainMetricName = Literal["top1", "mean_per_class", "macro_f1", "worst_group"]


class Line(Section):
    """A line of standard models: logit(average under shift) = slope * logit(in distribution) + intercept."""

    slope: float = Field(description="In natural logits, ln(p / (1 - p)), of accuracies; the sets are averaged first.")
    intercept: float = Field(description="In natural logits.")


class AnyTask(Section):
    """What every task has: how it is trained, and the metric of its tables."""

    recipe: Name = Field(description="Entry of recipes used on this task.")
    shift: Literal["style", "corrupt", "subtype", "flip", "spurious", "natural"] = Field(
        "style",
        description="What differs between training and test, or between source and target: style (other images of the "
        "same classes, as test sets), or a target to adapt to: corrupt (spoilt images), subtype (other subclasses), "
        "flip (other labels), spurious (what went with a class in training no longer does), natural (WILDS).",
    )
    source: Name | None = Field(
        None, description="Task whose fine-tuned models are adapted to this one's targets; null: this task's own."
    )
    baseline_line: Line | None = Field(
        None,
        description="Published line of standard models, for effective robustness where run.baselines is empty. For "
        "ImageNet (top1) against the mean of V2, R, Sketch, ObjectNet and A, WiSE-FT's figure 1 draws about "
        "{slope: 1.25, intercept: -2.18} (digitised); a fit to the 69 standard models of Taori et al. 2020 that reach "
        "70 % gives 1.218 and -2.123.",
    )
    metric: MainMetricName = Field(
        "mean_per_class", description="The metric of the main table: those that have intervals; all are in the records."
    )


class EmojiTask(AnyTask):
    """The embedded data set: Unicode emoji in four styles."""

    family: Literal["emoji"] = Field(description="The embedded data set.")
    corruptions: list[str] = Field(
        default=["gaussian_noise", "gaussian_blur", "contrast"],
        min_length=1,
        description="With shift corrupt: the corruptions, at severity 5; a model is adapted to each.",
    )
    classes: list[str] | None = Field(None, min_length=2, description="Only these classes; null: all of the data set.")
    concepts: int | None = Field(None, ge=12, description="At most so many concepts a class; null: all.")


class FolderSplit(Section):
    """Images of a data set of your own, with one role: a folder of class folders, or a table of files."""

    role: Literal["train", "id_val", "ood_val", "id_test", "ood_test"] = Field(
        description="What the images are for: train; id_val and ood_val choose; id_test and ood_test are reported. "
        "train and id_test are needed; without ood_test tables and figures are about the distribution alone."
    )
    folder: str | None = Field(None, description="Folder of class folders with images, relative to the task's root.")
    table: str | None = Field(
        None,
        description="CSV file, relative to the task's root, with the columns file (relative to the table) and label (a "
        "class name), and maybe group and cluster; instead of folder.",
    )
    title: str = Field("", description="Name in tables; empty: the name of the split.")


class FolderTask(AnyTask):
    """A data set of your own, as image folders or tables of files; no code."""

    family: Literal["folder"] = Field(description="Your own images.")
    root: str = Field(description="Folder in which the splits lie; absolute, or relative to the working directory.")
    splits: dict[Name, FolderSplit] = Field(min_length=2, description="Image sets by name, each with its role.")
    classes: list[str] | dict[str, str] | None = Field(
        None,
        description="Class folders (or labels of the tables) in order, or a map from each to the words that prompts "
        "use; null: the class folders of the training set, with underscores read as blanks.",
    )
    groups: dict[str, str] | None = Field(
        None,
        min_length=2,
        description="Group -> pattern, such as {day: '*/day/*', night: '*_night.*'}: the group of an image is the "
        "first whose pattern fits its path below root (* is any text, / too); an image that none fits counts in no "
        "group. For metric worst_group. In tables the column group goes first.",
    )
    templates: list[str] = Field(
        default=["a photo of a {}."], min_length=1, description="Prompts with {} where the class stands."
    )
    hold_out: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="Part of each class of the training set that becomes id_val, where no split has that role.",
    )
    shots: int | None = Field(None, gt=0, description="Only so many training images a class; null: all.")
    stream: bool = Field(
        False, description="Leave training images as files and decode them in training, for sets too large to prepare."
    )
    licence: str = Field("", description="Licence, for the card.")


class BenchmarkTask(AnyTask):
    """A published data set."""

    family: Literal["imagenet", "cifar", "wilds", "domainnet", "breeds", "transfer"] = Field(
        description="Family of published data sets."
    )
    data: Name = Field(description="The data set that is trained on, such as imagenet, cifar10, iwildcam.")
    test_sets: list[Name] | None = Field(None, description="Shifted test sets; null: those of the papers.")
    ood_val: list[Name] | None = Field(
        None, description="Shifted validation sets, which AutoFT searches on; null: those of the papers; []: none."
    )
    corruptions: list[str] | None = Field(
        None, min_length=1, description="Kinds of corruption, where the data set has such; null: those of the papers."
    )
    shots: int | None = Field(None, gt=0, description="Only so many training images a class; null: all.")
    selection: Literal["hold_out", "as_published"] = Field(
        "hold_out",
        description="What checkpoints and alphas are chosen on: a part of the training set, or, marked in every table, "
        "the reported test set, as some papers did.",
    )


Task = Annotated[EmojiTask | FolderTask | BenchmarkTask, Field(discriminator="family")]
TASK_KINDS = (EmojiTask, FolderTask, BenchmarkTask)
