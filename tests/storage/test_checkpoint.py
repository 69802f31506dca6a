"""A checkpoint loads bit by bit as it was saved, or not at all: any damage is one clear error.

Nothing that a file says is believed. So files are cut, flipped bit by bit, mutated, and forged with
care, digests and all; whatever is not refused has to be what was saved.
"""

import ast
import io
import json
import os
import random
import struct
import tracemalloc
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import npvae
from npvae import VAE
from npvae.core.errors import CheckpointError, OutputError
from npvae.storage import checkpoint
from npvae.storage.checkpoint import npy_bytes
from tests.helpers import SCRIPTS, Tally

HEADER: dict[str, Any] = {"epoch": 3, "numbers": [0.1, 1 / 3, 1e-300, 243.5000000000001]}
ARRAYS: dict[str, Any] = {
    "w": np.arange(6, dtype=np.float32).reshape(2, 3) / 7,
    "b": np.array([np.nan, -0.0, np.inf, 1e-320]),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "last.npz"


def same_bits(loaded: dict[str, Any], saved: dict[str, Any]) -> bool:
    return list(loaded) == list(saved) and all(
        (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
        for a, b in zip(loaded.values(), saved.values(), strict=True)
    )


def refusal(path: Path, load: Callable[[Path], object] = checkpoint.load) -> str:
    with pytest.raises(CheckpointError) as caught:
        load(path)
    return str(caught.value)


def assert_refused(path: Path, *reasons: str) -> None:
    message = refusal(path)
    assert str(path) in message
    assert len(message.splitlines()) <= 4
    assert len(message) < 400 + len(str(path))
    assert all(reason in message for reason in reasons), message


# ------------------------------------------------------------------ there and back


def test_header_and_arrays_come_back_to_the_bit(path: Path) -> None:
    checkpoint.save(path, HEADER, ARRAYS)
    header, arrays = checkpoint.load(path)
    assert {name: header[name] for name in HEADER} == HEADER
    assert [value.hex() for value in header["numbers"]] == [v.hex() for v in HEADER["numbers"]]
    assert same_bits(arrays, ARRAYS)
    assert all(a.flags.writeable and a.flags.c_contiguous for a in arrays.values())


def test_anybody_may_read_it_with_numpy(path: Path) -> None:
    checkpoint.save(path, HEADER, ARRAYS)
    with np.load(path, allow_pickle=False) as file:
        assert set(file.files) == {"header", "digest", "w", "b"}
        assert same_bits({name: file[name] for name in ARRAYS}, ARRAYS)
        header = json.loads(str(file["header"]))
        assert header["numbers"] == HEADER["numbers"]
        assert header["arrays"]["w"]["sha256"] == sha256(ARRAYS["w"].tobytes()).hexdigest()


def test_the_same_state_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        checkpoint.save(tmp_path / name, HEADER, {k: a.copy() for k, a in ARRAYS.items()})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3).T,
        np.arange(12.0)[::2],
        np.arange(3.0).astype(">f8"),
        np.zeros((0, 5), np.float32),
        np.ones((1, 4)),
        np.ones((1, 1, 1, 1)),
    ],
    ids=["transposed", "strided", "big-endian", "empty", "one row", "one number"],
)
def test_any_layout_comes_back_by_value(path: Path, array: Any) -> None:
    checkpoint.save(path, {}, {"a": array})
    loaded = checkpoint.load(path)[1]["a"]
    np.testing.assert_array_equal(loaded, array)
    assert loaded.shape == array.shape
    assert loaded.dtype == array.dtype.newbyteorder("=")


def test_no_arrays_and_an_empty_header(path: Path) -> None:
    checkpoint.save(path, {}, {})
    assert checkpoint.load(path)[1] == {}


def test_words_of_any_language(path: Path) -> None:
    header = {"note": "\u00e9\u4e2d\U0001f600 \x00 \\ \" '"}
    checkpoint.save(path, header, {})
    assert checkpoint.load(path)[0]["note"] == header["note"]


def test_a_single_number_keeps_its_shape(path: Path) -> None:
    checkpoint.save(path, {}, {"a": np.array(1.5)})
    assert checkpoint.load(path)[1]["a"].shape == ()


@pytest.mark.parametrize("dtype", [np.int64, np.float16, bool])
def test_what_could_not_be_loaded_is_not_saved(path: Path, dtype: Any) -> None:
    with pytest.raises(ValueError, match="a checkpoint holds float32 and float64 arrays, not"):
        checkpoint.save(path, {}, {"a": np.ones(3, dtype)})
    assert not path.exists()


# ------------------------------------------------------------------ what is no checkpoint


def test_the_whole_message(path: Path) -> None:
    assert refusal(path) == (
        f"the checkpoint {path} cannot be used: there is no such file.\n"
        "Train a model first, or name another checkpoint."
    )
    checkpoint.save(path, HEADER, ARRAYS)
    path.write_bytes(path.read_bytes()[:-1])
    assert refusal(path) == (
        f"the checkpoint {path} cannot be used: it is cut short or damaged.\n"
        "Use another checkpoint, or train again."
    )


@pytest.mark.usefixtures("time_limit")
def test_what_is_no_file(tmp_path: Path) -> None:
    assert_refused(
        tmp_path, "it is a folder, not a file", "Name a file that you are allowed to read."
    )
    (tmp_path / "loop").symlink_to("loop")
    assert_refused(tmp_path / "loop", "symbolic links")
    assert_refused(tmp_path / ("x" * 300), "name too long")
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):  # to open one, or to read it, has no end
        assert_refused(path, "it is a pipe or a device, not a file")


@pytest.mark.parametrize("data", [b"", b"PK", b"hello\n" * 99, b"\x93NUMPY\x01\x00"])
def test_a_file_of_something_else(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    assert_refused(path, "it is not an .npz file")


def test_an_npz_of_somebody_else(path: Path) -> None:
    np.savez(path, w=ARRAYS["w"])
    assert_refused(path, "it is an .npz file, but not a checkpoint of npvae")


def test_a_file_that_does_not_fit_into_memory(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise MemoryError

    checkpoint.save(path, HEADER, ARRAYS)
    monkeypatch.setattr(np, "frombuffer", full)
    assert_refused(path, "there is not enough memory to load it", "Close other programs first.")


# ------------------------------------------------------------------ damage by chance


class Tiny(NamedTuple):
    """The smallest VAE there is, in a checkpoint of some 9,000 bytes."""

    header: dict[str, Any]
    arrays: dict[str, Any]
    data: bytes


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    vae = VAE(1, (1,), 1)
    vae.parameters.flat[:] = np.random.default_rng(0).normal(0, 1, vae.parameters.flat.shape)
    path = tmp_path_factory.mktemp("tiny") / "tiny.npz"
    checkpoint.save(path, {**HEADER, "model": vae.settings}, vae.parameters)
    return Tiny(*checkpoint.load(path), path.read_bytes())


def outcome(path: Path, data: bytes, tiny: Tiny, which: str) -> str:
    """The result of damaged bytes: "refused", or "harmless" if all arrays are bit-identical."""
    path.unlink(missing_ok=True)  # ext4 waits for the disk when an old file is written over
    path.write_bytes(data)
    try:
        header, arrays = checkpoint.load(path)
    except CheckpointError as error:
        message = str(error)
    else:
        assert json.dumps(header) == json.dumps(tiny.header), f"another header: {which}"
        assert same_bits(arrays, tiny.arrays), f"other arrays: {which}"
        return "harmless"
    assert str(path) in message, which
    assert len(message.splitlines()) <= 4, which
    assert message.isascii() or not str(path).isascii(), which
    return "refused"


def cut_everywhere(path: Path, tiny: Tiny, tally: Tally, stride: int) -> None:
    for length in range(0, len(tiny.data), stride):
        which = f"cut to {length} bytes"
        assert outcome(path, tiny.data[:length], tiny, which) == "refused", which
        tally("checkpoint: truncations", "refused")


def flip_every_bit(path: Path, tiny: Tiny, tally: Tally, stride: int) -> None:
    outcomes = Counter[str]()
    for position in range(0, 8 * len(tiny.data), stride):
        flipped = bytearray(tiny.data)
        flipped[position // 8] ^= 1 << position % 8
        found = outcome(path, bytes(flipped), tiny, f"bit {position} flipped")
        outcomes[found] += 1
        tally("checkpoint: single bits flipped", found)
    # Dates, permissions and the like of the zip format carry nothing of ours: some 3 %.
    assert outcomes["harmless"] < 0.1 * outcomes.total()


def mutate(data: bytes, rng: random.Random) -> bytes:
    """One to three of: bytes changed, zeroed, removed, doubled, swapped, or put in."""
    mutant = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        start = rng.randrange(len(mutant))
        stop = min(len(mutant), start + rng.choice([1, 2, 4, 30, 400]))
        chunk = bytes(mutant[start:stop])
        elsewhere = rng.randrange(len(mutant))
        match rng.randrange(6):
            case 0:
                mutant[start:stop] = rng.randbytes(len(chunk))
            case 1:
                mutant[start:stop] = bytes(len(chunk))
            case 2:
                del mutant[start:stop]
            case 3:
                mutant[start:start] = chunk
            case 4:
                mutant[elsewhere : elsewhere + len(chunk)] = chunk
            case 5:
                mutant[start:start] = rng.randbytes(rng.randint(1, 40))
    return bytes(mutant)


def mutate_often(path: Path, tiny: Tiny, tally: Tally, count: int) -> None:
    for seed in range(count):
        mutant = mutate(tiny.data, random.Random(seed))
        tally("checkpoint: mutations", outcome(path, mutant, tiny, f"seed {seed}"))


def test_the_tiny_checkpoint_is_sound(path: Path, tiny: Tiny) -> None:
    assert outcome(path, tiny.data, tiny, "unchanged") == "harmless"
    assert same_bits(dict(VAE.load(path).parameters), tiny.arrays)


@pytest.mark.parametrize("stride", [31, pytest.param(1, marks=pytest.mark.slow)])
def test_truncations(path: Path, tiny: Tiny, tally: Tally, stride: int) -> None:
    cut_everywhere(path, tiny, tally, stride)


@pytest.mark.parametrize("stride", [101, pytest.param(1, marks=pytest.mark.slow)])
def test_bit_flips(path: Path, tiny: Tiny, tally: Tally, stride: int) -> None:
    flip_every_bit(path, tiny, tally, stride)


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_mutations(path: Path, tiny: Tiny, tally: Tally, count: int) -> None:
    mutate_often(path, tiny, tally, count)


# ------------------------------------------------------------------ damage on purpose

Members = list[tuple[str, bytes]]


def members_of(path: Path) -> Members:
    with zipfile.ZipFile(path) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


def write_members(path: Path, members: Members, compression: int = zipfile.ZIP_STORED) -> None:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", compression) as archive:
        warnings.simplefilter("ignore")  # zipfile warns of a name that it writes twice
        for name, data in members:
            archive.writestr(name, data)


def with_member(members: Members, name: str, data: bytes) -> Members:
    return [(n, data if n == name else d) for n, d in members]


def forged(members: Members, change: Callable[[dict[str, Any]], Any]) -> Members:
    """Another header, with the digest that belongs to it."""
    raw = np.load(io.BytesIO(dict(members)["header.npy"]), allow_pickle=False)
    header = json.loads(str(raw))
    header = change(header) or header
    text = header if isinstance(header, str) else json.dumps(header)
    members = with_member(members, "header.npy", npy_bytes(np.array(text)))
    digest = np.array(sha256(text.encode()).hexdigest())
    return with_member(members, "digest.npy", npy_bytes(digest))


@pytest.fixture
def members(path: Path) -> Members:
    checkpoint.save(path, HEADER, ARRAYS)
    return members_of(path)


def test_rewriting_the_members_is_no_damage(path: Path, members: Members) -> None:
    """So the refusals below are due to the forged contents, not to how this file zips them."""
    write_members(path, forged(members, lambda header: header))
    assert same_bits(checkpoint.load(path)[1], ARRAYS)


def about(name: str, **changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda header: header["arrays"][name].update(changes)


OTHER_KIND = "its array 'w' has another shape or type than was saved"
OTHER_NUMBERS = "its array 'w' is not what was saved"
OTHER_MEMBERS = "an array is missing, or there is one too many"
TWINS = "two of its members have the same name"
NOT_OURS = "it is an .npz file, but not a checkpoint of npvae"
NOT_NUMPY = "its member 'w' is not as NumPy writes it"
DAMAGED = "it is damaged"

FORGED_HEADERS: dict[str, tuple[str, Callable[[dict[str, Any]], Any]]] = {
    "huge shape": (OTHER_KIND, about("w", shape=[10**12, 10**6])),
    "overflowing shape": (OTHER_KIND, about("w", shape=[2**62, 2**62, 4])),
    "negative shape": ("cannot be '<f4' [-2, -3]", about("w", shape=[-2, -3])),
    "other shape of the same size": (OTHER_KIND, about("w", shape=[3, 2])),
    "flat shape": (OTHER_KIND, about("w", shape=[6])),
    "smaller shape": (OTHER_KIND, about("w", shape=[2, 2])),
    "shape of floats": ("cannot be '<f4' [2.0, 3.0]", about("w", shape=[2.0, 3.0])),
    "shape of truths": ("cannot be '<f4' [True, 6]", about("w", shape=[True, 6])),
    "shape of many dimensions": ("cannot be '<f4' [1, 1, 1", about("w", shape=1000 * [1])),
    "shape is a number": (DAMAGED, about("w", shape=6)),
    "shape is nothing": (DAMAGED, about("w", shape=None)),
    "object dtype": ("cannot be '|O' [2, 3]", about("w", dtype="|O")),
    "big-endian dtype": ("cannot be '>f4' [2, 3]", about("w", dtype=">f4")),
    "integer dtype": ("cannot be '<i4' [2, 3]", about("w", dtype="<i4")),
    "other dtype of half the count": (OTHER_KIND, about("w", dtype="<f8")),
    "nonsense dtype": ("cannot be 'banana' [2, 3]", about("w", dtype="banana")),
    "dtype is a list": ("cannot be ['<f4'] [2, 3]", about("w", dtype=["<f4"])),
    "no digest": (DAMAGED, lambda header: header["arrays"]["w"].pop("sha256") and None),
    "digest is nothing": (OTHER_NUMBERS, about("w", sha256=None)),
    "digest of another array": (
        OTHER_NUMBERS,
        lambda header: header["arrays"]["w"].update(sha256=header["arrays"]["b"]["sha256"]),
    ),
    "one thing too many": (DAMAGED, about("w", order="F")),
    "an array that is not there": (
        OTHER_MEMBERS,
        lambda header: header["arrays"].update(c=header["arrays"]["w"]),
    ),
    "an array that is not mentioned": (
        OTHER_MEMBERS,
        lambda header: header["arrays"].pop("b") and None,
    ),
    "arrays is a list": (DAMAGED, lambda header: header.update(arrays=list(header["arrays"]))),
    "arrays is nothing": (DAMAGED, lambda header: header.update(arrays=None)),
    "no arrays": (DAMAGED, lambda header: header.pop("arrays") and None),
    "another format": (NOT_OURS, lambda header: header.update(format="somebody's checkpoint")),
    "another version": (
        "it has version 99 of the format, and this npvae knows 1",
        lambda header: header.update(version=99),
    ),
    "no version": (DAMAGED, lambda header: header.pop("version") and None),
    "a list": (DAMAGED, lambda header: "[1, 2, 3]"),
    "a number": (DAMAGED, lambda header: "7"),
    "no JSON": (DAMAGED, lambda header: "{'a': 1}"),
    "no text": (DAMAGED, lambda header: " "),
    "deeply nested": (DAMAGED, lambda header: "[" * 100_000),
}


@pytest.mark.parametrize(("reason", "change"), FORGED_HEADERS.values(), ids=FORGED_HEADERS)
def test_forged_headers_are_refused(
    path: Path, members: Members, reason: str, change: Callable[[dict[str, Any]], Any], tally: Tally
) -> None:
    write_members(path, forged(members, change))
    assert_refused(path, reason)
    tally("checkpoint: zip and header tricks", "refused")


HOSTILE = "\x1b[2J" + 5 * "\n" + 1000 * "x"

BOASTERS: dict[str, Callable[[Members], Members]] = {
    "format": lambda m: forged(m, lambda header: header.update(format=HOSTILE)),
    "version": lambda m: forged(m, lambda header: header.update(version=HOSTILE)),
    "dtype": lambda m: forged(m, about("w", dtype=HOSTILE)),
    "shape": lambda m: forged(m, about("w", shape=1000 * [-1])),
    "array": lambda m: forged(
        [*m, (f"{HOSTILE}.npy", b"")],
        lambda header: header["arrays"].update({HOSTILE: header["arrays"]["w"]}),
    ),
}


@pytest.mark.parametrize("boast", BOASTERS.values(), ids=BOASTERS)
def test_messages_do_not_repeat_what_a_file_says_of_itself(
    path: Path, members: Members, boast: Callable[[Members], Members]
) -> None:
    write_members(path, boast(members))
    assert_refused(path)
    assert refusal(path).replace("\n", "").isprintable()


class Trap:
    """Unpickling it would make a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


def object_npy(target: Path) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([Trap(target)], dtype=object), allow_pickle=True)
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["header.npy", "digest.npy", "w.npy", "extra.npy"])
def test_a_pickle_is_never_opened(tmp_path: Path, path: Path, members: Members, name: str) -> None:
    target = tmp_path / "executed"
    trap = object_npy(target)
    np.load(io.BytesIO(trap), allow_pickle=True)
    assert target.exists(), "the trap itself does not work"
    target.unlink()
    write_members(path, with_member([*members, ("extra.npy", b"")], name, trap))
    assert_refused(path)
    raw = sha256(trap[-6:]).hexdigest()  # and with a header that asks for it
    asking = forged(members, about("w", dtype="|O", shape=[1], sha256=raw))
    write_members(path, with_member(asking, "w.npy", trap))
    assert_refused(path)
    assert not target.exists()


def with_w(data: bytes) -> Callable[[Members], Members]:
    return lambda m: with_member(m, "w.npy", data)


W_NPY = npy_bytes(ARRAYS["w"])

FORGED_MEMBERS: dict[str, tuple[str, Callable[[Members], Members]]] = {
    "a name twice, alike": (TWINS, lambda m: [*m, m[-1]]),
    "a name twice, different": (TWINS, lambda m: [*m, ("w.npy", npy_bytes(ARRAYS["w"] + 1))]),
    "the header twice": (TWINS, lambda m: [m[0], *m]),
    "one too many": (OTHER_MEMBERS, lambda m: [*m, ("c.npy", W_NPY)]),
    "one too many, no array": (OTHER_MEMBERS, lambda m: [*m, ("readme.txt", b"hello")]),
    "a folder": (OTHER_MEMBERS, lambda m: [*m, ("folder/", b"")]),
    "a path": (OTHER_MEMBERS, lambda m: [*m, ("../../../tmp/w.npy", W_NPY)]),
    "a path from the root": (OTHER_MEMBERS, lambda m: [*m, ("/etc/w.npy", W_NPY)]),
    "a path in place of a name": (
        OTHER_MEMBERS,
        lambda m: [("../w.npy" if name == "w.npy" else name, data) for name, data in m],
    ),
    "one is missing": (OTHER_MEMBERS, lambda m: [pair for pair in m if pair[0] != "w.npy"]),
    "no header": (NOT_OURS, lambda m: [pair for pair in m if pair[0] != "header.npy"]),
    "no digest": (NOT_OURS, lambda m: [pair for pair in m if pair[0] != "digest.npy"]),
    "no members": ("it is not an .npz file", lambda m: []),
    "only its name": (DAMAGED, with_w(b"")),
    "other numbers": (OTHER_NUMBERS, with_w(npy_bytes(ARRAYS["w"] + 1e-6))),
    "big-endian numbers": (OTHER_KIND, with_w(npy_bytes(ARRAYS["w"].astype(">f4")))),
    "in Fortran order": (NOT_NUMPY, with_w(npy_bytes(np.asfortranarray(ARRAYS["w"])))),
    "another version": (NOT_NUMPY, with_w(W_NPY[:6] + b"\2" + W_NPY[7:])),
    "in another shape": (OTHER_KIND, with_w(npy_bytes(ARRAYS["w"].reshape(3, 2)))),
    "as bytes": (OTHER_KIND, with_w(npy_bytes(ARRAYS["w"].view(np.uint8)))),
    "with a tail": (OTHER_NUMBERS, with_w(W_NPY + b"tail")),
    "cut": (OTHER_NUMBERS, with_w(W_NPY[:-1])),
    "a larger shape in the file itself": (OTHER_KIND, with_w(W_NPY.replace(b"(2, 3)", b"(9, 9)"))),
    "a negative shape in the file itself": (
        OTHER_KIND, with_w(W_NPY.replace(b"(2, 3), ", b"(-2, -3)"))
    ),
    "header and digest exchanged": (
        "its header is not what was saved",
        lambda m: [("digest.npy", m[0][1]), ("header.npy", m[1][1]), *m[2:]],
    ),
    "numbers for a header": (
        "its header is not plain text", lambda m: with_member(m, "header.npy", W_NPY)
    ),
}  # fmt: skip


@pytest.mark.parametrize(("reason", "forge"), FORGED_MEMBERS.values(), ids=FORGED_MEMBERS)
def test_forged_members_are_refused(
    path: Path, members: Members, reason: str, forge: Callable[[Members], Members], tally: Tally
) -> None:
    write_members(path, forge(members))
    assert_refused(path, reason)
    tally("checkpoint: zip and header tricks", "refused")


def patched(data: bytes, at: int, layout: str, *numbers: int) -> bytes:
    """Replace the numbers at this place."""
    new = struct.pack(layout, *numbers)
    return data[:at] + new + data[at + len(new) :]


def entry_of_w(data: bytes) -> int:
    """The place of w in the archive's table of contents: 46 bytes before its name."""
    return data.rindex(b"w.npy") - 46


def with_zip64(data: bytes, length: int | None = None, place: int | None = None) -> bytes:
    """With the end that archives of more than 2 GB have, honest or not."""
    body, end = data[:-22], data[-22:]
    true_length, start = struct.unpack("<LL", end[12:20])
    length = true_length if length is None else length
    place = len(body) if place is None else place
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 4, 4, length, start)
    return body + record + struct.pack("<4sLQL", b"PK\6\7", 0, place, 1) + end


CUT = "it is cut short or damaged"
TOO_LONG = "its table of contents is too long"
FORGED_ARCHIVES: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "an honest end for large files": ("harmless", with_zip64),
    "a huge table of contents": (TOO_LONG, lambda d: patched(d, len(d) - 10, "<L", 2**32 - 1)),
    "a huge one, in large numbers": (TOO_LONG, lambda d: with_zip64(d, length=2**40)),
    "large numbers elsewhere": (CUT, lambda d: with_zip64(d, place=0)),
    "large numbers gone": (CUT, lambda d: patched(with_zip64(d), len(d) - 22, "<L", 0)),
    "a comment at the end": (CUT, lambda d: patched(d, len(d) - 2, "<H", 4) + b"tail"),
    "something after the end": (CUT, lambda d: d + b"tail"),
    "something before the start": ("it is not an .npz file", lambda d: b"x" + d),
    "longer than the file": (
        "its members are longer than the file",
        lambda d: patched(d, entry_of_w(d) + 20, "<LL", 2**31, 2**31),
    ),
    "longer than the file, but short in it": (
        "its members are longer than the file",
        lambda d: patched(d, entry_of_w(d) + 24, "<L", 2**31),
    ),
    "reaching into the next": (DAMAGED, lambda d: patched(d, entry_of_w(d) + 20, "<LL", 300, 300)),
    "standing where another one is": (DAMAGED, lambda d: patched(d, entry_of_w(d) + 42, "<L", 0)),
    "standing nowhere": (DAMAGED, lambda d: patched(d, entry_of_w(d) + 42, "<L", 2**31)),
    "with a secret password": (DAMAGED, lambda d: patched(d, entry_of_w(d) + 8, "<H", 1)),
    "of an unknown compression": (
        "its member 'w.npy' is compressed",
        lambda d: patched(d, entry_of_w(d) + 10, "<H", 98),
    ),
    "of another checksum": (DAMAGED, lambda d: patched(d, entry_of_w(d) + 16, "<L", 7)),
}


@pytest.mark.parametrize(("expected", "forge"), FORGED_ARCHIVES.values(), ids=FORGED_ARCHIVES)
def test_forged_archives(
    path: Path, expected: str, forge: Callable[[bytes], bytes], tally: Tally
) -> None:
    checkpoint.save(path, HEADER, ARRAYS)
    path.write_bytes(forge(path.read_bytes()))
    if expected == "harmless":
        assert same_bits(checkpoint.load(path)[1], ARRAYS)
    else:
        assert_refused(path, expected)
    tally("checkpoint: zip and header tricks", "refused" if expected != "harmless" else expected)


def test_a_checkpoint_of_more_than_two_gigabytes_comes_back(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 300)  # as if 300 bytes were two gigabytes
    checkpoint.save(path, HEADER, ARRAYS)
    assert b"PK\6\6" in path.read_bytes()
    assert same_bits(checkpoint.load(path)[1], ARRAYS)


@pytest.mark.parametrize(
    ("limit", "size", "header"),
    [("MAX_HEADER", 1000, {"note": 1000 * "x"}), ("MAX_VALUES", 30, {"history": 20 * [{}]})],
)
def test_a_header_that_could_not_be_loaded_is_not_saved(
    path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, size: int, header: dict[str, Any]
) -> None:
    checkpoint.save(path, header, ARRAYS)
    long = path.read_bytes()
    checkpoint.save(path, HEADER, ARRAYS)
    old = path.read_bytes()
    monkeypatch.setattr(checkpoint, limit, size)
    with pytest.raises(OutputError, match="its header is too long") as caught:
        checkpoint.save(path, header, ARRAYS)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == old
    assert same_bits(checkpoint.load(path)[1], ARRAYS)
    path.write_bytes(long)
    assert_refused(path, "its header is too long")


def test_more_arrays_than_could_be_loaded_are_not_saved(path: Path) -> None:
    arrays = {f"{number:050d}": np.zeros(0) for number in range(90_000)}
    with pytest.raises(OutputError, match=r"with fewer epochs or layers"):
        checkpoint.save(path, {}, arrays)
    assert not path.exists()


def assert_refused_cheaply(path: Path, reason: str) -> None:
    """Within a megabyte of memory."""
    tracemalloc.start()
    assert_refused(path, reason)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_bomb_is_not_set_off(
    path: Path, members: Members, compression: int, tally: Tally
) -> None:
    bomb = with_member(members, "w.npy", bytes(5_000_000))
    write_members(path, bomb, compression)
    assert path.stat().st_size < 100_000
    assert_refused_cheaply(path, "its member 'header.npy' is compressed")
    tally("checkpoint: zip and header tricks", "refused")


def test_the_last_byte_of_a_large_array_counts(path: Path) -> None:
    checkpoint.save(path, HEADER, {"w": np.zeros(300_000)})
    members = members_of(path)
    data = dict(members)["w.npy"]
    write_members(path, with_member(members, "w.npy", data[:-1] + b"\1"))
    assert_refused(path, OTHER_NUMBERS)


def test_a_huge_shape_is_not_allocated(path: Path, members: Members) -> None:
    larger = with_w(W_NPY.replace(b"(2, 3), ", b"(30000, 1000)"))(members)
    write_members(path, forged(larger, about("w", shape=[30_000, 1_000])))
    assert_refused_cheaply(path, "its array 'w'")


# ------------------------------------------------------------------ sound, but no model


def test_weights_that_are_no_numbers(path: Path) -> None:
    for value in (np.nan, np.inf, -np.inf):
        vae = VAE(3, (2,), 2)
        vae.parameters["decoder.logits.b"] = value
        vae.save(path)
        assert np.array_equal(
            checkpoint.load(path)[1]["decoder.logits.b"], np.full(3, value), equal_nan=True
        )
        assert refusal(path, VAE.load) == (
            f"the checkpoint {path} holds weights that are infinite or not a number.\n"
            "Nothing can be made with them: use another checkpoint, or train again."
        )


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_dims": 1_000 * [1]},
        {"hidden_dims": [2**62]},
        {"input_dim": 4},
        {"latent_dim": -2},
        {"dtype": "float64"},
        {"dtype": "object"},
        {"activation": ["relu"]},
        {"rng": 0},
    ],
)
def test_settings_that_do_not_fit_the_weights(path: Path, changes: dict[str, Any]) -> None:
    vae = VAE(3, (2,), 2)
    checkpoint.save(path, {"model": {**vae.settings, **changes}}, vae.parameters)
    why = refusal(path, VAE.load).removeprefix(f"the checkpoint {path} ")
    assert why.splitlines() in [
        [reason, "Use another checkpoint, or train again."]
        for reason in (
            "does not hold a VAE: its arrays do not fit its settings.",
            "cannot be used: its header is not one that npvae writes.",
        )
    ]


# ------------------------------------------------------------------ what cannot be saved


def test_a_header_that_is_no_json_is_refused_before_the_old_file_is_touched(path: Path) -> None:
    checkpoint.save(path, HEADER, ARRAYS)
    old = path.read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        checkpoint.save(path, {"loss": float("nan")}, ARRAYS)
    with pytest.raises(TypeError, match="JSON"):
        checkpoint.save(path, {"loss": {1, 2}}, ARRAYS)
    assert path.read_bytes() == old
    assert list(path.parent.iterdir()) == [path]


# ------------------------------------------------------------------ no code from data, anywhere

FORBIDDEN_MODULES = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_METHODS = {"eval", "exec", "loads"}  # but for json.loads


def called(call: ast.Call) -> tuple[str, str]:
    """Whose function it is, and its name: of json.loads() "json", "loads"; of eval() "", "eval"."""
    if isinstance(call.func, ast.Attribute):
        return ast.unparse(call.func.value), call.func.attr
    return "", ast.unparse(call.func)


def suspects(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.split(".")[0] in FORBIDDEN_MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module.split(".")[0] in FORBIDDEN_MODULES:
                yield node.module
        elif isinstance(node, ast.Call):
            owner, name = called(node)
            forbidden = FORBIDDEN_METHODS if owner else FORBIDDEN_CALLS
            if name in forbidden and (owner, name) != ("json", "loads"):
                yield name
            if name == "import_module":
                words = (str(a.value) for a in node.args if isinstance(a, ast.Constant))
                yield from (word for word in words if word.split(".")[0] in FORBIDDEN_MODULES)
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            loads = name == "read_array" or (name == "load" and owner in ("np", "numpy"))
            if given.get("allow_pickle", str(loads)) != "False":  # to say nothing will not do
                yield "allow_pickle"


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import os, marshal",
        "from pickle import loads",
        "from dill.session import load_session",
        "importlib.import_module('pickle')",
        "import_module('shelve')",
        "__import__('marshal')",
        "eval('1')",
        "builtins.exec(text)",
        "whatever.loads(data)",
        "np.load(f, allow_pickle=True)",
        "np.load(f, allow_pickle=allow)",
        "np.load(f)",
        "numpy.load(f, 'r', True)",
        "np.lib.format.read_array(f, True)",
        "read_array(f)",
    ],
)
def test_the_search_finds_what_it_looks_for(source: str) -> None:
    assert list(suspects(source))


@pytest.mark.parametrize(
    "source",
    [
        "import_module('json')",
        "json.loads(text)",
        "re.compile(pattern)",
        "checkpoint.load(path)",
        "_read_array(f, shape, dtype)",
        "np.load(f, allow_pickle=False)",
        "np.lib.format.read_array(f, allow_pickle=False)",
        "np.lib.format.read_array_header_1_0(f)",
    ],
)
def test_the_search_finds_nothing_else(source: str) -> None:
    assert not list(suspects(source))


def test_the_package_runs_no_code_from_data() -> None:
    package = Path(npvae.__file__).parent
    gallery = package / "mistakes" / "mistake.py"  # compiles functions of the package itself
    compiler = package / "fast" / "jit.py"  # its data are the code: from a safe folder, by digest
    sheets = package / "lab" / "runner.py"  # runs what the learner has written, as asked
    lesson = package / "fast" / "stands_for.py"  # compiles the lesson's source, to compare it
    files = [*({*package.rglob("*.py")} - {gallery, compiler, sheets, lesson}), *SCRIPTS]
    assert len(files) > 20
    assert {str(f): found for f in files if (found := list(suspects(f.read_text("utf-8"))))} == {}
