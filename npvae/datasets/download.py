"""How does a file come over the network whole and right, or not at all?

Mirror after mirror: connect, read in pieces, check, and only then move the file to its place, so
that its name never stands for half a file, whoever else is downloading it. Everything has a time
limit: a machine without a network must know that it has none within seconds.
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
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from npvae.datasets.dataset import NotAvailable
from npvae.errors import DataError

# In the order in which they are tried. The name of the file is appended.
MIRRORS: dict[str, tuple[str, ...]] = {
    "fashion-mnist": (
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
    "mnist": (
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
    ),
}
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
    _remove_leftovers(target)
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
    # The name is ours alone, so two processes never write to one file.
    part = target.with_name(f"{target.name}.{uuid.uuid4().hex}.part")
    try:
        with contextlib.closing(_connect(url)) as response, part.open("xb") as file:
            announced = response.length  # None where the mirror does not say
            if announced is not None and announced > max_bytes:
                raise DataError(f"longer than {max_bytes:,} bytes")
            size = "" if announced is None else f" ({announced / 1e6:.1f} MB)"
            report(f"Downloading {target.name}{size} from {url}")
            received = 0
            for piece in _pieces(response):
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


def _connect(url: str) -> http.client.HTTPResponse:
    """Open `url` within CONNECT_SECONDS. In a thread: a stalled name look-up has no timeout."""
    answers: queue.SimpleQueue[http.client.HTTPResponse | Exception] = queue.SimpleQueue()
    too_late = threading.Event()

    def connect() -> None:
        request = urllib.request.Request(url, headers={"User-Agent": "npvae"})
        try:
            response = urllib.request.urlopen(request, timeout=STALL_SECONDS)
        except Exception as error:  # handed to the waiting thread, whatever it is
            answers.put(error)
            return
        answers.put(response)
        if too_late.is_set():
            response.close()

    threading.Thread(target=connect, daemon=True).start()
    try:
        answer = answers.get(timeout=CONNECT_SECONDS)
    except queue.Empty:
        too_late.set()
        raise DataError(f"no answer within {CONNECT_SECONDS:g} s") from None
    if isinstance(answer, Exception):
        raise answer
    if not isinstance(answer, http.client.HTTPResponse):  # urllib follows a redirect to ftp://
        raise DataError("it leads away from HTTP")
    return answer


def _pieces(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """The body, as it comes in. read1 returns whatever is there, so the clock is looked at."""
    deadline = time.monotonic() + FILE_SECONDS
    while piece := response.read1(_CHUNK):
        yield piece
        if time.monotonic() > deadline:
            raise DataError(f"not finished within {FILE_SECONDS:g} s")


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
    """A mirror may say anything: a page full, or what a terminal would obey."""
    line = " ".join(text.split())
    return line[:length] if line.isprintable() else ascii(line[:length])


def _remove_leftovers(target: Path) -> None:
    """Remove what a killed download left behind: no living one is an hour old."""
    for part in target.parent.glob(f"{target.name}.*.part"):
        with contextlib.suppress(OSError):
            if time.time() - part.stat().st_mtime > 4 * FILE_SECONDS:
                part.unlink()
