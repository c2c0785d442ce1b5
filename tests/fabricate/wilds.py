"""Data sets of WILDS as they lie on disk: tables with every column that is read, small images of several modes."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from surefoot.fingerprint import ROOT

SPLITS = ("train", "id_val", "id_test", "val", "test")
REGIONS = {"DEU": "Europe", "KEN": "Africa", "JPN": "Asia", "PER": "Americas", "FJI": "Oceania", "UMI": "Other"}


def names(data: str) -> list[str]:
    """Class names as shipped."""
    return json.loads((ROOT / f"surefoot/tasks/data/{data}_classes.json").read_text(encoding="utf-8"))


def picture(label: int, rng: np.random.Generator, height: int, width: int) -> Image.Image:
    """A noisy picture whose colour tells its class."""
    colour = np.random.default_rng(label).integers(40, 216, 3)
    values = colour + rng.normal(0, 20, (height, width, 3))
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def _save(image: Image.Image, path: Path, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.convert(mode).save(path)


def _shuffled(rows: list[dict], rng: np.random.Generator) -> pd.DataFrame:
    return pd.DataFrame([rows[place] for place in rng.permutation(len(rows))])


def _cases(classes: int, images: int) -> Iterator[tuple[str, int, int]]:
    return ((split, label, copy) for split in SPLITS for label in range(classes) for copy in range(images))


def iwildcam(root: Path, images: int, rng: np.random.Generator, classes: int = 182) -> None:
    """Two images a sequence; every tenth image grey."""
    folder, rows = root / "iwildcam_v2.0", []
    for number, (split, label, copy) in enumerate(_cases(classes, images)):
        sequence = (SPLITS.index(split) * classes + label) * images + copy // 2
        location = (5 * (split in ("val", "test"))) + sequence % 5
        name = f"{number:08x}.jpg"
        _save(picture(label, rng, 24, 31), folder / "train" / name, "L" if number % 10 == 0 else "RGB")
        rows.append(
            {"split": split, "location_remapped": location, "location": 100 + location, "sequence_remapped": sequence}
            | {"seq_id": f"{sequence:06x}-ab", "y": label, "category_id": 2 * label, "filename": name}
            | {"datetime": "2013-05-07 10:22:01.000", "image_id": name[:-4]}
        )
    table = _shuffled(rows, rng)
    table["sequence_remapped"] = table["sequence_remapped"].rank(method="dense").astype(int) - 1
    table.to_csv(folder / "metadata.csv")
    pd.DataFrame({"y": range(classes), "name": "latin"}).to_csv(folder / "categories.csv", index=False)
    (folder / "RELEASE_v2.0.txt").touch()


def fmow(root: Path, images: int, rng: np.random.Generator) -> None:
    """Images of every year, of a region without a name and of a country that the mapping lacks; sequestered images."""
    folder, categories, rows = root / "fmow_v1.1", names("fmow"), []
    codes = [*REGIONS, "ZZZ"]
    for part in ("train", "val", "test", "seq"):
        for label, category in enumerate(categories):
            for copy, year in enumerate((2002, 2012, 2013, 2015, 2016, 2017) * images):
                fraction = ".656" if label % 5 == 0 else ""
                rows.append(
                    {"split": part, "category": category, "country_code": codes[(label + copy) % len(codes)]}
                    | {"timestamp": f"{year}-{(1, 12)[copy % 2]:02d}-{(1, 31)[copy % 2]:02d}T02:48:56{fraction}Z"}
                    | {"lat": f"{label}.5", "lon": f"{copy // 3}.25", "img_filename": f"{category}_{copy}_rgb.jpg"}
                )
    table = _shuffled(rows, rng)
    folder.mkdir(parents=True, exist_ok=True)
    table.to_csv(folder / "rgb_metadata.csv", index=False)
    for number, row in table[table["split"] != "seq"].iterrows():
        label = categories.index(row["category"])
        _save(picture(label, rng, 22, 22), folder / "images" / f"rgb_img_{number}.png")
    mapping = pd.DataFrame({"name": "a country", "alpha-3": list(REGIONS), "region": list(REGIONS.values())})
    mapping.to_csv(folder / "country_code_mapping.csv", index=False)
    (folder / "RELEASE_v1.1.txt").touch()


def camelyon17(root: Path, images: int, rng: np.random.Generator) -> None:
    """RGBA patches; two slides a hospital, three hospitals in distribution."""
    folder, rows = root / "camelyon17_v1.0", []
    for center in range(5):
        for slide in (2 * center, 2 * center + 1):
            for label in (0, 1):
                for copy in range(4 * images):
                    patient, node, x, y = f"{4 * slide:03d}", slide % 5, 96 * copy, 96 * label
                    name = f"patient_{patient}_node_{node}"
                    path = folder / "patches" / name / f"patch_{name}_x_{x}_y_{y}.png"
                    _save(picture(label, rng, 26, 26), path, "RGBA")
                    rows.append(
                        {"patient": patient, "node": node, "x_coord": x, "y_coord": y, "tumor": label}
                        | {"slide": slide, "center": center, "split": int(copy % 4 == 0)}
                    )
    _shuffled(rows, rng).to_csv(folder / "metadata.csv")
    (folder / "RELEASE_v1.0.txt").touch()


def waterbirds(root: Path, images: int, rng: np.random.Generator) -> None:
    """Every bird on every background, rarely the wrong one in training."""
    folder, rows = root / "waterbirds_v1.0", []
    for split in (0, 1, 2):
        for label in (0, 1):
            for copy in range(30 * images):
                place = copy % 2 if split else copy // 10 % 2 if copy % 10 == 0 else label
                name = f"{label:03d}.Bird/Bird_{split}_{copy:04d}.jpg"
                _save(picture(10 * label + place, rng, 27, 33), folder / name)
                rows.append({"img_id": len(rows), "img_filename": name, "y": label, "split": split, "place": place})
    table = _shuffled(rows, rng).assign(place_filename="/b/bamboo_forest/00001.jpg")
    table.to_csv(folder / "metadata.csv", index=False)
    (folder / "RELEASE_v1.0.txt").touch()


def celeba(root: Path, images: int, rng: np.random.Generator, makers: bool = False) -> None:
    """With the tables of WILDS, or with those of the makers."""
    folder, rows = root / ("celeba" if makers else "celebA_v1.0"), []
    for number in range(180 * images):
        blond, male = number % 2, number // 2 % 2
        name = f"{number + 1:06d}.jpg"
        _save(picture(10 * blond + male, rng, 29, 24), folder / "img_align_celeba" / name)
        one = {True: 1, False: -1}
        rows.append({"image_id": name, "Bald": -1, "Blond_Hair": one[blond == 1], "Male": one[male == 1], "Young": 1})
    table = pd.DataFrame(rows)
    parts = table[["image_id"]].assign(partition=np.arange(len(table)) * 3 // len(table))
    if makers:
        lines = [str(len(table)), " ".join(table.columns[1:]) + " "]
        lines += ["  ".join([row.image_id, *(f"{value:2d}" for value in row[2:])]) for row in table.itertuples()]
        (folder / "list_attr_celeba.txt").write_text("\n".join(lines) + "\n")
        parts.to_csv(folder / "list_eval_partition.txt", sep=" ", header=False, index=False)
    else:
        table.to_csv(folder / "list_attr_celeba.csv", index=False)
        parts.to_csv(folder / "list_eval_partition.csv", index=False)
        (folder / "RELEASE_v1.0.txt").touch()


def fabricate(root: Path, images_per_class: int = 2, seed: int = 0) -> None:
    """Write every data set of the family below a root, as data_root.wilds expects it."""
    rng = np.random.default_rng(seed)
    for write in (iwildcam, fmow, camelyon17, waterbirds, celeba):
        write(root, images_per_class, rng)
