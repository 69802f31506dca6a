"""Files made to do harm: each is one clear error, within five seconds and a gigabyte of memory.

They are opened in child processes that are killed beyond those limits: five seconds of work, or a
minute of waiting. Most of the files are small and promise a lot, some only keep whoever opens them.
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
    forged,
    members_of,
    object_npy,
    patched,
    with_member,
    with_zip64,
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


def with_header(change: Callable[[dict[str, Any]], object]) -> Make:
    return lambda path: write_members(
        path, forged(sound(path), lambda header: change(header) and None)
    )


def with_bytes(change: Callable[[bytes], bytes]) -> Make:
    return lambda path: (sound(path), path.write_bytes(change(path.read_bytes())))


def with_weights(value: float) -> Make:
    """Everything is right, digests included, except the weights."""

    def make(path: Path) -> None:
        vae = VAE(3, (2,), 2)
        vae.parameters["decoder.logits.b"] = value
        vae.save(path)

    return make


def deflated(path: Path) -> None:
    bomb = npy_bytes(np.zeros((4, 1 << 20)))  # 32 MiB
    write_members(path, with_member(sound(path), "encoder.mu.W.npy", bomb), zipfile.ZIP_DEFLATED)


def exabytes(data: bytes) -> bytes:
    """The table of contents says 2^62 bytes of the last member, as only zip64 can."""
    at = data.rindex(b"PK\1\2")
    data = patched(patched(data, at + 20, "<2L", 2**32 - 1, 2**32 - 1), at + 30, "<H", 20)
    extra = struct.pack("<2H2Q", 1, 16, 2**62, 2**62)
    (length,) = struct.unpack("<L", data[-10:-6])
    return patched(data[:-22] + extra + data[-22:], len(data) + 20 - 10, "<L", length + 20)


def all_in_one_place(path: Path) -> None:
    """A hundred members of a megabyte, and the file has two."""
    members = [(f"{number:03d}.npy", b"") for number in range(100)]
    write_members(path, [("000.npy", zeros(2)), *members[1:]])
    data = path.read_bytes()
    at = data.index(b"PK\1\2")
    entry = data[at : at + 46]
    table = b"".join(entry + name.encode() for name, _ in members)
    end = patched(patched(data[-22:], 12, "<L", len(table)), 16, "<L", at)
    path.write_bytes(data[:at] + table + end)


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


def a_pickle(path: Path) -> None:
    trap = object_npy(path.with_name("executed"))
    write_members(path, with_member(sound(path), "header.npy", trap))


CHECKPOINTS: dict[str, Make] = {
    **ODD_PLACES,
    "a bomb": deflated,
    "a huge shape": with_header(
        lambda header: header["arrays"]["encoder.mu.W"].update(shape=[1 << 40, 1 << 40])
    ),
    "huge layers": with_header(lambda header: header["model"].update(hidden_dims=[2**62])),
    "a huge number of pixels": with_header(lambda header: header["model"].update(input_dim=10**30)),
    "a model that is a word": with_header(lambda header: header.update(model="VAE")),
    "a model of unknown settings": with_header(lambda header: header["model"].update(rng=0)),
    "no model": with_header(lambda header: header.pop("model")),
    "weights that are not numbers": with_weights(float("nan")),
    "weights that are infinite": with_weights(float("inf")),
    "exabytes by the table of contents": with_bytes(exabytes),
    "a huge table of contents": with_bytes(lambda data: with_zip64(data, length=2**62)),
    "many members in one place": all_in_one_place,
    "a long array": a_long_array,
    "a pickle": a_pickle,
    "half of a checkpoint": with_bytes(lambda data: data[: len(data) // 2]),
    "a text": lambda path: path.write_text("hello\n" * 100_000),
}

LARGE_CHECKPOINTS: dict[str, Make] = {
    "a hundred thousand members": lambda path: path.write_bytes(many_members(100_000)),
    "half a million members": lambda path: path.write_bytes(many_members(500_000)),
    "a shape of a million numbers": with_header(
        lambda header: header["arrays"]["encoder.mu.W"].update(shape=1_000_000 * [2**33])
    ),
    "a header of a gigabyte": lambda path: write_members(
        path, with_member(sound(path), "header.npy", npy_bytes(np.full((), " " * (MAX_HEADER + 1))))
    ),
    "a header of many objects": with_text(
        "[" + ",".join((MAX_HEADER // 8 - 1) * ['{"":{}}']) + "]"
    ),
    "a header of many lists": with_text("[" + ",".join((MAX_HEADER // 3 - 1) * ["[]"]) + "]"),
    "a header of few enough lists": with_text("[" + ",".join((MAX_VALUES // 2 - 1) * ["[]"]) + "]"),
    "a header of few enough words": with_text("[" + ",".join((MAX_VALUES - 1) * ['"words"']) + "]"),
    "a header of few enough names": with_text(
        "{" + ",".join(f'"{k:06x}":1.5' for k in range(MAX_VALUES - 1)) + "}"
    ),
    "a header nested deeply": with_text("[" * (MAX_HEADER - 1)),
    "a header nested deeply in objects": with_text('{"":' * (MAX_HEADER // 4)),
    "a header with a long number": with_text('{"version": ' + "9" * 10_000_000 + "}"),
    "a header with a long fraction": with_text('{"version": 0.' + "9" * 10_000_000 + "}"),
    "a million layers": with_header(
        lambda header: header["model"].update(hidden_dims=1_000_000 * [1])
    ),
}

# ------------------------------------------------------------------ datasets

PIXELS = bytes(3 * 784)


def npz(content: bytes, method: int = zipfile.ZIP_DEFLATED, name: str = "images.npy") -> Make:
    return lambda path: zipped(path, (name, content), method=method)


def npz_that_lies(path: Path) -> None:
    """157 MB according to the table of contents, but only three pictures."""
    zipped(path, ("images.npy", npy("(200000, 28, 28)") + PIXELS), method=zipfile.ZIP_STORED)
    data = path.read_bytes()
    size = len(npy("(200000, 28, 28)")) + 200_000 * 784
    path.write_bytes(patched(data, data.rindex(b"PK\1\2") + 20, "<2L", size, size))


def with_labels(content: bytes) -> Make:
    return lambda path: zipped(
        path, ("images.npy", npy("(3, 28, 28)") + PIXELS), ("labels.npy", content)
    )


NPZ: dict[str, Make] = {
    **ODD_PLACES,
    "a bomb": npz(npy("(3, 28, 28)") + zeros(32)),
    "a bomb of another kind": npz(npy("(3, 28, 28)") + zeros(32), zipfile.ZIP_BZIP2),
    "a bomb of a header": npz(b"\x93NUMPY\2\0" + struct.pack("<L", 32 << 20) + zeros(32)),
    "a bomb of labels": with_labels(npy("(3,)") + zeros(32)),
    "a bomb of many labels": with_labels(npy(f"({32 << 20},)") + zeros(32)),
    "a bomb of one dimension": npz(npy(f"({32 << 20},)") + zeros(32)),
    "pictures that are not there": npz(npy("(250000, 28, 28)")),
    "pictures in the table of contents": npz_that_lies,
    "a huge shape": npz(npy("(10000000000000000000000, 28, 28)") + PIXELS),
    "a negative shape": npz(npy("(-3, 28, 28)") + PIXELS),
    "a nested header": npz(npy("(" * 4000 + ")" * 4000) + PIXELS),
    "a header of Python 2": npz(npy("(3L, 28L)") + PIXELS),
    "a header that runs": npz(npy("__import__('os').abort()") + PIXELS),
    "a type of a gigabyte": npz(npy("(3, 28, 28)", "'|V1000000000'") + PIXELS),
    "many fields": npz(npy("(3, 28, 28)", repr([(f"f{k}", "u1") for k in range(700)]))),
    "a pickle": lambda path: zipped(path, ("images.npy", object_npy(path.with_name("executed")))),
    "a pickle for labels": lambda path: with_labels(object_npy(path.with_name("executed")))(path),
    "names for the terminal": npz(b"", name="\x1b[2J\n\n\n\n" + 500 * "x" + ".npy"),
    "exabytes by the table of contents": lambda path: (
        npz(npy("(3, 28, 28)") + PIXELS)(path),
        path.write_bytes(exabytes(path.read_bytes())),
    ),
}


def quickly(content: bytes) -> bytes:
    return gzip.compress(content, compresslevel=1)


IDX_HEADER = bytes((0, 0, 8, 3)) + struct.pack(">3L", 3, 28, 28)


def idx(content: bytes, pack: Callable[[bytes], bytes] = quickly) -> Make:
    """A folder of IDX files, of which the first is hostile."""

    def make(path: Path) -> None:
        path.mkdir()
        images, labels = np.zeros((3, 28, 28), np.uint8), np.zeros(3, np.uint8)
        for half in ("train", "t10k"):
            (path / f"{half}-images-idx3-ubyte").write_bytes(idx_bytes(images))
            (path / f"{half}-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
        (path / "train-images-idx3-ubyte.gz").write_bytes(pack(content))

    return make


def idx_as(place: Make) -> Make:
    def make(path: Path) -> None:
        idx(b"")(path)
        for name in ("train-images-idx3-ubyte.gz", "train-images-idx3-ubyte"):
            (path / name).unlink()
            place(path / name)

    return make


GZIP_NAME = b"\x1f\x8b\x08\x08" + bytes(6)  # and a file name follows, to the next zero
IDX: dict[str, Make] = {
    **{f"{name} for pictures": idx_as(place) for name, place in ODD_PLACES.items()},
    "a bomb": idx(IDX_HEADER + zeros(32)),
    "a bomb of zeros": idx(zeros(32)),
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


def encoded(kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (28, 28), 7).save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg() -> bytes:
    """Its header says 65,535 x 65,535."""
    data = encoded("JPEG")
    return patched(data, data.index(b"\xff\xc0") + 5, ">2H", 65_535, 65_535)


def picture_as(place: Make) -> Make:
    """Only files count as pictures, and a folder without pictures is refused."""

    def make(path: Path) -> None:
        path.mkdir()
        place(path / "a.png")

    return make


IDAT = (b"IDAT", zlib.compress(bytes(28 * 29)))
PICTURES: dict[str, Make] = {
    **{f"{name} for a picture": picture_as(place) for name, place in ODD_PLACES.items()},
    "gigapixels": picture(lambda: png(IDAT, side=60_000)),
    "a hundred megapixels": picture(lambda: png(IDAT, side=10_000)),
    "more pixels than can be counted": picture(lambda: png(IDAT, side=2**31 - 1)),
    "pixels that are not there": picture(lambda: png((b"IEND", b""))),
    "a chunk longer than the file": picture(lambda: png() + struct.pack(">L", 2**31 - 1) + b"IDAT"),
    "a bomb of words": picture(lambda: png((b"zTXt", b"words\0\0" + zlib.compress(zeros(64))))),
    "a bomb of a profile": picture(lambda: png((b"iCCP", b"name\0\0" + zlib.compress(zeros(64))))),
    "half of a picture": picture(lambda: encoded("PNG")[:-30]),
    "a JPEG of gigapixels": picture(jpeg, ".jpg"),
    "a BMP of gigapixels": picture(
        lambda: patched(encoded("BMP"), 18, "<2L", 2**31 - 1, 2**31 - 1), ".bmp"
    ),
    "a GIF of gigapixels": picture(
        lambda: patched(encoded("GIF"), 6, "<2H", 65_535, 65_535), ".gif"
    ),
    "half of a WebP": picture(lambda: encoded("WEBP", lossless=True)[:-6], ".webp"),
    "another kind of file": picture(lambda: encoded("TGA")),
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

CHILD = """
import gc, json, resource, signal, sys, time
memory, seconds, waiting, kind, *paths = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_AS, (int(memory), int(memory)))
from npvae import VAE, load_dataset
from npvae.core.errors import NpvaeError
import npvae.datasets.image_folder  # so that it does not count as the memory of a file

def kilobytes(what):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(what))

for path in paths:
    gc.collect()
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak starts anew
    before, started = kilobytes("VmRSS"), time.process_time()
    signal.setitimer(signal.ITIMER_PROF, int(seconds))
    signal.alarm(int(waiting))
    try:
        VAE.load(path) if kind == "checkpoint" else load_dataset(path)
        outcome, message = "accepted", ""
    except NpvaeError as error:
        outcome, message = type(error).__name__, str(error)
    signal.alarm(0)
    signal.setitimer(signal.ITIMER_PROF, 0)
    grown = (kilobytes("VmHWM") - before) / 1024
    print(json.dumps([outcome, message, time.process_time() - started, grown]), flush=True)
"""


def open_all(kind: str, makers: dict[str, Make], most: int, folder: Path, tally: Tally) -> None:
    paths = {}
    for number, (name, make) in enumerate(makers.items()):
        paths[name] = folder / f"{number}.npz"
        make(paths[name])
    limits = [str(MEMORY), str(SECONDS), str(WAITING)]
    words = [sys.executable, "-c", CHILD, *limits, kind, *map(str, paths.values())]
    child = run(words, cwd=ROOT, timeout=None)
    results = [json.loads(line) for line in child.stdout.splitlines()]
    names = list(paths)
    assert child.returncode == 0, f"{names[len(results)]}: {child.returncode} {child.stderr}"
    assert child.stderr == ""
    wanted = "CheckpointError" if kind == "checkpoint" else "DataError"
    assert not (folder / "executed").exists()
    shutil.rmtree(folder)  # rather than keep some hundred megabytes
    for (name, path), (outcome, message, seconds, grown) in zip(
        paths.items(), results, strict=True
    ):
        assert outcome == wanted, f"{name}: {outcome}"
        assert str(path) in message, name
        assert len(message.splitlines()) <= 4, name
        assert len(message) < 700 + 2 * len(str(path)), name
        assert message.replace("\n", "").isprintable(), name
        assert seconds < SECONDS, name
        assert grown < most, f"{name}: {grown:.0f} MiB"
        print(f"{grown:7.1f} MiB {seconds:6.2f} s  {kind}: {name}: {message.splitlines()[0]}")
        tally("hostile files", "refused")


@pytest.mark.parametrize(
    ("kind", "makers", "most"),
    [
        ("checkpoint", CHECKPOINTS, SMALL),
        ("dataset", DATASETS, SMALL),
        pytest.param("checkpoint", LARGE_CHECKPOINTS, LARGE, marks=pytest.mark.slow),
        pytest.param("dataset", LARGE_DATASETS, LARGE, marks=pytest.mark.slow),
    ],
    ids=["checkpoints", "datasets", "large checkpoints", "large datasets"],
)
def test_hostile_files_are_refused(
    tmp_path: Path, kind: str, makers: dict[str, Make], most: int, tally: Tally
) -> None:
    open_all(kind, makers, most, tmp_path, tally)


SCRIPT = """
import resource, runpy, sys
memory, seconds, script, *sys.argv[1:] = sys.argv[1:]
sys.argv[0] = script
resource.setrlimit(resource.RLIMIT_AS, (int(memory), int(memory)))
resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds)))
try:
    runpy.run_path(script, run_name="__main__")
finally:
    with open("/proc/self/status") as status:
        print(next(line.split()[1] for line in status if line.startswith("VmHWM")))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "options", "exit_code", "makers"),
    [
        ("generate.py", ["prior", "--out", "made", "--checkpoint"], 4, CHECKPOINTS),
        ("generate.py", ["prior", "--out", "made", "--checkpoint"], 4, LARGE_CHECKPOINTS),
        ("train.py", ["--epochs", "1", "--out", "made", "--dataset"], 3, DATASETS),
        ("train.py", ["--epochs", "1", "--out", "made", "--dataset"], 3, LARGE_DATASETS),
    ],
    ids=["checkpoints", "large checkpoints", "datasets", "large datasets"],
)
def test_a_script_refuses_hostile_files(
    tmp_path: Path,
    script: str,
    options: list[str],
    exit_code: int,
    makers: dict[str, Make],
    tally: Tally,
) -> None:
    """A fresh process for every third, from the command line to the exit code."""
    path = tmp_path / "hostile.npz"
    for name, make in [*makers.items()][::3]:
        make(path)
        limits = [str(MEMORY), str(SECONDS)]
        limited = [sys.executable, "-c", SCRIPT, *limits, *command(script, *options, path)[1:]]
        child = run(limited, cwd=tmp_path, timeout=WAITING)
        assert child.returncode == exit_code, f"{name}: {child.returncode} {child.stderr}"
        assert child.stderr.startswith("error: "), name
        assert len(child.stderr.splitlines()) <= 4, f"{name}: {child.stderr}"
        assert "Traceback" not in child.stdout + child.stderr, name
        assert not (tmp_path / "executed").exists(), name
        assert not (tmp_path / "made").exists(), name
        peak = int(child.stdout.split()[-1]) / 1024
        print(f"{peak:7.1f} MiB  {script}: {name}")
        tally("hostile files", "refused by a script")
        shutil.rmtree(path) if path.is_dir() else path.unlink()
