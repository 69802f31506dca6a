"""Whatever public functions are given: the right result or a clear ValueError, nothing in between.

And what they are given stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest

from npvae import SGD, VAE, Adam, Adamax, RMSProp, load_dataset
from npvae import evaluation as ev
from npvae.core.errors import DataError, OutputError
from npvae.core.optimizer_base import Optimizer
from npvae.core.parameters import Array
from npvae.plots.image_grid import image_grid, reconstruction_grid, save_png, to_uint8
from npvae.storage import checkpoint
from tests.helpers import Tally, refused

Use: TypeAlias = Callable[[Any], Any]

DICE = np.random.default_rng(0)
IMAGES = DICE.integers(0, 256, (6, 28, 28)).astype(np.uint8)
PIXELS = (IMAGES.reshape(6, 784) / 255).astype(np.float32)
CODES = DICE.standard_normal((6, 3)).astype(np.float32)
MODELS = {
    dtype: VAE(784, (8,), 3, dtype=dtype, rng=np.random.default_rng(0))
    for dtype in ("float32", "float64")
}
MODEL = MODELS["float32"]


def rng() -> np.random.Generator:
    return np.random.default_rng(1)


# ------------------------------------------------------------------ forms of the same numbers


def read_only(a: Array) -> Array:
    a = a.copy()
    a.flags.writeable = False
    return a


FORMS: dict[str, Callable[[Array], Any]] = {
    "read-only": read_only,
    "Fortran order": np.asfortranarray,
    "backwards": lambda a: a[::-1].copy()[::-1],
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "in a larger array": lambda a: np.pad(a, [(1, 1)] * a.ndim)[(slice(1, -1),) * a.ndim],
}
FORMS_OF_FLOATS: dict[str, Callable[[Array], Any]] = {
    "lists": lambda a: a.tolist(),
    "float64": lambda a: a.astype(np.float64),
    "long double": lambda a: a.astype(np.longdouble),
}


def of_pixels(model: VAE) -> dict[str, Use]:
    return {
        "encode": model.encode,
        "loss": lambda x: model.loss(x, CODES),
        "loss_and_gradients": lambda x: model.loss_and_gradients(x, CODES, 0.5)[1].flat,
    }


def of_codes(model: VAE) -> dict[str, Use]:
    return {
        "decode": model.decode,
        "loss": lambda z: model.loss(PIXELS, z),
        "loss_and_gradients": lambda z: model.loss_and_gradients(PIXELS, z)[1].flat,
    }


OF_IMAGES: dict[str, Use] = {
    "average_loss": lambda i: ev.average_loss(MODEL, i, rng()),
    "losses_per_image": lambda i: ev.losses_per_image(MODEL, i, CODES[: len(i)]),
    "iwae_bound": lambda i: ev.iwae_bound(MODEL, i, 2, rng()),
    "reconstruction_error": lambda i: ev.reconstruction_error(MODEL, i),
    "active_units": lambda i: ev.active_units(MODEL, i),
    "kl_per_latent": lambda i: ev.kl_per_latent(MODEL, i),
    "binarized": lambda i: ev.binarized(i, rng()),
    "pixel_entropy": ev.pixel_entropy,
    "no_latent_loss": lambda i: ev.no_latent_loss(i, i),
    "to_uint8": to_uint8,
    "image_grid": lambda i: np.asarray(image_grid([i])),
    "reconstruction_grid": lambda i: np.asarray(reconstruction_grid(i, i, 1, "", columns=4)),
}
OF_THE_MODEL = list(OF_IMAGES)[:6]  # which says how large they are


@pytest.mark.parametrize("form", {**FORMS, **FORMS_OF_FLOATS}.items(), ids=lambda form: form[0])
@pytest.mark.parametrize("dtype", MODELS)
def test_any_form_of_the_same_numbers_gives_the_same_and_stays(
    dtype: str, form: tuple[str, Callable[[Array], Any]], tally: Tally
) -> None:
    name, change = form
    cases: list[tuple[Use, Array]] = [
        (use, PIXELS) for use in (*of_pixels(MODELS[dtype]).values(), to_uint8)
    ]
    cases += [(use, CODES) for use in of_codes(MODELS[dtype]).values()]
    if name in ("read-only", "in a larger array") and dtype == "float32":
        cases += [(use, IMAGES) for use in OF_IMAGES.values()]
    for use, plain in cases:
        given = change(plain)
        found, expected = np.asarray(use(given)), np.asarray(use(plain))
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(given, plain)
        tally("odd arguments", "the right result")


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.int64])
def test_whole_numbers_are_codes_too_however_large(
    kind: type[np.integer[Any]], tally: Tally
) -> None:
    """The least int8 has no negative, and no unsigned number but 0 has one."""
    for number in (1, np.iinfo(kind).min, np.iinfo(kind).max):
        z = np.full((2, MODEL.latent_dim), number, kind)
        np.testing.assert_array_equal(MODEL.decode(z), MODEL.decode(z.astype(float)))
        tally("odd arguments", "the right result")


@pytest.mark.parametrize("value", [1 + 2e-16, np.nextafter(np.float32(1), 2), 1 + 9e-7, -9e-7])
def test_rounding_errors_of_pixels_are_clipped(value: float) -> None:
    x = with_one(value)
    assert MODEL.loss(x, CODES).bce == MODEL.loss(x.clip(0, 1), CODES).bce
    assert x[4, 700] == value


# ------------------------------------------------------------------ other numbers


def with_one(value: float) -> Array:
    x: Array = IMAGES.reshape(6, 784) / 255
    x[4, 700] = value
    return x


TABLE = {  # by argument: what is given, and what the message says of it
    "x": {
        "NaN": (with_one(np.nan), "x holds NaN or infinity"),
        "infinity": (with_one(np.inf), "x holds NaN or infinity"),
        "above 1": (with_one(1.5), "x must hold pixels in [0, 1], not from 0 to 1.5"),
        "below 0": (with_one(-0.25), "not from -0.25 to"),
        "a little above 1": (with_one(1 + 2e-6), "to 1.000002"),
        "a little below 0": (with_one(-2e-6), "not from -2e-06 to"),
        "bytes": (IMAGES.reshape(6, 784), "x must hold floats, not uint8: divide bytes by 255"),
        "0 and 1": ((PIXELS > 0.5).astype(np.uint8), "they are 0 and 1, call astype(float)"),
        "truth": (PIXELS > 0.5, "x must hold floats, not bool: call astype(float)"),
        "783 features": (PIXELS[:, :783], "x must have shape (B, 784), not (6, 783)"),
        "one image": (PIXELS[0], "x must have shape (B, 784), not (784,)"),
        "no image": (PIXELS[:0], "x is an empty batch"),
        "complex": (PIXELS + 0j, "x must hold floats, not complex64"),
        "objects": (PIXELS.astype(object), "x must hold floats, not object"),
        "text": ([["a"] * 784], "x must hold floats, not <U1"),
        "nothing": (None, "x must hold floats, not object"),
        "a ragged list": ([[0.0] * 784, [0.0] * 783], "inhomogeneous"),
    },
    "epsilon": {
        "one row": (CODES[:1], "epsilon must have shape (6, 3), not (1, 3)"),
        "two columns": (CODES[:, :2], "epsilon must have shape (6, 3), not (6, 2)"),
        "one column": (CODES[:, :1], "epsilon must have shape (6, 3), not (6, 1)"),
        "flat": (CODES.ravel(), "epsilon must have shape (6, 3), not (18,)"),
        "NaN": (CODES * np.nan, "epsilon holds NaN or infinity"),
        "infinity": (CODES + np.inf, "epsilon holds NaN or infinity"),
    },
    "z": {
        "NaN": (CODES * np.nan, "z holds NaN or infinity"),
        "infinity": (CODES - np.inf, "z holds NaN or infinity"),
        "two columns": (CODES[:, :2], "z must have shape (B, 3), not (6, 2)"),
        "one code": (CODES[0], "z must have shape (B, 3), not (3,)"),
        "none": (CODES[:0], "z is an empty batch"),
        "truth": (CODES > 0, "z must hold floats, not bool"),
        "too large": (np.full((6, 3), -1e39), "z holds numbers too large for float32"),
    },
    "beta": {
        str(beta): (beta, "beta must be a finite number, 0 or more")
        for beta in (-1.0, -1e-9, np.nan, np.inf)
    },
    "images": {
        "pixels": (IMAGES / 255, "images must"),
        "whole numbers": (IMAGES.astype(np.int64), "images must"),
        "truth values": (IMAGES > 9, "images must"),
        "a list": (IMAGES.tolist(), "images must"),
        "none": (IMAGES[:0], "images must"),
    },
    "images of the model": {
        "783 features": (IMAGES.reshape(6, 784)[:, :783], "784"),
        "one": (IMAGES[0], "784"),
    },
    "pixels": {
        "NaN": (with_one(np.nan), "pixels must"),
        "from -1 to 1": (2 * PIXELS - 1, "pixels must"),
        "truth": (PIXELS > 0.5, "pixels must"),
        "words": ("pixels", "pixels must"),
    },
}
CALLS: dict[str, list[Use]] = {
    "x": [*of_pixels(MODEL).values()],
    "epsilon": [*of_codes(MODEL).values()][1:],
    "z": [MODEL.decode],
    "beta": [
        lambda beta: MODEL.loss(PIXELS, CODES, beta),
        lambda beta: MODEL.loss_and_gradients(PIXELS, CODES, beta),
    ],
    "images": [
        *(OF_IMAGES[name] for name in (*OF_THE_MODEL, "binarized", "pixel_entropy")),
        lambda images: ev.no_latent_loss(images, IMAGES),
        lambda images: ev.no_latent_loss(IMAGES, images),
    ],
    "images of the model": [OF_IMAGES[name] for name in OF_THE_MODEL],
    "pixels": [to_uint8],
}
BAD = [
    pytest.param(argument, *row, id=f"{argument}: {name}")
    for argument, rows in TABLE.items()
    for name, row in rows.items()
]


@pytest.mark.parametrize(("argument", "bad", "words"), BAD)
def test_a_bad_argument_is_refused_and_nothing_changes(
    argument: str, bad: Any, words: str, tally: Tally
) -> None:
    before = np.array(bad) if isinstance(bad, np.ndarray) else None
    state = MODEL.parameters.flat.tobytes(), MODEL.gradients.flat.tobytes()
    for call in CALLS[argument]:
        with refused(ValueError, words):
            call(bad)
        tally("odd arguments", "ValueError")
    assert state == (MODEL.parameters.flat.tobytes(), MODEL.gradients.flat.tobytes())
    if before is not None:
        np.testing.assert_array_equal(bad, before)


# ------------------------------------------------------------------ optimizers

KINDS: list[Callable[[], Optimizer]] = [Adam, Adamax, RMSProp, SGD]


@pytest.mark.parametrize("kind", KINDS)
def test_optimizers_leave_gradients_alone_and_refuse_what_does_not_fit(
    kind: Callable[[], Optimizer], tally: Tally
) -> None:
    theta, gradient = np.ones((3, 4)), read_only(np.full((3, 4), 0.5))
    optimizer = kind()
    optimizer.update({"it": theta}, {"it": gradient})
    assert (theta < 1).all()
    np.testing.assert_array_equal(gradient, 0.5)
    tally("odd arguments", "the right result")
    kept = theta.copy()
    bad: list[Mapping[str, Any]] = [
        {"it": np.zeros((3, 5))},
        {"it": np.zeros(12)},
        {"it": np.zeros((4, 3)).T},  # of the right shape: no copy is made of what is updated
        {"it": np.zeros((3, 4), np.float32)},
    ]
    for gradients in bad:
        try:
            optimizer.update({"it": theta}, gradients)
        except ValueError:
            np.testing.assert_array_equal(theta, kept)
            tally("odd arguments", "ValueError")
        else:
            assert gradients["it"].shape == theta.shape
            np.testing.assert_array_equal(gradients["it"], 0)
            kept = theta.copy()
            tally("odd arguments", "the right result")


# ------------------------------------------------------------------ files


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_checkpoint_keeps_any_form_of_the_same_numbers(
    form: Callable[[Array], Any], tmp_path: Path, tally: Tally
) -> None:
    path, given = tmp_path / "a file.npz", form(PIXELS)
    checkpoint.save(path, {"mine": [1, 2]}, {"x": given})
    header, arrays = checkpoint.load(path)
    assert header["mine"] == [1, 2]
    np.testing.assert_array_equal(arrays["x"], PIXELS)
    np.testing.assert_array_equal(given, PIXELS)
    tally("odd arguments", "the right result")


@pytest.mark.parametrize(
    ("header", "arrays"),
    [
        ({}, {"x": IMAGES}),
        ({}, {"x": PIXELS + 0j}),
        ({}, {"x": PIXELS.astype(object)}),
        ({}, {"x": np.array(["text"])}),
        ({"loss": float("nan")}, {"x": PIXELS}),
    ],
    ids=["bytes", "complex", "objects", "text", "NaN in the header"],
)
def test_what_a_checkpoint_cannot_hold_is_refused_and_nothing_is_touched(
    header: Mapping[str, Any], arrays: Mapping[str, Any], tmp_path: Path, tally: Tally
) -> None:
    path = tmp_path / "model.npz"
    path.write_bytes(b"as it was")
    with pytest.raises(ValueError, match=r".+"):
        checkpoint.save(path, header, arrays)
    assert path.read_bytes() == b"as it was"
    assert len(list(tmp_path.iterdir())) == 1
    tally("odd arguments", "ValueError")


@pytest.mark.parametrize("name", ["", "mnist2", "\0", "a\nb", "no/such/place", 3, None, "~nobody"])
def test_datasets_that_do_not_exist(name: Any, tally: Tally) -> None:
    with refused(DataError):
        load_dataset(name)
    tally("odd arguments", "DataError")


@pytest.mark.parametrize(
    "pixels",
    [PIXELS, IMAGES, IMAGES[0].astype(float), IMAGES[0, 0], IMAGES[:0], IMAGES[0] > 9],
    ids=["floats", "no picture", "float bytes", "a row", "nothing", "truth values"],
)
def test_what_is_no_picture_is_not_written(pixels: Any, tmp_path: Path, tally: Tally) -> None:
    with pytest.raises(ValueError, match="picture"):
        save_png(tmp_path / "picture.png", pixels)
    assert not list(tmp_path.iterdir())
    tally("odd arguments", "ValueError")


def test_a_picture_that_cannot_be_written_is_an_output_error(tmp_path: Path, tally: Tally) -> None:
    with pytest.raises(OutputError, match=r"picture\.png"):
        save_png(tmp_path / "nowhere" / "picture.png", IMAGES[0])
    tally("odd arguments", "OutputError")
