"""How are arrays taken out of an .npz file that may hold anything?

`images` [, `labels`], or `x_train, y_train, x_test, y_test` as Keras writes them. An .npz is a zip
of .npy files; each one's header is checked before anything is allocated, nothing is unpickled, and
floats are turned to bytes a block at a time.
"""

import warnings
import zipfile
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from npvae.core.errors import DataError
from npvae.datasets.dataset import MAX_ITEMS, SIDE
from npvae.storage.files import Damaged, brief, open_plain, open_zip

Bytes = NDArray[np.uint8]
_BLOCK = 512  # pictures
_PICTURE_SHAPES = ((SIDE, SIDE), (SIDE, SIDE, 1), (SIDE, SIDE, 3), (SIDE * SIDE,))


def read_npz(path: Path) -> list[tuple[Bytes, Bytes]]:
    """[all] or [train, test], each as images (N, 28, 28) and labels (N,). Raises DataError."""
    try:
        with open_plain(path) as file, open_zip(file) as archive:
            names = [info.filename for info in archive.infolist()]
            if len(set(names)) < len(names):
                raise ValueError("two arrays of the same name")
            for halves in ([("images", "labels")], [("x_train", "y_train"), ("x_test", "y_test")]):
                if all(f"{images}.npy" in names for images, _ in halves):
                    return [_read_pair(path, archive, names, *half) for half in halves]
    except DataError:
        raise
    except Damaged as damage:
        raise DataError(f"{path}: {damage}.") from damage
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except MemoryError as error:
        raise DataError(f"{path}: cannot be read: there is not enough memory for it") from error
    except Exception as error:  # zipfile, zlib and the header's parser raise a dozen kinds
        why = brief(str(error) or type(error).__name__, 100)
        raise DataError(f"{path}: expected an .npz file, found a broken one ({why}).") from error
    found = ", ".join(map(brief, sorted(names)[:6])) or "none"
    raise DataError(
        f"{path}: expected arrays `images` [and `labels`],\n"
        f"or x_train, y_train, x_test, y_test; found {found}."
    )


def _read_pair(
    path: Path, archive: zipfile.ZipFile, names: list[str], images_name: str, labels_name: str
) -> tuple[Bytes, Bytes]:
    images = _read_images(f"{path}, {images_name}", archive, f"{images_name}.npy")
    if f"{labels_name}.npy" not in names:
        return images, np.zeros(len(images), np.uint8)
    labels = _read_labels(f"{path}, {labels_name}", archive, f"{labels_name}.npy")
    if len(labels) != len(images):
        raise DataError(
            f"{path}, {labels_name}: expected one label for each of {len(images):,} pictures, "
            f"found {len(labels):,}."
        )
    return images, labels


def _read_images(where: str, archive: zipfile.ZipFile, member: str) -> Bytes:
    """The array as grey bytes (N, 28, 28)."""
    with _open(where, archive, member) as file:
        shape, dtype = _read_header(where, archive, member, file)
        if shape[1:] not in _PICTURE_SHAPES or not 1 <= shape[0] <= MAX_ITEMS:
            raise _fault(where, f"1 to {MAX_ITEMS:,} pictures, (N, {SIDE}, {SIDE})", f"{shape}")
        if dtype != np.uint8 and dtype.kind != "f":
            to_do = "Save images.astype(np.uint8) if they are from 0 to 255, else as floats."
            raise _fault(where, "uint8 (0 to 255) or floats (0 to 1)", f"{dtype}.\n{to_do}")
        images = np.empty((shape[0], SIDE, SIDE), np.uint8)
        for start in range(0, len(images), _BLOCK):
            count = min(_BLOCK, len(images) - start)
            block = _read_array(file, (count, *shape[1:]), dtype)
            images[start : start + count] = _grey(_to_bytes(where, block))
    if dtype == np.uint8 and images.max() == 1:  # black and white, and nothing but black as bytes
        raise DataError(
            f"{where}: expected bytes from 0 to 255, found only 0 and 1.\n"
            "If 1 means white, save 255 * images, or images.astype(np.float32)."
        )
    return images


def _read_labels(where: str, archive: zipfile.ZipFile, member: str) -> Bytes:
    with _open(where, archive, member) as file:
        shape, dtype = _read_header(where, archive, member, file)
        if shape[1:] not in ((), (1,)) or not 1 <= shape[0] <= MAX_ITEMS or dtype.kind not in "iu":
            raise _fault(where, "whole numbers, (N,)", f"{dtype}, {shape}")
        labels = _read_array(file, (shape[0],), dtype)
    if labels.min() < 0 or labels.max() > 255:
        raise _fault(where, "labels from 0 to 255", f"{labels.min()} to {labels.max()}")
    return labels.astype(np.uint8)


def _open(where: str, archive: zipfile.ZipFile, member: str) -> IO[bytes]:
    # The other methods of compression have no limit on what a few bytes may turn into.
    if archive.getinfo(member).compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _fault(where, "a stored or deflated array", "another kind of compression")
    return archive.open(member)


def _read_header(
    where: str, archive: zipfile.ZipFile, member: str, file: IO[bytes]
) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype, once they agree with the size of the archive's member."""
    if np.lib.format.read_magic(file) != (1, 0):  # later versions may have headers of gigabytes
        raise _fault(where, "a plain array (.npy version 1.0)", "another version")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # files of Python 2 are none the worse for it
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
    if fortran_order:
        raise _fault(where, "rows first", "Fortran order; save np.ascontiguousarray(...)")
    if dtype.hasobject or not shape or min(shape) < 0:
        raise _fault(where, "an array of numbers", f"{dtype}, {shape}")
    expected, found = prod(shape) * dtype.itemsize, archive.getinfo(member).file_size - file.tell()
    if expected != found:
        raise _fault(where, f"{expected:,} bytes for {dtype}, {shape}", f"{found:,}")
    return shape, dtype


def _read_array(file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    data = file.read(prod(shape) * dtype.itemsize)  # zipfile checks the sum with the last bytes
    return np.frombuffer(data, dtype).reshape(shape)


def _to_bytes(where: str, pixels: NDArray[Any]) -> Bytes:
    """Floats in [0, 1] to the nearest of 0..255; bytes as they are."""
    if pixels.dtype == np.uint8:
        return pixels
    with np.errstate(invalid="ignore"):
        low, high = float(pixels.min()), float(pixels.max())
    if np.isnan([low, high]).any():
        raise _fault(where, "floats from 0 to 1", "NaN")
    if not (low >= 0 and high <= 1):
        raise DataError(
            f"{where}: expected floats from 0 to 1 (or uint8), found {low:g} to {high:g}.\n"
            "Binary cross-entropy takes each pixel for a probability, so it needs [0, 1]:\n"
            "undo the scaling, e.g. (x + 1) / 2 for pixels in [-1, 1], x / 255 for 0 to 255."
        )
    return np.rint(pixels.astype(np.float64) * 255).astype(np.uint8)


def _grey(pixels: Bytes) -> Bytes:
    """(n, 28, 28) of any of _PICTURE_SHAPES; colour is weighed as Pillow does (ITU-R 601)."""
    if pixels.shape[-1] != 3:
        return pixels.reshape(-1, SIDE, SIDE)
    red, green, blue = (pixels[..., channel].astype(np.uint32) for channel in range(3))
    grey = (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16
    return grey.astype(np.uint8)


def _fault(where: str, expected: str, found: str) -> DataError:
    return DataError(f"{where}: expected {expected}, found {found}")
