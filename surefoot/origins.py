"""How data sets come to a user, as cards and docs/data.md say it. No torch."""

from typing import Any

from surefoot.sources import Source
from surefoot.tasks import Task, family


def told(size: int) -> str:
    """Gigabytes as a reader needs them; 'not known' for 0."""
    return f"{size / 1e9:.2g}" if 0 < size < 1e10 else f"{size / 1e9:,.0f}" if size else "not known"


def comes(source: Source) -> str:
    """Whether a rule can fetch all of it."""
    return "by hand" if source.asks_the_user else "download"


def origin(task: Task, entry: dict[str, Any]) -> str:
    """Markdown for a card: which data sets a task reads, how they come, and what they take."""
    if entry["family"] == "folder":
        return f"Your own, below {entry['root']}."
    module = family(entry["family"])
    if not hasattr(module, "SOURCES"):
        return "Python packages of the lock file draw them; nothing is downloaded."
    names = dict.fromkeys(module.SPLITS[split].source for split in task.splits)
    sources = [module.SOURCES[name] for name in names]
    rows = "".join(
        f"| {source.name} | {comes(source)} | {told(source.archived)} | {told(source.unpacked)} |\n"
        for source in sources
    )
    hints = "".join(f"\n- {source.name}: {source.by_hand}" for source in sources if source.by_hand)
    return (
        f"Your own copy below data_root.{entry['family']}, or results/raw; docs/data.md says which folders are looked "
        "into and how files are checked.\n\n| data set | how it comes | archives (GB) | unpacked (GB, at least) |\n"
        f"| --- | --- | --- | --- |\n{rows}{hints}"
    )
