"""ImageNet and its shifts: tables as the libraries have them, labels as their loaders read them, roles, mistakes."""

import shutil
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from torchvision.datasets import ImageFolder

from surefoot.download import fetch
from surefoot.files import UserError
from surefoot.images import Files, evaluation_view, load_rgb
from surefoot.prepare import prepare_files
from surefoot.splits import read_split
from surefoot.task_entries import BenchmarkTask
from surefoot.tasks import Part, Task
from surefoot.tasks.imagenet import KNOWN, POOL, SHIFTS, SOURCES, SPLITS, STANDARD, build, pooled, tables
from surefoot.tasks.imagenet_sources import IMAGENET
from tests.fabricate.imagenet import RED, as_on_kaggle, fabricate, flatten

NOISE = ("gaussian_noise", "impulse_noise", "shot_noise")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("data")
    fabricate(where)
    return where


def rows(root: Path, split: str) -> pd.DataFrame:
    """The index of a split, in the first folder where its source is complete."""
    source = SOURCES[SPLITS[split].source]
    whole = [root / at for at in source.folders if all((root / at / need).exists() for need in source.needs)]
    return SPLITS[split].index(whole[0])


def task(**changes: Any) -> Task:
    return build("in", BenchmarkTask(family="imagenet", data="imagenet", recipe="clip", **changes))


def parts(built: Task) -> dict[str, tuple[Part, ...]]:
    return {s.name: s.parts for s in built.eval_sets}


def test_tables_are_those_of_the_libraries() -> None:
    import open_clip
    import timm
    from timm.data import ImageNetInfo

    known = tables()
    assert known["wnids"] == list(ImageNetInfo("imagenet-1k").label_names()) == sorted(known["wnids"])
    assert known["names"] == list(open_clip.IMAGENET_CLASSNAMES)
    assert known["templates"] == [template("{}") for template in open_clip.OPENAI_IMAGENET_TEMPLATES]
    for name in ("r", "a"):
        shipped = Path(timm.data.__file__).with_name("_info") / f"imagenet_{name}_indices.txt"
        assert known[name] == [int(line) for line in shipped.read_text().split()]
    assert len(set(known["r"]) & set(known["a"])) == 86
    folders = known["objectnet"]
    assert list(folders) == sorted(folders) and len(folders) == 113 and sum(map(len, folders.values())) == 125
    assert sum(len(ids) > 1 for ids in folders.values()) == 9


def test_every_class_of_objectnet_means_what_its_folder_says() -> None:
    """Most folders share a word with a name of their ImageNet classes; a table shifted by one would not."""
    known = tables()
    shared = 0
    for folder, ids in known["objectnet"].items():
        words = {word for i in ids for word in known["names"][i].lower().replace("-", " ").split()}
        shared += bool(words & set(folder.replace("_", " ").replace("-", " ").split()))
    assert shared > 60


@pytest.mark.parametrize(
    ("split", "folder"),
    [
        ("train", "imagenet/train"),
        ("val", "imagenet/val"),
        ("r", "imagenet-r"),
        ("a", "imagenet-a"),
        ("sketch", "sketch"),
        ("c-impulse_noise", "imagenet-c/impulse_noise/5"),
    ],
)
def test_files_and_labels_are_those_of_torchvision(root: Path, split: str, folder: str) -> None:
    found = rows(root, split)
    expected = {
        Path(path).relative_to(root / folder).as_posix(): label for path, label in ImageFolder(root / folder).samples
    }
    names = ["/".join(Path(file).parts[-2:]) for file in found["file"]]
    assert dict(zip(names, found["label"], strict=True)) == expected


def test_test_images_that_lie_together_are_found_by_the_development_kit(root: Path, tmp_path: Path) -> None:
    """As the archive has them, beside ILSVRC2012_devkit_t12."""
    flatten(root / "imagenet", tmp_path)
    apart, together = SPLITS["val"].index(root / "imagenet"), SPLITS["val"].index(tmp_path)
    columns = ["label", "fold"]
    assert together[columns].equals(apart[columns])
    assert [Path(file).name for file in together["file"]] == [Path(file).name for file in apart["file"]]
    assert set(together["file"].str.count("/")) == {1}
    next((tmp_path / "val").iterdir()).unlink()
    with pytest.raises(UserError, match=r"1999 images, but .* lists 2000"):
        SPLITS["val"].index(tmp_path)
    (tmp_path / "ILSVRC2012_devkit_t12/data/meta.mat").write_bytes(b"not a matrix")
    with pytest.raises(UserError, match=r"cannot be read .*; extract ILSVRC2012_devkit_t12.tar.gz again"):
        SPLITS["val"].index(tmp_path)


@pytest.mark.parametrize("inside", [False, True], ids=["beside ILSVRC", "in ILSVRC"])
def test_kaggles_layout_is_read_from_its_table(root: Path, tmp_path: Path, inside: bool) -> None:
    """From the user's copy to prepared rows: labels from LOC_val_solution.csv, files where they are."""
    as_on_kaggle(root / "imagenet", tmp_path / "kaggle")
    if inside:
        (tmp_path / "kaggle/LOC_val_solution.csv").rename(tmp_path / "kaggle/ILSVRC/LOC_val_solution.csv")
    got = Path(fetch(IMAGENET, tmp_path / "raw", tmp_path / "kaggle")["root"])
    assert got == tmp_path / "kaggle/ILSVRC/Data/CLS-LOC"
    prepare_files(SPLITS["val"], got, 4, tmp_path / "val", tmp_path / "state", {}, "val", check=False)
    together, apart = read_split(tmp_path / "val").rows, SPLITS["val"].index(root / "imagenet")
    assert together[["label", "fold"]].equals(apart[["label", "fold"]])
    assert [f"val/{Path(file).name}" for file in apart["file"]] == list(together["file"])
    assert len(SPLITS["train"].index(got)) == 2000


def test_kaggles_layout_without_its_whole_table_is_told(root: Path, tmp_path: Path) -> None:
    as_on_kaggle(root / "imagenet", tmp_path)
    val, table = tmp_path / "ILSVRC/Data/CLS-LOC", tmp_path / "LOC_val_solution.csv"
    lines = table.read_text().splitlines()
    next((val / "val").iterdir()).unlink()
    with pytest.raises(UserError, match=r"1999 images, but .*LOC_val_solution.csv lists 2000"):
        SPLITS["val"].index(val)
    table.write_text("\n".join(lines[:9]))
    with pytest.raises(UserError, match=r"does not list ILSVRC2012_val_0000000\d, which is in"):
        SPLITS["val"].index(val)
    table.write_text("\n".join(line.replace(",", ";") for line in lines))
    with pytest.raises(UserError, match=r"cannot be read .*get Kaggle's LOC_val_solution.csv again"):
        SPLITS["val"].index(val)
    table.unlink()
    with pytest.raises(UserError, match=f"Put LOC_val_solution.csv, .* to {table}; or unpack ILSVRC2012_devkit_t12"):
        SPLITS["val"].index(val)


def test_the_archives_of_imagenet_become_what_is_read(root: Path, tmp_path: Path) -> None:
    """Fetched from archives that a user put there: train.tar of one tar a class, val.tar of images, and the kit."""
    flatten(root / "imagenet", tmp_path / "flat")
    archives = tmp_path / "raw/archives"
    archives.mkdir(parents=True)
    (tmp_path / "tars").mkdir()
    for folder in (root / "imagenet/train").iterdir():
        with tarfile.open(tmp_path / "tars" / f"{folder.name}.tar", "w") as tar:
            for file in folder.iterdir():
                tar.add(file, file.name)
    for name, folder, mode in (
        ("ILSVRC2012_img_train.tar", tmp_path / "tars", "w"),
        ("ILSVRC2012_img_val.tar", tmp_path / "flat/val", "w"),
        ("ILSVRC2012_devkit_t12.tar.gz", tmp_path / "flat", "w:gz"),
    ):
        with tarfile.open(archives / name, mode) as tar:
            for path in folder.iterdir():
                if path.name != "val":
                    tar.add(path, path.name)
    files = tuple(replace(file, sha256="", md5="", size=0) for file in IMAGENET.files)  # the digests are the real ones
    got = fetch(replace(IMAGENET, files=files, size=0), tmp_path / "raw", None)
    for split in ("train", "val"):
        here, there = SPLITS[split].index(Path(got["root"])), SPLITS[split].index(root / "imagenet")
        assert [Path(file).name for file in here["file"]] == [Path(file).name for file in there["file"]]
        assert list(here["label"]) == list(there["label"])
    with pytest.raises(UserError, match=r"imagenet cannot be downloaded without you.*ILSVRC2012_img_train.tar"):
        fetch(replace(IMAGENET, files=files, size=0), tmp_path / "empty", None)


def test_a_users_own_copies_are_found(root: Path, tmp_path: Path) -> None:
    for name in (
        "imagenet",
        "imagenetv2",
        "imagenet-r",
        "imagenet-a",
        "imagenet-sketch",
        "objectnet",
        "imagenet-c-noise",
    ):
        assert fetch(SOURCES[name], tmp_path / name, root)["how"] == "own copy"


def test_v2_counts_its_folders_as_numbers(root: Path) -> None:
    found = rows(root, "v2")
    assert list(found["label"]) == [int(Path(file).parent.name) for file in found["file"]]
    assert ImageFolder(root / SHIFTS["v2"].folder).class_to_idx["10"] == 2  # what text order would make of class 10


def test_objectnet_is_its_113_folders_in_order(root: Path) -> None:
    found = rows(root, "objectnet")
    folders = [Path(file).parent.name for file in found["file"]]
    assert "air_freshener" not in folders
    assert [tables()["objectnet"][name] for name in sorted(set(folders))] == list(map(list, columns("objectnet")))
    assert list(found["label"]) == [sorted(set(folders)).index(name) for name in folders]


def columns(name: str) -> tuple[tuple[int, ...], ...]:
    return next(s for s in task().eval_sets if s.name == name).columns


def test_masks_take_each_label_to_its_class(root: Path) -> None:
    """The label of an image of R and A, taken through the mask, is the class of its folder."""
    for split in ("r", "a"):
        for file, label in rows(root, split)[["file", "label"]].itertuples(index=False):
            (column,) = columns(split)[label]
            assert tables()["wnids"][column] == Path(file).parent.name
    assert columns("v2") == columns("sketch") == ()


def test_the_red_border_of_objectnet_is_cut_where_asked_for(root: Path, tmp_path: Path) -> None:
    def images(split: str) -> np.ndarray:
        how, out = SPLITS[split], tmp_path / split
        prepare_files(how, root, 24, out, tmp_path / "state" / split, {"made by": "test"}, split, False)
        return np.asarray(read_split(out).images[:8])

    whole = load_rgb(root / rows(root, "objectnet").loc[0, "file"])
    assert whole.getpixel((0, 5)) == RED and whole.getpixel((2, 5)) != RED
    cut = whole.crop((2, 2, whole.width - 2, whole.height - 2))
    assert np.array_equal(images("objectnet_cut")[0], evaluation_view(cut, 24))
    assert np.array_equal(images("objectnet")[0], evaluation_view(whole, 24))


def test_training_images_are_held_out_and_decoded_when_asked_for(root: Path, tmp_path: Path) -> None:
    prepare_files(
        SPLITS["train"], root / "imagenet", 24, tmp_path / "train", tmp_path / "state", {"made by": "test"}, "t", False
    )
    split = read_split(tmp_path / "train")
    assert isinstance(split.images, Files) and split.images.shape == (2000, 24, 24, 3)
    chosen = {fold: task().select(Part("train", fold), split.rows, 0).rows for fold in ("train", "val")}
    assert len(chosen["train"]) == len(chosen["val"]) == 1000 and not set(chosen["train"]) & set(chosen["val"])
    file = root / "imagenet" / split.rows.loc[chosen["val"][3], "file"]
    assert np.array_equal(split.images[chosen["val"][3:4]][0], evaluation_view(load_rgb(file), 24))


def test_the_pool_of_test_images_is_the_same_clean_and_corrupted(root: Path) -> None:
    clean, spoilt = rows(root, "val"), rows(root, "c-shot_noise")
    assert list(clean["fold"]) == list(spoilt["fold"]) and set(clean["fold"]) == {"val", "test"}
    assert [Path(file).name for file in clean["file"]] == [Path(file).name for file in spoilt["file"]]


def test_the_real_pool_has_one_image_for_each_standard_corruption() -> None:
    """50 images a class, as ImageNet has them: 15 in the pool, another for each corruption."""
    files = [f"val/n{label}/ILSVRC2012_val_{50 * label + n:08d}.JPEG" for label in range(3) for n in range(50)]
    cut = pooled(pd.DataFrame({"file": files, "label": np.repeat(range(3), 50)}))
    pool = cut[cut["fold"] == "val"]
    assert (pool.groupby("label")["place"].apply(sorted).map(list) == [[*range(POOL)]] * 3).all()
    assert (cut.groupby(["label", "fold"]).size() == [35, 15] * 3).all()
    assert sorted(KNOWN.index(name) % POOL for name in STANDARD) == [*range(POOL)]


def test_search_images_are_never_reported(root: Path) -> None:
    """The clean versions of ood_val leave id_test, and its corruptions leave the corrupted test."""
    built = task(test_sets=["v2", "c"], corruptions=list(NOISE))
    sets = parts(built)
    assert [s.name for s in built.eval_sets] == ["id_val", "id_test", "ood_val", "v2", *(f"c_{c}" for c in NOISE)]

    def stems(some: tuple[Part, ...]) -> set[str]:
        found = set()
        for part in some:
            table = rows(root, part.split)
            found |= {Path(file).stem for file in table.iloc[built.select(part, table, 0).rows]["file"]}
        return found

    searched = stems(sets["ood_val"])
    assert searched
    assert not searched & stems(sets["id_test"])
    assert not any(searched & stems(sets[f"c_{c}"]) for c in NOISE)
    for part in sets["ood_val"]:
        found = rows(root, part.split)
        assert sorted(found["label"]) == [*range(1000)]


def test_roles_of_the_defaults() -> None:
    built = task()
    assert built.train == (Part("train", "train"),)
    assert {s.name: s.role for s in built.eval_sets} == {
        "id_val": "id_val",
        "id_test": "id_test",
        "ood_val": "ood_val",
        **dict.fromkeys(("v2", "r", "sketch", "objectnet", "a"), "ood_test"),
    }
    assert parts(built)["ood_val"] == tuple(Part(f"c-{c}-val", "") for c in STANDARD)
    assert set(built.splits) <= set(SPLITS) and "imagenet-c-extra" not in built.licences
    assert len(set(built.classes)) == len(built.prompt_names) == 1000 and built.exact
    assert [name for name in built.classes if "(n0" in name and name[:7] in ("missile", "sunglas")] == [
        "missile (n03773504)",
        "missile (n04008634)",
        "sunglasses (n04355933)",
        "sunglasses (n04356056)",
    ]


def test_without_corrupted_images_the_whole_test_set_is_reported() -> None:
    built = task(ood_val=[])
    assert parts(built)["id_test"] == (Part("val", ""),) and "ood_val" not in parts(built)
    assert not any(split.startswith("c-") for split in built.splits)


def test_as_published_chooses_on_the_test_set_and_says_so() -> None:
    built = task(selection="as_published")
    assert parts(built)["id_val"] == parts(built)["id_test"] == (Part("val", ""),)
    assert built.train == (Part("train", ""),)
    assert "id_val is the reported test set" in built.note


def test_few_shots_choose_on_no_more_images_than_they_train_on(root: Path) -> None:
    built, table = task(shots=1, ood_val=["v2"]), rows(root, "train")
    for some in (built.train, parts(built)["id_val"]):
        (part,) = some
        assert len(built.select(part, table, 0).rows) == 1000
    assert "v2" not in [s.name for s in built.eval_sets] and parts(built)["ood_val"] == (Part("v2", ""),)
    published = task(shots=4, selection="as_published", ood_val=["v2"])
    assert published.train == (Part("train", "train"),)  # select draws the shots from this fold
    assert parts(published)["v2"] == parts(published)["ood_val"] and "v2 chooses and is reported" in published.note


def test_targets_of_imagenet_c() -> None:
    built = task(shift="corrupt", corruptions=["snow", "spatter"])
    assert [s.name for s in built.eval_sets] == ["id_val", "id_test"]
    snow = built.targets[0].parts(5)
    assert snow["target_val"] == (Part("c-snow", "val", (0, 10), target=True),)
    assert snow["target_train"] == (Part("c-snow", "val", (10, 15), target=True),)
    assert snow["target_test"] == (Part("c-snow", "test", target=True),)
    assert built.targets[1].split == "c-spatter"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_sets": ["objctnet"]}, "tasks.in.test_sets: unknown name 'objctnet'; did you mean 'objectnet'"),
        ({"test_sets": ["v2", "v2"]}, "stands twice"),
        ({"test_sets": []}, "tasks.in.test_sets: empty"),
        ({"ood_val": ["objectnet"]}, "tasks.in.ood_val: unknown name 'objectnet'"),
        ({"corruptions": ["gausian_noise"]}, "did you mean 'gaussian_noise'"),
        ({"corruptions": ["snow"], "ood_val": []}, "add c to ood_val or test_sets"),
        ({"ood_val": ["v2"], "test_sets": ["v2"]}, "both chooses"),
        ({"shift": "flip"}, "tasks.in.shift: flip is not known"),
    ],
)
def test_mistakes_in_an_entry(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        task(**changes)


def test_unknown_data() -> None:
    with pytest.raises(UserError, match=r"tasks.in.data: unknown data set 'imagenet1k'; did you mean 'imagenet'"):
        build("in", BenchmarkTask(family="imagenet", data="imagenet1k", recipe="clip"))


def test_missing_and_empty_class_folders_are_named(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "imagenet-a", tmp_path / "imagenet-a")
    victim = tmp_path / "imagenet-a" / tables()["wnids"][tables()["a"][3]]
    for file in victim.iterdir():
        file.unlink()
    with pytest.raises(UserError, match=f"{victim.name} holds no image"):
        SPLITS["a"].index(tmp_path)
    victim.rmdir()
    with pytest.raises(UserError, match=f"1 of 200 class folders are missing, such as {victim.name}"):
        SPLITS["a"].index(tmp_path)


def test_the_note_says_whether_the_corrupted_test_shows_the_searched_images() -> None:
    both = {"ood_val": ["c"], "test_sets": ["c"], "corruptions": list(NOISE)}
    assert "those of ood_val, on other images." in task(**both).note
    published = task(**both, selection="as_published")
    assert parts(published)["c_gaussian_noise"] == (Part("c-gaussian_noise", ""),)
    assert "those of ood_val, its images among them." in published.note
