"""The method that a learned objective makes. No torch."""

from pathlib import Path
from typing import Any

import yaml

from surefoot.files import UserError, atomic
from surefoot.method_entries import changed


def read_objective(path: Path) -> dict[str, Any]:
    """Read a learned objective. Raises UserError when it is missing or damaged."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        content["trials"]  # stands behind the changes, so a file that was cut off lacks it
        dict.items(content["changes"])
        return content
    except (OSError, ValueError, yaml.YAMLError, TypeError, KeyError) as error:
        raise UserError(f"{path} is no learned objective ({error}); delete it and rerun snakemake") from None


def save_objective(path: Path, content: dict[str, Any]) -> None:
    """Write a learned objective."""
    with atomic(path) as partial:
        partial.write_text(yaml.safe_dump(content, sort_keys=True, allow_unicode=True), encoding="utf-8")


def take_objective(path: Path, objective: dict[str, Any], task: str, space: str) -> None:
    """Write an objective for another task under another name; `learned` says where it comes from."""
    learned = {key: objective[key] for key in ("task", "space")}
    save_objective(path, objective | {"task": task, "space": space, "learned": learned})


def learned_entry(space: dict[str, Any], objective: dict[str, Any]) -> dict[str, Any]:
    """The entry that fine-tuning is given for a learned objective: the base method with the winner's values.

    Raises UserError for values without meaning.
    """
    own = dict(objective["changes"])
    seed = own.pop("seed", None)
    try:
        training, recipe = changed(
            space["training"], space["recipe"], {**space["final"], **own}, f"spaces.{space['name']}"
        )
    except ValueError as error:
        raise UserError(str(error)) from None
    found = {"name": space["name"], "training": training.model_dump(), "recipe": recipe.model_dump()}
    found["metric"] = space["task_metric"]
    return found if seed is None else found | {"seed": seed}
