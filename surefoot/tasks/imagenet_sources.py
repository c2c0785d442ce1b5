"""Where ImageNet and its shifted test sets come from."""

from surefoot.sources import File, Source
from surefoot.tasks.imagenet_videos import SOURCE as VIDEOS

SEVERITY = 5  # what AutoFT searches on and Surgical Fine-Tuning adapts to

# The archives of ImageNet-C and what is in them.
CORRUPTIONS = {
    "noise": ("gaussian_noise", "impulse_noise", "shot_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("brightness", "fog", "frost", "snow"),
    "digital": ("contrast", "elastic_transform", "jpeg_compression", "pixelate"),
    "extra": ("gaussian_blur", "saturate", "spatter", "speckle_noise"),
}

OPEN = "open; the images belong to their owners"
IMAGENET = Source(
    name="imagenet",
    files=(
        File(
            "ILSVRC2012_img_train.tar",
            sha256="b08200a27a8e34218a0e58fde36b0fe8f73bc377f4acea2d91602057c3ca45bb",
            md5="1d675b47d978889d74fa0da5fadfb00e",
            size=147897477120,
            to="train",
            inner="folder",
        ),
        File(
            "ILSVRC2012_img_val.tar",
            sha256="c7e06a6c0baccf06d8dbeb6577d71efff84673a5dbdd50633ab44f8ea0456ae0",
            md5="29b22e2961454d5413ddabcf34fc5622",
            size=6744924160,
            to="val",
        ),
        File("ILSVRC2012_devkit_t12.tar.gz", md5="fa75699e90414af021442c21a62c3abf"),
    ),
    needs=("train", "val"),
    folders=(
        ".",
        "imagenet",
        "ILSVRC2012",
        "imagenet-1k",
        "Data/CLS-LOC",
        "ILSVRC/Data/CLS-LOC",
        "ImageNet/ILSVRC/Data/CLS-LOC",
    ),
    licence="ImageNet terms: non-commercial research and education; an account is needed",
    by_hand=(
        "Get ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz from "
        "https://image-net.org/download, which needs an account. In a copy of your own, data_root.imagenet, images lie "
        "in class folders, train/<wnid> and val/<wnid>; those of val may lie together where ILSVRC2012_devkit_t12 is "
        "beside them, or Kaggle's LOC_val_solution.csv beside (or in) its folder ILSVRC."
    ),
    size=147897477120 + 6744924160,  # the archives are not compressed
)
SOURCES: dict[str, Source] = {
    "imagenet": IMAGENET,
    "imagenetv2": Source(
        name="imagenetv2",
        files=(
            File(
                "imagenetv2-matched-frequency.tar.gz",
                (
                    "https://huggingface.co/datasets/vaishaal/ImageNetV2/resolve/main/"
                    "imagenetv2-matched-frequency.tar.gz",
                    "https://s3-us-west-2.amazonaws.com/imagenetv2public/imagenetv2-matched-frequency.tar.gz",
                ),
                sha256="f0c37fdf925916b19ea1323cd9a2208cdb6959ba2c32eef2a7fc393835c9ca7c",
                size=1264079360,
            ),
        ),
        needs=("imagenetv2-matched-frequency-format-val",),
        folders=(".", "imagenetv2", "imagenet-v2"),
        licence=f"{OPEN}; repository MIT",
    ),
    "imagenet-r": Source(
        name="imagenet-r",
        files=(
            File(
                "imagenet-r.tar",
                ("https://people.eecs.berkeley.edu/~hendrycks/imagenet-r.tar",),
                sha256="18c6bf493b39a0d975d48e587437f562caab9c52ae6327dcfa9dd8eb54aa1b52",
                md5="a61312130a589d0ca1a8fca1f2bd3337",
                size=2191079936,
            ),
        ),
        needs=("imagenet-r",),
        folders=(".",),
        licence=f"{OPEN}; repository MIT",
        size=2191079936,  # the archive is not compressed
    ),
    "imagenet-a": Source(
        name="imagenet-a",
        files=(
            File(
                "imagenet-a.tar",
                ("https://people.eecs.berkeley.edu/~hendrycks/imagenet-a.tar",),
                sha256="3bb3632277e6ba6392ea64c02ddbf4dd2266c9caffd6bc09c9656d28f012589e",
                md5="c3e55429088dc681f30d81f4726b6595",
                size=687552512,
            ),
        ),
        needs=("imagenet-a",),
        folders=(".",),
        licence=f"{OPEN}; repository MIT",
        size=687552512,
    ),
    "imagenet-sketch": Source(
        name="imagenet-sketch",
        files=(
            File(
                "ImageNet-Sketch.zip",
                sha256="4d3ce6b82a7c48aabf14aeac105eb533e75707f152cc858f55bfc022031a72ed",
                size=7593573012,
            ),
        ),
        needs=("sketch",),
        folders=(".", "imagenet-sketch", "imagenet_sketch", "ImageNet-Sketch"),
        licence=f"{OPEN}; repository MIT",
        by_hand=(
            "ImageNet-Sketch lies on Google Drive, which refuses programs: fetch ImageNet-Sketch.zip by a browser from "
            "https://drive.google.com/file/d/1Mj0i5HBthqH1p_yeXzsg22gZduvgoNeA (or Kaggle, wanghaohan/imagenetsketch)"
        ),
    ),
    "objectnet": Source(
        name="objectnet",
        files=(
            File(
                "objectnet-1.0.zip",
                ("https://objectnet.dev/downloads/objectnet-1.0.zip",),
                password="objectnetisatestset",  # as its makers publish it
            ),
        ),
        needs=("objectnet-1.0/images",),
        folders=(".", "objectnet"),
        licence="CC BY 4.0 with two rules: never tune on it; posted images keep their red border",
    ),
    VIDEOS.name: VIDEOS,
} | {
    f"imagenet-c-{group}": Source(
        name=f"imagenet-c-{group}",
        files=(File(f"{group}.tar", (f"https://zenodo.org/records/2235448/files/{group}.tar",), md5=md5, about=about),),
        needs=tuple(f"{name}/{SEVERITY}" for name in CORRUPTIONS[group]),
        folders=(".", "imagenet-c", "ImageNet-C"),
        licence="CC BY 4.0",
    )
    for group, md5, about in (
        ("noise", "e80562d7f6c3f8834afb1ecf27252745", 21_000_000_000),
        ("blur", "2d8e81fdd8e07fef67b9334fa635e45c", 7_000_000_000),
        ("weather", "33ffea4db4d93fe4a428c40a6ce0c25d", 12_000_000_000),
        ("digital", "89157860d7b10d5797849337ca2e5c03", 7_000_000_000),
        ("extra", "d492dfba5fc162d8ec2c3cd8ee672984", 15_000_000_000),
    )
}
