"""Where the data sets of transfer learning come from."""

from surefoot.sources import File, Source

_PCAM = {
    "train_x": ("d619e741468a7ab35c7e4a75e6821b7e7e6c9411705d45708f2a0efc8960656c", 6_421_353_462),
    "train_y": ("b74126d2c01b20d3661f9b46765d29cf4e4fba6faba29c8e0d09d406331ab75a", 0),
    "valid_x": ("f82ee1670d027b4ec388048d9eabc2186b77c009655dae76d624c0ecb053ccb2", 805_965_320),
    "valid_y": ("ce1ae30f08feb468447971cfd0472e7becd0ad96d877c64120c72571439ae48c", 0),
    "test_x": ("79174c2201ad521602a5888be8f36ee10875f37403dd3f2086caf2182ef87245", 800_875_929),
    "test_y": ("0a522005fccc8bbd04c5a117bfaf81d8da2676f03a29d7499f71d0a0bd6068ef", 0),
}
_FLOWERS = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102"

SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        Source(
            name="sst2",
            files=(
                File(
                    "rendered-sst2.tgz",
                    ("https://openaipublic.azureedge.net/clip/data/rendered-sst2.tgz",),
                    md5="2384d08e9dcfa4bd55b324e610496ee5",
                    about=131_000_000,
                ),
            ),
            needs=tuple(f"rendered-sst2/{split}" for split in ("train", "valid", "test")),
            folders=(".", "sst2"),
            licence="not verified",
        ),
        Source(
            name="pcam",
            files=tuple(
                File(
                    f"camelyonpatch_level_2_split_{part}.h5.gz",
                    (f"https://zenodo.org/records/2546921/files/camelyonpatch_level_2_split_{part}.h5.gz",),
                    sha256=digest,
                    size=size,
                    to="pcam",
                )
                for part, (digest, size) in _PCAM.items()
            ),
            needs=tuple(f"pcam/camelyonpatch_level_2_split_{part}.h5" for part in _PCAM),
            folders=(".", "PatchCamelyon"),
            licence="CC0 1.0",
        ),
        Source(
            name="caltech101",
            files=(
                File(
                    "caltech-101.zip",
                    ("https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",),
                    sha256="331234750fc7f77520e50d9565e8b6907b03565e30320da1401130db08c61f91",
                    md5="3138e1922a9193bfa496528edbbc45d0",
                    size=137_414_764,
                    to="caltech101",
                    strip=1,
                    inner="beside",
                ),
            ),
            needs=("caltech101/101_ObjectCategories",),
            folders=(".",),
            licence="not verified",
        ),
        Source(
            name="cars",
            files=(
                File(
                    "cars_train.tgz",
                    sha256="512b227b30e2f0a8aab9e09485786ab4479582073a144998da74d64b801fd288",
                    size=979_269_282,
                    to="stanford_cars",
                ),
                File(
                    "cars_test.tgz",
                    sha256="bffea656d6f425cba3c91c6d83336e4c5f86c6cffd8975b0f375d3a10da8e243",
                    size=977_350_468,
                    to="stanford_cars",
                ),
                File(
                    "cars_test_annos_withlabels.mat",
                    sha256="790f75be8ea34eeded134cc559332baf23e30e91367e9ddca97d26ed9b895f05",
                    size=185_758,
                    to="stanford_cars",
                ),
                File(
                    "car_devkit.tgz",
                    ("https://github.com/pytorch/vision/files/11644847/car_devkit.tgz",),
                    sha256="b97deb463af7d58b6bfaa18b2a4de9829f0f79e8ce663dfa9261bf7810e9accd",
                    size=330_960,
                    to="stanford_cars",
                ),
            ),
            needs=(
                "stanford_cars/devkit/cars_train_annos.mat",
                "stanford_cars/cars_test_annos_withlabels.mat",
                "stanford_cars/cars_train",
                "stanford_cars/cars_test",
            ),
            folders=(".",),
            licence="non-commercial research (its page is gone; not verified)",
            by_hand="The makers' host is gone. The images are on Kaggle (jessicali9530/stanford-cars-dataset), the "
            "labels of the test in an issue of torchvision (pytorch/vision#7545); put cars_train, cars_test, devkit "
            "and cars_test_annos_withlabels.mat into stanford_cars/ below data_root.transfer.",
        ),
        Source(
            name="flowers102",
            files=(
                File(
                    "102flowers.tgz",
                    (f"{_FLOWERS}/102flowers.tgz",),
                    sha256="2d01ecc807db462958cfe3d92f57a8c252b4abd240eb955770201e45f783b246",
                    size=344_862_509,
                    to="flowers-102",
                ),
                File(
                    "imagelabels.mat",
                    (f"{_FLOWERS}/imagelabels.mat",),
                    sha256="4903e94206bac23bf772aadf06451916df56b58fc483a62db32a97b82656651d",
                    size=502,
                    to="flowers-102",
                ),
                File(
                    "setid.mat",
                    (f"{_FLOWERS}/setid.mat",),
                    sha256="46b8678f91fd95d3c8f4feab80d271a6c834a1dd896fe29fd3e6ad9ce5c8dccd",
                    size=14_989,
                    to="flowers-102",
                ),
            ),
            needs=("flowers-102/jpg", "flowers-102/imagelabels.mat", "flowers-102/setid.mat"),
            folders=(".",),
            licence="not verified",
        ),
        Source(
            name="cifar100",
            files=(
                File(
                    "cifar-100-binary.tar.gz",
                    ("https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",),
                    sha256="58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
                    size=168_513_733,
                ),
            ),
            needs=("cifar-100-binary/train.bin", "cifar-100-binary/test.bin"),
            folders=(".", "cifar100", "cifar-100"),
            pickled="cifar-100-python",
            licence="open; no licence stated",
        ),
        Source(
            name="dtd",
            files=(
                File(
                    "dtd-r1.0.1.tar.gz",
                    ("https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz",),
                    sha256="e42855a52a4950a3b59612834602aa253914755c95b0cff9ead6d07395f8e205",
                    md5="fff73e5086ae6bdbea199a49dfb8a4c1",
                    size=625_239_812,
                ),
            ),
            needs=("dtd/images", "dtd/labels"),
            folders=(".", "dtd"),
            licence="not verified",
        ),
        Source(
            name="food101",
            files=(
                File(
                    "food-101.tar.gz",
                    ("http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz",),
                    sha256="d97d15e438b7f4498f96086a4f7e2fa42a32f2712e87d3295441b2b6314053a4",
                    md5="85eeb15f3717b99a5da872d97d918f87",
                    size=4_996_278_331,
                ),
            ),
            needs=("food-101/images", "food-101/meta/train.json", "food-101/meta/test.json"),
            folders=(".",),
            licence="not verified",
        ),
        Source(
            name="sun397",
            files=(
                File(
                    "SUN397.tar.gz",
                    ("https://vision.princeton.edu/projects/2010/SUN/SUN397.tar.gz",),
                    sha256="f404130965a7ad77bed5ececc71e720ab50f3cc1e1bb257257610d38f3b928ec",
                    md5="8ca2778205c41d23104230ba66911c7a",
                    size=39_077_296_924,
                ),
                File(
                    "Partitions.zip",
                    ("https://vision.princeton.edu/projects/2010/SUN/download/Partitions.zip",),
                    sha256="e3311ea5f812d4cc6faef194688343d1111f6cd6f70f2c62f393c2b8d6ba1ec9",
                    size=18_293_705,
                    to="Partitions",
                ),
            ),
            needs=("SUN397",),
            folders=(".",),
            licence="not verified",
        ),
    )
}
