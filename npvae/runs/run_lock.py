"""Whose folder is it? A run takes one for itself, and nobody else may write there meanwhile.

What somebody has put into a folder is left alone: a run begins in an empty one, or where a run of
ours has not finished a single epoch. The lock ends with the process, however that ends.
"""

from __future__ import annotations

import errno
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import IO

from npvae.core.errors import OutputError
from npvae.storage.files import read_text

BEGUN = {"run.json", ".lock", "images", "loss.png"}
FIRST_PICTURES = {"sampled_epoch1.png", "rec_epoch1.png"}


class NotEmpty(OutputError):
    """A folder that holds something already."""


class Moved(OutputError):
    """A folder that has got another name while its run was writing there."""


class Lock:
    """The folder is ours until `release`. Raises OutputError if another process has it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = locked(folder)

    def check(self) -> None:
        """Raise Moved if the folder's name means another one by now: of another run, perhaps."""
        if self.file is None:
            return
        with suppress(OSError):
            if os.path.samestat(os.stat(self.folder / ".lock"), os.fstat(self.file.fileno())):
                return
        raise Moved(
            f"{self.folder} (or its .lock) was moved or removed while its run was writing there.\n"
            "Its finished epochs are where the folder is now: resume the run from there."
        )

    def release(self) -> None:
        if self.file is not None:
            self.file.close()
            self.file = None


def locked(folder: Path) -> IO[str] | None:
    """The open lock file; None where there are no locks, as on Windows and some file systems."""
    try:
        import fcntl
    except ImportError:
        return None
    try:
        file = open(folder / ".lock", "a", opener=without_links)  # noqa: SIM115  as long as the run
    except OSError as error:
        raise OutputError(
            f"the folder {folder} cannot be written: {error.strerror or error}\n"
            "Choose another one with --out; or copy a run to where it can be written."
        ) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            return None
        raise OutputError(
            f"another process is training in {folder}.\nWait for it to end, or stop it first."
        ) from None
    return file


def without_links(path: str, flags: int) -> int:
    """Open the file of this name, not the one that a link leads to; a pipe is not waited for."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)


def claimed(folder: Path) -> Lock:
    """The lock of a folder that is created if need be. Raises NotEmpty, OutputError, OSError."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file, not a folder.\nChoose another name with --out.")
    folder.mkdir(parents=True, exist_ok=True)
    if not is_free(folder):  # and not even a lock file is put there
        raise NotEmpty
    lock = Lock(folder)
    try:
        if not is_free(folder):  # by now: another process was faster
            raise NotEmpty
        if lock.file is None:  # then it belongs to whoever creates run.json, and only once
            os.close(os.open(folder / "run.json", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
    except FileExistsError:
        raise NotEmpty from None
    except BaseException:
        lock.release()
        raise
    return lock


def is_free(folder: Path) -> bool:
    """Whether it is empty, or holds a run of ours without an epoch: at most its first pictures."""
    found = {path.name for path in folder.iterdir() if path.suffix != ".tmp"}
    pictures = {path.name for path in folder.glob("images/*") if path.suffix != ".tmp"}
    ours = "run.json" not in found or is_ours(folder / "run.json")
    return found <= BEGUN and pictures <= FIRST_PICTURES and ours


def is_ours(run_json: Path) -> bool:
    """Whether npvae wrote it; it is empty if that was cut off."""
    with suppress(ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
        text = read_text(run_json)
        about = json.loads(text or "{}")
        return not text or (isinstance(about, dict) and {"settings", "versions"} <= set(about))
    return False


def next_free(place: Path, name: str) -> Path:
    """<place>/<name>-001, or the number after the last one; created."""
    place.mkdir(exist_ok=True)
    tails = [
        path.name[len(name) + 1 :] for path in place.iterdir() if path.name.startswith(f"{name}-")
    ]
    number = max((int(tail) for tail in tails if tail.isdecimal()), default=0)
    while True:
        number += 1
        with suppress(FileExistsError):  # another process was faster
            folder = place / f"{name}-{number:03d}"
            folder.mkdir()
            return folder
