"""Where do datasets live on this machine?

In --data-dir, otherwise $NPVAE_DATA_DIR, otherwise data/ of the clone that runs or that the current
folder is. Where there is no clone, or the first choice cannot be written: the user's cache folder.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from npvae.core.errors import DataError
from npvae.datasets.dataset import NotAvailable


def data_folders(data_dir: str | Path | None = None) -> list[Path]:
    """The folders to look in, best first. Raises DataError where one is a file."""
    given = data_dir or os.environ.get("NPVAE_DATA_DIR") or _default_folder()
    first = Path(os.path.expanduser(given))  # Path.expanduser raises where there is no such user
    if os.path.exists(first) and not os.path.isdir(first):
        raise DataError(f"The data folder {first} is a file.\nName a folder with --data-dir.")
    return list(dict.fromkeys((first, _cache_folder())))


def writable_folder(folders: list[Path], name: str) -> Path:
    """The first `<folder>/<name>` that can be written, created. Raises NotAvailable."""
    for folder in folders:
        try:
            (folder / name).mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder / name, os.W_OK | os.X_OK):
            return folder / name
    tried = " or ".join(str(folder / name) for folder in folders)
    raise NotAvailable(
        f"{name} is not on disk, and {tried} cannot be written.\n"
        "Name another folder with --data-dir."
    )


@contextmanager
def remains_if_done(folder: Path) -> Iterator[None]:
    """On failure, the folder and those above it that are new are removed: a name may be mistyped.

    Entered before `folder` is created. Only empty folders are removed.
    """
    new = [path for path in (folder, *folder.parents) if not os.path.exists(path)]
    try:
        yield
    except BaseException:
        with suppress(OSError):
            for path in new:
                path.rmdir()
        raise


def _default_folder() -> Path:
    for clone in (Path(__file__).resolve().parents[2], Path.cwd()):
        if (clone / "npvae").is_dir() and (clone / "pyproject.toml").is_file():
            return clone / "data"
    return _cache_folder()


def _cache_folder() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(tempfile.gettempdir() if home.startswith("~") else home) / "npvae"  # ~: no home
