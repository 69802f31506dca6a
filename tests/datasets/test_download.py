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
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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


REDIRECTS = {
    "redirects for ever": "",
    "redirects to nowhere": "http://127.0.0.1:1/",
    "redirects to a file": "file:///etc/passwd",
    "redirects to nonsense": "http://[::1",
}


class Handler(BaseHTTPRequestHandler):
    server: Mirror

    def do_GET(self) -> None:
        folder, file = self.path.strip("/").split("/")
        self.server.asked.append(f"{folder}/{file}")
        fault = self.server.faults.get(folder, "")
        body = PACKED["fashion-mnist"][file.removesuffix(".gz")]
        if fault.isdecimal():
            self.send_error(int(fault))
            return
        if fault == "silent":
            self.server.released.wait(30)
            return
        if fault == "hangs up":
            return
        if fault == "no HTTP":
            self.wfile.write(b"220 mail.example.com ESMTP\r\n" * 9)
            return
        if fault == "rude":
            self.send_error(503, "\x1b[2J" + 5 * "no ")
            return
        if fault in REDIRECTS:
            self.send_response(302)
            self.send_header("Location", REDIRECTS[fault] or self.path)
            self.end_headers()
            return
        if fault == "mnist":
            body = PACKED["mnist"][file.removesuffix(".gz")]
        if fault == "wrong bytes":
            body = body[:-200] + bytes(200)
        if fault == "web page":
            body = b"<html>Please log in to use the network</html>"
        if fault == "long":
            body += b"and more"
        length = "9" * 400 if fault == "boasts" else str(len(body))
        self.send_response(200)
        if fault == "drips":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            while not self.server.released.wait(0.05):
                self.wfile.write(b"0")  # of the length of the first chunk
                self.wfile.flush()
            return
        if fault == "half a chunk":
            self.send_header("Transfer-Encoding", "chunked")
            body = b"fff\r\nnot so many"
        elif fault not in ("no length", "endless"):
            self.send_header("Content-Length", length)
        self.end_headers()
        if fault in ("short", "stalled"):
            body = body[: len(body) // 2]
        self.wfile.write(body)
        if fault == "stalled":
            self.wfile.flush()
            self.server.released.wait(30)
        if fault == "endless":
            for _ in range(2_000):  # or a client that never has enough would fill the disk
                if self.server.released.wait(0.001):
                    return
                self.wfile.write(bytes(1 << 16))

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
FAULTS = {
    "403": "HTTP 403 Forbidden",
    "404": "HTTP 404 Not Found",
    "503": "HTTP 503 Service Unavailable",
    "refused": "Connection refused",
    "silent": "no answer within ",
    "stalled": "stalled: nothing came for ",
    "short": "broke off after ",
    "wrong bytes": "expected an intact gzip stream, found a damaged one",
    "web page": "expected an IDX header (00 00 08 03), found 3c 68 74 6d",
    "mnist": "expected Fashion-MNIST's train-images-idx3-ubyte, found MNIST's",
    "long": "expected an intact gzip stream, found a damaged one",
    "endless": "longer than 100,000 bytes",
    "boasts": "longer than 48,000,000 bytes",
    "drips": "stalled: nothing came for ",
    "half a chunk": "broke off in the middle",
    "hangs up": "Remote end closed connection without response",
    "no HTTP": "220 mail.example.com ESMTP",
    "rude": "HTTP 503 \x1b[2Jno no no no no",
    "redirects for ever": "redirect error that would lead to an infinite loop. The last",
    "redirects to nowhere": "Connection refused",
    "redirects to a file": "Redirection to url 'file:///etc/passwd' is not allowed",
}


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
        assert FAULTS[fault] in line
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
