"""How does a file come over the network whole and right, or not at all?

Mirror after mirror: connect, read in pieces, check, and only then move the file to its place, so
that its name never stands for half a file, whoever else is downloading it. Everything has a time
limit: a machine without a network must know that it has none within seconds, and a mirror that
sends a byte now and then shall not keep anybody for ever.
"""

import contextlib
import http.client
import os
import queue
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

from npvae.core.errors import DataError
from npvae.datasets.dataset import NotAvailable
from npvae.storage.files import new_temporary, remove_leftovers

CONNECT_SECONDS = 2.4  # until a mirror answers; two silent mirrors cost five seconds
STALL_SECONDS = 10.0  # without a single byte
FILE_SECONDS = 900.0  # for one file: 26 MB at 30 kB/s
_CHUNK = 1 << 16


def download(
    urls: Sequence[str],
    target: Path,
    check: Callable[[Path], object],
    max_bytes: int,
    report: Callable[[str], None],
) -> str:
    """Fetch `target` from the first URL that has it, and return that URL.

    `check(path)` raises DataError unless the file is the right one. Raises NotAvailable
    with one line for each URL and its reason.
    """
    remove_leftovers(target.parent)
    faults = []
    for url in urls:
        try:
            _download_from(url, target, check, max_bytes, report)
            return url
        except (OSError, http.client.HTTPException, ValueError, DataError) as error:
            faults.append(f"{url}: {_reason(error)}")
    raise NotAvailable("\n".join(faults))


def _download_from(
    url: str,
    target: Path,
    check: Callable[[Path], object],
    max_bytes: int,
    report: Callable[[str], None],
) -> None:
    part = new_temporary(target.parent)  # so two processes never write to one file
    try:
        with contextlib.closing(_arriving(url)) as arriving, part.open("xb") as file:
            announced = next(arriving)  # None where the mirror does not say
            if announced is not None and announced > max_bytes:
                raise DataError(f"longer than {max_bytes:,} bytes")
            size = "" if announced is None else f" ({announced / 1e6:.1f} MB)"
            report(f"Downloading {target.name}{size} from {url}")
            received = 0
            for piece in arriving:
                received += len(piece)
                if received > max_bytes:
                    raise DataError(f"longer than {max_bytes:,} bytes")
                file.write(piece)
            if announced is not None and received != announced:
                raise DataError(f"broke off after {received:,} of {announced:,} bytes")
            file.flush()
            os.fsync(file.fileno())
        try:
            check(part)
        except DataError as error:
            raise DataError(str(error).removeprefix(f"{part}: ")) from error
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def _arriving(url: str) -> Generator[Any, None, None]:
    """The length of what `url` stands for, and then that itself piece by piece, each in time.

    In a thread: a stalled name look-up has no timeout, nor has a line of HTTP that drips in.
    """
    arrived: queue.Queue[Any] = queue.Queue(maxsize=8)
    unwanted = threading.Event()

    def hand_over(what: object) -> None:
        while not unwanted.is_set():
            with contextlib.suppress(queue.Full):
                arrived.put(what, timeout=0.1)
                return

    def fetch() -> None:
        request = urllib.request.Request(url, headers={"User-Agent": "npvae"})
        try:
            with urllib.request.urlopen(request, timeout=STALL_SECONDS) as response:
                if not isinstance(response, http.client.HTTPResponse):
                    raise DataError("it leads away from HTTP")  # a redirect to ftp:// may
                hand_over(response.length)
                while not unwanted.is_set() and (piece := response.read1(_CHUNK)):
                    hand_over(piece)
            hand_over(b"")
        except Exception as error:  # whatever it is, it is for the one who waits
            hand_over(error)

    threading.Thread(target=fetch, daemon=True).start()
    deadline = time.monotonic() + FILE_SECONDS
    patience, complaint = CONNECT_SECONDS, f"no answer within {CONNECT_SECONDS:g} s"
    try:
        while (left := deadline - time.monotonic()) > 0:
            try:
                what = arrived.get(timeout=min(patience, left))
            except queue.Empty:
                break
            if isinstance(what, Exception):
                raise what
            if what == b"":
                return
            yield what
            patience, complaint = STALL_SECONDS, f"stalled: nothing came for {STALL_SECONDS:g} s"
        late = time.monotonic() >= deadline
        raise DataError(f"not finished within {FILE_SECONDS:g} s" if late else complaint)
    finally:
        unwanted.set()


def _reason(error: Exception) -> str:
    """Why a mirror failed, in a few words."""
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        return _one_line(f"HTTP {error.code} {error.msg}")
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, socket.gaierror):
        return "the name cannot be looked up (no network?)"
    if isinstance(cause, TimeoutError):
        return f"stalled: nothing came for {STALL_SECONDS:g} s"
    if isinstance(cause, http.client.IncompleteRead):
        return "broke off in the middle"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return _one_line(str(cause)) or type(cause).__name__


def _one_line(text: str, length: int = 160) -> str:
    """A mirror may say anything, such as a page full."""
    return " ".join(text.split())[:length]
