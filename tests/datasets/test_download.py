"""A file comes down whole and right or not at all, whatever the mirrors do.

The mirrors are two folders, /first/ and /second/, of a server on this machine.
"""

import contextlib
import gc
import gzip
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, cycle
from pathlib import Path
from typing import Any

import pytest

from npvae.core.errors import DataError
from npvae.datasets import download, load_dataset, standard_files
from npvae.datasets.standard import FILES, STANDARD
from npvae.runs.terminal import harmless
from npvae.storage.files import new_temporary
from tests.datasets.own import published, stand_in
from tests.helpers import full_disk

SETS = {"fashion-mnist": published(40, 20), "mnist": published(40, 20)}
PACKED = {
    name: dict(zip(files, map(gzip.compress, files.values()), strict=True))
    for name, files in SETS.items()
}


class Mirror(ThreadingHTTPServer):
    """Serves Fashion-MNIST, except where `faults` says otherwise of a folder."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.faults: dict[str, str] = {}
        self.asked: list[str] = []
        self.released = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"


Piece = bytes | float  # what a mirror sends, or seconds that it waits
MUCH: list[Piece] = [bytes(1 << 16), 0.001]
CHUNKED, NO_LENGTH = "Transfer-Encoding: chunked", "X-Length: unknown"


def reply(body: bytes = b"", headers: str = "", status: str = "200 OK") -> bytes:
    """An answer of HTTP; unless other headers are given, they tell the length of its body."""
    headers = headers or f"Content-Length: {len(body)}"
    return f"HTTP/1.0 {status}\r\n{headers}\r\n\r\n".encode() + body


def half(body: bytes) -> bytes:
    return reply(body)[: -len(body) // 2]


def redirect(url: str) -> bytes:
    return reply(headers=f"Location: {url}", status="302 Found")


# What is said of a mirror, and what it does instead of sending the body of the file.
FAULTS: dict[str, tuple[str, Callable[[bytes], Iterable[Piece]]]] = {
    "403": ("HTTP 403 Forbidden", lambda body: [reply(status="403 Forbidden")]),
    "404": ("HTTP 404 Not Found", lambda body: [reply(status="404 Not Found")]),
    "503": ("HTTP 503 Sorry", lambda body: [reply(status="503 Sorry")]),
    "refused": ("Connection refused", lambda body: []),  # see set_fault
    "silent": ("no answer within ", lambda body: [30.0]),
    "stalled": ("stalled: nothing came for ", lambda body: [half(body), 30.0]),
    "short": ("broke off after ", lambda body: [half(body)]),
    "wrong bytes": (
        "expected an intact gzip stream, found a damaged one",
        lambda body: [reply(body[:-200] + bytes(200))],
    ),
    "web page": (
        "expected an IDX header (00 00 08 03), found 3c 68 74 6d",
        lambda body: [reply(b"<html>Please log in to use the network</html>")],
    ),
    "mnist": (
        "expected Fashion-MNIST's train-images-idx3-ubyte, found MNIST's",
        lambda body: [reply(PACKED["mnist"][FILES[0]])],
    ),
    "long": (
        "expected an intact gzip stream, found a damaged one",
        lambda body: [reply(body + b"and more")],
    ),
    "endless": (  # not quite: a client that never has enough would fill the disk
        "longer than 100,000 bytes",
        lambda body: chain([reply(headers=NO_LENGTH)], 2_000 * MUCH),
    ),
    "boasts": (
        "longer than 48,000,000 bytes",
        lambda body: [reply(body, f"Content-Length: {400 * '9'}")],
    ),
    "drips": (  # the length of the first chunk
        "stalled: nothing came for ",
        lambda body: chain([reply(headers=CHUNKED)], cycle([b"0", 0.05])),
    ),
    "half a chunk": (
        "broke off in the middle",
        lambda body: [reply(b"fff\r\nnot so many", CHUNKED)],
    ),
    "hangs up": ("Remote end closed connection without response", lambda body: []),
    "no HTTP": (
        "220 mail.example.com ESMTP",
        lambda body: [9 * b"220 mail.example.com ESMTP\r\n"],
    ),
    "rude": (
        "HTTP 503 \x1b[2Jno no no no no",
        lambda body: [reply(status="503 \x1b[2J" + 5 * "no ")],
    ),
    "redirects for ever": (
        "redirect error that would lead to an infinite loop. The last",
        lambda body: [redirect(f"{FILES[0]}.gz")],
    ),
    "redirects to nowhere": ("Connection refused", lambda body: [redirect("http://127.0.0.1:1/")]),
    "redirects to a file": (
        "Redirection to url 'file:///etc/passwd' is not allowed",
        lambda body: [redirect("file:///etc/passwd")],
    ),
}
ANSWERS = {fault: answer for fault, (_, answer) in FAULTS.items()} | {
    "": lambda body: [reply(body)],
    "no length": lambda body: [reply(body, NO_LENGTH)],
    "redirects to nonsense": lambda body: [redirect("http://[::1")],
}


class Handler(BaseHTTPRequestHandler):
    server: Mirror

    def do_GET(self) -> None:
        folder, file = self.path.strip("/").split("/")
        self.server.asked.append(f"{folder}/{file}")
        body = PACKED["fashion-mnist"][file.removesuffix(".gz")]
        for piece in ANSWERS[self.server.faults.get(folder, "")](body):
            if isinstance(piece, bytes):
                self.wfile.write(piece)
            elif self.server.released.wait(piece):
                return

    def log_message(self, format: str, *args: object) -> None:
        pass

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # the client went away, as it should
            super().handle()


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    server = Mirror()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    urls = (f"{server.url}/first/", f"{server.url}/second/")
    stand_in(monkeypatch, SETS, *urls)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "CONNECT_SECONDS", 20.0)  # for machines under load
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


Tally = Callable[[str, str], None]
ALL_FILES = sorted(f"{file}.gz" for file in FILES)


def set_fault(
    server: Mirror,
    monkeypatch: pytest.MonkeyPatch,
    folders: tuple[str, ...],
    fault: str,
    seconds: float,
) -> None:
    """Give the folders a fault; `seconds` is the patience with a mirror that says nothing."""
    server.faults = dict.fromkeys(folders, fault)
    if fault == "silent":
        monkeypatch.setattr(download, "CONNECT_SECONDS", seconds)
    if fault in ("stalled", "drips"):
        monkeypatch.setattr(download, "STALL_SECONDS", seconds)
    if fault == "endless":
        monkeypatch.setattr(standard_files, "_MAX_DOWNLOAD", 100_000)
    if fault == "refused":
        urls = [f"{server.url}/{folder}/" for folder in ("first", "second")]
        for index, folder in enumerate(("first", "second")):
            if folder in folders:
                urls[index] = f"http://127.0.0.1:1/{folder}/"
        stand_in(monkeypatch, SETS, *urls)


def test_downloads_verifies_and_keeps(mirror: Mirror, tmp_path: Path) -> None:
    lines: list[str] = []
    train, test = load_dataset("fashion-mnist", tmp_path, lines.append)
    assert (len(train), len(test)) == (40, 20)
    assert train.source == f"downloaded from {mirror.url}/first/"
    assert names_in(tmp_path / "fashion-mnist") == ALL_FILES
    assert len(lines) == 4
    size = len(PACKED["fashion-mnist"]["train-images-idx3-ubyte"]) / 1e6
    url = f"{mirror.url}/first/train-images-idx3-ubyte.gz"
    assert lines[0] == f"Downloading train-images-idx3-ubyte.gz ({size:.1f} MB) from {url}"
    again, _ = load_dataset("fashion-mnist", tmp_path, lines.append)
    assert again.images.tobytes() == train.images.tobytes()
    assert len(lines) == len(mirror.asked) == 4


def test_a_mirror_that_tells_no_length(mirror: Mirror, tmp_path: Path) -> None:
    mirror.faults = {"first": "no length"}
    assert len(load_dataset("fashion-mnist", tmp_path)[0]) == 40


@pytest.mark.parametrize("fault", FAULTS)
def test_next_mirror_after(
    fault: str, mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    set_fault(mirror, monkeypatch, ("first",), fault, seconds=1.0)
    train, _ = load_dataset("fashion-mnist", tmp_path)
    assert len(train) == 40
    assert train.source == f"downloaded from {mirror.url}/second/"
    assert names_in(tmp_path / "fashion-mnist") == ALL_FILES
    # The mirror that failed is not asked for the other three files.
    assert sum(asked.startswith("first/") for asked in set(mirror.asked)) == (fault != "refused")
    tally("HTTP faults", "next mirror")


@pytest.mark.parametrize("fault", FAULTS)
def test_no_mirror_left_after(
    fault: str, mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    set_fault(mirror, monkeypatch, ("first", "second"), fault, seconds=0.2)
    with pytest.raises(DataError) as error:
        load_dataset("fashion-mnist", tmp_path)
    lines = str(error.value).splitlines()
    assert len(lines) == 4
    for folder, line in zip(("first", "second"), lines[1:3], strict=True):
        assert f"/{folder}/train-images-idx3-ubyte.gz: " in line
        assert FAULTS[fault][0] in line
    assert names_in(tmp_path / "fashion-mnist") == []
    assert len(set(mirror.asked)) == (0 if fault == "refused" else 2)  # one file was enough to know
    assert harmless(str(error.value)).replace("\n", "").isprintable()
    tally("HTTP faults", "refused, every URL named")


def test_a_redirect_that_leaves_http(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    """urllib follows one to ftp://, and what comes back is no answer of HTTP."""
    original = urllib.request.urlopen

    def urlopen(request: urllib.request.Request, **named: Any) -> Any:
        first = "/first/" in request.full_url
        return contextlib.nullcontext() if first else original(request, **named)

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    train, _ = load_dataset("fashion-mnist", tmp_path)
    assert train.source == f"downloaded from {mirror.url}/second/"
    tally("HTTP faults", "next mirror")


def test_a_file_that_somebody_exchanges_after_the_check(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    """It is read a second time, and verified a second time."""
    original = download.download

    def exchanging(urls: Any, target: Path, *rest: Any) -> str:
        url = original(urls, target, *rest)
        target.write_bytes(PACKED["mnist"][target.name.removesuffix(".gz")])
        return url

    monkeypatch.setattr(download, "download", exchanging)
    with pytest.raises(DataError, match=r"expected Fashion-MNIST's .*, found MNIST's"):
        load_dataset("fashion-mnist", tmp_path)
    tally("HTTP faults", "refused, every URL named")


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # by urllib, of such a reply
def test_a_redirect_to_nonsense(mirror: Mirror, tmp_path: Path, tally: Tally) -> None:
    mirror.faults = {"first": "redirects to nonsense"}
    train, _ = load_dataset("fashion-mnist", tmp_path)
    assert train.source == f"downloaded from {mirror.url}/second/"
    gc.collect()
    tally("HTTP faults", "next mirror")


def test_a_stalled_name_look_up_costs_seconds(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 2 * download.CONNECT_SECONDS > 5, "raised for the test server"
    monkeypatch.setattr(download, "CONNECT_SECONDS", 0.2)

    def stall(*args: object, **kwargs: object) -> None:
        mirror.released.wait(30)
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    monkeypatch.setattr(socket, "getaddrinfo", stall)
    started = time.monotonic()
    with pytest.raises(DataError, match=r"(?s)no answer within 0\.2 s.*no answer within 0\.2 s"):
        load_dataset("fashion-mnist", tmp_path)
    assert time.monotonic() - started < 15


def test_a_name_that_cannot_be_looked_up(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(DataError, match=r"ubyte.gz: the name cannot be looked up \(no network\?\)"):
        load_dataset("fashion-mnist", tmp_path)


def test_an_answer_that_comes_too_late_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    asked_for, closed = threading.Event(), threading.Event()

    class Late:
        def __enter__(self) -> None:
            pass

        def __exit__(self, *_: object) -> None:
            closed.set()

    def urlopen(*args: object, **kwargs: object) -> Late:
        asked_for.wait(30)
        return Late()

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    monkeypatch.setattr(download, "CONNECT_SECONDS", 0.05)
    with pytest.raises(DataError, match=r"no answer within 0.05 s"):
        next(download._arriving("http://127.0.0.1:1/"))
    asked_for.set()
    assert closed.wait(30)


def test_time_limits_as_shipped() -> None:
    for about in STANDARD.values():
        assert len(about.mirrors) * download.CONNECT_SECONDS <= 5
        assert all(url.startswith("https://") for url in about.mirrors)


@pytest.mark.parametrize("seconds", [0.0, 0.3])
def test_a_mirror_that_goes_on_and_on_runs_into_the_limit(
    seconds: float, mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror.faults = {"first": "drips", "second": "endless"}
    monkeypatch.setattr(download, "FILE_SECONDS", seconds)
    monkeypatch.setattr(standard_files, "_MAX_DOWNLOAD", 10**12)
    started = time.monotonic()
    with pytest.raises(DataError) as error:
        load_dataset("fashion-mnist", tmp_path)
    assert str(error.value).count(f"not finished within {seconds:g} s") == 2
    assert time.monotonic() - started < 10
    assert names_in(tmp_path / "fashion-mnist") == []


def test_all_bytes_are_in_the_file_when_it_is_forced_to_the_disk(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def fsync(descriptor: int) -> None:
        sizes.append(os.fstat(descriptor).st_size)

    monkeypatch.setattr(os, "fsync", fsync)
    load_dataset("fashion-mnist", tmp_path)
    assert sizes == [len(body) for body in PACKED["fashion-mnist"].values()]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_interrupt_leaves_no_partial_file(
    call: str, mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*args: object) -> None:
        assert len(names_in(tmp_path / "fashion-mnist")) == 1, "the partial file is there"
        raise KeyboardInterrupt

    monkeypatch.setattr(os, call, interrupt)
    with pytest.raises(KeyboardInterrupt):
        load_dataset("fashion-mnist", tmp_path)
    assert names_in(tmp_path / "fashion-mnist") == []


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_full_disk_is_named(
    call: str, mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, call, full_disk)
    with pytest.raises(DataError, match="No space left on device"):
        load_dataset("fashion-mnist", tmp_path)
    assert names_in(tmp_path / "fashion-mnist") == []


def test_leftovers_of_a_killed_download_are_removed(mirror: Mirror, tmp_path: Path) -> None:
    folder = tmp_path / "fashion-mnist"
    folder.mkdir()
    old, young = (new_temporary(folder) for _ in range(2))
    for part in (old, young):
        part.touch()
    os.utime(old, (0, 0))
    load_dataset("fashion-mnist", tmp_path)
    assert names_in(folder) == sorted([*ALL_FILES, young.name])


CHILD = """
import sys
from npvae.datasets import download, load_dataset
from npvae.datasets.standard import STANDARD
changed = {"mirrors": (sys.argv[1],), "sha256": tuple(sys.argv[3:])}
STANDARD["fashion-mnist"] = STANDARD["fashion-mnist"]._replace(**changed)
download.CONNECT_SECONDS = 20
train, test = load_dataset("fashion-mnist", sys.argv[2])
print(len(train), len(test))
"""


def test_two_processes_at_once(mirror: Mirror, tmp_path: Path, tally: Tally) -> None:
    command = [sys.executable, "-c", CHILD, f"{mirror.url}/first/", str(tmp_path)]
    children = [
        subprocess.Popen(
            [*command, *STANDARD["fashion-mnist"].sha256],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        for _ in range(2)
    ]
    assert [child.communicate(timeout=60)[0] for child in children] == ["40 20\n"] * 2
    assert names_in(tmp_path / "fashion-mnist") == ALL_FILES
    tally("HTTP faults", "two processes, one whole set")
