"""How does a file get written whole or not at all, and opened without believing what it says?

The bytes go to a temporary file in the same folder, are forced to the disk, and only then take
the name in one step: whoever opens the file, at whatever instant the program died, finds either
all of the old bytes or all of the new. Pictures (`image_grid.py`) and checkpoints (`checkpoint.py`)
are written through here. Checkpoints and datasets are opened through here: only plain files, and
archives only if their table of contents is of a sane length.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import secrets
import stat
import time
import zipfile
from pathlib import Path
from typing import BinaryIO

MAX_DIRECTORY = 1 << 23  # bytes of a zip's table of contents, for a hundred thousand members
MAX_TEXT = 1 << 24  # bytes of a text that we read: a metrics.csv of 100,000 epochs
STALE = 3600.0  # seconds: no write of ours takes that long


class Damaged(Exception):
    """What is wrong with a file, in words for people."""


# ------------------------------------------------------------------ writing


def write_bytes_safely(path: str | os.PathLike[str], data: bytes, durable: bool = True) -> None:
    """Write `data` to `path`, replacing what was there, whole or not at all.

    With `durable` the bytes have reached the disk on return, for files that cannot be made anew:
    that takes milliseconds. Raises OSError (no such folder, no permission, full disk); then the old
    file is as it was and no temporary file is left behind.
    """
    path = Path(path)
    temporary = path.parent / f".npvae-{secrets.token_hex(8)}.tmp"
    try:
        with open(temporary, "xb") as file:  # mode "x": fails rather than share a name
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:  # Ctrl-C too
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    if durable:
        _sync_folder(path.parent)
        remove_leftovers(path.parent)


def _sync_folder(folder: Path) -> None:
    """Force the new name to the disk; some systems cannot open folders, and do well without."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of processes that were killed while they wrote."""
    with contextlib.suppress(OSError):
        for temporary in folder.glob(".npvae-*.tmp"):
            if time.time() - temporary.stat().st_mtime > STALE:
                temporary.unlink()


# ------------------------------------------------------------------ reading


def open_plain(path: str | os.PathLike[str]) -> io.BufferedReader:
    """Open a file for reading, if it is one: a pipe keeps us waiting, and a device never ends.

    Raises OSError.
    """
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise OSError(errno.EINVAL, f"it is {what}, not a file", os.fspath(path))
    return open(path, "rb")


def read_text(path: str | os.PathLike[str]) -> str:
    """A text that we wrote, if it is a plain file, and no more of it than there can be.

    Raises OSError and UnicodeDecodeError.
    """
    with open_plain(path) as file:
        return file.read(MAX_TEXT).decode()


def open_zip(file: BinaryIO) -> zipfile.ZipFile:
    """The archive in a file, once its last bytes show how long its table of contents is.

    For zipfile reads a table of any length, and makes an object of every entry: a file of 50 MB
    would cost 300 MB and six seconds. Raises Damaged and zipfile.BadZipFile.
    """
    is_zip = file.read(4) == b"PK\3\4"
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 98))
    end = file.read().rjust(98, b"\0")
    if not is_zip:
        raise Damaged("it is not an .npz file")
    if end[76:80] != b"PK\5\6" or end[96:] != b"\0\0":  # 22 bytes, the last of them: no comment
        raise Damaged("it is cut short or damaged")
    length = int.from_bytes(end[88:92], "little")
    if end[56:60] == b"PK\6\7":  # more than 2 GB: 56 bytes with larger numbers, 20 to find them
        length = int.from_bytes(end[40:48], "little")
        if end[:4] != b"PK\6\6" or int.from_bytes(end[64:72], "little") != size - 98:
            raise Damaged("it is cut short or damaged")
    if length > MAX_DIRECTORY:
        raise Damaged("its table of contents is too long to be true")
    return zipfile.ZipFile(file)


def brief(what: object, length: int = 40) -> str:
    """Something out of a file, to be shown: it may be long, or meant for the terminal."""
    text = ascii(what)
    return text if len(text) <= length else f"{text[: length - 3]}..."
