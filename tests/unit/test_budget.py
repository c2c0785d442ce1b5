"""What an experiment takes: FLOPs against torch's own count, and sums against a case by hand."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
import yaml
from snakemake.utils import update_config
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from surefoot import config, method_entries, run_entries
from surefoot.budget import BACKWARD, TOWERS, Counts, Size, estimate, flops_per_image, size_of
from surefoot.flow import PUBLISHED, Plan
from surefoot.flow_search import Searches
from surefoot.resnet import TOWERS as NETWORKS
from surefoot.tasks import family

ROOT = Path(__file__).resolve().parents[2]


def searches(experiment: str, *changes: dict[str, Any]) -> Searches:
    merged: dict[str, Any] = {}
    for name in ("config.yaml", f"experiments/{experiment}.yaml"):
        update_config(merged, yaml.safe_load((ROOT / "config" / name).read_text()))
    for change in changes:
        update_config(merged, change)
    return Searches(Plan(config.parse_config(merged)))


@contextmanager
def counted() -> Iterator[FlopCounterMode]:
    """Without fused attention, which torch does not count on a CPU."""
    with sdpa_kernel(SDPBackend.MATH), torch.no_grad(), FlopCounterMode(display=False) as counter:
        yield counter


@pytest.mark.parametrize("name", ["ViT-B-32", "ViT-L-14-336"])
def test_a_models_size_is_what_torch_counts(name: str) -> None:
    clip = open_clip.create_model(name, pretrained=None)
    found = size_of(run_entries.Model(architecture=name, pretrained="openai"))
    with counted() as counter:
        clip.encode_image(torch.empty(1, 3, found.side, found.side))
    assert found.image_flops == pytest.approx(counter.get_total_flops(), rel=0.01)
    with counted() as counter:
        clip.encode_text(torch.zeros(1, 77, dtype=torch.long))
    assert found.text_flops == pytest.approx(counter.get_total_flops(), rel=0.01)
    assert found.parameters == pytest.approx(sum(p.numel() for p in clip.visual.parameters()), rel=0.01)


@pytest.mark.parametrize("name", TOWERS)
def test_a_towers_size_is_what_torch_counts(name: str) -> None:
    flops, parameters, side = TOWERS[name]
    tower = NETWORKS[name].make()
    with counted() as counter:
        tower.eval()(torch.zeros(1, 3, side, side))
    assert flops == pytest.approx(counter.get_total_flops(), rel=0.1)
    assert parameters == pytest.approx(sum(p.numel() for p in tower.parameters()), rel=0.1)


def test_the_embedded_clip_has_a_size_and_openais_resnets_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found = size_of(run_entries.Model(folder="resources/emoji-clip"))
    assert found.side == 48 and found.image_flops == pytest.approx(29e6, rel=0.1)
    assert size_of(run_entries.Model(architecture="RN50", pretrained="openai")) is None


def test_a_step_pays_for_what_its_terms_ask() -> None:
    size = Size(100.0, 10.0, 0, 224)

    def cost(augmented: bool = True, **training: Any) -> float:
        return flops_per_image(size, method_entries.Training.model_validate(training), augmented)

    tune, both = ["image", "head"], ["image", "text", "head"]
    assert cost(train=tune) == 100 * (1 + BACKWARD)
    assert cost(train=["head"]) == 100 and cost(False, train=["head"]) == 0
    assert cost(train=tune, objective={"ce": 1, "lipsum": 1, "kd": 1}) == 400, "the zero-shot pass is shared"
    assert cost(train=tune, objective={"flyp": 1}) == 310 and cost(train=both, objective={"flyp": 1}) == 330
    assert cost(train=tune, objective={"ce": 1, "lipsum": 0}) == 300


def test_an_experiment_by_hand() -> None:
    """ImageNet, one seed: FT and a linear probe on features that are encoded once, and the line on all test sets."""
    found = searches("wise_ft")
    plan, size = found.plan, size_of(found.plan.config.models["ViT-B-16"])
    counts = Counts(plan.tasks["imagenet"], plan.config.tasks["imagenet"])
    budget = estimate(found)
    assert counts.train == 1_281_167
    tests = 50_000 + 0.1 * 1_281_167 + 10_000 + 30_000 + 7_500 + 50_889 + 18_574
    assert counts.evaluated == pytest.approx(tests, rel=0.01)
    ft = 10 * 1_281_167 * 3 * size.image_flops
    assert budget.flops["training"] == pytest.approx(ft + 1_281_167 * size.image_flops, rel=1e-6)
    assert budget.flops["evaluation"] == pytest.approx((21 + 1 + 1) * counts.evaluated * size.image_flops)
    assert budget.flops["search"] == 0
    assert budget.bytes["weights"] == 2 * 4 * size.parameters
    whole, halved = (float(budget.lines(tflops)[0].split()[1]) for tflops in (5, 10))
    assert whole == pytest.approx(2 * halved, rel=0.05)
    assert budget.by_hand == ["imagenet", "imagenet-sketch"]
    assert budget.lines(50)[-1].endswith(": imagenet, imagenet-sketch")
    assert budget.unknown and budget.lines(50)[1].startswith("at least ")


def test_a_search_pays_for_trials_their_scores_and_the_final_run() -> None:
    without = estimate(searches("autoft_imagenet", {"search": {"spaces": []}})).flops
    one, two = (
        estimate(searches("autoft_imagenet", {"search": {"spaces": ["ft-searched"], "trials": n}})).flops
        for n in (100, 200)
    )
    size = size_of(run_entries.Model(architecture="ViT-B-16", pretrained="openai"))
    assert searches("autoft_imagenet").spaces["ft-searched"].images is None  # all of ood_val: 1,000 of 15 corruptions
    trial = (100 * 512 * 3 + 15_000) * size.image_flops
    assert two["search"] - one["search"] == pytest.approx(100 * trial)
    assert without["search"] == 0 and one["training"] == two["training"]
    runs = searches("autoft_imagenet").how
    finals = len(runs.seeds) * runs.final_seeds
    # A final run is one of FT, of which the experiment has one a seed.
    only = {"search": {"spaces": []}, "run": {"methods": ["zeroshot", "ft"], "pairs": []}}
    tuned = estimate(searches("autoft_imagenet", only)).flops["training"] / len(
        searches("autoft_imagenet").plan.config.seeds
    )
    assert one["training"] - without["training"] == pytest.approx(finals * tuned)
    assert one["evaluation"] > without["evaluation"]


def test_choosing_the_epoch_pays_for_a_pass_over_id_val_after_each() -> None:
    """Flowers102 chooses on its official 1,020 validation images, over 100 epochs."""

    def training(keep: str) -> float:
        only = {
            "run": {"tasks": ["flowers102"], "methods": ["zeroshot", "ft"]},
            "search": {"spaces": []},
            "seeds": [0],
            "recipes": {"flowers102": {"keep": keep}},
        }
        return estimate(searches("autoft_transfer", only)).flops["training"]

    one = size_of(run_entries.Model(architecture="ViT-B-16", pretrained="openai")).image_flops
    assert training("best") - training("last") == pytest.approx(100 * 1020 * one)


def test_a_stream_pays_for_the_copies_of_every_image() -> None:
    """CIFAR-10-C: 10 x 10 images choose the rate and (at most) 10,000 are the stream, of every corruption and seed."""
    corruptions, one = ["gaussian_noise", "fog"], size_of(run_entries.Model(tower="resnet26")).image_flops
    changed = {"tasks": {"cifar10-c": {"corruptions": corruptions}}, "seeds": [0, 1]}

    def adaptation(methods: list[str]) -> float:
        how = {"methods": methods, "copies": 16, "learning_rates": [0.1, 0.2, 0.3]}
        return estimate(searches("surgical_cifar", changed | {"online": how})).flops["adaptation"]

    nothing = estimate(searches("surgical_cifar", changed | {"online": {"tasks": []}})).flops["adaptation"]
    still, moving = adaptation(["tune-none"]) - nothing, adaptation(["tune-none", "tune-all"]) - nothing
    assert still == pytest.approx(2 * 2 * (100 + 10000) * one)
    assert moving - still == pytest.approx(2 * 2 * (3 * 100 + 10000) * (16 * 3 + 1) * one)


def test_hours_are_a_lower_bound_where_the_size_of_a_model_is_not_known() -> None:
    other = {"models": {"RN50": {"architecture": "RN50", "pretrained": "openai"}}, "run": {"models": ["RN50"]}}
    assert estimate(searches("lipsum_domainnet", other)).lines(50)[0].startswith("an unknown number of ")
    both = other | {"run": {"models": ["ViT-B-16", "RN50"]}}
    assert estimate(searches("lipsum_domainnet", both)).lines(50)[0].startswith("at least ")
    assert estimate(searches("lipsum_domainnet")).lines(50)[0].startswith("about ")


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_split_has_a_number_of_images_or_roughly_one(name: str) -> None:
    assert all(bool(how.images) != bool(how.about) for how in family(name).SPLITS.values())


def test_the_source_network_of_breeds_trains_on_about_as_many_images_as_imagenet_has_of_its_classes() -> None:
    plan = searches("surgical_breeds").plan
    found = Counts(plan.tasks["living17"], plan.config.tasks["living17"])
    assert found.train == pytest.approx(1281167 * 34 / 1000, rel=0.01)


def test_the_disk_holds_archives_and_what_comes_out_of_them() -> None:
    """iWildCam's archive is known to the byte, FMoW's as WILDS tells it; nobody says what they unpack to."""
    budget = estimate(searches("autoft_wilds"))
    assert budget.bytes["archives"] == budget.bytes["unpacked"] == 11_957_415_473 + 53_893_324_800
    assert not [name for name in budget.unknown if name.startswith("size of ")]
    corrupted = estimate(searches("surgical_imagenet_c"))
    assert corrupted.bytes["archives"] > (21 + 7 + 12 + 7) * 1e9 and "size of imagenet-c-noise" not in corrupted.unknown
    assert "size of objectnet" in estimate(searches("wise_ft")).unknown


def test_what_has_no_published_data_has_no_estimate() -> None:
    assert estimate(searches("smoke")) is None


@pytest.mark.parametrize(
    "path", sorted(p.stem for p in (ROOT / "config/experiments").glob("*.yaml") if "emoji" not in p.stem)
)
def test_every_experiment_can_be_told(path: str) -> None:
    if budget := estimate(searches(path)) if path != "folder" else None:
        hours, disk = budget.lines(50)[:2]
        assert "GPU hours" in hours and "GB of disk" in disk
        assert all(value >= 0 for value in [*budget.flops.values(), *budget.bytes.values()])


def test_a_dry_run_tells_of_a_pickled_copy(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-py").mkdir()
    found = searches("autoft_cifar", {"data_root": {"cifar": str(tmp_path), "folder": str(tmp_path)}})
    assert "cifar-10-batches-py is the pickled version" in "".join(estimate(found).lines(50))


def test_a_dry_run_tells_of_a_data_root_without_a_copy(tmp_path: Path) -> None:
    """A folder of another name would be downloaded over, 12 GB of it."""
    (tmp_path / "iwildcam").mkdir()
    wanted = searches("autoft_wilds", {"data_root": {"wilds": str(tmp_path)}})
    told = f"iwildcam (12 GB) is downloaded: no copy in {tmp_path / 'iwildcam_v2.0'}"
    assert told in estimate(wanted).lines(50)
    (tmp_path / "iwildcam_v2.0/metadata.csv").mkdir(parents=True)
    assert any("iwildcam_v2.0 is incomplete, train is missing" in line for line in estimate(wanted).lines(50))
    (tmp_path / "iwildcam_v2.0/train").mkdir()
    assert not any("iwildcam" in line for line in estimate(wanted).lines(50)[2:])


def test_a_dry_run_tells_of_a_folder_that_is_not_there(tmp_path: Path) -> None:
    found = searches("wise_ft", {"data_root": {"imagenet": str(tmp_path / "gone")}})
    assert estimate(found).lines(50)[-1] == (
        f"data_root.imagenet: there is no folder {tmp_path / 'gone'} on this machine"
    )
