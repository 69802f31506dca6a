"""Whatever public functions are given: the right result or a clear ValueError, nothing in between.

And what they are given stays as it is. The details of the model's own checks are in test_model.py.
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

Tally: TypeAlias = Callable[[str, str], None]
Use: TypeAlias = Callable[[Any], Any]

DICE = np.random.default_rng(0)
IMAGES = DICE.integers(0, 256, (6, 28, 28)).astype(np.uint8)
PIXELS = (IMAGES.reshape(6, 784) / 255).astype(np.float32)
CODES = DICE.standard_normal((6, 3)).astype(np.float32)
MODEL = VAE(784, (8,), 3, rng=np.random.default_rng(0))


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
    "every other": lambda a: np.repeat(a, 2, axis=0)[::2],
    "mirrored": lambda a: a[..., ::-1].copy()[..., ::-1],
    "backwards": lambda a: a[::-1].copy()[::-1],
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "in a larger array": lambda a: np.pad(a, [(1, 1)] * a.ndim)[(slice(1, -1),) * a.ndim],
}

OF_PIXELS: dict[str, Use] = {
    "encode": MODEL.encode,
    "loss": lambda x: MODEL.loss(x, CODES),
    "loss_and_gradients": lambda x: MODEL.loss_and_gradients(x, CODES, 0.5)[1].flat,
    "to_uint8": to_uint8,
}
OF_CODES: dict[str, Use] = {
    "decode": MODEL.decode,
    "loss": lambda z: MODEL.loss(PIXELS, z),
    "loss_and_gradients": lambda z: MODEL.loss_and_gradients(PIXELS, z)[1].flat,
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
EVERYTHING: list[tuple[str, Use, Array]] = [
    *((f"{name} of pixels", use, PIXELS) for name, use in OF_PIXELS.items()),
    *((f"{name} of codes", use, CODES) for name, use in OF_CODES.items()),
    *((f"{name} of images", use, IMAGES) for name, use in OF_IMAGES.items()),
]


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_any_form_of_the_same_numbers_gives_the_same_and_stays(
    form: Callable[[Array], Any], tally: Tally
) -> None:
    for name, use, plain in EVERYTHING:
        given = form(plain)
        result, expected = use(given), use(plain)
        for one, other in zip(np.atleast_1d(result), np.atleast_1d(expected), strict=True):
            np.testing.assert_array_equal(one, other, err_msg=name)
        np.testing.assert_array_equal(given, plain, err_msg=name)
        tally("odd arguments", "the right result")


# ------------------------------------------------------------------ other numbers


def with_one(value: float) -> Array:
    x: Array = PIXELS.copy()
    x[4, 700] = value
    return x


BAD_PIXELS: dict[str, Any] = {
    "NaN": with_one(np.nan),
    "infinity": with_one(np.inf),
    "above 1": with_one(1.01),
    "below 0": with_one(-0.01),
    "from -1 to 1": 2 * PIXELS - 1,
    "as large as bytes": 255 * PIXELS,
    "783 features": PIXELS[:, :783],
    "785 features": np.pad(PIXELS, [(0, 0), (0, 1)]),
    "transposed": PIXELS.T,
    "one image without a batch": PIXELS[0],
    "an empty batch": PIXELS[:0],
    "complex": PIXELS + 0j,
    "objects": PIXELS.astype(object),
    "truth values": PIXELS > 0.5,
    "words": "pixels",
    "nothing": None,
    "an empty list": [],
    "a ragged list": [[0.0] * 784, [0.0] * 783],
}


@pytest.mark.parametrize("bad", BAD_PIXELS.values(), ids=BAD_PIXELS)
def test_bad_pixels_are_refused(bad: Any, tally: Tally) -> None:
    before = np.array(bad) if isinstance(bad, np.ndarray) else None
    shapes_matter = np.shape(bad) != PIXELS.shape if before is not None else True
    for name, use in OF_PIXELS.items():
        if name == "to_uint8" and shapes_matter:  # which takes any shape
            continue
        with pytest.raises(ValueError, match=r"x |images |pixels |inhomogeneous") as refusal:
            use(bad)
        assert str(refusal.value).count("\n") < 4
        tally("odd arguments", "ValueError")
    if before is not None:
        np.testing.assert_array_equal(bad, before)


def test_bytes_are_no_pixels_for_the_model(tally: Tally) -> None:
    for name in ("encode", "loss", "loss_and_gradients"):
        with pytest.raises(ValueError, match="not uint8: divide bytes by 255 first"):
            OF_PIXELS[name](IMAGES.reshape(6, 784))
        tally("odd arguments", "ValueError")


@pytest.mark.parametrize(
    "bad",
    [CODES * np.nan, CODES + np.inf, CODES[:, :2], CODES[0], CODES[:0], CODES > 0, None, "z", []],
    ids=["NaN", "infinity", "a latent short", "one", "empty", "truth", "None", "text", "no list"],
)
def test_bad_codes_are_refused(bad: Any, tally: Tally) -> None:
    for use in OF_CODES.values():
        with pytest.raises(ValueError, match=r"z |epsilon "):
            use(bad)
        tally("odd arguments", "ValueError")


OF_THE_MODEL = (  # which says how large they are
    "average_loss",
    "iwae_bound",
    "reconstruction_error",
    "active_units",
    "kl_per_latent",
)


@pytest.mark.parametrize("name", [*OF_THE_MODEL, "image_grid", "reconstruction_grid"])
def test_images_of_another_size_are_refused(name: str, tally: Tally) -> None:
    for bad in (IMAGES.reshape(6, 784)[:, :783], IMAGES[0], IMAGES[:0]):
        with pytest.raises(ValueError, match=r"shape|images"):
            OF_IMAGES[name](bad)
        tally("odd arguments", "ValueError")


BAD_IMAGES: dict[str, Any] = {
    "pixels": IMAGES / 255,
    "float32 pixels": PIXELS,
    "whole numbers": IMAGES.astype(np.int64),
    "truth values": IMAGES > 9,
    "a list": IMAGES.tolist(),
    "none": IMAGES[:0],
}


@pytest.mark.parametrize("bad", BAD_IMAGES.values(), ids=BAD_IMAGES)
def test_images_that_are_no_bytes_are_refused(bad: Any, tally: Tally) -> None:
    uses = [OF_IMAGES[name] for name in (*OF_THE_MODEL, "binarized", "pixel_entropy")]
    uses += [lambda i: ev.no_latent_loss(i, IMAGES), lambda i: ev.no_latent_loss(IMAGES, i)]
    for use in uses:
        with pytest.raises(ValueError, match="images must"):
            use(bad)
        tally("odd arguments", "ValueError")


@pytest.mark.parametrize("number", [1e39, -1e39, 1e300, -1e300])
def test_codes_that_float32_does_not_know_are_refused(number: float, tally: Tally) -> None:
    with pytest.raises(ValueError, match="z holds numbers too large for float32"):
        MODEL.decode(np.full((6, 3), number))
    tally("odd arguments", "ValueError")


@pytest.mark.parametrize("beta", [-1.0, -1e-9, np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("use", [MODEL.loss, MODEL.loss_and_gradients])
def test_a_beta_that_is_no_weight_is_refused(
    use: Callable[..., Any], beta: float, tally: Tally
) -> None:
    with pytest.raises(ValueError, match="beta must be a finite number, 0 or more"):
        use(PIXELS, CODES, beta)
    tally("odd arguments", "ValueError")


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


@pytest.mark.parametrize("kind", [np.uint8, np.uint64, np.int8, np.int64])
def test_whole_numbers_are_codes_too_however_large(
    kind: type[np.integer[Any]], tally: Tally
) -> None:
    """The least int8 has no negative, and no unsigned number but 0 has one."""
    for number in (1, np.iinfo(kind).min, np.iinfo(kind).max):
        z = np.full((2, MODEL.latent_dim), number, kind)
        np.testing.assert_array_equal(MODEL.decode(z), MODEL.decode(z.astype(float)))
        tally("odd arguments", "the right result")


@pytest.mark.parametrize(
    "name", ["", " ", "mnist2", "\0", "a\nb", "no/such/place", 3, None, "~nobody"]
)
def test_datasets_that_do_not_exist(name: Any, tally: Tally) -> None:
    with pytest.raises(DataError) as refusal:
        load_dataset(name)
    assert str(refusal.value).count("\n") < 4
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
