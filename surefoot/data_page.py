"""docs/data.md: which published data sets are known, where they come from, and what is read of them. No torch."""

from surefoot.flow import PUBLISHED
from surefoot.origins import comes, told
from surefoot.proofs import COMMON, IN_PROCESS_TEST, RUN, digest_of_file, proofs_table
from surefoot.sources import Source
from surefoot.tasks import family

INTRO = """\
# Data sets

The embedded `emoji` tasks need nothing. Your own images need a config and no code: copy
[config/experiments/folder.yaml](../config/experiments/folder.yaml). Published data sets come from your own copy, or
are downloaded where their licences allow it.

## Your own copy

Name the folder of a family; what is found there is used where it is, nothing is copied:

```yaml
data_root: {imagenet: /data/imagenet, wilds: /data/wilds}
```

The table says below which folders a data set is looked for, and what must be in it; a copy that lacks part of that is
an error that names what is missing. Tables and other files that are no archives are checked against published digests
(`check_sizes: false` accepts others). An archive that you have can be put to `results/raw/<data set>/archives/`
instead.

## Downloads

`snakemake --cores 1 download --configfile config/experiments/<name>.yaml` fetches what an experiment reads to
`results/raw/`, as every run does by itself; where computing nodes have no network, run it first where there is one. A
cut connection or a killed download goes on where it stopped, and mirrors are tried in turn. Before anything is
fetched, the disk must have room for the archives and what comes out of them.

Every file is checked against its published digest; a wrong one is kept as `archives/<file>.wrong` and never used. Where
nobody publishes a digest, the SHA-256 is noted as `archives/<file>.sha256` at the first download and checked from then
on; without TLS such a file is refused. For gated files on the Hugging Face hub, `HF_TOKEN` is sent to that host alone,
and never written down.

Archives are unpacked into `files/`, which gets its name only when it is complete. Members that would leave the
folder, links to anything outside the archive, devices, and archives that swell to more than ten times the size of
their data set are refused. Encrypted zips (ObjectNet) need the program `unzip`; without it Python decrypts about a
megabyte a second. Archives stay where they are and may be deleted once the data set is complete (`extracted` is there):
they are fetched again only if something in `files/` is missing or another digest is published. Pickled files are never
read: of CIFAR the binary version is, and a copy that has the Python version only is told so.

Preparing decodes every test image once to the model's input size, exactly as open_clip's evaluation transform does,
into one array per split; ImageNet-size training sets stay files and are decoded while training; that none of them is
missing or cut off is seen before. The numbers of images are checked (`check_sizes: false` accepts others).

## What a run will take

`snakemake -n --configfile config/experiments/<name>.yaml` begins with the GPU hours and the disk that the experiment
takes, counted from architectures, recipes and cards. Hours are those of a GPU that keeps `estimate_tflops`; what yours
keeps, `benchmarks/paper_scale.py` measures.

"""

PROVED = f"""\
## What is proved, and what needs the real files

The tests have seen none of the real files: they fabricate small data sets in the real layouts. What is the same for all
data sets is tried on fabricated archives from a server of the tests:

{{common}}

Below, *downloads* says whether a rule fetches all files or waits for files that only you can get, *verifies* whether
they have published digests or one that is noted at the first download (inside: tables of an own copy). *Prepares*
names the test that reads the layout, against the loaders of torchvision, wilds or the makers' code where they have
one. *Trains* and *evaluates* say whether a whole run from such files to tables does, with the embedded CLIP (breeds:
with a ResNet-50): `{RUN}`; *in one
process*: the same functions do, from archives on a server of the test's, with a tiny CLIP and without Snakemake, and
adapt to its targets where it has some:
`{IN_PROCESS_TEST}`.

Only the real files can show that hosts still serve them, that digests are those on record, and that the numbers of
images are those that preparing checks. *Not known before* is what nobody publishes.

"""


def data_page() -> str:
    """The page, with a table of every known data set."""
    rows = [_row(name, source) for name in PUBLISHED for source in family(name).SOURCES.values()]
    heads = [
        "family",
        "data set",
        "how it comes",
        "GB",
        "checked by",
        "below `data_root`",
        "must hold",
        "splits (images)",
        "licence",
    ]
    lines = [heads, ["---"] * len(heads), *rows]
    table = "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in lines)
    made = "<!-- Made by `python -m surefoot.docs --write`; edit surefoot/data_page.py instead. -->"
    hints = {source.name: source.by_hand for name in PUBLISHED for source in family(name).SOURCES.values()}
    known = "\n".join(f"- **{name}**: {hint}" for name, hint in hints.items() if hint)
    common = "\n".join(f"- {step}: `{test}`" for step, test in COMMON.items())
    proved = f"{PROVED.format(common=common)}{proofs_table(tuple(PUBLISHED))}"
    return f"{made}\n{INTRO}## Known\n\n{table}\n## By hand, or where a host fails\n\n{known}\n\n{proved}"


def _row(name: str, source: Source) -> list[str]:
    splits = {split: how for split, how in family(name).SPLITS.items() if how.source == source.name}
    shown = [f"{split} ({how.images:,})" if how.images else split for split, how in splits.items()]
    if len(shown) > 6:
        shown = [*shown[:3], f"and {len(shown) - 3} more"]
    return [
        name,
        source.name,
        comes(source),
        told(source.archived),
        _checked(source),
        ", ".join(f"`{folder}`" for folder in source.folders[:3]),
        ", ".join(f"`{path}`" for path in source.needs),
        ", ".join(shown),
        source.licence,
    ]


def _checked(source: Source) -> str:
    kinds = {digest_of_file(file) or "first use" for file in source.files}
    return ", ".join(sorted(kinds)) or "its layout"
