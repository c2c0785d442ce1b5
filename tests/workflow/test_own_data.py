"""A user's own image folders, from config to tables, without code."""

from pathlib import Path

import pandas as pd

from tests.fabricate.folder import CLASSES, fabricate
from tests.workflow.conftest import snakemake

OVERLAY = """
run: {{models: [emoji-clip], methods: [zeroshot, ft]}}
image_size: {{folder: 48}}
tasks:
  mine:
    root: {root}
    stream: true
    metric: macro_f1
    recipe: tiny
    splits: {{shifted-val: {{role: ood_val, folder: shifted-val}}}}
recipes:
  tiny: {{learning_rate: 3.0e-4, batch_size: 8, epochs: 2, warmup: 2, augmentation: {{crop: [0.5, 1.0], mirror: 0.5}}}}
bootstrap: {{draws: 200}}
"""


def run(clone: Path, *targets: str, check: bool = True) -> str:
    files = ["config/experiments/folder.yaml", "overlay.yaml"]
    return snakemake(clone, "--cores", "2", *targets, "--configfile", *files, check=check).stdout


def test_own_folders_become_tables(clone: Path, tmp_path: Path) -> None:
    root = tmp_path / "images"
    fabricate(root)
    (clone / "overlay.yaml").write_text(OVERLAY.format(root=root))
    broken = root / "shifted" / "red_fox" / "001.jpg"
    whole = broken.read_bytes()
    broken.write_bytes(b"")
    out = run(clone, "results/tables/main.csv", check=False)
    assert "1 of 24 images cannot be read" in out and "red_fox/001.jpg (0 bytes)" in out and "Traceback" not in out
    broken.write_bytes(whole)
    run(clone, "results/tables/main.csv", "results/tables/task-mine.md", "results/figures/contact-mine.png")
    main = pd.read_csv(clone / "results/tables/main.csv")
    assert set(main["eval_set"]) == {"test", "shifted", "average"} and set(main["metric"]) == {"macro_f1"}
    assert set(main["label"]) == {"Zero-shot", "FT", "FT + WiSE (0.5)", "FT + WiSE (ood_val)"}
    card = (clone / "results/tables/task-mine.md").read_text()
    assert all(name in card for name in CLASSES) and "macro_f1" in card
