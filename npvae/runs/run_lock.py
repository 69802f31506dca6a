"""Who may write to a run directory? The one process that holds its lock.

A run starts in an empty folder, or in one where a run of npvae ended before its first epoch was
finished. Files of the user are never touched: a folder is a run's by what its run.json says, and a
picture is the run's if its digest is in .lock. The operating system releases the lock when the
process ends, however it ends. Where it has no locks, a file .in-use stands for one.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import re
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

from npvae.core.errors import OutputError
from npvae.settings import Settings
from npvae.storage.files import brief, is_temporary, open_plain, read_text
from npvae.storage.header import is_run

# What a run has before its first epoch is over.
PICTURES = {"images/sampled_epoch1.png", "images/rec_epoch1.png"}
PICTURES |= {"loss.png", "samples.gif", "report.html", "explorer.html"}
UNFINISHED = {"run.json", ".lock", ".in-use", "images", *PICTURES}
MAX_PICTURE = 1 << 26  # bytes


class FolderNotEmpty(OutputError):
    """A folder that holds something already."""


class RunMoved(OutputError):
    """A run directory that was moved or removed while its run was writing there."""


class Lock:
    """Exclusive use of a folder until `release`. Raises OutputError if another process has it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file: IO[str] | None = open_lock(folder)
        try:
            self.claim = None if is_locked(self.file, folder) else claimed(folder)
        except BaseException:
            self.file.close()
            raise

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

    def note(self, picture: bytes) -> None:
        """Keep the digest of a picture that is about to be written: it is known as ours then."""
        if self.file is not None:
            with suppress(OSError):
                os.write(self.file.fileno(), f"{digest(picture)}\n".encode())

    def release(self) -> None:
        """Let other processes use the folder."""
        if self.file is not None:
            with suppress(OSError, RunMoved):
                self.check()
                if self.claim:
                    self.claim.unlink()
            self.file.close()
            self.file = None


def open_lock(folder: Path) -> IO[str]:
    """The file .lock of a folder. Raises OutputError."""
    try:
        return open(folder / ".lock", "a", opener=open_no_follow)
    except OSError as error:
        raise OutputError(
            f"the folder {folder} cannot be written: {error.strerror or error}\n"
            "Choose another one with --out. To resume a run, copy it to a folder you can write."
        ) from error


def open_no_follow(path: str, flags: int) -> int:
    """Open the file of this name, not the target of a link, and do not wait for a pipe."""
    unix = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    return os.open(path, flags | unix, 0o644)


def is_locked(file: IO[str], folder: Path) -> bool:
    """Lock the file; False where locks do not exist, as on Windows and some file systems."""
    try:
        import fcntl
    except ImportError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            return False
        raise OutputError(
            f"another process is training in {folder}.\nWait for it to end, or stop it first."
        ) from None
    return True


def is_running(folder: Path) -> bool:
    """Whether a process is training there, as far as its lock tells. Nothing is written."""
    try:
        with open(folder / ".lock", opener=open_no_follow) as file:
            return not is_locked(file, folder) and (folder / ".in-use").exists()
    except OutputError:
        return True
    except OSError:
        return False


def claimed(folder: Path) -> Path:
    """Create .in-use there, which no other process can then. After `kill -9` it is left behind."""
    claim = folder / ".in-use"
    try:
        descriptor = os.open(claim, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        who = "?"
        with suppress(OSError, UnicodeDecodeError):
            who = brief(read_text(claim), 80)
        raise OutputError(
            f"another process is training in {folder}: {who}.\n"
            f"Wait for it to end. If it was killed, remove {claim}: this disk has no locks."
        ) from None
    with suppress(OSError):
        os.write(descriptor, f"process {os.getpid()} on {platform.node()}".encode())
    os.close(descriptor)
    return claim


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
    except BaseException:
        lock.release()
        raise
    return lock


def is_free(folder: Path) -> bool:
    """Whether it holds nothing but what a run of npvae without a finished epoch has written."""
    paths = (*folder.iterdir(), *folder.glob("images/*"))
    names = {path.relative_to(folder).as_posix() for path in paths if not is_temporary(path)}
    if not names <= UNFINISHED or ("run.json" in names and not about_in(folder)):
        return False
    with suppress(OSError, UnicodeDecodeError):
        ours = read_text(folder / ".lock") if ".lock" in names else ""
        return bool(re.fullmatch(r"[0-9a-f\n]*", ours)) and all(
            digest_of(folder / name) in ours.split() for name in names & PICTURES
        )
    return False


def about_in(folder: Path) -> dict[str, Any]:
    """What the run.json in a folder says of its run; nothing if it is not that of a run."""
    with suppress(OSError, TypeError, ValueError, RecursionError):  # it may hold anything
        about = json.loads(read_text(folder / "run.json"))
        if is_run(about):
            Settings.from_dict(about["settings"])
            return dict(about)
    return {}


def digest_of(path: Path) -> str:
    with open_plain(path) as file:
        return digest(file.read(MAX_PICTURE))


def digest(data: bytes) -> str:
    return sha256(data).hexdigest()


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
