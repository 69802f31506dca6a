"""How does a folder of pictures come in? Its first sub-folders name the classes.

Deeper folders belong to the class above them. What lies around in folders (thumbnails, hidden
files) is ignored; whatever else is left out is counted. A picture is read as a viewer shows it, and
as grey; where it is transparent, the background is black, or white if what is drawn is dark.
"""

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from npvae.core.errors import DataError
from npvae.datasets.dataset import MAX_ITEMS, SIDE
from npvae.datasets.halves import choose_halves, half_of_folder
from npvae.datasets.labels import NO_CLASS, in_order
from npvae.datasets.npz_file import Half
from npvae.datasets.pixels import Bytes, Place, Scaling, check_levels, fit, to_bytes
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
LITTER = {  # what systems leave in folders, besides all names that begin with a dot
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "__pycache__"),
    *(
        "@eadir",
        "@tmp",
        "@recycle",
        "@recently-snapshot",
        "#recycle",
        "#snapshot",
        "$recycle.bin",
        "lost+found",
    ),
    *("system volume information", "recycler"),
}
_TEXT = (_NOWHERE := "links that lead nowhere", ".txt", ".md", ".json", ".xml", ".csv", ".pdf")
_MAX_BYTES = 10_000_000  # for one picture of 28 x 28, whatever else its file holds
_MAX_BYTES_RESIZED = 100_000_000
_MAX_DEPTH = 16  # of folders


@dataclass
class Listing:
    """The pictures in a folder, each with its class, and what is left out."""

    pictures: list[tuple[Path, str]] = field(default_factory=list)
    files: Counter[str] = field(default_factory=Counter)  # left out, by suffix
    folders: list[str] = field(default_factory=list)  # left out
    deeper: set[Path] = field(default_factory=set)  # folders within those of the classes


class _OtherSize(Exception):
    """A picture that is not 28 x 28."""


class _OtherRange(Exception):
    """A picture whose pixels have to be converted; its argument is the error to be raised."""


def read_folder(
    folder: Path,
    scaling: Scaling,
    skip_broken: bool,
    report: Callable[[str], None],
    note: Callable[[str], None],
) -> list[Half]:
    """[all] or [train, test] of a folder of pictures. Raises DataError."""
    folder = inner_folder(folder)
    halves = _halves(folder)
    listings = {half: list_pictures(path) for half, path in halves.items()}
    chosen = choose_halves(folder, listings, note)
    for listing in chosen:
        if left_out := _left_out(listing):
            note(f"left out: {left_out}")
        if listing.deeper:
            note(
                f"pictures of {len(listing.deeper):,} deeper folders belong to the class above them"
            )
    if "" not in halves:
        used = {path for half in halves.values() for path in (half, *half.parents)}
        unused = [path.name for path in visible(folder) if path not in used]
        if unused:
            note(f"left out: {_some(list(map(_name, unused)), 12)}")
    classes = {name for listing in chosen for _, name in listing.pictures}
    count = sum(len(listing.pictures) for listing in chosen)
    report(f"Reading {count:,} pictures of {_classes(classes)} from {folder}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Pillow minds in a picture it can read
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        return _Reader(folder, scaling, skip_broken, note).read(chosen)


# --- which files ---


def inner_folder(folder: Path) -> Path:
    """The folder itself; or the one in it, if there is nothing else and it holds folders only.

    Archives are often unpacked to one folder too many.
    """
    for _ in range(_MAX_DEPTH):
        inside = visible(folder)
        if len(inside) != 1 or not inside[0].is_dir():
            break
        if not all(path.is_dir() for path in visible(inside[0])):
            break
        folder = inside[0]
    return folder


def visible(folder: Path) -> list[Path]:
    """What is in a folder, without litter, in the order of names."""
    return sorted(
        path
        for path in folder.iterdir()
        if not path.name.startswith(".") and path.name.lower() not in LITTER
    )


def _halves(folder: Path) -> dict[str, Path]:
    """The folder of each half; or the whole folder as "". Raises DataError."""
    folders = visible_folders(folder)
    groups: dict[str, dict[str, Path]] = {}  # halves by the rest of their names
    for path in folders:
        if match := half_of_folder(path.name):
            half, rest = match
            halves = groups.setdefault(rest, {})
            if half in halves:
                both = f"{_name(halves[half].name)} and {_name(path.name)}"
                raise DataError(f"{folder}: expected one folder for each half, found {both}.")
            halves[half] = path
    # With other folders beside it, `train` alone may be a class: trains, cars and ships.
    found = [
        halves
        for rest, halves in groups.items()
        if len(halves) > 1 or (len(folders) == 1 and not rest)
    ]
    if len(found) > 1:
        names = ", ".join(_name(path.name) for halves in found for path in halves.values())
        raise DataError(f"{folder}: expected the halves of one dataset, found {names}.")
    if found:
        return {half: inner_folder(path) for half, path in found[0].items()}
    for path in folders:
        inside = [half_of_folder(deeper.name) for deeper in visible_folders(path)]
        if {("train", ""), ("test", "")} <= set(inside):
            raise DataError(
                f"{folder}: expected train and test here, each with classes, "
                f"found them in {_name(path.name)}."
            )
    return {"": folder}


def visible_folders(folder: Path) -> list[Path]:
    return [path for path in visible(folder) if path.is_dir()]


def list_pictures(folder: Path) -> Listing:
    """All pictures in a folder. Raises DataError if there is none, or if its layout is unclear."""
    listing = Listing()
    flat = [path for path in visible(folder) if not path.is_dir()]
    _add(listing, flat, NO_CLASS)
    count = len(listing.pictures)
    for sub in visible_folders(folder):
        before = len(listing.pictures)
        _add(listing, _walk(sub), sub.name)
        listing.deeper |= {path.parent for path, _ in listing.pictures[before:]} - {sub}
        if len(listing.pictures) == before:
            listing.folders.append(sub.name)
    if 0 < count < len(listing.pictures):
        raise DataError(
            f"{folder}: expected pictures in it or in its sub-folders, found both:\n"
            f"{listing.pictures[0][0]} and {listing.pictures[count][0]}."
        )
    if not 1 <= len(listing.pictures) <= MAX_ITEMS:
        found = f"{len(listing.pictures):,}"
        if left_out := _left_out(listing):
            found += f", and {left_out}"
        expected = f"{folder}: expected 1 to {MAX_ITEMS:,} pictures, found {found}"
        raise DataError(f"{expected}.\n{_way_on(folder, listing)}")
    return listing


def _way_on(folder: Path, listing: Listing) -> str:
    """How files of other kinds become pictures, if Pillow reads them."""
    kinds = [kind for kind, _ in listing.files.most_common() if kind not in _TEXT]
    if not kinds:
        return f"A picture ends in {', '.join(SUFFIXES)}."
    suffix = kinds[0] if kinds[0].startswith(".") else ""
    return (
        "This converts what Pillow can read:\nfrom pathlib import Path; from PIL import Image\n"
        f"for p in [*Path({str(folder)!r}).rglob({f'*{suffix}'!r})]: "
        "p.is_file() and Image.open(p).save(f'{p}.png')"
    )


def _add(listing: Listing, paths: list[Path] | Iterator[Path], name: str) -> None:
    for path in paths:
        if path.suffix.lower() in SUFFIXES and path.is_file():
            listing.pictures.append((path, name))
        else:
            kind = _NOWHERE if path.is_symlink() else path.suffix.lower()
            listing.files[kind or "no suffix"] += 1


def _walk(folder: Path, above: tuple[str, ...] = ()) -> Iterator[Path]:
    """All files in a folder and those in it, links followed, but never in a circle."""
    real = os.path.realpath(folder)
    if real in above or len(above) > _MAX_DEPTH:
        return
    for path in visible(folder):
        if path.is_dir():
            yield from _walk(path, (*above, real))
        else:
            yield path


def _left_out(listing: Listing) -> str:
    """What is left out, for people: "50 files (.tga), 1 folder (old)"; empty if nothing is."""
    words = []
    if count := listing.files.total():
        kinds = ", ".join(_name(kind) for kind, _ in listing.files.most_common(6))
        words.append(f"{count:,} file{'s' * (count > 1)} ({kinds})")
    if count := len(listing.folders):
        names = ", ".join(map(_name, listing.folders[:6]))
        words.append(f"{count:,} folder{'s' * (count > 1)} without pictures ({names})")
    return ", ".join(words)


def _classes(names: set[str]) -> str:
    if names == {NO_CLASS}:
        return "one class"
    shown = ", ".join(map(_name, in_order(names)[:12])) + ", ..." * (len(names) > 12)
    return f"{len(names)} class{'es' * (len(names) > 1)} ({shown})"


def _name(name: str) -> str:
    """A file's name, to be shown: it may be long, or meant for the terminal."""
    return name if name.isprintable() and len(name) <= 40 else brief(name)


# --- what is in them ---


class _Reader:
    """Reads pictures, and remembers what has to be said about them."""

    def __init__(
        self, folder: Path, scaling: Scaling, skip_broken: bool, note: Callable[[str], None]
    ) -> None:
        self.folder, self.scaling, self.skip_broken, self.note = folder, scaling, skip_broken, note
        self.broken: list[str] = []
        self.other_sizes: list[str] = []
        self.frames = 0  # pictures with more than one
        self.ink = self.light = 0  # of transparent pictures: sums of alpha, and of alpha * grey

    def read(self, listings: list[Listing]) -> list[Half]:
        """A half for each listing. Raises DataError, naming all pictures that are at fault."""
        halves = [self._read_half(listing) for listing in listings]
        faults = []
        if self.other_sizes:
            found = f"{len(self.other_sizes):,} others: {_some(self.other_sizes, 3)}"
            faults += [f"pictures of {SIDE} x {SIDE}, found {found}.", "--resize scales them."]
        if self.broken and not self.skip_broken:
            found = f"{len(self.broken):,} broken: {_some(self.broken, 20)}"
            faults += [f"sound pictures, found {found}.", "--skip-broken leaves them out."]
        if faults:
            raise DataError(f"{self.folder}: expected " + "\n".join(faults))
        if self.broken:
            self.note(f"left out: {len(self.broken):,} broken: {_some(self.broken, 20)}")
        if self.frames:
            self.note(f"{self.frames:,} pictures with several frames: the first is taken")
        is_dark = 2 * self.light < 255 * self.ink
        if self.ink:
            what = "dark ink, put on white" if is_dark else "put on black"
            self.note(f"transparent pictures: {what}")
        read: list[Half] = []
        for (images, clear, names), listing in zip(halves, listings, strict=True):
            if not len(images):
                raise DataError(f"{self.folder}: expected sound pictures, found none.")
            if is_dark:
                images += clear
            place = self._place(listing.pictures[0][0].suffix)
            check_levels(place, images)
            flat = bool((names == NO_CLASS).all())  # or the class of a folder of that name
            read.append((images, place, None if flat else names))
        return read

    def _read_half(self, listing: Listing) -> tuple[Bytes, Bytes, NDArray[Any]]:
        """Pictures on black (n, 28, 28), what white behind them would add, and their classes."""
        images = np.empty((len(listing.pictures), SIDE, SIDE), np.uint8)
        clear = np.zeros_like(images)  # costs nothing until it is written to
        sound = np.zeros(len(images), bool)
        for k, (path, _) in enumerate(listing.pictures):
            name = str(path.relative_to(self.folder))
            try:
                images[k], behind = self._read_picture(path)
                if behind is not None:
                    clear[k] = behind
                sound[k] = True
            except _OtherRange as error:
                raise error.args[0] from None
            except _OtherSize as error:
                self.other_sizes.append(f"{_name(name)} ({error})")
            except UnidentifiedImageError:
                self.broken.append(f"{_name(name)} (no {', '.join(FORMATS)})")
            except Exception as error:  # a broken picture may raise anything from inside Pillow
                why = str(error) if isinstance(error, DataError) else brief(str(error), 100)
                self.broken.append(f"{_name(name)} ({why})")
        names = np.array([name for _, name in listing.pictures])
        if sound.all():
            return images, clear, names
        return images[sound], clear[sound], names[sound]

    def _read_picture(self, path: Path) -> tuple[Bytes, Bytes | None]:
        length, most = path.stat().st_size, _MAX_BYTES_RESIZED if self.scaling.asked else _MAX_BYTES
        if not 0 < length <= most:  # a single chunk of a PNG may be as long as the file
            raise DataError("empty" if length == 0 else f"longer than {most:,} bytes")
        with Image.open(path, formats=tuple(FORMATS)) as file:  # reads no more than the header
            size = "{} x {}".format(*file.size)
            if file.size != (SIDE, SIDE) and not self.scaling.asked:
                raise _OtherSize(size)
            file.draft("RGB", (4 * SIDE, 4 * SIDE))  # a large JPEG is decoded at a fraction
            picture = ImageOps.exif_transpose(file)
            several = bool(getattr(file, "is_animated", False))
            try:
                grey, alpha = _grey(self._place(path.suffix)._replace(where=str(path)), picture)
            except DataError as error:
                raise _OtherRange(error) from error
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
            self.scaling.sizes[size] += 1
        return fit(grey, None if alpha is None else 0), clear

    def _place(self, suffix: str) -> Place:
        """Where to convert pictures: in place."""
        each = (
            f"for p in Path({str(self.folder)!r}).rglob('*{suffix}'): Image.fromarray({{}}).save(p)"
        )
        imports = "from pathlib import Path; import numpy as np; from PIL import Image"
        return Place(str(self.folder), "np.array(Image.open(p))", f"{imports}\n{each}")


def _grey(place: Place, picture: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """A picture in grey, and its opacity, if any of it is transparent. Raises DataError."""
    if picture.mode[0] in "IF":
        values = np.asarray(picture)
        if picture.mode[0] == "I":
            values = values / 65535  # 16 bits
        return Image.fromarray(to_bytes(place, values)), None
    if not picture.has_transparency_data:
        return picture.convert("L"), None
    colour = picture.convert("RGBA")
    alpha = colour.getchannel("A")
    return colour.convert("L"), alpha if alpha.getextrema() != (255, 255) else None


def _some(names: list[str], most: int) -> str:
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
