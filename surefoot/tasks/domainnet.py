"""DomainNet (cleaned version): 345 classes in six domains, with the official lists of training and test images.

One domain is trained on, the test sets of others are the shift; Lipsum-FT trains on real.
"""

import json
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from surefoot.files import UserError
from surefoot.mistakes import suggestion
from surefoot.sources import File, Source
from surefoot.task_entries import BenchmarkTask
from surefoot.tasks import EvalSet, Part, Task
from surefoot.tasks.benchmarks import COLUMNS, Prepared, hold_out, selector
from surefoot.tasks.imagenet import tables

if TYPE_CHECKING:
    import pandas as pd

HELD_OUT = 0.05  # of each class of a training list
DOMAINS = ("real", "painting", "clipart", "infograph", "sketch", "quickdraw")
PAPERS = ("real", "painting", "clipart", "infograph", "sketch")  # Lipsum-FT leaves quickdraw out
LICENCE = "collected under fair use; non-commercial research only"

HOST = "http://csr.bu.edu/ftp/visda/2019/multi-source"
# Domain -> images of its lists (training, test).
SIZES = {
    "real": (120906, 52041),
    "painting": (50416, 21850),
    "clipart": (33525, 14604),
    "infograph": (36023, 15582),
    "sketch": (48212, 20916),
    "quickdraw": (120750, 51750),
}
# Domain -> its archive with SHA-256 and bytes. The first version of clipart and painting, one folder up, has other
# images under the same names.
ARCHIVES = {
    "real": ("real.zip", "d7fe010b430c5b510f85d657d38c4a1924822695fabea4fef57bd00dba251d63", 6_062_039_589),
    "painting": (
        "groundtruth/painting.zip",
        "fa47e6d405503ea0286cabd767f176bd30e988b63ddd7b9db16cf030c9770015",
        3_679_366_174,
    ),
    "clipart": (
        "groundtruth/clipart.zip",
        "f8f248a3e8bbc9868c523ae24e6601b4c2ad102afc60c0efeb4f3255df22354d",
        1_270_909_081,
    ),
    "infograph": ("infograph.zip", "891e14f476317e97b6f06d6498c11d0a5b8d0c8b57210765ed9beb072da611fa", 4_338_659_804),
    "sketch": ("sketch.zip", "23a7dbae7016b343e934399beaa8a68728fb5e570ebe2c71df9b75cf91c499fc", 2_633_992_926),
    "quickdraw": ("quickdraw.zip", "9f37df2a8c3733703dbb35ad9964202a65f675ca30137756457537536b485d84", 459_920_701),
}
# Domain -> SHA-256 of its lists (training, test).
LISTS = {
    "real": (
        "19d483256d24aef19e581b65eda8333fd918aef3eb733fe499ff384120e3a289",
        "2b3f75bcde309aeb5931292084b2162e936b5f189e3bb1ad716f0f74c460864c",
    ),
    "painting": (
        "f1da38d50a702fddf1329f85bc607d7a2abcae7e6aec75e1fd49cc1bd340d47b",
        "11472b13b5188e09f06918b12eebb660588c97a20e43e268d9b02e3e37eb8f97",
    ),
    "clipart": (
        "affdadf5f95a7583e6b98030a3d35007e2613ee4dd942393c5a705ec2b429312",
        "62c8e36aaba1c41ad9e249099739707220a44c08f167b37ef420f34a31628a6b",
    ),
    "infograph": (
        "36b44cbd41a2915e0dc73b4f4be8862a6f3c220f93c8d63fb2439beeae3aefda",
        "413cfa54ac92e7e6b242f4f09fbd9c8ace85c4deaf3cb6c81ff6b68264460136",
    ),
    "sketch": (
        "72f4bc6afa5702a1ccba800d0053c1427de87439dfaf246dbc9a2e71abfec54f",
        "3fb48fca18c507c4321f007c3f62b308ec232ff6928cbfe2af64e76ec366e840",
    ),
    "quickdraw": (
        "3a5edd3bc215772010eebc87f158707703dd7e48091d13b816af81326a9d1c0f",
        "2a00a60650a453c65c356da748fec54084a197272137c440e7d52d08947357bf",
    ),
}


@cache
def classes() -> tuple[str, ...]:
    """The 345 folder names in the order of the lists."""
    return tuple(json.loads((Path(__file__).parent / "data" / "domainnet_classes.json").read_text(encoding="utf-8")))


def _index(domain: str, split: str, root: Path) -> "pd.DataFrame":
    """Rows of one official list, whose lines are `domain/class/file label`.

    Raises UserError for a list that is missing or says something else.
    """
    import pandas as pd

    path, known = root / f"{domain}_{split}.txt", {name: number for number, name in enumerate(classes())}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}; get it from {HOST}/domainnet/txt/{path.name}") from None
    files, labels = [], []
    for number, line in enumerate(lines, 1):
        file, _, label = line.rpartition(" ")
        parts = file.split("/")
        if len(parts) != 3 or parts[0] != domain or label != str(known.get(parts[1])):
            raise UserError(
                f"{path}, line {number}: {line!r} is not {domain}/CLASS/FILE with the label of one of the 345 classes; "
                f"get the list from {HOST}/domainnet/txt/{path.name}"
            )
        files.append(file)
        labels.append(int(label))
    rows = pd.DataFrame({"file": files, "label": labels, "cluster": files, "group": "all", "fold": ""})
    return (hold_out(rows, HELD_OUT) if split == "train" else rows)[list(COLUMNS)]


SPLITS: dict[str, Prepared] = {
    f"{domain}-{split}": Prepared(
        source=f"domainnet-{domain}",
        index=partial(_index, domain, split),
        images=SIZES[domain][split == "test"],
        stream=split == "train",
    )
    for domain in DOMAINS
    for split in ("train", "test")
}


def _source(domain: str) -> Source:
    archive, digest, size = ARCHIVES[domain]
    lists = [f"{domain}_{split}.txt" for split in ("train", "test")]
    return Source(
        name=f"domainnet-{domain}",
        files=(
            File(Path(archive).name, urls=(f"{HOST}/{archive}",), sha256=digest, size=size),
            *(
                File(name, urls=(f"{HOST}/domainnet/txt/{name}",), sha256=digest)
                for name, digest in zip(lists, LISTS[domain], strict=True)
            ),
        ),
        needs=(domain, *lists),
        folders=("domainnet", "DomainNet", "."),
        licence=LICENCE,
        by_hand=f"If the host fails, get {', '.join([archive, *lists])} (cleaned version) from http://ai.bu.edu/M3SDA.",
    )


SOURCES = {source.name: source for source in map(_source, DOMAINS)}


def build(name: str, entry: BenchmarkTask) -> Task:
    """The task of a config entry, whose `data` is the domain that is trained on.

    Raises UserError for an unknown domain, and for a key that this family does not have.
    """
    where, domain = f"tasks.{name}", entry.data
    if domain not in DOMAINS:
        near = suggestion(domain, DOMAINS)
        raise UserError(f"{where}.data: unknown domain {domain!r}{near}; DomainNet has {', '.join(DOMAINS)}")
    if entry.shift != "style":
        raise UserError(f"{where}.shift: {entry.shift} is not known of DomainNet; use style")
    if entry.corruptions:
        raise UserError(f"{where}.corruptions: DomainNet has none; remove the key")
    test_sets = _domains(f"{where}.test_sets", entry.test_sets, domain, [d for d in PAPERS if d != domain])
    ood_val = _domains(f"{where}.ood_val", entry.ood_val, domain, [])
    if not test_sets:
        raise UserError(f"{where}.test_sets: empty; name one of {', '.join(d for d in DOMAINS if d != domain)}")
    published = entry.selection == "as_published"
    held_out = Part(f"{domain}-test", "") if published else Part(f"{domain}-train", "val")
    sets = [
        EvalSet(
            "id_val",
            f"{domain} ({'test' if published else 'held out of train'})",
            "id_val",
            (held_out,),
            _said(published),
        ),
        EvalSet("id_test", f"{domain} (test)", "id_test", (Part(f"{domain}-test", ""),)),
    ]
    if ood_val:
        parts = tuple(Part(f"{other}-train", "val") for other in ood_val)
        sets.append(EvalSet("ood_val", f"{', '.join(ood_val)} (of its training list)", "ood_val", parts))
    sets += [EvalSet(other, f"{other} (test)", "ood_test", (Part(f"{other}-test", ""),)) for other in test_sets]
    return Task(
        name=name,
        dataset="domainnet",
        title=f"DomainNet, trained on {domain}",
        classes=classes(),
        prompt_names=classes(),
        templates=tuple(tables()["templates"]),
        cluster="image",
        # All of the list where nothing is held out of it.
        train=(Part(f"{domain}-train", "" if published and not entry.shots else "train"),),
        eval_sets=tuple(sets),
        licences=LICENCE,
        select=selector(len(classes()), entry.shots),
        note=_note(domain, test_sets, ood_val, published),
        exact=True,
        grouped=False,
        may_lack_classes=domain == "painting",
    )


def _domains(where: str, given: Sequence[str] | None, domain: str, default: Sequence[str]) -> tuple[str, ...]:
    """The domains that an entry names, or the default. Raises UserError for an unknown one and the one trained on."""
    for value in given or ():
        if value == domain:
            raise UserError(f"{where}: {domain} is trained on; its test list is id_test")
        if value not in DOMAINS:
            raise UserError(f"{where}: unknown domain {value!r}{suggestion(value, DOMAINS)}")
    if given and len(set(given)) < len(given):
        raise UserError(f"{where}: a domain stands twice in {', '.join(given)}")
    return tuple(default if given is None else given)


def _said(published: bool) -> str:
    return "the reported test set" if published else ""


def _note(domain: str, test_sets: Sequence[str], ood_val: Sequence[str], published: bool) -> str:
    parts = [
        "The official lists of the cleaned version. Class names are the folders', with underscores, in the templates "
        "of ImageNet, as in Lipsum-FT's code."
    ]
    if published:
        parts.append("id_val is the reported test set, as in Lipsum-FT's code, and nothing is held out of train.")
    else:
        parts.append(f"id_val is {HELD_OUT:.0%} of each class of the training list, drawn once for all seeds.")
    if not ood_val:
        parts.append("No paper has an ood_val here.")
    elif seen := [other for other in ood_val if other in test_sets]:
        parts.append(f"Domains seen by ood_val, in other images: {', '.join(seen)}.")
    if "painting" in (domain, *ood_val):
        parts.append("The training list of painting lacks the class t-shirt.")
    return " ".join(parts)
