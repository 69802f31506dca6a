"""A checkpoint loads bit by bit as it was saved, or not at all: any damage is one clear error.

Nothing that a file says is believed. So files are cut, flipped bit by bit, mutated, and forged with
care, digests and all; whatever is not refused has to be what was saved. What would do harm when it
is opened, and odd places such as pipes, are in test_hostile_files.py.
"""

import ast
import io
import json
import re
import struct
import tracemalloc
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npvae
from npvae import VAE
from npvae.core.errors import CheckpointError, OutputError
from npvae.storage import checkpoint
from npvae.storage.checkpoint import npy_bytes
from tests.helpers import SCRIPTS, Said, Tally, mutated, refused, unchanged

HEADER: dict[str, Any] = {
    "epoch": 3,
    "numbers": [0.1, 1 / 3, 1e-300, 243.5000000000001],
    "note": "\u00e9\u4e2d\U0001f600 \x00 \\ \" '",
}
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
    with refused(CheckpointError, str(path)) as caught:
        load(path)
    message = str(caught.value)
    assert len(message) < 400 + len(str(path))
    return message


# ------------------------------------------------------------------ there and back


def test_header_and_arrays_come_back_to_the_bit(path: Path) -> None:
    checkpoint.save(path, HEADER, ARRAYS)
    header, arrays = checkpoint.load(path)
    assert {name: header[name] for name in HEADER} == HEADER
    assert same_bits(arrays, ARRAYS)
    assert all(a.flags.writeable and a.flags.c_contiguous for a in arrays.values())
    checkpoint.save(path, {}, {})
    assert checkpoint.load(path)[1] == {}


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


def test_any_layout_comes_back_by_value(path: Path) -> None:
    arrays = {
        "transposed": np.arange(6.0).reshape(2, 3).T,
        "strided": np.arange(12.0)[::2],
        "big-endian": np.arange(3.0).astype(">f8"),
        "empty": np.zeros((0, 5), np.float32),
        "of four dimensions": np.ones((1, 1, 1, 1)),
        "a single number": np.array(1.5),
    }
    checkpoint.save(path, {}, arrays)
    for name, loaded in checkpoint.load(path)[1].items():
        np.testing.assert_array_equal(loaded, arrays[name])
        assert loaded.shape == arrays[name].shape
        assert loaded.dtype == arrays[name].dtype.newbyteorder("=")


# ------------------------------------------------------------------ what cannot be saved


def test_what_could_not_be_loaded_is_refused_before_the_old_file_is_touched(path: Path) -> None:
    checkpoint.save(path, HEADER, ARRAYS)
    with unchanged(path.parent):
        for dtype in (np.int64, np.float16):
            with refused(ValueError, "a checkpoint holds float32 and float64 arrays, not"):
                checkpoint.save(path, {}, {"a": np.ones(3, dtype)})
        with refused(ValueError, "JSON"):
            checkpoint.save(path, {"loss": float("nan")}, ARRAYS)
        with refused(TypeError, "JSON"):
            checkpoint.save(path, {"loss": {1, 2}}, ARRAYS)
        many = {f"{number:010000d}": np.zeros(0) for number in range(900)}
        with refused(OutputError, str(path), "with fewer epochs or layers"):
            checkpoint.save(path, {}, many)


@pytest.mark.parametrize(
    ("limit", "size", "header"),
    [("MAX_HEADER", 1000, {"note": 1000 * "x"}), ("MAX_VALUES", 30, {"history": 20 * [{}]})],
)
def test_a_header_that_could_not_be_loaded_is_not_saved(
    path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, size: int, header: dict[str, Any]
) -> None:
    long = path.with_name("long.npz")
    checkpoint.save(long, header, ARRAYS)
    checkpoint.save(path, HEADER, ARRAYS)
    monkeypatch.setattr(checkpoint, limit, size)  # the true ones take seconds
    with unchanged(path.parent), refused(OutputError, str(path), "its header is too long"):
        checkpoint.save(path, header, ARRAYS)
    assert same_bits(checkpoint.load(path)[1], ARRAYS)
    assert "its header is too long" in refusal(long)


# ------------------------------------------------------------------ damage by chance


def bit_flipped(data: bytes, position: int) -> bytes:
    flipped = bytearray(data)
    flipped[position // 8] ^= 1 << position % 8
    return bytes(flipped)


DAMAGE: dict[str, Callable[[bytes, int], Iterator[bytes]]] = {
    "truncations": lambda d, step: (d[:length] for length in range(0, len(d), step)),
    "single bits flipped": lambda d, step: (bit_flipped(d, k) for k in range(0, 8 * len(d), step)),
    "mutations": lambda d, count: (mutated(d, seed) for seed in range(count)),
}


@pytest.mark.parametrize(
    ("faults", "number", "harmless"),
    [
        ("truncations", 31, 0.0),
        # Dates, permissions and the like of the zip format carry nothing of ours: some 3 %.
        ("single bits flipped", 101, 0.1),
        ("mutations", 300, 1.0),
        pytest.param("truncations", 1, 0.0, marks=pytest.mark.slow),
        pytest.param("single bits flipped", 1, 0.1, marks=pytest.mark.slow),
        pytest.param("mutations", 10_000, 1.0, marks=pytest.mark.slow),
    ],
)
def test_damage_is_refused_unless_all_is_as_it_was_saved(
    path: Path, tally: Tally, faults: str, number: int, harmless: float
) -> None:
    vae = VAE(1, (1,), 1)
    vae.parameters.flat[:] = np.random.default_rng(0).normal(0, 1, vae.parameters.flat.shape)
    checkpoint.save(path, {**HEADER, "model": vae.settings}, vae.parameters)
    assert same_bits(dict(VAE.load(path).parameters), dict(vae.parameters))
    saved_header, saved = checkpoint.load(path)
    outcomes = Counter[str]()
    for case, data in enumerate(DAMAGE[faults](path.read_bytes(), number)):
        path.unlink()  # ext4 waits for the disk when an old file is written over
        path.write_bytes(data)
        try:
            header, arrays = checkpoint.load(path)
        except CheckpointError as error:
            outcome, message = "refused", str(error)
            assert str(path) in message, case
            assert len(message.splitlines()) <= 4, case
        else:
            outcome = "harmless"
            assert json.dumps(header) == json.dumps(saved_header), f"another header: {case}"
            assert same_bits(arrays, saved), f"other arrays: {case}"
        outcomes[outcome] += 1
        tally(f"checkpoint: {faults}", outcome)
    assert outcomes["harmless"] <= harmless * outcomes.total()


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


def forged(members: Members, change: Callable[[Any], str]) -> Members:
    """With the header's text after this change, and the digest that belongs to it."""
    raw = np.load(io.BytesIO(dict(members)["header.npy"]), allow_pickle=False)
    text = change(json.loads(str(raw)))
    members = with_member(members, "header.npy", npy_bytes(np.array(text)))
    digest = np.array(sha256(text.encode()).hexdigest())
    return with_member(members, "digest.npy", npy_bytes(digest))


@pytest.fixture
def members(path: Path) -> Members:
    checkpoint.save(path, HEADER, ARRAYS)
    return members_of(path)


def changed(*where: Any, to: Any) -> Callable[[Any], str]:
    """The text of a header with another value in this place, or with none (...)."""

    def change(header: Any) -> str:
        *above, last = where
        for key in above:
            header = header[key]
        header[last] = to
        if to is ...:
            del header[last]
        return ""

    return lambda header: change(header) or json.dumps(header).replace("Infinity", "1e400")


HOSTILE = "\x1b[2J" + 5 * "\n" + 1000 * "x"  # a message does not repeat it

W_NPY = npy_bytes(ARRAYS["w"])
W = {"dtype": "<f4", "shape": [2, 3], "sha256": sha256(ARRAYS["w"].tobytes()).hexdigest()}

HEADERS: dict[str, Callable[[Any], str]] = {
    "overflowing shape": changed("arrays", "w", "shape", to=[2**62, 2**62, 4]),
    "negative shape": changed("arrays", "w", "shape", to=[-2, -3]),
    "other shape of the same size": changed("arrays", "w", "shape", to=[3, 2]),
    "smaller shape": changed("arrays", "w", "shape", to=[2, 2]),
    "shape of floats": changed("arrays", "w", "shape", to=[2.0, 3.0]),
    "shape of truths": changed("arrays", "w", "shape", to=[True, 6]),
    "shape of many dimensions": changed("arrays", "w", "shape", to=1000 * [1]),
    "shape is a number": changed("arrays", "w", "shape", to=6),
    "object dtype": changed("arrays", "w", "dtype", to="|O"),
    "big-endian dtype": changed("arrays", "w", "dtype", to=">f4"),
    "other dtype of half the count": changed("arrays", "w", "dtype", to="<f8"),
    "dtype is a list": changed("arrays", "w", "dtype", to=["<f4"]),
    "dtype for the terminal": changed("arrays", "w", "dtype", to=HOSTILE),
    "no digest": changed("arrays", "w", "sha256", to=...),
    "digest is nothing": changed("arrays", "w", "sha256", to=None),
    "digest of another array": changed(
        "arrays", "w", "sha256", to=sha256(ARRAYS["b"].tobytes()).hexdigest()
    ),
    "one thing too many": changed("arrays", "w", "order", to="F"),
    "an array that is not there": changed("arrays", "c", to=W),
    "an array that is not mentioned": changed("arrays", "b", to=...),
    "arrays is a list": changed("arrays", to=["w", "b"]),
    "no arrays": changed("arrays", to=...),
    "another format": changed("format", to="somebody's checkpoint"),
    "format for the terminal": changed("format", to=HOSTILE),
    "another version": changed("version", to=99),
    "version for the terminal": changed("version", to=HOSTILE),
    "no version": changed("version", to=...),
    "a list": lambda header: "[1, 2, 3]",
    "no JSON": lambda header: "{'a': 1}",
    "deeply nested": lambda header: "[" * 100_000,
}


def with_w(data: bytes) -> Callable[[Members], Members]:
    return lambda m: with_member(m, "w.npy", data)


def without(name: str) -> Callable[[Members], Members]:
    return lambda m: [pair for pair in m if pair[0] != name]


MEMBERS: dict[str, Callable[[Members], Members]] = {
    "a name twice": lambda m: [*m, m[-1]],
    "the header twice": lambda m: [m[0], *m],
    "one too many": lambda m: [*m, ("c.npy", W_NPY)],
    "one too many, no array": lambda m: [*m, ("readme.txt", b"hello")],
    "a path in place of a name": lambda m: [*without("w.npy")(m), ("../w.npy", W_NPY)],
    "a name for the terminal": lambda m: forged(
        [*m, (f"{HOSTILE}.npy", W_NPY)], changed("arrays", HOSTILE, to={**W, "shape": [-1]})
    ),
    "one is missing": without("w.npy"),
    "no header": without("header.npy"),
    "no digest": without("digest.npy"),
    "no members": lambda m: [],
    "only its name": with_w(b""),
    "other numbers": with_w(npy_bytes(ARRAYS["w"] + 1e-6)),
    "big-endian numbers": with_w(npy_bytes(ARRAYS["w"].astype(">f4"))),
    "in Fortran order": with_w(npy_bytes(np.asfortranarray(ARRAYS["w"]))),
    "of another version of npy": with_w(W_NPY[:6] + b"\2" + W_NPY[7:]),
    "in another shape": with_w(npy_bytes(ARRAYS["w"].reshape(3, 2))),
    "with a tail": with_w(W_NPY + b"tail"),
    "cut": with_w(W_NPY[:-1]),
    "a negative shape in the file itself": with_w(W_NPY.replace(b"(2, 3), ", b"(-2, -3)")),
    "header and digest exchanged": lambda m: [(m[1][0], m[0][1]), (m[0][0], m[1][1]), *m[2:]],
    "numbers for a header": lambda m: with_member(m, "header.npy", W_NPY),
}


def patched(data: bytes, at: int, layout: str, *numbers: int) -> bytes:
    """Replace the numbers at this place."""
    new = struct.pack(layout, *numbers)
    return data[:at] + new + data[at + len(new) :]


def entry(at: int, layout: str, *numbers: int) -> Callable[[bytes], bytes]:
    """Other numbers in the table of contents about w: it begins 46 bytes before the name."""
    return lambda data: patched(data, data.rindex(b"w.npy") - 46 + at, layout, *numbers)


def with_zip64(data: bytes, length: int | None = None, place: int | None = None) -> bytes:
    """With the end that archives of more than 2 GB have, honest or not."""
    body, end = data[:-22], data[-22:]
    true_length, start = struct.unpack("<LL", end[12:20])
    length = true_length if length is None else length
    place = len(body) if place is None else place
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 4, 4, length, start)
    return body + record + struct.pack("<4sLQL", b"PK\6\7", 0, place, 1) + end


ARCHIVES: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda d: b"",
    "a text": lambda d: b"hello\n" * 99,
    "an array": lambda d: W_NPY,
    "cut": lambda d: d[:-1],
    "a huge table of contents": lambda d: patched(d, len(d) - 10, "<L", 2**32 - 1),
    "a huge one, in large numbers": lambda d: with_zip64(d, length=2**40),
    "large numbers elsewhere": lambda d: with_zip64(d, place=0),
    "large numbers gone": lambda d: patched(with_zip64(d), len(d) - 22, "<L", 0),
    "a comment at the end": lambda d: patched(d, len(d) - 2, "<H", 4) + b"tail",
    "something after the end": lambda d: d + b"tail",
    "something before the start": lambda d: b"x" + d,
    "longer than the file": entry(20, "<LL", 2**31, 2**31),
    "longer than the file, but short in it": entry(24, "<L", 2**31),
    "reaching into the next": entry(20, "<LL", 300, 300),
    "standing where another one is": entry(42, "<L", 0),
    "standing nowhere": entry(42, "<L", 2**31),
    "with a secret password": entry(8, "<H", 1),
    "of an unknown compression": entry(10, "<H", 98),
    "of another checksum": entry(16, "<L", 7),
}


def test_forgeries_are_refused_with_a_reason(
    path: Path, members: Members, tally: Tally, said: Said
) -> None:
    sound = path.read_bytes()
    # What is refused below is refused for its forged contents, not for how this file zips them.
    write_members(path, forged(members, json.dumps))
    assert same_bits(checkpoint.load(path)[1], ARRAYS)
    path.write_bytes(with_zip64(sound))
    assert same_bits(checkpoint.load(path)[1], ARRAYS)

    messages = {"no file": refusal(path.with_name("missing.npz")), "a folder": refusal(path.parent)}
    for name, change in HEADERS.items():
        write_members(path, forged(members, change))
        messages[f"header: {name}"] = refusal(path)
    for name, forge in MEMBERS.items():
        write_members(path, forge(members))
        messages[f"members: {name}"] = refusal(path)
    for name, damage in ARCHIVES.items():
        path.write_bytes(damage(sound))
        messages[f"archive: {name}"] = refusal(path)
    np.savez(path, w=ARRAYS["w"])
    messages["an npz of somebody else"] = refusal(path)
    for message in messages.values():
        assert message.replace("\n", "").isprintable()
        tally("checkpoint: zip and header tricks", "refused")
    said("a checkpoint is refused", messages)


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


def test_a_pickle_is_never_opened(tmp_path: Path, path: Path, members: Members) -> None:
    target = tmp_path / "executed"
    trap = object_npy(target)
    np.load(io.BytesIO(trap), allow_pickle=True)
    assert target.exists(), "the trap itself does not work"
    target.unlink()
    for name in ("header.npy", "digest.npy", "w.npy", "extra.npy"):
        write_members(path, with_member([*members, ("extra.npy", b"")], name, trap))
        refusal(path)
    raw = sha256(trap[-6:]).hexdigest()  # and with a header that asks for it
    asking = forged(
        members, changed("arrays", "w", to={"dtype": "|O", "shape": [1], "sha256": raw})
    )
    write_members(path, with_member(asking, "w.npy", trap))
    refusal(path)
    assert not target.exists()


def test_a_checkpoint_of_more_than_two_gigabytes_comes_back(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 300)  # as if 300 bytes were two gigabytes
    checkpoint.save(path, HEADER, ARRAYS)
    assert b"PK\6\6" in path.read_bytes()
    assert same_bits(checkpoint.load(path)[1], ARRAYS)


def test_bombs_and_huge_shapes_are_refused_within_a_megabyte(path: Path, members: Members) -> None:
    larger = with_w(W_NPY.replace(b"(2, 3), ", b"(30000, 1000)"))(members)
    bombs = [
        (with_member(members, "w.npy", bytes(5_000_000)), zipfile.ZIP_DEFLATED, "is compressed"),
        (
            forged(larger, changed("arrays", "w", "shape", to=[30_000, 1_000])),
            zipfile.ZIP_STORED,
            "its array 'w'",
        ),
    ]
    for bomb, compression, reason in bombs:
        write_members(path, bomb, compression)
        assert path.stat().st_size < 100_000
        tracemalloc.start()
        assert reason in refusal(path)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 1_000_000


def test_the_last_byte_of_a_large_array_counts(path: Path) -> None:
    checkpoint.save(path, HEADER, {"w": np.zeros(300_000)})
    members = members_of(path)
    data = dict(members)["w.npy"]
    write_members(path, with_member(members, "w.npy", data[:-1] + b"\1"))
    assert "its array 'w' is not what was saved" in refusal(path)


def test_a_file_that_does_not_fit_into_memory(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise MemoryError

    checkpoint.save(path, HEADER, ARRAYS)
    monkeypatch.setattr(np, "frombuffer", full)
    with refused(CheckpointError, "there is not enough memory to load it", "Close other programs"):
        checkpoint.load(path)


def test_sound_files_without_a_model_that_works(path: Path, said: Said) -> None:
    messages = {}
    for value in (np.nan, -np.inf):
        vae = VAE(3, (2,), 2)
        vae.parameters["decoder.logits.b"] = value
        vae.save(path)
        assert checkpoint.load(path)[1]["decoder.logits.b"].tobytes() == (
            np.full(3, value, np.float32).tobytes()
        )
        messages[f"weights of {value}"] = refusal(path, VAE.load)
    changes: dict[str, Any] = {
        "hidden_dims": 1_000 * [1],
        "input_dim": 4,
        "latent_dim": -2,
        "dtype": "float64",
        "activation": ["relu"],
        "rng": 0,
    }
    for name, value in changes.items():
        vae = VAE(3, (2,), 2)
        checkpoint.save(path, {"model": {**vae.settings, name: value}}, vae.parameters)
        messages[f"another {name}"] = refusal(path, VAE.load)
    said("a model is refused", messages)


# ------------------------------------------------------------------ no code from data, anywhere

MODULES = "(pickle|cPickle|marshal|shelve|dill|cloudpickle|joblib)"
SUSPECT = re.compile(
    rf"^ *(import|from) .*\b{MODULES}\b|import_module\(['\"]{MODULES}"
    r"|(?<![\w.])(eval|exec|compile|__import__)\(|\.(eval|exec)\(|(?<!\bjson)\.loads\("
    r"|allow_pickle=(?!False)"
    r"|\b((np|numpy)\.load|read_array)\((?!.*allow_pickle=False)",  # to say nothing will not do
    re.MULTILINE,
)


def suspects(source: str) -> list[str]:
    """The statements of a program, each as one line, that may run code from data."""
    if not SUSPECT.search(source):
        return []
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = node.value if re.match(MODULES, node.value) else ""  # only said
    return [line for line in ast.unparse(tree).splitlines() if SUSPECT.search(line)]


FOUND = """
import pickle
import os, marshal
from pickle import loads
from dill.session import load_session
importlib.import_module('pickle')
__import__('marshal')
eval(text)
builtins.exec(text)
whatever.loads(data)
np.load(f, allow_pickle=allow or this)
np.load(f, allow_pickle=allow)
np.load(f)
numpy.load(f, mode, allow)
np.lib.format.read_array(f, allow)
"""
NOT_FOUND = """
import_module('json')
json.loads(text)
re.compile(pattern)
checkpoint.load(path)
_read_array(f, shape, dtype)
np.load(f, allow_pickle=False)
np.lib.format.read_array(f, allow_pickle=False)
np.lib.format.read_array_header_1_0(f)
"""


def test_the_search_finds_what_it_looks_for_and_nothing_else() -> None:
    assert suspects(FOUND) == FOUND.split("\n")[1:-1]
    assert suspects(NOT_FOUND) == []


def test_the_package_runs_no_code_from_data() -> None:
    package = Path(npvae.__file__).parent
    about_code = {  # not data: of the package itself, the learner's sheet, loops kept by digest
        package / name
        for name in ("mistakes/mistake.py", "fast/stands_for.py", "lab/runner.py", "fast/jit.py")
    }
    files = [*({*package.rglob("*.py")} - about_code), *SCRIPTS]
    assert len(files) > 20
    assert {str(f): found for f in files if (found := suspects(f.read_text("utf-8")))} == {}
