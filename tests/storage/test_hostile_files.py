"""Files made to do harm: each is one clear error, within five seconds and a gigabyte of memory.

They are opened in child processes that are killed beyond those limits: five seconds of work, or
five minutes of waiting. Most of the files are small and promise a lot, some only keep whoever opens
them. Files that are only wrong are in test_checkpoint.py and in the tests of each kind of dataset.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from npvae.model import VAE
from npvae.storage.checkpoint import MAX_HEADER, MAX_VALUES, npy_bytes
from tests.datasets.own import idx_bytes
from tests.datasets.test_image_folder import png_header
from tests.datasets.test_npz_file import npy, zipped
from tests.helpers import ROOT, Tally, command, run
from tests.storage.test_checkpoint import (
    Members,
    changed,
    forged,
    members_of,
    patched,
    with_member,
    write_members,
)

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits as in Linux")

Make = Callable[[Path], object]  # writes a file or a folder to the path

SECONDS = 5  # of the processor: on a busy machine the clock says more
WAITING = 300
MEMORY = 1 << 30  # bytes of address space, NumPy and all
SMALL, LARGE = 16, 250  # MiB of memory that a file may cost before it is refused


def zeros(mebibytes: int) -> bytes:
    return bytes(mebibytes << 20)


def sparse(path: Path, start: bytes, end: bytes, size: int) -> None:
    """A file of that size, most of which is not on the disk."""
    with open(path, "wb") as file:
        file.write(start)
        file.truncate(size)
        file.seek(size - len(end))
        file.write(end)


def within(place: Make, name: str) -> Make:
    """A folder with this in it, and nothing else."""

    def make(path: Path) -> None:
        path.mkdir()
        place(path / name)

    return make


ODD_PLACES: dict[str, Make] = {
    "a pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a loop of links": lambda path: path.symlink_to(path.name),
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "an empty folder": lambda path: path.mkdir(),
    "an empty file": lambda path: path.write_bytes(b""),
    "a terabyte of zeros": lambda path: sparse(path, b"", b"", 1 << 40),
    "a terabyte of zip": lambda path: sparse(path, b"PK\3\4", b"", 1 << 40),
}


def many_members(count: int) -> bytes:
    """A zip that is nothing but its table of contents."""
    middle = bytes(24) + struct.pack("<5H2L", 6, 0, 0, 0, 0, 0, 0)  # a name of six letters
    table = b"".join(b"PK\1\2%b%06d" % (middle, number) for number in range(count))
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0, 0, len(table), 4, 0)
    return b"PK\3\4" + table + end


# ------------------------------------------------------------------ checkpoints


def sound(path: Path) -> Members:
    """The members of a sound checkpoint of a tiny model, which also stands at the path."""
    VAE(3, (2,), 2).save(path)
    return members_of(path)


def with_text(text: str) -> Make:
    """A checkpoint with this for a header, and the digest that belongs to it."""
    return lambda path: write_members(path, forged(sound(path), lambda _: text))


def with_header(*where: str, to: Any) -> Make:
    """A checkpoint whose header has another value in this place."""
    return lambda path: write_members(path, forged(sound(path), changed(*where, to=to)))


def deflated(path: Path) -> None:
    bomb = npy_bytes(np.zeros((4, 1 << 20)))  # 32 MiB
    write_members(path, with_member(sound(path), "encoder.mu.W.npy", bomb), zipfile.ZIP_DEFLATED)


def exabytes(make: Make) -> Make:
    """The table of contents says 2^62 bytes of the last member, as only zip64 can."""
    return lambda path: (make(path), path.write_bytes(exabytes_in(path.read_bytes())))


def exabytes_in(data: bytes) -> bytes:
    at = data.rindex(b"PK\1\2")
    data = patched(patched(data, at + 20, "<2L", 2**32 - 1, 2**32 - 1), at + 30, "<H", 20)
    extra = struct.pack("<2H2Q", 1, 16, 2**62, 2**62)
    (length,) = struct.unpack("<L", data[-10:-6])
    return patched(data[:-22] + extra + data[-22:], len(data) + 20 - 10, "<L", length + 20)


def a_long_array(path: Path) -> None:
    """600 MB where 16 bytes should be, and hardly any of them on the disk."""
    name, data = sound(path)[-1]
    size = 600 << 20
    local = struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 0, 0, 33, 0, size, size, len(name), 0)
    whole = path.read_bytes()
    start = whole.rindex(b"PK\3\4")
    at = whole.rindex(b"PK\1\2")
    table_at = whole.index(b"PK\1\2")
    table = patched(whole[table_at:-22], at - table_at + 20, "<2L", size, size)
    head = whole[:start] + local + name.encode()
    end = patched(whole[-22:], 16, "<L", len(head) + size)
    sparse(path, head + data, table + end, len(head) + size + len(table) + 22)


SHAPE = "arrays", "encoder.mu.W", "shape"
CHECKPOINTS: dict[str, Make] = {
    **ODD_PLACES,
    "a bomb": deflated,
    "a huge shape": with_header(*SHAPE, to=[1 << 40, 1 << 40]),
    "huge layers": with_header("model", "hidden_dims", to=[2**62]),
    "a huge number of pixels": with_header("model", "input_dim", to=10**30),
    "exabytes by the table of contents": exabytes(sound),
    "a long array": a_long_array,
}

LARGE_CHECKPOINTS: dict[str, Make] = {
    "a hundred thousand members": lambda path: path.write_bytes(many_members(100_000)),
    "half a million members": lambda path: path.write_bytes(many_members(500_000)),
    "a shape of a million numbers": with_header(*SHAPE, to=1_000_000 * [2**33]),
    "a header of a gigabyte": lambda path: write_members(
        path, with_member(sound(path), "header.npy", npy_bytes(np.full((), " " * (MAX_HEADER + 1))))
    ),
    "a header of many lists": with_text("[" + ",".join((MAX_HEADER // 3 - 1) * ["[]"]) + "]"),
    "a header of few enough lists": with_text("[" + ",".join((MAX_VALUES // 2 - 1) * ["[]"]) + "]"),
    "a header of few enough names": with_text(
        "{" + ",".join(f'"{k:06x}":1.5' for k in range(MAX_VALUES - 1)) + "}"
    ),
    "a header nested deeply": with_text("[" * (MAX_HEADER - 1)),
    "a header nested deeply in objects": with_text('{"":' * (MAX_HEADER // 4)),
    "a header with a long number": with_text('{"version": ' + "9" * 10_000_000 + "}"),
    "a header with a long fraction": with_text('{"version": 0.' + "9" * 10_000_000 + "}"),
    "a million layers": with_header("model", "hidden_dims", to=1_000_000 * [1]),
}

# ------------------------------------------------------------------ datasets

PIXELS = bytes(3 * 784)


def npz(content: bytes, method: int = zipfile.ZIP_DEFLATED, name: str = "images.npy") -> Make:
    return lambda path: zipped(path, (name, content), method=method)


def with_labels(content: bytes) -> Make:
    return lambda path: zipped(
        path, ("images.npy", npy("(3, 28, 28)") + PIXELS), ("labels.npy", content)
    )


NPZ: dict[str, Make] = {
    **ODD_PLACES,
    "a bomb": npz(npy("(3, 28, 28)") + zeros(32)),
    "a bomb of a header": npz(b"\x93NUMPY\2\0" + struct.pack("<L", 32 << 20) + zeros(32)),
    "a bomb of labels": with_labels(npy("(3,)") + zeros(32)),
    "a bomb of many labels": with_labels(npy(f"({32 << 20},)") + zeros(32)),
    "a bomb of one dimension": npz(npy(f"({32 << 20},)") + zeros(32)),
    "pictures that are not there": npz(npy("(250000, 28, 28)")),
    "a header of Python 2": npz(npy("(3L, 28L)") + PIXELS),
    "a type of a gigabyte": npz(npy("(3, 28, 28)", "'|V1000000000'") + PIXELS),
    "names for the terminal": npz(b"", name="\x1b[2J\n\n\n\n" + 500 * "x" + ".npy"),
    "exabytes by the table of contents": exabytes(npz(npy("(3, 28, 28)") + PIXELS)),
}


def quickly(content: bytes) -> bytes:
    return gzip.compress(content, compresslevel=1)


IDX_HEADER = bytes((0, 0, 8, 3)) + struct.pack(">3L", 3, 28, 28)


def idx(content: bytes, pack: Callable[[bytes], bytes] = quickly) -> Make:
    """A folder of IDX files, of which the first is hostile."""
    return idx_as(lambda path: path.with_name(f"{path.name}.gz").write_bytes(pack(content)))


def idx_as(place: Make) -> Make:
    def make(path: Path) -> None:
        path.mkdir()
        for half in ("train", "t10k"):
            (path / f"{half}-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(3, np.uint8)))
        pictures = idx_bytes(np.zeros((3, 28, 28), np.uint8))
        (path / "t10k-images-idx3-ubyte").write_bytes(pictures)
        place(path / "train-images-idx3-ubyte")

    return make


GZIP_NAME = b"\x1f\x8b\x08\x08" + bytes(6)  # and a file name follows, to the next zero
IDX: dict[str, Make] = {
    **{f"{name} for pictures": idx_as(place) for name, place in ODD_PLACES.items()},
    "a bomb": idx(IDX_HEADER + zeros(32)),
    "billions of pictures": idx(bytes((0, 0, 8, 3)) + struct.pack(">3L", 2**32 - 1, 28, 28)),
    "a quarter of a million": idx(bytes((0, 0, 8, 3)) + struct.pack(">3L", 250_000, 28, 28)),
    "two hundred dimensions": idx(b"\0\0\x08\xff" + zeros(1)),
    "half a million streams": idx(gzip.compress(b"") * 500_000, pack=bytes),
}


def picture(content: Callable[[], bytes], suffix: str = ".png") -> Make:
    """A folder of pictures, one of them hostile."""

    def make(path: Path) -> None:
        path.mkdir()
        for name in ("a", "b", "d"):
            Image.new("L", (28, 28)).save(path / f"{name}.png")
        (path / f"c{suffix}").write_bytes(content())

    return make


def png(*chunks: tuple[bytes, bytes], side: int = 28) -> bytes:
    parts = [png_header(side, side)]
    for kind, data in chunks:
        parts.append(struct.pack(">L", len(data)) + kind + data)
        parts.append(struct.pack(">L", zlib.crc32(kind + data)))
    return b"".join(parts)


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (28, 28), 7).save(buffer, kind)
    return buffer.getvalue()


def jpeg() -> bytes:
    """Its header says 65,535 x 65,535."""
    data = encoded("JPEG")
    return patched(data, data.index(b"\xff\xc0") + 5, ">2H", 65_535, 65_535)


IDAT = (b"IDAT", zlib.compress(bytes(28 * 29)))
PICTURES: dict[str, Make] = {
    **{f"{name} for a picture": within(place, "a.png") for name, place in ODD_PLACES.items()},
    "gigapixels": picture(lambda: png(IDAT, side=60_000)),
    "a hundred megapixels": picture(lambda: png(IDAT, side=10_000)),
    "more pixels than can be counted": picture(lambda: png(IDAT, side=2**31 - 1)),
    "a chunk longer than the file": picture(lambda: png() + struct.pack(">L", 2**31 - 1) + b"IDAT"),
    "a bomb of words": picture(lambda: png((b"zTXt", b"words\0\0" + zlib.compress(zeros(64))))),
    "a bomb of a profile": picture(lambda: png((b"iCCP", b"name\0\0" + zlib.compress(zeros(64))))),
    "a JPEG of gigapixels": picture(jpeg, ".jpg"),
    "a BMP of gigapixels": picture(
        lambda: patched(encoded("BMP"), 18, "<2L", 2**31 - 1, 2**31 - 1), ".bmp"
    ),
    "a GIF of gigapixels": picture(
        lambda: patched(encoded("GIF"), 6, "<2H", 65_535, 65_535), ".gif"
    ),
}

DATASETS = {
    **{f"npz: {name}": make for name, make in NPZ.items()},
    **{f"IDX: {name}": make for name, make in IDX.items()},
    **{f"pictures: {name}": make for name, make in PICTURES.items()},
}

LARGE_DATASETS: dict[str, Make] = {
    "a hundred thousand members": lambda path: path.write_bytes(many_members(100_000)),
    "half a million members": lambda path: path.write_bytes(many_members(500_000)),
    "a name of 100 MB": idx(GZIP_NAME + b"x" * 100_000_000, pack=bytes),
    "nothing for ever": idx(
        b"\x1f\x8b\x08\0" + bytes(6) + b"\0\0\0\xff\xff" * 10_000_000, pack=bytes
    ),
    "a long chunk": picture(lambda: png((b"prVt", zeros(100)), IDAT)),
    "many chunks": picture(lambda: png(*100_000 * [(b"prVt", b"")])),
    "a long JPEG": picture(lambda: encoded("JPEG") + zeros(100), ".jpg"),
}

# ------------------------------------------------------------------ what comes of them

LIMITS = f"""
import resource, sys
seconds = {SECONDS}
resource.setrlimit(resource.RLIMIT_AS, ({MEMORY}, {MEMORY}))
exec(sys.argv.pop(1))
"""
LIMITED = [sys.executable, "-c", LIMITS]
CHILD = """
import gc, json, signal, time
from npvae import VAE, load_dataset
from npvae.core.errors import NpvaeError
import npvae.datasets.image_folder  # so that it does not count as the memory of a file
waiting, kind, *paths = sys.argv[1:]

def kilobytes(what):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(what))

for path in paths:
    gc.collect()
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak starts anew
    before, started = kilobytes("VmRSS"), time.process_time()
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.alarm(int(waiting))
    try:
        VAE.load(path) if kind == "Checkpoint" else load_dataset(path)
        outcome, message = "accepted", ""
    except NpvaeError as error:
        outcome, message = type(error).__name__, str(error)
    signal.alarm(0)
    signal.setitimer(signal.ITIMER_PROF, 0)
    grown = (kilobytes("VmHWM") - before) / 1024
    print(json.dumps([outcome, message, time.process_time() - started, grown]), flush=True)
"""


@pytest.mark.parametrize(
    ("kind", "makers", "most"),
    [
        ("Checkpoint", CHECKPOINTS, SMALL),
        ("Data", DATASETS, SMALL),
        pytest.param("Checkpoint", LARGE_CHECKPOINTS, LARGE, marks=pytest.mark.slow),
        pytest.param("Data", LARGE_DATASETS, LARGE, marks=pytest.mark.slow),
    ],
    ids=["checkpoints", "datasets", "large checkpoints", "large datasets"],
)
def test_hostile_files_are_refused(
    tmp_path: Path, kind: str, makers: dict[str, Make], most: int, tally: Tally
) -> None:
    paths = [tmp_path / f"{number}.npz" for number in range(len(makers))]
    for path, make in zip(paths, makers.values(), strict=True):
        make(path)
    child = run([*LIMITED, CHILD, str(WAITING), kind, *map(str, paths)], ROOT, timeout=None)
    results = [json.loads(line) for line in child.stdout.splitlines()]
    assert child.returncode == 0, f"{[*makers, None][len(results)]}: {child}"
    assert child.stderr == ""
    shutil.rmtree(tmp_path)  # rather than keep some hundred megabytes
    for name, path, result in zip(makers, paths, results, strict=True):
        outcome, message, seconds, grown = result
        assert outcome == f"{kind}Error", f"{name}: {outcome}"
        assert str(path) in message, name
        assert len(message.splitlines()) <= 4, name
        assert len(message) < 700 + 2 * len(str(path)), name
        assert message.replace("\n", "").isprintable(), name
        assert seconds < SECONDS, name
        assert grown < most, f"{name}: {grown:.0f} MiB"
        print(f"{grown:7.1f} MiB {seconds:6.2f} s  {kind}: {name}: {message.splitlines()[0]}")
        tally("hostile files", "refused")


SCRIPT = """
import runpy
script, *sys.argv[1:] = sys.argv[1:]
sys.argv[0] = script
resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
runpy.run_path(script, run_name="__main__")
"""
TO_GENERATE = ["generate.py", "prior", "--out", "made", "--checkpoint"]
TO_TRAIN = ["train.py", "--epochs", "1", "--out", "made", "--dataset"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "exit_code", "makers"),
    [
        (TO_GENERATE, 4, {**CHECKPOINTS, **LARGE_CHECKPOINTS}),
        (TO_TRAIN, 3, {**DATASETS, **LARGE_DATASETS}),
    ],
    ids=["checkpoints", "datasets"],
)
def test_a_script_refuses_hostile_files(
    here: Path, words: list[str], exit_code: int, makers: dict[str, Make], tally: Tally
) -> None:
    """A fresh process for each, from the command line to the exit code."""
    path = here / "hostile.npz"
    for name, make in makers.items():
        make(path)
        child = run([*LIMITED, SCRIPT, *command(*words, path)[1:]], here, timeout=WAITING)
        assert child.returncode == exit_code, f"{name}: {child}"
        assert child.stderr.startswith("error: "), name
        assert len(child.stderr.splitlines()) <= 4, f"{name}: {child.stderr}"
        assert not (here / "made").exists(), name
        tally("hostile files", "refused by a script")
        shutil.rmtree(path) if path.is_dir() else path.unlink()
