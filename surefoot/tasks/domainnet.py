"""DomainNet (cleaned version)."""

from surefoot import config
from surefoot.files import UserError
from surefoot.sources import Source
from surefoot.tasks import Task
from surefoot.tasks.benchmarks import Prepared

SOURCES: dict[str, Source] = {}
SPLITS: dict[str, Prepared] = {}


def build(name: str, entry: config.BenchmarkTask) -> Task:
    """The task of a config entry. Raises UserError for an unknown data set."""
    raise UserError(f"tasks.{name}.data: unknown data set {entry.data!r}")
