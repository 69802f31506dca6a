"""How does a picture become grey bytes? As a viewer shows it: turned, and in the right range.

16 bits become 8. Where a picture is transparent, the background is black, or white if what is drawn
is dark: one background for all of them. Pictures of other sizes and broken ones are collected, so
that one error names them all.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from npvae.core.errors import DataError
from npvae.datasets.dataset import SIDE, in_brief, mismatch, some
from npvae.datasets.labels import NO_CLASS, Half
from npvae.datasets.pixels import Bytes, Intake, check_levels, fit, to_bytes
from npvae.storage.files import brief

FORMATS = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".pgm", ".ppm", ".pbm", ".pnm"),
}
SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
_MAX_BYTES = 10_000_000  # for one picture of 28 x 28, whatever else its file holds
_MAX_BYTES_RESIZED = 100_000_000

Pictures = Sequence[tuple[Path, str]]  # each with its class


class _OtherSize(Exception):
    """A picture that is not 28 x 28."""


class _Broken(Exception):
    """A file of another length than a picture has; the reason."""


class PictureReader:
    """Reads pictures, and remembers what has to be said about them."""

    def __init__(self, folder: Path, intake: Intake) -> None:
        self.folder, self.intake = folder, intake
        self.broken: list[str] = []
        self.other_sizes: list[str] = []
        self.frames = 0  # pictures with more than one
        self.ink = self.light = 0  # of transparent pictures: sums of alpha, and of alpha * grey

    def read(self, listings: Sequence[Pictures]) -> list[Half]:
        """A half for each listing. Raises DataError, naming all pictures that are at fault."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Pillow minds in a picture it can read
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            halves = [self._read_half(listing) for listing in listings]
        others = f"{len(self.other_sizes):,} others: {some(self.other_sizes, 3)}"
        broken = f"{len(self.broken):,} broken: {some(self.broken, 20)}"
        faults = []
        if self.other_sizes:
            faults += [f"pictures of {SIDE} x {SIDE}, found {others}.", "--resize scales them."]
        if self.broken and not self.intake.skip_broken:
            faults += [f"sound pictures, found {broken}.", "--skip-broken leaves them out."]
        if faults:
            raise DataError(f"{self.folder}: expected " + "\n".join(faults))
        is_dark = 2 * self.light < 255 * self.ink
        ground = "dark ink, put on white" if is_dark else "put on black"
        for is_so, note in (
            (self.broken, f"left out: {broken}"),
            (self.frames, f"{self.frames:,} pictures with several frames: the first is taken"),
            (self.ink, f"transparent pictures: {ground}"),
        ):
            if is_so:
                self.intake.notes.append(note)
        read: list[Half] = []
        for images, clear, names in halves:
            if not len(images):
                raise mismatch(self.folder, "sound pictures", "none")
            if is_dark:
                images += clear
            check_levels(str(self.folder), images)
            flat = bool((names == NO_CLASS).all())  # or the class of a folder of that name
            read.append((images, str(self.folder), None if flat else names))
        return read

    def _read_half(self, listing: Pictures) -> tuple[Bytes, Bytes, NDArray[Any]]:
        """Pictures on black (n, 28, 28), what white behind them would add, and their classes."""
        images = np.empty((len(listing), SIDE, SIDE), np.uint8)
        clear = np.zeros_like(images)  # costs nothing until it is written to
        sound = np.zeros(len(images), bool)
        for k, (path, _) in enumerate(listing):
            name = in_brief(str(path.relative_to(self.folder)))
            try:
                images[k], behind = self._read_picture(path)
                if behind is not None:
                    clear[k] = behind
                sound[k] = True
            except DataError:  # its pixels have to be converted
                raise
            except _OtherSize as error:
                self.other_sizes.append(f"{name} ({error})")
            except UnidentifiedImageError:
                self.broken.append(f"{name} (no {', '.join(FORMATS)})")
            except Exception as error:  # a broken picture may raise anything from inside Pillow
                why = str(error) if isinstance(error, _Broken) else brief(str(error), 100)
                self.broken.append(f"{name} ({why})")
        names = np.array([name for _, name in listing])
        if sound.all():
            return images, clear, names
        return images[sound], clear[sound], names[sound]

    def _read_picture(self, path: Path) -> tuple[Bytes, Bytes | None]:
        resize, length = self.intake.resize, path.stat().st_size
        most = _MAX_BYTES_RESIZED if resize else _MAX_BYTES
        if not 0 < length <= most:  # a single chunk of a PNG may be as long as the file
            raise _Broken("empty" if length == 0 else f"longer than {most:,} bytes")
        with Image.open(path, formats=tuple(FORMATS)) as file:  # reads no more than the header
            size = "{} x {}".format(*file.size)
            if file.size != (SIDE, SIDE) and not resize:
                raise _OtherSize(size)
            file.draft("RGB", (4 * SIDE, 4 * SIDE))  # a large JPEG is decoded at a fraction
            picture = ImageOps.exif_transpose(file)
            several = bool(getattr(file, "is_animated", False))
            grey, alpha = _grey(str(path), picture)
        clear = None
        if alpha is not None:
            opacity = np.asarray(alpha).astype(np.uint32)
            premultiplied = (np.asarray(grey) * opacity + 127) // 255
            self.ink += int(opacity.sum())
            self.light += int(255 * premultiplied.sum())
            grey = Image.fromarray(premultiplied.astype(np.uint8))
            clear = 255 - fit(alpha, 0)
        self.frames += several
        if size != f"{SIDE} x {SIDE}":
            self.intake.sizes[size] += 1
        return fit(grey, None if alpha is None else 0), clear


def _grey(where: str, picture: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """A picture in grey, and its opacity, if any of it is transparent. Raises DataError."""
    if picture.mode[0] in "IF":
        values = np.asarray(picture)
        if picture.mode[0] == "I":
            values = values / 65535  # 16 bits
        return Image.fromarray(to_bytes(where, values)), None
    if not picture.has_transparency_data:
        return picture.convert("L"), None
    colour = picture.convert("RGBA")
    alpha = colour.getchannel("A")
    return colour.convert("L"), alpha if alpha.getextrema() != (255, 255) else None
