"""How does a folder of pictures come in? Its first sub-folders name the classes.

Deeper folders belong to the class above them. What lies around in folders (thumbnails, hidden
files) is ignored; whatever else is left out is counted. `picture_reader.py` reads the pictures.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from npvae.datasets.dataset import MAX_ITEMS, counted, in_brief, mismatch, some
from npvae.datasets.halves import choose_halves, half_of_folder
from npvae.datasets.labels import NO_CLASS, Half, in_order
from npvae.datasets.picture_reader import SUFFIXES, PictureReader
from npvae.datasets.pixels import Intake
from npvae.storage.files import one_line

LITTER = {  # what systems leave in folders, besides all names that begin with a dot
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "__pycache__"),
    *("@eadir", "@tmp", "@recycle", "@recently-snapshot", "#recycle", "#snapshot"),
    *("$recycle.bin", "recycler", "system volume information", "lost+found"),
}
_TEXT = (_NOWHERE := "links that lead nowhere", ".txt", ".md", ".json", ".xml", ".csv", ".pdf")
_MAX_DEPTH = 16  # of folders


@dataclass
class Listing:
    """The pictures in a folder, each with its class, and what is left out."""

    pictures: list[tuple[Path, str]] = field(default_factory=list)
    files: Counter[str] = field(default_factory=Counter)  # left out, by suffix
    folders: list[str] = field(default_factory=list)  # left out
    deeper: set[Path] = field(default_factory=set)  # folders within those of the classes

    def add(self, paths: Iterable[Path], name: str) -> None:
        """The pictures among these files, as one class."""
        for path in paths:
            if path.suffix.lower() in SUFFIXES and path.is_file():
                self.pictures.append((path, name))
            else:
                kind = _NOWHERE if path.is_symlink() else path.suffix.lower()
                self.files[kind or "no suffix"] += 1

    @property
    def left_out(self) -> str:
        """For people: "50 files (.tga), 1 folder without pictures (old)"; empty if nothing is."""
        words = []
        if count := self.files.total():
            kinds = some((in_brief(kind) for kind, _ in self.files.most_common()), 6)
            words.append(f"{counted(count, 'file')} ({kinds})")
        if count := len(self.folders):
            names = some(map(in_brief, self.folders), 6)
            words.append(f"{counted(count, 'folder')} without pictures ({names})")
        return ", ".join(words)


def read_folder(folder: Path, intake: Intake) -> list[Half]:
    """[all] or [train, test] of a folder of pictures. Raises DataError."""
    folder, notes = inner_folder(folder), intake.notes
    halves = _halves(folder)
    listings = {half: list_pictures(path) for half, path in halves.items()}
    chosen = choose_halves(folder, listings, notes)
    for listing in chosen:
        if listing.left_out:
            notes.append(f"left out: {listing.left_out}")
        if count := len(listing.deeper):
            notes.append(f"pictures of {count:,} deeper folders belong to the class above them")
    if "" not in halves:
        used = {path for half in halves.values() for path in (half, *half.parents)}
        if unused := [path.name for path in visible(folder) if path not in used]:
            notes.append(f"left out: {some(map(in_brief, unused), 12)}")
    names = {name for listing in chosen for _, name in listing.pictures}
    classes = f"{counted(len(names), 'class')} ({some(map(in_brief, in_order(names)), 12)})"
    classes = "one class" if names == {NO_CLASS} else classes
    count = sum(len(listing.pictures) for listing in chosen)
    intake.report(f"Reading {count:,} pictures of {classes} from {one_line(folder)}")
    return PictureReader(folder, intake).read([listing.pictures for listing in chosen])


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


def visible_folders(folder: Path) -> list[Path]:
    """The folders in it; of those that links make the same one only, rather than a link."""
    found = [path for path in visible(folder) if path.is_dir()]
    links_first = sorted(found, key=os.path.islink, reverse=True)
    return sorted({os.path.realpath(path): path for path in links_first}.values())


def _halves(folder: Path) -> dict[str, Path]:
    """The folder of each half; or the whole folder as "". Raises DataError."""
    folders = visible_folders(folder)
    groups: dict[str, dict[str, Path]] = {}  # halves by the rest of their names
    for path in folders:
        if match := half_of_folder(path.name):
            half, rest = match
            other = groups.setdefault(rest, {}).setdefault(half, path)
            if other != path:
                both = f"{in_brief(other.name)} and {in_brief(path.name)}"
                raise mismatch(folder, "one folder for each half", both)
    # With other folders beside it, `train` alone may be a class: trains, cars and ships.
    found = [
        halves
        for rest, halves in groups.items()
        if len(halves) > 1 or (len(folders) == 1 and not rest)
    ]
    if len(found) > 1:
        names = [in_brief(path.name) for halves in found for path in halves.values()]
        raise mismatch(folder, "the halves of one dataset", some(names, 12))
    if found:
        return {half: inner_folder(path) for half, path in found[0].items()}
    for path in folders:
        inside = {half_of_folder(deeper.name) for deeper in visible_folders(path)}
        if {("train", ""), ("test", "")} <= inside:
            found_in = f"them in {in_brief(path.name)}"
            raise mismatch(folder, "train and test here, each with classes", found_in)
    return {"": folder}


def list_pictures(folder: Path) -> Listing:
    """All pictures in a folder. Raises DataError if there is none, or if its layout is unclear."""
    listing, inside, folders = Listing(), visible(folder), visible_folders(folder)
    known = {os.path.realpath(path) for path in folders}  # what links to them is not read again
    listing.add([path for path in inside if not path.is_dir()], NO_CLASS)
    others = {*inside} - {*folders}
    listing.folders = sorted(path.name for path in others if path.is_dir())
    pictures = listing.pictures
    flat = len(pictures)
    for sub in folders:
        before = len(pictures)
        listing.add(_walk(sub, known), sub.name)
        listing.deeper |= {path.parent for path, _ in pictures[before:]} - {sub}
        if len(pictures) == before:
            listing.folders.append(sub.name)
    if 0 < flat < len(pictures):
        both = f"both:\n{one_line(pictures[0][0])} and {one_line(pictures[flat][0])}"
        raise mismatch(folder, "pictures in it or in its sub-folders", both)
    if not 1 <= len(pictures) <= MAX_ITEMS:
        found = f"{len(pictures):,}" + f", and {listing.left_out}" * bool(listing.left_out)
        raise mismatch(folder, f"1 to {MAX_ITEMS:,} pictures", found, _way_on(listing))
    return listing


def _way_on(listing: Listing) -> str:
    """How files of other kinds become pictures, if Pillow reads them."""
    if set(listing.files) <= set(_TEXT):
        return f"A picture ends in {', '.join(SUFFIXES)}."
    return "If Pillow reads them, make pictures of them:  Image.open(path).save(f'{path}.png')"


def _walk(folder: Path, known: set[str]) -> Iterator[Path]:
    """All files in a folder and those in it, links followed, but to no folder that is known."""
    waiting = visible(folder)[::-1]
    while waiting:
        path = waiting.pop()
        if not path.is_dir():
            yield path
        elif (real := os.path.realpath(path)) not in known:
            known.add(real)
            waiting += visible(path)[::-1]
