"""How is a new picture or page named and written, and what does a command suggest at its end?"""

from __future__ import annotations

from contextlib import suppress
from itertools import count
from pathlib import Path
from shlex import split
from typing import TYPE_CHECKING

from npvae.core.errors import OutputError

if TYPE_CHECKING:
    from PIL import Image


def save_picture(picture: Image.Image | bytes, out: str | Path, name: str) -> Path:
    """Write a picture, or the bytes of a GIF, where `save_new` does, and return its path."""
    from npvae.plots.image_grid import png

    is_gif = isinstance(picture, bytes)
    data = picture if isinstance(picture, bytes) else png(picture)
    return save_new(data, Path(out), name, ".gif" if is_gif else ".png")


def save_new(data: bytes, out: Path, name: str, suffix: str) -> Path:
    """Write a new file, whole or not at all, and return its path.

    That is `out` itself if it ends in `suffix`; otherwise `out` is a folder, and the file in it is
    <name>-001, -002, ... Raises OutputError if the file exists or cannot be written.
    """
    from npvae.storage.files import remove_leftovers, write

    what = "page" if suffix == ".html" else "picture"
    is_folder = out.is_dir() or not out.suffix
    if not is_folder and out.suffix.lower() != suffix:
        raise OutputError(f"{out} is not a folder, and this {what} is a {suffix} file.")
    folder = out if is_folder else out.parent
    numbered = (out / f"{name}-{number:03d}{suffix}" for number in count(1))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in numbered if is_folder else [out]:
            with suppress(FileExistsError):
                write(path, data, replace=False, durable=False)
                remove_leftovers(folder)
                return path
    except OSError as error:
        raise OutputError(
            f"no {what} can be written to {out}: {error.strerror or error}\n"
            "Choose another folder with --out."
        ) from error
    raise OutputError(
        f"{out} exists, and a {what} is never overwritten.\n"
        "Choose another name or a folder with --out, or omit --out."
    )


def show_page(path: Path, quiet: bool) -> None:
    """Say where a new page is, and how to open it."""
    from npvae.runs.terminal import show

    show(str(path) if quiet else f"page     {path}")
    if not quiet:
        show(f"\nNext: open it in a browser\n  {path.resolve().as_uri()}")


def show_next(why: str, command: str, *words: str | Path) -> None:
    """Suggest a command: its name and what follows, in one text, and further words."""
    from npvae.runs import terminal

    terminal.show(f"\nNext: {why}\n  {terminal.command(*split(command), *words)}")
