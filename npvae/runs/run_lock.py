"""Who may write to a run directory? The one process that holds its lock.

A run starts in an empty folder, or in one where a run of npvae ended before its first epoch was
finished. Files of the user are never touched. The operating system releases the lock when the
process ends, however it ends.
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

# What a run has before its first epoch is over.
UNFINISHED = {"run.json", ".lock", "images", "loss.png", "samples.gif", "report.html"}
FIRST_PICTURES = {"sampled_epoch1.png", "rec_epoch1.png"}


class FolderNotEmpty(OutputError):
    """A folder that holds something already."""


class RunMoved(OutputError):
    """A run directory that was moved or removed while its run was writing there."""


class Lock:
    """Exclusive use of a folder until `release`. Raises OutputError if another process has it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = open_locked(folder)

    def check(self) -> None:
        """Raise RunMoved unless the folder's name still means the folder that was locked."""
        if self.file is None:
            return
        with suppress(OSError):
            if os.path.samestat(os.stat(self.folder / ".lock"), os.fstat(self.file.fileno())):
                return
        raise RunMoved(
            f"{self.folder} (or its .lock) was moved or removed while its run was writing there.\n"
            "Its finished epochs are where the folder is now: resume the run from there."
        )

    def release(self) -> None:
        """Let other processes use the folder."""
        if self.file is not None:
            self.file.close()
            self.file = None


def open_locked(folder: Path) -> IO[str] | None:
    """The locked file .lock; None where locks do not exist, as on Windows and some file systems."""
    try:
        import fcntl
    except ImportError:
        return None
    try:
        file = open(folder / ".lock", "a", opener=open_no_follow)  # noqa: SIM115  kept open
    except OSError as error:
        raise OutputError(
            f"the folder {folder} cannot be written: {error.strerror or error}\n"
            "Choose another one with --out. To resume a run, copy it to a folder you can write."
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


def open_no_follow(path: str, flags: int) -> int:
    """Open the file of this name, not the target of a link, and do not wait for a pipe."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)


def lock_new(folder: Path) -> Lock:
    """Create the folder if necessary, and lock it. Raises FolderNotEmpty, OutputError, OSError."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file, not a folder.\nChoose another name with --out.")
    folder.mkdir(parents=True, exist_ok=True)
    if not is_free(folder):  # checked before a lock file is written there
        raise FolderNotEmpty
    lock = Lock(folder)
    try:
        if not is_free(folder):  # another process was faster
            raise FolderNotEmpty
        if lock.file is None:  # without locks, the process that creates run.json has the folder
            os.close(os.open(folder / "run.json", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
    except FileExistsError:
        raise FolderNotEmpty from None
    except BaseException:
        lock.release()
        raise
    return lock


def is_free(folder: Path) -> bool:
    """Whether it is empty, or holds no more than a run of npvae without a finished epoch."""
    found = {path.name for path in folder.iterdir() if path.suffix != ".tmp"}
    pictures = {path.name for path in folder.glob("images/*") if path.suffix != ".tmp"}
    ours = "run.json" not in found or is_ours(folder / "run.json")
    return found <= UNFINISHED and pictures <= FIRST_PICTURES and ours


def is_ours(run_json: Path) -> bool:
    """Whether npvae wrote this file; it is empty if the writing was interrupted."""
    with suppress(ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
        text = read_text(run_json)
        about = json.loads(text or "{}")
        return not text or (isinstance(about, dict) and {"settings", "versions"} <= set(about))
    return False


def create_numbered(parent: Path, name: str) -> Path:
    """Create and return <parent>/<name>-001, or with the number after the highest one."""
    parent.mkdir(exist_ok=True)
    prefix = f"{name}-"
    tails = [path.name[len(prefix) :] for path in parent.iterdir() if path.name.startswith(prefix)]
    number = max((int(tail) for tail in tails if tail.isdecimal()), default=0)
    while True:
        number += 1
        with suppress(FileExistsError):  # another process was faster
            folder = parent / f"{name}-{number:03d}"
            folder.mkdir()
            return folder
