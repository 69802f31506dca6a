"""The explorer in a real browser, offline: whatever it shows is compared with what Python computes.

Each test fails, too, if the page logs an error or asks for anything but itself. The weights of the
models here are numbers that float16 holds exactly, so that page and Python have the same ones.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable, Iterator
from functools import cache
from io import BytesIO
from itertools import chain, cycle, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from npvae.datasets import Dataset
from npvae.datasets.drawn_digits import drawn_digits
from npvae.latent_space import lerp, slerp
from npvae.layers import ACTIVATIONS
from npvae.model import VAE
from npvae.plots.explorer import ModelOnPage, explorer_page, knows
from tests.helpers import ROOT
from tests.plots.conftest import Page

Floats = NDArray[np.float64]
Point = tuple[float, float]

DIGITS = drawn_digits(train=1, test=120)[1]
TEST = Dataset("digits", DIGITS.images, DIGITS.labels, tuple("abcdefghij"), "")
X = TEST.images.reshape(-1, 784) / 255


def model(seed: int, **settings: Any) -> ModelOnPage:
    """A model with weights large enough for distinct pictures, and biases that are not zero."""
    settings = {"hidden_dims": (16,), "latent_dim": 3, "dtype": np.float64, **settings}
    vae, rng = VAE(784, **settings), np.random.default_rng(seed)
    for array in vae.parameters.values():
        array[:] = rng.normal(0, 1.2 / np.sqrt(len(array)), array.shape)
    vae.parameters["encoder.hidden0.W"][:] *= 4
    vae.parameters["encoder.hidden0.W"][784:] *= 10  # the class, beside that many pixels
    vae.parameters["encoder.mu.W"][:, 4:] = 0  # a fifth latent is one that it does not use
    vae.parameters["encoder.log_var.W"][:] /= 4
    vae.parameters["encoder.log_var.b"][:] = -2
    for array in vae.parameters.values():
        array[:] = array.astype(np.float16)
    return ModelOnPage(vae, f"model {seed}", f"m{seed}")


MODELS = [
    model(1),
    model(2, activation="tanh", hidden_dims=(12, 9)),
    model(3, activation="elu", latent_dim=2, hidden_dims=(8, 9, 10)),
    model(4, activation="leaky_relu", latent_dim=5),
    model(5, latent_dim=1),
    model(6, num_classes=10),
]
VAE_1, CONDITIONAL = MODELS[0].vae, MODELS[-1].vae
MU, LOG_VAR = VAE_1.encode(X)

TRACK = "#latents .latent:nth-child({}) .track"


@cache
def html() -> str:
    return explorer_page(MODELS, TEST)


class Explorer(Page):
    """The page, and short words for what a hand does to it and an eye sees of it."""

    def show(self, text: str = "", hash_: str = "", scheme: str = "light") -> None:
        super().show(text or html(), hash_, scheme)
        self.settle()

    def settle(self) -> None:
        """Wait until all pictures are drawn."""
        self.until("settled()")

    def state(self, name: str) -> Any:
        """An array of the page's state; what is drawn from it may come a frame later."""
        return self.js(f"Array.from(state.{name} ?? [])")

    @property
    def z(self) -> Floats:
        self.settle()
        return np.array(self.state("z"), float)

    @property
    def reach(self) -> float:
        """Where sliders and plane end."""
        return float(self.js("state.model.range"))

    def text(self, selector: str) -> str:
        self.settle()
        return str(self.tab.inner_text(selector))

    def verdict(self) -> str:
        """What the page says of itself, once it says something."""
        self.until("document.getElementById('verdict').className")
        return str(self.tab.inner_text("#verdict"))

    def pixels(self, selector: str) -> Floats:
        """The red of a canvas, or of the plane without its dots, "tiles"."""
        return self.colors(selector)[..., 0]

    def colors(self, selector: str) -> Floats:
        """Red, green and blue (height, width, 3)."""
        self.settle()
        canvas = selector if selector == "tiles" else f"document.querySelector('{selector}')"
        return colors_of(self.js(f"{canvas}.toDataURL()"))

    def assert_shows(
        self, z: NDArray[Any], vae: VAE = VAE_1, c: int | None = None, canvas: str = "#decoded"
    ) -> None:
        """What Python decodes, to within half a grey level and its rounding: (Z,) or (N, Z)."""
        np.testing.assert_allclose(self.pixels(canvas), decoded(vae, z, c), atol=1)

    def box(self, selector: str) -> Any:
        return self.tab.locator(selector).first.bounding_box()

    def place(self, selector: str, x: float, y: float) -> Point:
        """A place on an element, in shares of its width and height."""
        self.tab.locator(selector).first.scroll_into_view_if_needed()
        self.settle()
        box = self.box(selector)
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    def drag(self, selector: str, *places: Point) -> None:
        self.tab.mouse.move(*self.place(selector, *places[0]))
        self.tab.mouse.down()
        for place in places[1:]:
            self.tab.mouse.move(*self.place(selector, *place), steps=4)
        self.tab.mouse.up()

    def click(self, selector: str, x: float, y: float) -> None:
        self.tab.mouse.click(*self.place(selector, x, y))

    def press(self, selector: str, *keys: str) -> None:
        self.tab.focus(selector)
        for key in keys:
            self.tab.keyboard.press(key)

    def pick(self, n: int) -> None:
        self.tab.click(f"#examples canvas:nth-child({n + 1})")

    def choose_model(self, n: int) -> None:
        self.tab.click(f"#models label:nth-of-type({n % len(MODELS) + 1})")

    def choose_class(self, c: int) -> None:
        self.tab.click(f"#given label:nth-child({c + 1})")

    def see_plane(self) -> tuple[int, int]:
        """Scroll to the plane: before, nothing is decoded for it. Its latents across and up."""
        self.place("#map", 0.5, 0.5)
        self.settle()
        across, up = self.state("axes")
        return across, up

    def address(self) -> str:
        """What stands behind # once it has followed the state, a little later."""
        self.until("location.hash.slice(1) === stateAsText()")
        return f"#{self.tab.url.partition('#')[2]}"

    def swipe(
        self, selector: str, by: Point, at: Point = (0.5, 0.5), scrolls: bool = False
    ) -> float:
        """A finger comes down on an element and moves by some pixels: how far that scrolled.

        Touches as the browser gets them from a screen: they scroll, or reach the page.
        """
        touch = self.context.new_cdp_session(self.tab).send
        self.js(f"document.querySelector('{selector}').scrollIntoView({{block: 'center'}})")
        start, before = np.array(self.place(selector, *at)), self.js("scrollY")
        for step in range(14):
            x, y = (start + min(step, 12) / 12 * np.array(by)).tolist()
            kind = "touchMove" if step else "touchStart"
            touch("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
        touch("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        if scrolls:  # which the browser does in a thread of its own, in its own time
            self.until(f"scrollY !== {before}")
        self.settle()
        return float(self.js("scrollY") - before)


def colors_of(url: str) -> Floats:
    """The pixels of a PNG in a "data:" address."""
    with Image.open(BytesIO(b64decode(url.partition(",")[2]))) as picture:
        return np.asarray(picture.convert("RGB")).astype(np.float64)


def near(expected: Any, abs: float = 1e-6) -> Any:  # as pytest calls it
    return pytest.approx(expected, abs=abs)


def decoded(vae: VAE, z: NDArray[Any], c: int | None = None) -> Floats:
    """Codes (Z,) or (N, Z) as grey levels, side by side."""
    x_hat = np.asarray(vae.decode(np.atleast_2d(z), c), np.float64)
    greys: Floats = np.rint(255 * np.concatenate(list(x_hat.reshape(-1, 28, 28)), axis=1))
    return greys


def cells(count: int, reach: float) -> Floats:
    """The middles of cells that divide a slider, or a side of the plane."""
    return ((np.arange(count) + 0.5) / count * 2 - 1) * reach


@pytest.fixture(scope="module")
def tabs(browser: Any) -> tuple[Explorer, Explorer]:
    return Explorer(browser), Explorer(browser, 360, 740, has_touch=True, is_mobile=True)


def used(tab: Explorer, folder: Path) -> Iterator[Explorer]:
    tab.folder = folder
    tab.show()
    yield tab
    tab.settle()
    tab.check()


@pytest.fixture
def page(tabs: tuple[Explorer, Explorer], tmp_path: Path) -> Iterator[Explorer]:
    yield from used(tabs[0], tmp_path)


@pytest.fixture
def phone(tabs: tuple[Explorer, Explorer], tmp_path: Path) -> Iterator[Explorer]:
    yield from used(tabs[1], tmp_path)


# --- the arithmetic ------------------------------------------------------------------------------


def test_every_activation_and_depth_passes_the_self_test(page: Explorer) -> None:
    assert page.verdict() == "self-test passed"
    results = page.js("selfTest()")
    assert len(results) == len(MODELS)
    for result in results:
        assert result["intact"]
        assert max(result["decoded"], result["encoded"]) < 1e-5  # float32 of stored examples
    assert "float16" in page.text("#report")


def test_its_arithmetic_is_that_of_the_lesson(page: Explorer) -> None:
    """Activations of its own table alone: what is new in the lesson is refused."""
    y, t = [-30.0, -2.5, -0.1, 0.0, 0.1, 2.5, 30.0], np.linspace(0, 1, 5).tolist()
    ends = [
        ([1.0, 2.0, 3.0], [-2.0, 0.5, 1.0]),
        ([1.0, 0.0, 2.0], [-1.0, 0.0, -2.0]),  # opposite
        ([1.0, 1.0, 0.0], [3.0, 3.0, 0.0]),  # the same direction
        ([0.0, 0.0, 0.0], [1.0, 1.0, 0.0]),
        ([2.0], [-1.0]),
    ]
    rows: dict[str, Any] = {}
    drawn = "reparameterize({ mu: [1, -2], logVar: [0.5, -3] }, [2, 1])"
    rows[drawn] = [1 + 2 * np.exp(0.25), -2 + np.exp(-1.5)]
    for name in page.js("Object.keys(ACTIVATIONS)"):
        assert knows(name)
        rows[f"{y}.map(ACTIVATIONS.{name})"] = ACTIVATIONS[name][0](np.array(y))
    for (a, b), (name, way) in product(ends, {"straight": lerp, "spherical": slerp}.items()):
        rows[f"{t}.map((t) => {name}({a}, {b}, t))"] = way(np.array(a), np.array(b), np.array(t))
    for expression, expected in rows.items():
        found = page.js(expression)
        np.testing.assert_allclose(found, expected, 1e-12, 1e-12, err_msg=expression)


def test_how_typical_a_code_is(page: Explorer) -> None:
    """With two latents |z|^2 is exponential, and with four there is a formula, too."""
    r = np.array([0.3, 1.0, 2.0, 3.5])
    formulas = {2: 1 - np.exp(-(r**2) / 2), 4: 1 - np.exp(-(r**2) / 2) * (1 + r**2 / 2)}
    for latents, share in formulas.items():
        found = page.js(f"{r.tolist()}.map(shellOf({latents}).shareWithin)")
        np.testing.assert_allclose(found, share, atol=1e-3)  # sums on a grid of 800 steps


# --- what a hand does ----------------------------------------------------------------------------


def test_mouse_and_keys_move_the_latents_that_they_are_for(page: Explorer) -> None:
    """All others stay, and so does the image."""
    first, second, _ = page.js("state.model.order")
    (across, up), reach, mouse, press = page.see_plane(), page.reach, page.tab.mouse, page.press
    dot = page.js("Object.values(placeOfDot(7, 1))")
    slider, keys = TRACK.format(2), f"{TRACK.format(1)} input"
    acts: list[tuple[Callable[[], object], dict[int, float], float]] = [
        (lambda: page.drag(slider, (0.5, 0.5), (0.9, 0.5)), {second: 0.8 * reach}, 0.05),
        (lambda: mouse.dblclick(*page.place(slider, 0.7, 0.5)), {second: 0}, 0),
        (lambda: page.drag("#map", dot, (0.9, 0.1)), {across: 0.8 * reach, up: 0.8 * reach}, 0.05),
        (lambda: page.tab.uncheck("#dots"), {}, 0),
        (lambda: page.click("#map", 0.75, 0.25), {across: reach / 2, up: reach / 2}, 0.05),
        (lambda: press("body", "0"), {0: 0, 1: 0, 2: 0}, 0),
        (lambda: press(keys, "ArrowRight", "Shift+ArrowLeft"), {first: 0.09}, 0),
        (lambda: press("#map", "ArrowUp"), {up: 0.1}, 0),
        (lambda: press("body", "m"), dict(enumerate(MU[0])), 0),
    ]
    for act, moved, inexact in acts:  # a pixel of a slider is 0.02
        z = page.z
        act()
        z[[*moved]] = [*moved.values()]
        assert page.z == near(z, inexact + 1e-6)
        page.assert_shows(page.z)
    assert page.js("state.picked") == 0


def test_drawing_encodes_at_once(page: Explorer) -> None:
    page.tab.click("#clear")
    assert page.text("#bce") == "\N{EN DASH}"
    page.drag("#pad", (0.3, 0.2), (0.7, 0.2), (0.4, 0.8))
    x = np.array([page.state("x")])
    assert x.max() == 1
    assert 20 < x.sum() < 120  # a seven, and not a blot
    assert x.reshape(28, 28)[5, 8:20].min() > 0.5  # its bar
    (mu,), (log_var,) = VAE_1.encode(x)
    assert page.z == near(mu)
    loss = VAE_1.loss(x, np.zeros((1, 3)))
    for name, nats in {"bce": loss.bce, "kl": loss.kl, "loss": loss.bce + loss.kl}.items():
        assert float(page.text(f"#{name}")) == near(nats, 0.06)
    # Another epsilon: z moves by a few sigma, and bce is that of the new z.
    page.tab.click("#epsilon")
    epsilon = (page.z - mu) / np.exp(0.5 * log_var)
    assert 0.01 < np.abs(epsilon).max() < 6
    assert float(page.text("#bce")) == near(VAE_1.loss(x, epsilon[None]).bce, 0.06)
    # Erasing takes ink away.
    page.tab.check("#erase")
    page.drag("#pad", (0.2, 0.2), (0.8, 0.2))
    assert np.sum(page.state("x")) < 0.8 * x.sum()


def test_picking_an_image_and_the_map_of_bce(page: Explorer) -> None:
    page.pick(5)
    assert page.z == near(MU[5])
    page.assert_shows(MU[5])
    assert page.tab.locator("#examples [aria-selected=true]").count() == 1
    # mu and sigma stand on the sliders.
    k, reach, sigma = page.js("state.model.order[0]"), page.reach, np.exp(0.5 * LOG_VAR[5])
    track, whisker = (page.box(f"{TRACK.format(1)}{part}") for part in ("", " .posterior"))
    unit = track["width"] / (2 * reach)
    assert (whisker["x"] - track["x"]) / unit - reach == near(MU[5, k] - sigma[k], 0.03)
    assert whisker["width"] / unit == near(2 * sigma[k], 0.03)
    # The map: no light where the decoder is right, and the brightest where it is most wrong.
    page.tab.click("text=bce map")
    x, x_hat = X[5], VAE_1.decode(MU[5:6])[0]
    nats = -x * np.log(x_hat) - (1 - x) * np.log(1 - x_hat)
    ranks = [v.ravel().argsort().argsort() for v in (page.pixels("#decoded"), np.minimum(nats, 3))]
    correlation: Any = np.corrcoef(np.array(ranks))
    assert correlation[0, 1] > 0.95


def test_coin_flips_follow_the_probabilities(page: Explorer) -> None:
    page.tab.click("text=coin flips")
    flip = '() => { $("decoded").click(); frame(0, 0); return $("decoded").toDataURL(); }'
    flips = [
        colors_of(url)[..., 0] / 255 for url in page.js(f"Array.from({{length: 100}}, {flip})")
    ]
    assert set(np.unique(flips)) == {0, 1}
    x_hat = VAE_1.decode(page.z[None]).reshape(28, 28)
    error = np.mean(flips, axis=0) - x_hat
    # The standard error of a pixel is sqrt(x_hat (1 - x_hat) / 100), at most 0.05.
    assert abs(error.mean()) < 6 * np.sqrt((x_hat * (1 - x_hat)).mean() / 100 / 784)
    assert error.std() < 0.07


def test_every_model_brings_its_picture_rows_and_plane(page: Explorer) -> None:
    """Of the first test image. With two latents the plane is the whole space: it stands first."""
    for n, (vae, name, _) in reversed([*enumerate(MODELS)]):
        page.choose_model(n)
        c = int(TEST.labels[0]) if vae.num_classes else None
        mu, _ = vae.encode(X[:1], c)
        assert page.z == near(mu[0])
        np.testing.assert_array_equal(page.pixels("#pad"), TEST.images[0])
        page.assert_shows(mu[0], vae, c)
        assert page.text("#about") == name
        rows = [page.tab.locator(f"{place} .track").count() for place in ("#latents", "#unused")]
        assert rows == [min(4, vae.latent_dim), max(0, vae.latent_dim - 4)]
        shown = [page.tab.is_visible(part) for part in ("#unused", "#map", "#given")]
        assert shown == [vae.latent_dim > 4, vae.latent_dim > 1, vae.num_classes > 0]
        if vae.latent_dim == 2:
            for part in ("#pad", "#map", "#decoded"):
                assert 0 < page.box(part)["y"] < 900 - page.box(part)["height"]


def test_moments_of_a_training_are_a_slider_on_one_scale(page: Explorer) -> None:
    moments = {1: (VAE_1, 0.02), 5: (MODELS[1].vae, 0.5), 20: (model(0).vae, 0.98)}
    on_page = [
        ModelOnPage(vae, f"z = 3, epoch {n}", f"epoch {n}") for n, (vae, _) in moments.items()
    ]
    page.show(explorer_page(on_page, TEST))
    assert page.text("#epochs output") == "epoch 20"  # what the training has come to
    scales = set()
    for epoch, (vae, place) in moments.items():
        page.click("#epoch", place, 0.5)
        page.assert_shows(vae.encode(X[:1])[0], vae)
        assert page.text("#epochs output") == f"epoch {epoch}"
        scales.add(page.js("[state.model.range, state.axes, state.model.order].join()"))
    assert len(scales) == 1
    # Its codes beyond the scale of the last epoch are at the edge, and not lost.
    share = page.js("placeOf(state.z.map(() => 9 * models.at(-1).range), 1)")
    assert share == {"x": 1, "y": 0}
    assert not page.tab.is_visible("#models")


@pytest.mark.parametrize("n", [0, -1], ids=["plain", "conditional"])
def test_strips_and_plane_show_what_lies_around_z(page: Explorer, n: int) -> None:
    """And the paths from A to B; all of them in the class that is chosen."""
    page.choose_model(n)
    vae, reach, c = MODELS[n].vae, page.reach, 3 if MODELS[n].vae.num_classes else None
    mu, _ = vae.encode(X[:2], vae.classes(TEST.labels[:2]))
    if c is not None:
        page.choose_class(c)
    page.tab.click("#random")
    z, k = page.z, page.js("state.model.order[0]")
    strip = np.tile(z, (13, 1))
    strip[:, k] = cells(13, reach)
    page.assert_shows(strip, vae, c, "#latents .latent:nth-child(1) .film")
    for row, way in ((1, slerp), (2, lerp)):
        stops = way(mu[0], mu[1], np.linspace(0, 1, 11))
        page.assert_shows(stops, vae, c, f"#ways label:nth-of-type({row}) canvas")
    (across, up), middles = page.see_plane(), cells(15, reach)
    tiles = page.pixels("tiles")
    for row, column in ((0, 0), (3, 11), (14, 2)):
        z[across], z[up] = middles[column], middles[14 - row]
        tile = tiles[row * 28 : row * 28 + 28, column * 28 : column * 28 + 28]
        np.testing.assert_allclose(tile, decoded(vae, z, c), atol=1)


@pytest.mark.parametrize(("n", "examples"), [(0, "test"), (-1, "test"), (-1, "none")])
def test_the_mouse_over_a_dot_shows_its_image_and_a_click_takes_it(
    page: Explorer, n: int, examples: str
) -> None:
    """In a conditional model with its class; its code alone if the page holds no images."""
    page.show(explorer_page(MODELS, TEST, examples))
    page.choose_model(n)
    vae, (across, up), reach = MODELS[n].vae, page.see_plane(), page.reach
    mu, _ = vae.encode(X, vae.classes(TEST.labels))
    alone = int(np.argmax(np.abs(mu[:, across]) * (np.abs(mu).max(axis=1) < reach)))
    label = int(TEST.labels[alone]) if vae.num_classes else None
    if label is not None:
        page.choose_class((label + 1) % 10)
    x, y = (mu[alone, [across, up]] * [1, -1] / reach + 1) / 2
    page.tab.mouse.move(*page.place("#map", x, y))
    shown = page.pixels("#glimpse canvas:nth-child(2)")
    expected = decoded(vae, mu[alone], label)
    np.testing.assert_allclose(shown, expected, atol=2)  # the code of a dot is stored in float16
    assert page.tab.is_visible("#glimpse")
    assert page.tab.is_visible("#glimpse canvas:nth-child(1)") == (examples == "test")
    page.tab.mouse.down()
    page.tab.mouse.up()
    page.assert_shows(page.z, vae, label)
    if examples == "test":
        assert page.z == near(mu[alone], 1e-5)
        for canvas in ("#glimpse canvas:nth-child(1)", "#pad"):
            np.testing.assert_array_equal(page.pixels(canvas), TEST.images[alone])
    else:
        assert page.z == near(mu[alone], 1e-2)
        assert page.js("[state.c, state.classOfX, state.x]") == [label, label, None]


def test_from_a_to_b(page: Explorer) -> None:
    for n, name in ((2, "a"), (7, "b")):
        page.pick(n)
        page.tab.click(f"#set-{name}")
    page.tab.click("#ways label:nth-of-type(2) span")
    page.tab.locator("#along").fill("0.25")
    assert page.z == near(0.75 * MU[2] + 0.25 * MU[7])
    page.tab.click("#ways label:nth-of-type(1) span")
    expected = slerp(MU[2], MU[7], np.array([0.25]))[0]
    assert page.z == near(expected)
    page.assert_shows(expected)
    page.tab.click("#play")
    page.until("state.t !== 0.25")
    page.tab.click("#play")
    assert page.state("z") != expected.tolist()  # it has moved, and has stopped
    assert page.js("state.playing") is False


# --- a conditional model, beside others that are not ---------------------------------------------


def test_one_code_in_every_class(page: Explorer) -> None:
    vae, label = CONDITIONAL, int(TEST.labels[2])
    page.pick(2)
    page.choose_model(-1)
    z, chosen = page.z, (label + 3) % 10
    for c in range(10):
        page.assert_shows(z, vae, c, f"#given label:nth-child({c + 1}) canvas")
    page.choose_class(chosen)
    np.testing.assert_array_equal(page.z, z)  # this handwriting, as another digit
    page.assert_shows(z, vae, chosen)
    assert page.text("#picture-title").endswith(TEST.class_names[chosen])
    x, x_hat = X[2], vae.decode(z[None], chosen)[0]
    bce = -np.sum(x * np.log(x_hat) + (1 - x) * np.log(1 - x_hat))
    assert float(page.text("#bce")) == near(bce, 0.06)
    # Another model has no classes, and the choice is kept for this one.
    page.choose_model(0)
    page.assert_shows(page.z)
    page.choose_model(-1)
    page.assert_shows(page.z, vae, chosen)


def test_an_own_image_is_encoded_as_the_class_that_is_chosen_and_another_as_its_own(
    page: Explorer, tmp_path: Path
) -> None:
    def upload() -> None:
        Image.fromarray(TEST.images[8]).save(tmp_path / "image.png")
        page.choose_class(5)
        page.tab.set_input_files("#file", tmp_path / "image.png")
        page.until("state.classOfX === 5")
        np.testing.assert_array_equal(page.pixels("#pad"), TEST.images[8])

    page.choose_model(-1)
    page.tab.click("#clear")
    page.choose_class(3)
    own = int(TEST.labels[5])
    acts: list[tuple[Callable[[], object], int, int]] = [  # and the classes of both halves
        (lambda: page.drag("#pad", (0.3, 0.2), (0.3, 0.5), (0.7, 0.5)), 3, 3),
        (lambda: page.choose_class(7), 3, 7),
        (lambda: page.drag("#pad", (0.6, 0.2), (0.6, 0.8)), 3, 7),  # still a 3, now seen as a 7
        (lambda: page.tab.select_option("#class-of-x", "2"), 2, 2),
        (upload, 5, 5),
        (lambda: page.pick(5), own, own),
    ]
    for act, encoded, shown in acts:
        act()
        x = [page.state("x")]
        assert page.z == near(CONDITIONAL.encode(x, encoded)[0][0])
        page.assert_shows(page.z, CONDITIONAL, shown)
        assert page.tab.input_value("#class-of-x") == str(encoded)
    assert np.ptp([CONDITIONAL.encode(x, c)[0] for c in range(10)], axis=0).max() > 0.1


# --- files, keys, the address --------------------------------------------------------------------


def test_a_picture_from_a_file(page: Explorer, tmp_path: Path) -> None:
    """Black on white, ten times as large, twice as wide as high: inverted, shrunk, centred."""
    digit, large, broken = Image.fromarray(TEST.images[8]), tmp_path / "large", tmp_path / "broken"
    ink = 255 - np.asarray(digit.resize((280, 280)))
    Image.fromarray(np.pad(ink, ((0, 0), (140, 140)), constant_values=255)).save(large, "png")
    page.tab.set_input_files("#file", large)
    page.until("$('told').textContent")
    assert "inverted" in page.text("#told")
    x = page.pixels("#pad")
    assert x[:7].max() == x[21:].max() == 0
    small = np.asarray(digit.resize((14, 14), Image.Resampling.BOX))
    np.testing.assert_allclose(x[7:21, 7:21], small, atol=40)  # resampled in another way
    broken.write_bytes(b"no picture")
    page.tab.set_input_files("#file", broken)
    page.until("!$('told').textContent.includes('inverted')")
    assert "no picture" in page.text("#told")
    np.testing.assert_array_equal(page.pixels("#pad"), x)


def test_a_picture_is_saved_as_it_is_shown(page: Explorer, tmp_path: Path) -> None:
    with page.tab.expect_download() as download:
        page.tab.click("#save")
    download.value.save_as(tmp_path / "saved.png")
    with Image.open(tmp_path / "saved.png") as picture:
        assert picture.size == (560, 560)
        saved = np.asarray(picture.convert("RGB"))[10::20, 10::20, 0]
    np.testing.assert_array_equal(saved, page.pixels("#decoded"))


def test_keys_choose_and_can_be_switched_off(page: Explorer) -> None:
    page.press("#examples canvas", "ArrowRight", "Enter")
    assert page.js("state.picked") == 1
    page.press("body", "n")
    assert page.text("#about") == MODELS[1].name
    page.press("body", "r")
    before = page.z
    assert np.abs(before).min() > 0
    page.tab.uncheck("#shortcuts")
    page.press("body", "r")
    np.testing.assert_array_equal(page.z, before)
    page.tab.reload()
    page.settle()
    assert not page.tab.is_checked("#shortcuts")


def test_the_address_brings_everything_back(page: Explorer) -> None:
    page.choose_model(3)
    page.drag("#pad", (0.3, 0.3), (0.6, 0.7))
    for button in ("#epsilon", "#set-b", "#random", "text=coin flips"):
        page.tab.click(button)
    page.tab.select_option("#across", "4")
    page.tab.select_option("#up", "4")  # the plane has each latent once
    across, up = page.state("axes")
    assert up == 4 != across
    names = ("z", "x", "a", "b", "axes", "view", "way")
    address, before = page.address(), [page.state(name) for name in names]
    page.show(hash_=address)
    for name, was, now in zip(names, before, map(page.state, names), strict=True):
        assert now == pytest.approx(was, abs=6e-5 if name in "zab" else 2e-3), name
    assert page.text("#about") == MODELS[3].name
    # Of a conditional model both classes, or those of the image where these make no sense.
    page.choose_model(-1)
    page.pick(2)
    page.tab.select_option("#class-of-x", "8")
    page.choose_class(1)
    address, own, z = page.address(), int(TEST.labels[2]), page.z
    nonsense = address.replace("c=1&of=8", "c=10&of=length")
    for hash_, c, class_of_x in ((address, 1, 8), (nonsense, own, own)):
        page.show(hash_=hash_)
        assert page.js("[state.c, state.classOfX]") == [c, class_of_x]
        mu, _ = CONDITIONAL.encode([page.state("x")], class_of_x)
        assert page.state("q.mu") == near(mu[0])
        assert page.z == near(z, 6e-5)
    for hash_ in ("#model=99&z=1,2", "#z=a,b,c&view=no&plane=7,8&x=%%%&pick=1e9&t=x", "#z="):
        page.show(hash_=hash_)
        assert page.verdict() == "self-test passed"
        page.assert_shows(page.z)


# --- fingers -------------------------------------------------------------------------------------


def test_a_finger_that_scrolls_changes_nothing(phone: Explorer) -> None:
    """Wherever it comes down, straight or aslant: the page scrolls, and the state stays."""
    text = "stateAsText() + $('pen').value"
    phone.js("moveLatents({ [state.axes[0]]: -3 })")  # not where the finger comes down
    before = phone.js(text)
    places = ("#latents .track", "#map", "#pad", "#decoded", "#ways canvas", "#along", "#pen")
    for place, by in zip(places, cycle([(0, -150), (40, 150)]), strict=False):
        assert phone.swipe(place, by, scrolls=True) * by[1] < 0, place
        assert phone.js(text) == before, place


def test_a_finger_drags_sideways_and_z_itself_in_every_direction(phone: Explorer) -> None:
    reach, k = phone.reach, phone.js("state.model.order[0]")
    phone.swipe("#latents .track", (90, 30))
    assert phone.z[k] == near(90 / phone.box(".track")["width"] * 2 * reach, 0.05)
    phone.tab.uncheck("#dots")
    axes, unit = phone.state("axes"), phone.js("$('map').clientWidth") / reach / 2
    phone.swipe("#map", (60, 30))
    assert phone.z[axes] * unit == near([60, -30], 1.5)
    x, y = phone.js("Object.values(placeOf(state.z, 1))")
    assert phone.swipe("#map", (0, -90), (x, y)) == 0
    assert phone.z[axes] * unit == near([60, 60], 1.5)
    # The pad: sideways at once, downwards after that or after a tap.
    phone.tab.click("#clear")
    phone.swipe("#pad", (60, 5), (0.3, 0.3))
    bar = np.sum(phone.state("x"))
    assert bar > 10
    assert phone.swipe("#pad", (0, 60), (0.6, 0.3)) == 0
    assert np.sum(phone.state("x")) > bar + 10


def test_what_a_finger_changed_before_the_browser_scrolls_is_undone(page: Explorer) -> None:
    """The browser may take a drag over at any time: then it sends pointercancel."""
    track, before = page.tab.locator("#latents .track").first, page.z
    touch = {"pointerType": "touch", "pointerId": 7, "isPrimary": True, "clientY": 0}
    for kind, x in (("pointerdown", 700), ("pointermove", 760), ("pointercancel", 760)):
        track.dispatch_event(kind, {**touch, "clientX": x})
        assert np.array_equal(page.z, before) == (kind != "pointermove")


def test_words_have_a_definition_at_a_touch(phone: Explorer) -> None:
    words = phone.tab.locator(".word:visible")
    assert {word.get_attribute("data-word") for word in words.all()} >= {"kl", "latent", "prior"}
    for word in words.all():
        word.tap()
        box = phone.box("main #definition")
        assert len(phone.tab.inner_text("#definition")) > 40
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 360


# --- how it looks --------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_can_be_touched(phone: Explorer, scheme: str) -> None:
    phone.show(scheme=scheme)
    assert phone.js("document.documentElement.scrollWidth") <= 360
    k, reach = phone.js("state.model.order[2]"), phone.reach
    phone.tab.touchscreen.tap(*phone.place(TRACK.format(3), 0.25, 0.5))
    assert phone.z[k] == near(-0.5 * reach, 0.1)
    phone.assert_shows(phone.z)
    ground = phone.js("getComputedStyle(document.body).backgroundColor")
    red = int(ground.removeprefix("rgb(").partition(",")[0])
    assert red > 200 if scheme == "light" else red < 60


def test_what_stays_in_sight_covers_nothing_below(page: Explorer) -> None:
    """Image and decoded picture stay beside many latents, and go before the next section."""
    page.js("$('code').style.minHeight = '1400px'")
    edges = """(y) => {
        scrollTo(0, y);
        const box = (id) => $(id).getBoundingClientRect();
        return [box("image").top, box("picture").top, box("self-test").top - box("picture").bottom];
    }"""
    assert page.js(edges, 600)[:2] == [24, 24]
    for y in (600, 1800, 9999):
        assert page.js(edges, y)[2] >= 0


BOXES = """(parts) => parts.map((part) => {
    const { left, top, right, bottom } = document.querySelector(part).getBoundingClientRect();
    return [[left, top], [right, bottom]];
})"""


def test_nothing_overlaps_at_any_width(page: Explorer) -> None:
    """Nor with names of sixty letters."""
    names = tuple(f"{'n' * 59}{k}" for k in range(10))
    chosen = [*MODELS[:3:2], ModelOnPage(CONDITIONAL, "m" * 60, "s" * 60)]
    page.show(explorer_page(chosen, Dataset("digits", DIGITS.images, DIGITS.labels, names, "")))
    parts = ["#chain", "#try", "#image", "#code", "#plane", "#journey", ".stage", "#self-test"]
    for width, n in product((320, 768, 1280, 2560), range(3)):
        page.tab.set_viewport_size({"width": width, "height": 1440})
        page.choose_model(n)
        page.js("scrollTo(0, 0)")
        page.settle()
        boxes = np.array(page.js(BOXES, parts))  # of each part left and top, right and bottom
        low = np.maximum(boxes[:, None, 0], boxes[:, 0])
        high = np.minimum(boxes[:, None, 1], boxes[:, 1])
        shared = (high - low).min(axis=2)[~np.eye(len(parts), dtype=bool)]
        assert shared.max() <= 1
        assert page.js("document.documentElement.scrollWidth") <= width


def test_a_row_says_where_z_comes_from_and_the_sum_whether_it_is_the_loss(page: Explorer) -> None:
    k = page.js("state.model.order[0]")
    mu, sigma = MU[0, k], np.exp(0.5 * LOG_VAR[0, k])

    def row() -> list[float]:
        page.settle()
        values = page.tab.locator("#latents .latent:nth-child(1) .values b").all_inner_texts()
        return [float(text.replace("\N{MINUS SIGN}", "-")) for text in values]

    def is_no_loss() -> bool:
        page.settle()
        return bool(page.js("$('loss').parentElement.classList.contains('void')"))

    assert row() == near([mu, sigma, 0, mu], 0.006)
    assert "mean of q" in page.text("#unit")
    assert not is_no_loss()
    page.tab.click("#epsilon")
    assert (page.z[k] - mu) / sigma == near(row()[2], 0.006)
    assert not is_no_loss()
    address = page.address()
    for place in (TRACK.format(1), "#random", "#zero", "#ways canvas"):
        page.tab.click(place)
        assert is_no_loss(), place
        assert "not the loss" in page.text("#unit")
        page.js("(text) => stateFromText(text)", address[1:])
        assert not is_no_loss()
    page.choose_model(-1)
    assert not is_no_loss()
    page.choose_class((int(TEST.labels[0]) + 1) % 10)
    assert is_no_loss()
    page.tab.click("#clear")
    assert "once there is an image" in page.text("#unit")


def test_the_plane_compares_codes_with_the_prior(page: Explorer) -> None:
    """White circles of the prior, the ellipse of q, and how many codes lie outside."""
    page.tab.uncheck("#dots")
    page.js("moveLatents(state.z.map(() => 3))")  # the dot of z is elsewhere
    axes, sigma = [*page.see_plane()], np.exp(0.5 * LOG_VAR[0])
    around = np.array([[np.cos(t), np.sin(t)] for t in (0.3, 2, 4.4)])
    prior = np.concatenate([around, 2 * around])
    posterior = MU[0, axes] + prior * sigma[axes]
    inside = posterior[np.abs(posterior).max(axis=1) < page.reach]
    picture = page.colors("#map")

    def seen(places: Floats) -> Floats:
        """What is drawn around each place: (N, 25, 3)."""
        at = np.rint((places * [1, -1] / page.reach + 1) / 2 * len(picture)).astype(int)
        return np.array([picture[y - 2 : y + 3, x - 2 : x + 3].reshape(25, 3) for x, y in at])

    white, blue = seen(prior), seen(inside)
    assert (white.min(axis=2) > 200).any(axis=1).all()
    assert len(inside) > 2
    assert (blue[..., 2] > blue[..., 0] + 70).any(axis=1).all()
    outside = np.mean(np.linalg.norm(MU[:, axes], axis=1) > 2)
    assert f"second circle lie {100 * outside:.0f} %" in page.text("#outside")


def test_prompts_ask_for_a_guess_and_can_be_dismissed(page: Explorer) -> None:
    answers = page.js(
        """models.map((model) => {
            setModel(model);
            return [...$("prompts").children].map((button, n) => {
                openPrompt(n);
                const before = $("answer").textContent;
                $("guesses").lastChild.click();
                return [before, $("answer").textContent];
            });
        })"""
    )
    assert [len(of_model) for of_model in answers] == [5] * len(MODELS)
    for before, answer in chain(*answers):
        assert before == ""
        assert len(answer) > 60
        assert not {"NaN", "undefined"} & set(answer.replace(".", "").split())
    page.show(hash_="#try=2")
    assert "How large is" in page.text("#task")
    assert page.js("state.picked") == 0
    page.tab.click("#dismiss")
    page.until("!location.hash.includes('try=')")  # the state is in the address instead
    page.tab.reload()
    assert not page.tab.is_visible("#try")


def test_everything_has_a_name_for_screen_readers(page: Explorer) -> None:
    unnamed = page.js(
        """[...document.querySelectorAll("button, select, input:not([hidden]), canvas[role]")]
        .filter((e) => !(e.getAttribute("aria-label") || e.textContent.trim() || e.labels?.length))
        .map((e) => e.outerHTML)"""
    )
    assert not unnamed


def test_the_page_in_the_repository(page: Explorer) -> None:
    """Of its several betas it opens with 1, as whoever follows the first hour sees it."""
    page.show((ROOT / "npvae/pictures/explorer.html").read_text(encoding="utf-8"))
    assert page.verdict() == "self-test passed"
    assert page.js("state.model.short") == "beta 1"
    assert page.tab.locator("#models label").count() == 5
    assert page.tab.locator("#latents .track").count() == 2
    assert page.pixels("#decoded").std() > 20  # something is to be seen


# --- a page that is broken turns red -------------------------------------------------------------

BROKEN = {  # what stands in the page, and instead of it
    "a weight": ('("weights":".{4000}).{4}', r"\1AAAA"),
    "the sign of the logits": (r"Math\.exp\(-logit\)", "Math.exp(logit)"),
    "the sign of a product": (r"y\[j\] \+= xi \* W", "y[j] -= xi * W"),
    "the slope of leaky_relu": (r"0\.01 \* y", "0.1 * y"),
    "elu": (r"Math\.expm1\(y\)", "Math.exp(y)"),
    "the order of rows and columns": (r"W\[row \+ j\]", "W[j * x.length + i]"),
    "the class": (r"oneHot\[c\] = 1", "oneHot[c] = 2"),
    "float16": (r"bits\[k\] & 0x8000", "bits[k] & 0x4000"),
    "the name of a parameter": ('"decoder.logits.W"', '"decoder.logit.W"'),
    "a word of the script": ("function changed", "function change"),
    "the end of the script": ("function drawShell.*", ""),  # nothing is left to say so
}


@pytest.mark.parametrize(("old", "new"), BROKEN.values(), ids=BROKEN)
def test_a_broken_page_does_not_pass(
    tabs: tuple[Explorer, Explorer], tmp_path: Path, old: str, new: str
) -> None:
    page, tabs[0].folder = tabs[0], tmp_path
    broken = re.sub(old, new, html(), flags=re.DOTALL)
    assert broken != html()
    Page.show(page, broken)  # it may never settle
    if new:
        assert "passed" not in page.verdict()
        assert page.tab.get_attribute("#verdict", "class") == "failed"
    else:
        assert page.tab.inner_text("#verdict") == "self-test \N{HORIZONTAL ELLIPSIS}"
    page.wrong.clear()  # it may well have logged an error
