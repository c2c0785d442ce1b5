"""Put a pre-trained model into resources/.

`python -m surefoot.publish results/pretrain/emoji-clip resources/emoji-clip`
"""

import argparse
from pathlib import Path

from surefoot.clip import CONFIG, MERGES, WEIGHTS
from surefoot.files import atomic, sha256, write_json


def publish(model: Path, target: Path) -> None:
    """Copy the model's files and write their digests, which `fetch_model` checks."""
    for name in (CONFIG, WEIGHTS, MERGES):
        with atomic(target / name) as partial:
            partial.write_bytes((model / name).read_bytes())
    write_json(target / "sha256.json", {name: sha256(target / name) for name in (CONFIG, WEIGHTS, MERGES)})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="folder that the target pretrain made")
    parser.add_argument("target", type=Path, help="folder below resources/")
    arguments = parser.parse_args()
    publish(arguments.model, arguments.target)
