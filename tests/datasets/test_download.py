"""A file comes down whole and right or not at all, whatever the mirrors do.

The mirrors are two folders, /first/ and /second/, of a server on this machine.
"""

import contextlib
import gc
import gzip
import os
import re
import shutil
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, cycle
from pathlib import Path
from typing import Any

import pytest

from npvae.core.errors import DataError
from npvae.datasets import download, load_dataset
from npvae.datasets.standard import FILES, STANDARD
from npvae.runs.terminal import harmless
from npvae.storage.files import new_temporary
from tests.datasets.own import published, stand_in, touch
from tests.helpers import HANGS_AFTER, Said, Tally, refused

SETS = {"fashion-mnist": published(40, 20), "mnist": published(40, 20)}
PACKED = {
    name: dict(zip(files, map(gzip.compress, files.values()), strict=True))
    for name, files in SETS.items()
}
ALL_FILES = sorted(f"{file}.gz" for file in FILES)

Answer = Callable[[bytes], Iterable[bytes | float]]  # what is sent, or seconds to wait
CHUNKED, NO_LENGTH = "Transfer-Encoding: chunked", "X-Length: unknown"


def reply(body: bytes = b"", headers: str = "", status: str = "200 OK") -> bytes:
    """An answer of HTTP; unless other headers are given, they tell the length of its body."""
    headers = headers or f"Content-Length: {len(body)}"
    return f"HTTP/1.0 {status}\r\n{headers}\r\n\r\n".encode() + body


def whole(body: bytes) -> list[bytes]:
    return [reply(body)]


def half(body: bytes) -> bytes:
    return reply(body)[: -len(body) // 2]


def redirect(url: str) -> bytes:
    return reply(headers=f"Location: {url}", status="302 Found")


# What a mirror does instead of sending the body of the file.
FAULTS: dict[str, Answer] = {
    "404": lambda body: [reply(status="404 Not Found")],
    "rude": lambda body: [reply(status="503 \x1b[2J" + 5 * "no ")],
    "silent": lambda body: [HANGS_AFTER],
    "stalled": lambda body: [half(body), HANGS_AFTER],
    "drips": lambda body: chain([reply(headers=CHUNKED)], cycle([b"0", 0.05])),  # a length
    "short": lambda body: [half(body)],
    "half a chunk": lambda body: [reply(b"fff\r\nnot so many", CHUNKED)],
    "hangs up": lambda body: [],
    "no HTTP": lambda body: [9 * b"220 mail.example.com ESMTP\r\n"],
    "wrong bytes": lambda body: [reply(body[:-200] + bytes(200))],
    "long": lambda body: [reply(body + b"and more")],
    "web page": lambda body: [reply(b"<html>Please log in to use the network</html>")],
    "mnist": lambda body: [reply(PACKED["mnist"][FILES[0]])],
    # Not quite: a client that never has enough would fill the disk.
    "endless": lambda body: [reply(headers=NO_LENGTH), *100 * [bytes(1_000_000)]],
    "boasts": lambda body: [reply(body, f"Content-Length: {400 * '9'}")],
    "redirects for ever": lambda body: [redirect(f"{FILES[0]}.gz")],
    "redirects to nowhere": lambda body: [redirect("http://127.0.0.1:1/")],
    "redirects to a file": lambda body: [redirect("file:///etc/passwd")],
}
WAITS = ("silent", "stalled", "drips")


class Mirror(ThreadingHTTPServer):
    """Serves Fashion-MNIST, except where there are other answers for a folder."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.released, self.hung_up_on = threading.Event(), threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Mirror

    def do_GET(self) -> None:
        folder, file = self.path.strip("/").split("/")
        self.server.asked.append(f"{folder}/{file}")
        body = PACKED["fashion-mnist"][file.removesuffix(".gz")]
        for piece in self.server.answers.get(folder, whole)(body):
            if isinstance(piece, bytes):
                self.wfile.write(piece)
            elif self.server.released.wait(piece):
                return

    def log_message(self, format: str, *args: object) -> None:
        pass

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:  # the client went away, as it should
            self.server.hung_up_on.set()


@pytest.fixture
def mirror(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    server = Mirror()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    stand_in(monkeypatch, SETS, f"{server.url}/first/", f"{server.url}/second/")
    monkeypatch.setenv("XDG_CACHE_HOME", str(here / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    # Ours: under load, a right answer may take longer than the 2.4 and 10 seconds.
    monkeypatch.setattr(download, "CONNECT_SECONDS", HANGS_AFTER)
    monkeypatch.setattr(download, "STALL_SECONDS", HANGS_AFTER)
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


def files() -> list[str]:
    """All that is in the folder of the dataset."""
    folder = Path("data/fashion-mnist")
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def load(report: Callable[[str], None] | None = None) -> str:
    """Where it comes from, once it is there whole."""
    train, test = load_dataset("fashion-mnist", "data", report)
    halves = zip((train, test), ("train", "t10k"), strict=True)
    for found, half in halves:
        assert found.images.tobytes() == SETS["fashion-mnist"][f"{half}-images-idx3-ubyte"][16:]
    assert files() == ALL_FILES
    return train.source


def test_downloads_verifies_and_keeps(mirror: Mirror) -> None:
    lines: list[str] = []
    assert load(lines.append) == f"downloaded from {mirror.url}/first/"
    size = len(PACKED["fashion-mnist"]["train-images-idx3-ubyte"]) / 1e6
    url = f"{mirror.url}/first/train-images-idx3-ubyte.gz"
    assert lines[0] == f"Downloading train-images-idx3-ubyte.gz ({size:.1f} MB) from {url}"
    assert load(lines.append) == "read from data/fashion-mnist"
    assert len(lines) == len(mirror.asked) == 4


def test_a_mirror_that_tells_no_length(mirror: Mirror) -> None:
    mirror.answers["first"] = lambda body: [reply(body, NO_LENGTH)]
    assert load() == f"downloaded from {mirror.url}/first/"


def test_each_mirror_is_tried_and_the_reason_told(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, said: Said, tally: Tally
) -> None:
    texts = {}
    for fault, answer in FAULTS.items():
        mirror.answers, mirror.asked = {"first": answer, "second": answer}, []
        with monkeypatch.context() as patch:
            if fault in WAITS:
                patience = "CONNECT_SECONDS" if fault == "silent" else "STALL_SECONDS"
                patch.setattr(download, patience, 0.2)
            with refused(DataError) as error:
                load()
        assert files() == []
        assert len(set(mirror.asked)) == 2  # one file was enough to know
        tally("HTTP faults", "refused, every URL named")
        reasons = harmless("\n".join(str(error.value).splitlines()[1:3]))
        reasons = reasons.replace(mirror.url, "http://mirror")
        # How long a packed file is, and what is broken in it, is told by zlib.
        texts[fault] = re.sub(r" \(Error .*\)|[\d,]+ of [\d,]+", "", reasons)

        if fault not in WAITS:  # or the one that is right might be too slow
            mirror.answers, mirror.asked = {"first": answer}, []
            assert load() == f"downloaded from {mirror.url}/second/"
            # The mirror that failed is not asked for the other three files.
            assert sum(asked.startswith("first/") for asked in set(mirror.asked)) == 1
            shutil.rmtree("data")
            tally("HTTP faults", "next mirror")
    said("why a mirror failed", texts)


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # by urllib, of such a reply
def test_a_redirect_to_nonsense(mirror: Mirror, tally: Tally) -> None:
    mirror.answers["first"] = lambda body: [redirect("http://[::1")]
    assert load() == f"downloaded from {mirror.url}/second/"
    gc.collect()
    tally("HTTP faults", "next mirror")


def test_a_redirect_that_leaves_http(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    """urllib follows one to ftp://, and what comes back is no answer of HTTP."""
    original = urllib.request.urlopen

    def urlopen(request: urllib.request.Request, **named: Any) -> Any:
        first = "/first/" in request.full_url
        return contextlib.nullcontext() if first else original(request, **named)

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    assert load() == f"downloaded from {mirror.url}/second/"
    tally("HTTP faults", "next mirror")


def test_a_file_that_somebody_exchanges_after_the_check(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    """It is read a second time, and verified a second time."""
    original = os.replace

    def exchanging(part: Path, target: Path) -> None:
        original(part, target)
        target.write_bytes(PACKED["mnist"][target.name.removesuffix(".gz")])

    monkeypatch.setattr(os, "replace", exchanging)
    with refused(DataError, "expected Fashion-MNIST's ", ", found MNIST's"):
        load()
    tally("HTTP faults", "refused, every URL named")


@pytest.mark.parametrize(
    ("waiting", "reason"),
    [(0, "the name cannot be looked up (no network?)"), (HANGS_AFTER, "no answer within 0.2 s")],
)
def test_a_name_that_cannot_be_looked_up(
    waiting: float, reason: str, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    def getaddrinfo(*args: object, **kwargs: object) -> None:
        mirror.released.wait(waiting)
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(download, "CONNECT_SECONDS", 0.2 if waiting else HANGS_AFTER)
    with refused(DataError) as error:
        load()
    assert str(error.value).count(f"ubyte.gz: {reason}") == 2


def test_an_answer_that_comes_too_late_is_hung_up_on(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_up = threading.Event()

    def late(body: bytes) -> Iterator[bytes | float]:
        given_up.wait(HANGS_AFTER)
        yield from FAULTS["endless"](body)

    mirror.answers = {"first": late, "second": late}
    monkeypatch.setattr(download, "CONNECT_SECONDS", 0.05)
    with refused(DataError, "no answer within 0.05 s"):
        load()
    given_up.set()
    assert mirror.hung_up_on.wait(HANGS_AFTER)


def test_time_limits_as_shipped() -> None:
    for about in STANDARD.values():
        assert len(about.mirrors) * download.CONNECT_SECONDS <= 5
        assert all(url.startswith("https://") for url in about.mirrors)


@pytest.mark.parametrize("seconds", [0.0, 0.3])
def test_a_mirror_that_goes_on_and_on_runs_into_the_limit(
    seconds: float, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    slowly: list[bytes | float] = [bytes(1000), 0.01]
    endless = chain([reply(headers=NO_LENGTH)], cycle(slowly))
    mirror.answers = {"first": FAULTS["drips"], "second": lambda body: endless}
    monkeypatch.setattr(download, "FILE_SECONDS", seconds)
    with refused(DataError) as error:
        load()
    assert str(error.value).count(f"not finished within {seconds:g} s") == 2
    assert files() == []


def test_all_bytes_are_in_the_file_when_it_is_forced_to_the_disk(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda file: sizes.append(os.fstat(file).st_size))
    load()
    assert sizes == [len(body) for body in PACKED["fashion-mnist"].values()]


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("fault", [KeyboardInterrupt("Ctrl-C"), OSError(28, "the disk is full")])
def test_an_interrupt_or_a_full_disk_leaves_no_partial_file(
    call: str, fault: BaseException, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        assert len(files()) == 1, "the partial file is there"
        raise fault

    monkeypatch.setattr(os, call, fail)
    with pytest.raises((KeyboardInterrupt, DataError), match=fault.args[-1]):
        load()
    assert files() == []


def test_leftovers_of_a_killed_download_are_removed(mirror: Mirror) -> None:
    folder = Path("data/fashion-mnist")
    old, young = (touch(new_temporary(folder)) for _ in range(2))
    os.utime(old, (0, 0))
    load_dataset("fashion-mnist", "data")
    assert files() == sorted([*ALL_FILES, young.name])


def test_two_downloads_at_once(mirror: Mirror, tally: Tally) -> None:
    both = threading.Barrier(2, timeout=HANGS_AFTER)

    def when_both_have_asked(body: bytes) -> list[bytes]:
        both.wait()
        return whole(body)

    mirror.answers["first"] = when_both_have_asked
    with ThreadPoolExecutor(2) as two:
        futures = [two.submit(load_dataset, "fashion-mnist", "data") for _ in range(2)]
    for future in futures:
        assert [len(half) for half in future.result()] == [40, 20]
    assert files() == ALL_FILES
    tally("HTTP faults", "two at once, one whole set")
