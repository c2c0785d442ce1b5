"""What tests proved of each published data set, on small ones fabricated in the real layouts. No torch.

Tests hold these tables to what is there: the named tests exist, and the runs are those of the workflow's tests.
"""

from surefoot.origins import comes
from surefoot.sources import File, Source
from surefoot.tasks import family
from surefoot.tasks.domainnet import DOMAINS

# Family -> data set (or how its name begins) -> the test that reads its layout.
READ = {
    "imagenet": {
        "imagenet-c": "unit/test_imagenet.py: test_files_and_labels_are_those_of_torchvision",
        "imagenet-videos": "unit/test_videos.py: test_vid_robust_is_scored_as_by_its_makers",
        "imagenetv2": "unit/test_imagenet.py: test_v2_counts_its_folders_as_numbers",
        "imagenet": "unit/test_imagenet.py: test_files_and_labels_are_those_of_torchvision",
        "objectnet": "unit/test_imagenet.py: test_objectnet_is_its_113_folders_in_order",
    },
    "cifar": {
        "cifar10_c": "unit/test_cifar.py: "
        "test_severity_five_is_the_last_block_and_shares_its_cut_with_the_clean_images",
        "cifar10_": "unit/test_cifar.py: test_arrays_are_read_in_their_order",
        "cifar10": "unit/test_cifar.py: test_binary_files_are_read_as_torchvision_reads_the_others",
    },
    "wilds": {
        "waterbirds": "unit/test_wilds.py: test_splits_with_groups_are_those_of_the_package",
        "celeba": "unit/test_wilds.py: test_splits_with_groups_are_those_of_the_package",
        "": "unit/test_wilds.py: test_official_splits_are_those_of_the_package",
    },
    "domainnet": {"domainnet-": "unit/test_domainnet.py: test_rows_are_those_of_the_package"},
    "breeds": {"imagenet": "unit/test_breeds.py: test_labels_are_the_superclasses_of_the_folders"},
    "transfer": {
        "sst2": "unit/test_transfer.py: test_sst2_is_torchvisions",
        "pcam": "unit/test_transfer.py: test_patches_are_torchvisions",
        "caltech101": "unit/test_transfer.py: test_caltech101_is_torchvisions_cut_in_three",
        "cars": "unit/test_transfer.py: test_cars_are_torchvisions",
        "flowers102": "unit/test_transfer.py: test_flowers_are_torchvisions",
        "cifar100": "unit/test_transfer.py: test_cifar100_has_the_fine_labels",
        "dtd": "unit/test_transfer.py: test_textures_are_torchvisions",
        "food101": "unit/test_transfer.py: test_food_is_torchvisions",
        "sun397": "unit/test_transfer.py: test_scenes_have_torchvisions_labels",
    },
}
# Family -> data sets that its run in RUN trains on, and those that it evaluates on.
RUN = "workflow/test_families.py: test_an_experiment_of_each_family_ends_in_tables"
TRAINED = {
    "imagenet": {"imagenet"},
    "cifar": {"cifar10"},
    "wilds": {"iwildcam", "fmow"},
    "domainnet": {"domainnet-real"},
    "breeds": {"imagenet"},
    "transfer": {"caltech101", "cars", "flowers102"},
}
EVALUATED = {
    "imagenet": {f"imagenet{more}" for more in ("", "v2", "-r", "-a", "-sketch", "-c-noise", "-videos")}
    | {"objectnet"},
    "cifar": {"cifar10", "cifar10_1", "cifar10_2", "cifar10_c"},
    "wilds": {"iwildcam", "fmow"},
    "breeds": {"imagenet"},
    "domainnet": {f"domainnet-{domain}" for domain in DOMAINS},
    "transfer": {"caltech101", "cars", "flowers102"},
}
# Data sets whose archives become records in one process, with a tiny model and no Snakemake.
IN_PROCESS_TEST = "contract/test_data_sets.py: test_a_data_set_is_prepared_trained_on_and_evaluated"
IN_PROCESS = {"sst2", "pcam", "cifar100", "dtd", "food101", "sun397", "camelyon17", "waterbirds", "celeba"}
# The steps that are the same for all data sets, with a test of each.
COMMON = {
    "downloads": "download/test_download.py: test_a_cut_connection_is_continued",
    "verifies": "download/test_download.py: test_every_kind_of_digest_is_checked",
    "unpacks": "download/test_unpack.py: test_archives_are_unpacked",
    "archives of ImageNet": "unit/test_imagenet.py: test_the_archives_of_imagenet_become_what_is_read",
    "images into arrays": "unit/test_folder.py: test_images_and_labels_are_those_on_disk",
    "your own images": "workflow/test_own_data.py: test_own_folders_become_tables",
}


def read_by(name: str, source: str) -> str:
    """The test that reads a data set of a family in its layout. Raises StopIteration where there is none."""
    return next(test for start, test in READ[name].items() if source.startswith(start))


def digest_of_file(file: File) -> str:
    """Kind of digest that a file is checked against; '' where nobody publishes one."""
    return next((kind for kind in ("sha256", "md5", "git_blob") if getattr(file, kind)), "")


def proofs_table(families: tuple[str, ...]) -> str:
    """Markdown: data sets x (downloads, verifies, prepares, trains, evaluates), and what nobody says of them."""
    heads = [
        "family",
        "data set",
        "downloads",
        "verifies",
        "prepares",
        "trains",
        "evaluates",
        "not known before",
    ]
    lines = [heads, ["---"] * len(heads)]
    for name in families:
        lines += [_line(name, source) for source in family(name).SOURCES.values()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _line(name: str, source: Source) -> list[str]:
    known = [bool(digest_of_file(file)) for file in source.files]
    verifies = "all files" if all(known) else "some files" if any(known) else "from the first download on"
    return [
        name,
        source.name,
        comes(source),
        f"{verifies}; {len(source.inside)} inside" if source.inside else verifies,
        f"`{read_by(name, source.name)}`",
        *(
            "yes" if source.name in tried.get(name, ()) else "in one process" if source.name in IN_PROCESS else "no"
            for tried in (TRAINED, EVALUATED)
        ),
        _unknown(name, source, all(known)),
    ]


def _unknown(name: str, source: Source, known: bool) -> str:
    splits = {split: how.images for split, how in family(name).SPLITS.items() if how.source == source.name}
    uncounted = [split for split, images in splits.items() if not images]
    found = ([] if known else ["digest"]) + ([f"images of {', '.join(uncounted)}"] if uncounted else [])
    return "; ".join(found)
