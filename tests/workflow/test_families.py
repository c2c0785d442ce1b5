"""Every family of published data sets at the smallest scale: from fabricated files in the real layout to tables."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pandas as pd
import pytest
import yaml

from surefoot.flow import PUBLISHED
from tests.workflow.conftest import snakemake

# Family -> an experiment of the repository that uses it, and what is fabricated for it.
EXPERIMENTS: dict[str, tuple[str, dict]] = {
    "cifar": ("surgical_cifar", {"images_per_class": 60, "corruptions": ("fog",)}),
    "imagenet": ("wise_ft", {"images_per_class": 2, "with_videos": True}),
    "wilds": ("autoft_wilds", {}),
    "domainnet": ("lipsum_domainnet", {}),
    "breeds": ("surgical_breeds", {}),
    "transfer": ("autoft_transfer", {"data": ("caltech101", "cars", "flowers102")}),
}


# What of an experiment is run, besides the scale of config/scales/smoke.yaml.
LESS = {
    # A fifth of the test images are a pool: ten a class to choose, two to train.
    "cifar": "tasks: {cifar10: {corruptions: [fog]}, cifar10-c: {corruptions: [fog]}}\n"
    "surgical: {shots: [2], learning_rates: [1.0e-3], methods: [tune-none, tune-all, auto-rgn]}\n"
    "online: {methods: [tune-none, tune-first]}\n",
    # What one task learned is tried on the other.
    "wilds": "search: {spaces: [autoft, autoft-of-iwildcam]}\n",
    "imagenet": "tasks: {imagenet: {corruptions: [shot_noise], "
    "test_sets: [v2, r, a, sketch, objectnet, c, vid_robust, ytbb_robust]}}\n",
    "domainnet": "tasks: {domainnet: {test_sets: [painting, clipart, infograph, sketch, quickdraw]}}\n",
    # A ResNet-50 from random weights in place of the embedded CLIP: the slowest model, hence the small images.
    "breeds": "models: {resnet-50: {tower: resnet50, image_size: 32}}\n"
    "image_size: {breeds: 32}\nalpha_step: 1\nfixed_alpha: 1\n"
    "recipes: {target: {epochs: 1}}\n"
    "surgical: {tasks: [living17-target], shots: [2], learning_rates: [1.0e-3], methods: [tune-none, auto-rgn]}\n",
}
RUNS = {"breeds": "run: {tasks: [living17], models: [resnet-50]}\n"}


def overlay(family: str, root: Path) -> str:
    """The config of a family's run behind its experiment and the smoke scale."""
    return (
        f"data_root: {{{'imagenet' if family == 'breeds' else family}: {root}}}\n{LESS.get(family, '')}"
        + RUNS.get(family, "run: {methods: [zeroshot, ft]}\n")
        + ("" if family in ("cifar", "breeds") else "surgical: {tasks: []}\n")
        + ("" if family == "wilds" else "search: {spaces: []}\n")
    )


def fabricator(family: str) -> Callable[..., None]:
    return import_module(f"tests.fabricate.{family}").fabricate


@pytest.mark.parametrize("family", sorted(EXPERIMENTS))
def test_an_experiment_of_each_family_ends_in_tables(family: str, clone: Path, tmp_path: Path) -> None:
    name, how = EXPERIMENTS[family]
    root = tmp_path / "copy"
    fabricator(family)(root, **how)
    (clone / "overlay.yaml").write_text(overlay(family, root))
    files = [f"config/experiments/{name}.yaml", "config/scales/smoke.yaml", "overlay.yaml"]
    snakemake(clone, "--cores", "2", "results/tables/main.csv", "--configfile", *files)
    main = pd.read_csv(clone / "results/tables/main.csv")
    methods = {"source-net"} if family == "breeds" else {"zeroshot", "ft"}
    assert set(main["method"]) >= methods and main[["value", "low", "high"]].notna().all(axis=None)
    shifted = set(main["eval_set"]) - {"id_test"}
    assert len(shifted) >= 2 if family != "transfer" else not shifted
    if family == "cifar":
        adapted = pd.read_csv(clone / "results/tables/surgical.csv")
        assert set(adapted["method"]) >= {"tune-none", "tune-all", "auto-rgn"}
        flipped = adapted[adapted["eval_set"] == "cifar10-flip"].set_index("method")["value"]
        assert flipped["tune-all"] > flipped["tune-none"]
        online = pd.read_csv(clone / "results/tables/online.csv")
        assert set(online["method"]) == {"tune-none", "tune-first"}
    if family == "breeds":
        adapted = pd.read_csv(clone / "results/tables/surgical.csv").query("eval_set == 'living17-target'")
        assert set(adapted["method"]) == {"tune-none", "auto-rgn"} and adapted["value"].between(0, 100).all()
        factors = pd.read_csv(clone / "results/tables/factors.csv").set_index("layer")["factor"]
        assert len(factors) == 6 and factors.between(0, 1).all() and factors.any()  # stem, four blocks, head
        published = pd.read_csv(clone / "results/tables/comparison.csv").dropna(subset="published")
        assert set(published["task"]) == {"living17-target"} and set(published["method"]) == {"tune-none", "auto-rgn"}
    if family == "wilds":
        own, taken = (
            yaml.safe_load((clone / f"results/search/{at}/search-0/objective.yaml").read_text())
            for at in ("iwildcam/emoji-clip/autoft", "fmow/emoji-clip/autoft-of-iwildcam")
        )
        assert taken["changes"] == own["changes"] and taken["learned"] == {"task": "iwildcam", "space": "autoft"}
        assert not list((clone / "results/search").glob("*/*/autoft-of-iwildcam/*/trials.parquet"))
        effects = pd.read_csv(clone / "results/tables/effects.csv").query("label == 'AutoFT, searched on iWildCam'")
        assert set(effects["against"]) == {"FT", "AutoFT"} and effects["expected"].isna().all()
    if family == "imagenet":  # frames of videos, in two ways of counting
        videos = {"vid_robust", "vid_robust_pm10", "ytbb_robust", "ytbb_robust_pm10"}
        assert set(main.loc[main["metric"] == "all_frames", "eval_set"]) == {v for v in videos if v.endswith("pm10")}
        assert videos < shifted
        wide = main[main["alpha"] == 0].drop_duplicates("eval_set").set_index("eval_set")["value"]
        assert all(wide[f"{name}_pm10"] <= wide[name] for name in ("vid_robust", "ytbb_robust"))


def test_every_published_family_is_tried() -> None:
    assert set(EXPERIMENTS) == set(PUBLISHED)
