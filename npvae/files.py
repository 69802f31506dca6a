"""How does a file get written whole or not at all?

The bytes go to a temporary file in the same folder, are forced to the disk, and only then take
the name in one step: whoever opens the file, at whatever instant the program died, finds either
all of the old bytes or all of the new. Pictures (`images.py`) and checkpoints (`checkpoint.py`)
are written through here.
"""

import contextlib
import os
import secrets
from pathlib import Path


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


def _sync_folder(folder: Path) -> None:
    """Force the new name to the disk; some systems cannot open folders, and do well without."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
