"""A checkpoint comes back to the bit, or not at all: every kind of damage is one clear error.

Nothing that a file says is believed. So files are cut, flipped bit by bit, mutated, and forged with
care, digests and all; whatever is not refused has to be what was saved.
"""

import ast
import errno
import io
import json
import os
import random
import shutil
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npvae
import npvae.files
from npvae import VAE, checkpoint
from npvae.checkpoint import npy_bytes
from npvae.errors import CheckpointError, OutputError

HEADER: dict[str, Any] = {"epoch": 3, "history": [0.1, 1 / 3, 1e-300, 243.5000000000001]}
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


def assert_refused(path: Path, *reasons: str) -> None:
    with pytest.raises(CheckpointError) as refusal:
        checkpoint.load(path)
    message = str(refusal.value)
    assert str(path) in message
    assert len(message.splitlines()) <= 4
    assert len(message) < 400 + len(str(path))
    assert all(reason in message for reason in reasons), message


# ------------------------------------------------------------------ there and back


def test_header_and_arrays_come_back_to_the_bit(path: Path) -> None:
    checkpoint.save(path, HEADER, ARRAYS)
    header, arrays = checkpoint.load(path)
    assert {name: header[name] for name in HEADER} == HEADER
    assert [value.hex() for value in header["history"]] == [v.hex() for v in HEADER["history"]]
    assert same_bits(arrays, ARRAYS)
    assert all(a.flags.writeable and a.flags.c_contiguous for a in arrays.values())


def test_anybody_may_read_it_with_numpy(path: Path) -> None:
    checkpoint.save(path, HEADER, ARRAYS)
    with np.load(path, allow_pickle=False) as file:
        assert set(file.files) == {"header", "digest", "w", "b"}
        assert same_bits({name: file[name] for name in ARRAYS}, ARRAYS)
        header = json.loads(str(file["header"]))
        assert header["history"] == HEADER["history"]
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


def test_a_missing_file(path: Path) -> None:
    assert_refused(path, "there is no such file", "Train a model first")


def test_a_folder(tmp_path: Path) -> None:
    assert_refused(tmp_path, "directory")


@pytest.mark.parametrize(
    "data", [b"", b"PK", b"hello\n" * 99, b"\x93NUMPY\x01\x00", b"PK\x05\x06" + bytes(18)]
)
def test_a_file_of_something_else(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    assert_refused(path, "damaged or not ours")


def test_an_npz_of_somebody_else(path: Path) -> None:
    np.savez(path, w=ARRAYS["w"])
    assert_refused(path)


# ------------------------------------------------------------------ damage by chance


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[VAE, bytes]:
    """The smallest VAE there is, and its checkpoint of some 9,000 bytes."""
    vae = VAE(1, (1,), 1)
    vae.parameters.flat[:] = np.random.default_rng(0).normal(0, 1, vae.parameters.flat.shape)
    path = tmp_path_factory.mktemp("tiny") / "tiny.npz"
    vae.save(path)
    return vae, path.read_bytes()


def is_harmless(path: Path, data: bytes, vae: VAE) -> bool:
    """Whether damaged bytes still load, then to the bit; if not, it must be a CheckpointError."""
    path.write_bytes(data)
    try:
        loaded = VAE.load(path)
    except CheckpointError as error:
        message = str(error)
    else:
        assert loaded.settings == vae.settings
        assert same_bits(dict(loaded.parameters), dict(vae.parameters))
        return True
    assert str(path) in message
    assert len(message.splitlines()) <= 4
    return False


def cut_everywhere(path: Path, tiny: tuple[VAE, bytes], stride: int) -> None:
    vae, data = tiny
    for length in range(0, len(data), stride):
        assert not is_harmless(path, data[:length], vae), length


def flip_every_bit(path: Path, tiny: tuple[VAE, bytes], stride: int) -> None:
    vae, data = tiny
    harmless = 0
    for position in range(0, 8 * len(data), stride):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << position % 8
        harmless += is_harmless(path, bytes(flipped), vae)
    # Dates, permissions and the like of the zip format carry nothing of ours: some 3 %.
    assert harmless < 0.1 * 8 * len(data) / stride


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


def mutate_often(path: Path, tiny: tuple[VAE, bytes], count: int) -> None:
    vae, data = tiny
    rng = random.Random(0)
    for _ in range(count):
        is_harmless(path, mutate(data, rng), vae)


def test_the_tiny_checkpoint_is_sound(path: Path, tiny: tuple[VAE, bytes]) -> None:
    assert is_harmless(path, tiny[1], tiny[0])


def test_truncations(path: Path, tiny: tuple[VAE, bytes]) -> None:
    cut_everywhere(path, tiny, stride=31)


def test_bit_flips(path: Path, tiny: tuple[VAE, bytes]) -> None:
    flip_every_bit(path, tiny, stride=101)


def test_mutations(path: Path, tiny: tuple[VAE, bytes]) -> None:
    mutate_often(path, tiny, count=300)


@pytest.mark.slow
def test_every_truncation(path: Path, tiny: tuple[VAE, bytes]) -> None:
    cut_everywhere(path, tiny, stride=1)


@pytest.mark.slow
def test_every_bit_flip(path: Path, tiny: tuple[VAE, bytes]) -> None:
    flip_every_bit(path, tiny, stride=1)


@pytest.mark.slow
def test_ten_thousand_mutations(path: Path, tiny: tuple[VAE, bytes]) -> None:
    mutate_often(path, tiny, count=10_000)


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
    """So that the refusals below are for the forgery, not for the forger's zip."""
    write_members(path, forged(members, lambda header: header))
    assert same_bits(checkpoint.load(path)[1], ARRAYS)


def about(name: str, **changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda header: header["arrays"][name].update(changes)


FORGED_HEADERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "huge shape": about("w", shape=[10**12, 10**6]),
    "overflowing shape": about("w", shape=[2**62, 2**62, 4]),
    "negative shape": about("w", shape=[-2, -3]),
    "other shape of the same size": about("w", shape=[3, 2]),
    "flat shape": about("w", shape=[6]),
    "smaller shape": about("w", shape=[2, 2]),
    "shape of floats": about("w", shape=[2.0, 3.0]),
    "shape of truths": about("w", shape=[True, 6]),
    "shape is a number": about("w", shape=6),
    "shape is nothing": about("w", shape=None),
    "object dtype": about("w", dtype="|O"),
    "big-endian dtype": about("w", dtype=">f4"),
    "integer dtype": about("w", dtype="<i4"),
    "other dtype of half the count": about("w", dtype="<f8"),
    "nonsense dtype": about("w", dtype="banana"),
    "dtype is a list": about("w", dtype=["<f4"]),
    "no digest": lambda header: header["arrays"]["w"].pop("sha256") and None,
    "digest is nothing": about("w", sha256=None),
    "digest of another array": lambda header: header["arrays"]["w"].update(
        sha256=header["arrays"]["b"]["sha256"]
    ),
    "one thing too many": about("w", order="F"),
    "an array that is not there": lambda header: header["arrays"].update(c=header["arrays"]["w"]),
    "an array that is not mentioned": lambda header: header["arrays"].pop("b") and None,
    "arrays is a list": lambda header: header.update(arrays=list(header["arrays"])),
    "arrays is nothing": lambda header: header.update(arrays=None),
    "no arrays": lambda header: header.pop("arrays") and None,
    "another format": lambda header: header.update(format="somebody's checkpoint"),
    "another version": lambda header: header.update(version=99),
    "no version": lambda header: header.pop("version") and None,
    "a list": lambda header: "[1, 2, 3]",
    "a number": lambda header: "7",
    "no JSON": lambda header: "{'a': 1}",
    "no text": lambda header: " ",
    "deeply nested": lambda header: "[" * 100_000,
}


@pytest.mark.parametrize("change", FORGED_HEADERS.values(), ids=FORGED_HEADERS)
def test_forged_headers_are_refused(
    path: Path, members: Members, change: Callable[[dict[str, Any]], Any]
) -> None:
    write_members(path, forged(members, change))
    assert_refused(path, "damaged or not ours")


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
    with pytest.raises(CheckpointError) as refusal:
        checkpoint.load(path)
    assert str(refusal.value).replace("\n", "").isprintable()


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


FORGED_MEMBERS: dict[str, Callable[[Members], Members]] = {
    "a name twice, alike": lambda m: [*m, m[-1]],
    "a name twice, different": lambda m: [*m, ("w.npy", npy_bytes(ARRAYS["w"] + 1))],
    "the header twice": lambda m: [m[0], *m],
    "one too many": lambda m: [*m, ("c.npy", npy_bytes(ARRAYS["w"]))],
    "one too many, no array": lambda m: [*m, ("readme.txt", b"hello")],
    "a folder": lambda m: [*m, ("folder/", b"")],
    "one is missing": lambda m: [pair for pair in m if pair[0] != "w.npy"],
    "no header": lambda m: [pair for pair in m if pair[0] != "header.npy"],
    "no digest": lambda m: [pair for pair in m if pair[0] != "digest.npy"],
    "only its name": lambda m: with_member(m, "w.npy", b""),
    "other numbers": lambda m: with_member(m, "w.npy", npy_bytes(ARRAYS["w"] + 1e-6)),
    "big-endian numbers": lambda m: with_member(m, "w.npy", npy_bytes(ARRAYS["w"].astype(">f4"))),
    "in Fortran order": lambda m: with_member(
        m, "w.npy", npy_bytes(np.asfortranarray(ARRAYS["w"]))
    ),
    "in another shape": lambda m: with_member(m, "w.npy", npy_bytes(ARRAYS["w"].reshape(3, 2))),
    "as bytes": lambda m: with_member(m, "w.npy", npy_bytes(ARRAYS["w"].view(np.uint8))),
    "with a tail": lambda m: with_member(m, "w.npy", npy_bytes(ARRAYS["w"]) + b"tail"),
    "a larger shape in the file itself": lambda m: with_member(
        m, "w.npy", dict(m)["w.npy"].replace(b"(2, 3)", b"(9, 9)")
    ),
    "header and digest exchanged": lambda m: [
        ("digest.npy", m[0][1]), ("header.npy", m[1][1]), *m[2:]
    ],
}  # fmt: skip


@pytest.mark.parametrize("forge", FORGED_MEMBERS.values(), ids=FORGED_MEMBERS)
def test_forged_members_are_refused(
    path: Path, members: Members, forge: Callable[[Members], Members]
) -> None:
    write_members(path, forge(members))
    assert_refused(path, "damaged or not ours")


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_bomb_is_not_set_off(path: Path, members: Members, compression: int) -> None:
    bomb = with_member(members, "w.npy", bytes(5_000_000))
    write_members(path, bomb, compression)
    assert path.stat().st_size < 100_000
    tracemalloc.start()
    assert_refused(path, "compressed")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


def test_a_huge_shape_is_not_allocated(path: Path, members: Members) -> None:
    write_members(path, forged(members, about("w", shape=[30_000, 1_000])))
    tracemalloc.start()
    assert_refused(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


# ------------------------------------------------------------------ saving, whole or not at all


def failing(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, "No space left on device")


class FullDisk(io.FileIO):
    """A file that takes ten bytes."""

    def write(self, data: Any) -> int:
        super().write(data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")


FAULTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "open": lambda patch: patch.setattr(npvae.files, "open", failing, raising=False),
    "write": lambda patch: patch.setattr(npvae.files, "open", FullDisk, raising=False),
    "fsync": lambda patch: patch.setattr(os, "fsync", failing),
    "replace": lambda patch: patch.setattr(os, "replace", failing),
}


@pytest.mark.parametrize("before", ["a checkpoint", "nothing"])
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_save_that_fails_leaves_what_was_there(
    path: Path,
    fault: Callable[[pytest.MonkeyPatch], None],
    before: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if before == "a checkpoint":
        checkpoint.save(path, HEADER, ARRAYS)
    old = {file: file.read_bytes() for file in path.parent.iterdir()}
    with monkeypatch.context() as patch:
        fault(patch)
        with pytest.raises(OutputError, match="No space left on device") as refusal:
            checkpoint.save(path, {}, {"w": np.ones(1000)})
    assert str(path) in str(refusal.value)
    assert len(str(refusal.value).splitlines()) <= 4
    assert refusal.value.exit_code == 6
    assert {file: file.read_bytes() for file in path.parent.iterdir()} == old
    checkpoint.save(path, {}, ARRAYS)  # and now there is room again
    assert same_bits(checkpoint.load(path)[1], ARRAYS)


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_ctrl_c_during_a_save_leaves_what_was_there(
    path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    checkpoint.save(path, HEADER, ARRAYS)
    old = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, moment, interrupted)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.save(path, {}, {})
    assert path.read_bytes() == old
    assert list(path.parent.iterdir()) == [path]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for place in ("missing/last.npz", "file/last.npz", "folder"):
        with pytest.raises(OutputError) as refusal:
            checkpoint.save(tmp_path / place, {}, ARRAYS)
        assert str(tmp_path / place) in str(refusal.value)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "folder"]
    assert list((tmp_path / "folder").iterdir()) == []


def test_a_header_that_is_no_json_is_refused_before_the_old_file_is_touched(path: Path) -> None:
    checkpoint.save(path, HEADER, ARRAYS)
    old = path.read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        checkpoint.save(path, {"loss": float("nan")}, ARRAYS)
    with pytest.raises(TypeError, match="JSON"):
        checkpoint.save(path, {"loss": {1, 2}}, ARRAYS)
    assert path.read_bytes() == old
    assert list(path.parent.iterdir()) == [path]


def test_saving_over_itself_while_it_is_open(path: Path) -> None:
    """Whoever has the old file open goes on reading the old bytes."""
    checkpoint.save(path, HEADER, ARRAYS)
    old = path.read_bytes()
    with open(path, "rb") as file:
        checkpoint.save(path, {}, {})
        assert file.read() == old
    shutil.copy(path, path.with_name("copy.npz"))
    assert checkpoint.load(path.with_name("copy.npz"))[1] == {}


# ------------------------------------------------------------------ no code from data, anywhere

FORBIDDEN_MODULES = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}


def suspects(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.split(".")[0] in FORBIDDEN_MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module.split(".")[0] in FORBIDDEN_MODULES:
                yield node.module
        elif isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_CALLS:
                yield node.func.id
            for keyword in node.keywords:
                if keyword.arg == "allow_pickle" and ast.unparse(keyword.value) != "False":
                    yield "allow_pickle"


@pytest.mark.parametrize(
    "source",
    ["import pickle", "from pickle import loads", "eval('1')", "np.load(f, allow_pickle=True)"],
)
def test_the_search_finds_what_it_looks_for(source: str) -> None:
    assert list(suspects(source))


def test_the_package_runs_no_code_from_data() -> None:
    files = list(Path(npvae.__file__).parent.rglob("*.py"))
    assert len(files) > 10
    assert {str(f): found for f in files if (found := list(suspects(f.read_text("utf-8"))))} == {}
