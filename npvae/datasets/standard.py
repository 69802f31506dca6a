"""Which published datasets are known by name? Those that have a row in the table below.

A row is all that it takes: `load_dataset`, the options of all commands and their help follow it.
`standard_files.py` finds, downloads and verifies the files. data/README.md lists them for people.
"""

from typing import NamedTuple

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


class Standard(NamedTuple):
    """A published dataset of 28 x 28 pictures: four IDX files, in the order of FILES."""

    title: str
    class_names: tuple[str, ...]  # at the place of their labels
    mirrors: tuple[str, ...]  # in the order in which they are tried; "<file>.gz" is appended
    sha256: tuple[str, ...]  # of the uncompressed files
    torchvision: str = ""  # its folder there; Keras' is called as the dataset is here
    also: tuple[str, ...] = ()  # other names, in small letters, without - and _
    files: tuple[str, ...] = FILES


STANDARD = {
    "fashion-mnist": Standard(
        title="Fashion-MNIST",
        class_names=(
            *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
            *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        ),
        mirrors=(
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        ),
        sha256=(
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
        torchvision="FashionMNIST",
        also=("fmnist",),
    ),
    "mnist": Standard(
        title="MNIST",
        class_names=tuple("0123456789"),
        mirrors=(
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
        ),
        sha256=(
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
        torchvision="MNIST",
        also=("mnist784",),
    ),
}
DATASETS = (*STANDARD, "drawn-digits")
