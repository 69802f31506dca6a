"""Whatever public functions are given: the right result or a clear ValueError, nothing in between.

And what they are given stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import pytest

from npvae import VAE, load_dataset
from npvae import evaluation as ev
from npvae.core.errors import DataError
from npvae.core.parameters import Array
from npvae.plots.image_grid import image_grid, reconstruction_grid, to_uint8
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
    "lists": lambda a: a.tolist(),
    "float64": lambda a: a.astype(np.float64),
    "long double": lambda a: a.astype(np.longdouble),
}


def calls(model: VAE) -> dict[str, list[Use]]:
    """What takes the argument of this name."""
    return {
        "x": [
            model.encode,
            lambda x: model.loss(x, CODES),
            lambda x: model.loss_and_gradients(x, CODES, 0.5)[1].flat,
        ],
        "epsilon": [
            lambda epsilon: model.loss(PIXELS, epsilon),
            lambda epsilon: model.loss_and_gradients(PIXELS, epsilon)[1].flat,
        ],
        "z": [model.decode],
        "beta": [
            lambda beta: model.loss(PIXELS, CODES, beta),
            lambda beta: model.loss_and_gradients(PIXELS, CODES, beta),
        ],
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


@pytest.mark.parametrize(("name", "form"), FORMS.items(), ids=FORMS)
@pytest.mark.parametrize("dtype", MODELS)
def test_any_form_of_the_same_numbers_gives_the_same_and_stays(
    dtype: str, name: str, form: Callable[[Array], Any], tally: Tally
) -> None:
    known = calls(MODELS[dtype])
    cases: list[tuple[Use, Array]] = [(use, PIXELS) for use in (*known["x"], to_uint8)]
    cases += [(use, CODES) for use in (*known["epsilon"], *known["z"])]
    if name in ("read-only", "in a larger array") and dtype == "float32":
        cases += [(use, IMAGES) for use in OF_IMAGES.values()]
    for use, plain in cases:
        given = form(plain)
        found, expected = np.asarray(use(given)), np.asarray(use(plain))
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(given, plain)
        tally("odd arguments", "the right result")


def test_whole_numbers_are_codes_too_however_large(tally: Tally) -> None:
    """The least int8 has no negative, and no unsigned number but 0 has one."""
    for kind in (np.uint8, np.int8, np.int64):
        for number in (1, np.iinfo(kind).min, np.iinfo(kind).max):
            z = np.full((2, MODEL.latent_dim), number, kind)
            np.testing.assert_array_equal(MODEL.decode(z), MODEL.decode(z.astype(float)))
            tally("odd arguments", "the right result")


@pytest.mark.parametrize("value", [1 + 2e-16, 1 + 9e-7, -9e-7])
def test_rounding_errors_of_pixels_are_clipped(value: float) -> None:
    x, model = with_one(value), MODELS["float64"]
    assert model.loss(x, CODES).bce == model.loss(x.clip(0, 1), CODES).bce
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
        "785 features": (np.insert(PIXELS, 0, 0, axis=1), "shape (B, 784), not (6, 785)"),
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
        "pixels": (IMAGES / 255, "images must be an array of bytes (uint8), 0 to 255, not float64"),
        "whole numbers": (IMAGES.astype(np.int64), "bytes (uint8), 0 to 255, not int64"),
        "truth values": (IMAGES > 9, "bytes (uint8), 0 to 255, not bool"),
        "a list": (IMAGES.tolist(), "bytes (uint8), 0 to 255, not list"),
        "none": (IMAGES[:0], "images must have shape (N, ...), N > 0, not (0, 28, 28)"),
        "a row": (IMAGES[0, 0], "images must have shape (N, ...), N > 0, not (28,)"),
    },
    "images of the model": {
        "783 features": (IMAGES.reshape(6, 784)[:, :783], "784"),
        "one": (IMAGES[0], "784"),
    },
}
CALLS: dict[str, list[Use]] = {
    **calls(MODEL),
    "images": [
        *(OF_IMAGES[name] for name in (*OF_THE_MODEL, "binarized", "pixel_entropy")),
        lambda images: ev.no_latent_loss(images, IMAGES),
        lambda images: ev.no_latent_loss(IMAGES, images),
    ],
    "images of the model": [OF_IMAGES[name] for name in OF_THE_MODEL],
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


@pytest.mark.parametrize("name", ["mnist2", "a\nb", 3, None, "~nobody"])
def test_datasets_that_do_not_exist(name: Any, tally: Tally) -> None:
    with refused(DataError):
        load_dataset(name)
    tally("odd arguments", "DataError")
