"""How is a file written whole or not at all, and opened without trusting its contents?

The bytes are written to a temporary file in the same folder and forced to the disk. Then that file
is renamed in one step. So even if the program is killed, the file has all of the old bytes or all
of the new ones. Pictures and checkpoints are written this way. Checkpoints and datasets are opened
with the functions below: plain files only, and archives only if their directory is short enough.
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
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from npvae.core.errors import OutputError

MAX_DIRECTORY = 1 << 23  # bytes of a zip file's central directory, for 100,000 members
MAX_TEXT = 1 << 24  # bytes of a text file, for a metrics.csv of 100,000 epochs
CANNOT = "{path} cannot be written: {why}\nFree some space, or check the permissions of the folder."
STALE = 3600.0  # seconds; no write takes that long, and no download of one file


class Damaged(Exception):
    """What is wrong with a file, in words for the user."""


# ------------------------------------------------------------------ writing


def write(
    path: str | os.PathLike[str],
    data: bytes,
    words: str = "",
    replace: bool = True,
    durable: bool = True,
) -> None:
    """Write `data` to `path`, whole or not at all.

    An existing file is replaced, or without `replace` it is FileExistsError. With `durable`, the
    bytes have reached the disk when this returns, which takes milliseconds. If they cannot be
    written (no such folder, no permission, disk full), the old file is unchanged and no temporary
    file is left. Raises OutputError then, which says `words` with {path} and {why}; without words,
    OSError.
    """
    path, claimed = Path(path), False
    temporary = new_temporary(path.parent)
    try:
        if not replace:
            open(path, "xb").close()  # mode "x" fails if the name exists
            claimed = True
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:  # Ctrl-C too
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
            if claimed:
                path.unlink()
        if words and isinstance(error, OSError) and not isinstance(error, FileExistsError):
            why = error.strerror or error
            raise OutputError(words.format(path=path, why=why)) from error
        raise
    if durable:
        _sync_folder(path.parent)
        remove_leftovers(path.parent)


def _sync_folder(folder: Path) -> None:
    """Force the new name to the disk. Some systems cannot open folders, and need not."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def new_temporary(folder: Path) -> Path:
    """A name in a folder that no file has, and that only we give: its end is a digest."""
    return folder / _signed(secrets.token_hex(8))


def is_temporary(path: Path) -> bool:
    """Whether this is a temporary file of ours, not one of another program."""
    return path.name == _signed(path.name[7:23])


def _signed(token: str) -> str:
    return f".npvae-{token}-{sha256(f'npvae {token}'.encode()).hexdigest()[:16]}.tmp"


def remove_leftovers(folder: Path) -> None:
    """Remove old temporary files of processes that were killed while writing."""
    with contextlib.suppress(OSError):
        for path in folder.glob(".npvae-*.tmp"):
            if is_temporary(path) and time.time() - path.lstat().st_mtime > STALE:
                path.unlink()


# ------------------------------------------------------------------ reading


def open_plain(path: str | os.PathLike[str]) -> io.BufferedReader:
    """Open a plain file for reading. A pipe could block for ever, and a device need not end.

    Raises OSError, for anything but a plain file as well.
    """
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise OSError(errno.EINVAL, f"it is {what}, not a file", os.fspath(path))
    return open(path, "rb")


def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a plain file, at most MAX_TEXT bytes. Raises OSError and UnicodeDecodeError."""
    with open_plain(path) as file:
        return file.read(MAX_TEXT).decode()


def open_zip(file: BinaryIO) -> zipfile.ZipFile:
    """The zip archive in a file, if its central directory is at most MAX_DIRECTORY bytes.

    Its last bytes say how long it is. Python's zipfile reads a directory of any length and makes an
    object of each entry, so a file of 50 MB would take 300 MB and six seconds. Raises Damaged and
    zipfile.BadZipFile.
    """
    is_zip = file.read(4) == b"PK\3\4"
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 98))
    end = file.read().rjust(98, b"\0")
    if not is_zip:
        raise Damaged("it is not an .npz file")
    if end[76:80] != b"PK\5\6" or end[96:] != b"\0\0":  # the last 22 bytes; no comment follows
        raise Damaged("it is cut short or damaged")
    length = int.from_bytes(end[88:92], "little")
    if end[56:60] == b"PK\6\7":  # zip64, as above 2 GB: 56 bytes of larger numbers, 20 to find them
        length = int.from_bytes(end[40:48], "little")
        if end[:4] != b"PK\6\6" or int.from_bytes(end[64:72], "little") != size - 98:
            raise Damaged("it is cut short or damaged")
    if length > MAX_DIRECTORY:
        raise Damaged("its table of contents is too long")
    return zipfile.ZipFile(file)


def one_line(path: str | Path) -> str:
    """A path for a message: names that the user did not type may hold ends of lines."""
    return str(path).replace("\n", "\\n")


def brief(what: object, length: int = 40) -> str:
    """Contents of a file for a message, shortened, and without control characters."""
    text = ascii(what)
    return text if len(text) <= length else f"{text[: length - 3]}..."
