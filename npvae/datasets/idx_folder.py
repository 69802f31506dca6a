"""Where are the IDX files of a user's dataset, and which is which?

As MNIST, Fashion-MNIST, EMNIST and KMNIST come: under the names that `halves.py` knows, here or
where torchvision unpacks them. What is in them, `idx.py` reads.
"""

from pathlib import Path

from npvae.datasets.dataset import mismatch
from npvae.datasets.halves import Part, choose_halves, part_of_idx
from npvae.datasets.idx import read_any
from npvae.datasets.image_folder import visible, visible_folders
from npvae.datasets.labels import Half
from npvae.datasets.pixels import Intake, to_images


def _idx_files(folder: Path) -> dict[str, dict[Part, Path]]:
    """The IDX files in a folder by prefix and part; of two spellings the first."""
    found: dict[str, dict[Part, Path]] = {}
    there = visible(folder) if folder.is_dir() else []
    for path in sorted(there, key=lambda path: path.suffix != ".gz"):  # that has a checksum
        if path.is_file() and (match := part_of_idx(path.name)):
            found.setdefault(match[0], {}).setdefault(match[1], path)
    return found


def find_idx(folder: Path) -> dict[Part, Path]:
    """The IDX files of a dataset here, in raw/, or in <some folder>/ or <some folder>/raw/."""
    below = [place for path in visible_folders(folder) for place in (path, path / "raw")]
    for places in ([folder, folder / "raw"], below):
        found = [(place, *item) for place in places for item in _idx_files(place).items()]
        together = {part: path for *_, files in found for part, path in files.items()}
        if len({prefix for _, prefix, _ in found}) == 1 and len(together) == sum(
            len(files) for *_, files in found
        ):  # one set, perhaps each file in a folder of its own
            return together
        if len(found) > 1:
            names = ", ".join(str(place / prefix) for place, prefix, _ in found[:6])
            raise mismatch(
                folder,
                "the IDX files of one dataset",
                f"{len(found)}: {names}",
                "Move the files of one to a folder of their own, and name that.",
            )
    return {}


def read_idx(folder: Path, files: dict[Part, Path], intake: Intake) -> list[Half]:
    """[all] or [train, test] of the files that `find_idx` found. Raises DataError."""
    halves = {half: half for half, role in files if role == "images"}
    chosen = choose_halves(folder, halves, intake.notes)
    if any("emnist" in f"{folder.name}{path.name}".lower() for path in files.values()):
        intake.notes.append(
            "EMNIST's pictures lie on their side; images.transpose(0, 2, 1) turns them"
        )
    return [_read_idx_half(files, half, intake) for half in chosen]


def _read_idx_half(files: dict[Part, Path], half: str, intake: Intake) -> Half:
    path, labels_path = files[half, "images"], files.get((half, "labels"))
    array = read_any(path)
    images = to_images(str(path), array.shape, array.dtype, [array], intake)
    if labels_path is None:
        return images, str(path), None
    return images, str(labels_path), read_any(labels_path)
