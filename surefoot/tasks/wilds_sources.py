"""Where the data sets of WILDS come from."""

from surefoot.sources import File, Source

BUNDLES = "https://worksheets.codalab.org/rest/bundles/{}/contents/blob/"

# Sizes with `about` are those that WILDS tells, which are in whole blocks of a disk.
SOURCES = {
    source.name: source
    for source in (
        Source(
            name="iwildcam",
            files=(
                File(
                    "iwildcam_v2.0.tar.gz",
                    urls=(
                        "https://huggingface.co/datasets/emmilly/iwildcam-wilds-v2/resolve/main/iwildcam_v2.0.tar.gz",
                        BUNDLES.format("0x6313da2b204647e79a14b468131fcd64"),
                    ),
                    sha256="05c872f46eee44315f79bc90f4098c69ae3799a2b95116db02292ea1b4e370d2",
                    size=11_957_415_473,
                ),
            ),
            needs=("metadata.csv", "train"),
            folders=("iwildcam_v2.0",),
            licence="Community Data License Agreement, permissive, version 1.0",
        ),
        Source(
            name="fmow",
            files=(
                File(
                    "fmow_v1.1.tar.gz",
                    urls=(BUNDLES.format("0xaec91eb7c9d548ebb15e1b5e60f966ab"),),
                    about=53_893_324_800,
                ),
            ),
            needs=("rgb_metadata.csv", "country_code_mapping.csv", "images"),
            folders=("fmow_v1.1",),
            licence="Functional Map of the World Challenge Public License",
            by_hand="If the official host fails, get fmow_v1.1 (54 GB compressed) from the makers of WILDS "
            "(https://wilds.stanford.edu) and put the folder fmow_v1.1 below data_root.wilds.",
        ),
        Source(
            name="camelyon17",
            files=(
                File(
                    "camelyon17_v1.0.tar.gz",
                    urls=(BUNDLES.format("0xe45e15f39fb54e9d9e919556af67aabe"),),
                    about=10_658_709_504,
                ),
            ),
            needs=("metadata.csv", "patches"),
            folders=("camelyon17_v1.0",),
            licence="CC0 1.0",
            by_hand="If the official host fails, get camelyon17_v1.0 (11 GB compressed) from the makers of WILDS "
            "(https://wilds.stanford.edu) and put the folder camelyon17_v1.0 below data_root.wilds.",
        ),
        Source(
            name="waterbirds",
            files=(
                File(
                    "waterbird_complete95_forest2water2.tar.gz",
                    urls=("https://nlp.stanford.edu/data/dro/waterbird_complete95_forest2water2.tar.gz",),
                    strip=1,
                ),
            ),
            needs=("metadata.csv",),
            folders=("waterbirds_v1.0", "waterbird_complete95_forest2water2"),
            licence="non-commercial research and education (images of CUB-200-2011 and Places)",
        ),
        Source(
            name="celeba",
            files=(
                File(
                    "celebA_v1.0.tar.gz",
                    urls=(BUNDLES.format("0xfe55077f5cd541f985ebf9ec50473293"),),
                    about=1_308_557_312,
                ),
            ),
            needs=("img_align_celeba",),
            inside=(  # as the makers distribute it; nobody publishes digests of the tables of WILDS
                File("list_attr_celeba.txt", md5="75e246fa4810816ffd6ee81facbd244c"),
                File("list_eval_partition.txt", md5="d32c9cbf5e040fd4025c592c306e6668"),
                File(
                    "img_align_celeba.zip",
                    sha256="46fb89443c578308acf364d7d379fe1b9efb793042c0af734b6112e4fd3a8c74",
                    md5="00d2c5bc6d35e252742224ab0c1e8fcb",
                ),
            ),
            folders=("celebA_v1.0", "celeba"),
            licence="non-commercial research only",
            by_hand="If the official host of WILDS fails, get img_align_celeba.zip, list_attr_celeba.txt and "
            "list_eval_partition.txt from the makers (https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html) and put them, "
            "the archive beside what comes out of it so that it is checked too, into celeba/ below data_root.wilds.",
        ),
    )
}
