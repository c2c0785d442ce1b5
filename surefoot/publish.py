"""Put a pre-trained model and its card into resources/.

`python -m surefoot.publish MODEL_FOLDER TARGET` copies the model's files and writes their digests;
`python -m surefoot.publish --card CARD DRAWS TARGET` copies the card that was made from it.
"""

import argparse
from pathlib import Path

from surefoot.clip import CONFIG, MERGES, WEIGHTS
from surefoot.files import atomic, sha256, write_json
from surefoot.pretrain import RECORD


def copy(source: Path, target: Path) -> None:
    """Copy a file whole or not at all."""
    with atomic(target) as partial:
        partial.write_bytes(source.read_bytes())


def publish(model: Path, target: Path) -> None:
    """Copy a model's files and write their digests, which `fetch_model` checks."""
    for name in (CONFIG, WEIGHTS, MERGES, RECORD):
        copy(model / name, target / name)
    write_json(target / "sha256.json", {name: sha256(target / name) for name in (CONFIG, WEIGHTS, MERGES)})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--card", type=Path, nargs=2, metavar=("CARD", "DRAWS"))
    parser.add_argument("folders", type=Path, nargs="+", help="model folder (not with --card), then the target")
    arguments = parser.parse_args()
    target = arguments.folders[-1]
    if arguments.card:
        copy(arguments.card[0], target / "README.md")
        copy(arguments.card[1], target / "draws.csv")
    else:
        publish(arguments.folders[0], target)
