"""Where are the IDX files of a user's dataset, and which is which?

As MNIST, Fashion-MNIST, EMNIST and KMNIST come: under the names that `halves.py` knows, here or
where torchvision unpacks them. What is in them, `idx.py` reads.
"""

import os
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from npvae.datasets.dataset import mismatch
from npvae.datasets.halves import Part, choose_halves, part_of_idx
from npvae.datasets.idx import read_any
from npvae.datasets.image_folder import visible, visible_folders
from npvae.datasets.labels import Half
from npvae.datasets.pixels import Intake, Place, to_images


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
            place, prefix, _ = found[0]
            own, first = f"{folder}-own", f"{place}{os.sep}{prefix}*"
            raise mismatch(
                folder,
                "the IDX files of one dataset",
                f"{len(found)}: {names}",
                "Name the folder of one. This copies the files of the first to a folder:\n"
                f"import glob, os, shutil; os.mkdir({own!r}); "
                f"[shutil.copy(file, {own!r}) for file in glob.glob({first!r})]",
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
    images = to_images(_idx_place(path, array), array.shape, array.dtype, [array], intake)
    if labels_path is None:
        return images, Place(str(path)), None
    labels = read_any(labels_path)
    return images, _idx_place(labels_path, labels), labels


def _idx_place(path: Path, array: NDArray[Any]) -> Place:
    """Where the array of an IDX file is converted: in place, to bytes."""
    pack, unpack = ("gzip.compress", "gzip.decompress") if path.suffix == ".gz" else ("", "")
    offset = 4 + 4 * array.ndim
    script = (
        f"import gzip, pathlib, numpy as np; p = pathlib.Path({str(path)!r}); "
        f"a = np.frombuffer({unpack}(p.read_bytes()), {array.dtype.str!r}, offset={offset}); "
        f"a = a.reshape({array.shape}); b = {{}}; "
        f"p.write_bytes({pack}(bytes((0, 0, 8, b.ndim)) + np.array(b.shape, '>u4').tobytes() "
        "+ b.astype('u1').tobytes()))"
    )
    return Place(str(path), "a", script)
