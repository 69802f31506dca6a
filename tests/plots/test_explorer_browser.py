"""The explorer in a real browser, offline: whatever it shows is compared with what Python computes.

Each test fails, too, if the page logs an error or asks for anything but itself. The weights of the
models here are numbers that float16 holds exactly, so that page and Python have the same ones.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Iterator
from itertools import cycle, product
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
from tests.helpers import HANGS_AFTER, ROOT

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
]
VAE_1 = MODELS[0].vae
CONDITIONAL = model(6, num_classes=10)
CHOOSE_IT = f"#models label:nth-of-type({len(MODELS) + 1})"


@pytest.fixture(scope="module")
def html() -> str:
    return explorer_page([*MODELS, CONDITIONAL], TEST)


READ_PIXELS = """(canvas) => {
    const { width, height } = canvas, copy = new OffscreenCanvas(width, height);
    const context = copy.getContext("2d", { willReadFrequently: true });
    context.drawImage(canvas, 0, 0);
    const red = context.getImageData(0, 0, width, height).data.filter((_, k) => k % 4 === 0);
    return [width, btoa(Array.from(red, (v) => String.fromCharCode(v)).join(""))];
}"""


class Page:
    """A page that is open, what went wrong in it, and short words for what the tests do."""

    def __init__(self, browser: Any, path: Path, hash_: str = "", **context: Any) -> None:
        settings = {"viewport": {"width": 1280, "height": 900}, "offline": True, **context}
        self.context = browser.new_context(**settings)
        self.context.set_default_timeout(1000 * HANGS_AFTER)
        self.tab = self.context.new_page()
        self.path, self.wrong, self.asked = path, list[str](), list[str]()
        self.tab.on("console", lambda message: self.wrong.append(message.text))
        self.tab.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.tab.on("request", lambda request: self.note(request.url))
        self.tab.goto(path.as_uri() + hash_)

    def note(self, url: str) -> None:
        if not url.startswith(("file:", "data:", "blob:")) or url.count("file:") > 1:
            self.wrong.append(f"asks for {url}")
        self.asked.append(url)

    def settle(self) -> None:
        """Wait until all pictures are drawn."""
        self.tab.evaluate(
            "async () => { do await new Promise(requestAnimationFrame); while (!settled()); }"
        )

    def until(self, condition: str) -> None:
        """Wait until a condition in JavaScript holds, however slow the machine is."""
        self.tab.evaluate(
            f"async () => {{ while (!({condition})) await new Promise(requestAnimationFrame); }}"
        )

    def state(self, name: str) -> Any:
        """An array of the page's state; what is drawn from it may come a frame later."""
        return self.tab.evaluate(f"Array.from(state.{name} ?? [])")

    @property
    def z(self) -> NDArray[np.float64]:
        self.settle()
        return np.array(self.state("z"))

    def text(self, selector: str) -> str:
        self.settle()
        return str(self.tab.inner_text(selector))

    def verdict(self) -> str:
        """What the page says of itself, once it says something."""
        self.until("document.getElementById('verdict').className")
        return str(self.tab.inner_text("#verdict"))

    def pixels(self, selector: str) -> NDArray[np.float64]:
        """The red of a canvas, (height, width), or of the plane without its dots, "tiles"."""
        self.settle()
        canvas = selector if selector == "tiles" else f"document.querySelector('{selector}')"
        width, text = self.tab.evaluate(f"({READ_PIXELS})({canvas})")
        return np.frombuffer(b64decode(text), np.uint8).reshape(-1, width).astype(np.float64)

    def point_on(self, selector: str, x: float, y: float) -> tuple[float, float]:
        """A place on an element, in shares of its width and height."""
        self.tab.locator(selector).scroll_into_view_if_needed()
        self.settle()
        box = self.tab.locator(selector).bounding_box()
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    def drag(self, selector: str, *places: tuple[float, float]) -> None:
        mouse = self.tab.mouse
        mouse.move(*self.point_on(selector, *places[0]))
        mouse.down()
        for place in places[1:]:
            mouse.move(*self.point_on(selector, *place), steps=4)
        mouse.up()

    def close(self) -> None:
        """All went well, and the page has asked for nothing but itself."""
        self.settle()
        asked = {url.partition("#")[0] for url in self.asked if not url.startswith("blob:")}
        self.context.close()
        assert not self.wrong
        assert asked == {self.path.as_uri()}


@pytest.fixture
def opened(browser: Any, tmp_path: Path, html: str) -> Iterator[Callable[..., Page]]:
    """opened(its HTML or path, the address behind #, settings of the browser) is such a page."""
    pages: list[Page] = []

    def opened(shown: str | Path = html, hash_: str = "", **context: Any) -> Page:
        path = shown if isinstance(shown, Path) else tmp_path / "explorer.html"
        if isinstance(shown, str):
            path.write_text(shown, encoding="utf-8")
        pages.append(Page(browser, path, hash_, **context))
        pages[-1].settle()
        return pages[-1]

    yield opened
    for page in pages:
        page.close()


@pytest.fixture
def page(opened: Callable[..., Page]) -> Page:
    return opened()


def as_grey(x_hat: NDArray[Any]) -> NDArray[np.float64]:
    return np.rint(255 * np.asarray(x_hat, np.float64).reshape(-1, 28, 28))


def assert_shows(
    page: Page, z: NDArray[np.float64], vae: VAE = VAE_1, c: int | None = None
) -> None:
    """The large picture is what Python decodes, to within half a grey level and its rounding."""
    expected = as_grey(vae.decode(z[None], c))[0]
    np.testing.assert_allclose(page.pixels("#decoded"), expected, atol=1)


# --- the arithmetic ------------------------------------------------------------------------------


def test_every_activation_and_depth_passes_the_self_test(page: Page) -> None:
    assert page.verdict() == "self-test passed"
    results = page.tab.evaluate("selfTest()")
    assert len(results) == len(MODELS) + 1
    for result in results:
        assert result["intact"]
        assert max(result["decoded"], result["encoded"]) < 1e-5  # float32 of stored examples
    assert "float16" in page.text("#report")


def test_the_activations_it_knows_are_those_of_the_lesson(page: Page) -> None:
    """Of its own table alone: what is new in the lesson is refused, see test_explorer.py."""
    y = np.array([-30.0, -2.5, -0.1, 0.0, 0.1, 2.5, 30.0])
    known = page.tab.evaluate("Object.keys(ACTIVATIONS)")
    for name in known:
        assert knows(name)
        found = page.tab.evaluate(f"{y.tolist()}.map(ACTIVATIONS.{name})")
        np.testing.assert_allclose(found, ACTIVATIONS[name][0](y), rtol=1e-12)


def test_the_halves_of_every_model(page: Page) -> None:
    """Not with what the page itself stores, as in its self-test."""
    x = X[3:4]
    for number, (vae, *_) in enumerate(MODELS):
        z, in_page = (
            np.random.default_rng(9).normal(0, 2, vae.latent_dim),
            f"models[{number}]",
        )
        x_hat = page.tab.evaluate(f"Array.from({in_page}.decode({z.tolist()}), sigmoid)")
        np.testing.assert_allclose(x_hat, vae.decode(z[None])[0], atol=1e-6)
        q = page.tab.evaluate(
            f"Object.values({in_page}.encode({x[0].tolist()})).map((values) => [...values])"
        )
        np.testing.assert_allclose(q, np.concatenate(vae.encode(x)), rtol=1e-6, atol=1e-6)
        mu, log_var = np.array(q)
        drawn = page.tab.evaluate(
            f"[...reparameterize({in_page}.encode({x[0].tolist()}), {z.tolist()})]"
        )
        np.testing.assert_allclose(drawn, mu + np.exp(0.5 * log_var) * z, rtol=1e-6)


def test_the_two_ways_are_those_of_the_lesson(page: Page) -> None:
    ends = [
        ([1.0, 2.0, 3.0], [-2.0, 0.5, 1.0]),
        ([1.0, 0.0, 2.0], [-1.0, 0.0, -2.0]),  # opposite
        ([1.0, 1.0, 0.0], [3.0, 3.0, 0.0]),  # the same direction
        ([0.0, 0.0, 0.0], [1.0, 1.0, 0.0]),
        ([2.0], [-1.0]),
    ]
    t = np.linspace(0, 1, 5)
    for a, b in ends:
        for name, way in (("straight", lerp), ("spherical", slerp)):
            found = page.tab.evaluate(f"{t.tolist()}.map((t) => {name}({a}, {b}, t))")
            np.testing.assert_allclose(found, way(np.array(a), np.array(b), t), atol=1e-12)


def test_how_typical_a_code_is(page: Page) -> None:
    """With two latents |z|^2 is exponential, and with four there is a formula, too."""
    r = np.array([0.3, 1.0, 2.0, 3.5])
    formulas = {2: 1 - np.exp(-(r**2) / 2), 4: 1 - np.exp(-(r**2) / 2) * (1 + r**2 / 2)}
    for latents, share in formulas.items():
        found = page.tab.evaluate(f"{r.tolist()}.map(shellOf({latents}).shareWithin)")
        np.testing.assert_allclose(found, share, atol=1e-3)  # sums on a grid of 800 steps


# --- what a hand does ----------------------------------------------------------------------------


def test_the_first_picture_is_the_first_test_image_decoded(page: Page) -> None:
    x = X[:1]
    mu, _ = VAE_1.encode(x)
    np.testing.assert_allclose(page.z, mu[0], atol=1e-6)
    np.testing.assert_array_equal(page.pixels("#pad"), TEST.images[0])
    assert_shows(page, mu[0])


def test_dragging_a_slider_decodes_along_the_way(page: Page) -> None:
    before = page.z
    assert page.tab.locator("#latents .track").count() == 3
    k = page.tab.evaluate("state.model.order[1]")
    reach = page.tab.evaluate("state.model.range")
    page.drag("#latents .latent:nth-child(2) .track", (0.5, 0.5), (0.9, 0.5))
    after = page.z
    assert after[k] == pytest.approx(0.8 * reach, abs=0.05)  # a pixel of 400 is 0.02
    assert np.delete(after, k) == pytest.approx(np.delete(before, k))
    assert_shows(page, after)
    # The other filmstrips have followed: the middle frame has that latent at 0.
    other, frames = page.tab.evaluate("state.model.order[0]"), 13
    film = page.pixels("#latents .latent:nth-child(1) .film")
    z = np.tile(after, (frames, 1))
    z[:, other] = ((np.arange(frames) + 0.5) / frames * 2 - 1) * reach
    expected = np.concatenate(list(as_grey(VAE_1.decode(z))), axis=1)
    np.testing.assert_allclose(film, expected, atol=1)
    # A double click sets it to 0.
    page.tab.mouse.dblclick(*page.point_on("#latents .latent:nth-child(2) .track", 0.7, 0.5))
    assert page.z[k] == 0


def test_drawing_encodes_at_once(page: Page) -> None:
    page.tab.click("#clear")
    assert page.text("#bce") == "\N{EN DASH}"
    page.drag("#pad", (0.3, 0.2), (0.7, 0.2), (0.4, 0.8))
    x = np.array([page.state("x")])
    assert x.max() == 1
    assert 20 < x.sum() < 120  # a seven, and not a blot
    assert x.reshape(28, 28)[5, 8:20].min() > 0.5  # its bar
    mu, log_var = VAE_1.encode(x)
    np.testing.assert_allclose(page.z, mu[0], atol=1e-6)
    loss = VAE_1.loss(x, np.zeros((1, 3)))
    assert float(page.text("#bce")) == pytest.approx(loss.bce, abs=0.06)
    assert float(page.text("#kl")) == pytest.approx(loss.kl, abs=0.06)
    assert float(page.text("#loss")) == pytest.approx(loss.bce + loss.kl, abs=0.06)
    # Another epsilon: z moves by a few sigma, and bce is that of the new z.
    page.tab.click("#epsilon")
    epsilon = (page.z - mu[0]) / np.exp(0.5 * log_var[0])
    assert 0.01 < np.abs(epsilon).max() < 6
    assert float(page.text("#bce")) == pytest.approx(VAE_1.loss(x, epsilon[None]).bce, abs=0.06)
    # Erasing takes ink away.
    page.tab.check("#erase")
    page.drag("#pad", (0.2, 0.2), (0.8, 0.2))
    assert np.sum(page.state("x")) < 0.8 * x.sum()


def test_picking_an_image_and_the_map_of_bce(page: Page) -> None:
    page.tab.click("#examples canvas:nth-child(6)")
    x = X[5:6]
    mu, log_var = VAE_1.encode(x)
    np.testing.assert_allclose(page.z, mu[0], atol=1e-6)
    assert_shows(page, mu[0])
    assert page.tab.locator("#examples [aria-selected=true]").count() == 1
    # mu and sigma stand on the sliders.
    k, reach = page.tab.evaluate("[state.model.order[0], state.model.range]")
    track = page.tab.locator("#latents .latent:nth-child(1) .track").bounding_box()
    whisker = page.tab.locator("#latents .latent:nth-child(1) .posterior").bounding_box()
    unit, sigma = track["width"] / (2 * reach), np.exp(0.5 * log_var[0, k])
    left = (whisker["x"] - track["x"]) / unit - reach
    assert left == pytest.approx(mu[0, k] - sigma, abs=0.03)
    assert whisker["width"] / unit == pytest.approx(2 * sigma, abs=0.03)
    # The map: no light where the decoder is right, and the brightest where it is most wrong.
    page.tab.click("text=bce map")
    x_hat = VAE_1.decode(mu)
    nats = (-x * np.log(x_hat) - (1 - x) * np.log(1 - x_hat)).reshape(28, 28)
    shown = page.pixels("#decoded")
    ranks = [values.ravel().argsort().argsort() for values in (shown, np.minimum(nats, 3))]
    correlation: Any = np.corrcoef(np.array(ranks))
    assert correlation[0, 1] > 0.95


def test_coin_flips_follow_the_probabilities(page: Page) -> None:
    page.tab.click("text=coin flips")
    flips = page.pixels("#decoded")
    assert set(np.unique(flips)) == {0, 255}
    page.tab.click("#decoded")
    assert (page.pixels("#decoded") != flips).any()
    counts = page.tab.evaluate(
        """async () => {
            const canvas = document.getElementById("decoded"), counts = new Float64Array(784);
            const copy = new OffscreenCanvas(28, 28).getContext("2d", { willReadFrequently: true });
            for (let n = 0; n < 100; n++) {
                canvas.click();
                await new Promise(requestAnimationFrame);
                copy.drawImage(canvas, 0, 0);
                const { data } = copy.getImageData(0, 0, 28, 28);
                counts.forEach((_, k) => (counts[k] += data[4 * k] / 255));
            }
            return [...counts];
        }"""
    )
    x_hat = VAE_1.decode(page.z[None]).reshape(28, 28)
    error = np.reshape(counts, (28, 28)) / 100 - x_hat
    # The standard error of a pixel is sqrt(x_hat (1 - x_hat) / 100), at most 0.05.
    assert abs(error.mean()) < 6 * np.sqrt((x_hat * (1 - x_hat)).mean() / 100 / 784)
    assert error.std() < 0.07


def test_switching_models(page: Page) -> None:
    for number, chosen in reversed([*enumerate(MODELS)]):
        page.tab.click(f"#models label:nth-of-type({number + 1})")
        mu, _ = chosen.vae.encode(X[:1])
        np.testing.assert_allclose(page.z, mu[0], atol=1e-6)
        assert_shows(page, mu[0], chosen.vae)
        assert page.text("#about") == chosen.name
        rows = [page.tab.locator(f"{place} .track").count() for place in ("#latents", "#unused")]
        latents = chosen.vae.latent_dim
        assert rows == [min(4, latents), max(0, latents - 4)]
        assert page.tab.is_visible("#unused") == (latents > 4)


def test_moments_of_a_training_are_a_slider_on_one_scale(opened: Callable[..., Page]) -> None:
    epochs = [1, 5, 20]
    chosen = [
        ModelOnPage(model(n).vae, f"z = 3, epoch {epoch}", f"epoch {epoch}")
        for n, epoch in enumerate(epochs)
    ]
    page = opened(explorer_page(chosen, TEST))
    assert page.text("#epochs output") == "epoch 20"  # what the training has come to
    scales = set()
    for n, (epoch, place) in enumerate(zip(epochs, (0.02, 0.5, 0.98), strict=True)):
        page.tab.mouse.click(*page.point_on("#epoch", place, 0.5))
        mu, _ = chosen[n].vae.encode(X[:1])
        assert_shows(page, mu[0], chosen[n].vae)
        assert page.text("#epochs output") == f"epoch {epoch}"
        scales.add(page.tab.evaluate("[state.model.range, state.axes, state.model.order].join()"))
    assert len(scales) == 1
    # Its codes beyond the scale of the last epoch are at the edge, and not lost.
    share = page.tab.evaluate("placeOf(state.z.map(() => 9 * models.at(-1).range), 1)")
    assert share == {"x": 1, "y": 0}
    assert not page.tab.is_visible("#models")


def test_the_plane_shows_what_lies_around_z(page: Page) -> None:
    page.point_on("#map", 0.5, 0.5)
    page.settle()
    across, up = page.state("axes")
    reach, z = page.tab.evaluate("state.model.range"), page.z
    cells = 15
    tiles = page.pixels("tiles")
    place = ((np.arange(cells) + 0.5) / cells * 2 - 1) * reach
    for row, column in ((0, 0), (3, 11), (14, 2)):
        z[across], z[up] = place[column], place[cells - 1 - row]
        tile = tiles[row * 28 : row * 28 + 28, column * 28 : column * 28 + 28]
        np.testing.assert_allclose(tile, as_grey(VAE_1.decode(z[None]))[0], atol=1)
    # A click where no dot is moves z there; another latent stays.
    page.tab.uncheck("#dots")
    page.tab.mouse.click(*page.point_on("#map", 0.75, 0.25))
    assert page.z[[across, up]] == pytest.approx([reach / 2, reach / 2], abs=0.05)
    cross = page.tab.evaluate("Object.values(placeOf(state.z, 1))")
    assert cross == pytest.approx([0.75, 0.25], abs=0.01)
    # The mouse over a dot shows its image; a click takes it.
    page.tab.check("#dots")
    mu, _ = VAE_1.encode(X)
    alone = int(np.argmax(np.abs(mu[:, across]) * (np.abs(mu).max(axis=1) < reach)))
    x, y = (mu[alone, [across, up]] * [1, -1] / reach + 1) / 2
    page.tab.mouse.move(*page.point_on("#map", x, y))
    page.settle()
    assert page.tab.is_visible("#glimpse")
    np.testing.assert_array_equal(page.pixels("#glimpse canvas:nth-child(1)"), TEST.images[alone])
    page.tab.mouse.down()
    page.tab.mouse.up()
    np.testing.assert_allclose(page.z, mu[alone], atol=1e-5)
    np.testing.assert_array_equal(page.pixels("#pad"), TEST.images[alone])


def test_a_drag_that_begins_at_a_dot_keeps_the_image(page: Page) -> None:
    page.point_on("#map", 0.5, 0.5)
    page.settle()
    x, y = page.tab.evaluate("Object.values(placeOfDot(7, 1))")
    page.drag("#map", (x, y), (0.5, 0.5), (0.9, 0.1))
    assert page.tab.evaluate("state.picked") == 0
    (across, up), reach = page.state("axes"), page.tab.evaluate("state.model.range")
    assert page.z[[across, up]] == pytest.approx([0.8 * reach, 0.8 * reach], abs=0.05)


def test_from_a_to_b(page: Page) -> None:
    mu, _ = VAE_1.encode(X[[2, 7]])
    for n, name in ((2, "a"), (7, "b")):
        page.tab.click(f"#examples canvas:nth-child({n + 1})")
        page.tab.click(f"#set-{name}")
    page.tab.click("#ways label:nth-of-type(2) span")
    page.tab.locator("#along").fill("0.25")
    np.testing.assert_allclose(page.z, 0.75 * mu[0] + 0.25 * mu[1], atol=1e-6)
    page.tab.click("#ways label:nth-of-type(1) span")
    expected = slerp(mu[0], mu[1], np.array([0.25]))[0]
    np.testing.assert_allclose(page.z, expected, atol=1e-6)
    assert_shows(page, expected)
    strip = page.pixels("#ways label:nth-of-type(1) canvas")
    stops = as_grey(VAE_1.decode(slerp(mu[0], mu[1], np.linspace(0, 1, 11))))
    np.testing.assert_allclose(strip, np.concatenate(list(stops), axis=1), atol=1)
    page.tab.click("#play")
    page.until("state.t !== 0.25")
    page.tab.click("#play")
    assert page.state("z") != expected.tolist()  # it has moved, and has stopped
    assert page.tab.evaluate("state.playing") is False


# --- a conditional model, beside others that are not ---------------------------------------------


def encoded(page: Page, c: int) -> NDArray[np.float64]:
    """What Python makes of the page's image as class c."""
    mu, _ = CONDITIONAL.vae.encode([page.state("x")], c)
    return np.asarray(mu[0], np.float64)


def choose_class(page: Page, c: int) -> None:
    page.tab.click(f"#given label:nth-child({c + 1})")


def test_one_code_in_every_class(page: Page) -> None:
    vae, label = CONDITIONAL.vae, int(TEST.labels[2])
    assert not page.tab.is_visible("#given")
    page.tab.click("#examples canvas:nth-child(3)")
    page.tab.click(CHOOSE_IT)
    z = page.z
    np.testing.assert_allclose(z, encoded(page, label), atol=1e-6)
    assert_shows(page, z, vae, label)
    for c in range(10):
        picture = page.pixels(f"#given label:nth-child({c + 1}) canvas")
        np.testing.assert_allclose(picture, as_grey(vae.decode(z[None], c))[0], atol=1)
    chosen = (label + 3) % 10
    choose_class(page, chosen)
    np.testing.assert_array_equal(page.z, z)  # this handwriting, as another digit
    assert_shows(page, z, vae, chosen)
    assert np.abs(vae.decode(z[None], chosen) - vae.decode(z[None], label)).max() > 0.1
    assert page.text("#picture-title").endswith(TEST.class_names[chosen])
    x = X[2:3]
    x_hat = vae.decode(z[None], chosen)
    bce = -np.sum(x * np.log(x_hat) + (1 - x) * np.log(1 - x_hat))
    assert float(page.text("#bce")) == pytest.approx(bce, abs=0.06)
    # Filmstrips, plane and paths have that class, too.
    k, reach = page.tab.evaluate("[state.model.order[0], state.model.range]")
    film, codes = page.pixels("#latents .latent:nth-child(1) .film"), np.tile(z, (13, 1))
    codes[:, k] = ((np.arange(13) + 0.5) / 13 * 2 - 1) * reach
    decoded = np.concatenate(list(as_grey(vae.decode(codes, chosen))), axis=1)
    np.testing.assert_allclose(film, decoded, atol=1)
    page.point_on("#map", 0.5, 0.5)
    page.settle()
    z[page.state("axes")] = (np.array([0.5, 14.5]) / 15 * 2 - 1) * reach
    tile = page.pixels("tiles")[:28, :28]
    np.testing.assert_allclose(tile, as_grey(vae.decode(z[None], chosen))[0], atol=1)
    anchors, _ = vae.encode(X[:2], TEST.labels[:2])
    paths = as_grey(vae.decode(lerp(anchors[0], anchors[1], np.linspace(0, 1, 11)), chosen))
    strip = page.pixels("#ways label:nth-of-type(2) canvas")
    np.testing.assert_allclose(strip, np.concatenate(list(paths), axis=1), atol=1)
    # Another model has no classes, and the choice is kept for this one.
    page.tab.click("#models label:nth-of-type(1)")
    assert not page.tab.is_visible("#given")
    assert_shows(page, page.z, VAE_1)
    page.tab.click(CHOOSE_IT)
    assert_shows(page, page.z, CONDITIONAL.vae, chosen)


def test_with_which_class_an_image_is_encoded(page: Page, tmp_path: Path) -> None:
    """A drawn or opened one as the class that is chosen or selected, another as its own."""
    page.tab.click(CHOOSE_IT)
    page.tab.click("#clear")
    choose_class(page, 3)
    page.drag("#pad", (0.3, 0.2), (0.3, 0.5), (0.7, 0.5))
    np.testing.assert_allclose(page.z, encoded(page, 3), atol=1e-6)
    choose_class(page, 7)
    np.testing.assert_allclose(page.z, encoded(page, 3), atol=1e-6)
    page.drag("#pad", (0.6, 0.2), (0.6, 0.8))  # still a 3, now seen as a 7
    np.testing.assert_allclose(page.z, encoded(page, 3), atol=1e-6)
    assert_shows(page, page.z, CONDITIONAL.vae, 7)
    assert np.abs(encoded(page, 3) - encoded(page, 2)).max() > 1e-3
    page.tab.select_option("#class-of-x", "2")
    np.testing.assert_allclose(page.z, encoded(page, 2), atol=1e-6)
    assert_shows(page, page.z, CONDITIONAL.vae, 2)
    path = tmp_path / "image.png"
    Image.fromarray(TEST.images[8]).save(path)
    choose_class(page, 5)
    page.tab.set_input_files("#file", path)
    page.until("state.classOfX === 5")
    np.testing.assert_array_equal(page.pixels("#pad"), TEST.images[8])
    np.testing.assert_allclose(page.z, encoded(page, 5), atol=1e-6)
    page.tab.click("#examples canvas:nth-child(6)")
    np.testing.assert_allclose(page.z, encoded(page, int(TEST.labels[5])), atol=1e-6)
    assert_shows(page, page.z, CONDITIONAL.vae, int(TEST.labels[5]))
    assert page.tab.input_value("#class-of-x") == str(TEST.labels[5])


def test_a_dot_brings_its_class(page: Page) -> None:
    page.tab.click(CHOOSE_IT)
    mu, _ = CONDITIONAL.vae.encode(X, TEST.labels)
    (across, up), reach = page.state("axes"), page.tab.evaluate("state.model.range")
    alone = int(np.argmax(np.abs(mu[:, across]) * (np.abs(mu).max(axis=1) < reach)))
    label = int(TEST.labels[alone])
    choose_class(page, (label + 1) % 10)
    x, y = (mu[alone, [across, up]] * [1, -1] / reach + 1) / 2
    page.tab.mouse.move(*page.point_on("#map", x, y))
    shown = page.pixels("#glimpse canvas:nth-child(2)")
    expected = as_grey(CONDITIONAL.vae.decode(mu[[alone]], label))[0]
    np.testing.assert_allclose(shown, expected, atol=2)  # the code of a dot is stored in float16
    page.tab.mouse.down()
    page.tab.mouse.up()
    np.testing.assert_allclose(page.z, mu[alone], atol=1e-5)
    assert_shows(page, page.z, CONDITIONAL.vae, label)


def test_a_dot_without_an_image_brings_its_class(opened: Callable[..., Page]) -> None:
    page = opened(explorer_page([CONDITIONAL], TEST, "none"))
    page.point_on("#map", 0.5, 0.5)
    x, y, c = page.tab.evaluate(
        """() => {
            const n = labels.findIndex((c, n) => c !== state.c && state.model.point(n).every(
                (value) => Math.abs(value) < state.model.range));
            const { x, y } = placeOfDot(n, 1);
            return [x, y, labels[n]];
        }"""
    )
    page.tab.mouse.click(*page.point_on("#map", x, y))
    page.settle()
    assert page.tab.evaluate("[state.c, state.classOfX, state.x]") == [c, c, None]
    assert_shows(page, page.z, CONDITIONAL.vae, c)


def test_the_address_brings_both_classes_back(page: Page, opened: Callable[..., Page]) -> None:
    page.tab.click(CHOOSE_IT)
    page.tab.click("#examples canvas:nth-child(3)")
    page.tab.select_option("#class-of-x", "8")
    choose_class(page, 1)
    page.until("location.hash.slice(1) === stateAsText()")
    hash_ = "#" + page.tab.url.partition("#")[2]
    own = int(TEST.labels[2])
    for address, c, class_of_x in (
        (hash_, 1, 8),
        (hash_.replace("c=1&of=8", "c=10&of=length"), own, own),
    ):
        again = opened(page.path, address)
        assert again.tab.evaluate("[state.c, state.classOfX]") == [c, class_of_x]
        mu, _ = CONDITIONAL.vae.encode([again.state("x")], class_of_x)
        np.testing.assert_allclose(again.state("q.mu"), mu[0], atol=1e-6)
        assert_shows(again, again.z, CONDITIONAL.vae, c)


# --- files, keys, fingers, the address -----------------------------------------------------------


def test_a_picture_from_a_file(page: Page, tmp_path: Path) -> None:
    exact, large = tmp_path / "exact.png", tmp_path / "large.png"
    Image.fromarray(TEST.images[8]).save(exact)
    page.tab.set_input_files("#file", exact)
    page.until("state.picked === -1")
    np.testing.assert_array_equal(page.pixels("#pad"), TEST.images[8])
    # Black on white, ten times as large, and twice as wide as high: inverted, shrunk, centred.
    ink = 255 - np.asarray(Image.fromarray(TEST.images[8]).resize((280, 280)))
    Image.fromarray(np.pad(ink, ((0, 0), (140, 140)), constant_values=255)).save(large)
    page.tab.set_input_files("#file", large)
    page.until("$('told').textContent")
    x = page.pixels("#pad")
    assert "inverted" in page.text("#told")
    assert x[:7].max() == x[21:].max() == 0
    small = np.asarray(Image.fromarray(TEST.images[8]).resize((14, 14), Image.Resampling.BOX))
    np.testing.assert_allclose(x[7:21, 7:21], small, atol=40)  # resampled in another way
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    page.tab.set_input_files("#file", broken)
    page.until("!$('told').textContent.includes('inverted')")
    assert "no picture" in page.text("#told")
    np.testing.assert_array_equal(page.pixels("#pad"), x)


def test_a_picture_is_saved_as_it_is_shown(page: Page, tmp_path: Path) -> None:
    shown = page.pixels("#decoded")
    with page.tab.expect_download() as download:
        page.tab.click("#save")
    download.value.save_as(tmp_path / "saved.png")
    with Image.open(tmp_path / "saved.png") as picture:
        assert picture.size == (560, 560)
        saved = np.asarray(picture.convert("RGB"))[10::20, 10::20, 0]
    np.testing.assert_array_equal(saved, shown)


def test_keys(page: Page) -> None:
    k = page.tab.evaluate("state.model.order[0]")
    page.tab.keyboard.press("0")
    assert not page.z.any()
    page.tab.focus("#latents .latent:nth-child(1) input")
    page.tab.keyboard.press("ArrowRight")
    page.tab.keyboard.press("Shift+ArrowLeft")
    assert page.z[k] == pytest.approx(0.09)
    page.tab.keyboard.press("r")
    assert np.abs(page.z).min() > 0
    page.tab.keyboard.press("m")
    mu, _ = VAE_1.encode(X[:1])
    np.testing.assert_allclose(page.z, mu[0], atol=1e-6)
    page.tab.focus("#map")
    across, up = page.state("axes")
    page.tab.keyboard.press("ArrowUp")
    moved = page.z - mu[0]
    assert moved[up] == pytest.approx(0.1)
    assert moved[across] == pytest.approx(0, abs=1e-6)
    page.tab.focus("#examples canvas")
    page.tab.keyboard.press("ArrowRight")
    page.tab.keyboard.press("Enter")
    assert page.tab.evaluate("state.picked") == 1
    page.tab.keyboard.press("n")
    assert page.text("#about") == MODELS[1].name


def test_the_address_brings_everything_back(page: Page, opened: Callable[..., Page]) -> None:
    page.tab.click("#models label:nth-of-type(4)")
    page.drag("#pad", (0.3, 0.3), (0.6, 0.7))
    page.tab.click("#epsilon")
    page.tab.click("#set-b")
    page.tab.click("#random")
    page.tab.click("text=coin flips")
    page.tab.select_option("#across", "4")
    page.tab.select_option("#up", "4")  # the plane has each latent once
    across, up = page.state("axes")
    assert up == 4 != across
    page.until("location.hash.slice(1) === stateAsText()")  # it follows a little later
    address = page.tab.url
    names = ("z", "x", "a", "b", "axes", "view", "way")
    before = [page.state(name) for name in names]
    again = opened(page.path, "#" + address.partition("#")[2])
    for name, was, now in zip(names, before, map(again.state, names), strict=True):
        assert now == pytest.approx(was, abs=6e-5 if name in "zab" else 2e-3), name
    assert again.text("#about") == MODELS[3].name
    for nonsense in ("#model=99&z=1,2", "#z=a,b,c&view=no&plane=7,8&x=%%%&pick=1e9&t=x", "#z="):
        assert opened(page.path, nonsense).verdict() == "self-test passed"


class Finger:
    """Real touches, as the browser gets them from a screen: they scroll, or reach the page."""

    def __init__(self, page: Page) -> None:
        self.page, self.session = page, page.context.new_cdp_session(page.tab)

    def swipe(
        self,
        selector: str,
        dx: float,
        dy: float,
        x: float = 0.5,
        y: float = 0.5,
        scrolls: bool = False,
    ) -> float:
        """A finger comes down on an element and moves by some pixels: how far that scrolled."""
        place = "(selector) => document.querySelector(selector).scrollIntoView({block: 'center'})"
        self.page.tab.evaluate(place, selector)
        self.page.settle()
        box = self.page.tab.locator(selector).first.bounding_box()
        left, top = box["x"] + x * box["width"], box["y"] + y * box["height"]
        before = self.page.tab.evaluate("scrollY")
        for step in range(13):
            share = min(step, 12) / 12
            point = {"x": left + share * dx, "y": top + share * dy}
            kind = "touchMove" if step else "touchStart"
            self.session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point]})
        self.session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        if scrolls:  # which the browser does in a thread of its own, in its own time
            self.page.tab.wait_for_function("(before) => scrollY !== before", arg=before)
        self.page.settle()
        return float(self.page.tab.evaluate("scrollY") - before)


@pytest.fixture
def phone(opened: Callable[..., Page]) -> Page:
    return opened(viewport={"width": 375, "height": 740}, has_touch=True, is_mobile=True)


def test_a_finger_that_scrolls_changes_nothing(phone: Page) -> None:
    """Wherever it comes down, straight or aslant: the page scrolls, and the state stays."""
    finger, text = Finger(phone), "stateAsText() + $('pen').value"
    phone.tab.evaluate("moveLatents({ [state.axes[0]]: -3 })")  # not where the finger comes down
    before = phone.tab.evaluate(text)
    places = ("#latents .track", "#map", "#pad", "#decoded", "#ways canvas", "#along", "#pen")
    for place, (dx, dy) in zip(places, cycle([(0, -150), (40, 150)]), strict=False):
        assert finger.swipe(place, dx, dy, scrolls=True) * dy < 0, place
        assert phone.tab.evaluate(text) == before, place


def test_a_finger_drags_sideways_and_z_itself_in_every_direction(phone: Page) -> None:
    finger, reach = Finger(phone), phone.tab.evaluate("state.model.range")
    (across, up), unit = phone.state("axes"), phone.tab.evaluate("$('map').clientWidth") / reach / 2
    k = phone.tab.evaluate("state.model.order[0]")
    finger.swipe("#latents .track", 90, 30)
    track = phone.tab.locator("#latents .track").first.bounding_box()["width"]
    assert phone.z[k] == pytest.approx(90 / track * 2 * reach, abs=0.05)
    phone.tab.uncheck("#dots")
    finger.swipe("#map", 60, 30)
    assert phone.z[[across, up]] * unit == pytest.approx([60, -30], abs=1.5)
    x, y = phone.tab.evaluate("Object.values(placeOf(state.z, 1))")
    assert finger.swipe("#map", 0, -90, x, y) == 0
    assert phone.z[[across, up]] * unit == pytest.approx([60, 60], abs=1.5)
    # The pad: sideways at once, downwards after that or after a tap.
    phone.tab.click("#clear")
    finger.swipe("#pad", 60, 5, 0.3, 0.3)
    bar = np.sum(phone.state("x"))
    assert bar > 10
    assert finger.swipe("#pad", 0, 60, 0.6, 0.3) == 0
    assert np.sum(phone.state("x")) > bar + 10


def test_what_a_finger_changed_before_the_browser_scrolls_is_undone(page: Page) -> None:
    """The browser may take a drag over at any time: then it sends pointercancel."""
    track, before = page.tab.locator("#latents .track").first, page.z
    touch = {"pointerType": "touch", "pointerId": 7, "isPrimary": True, "clientY": 0}
    for kind, x in (("pointerdown", 700), ("pointermove", 760), ("pointercancel", 760)):
        track.dispatch_event(kind, {**touch, "clientX": x})
        assert np.array_equal(page.z, before) == (kind != "pointermove")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_can_be_touched(opened: Callable[..., Page], scheme: str) -> None:
    view = {"width": 360, "height": 740}
    page = opened(viewport=view, has_touch=True, color_scheme=scheme)
    assert page.tab.evaluate("document.documentElement.scrollWidth") <= 360
    k, reach = page.tab.evaluate("[state.model.order[2], state.model.range]")
    page.tab.touchscreen.tap(*page.point_on("#latents .latent:nth-child(3) .track", 0.25, 0.5))
    assert page.z[k] == pytest.approx(-0.5 * reach, abs=0.1)
    assert_shows(page, page.z)
    ground = page.tab.evaluate("getComputedStyle(document.body).backgroundColor")
    red = int(ground.removeprefix("rgb(").partition(",")[0])
    assert red > 200 if scheme == "light" else red < 60


def test_what_stays_in_sight_covers_nothing_below(page: Page) -> None:
    """Image and decoded picture stay beside many latents, and go before the next section."""
    page.tab.evaluate("$('code').style.minHeight = '1400px'")
    edges = """(y) => {
        scrollTo(0, y);
        const box = (id) => $(id).getBoundingClientRect();
        return [box("image").top, box("picture").top, box("self-test").top - box("picture").bottom];
    }"""
    assert page.tab.evaluate(edges, 600)[:2] == [24, 24]
    for y in (600, 1800, 9999):
        assert page.tab.evaluate(edges, y)[2] >= 0


def test_with_two_latents_the_plane_stands_beside_the_image_in_the_first_screen(page: Page) -> None:
    page.tab.click("#models label:nth-of-type(3)")
    page.settle()
    for name in ("pad", "map", "decoded"):
        box = page.tab.locator(f"#{name}").bounding_box()
        assert box["y"] > 0
        assert box["y"] + box["height"] < 900
    page.tab.click("#models label:nth-of-type(5)")  # one latent spans no plane
    assert not page.tab.is_visible("#map")


def test_nothing_overlaps_at_any_width(page: Page) -> None:
    parts = ("#chain", "#try", "#image", "#code", "#plane", "#journey", ".stage", "#self-test")
    for width, model in product((320, 768, 1280, 2560), (1, 3)):
        page.tab.set_viewport_size({"width": width, "height": 1440})
        page.tab.click(f"#models label:nth-of-type({model})")
        page.tab.evaluate("scrollTo(0, 0)")
        page.settle()
        boxes = [page.tab.locator(part).bounding_box() for part in parts]
        for k, a in enumerate(boxes):
            for b in boxes[:k]:
                shared = (
                    min(a[x] + a[side], b[x] + b[side]) - max(a[x], b[x])
                    for x, side in (("x", "width"), ("y", "height"))
                )
                assert min(shared) <= 1
        assert page.tab.evaluate("document.documentElement.scrollWidth") <= width


def test_names_of_sixty_letters_fit(opened: Callable[..., Page]) -> None:
    names = tuple(f"{'n' * 59}{k}" for k in range(10))
    chosen = [ModelOnPage(m.vae, "m" * 60, "runs/" + "s" * 60) for m in (CONDITIONAL, MODELS[0])]
    test = Dataset("digits", DIGITS.images, DIGITS.labels, names, "")
    page = opened(explorer_page(chosen, test))
    for width in (320, 1280):
        page.tab.set_viewport_size({"width": width, "height": 640})
        page.settle()
        assert page.tab.evaluate("document.documentElement.scrollWidth") <= width


def test_a_row_says_where_z_comes_from_and_the_sum_whether_it_is_the_loss(page: Page) -> None:
    k, (mu, log_var) = (
        page.tab.evaluate("state.model.order[0]"),
        VAE_1.encode(X[:1]),
    )
    sigma = np.exp(0.5 * log_var[0, k])

    def row() -> list[float]:
        values = page.tab.locator("#latents .latent:nth-child(1) .values b").all_inner_texts()
        return [float(text.replace("\N{MINUS SIGN}", "-")) for text in values]

    def void() -> bool:
        page.settle()
        return bool(page.tab.evaluate("$('loss').parentElement.classList.contains('void')"))

    page.settle()
    assert row() == pytest.approx([mu[0, k], sigma, 0, mu[0, k]], abs=0.006)
    assert "mean of q" in page.text("#unit")
    assert not void()
    page.tab.click("#epsilon")
    assert (page.z[k] - mu[0, k]) / sigma == pytest.approx(row()[2], abs=0.006)
    assert not void()
    page.until("location.hash.slice(1) === stateAsText()")
    address = page.tab.evaluate("location.hash.slice(1)")
    for act in ("drag", "#random", "#zero", "#ways canvas"):
        if act.startswith("#"):
            page.tab.click(act)
        else:
            page.drag("#latents .latent:nth-child(1) .track", (0.4, 0.5), (0.6, 0.5))
        assert void(), act
        assert "not the loss" in page.text("#unit")
        page.tab.evaluate("(text) => stateFromText(text)", address)
        assert not void()
    page.tab.click(CHOOSE_IT)
    assert not void()
    choose_class(page, (int(TEST.labels[0]) + 1) % 10)
    assert void()
    page.tab.click("#clear")
    assert "once there is an image" in page.text("#unit")


def test_the_plane_compares_codes_with_the_prior(page: Page) -> None:
    """White circles of the prior, the ellipse of q, and how many codes lie outside."""
    page.tab.uncheck("#dots")
    (across, up), reach = page.state("axes"), page.tab.evaluate("state.model.range")
    page.tab.evaluate("moveLatents(state.z.map(() => 3))")  # the dot of z is elsewhere
    mu, log_var = VAE_1.encode(X[:1])
    sigma = np.exp(0.5 * log_var[0])
    page.point_on("#map", 0.5, 0.5)
    page.settle()
    around = np.array([[np.cos(t), np.sin(t)] for t in (0.3, 2, 4.4)])
    prior = np.concatenate([around, 2 * around])
    posterior = mu[0, [across, up]] + prior * sigma[[across, up]]
    inside = posterior[np.abs(posterior).max(axis=1) < reach]
    colors = """(places) => {
        const map = $("map"), at = (v) => Math.round((v / state.model.range + 1) / 2 * map.width);
        const copy = new OffscreenCanvas(map.width, map.width)
            .getContext("2d", { willReadFrequently: true });
        copy.drawImage(map, 0, 0);
        return places.map(([x, y]) => [...copy.getImageData(at(x) - 2, at(-y) - 2, 5, 5).data]);
    }"""
    white, blue = (
        np.reshape(page.tab.evaluate(colors, some.tolist()), (len(some), 25, 4))
        for some in (prior, inside)
    )
    assert (white[..., :3].min(axis=2) > 200).any(axis=1).all()
    assert len(inside) > 2
    assert (blue[..., 2] > blue[..., 0] + 70).any(axis=1).all()
    codes, _ = VAE_1.encode(X)
    outside = np.mean(np.hypot(codes[:, across], codes[:, up]) > 2)
    assert f"second circle lie {100 * outside:.0f} %" in page.text("#outside")


def test_prompts_ask_for_a_guess_and_can_be_dismissed(
    page: Page, opened: Callable[..., Page]
) -> None:
    count = page.tab.locator("#prompts button").count()
    assert count == 5
    for model in range(1, len(MODELS) + 2):
        page.tab.click(f"#models label:nth-of-type({model})")
        for n in range(1, count + 1):
            page.tab.evaluate("(n) => openPrompt(n)", n - 1)
            assert page.text("#answer") == ""
            page.tab.click("#guesses button:last-child")
            assert len(page.text("#answer")) > 60
            assert not {"NaN", "undefined"} & set(page.text("#answer").replace(".", "").split())
    again = opened(page.path, "#try=2")
    assert "How large is" in again.text("#task")
    assert again.tab.evaluate("state.picked") == 0
    again.tab.click("#dismiss")
    pause = "await new Promise(requestAnimationFrame)"  # until the state is in the address instead
    again.tab.evaluate(f"async () => {{ while (location.hash.includes('try=')) {pause}; }}")
    again.tab.reload()
    assert not again.tab.is_visible("#try")


def test_words_have_a_definition_at_a_touch(phone: Page) -> None:
    words = phone.tab.locator(".word:visible")
    assert {word.get_attribute("data-word") for word in words.all()} >= {"kl", "latent", "prior"}
    for word in words.all():
        word.tap()
        box = phone.tab.locator("main #definition").bounding_box()
        assert len(phone.text("#definition")) > 40
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 375


def test_single_letter_shortcuts_can_be_switched_off(page: Page) -> None:
    page.tab.uncheck("#shortcuts")
    before = page.z
    page.tab.locator("body").press("r")
    np.testing.assert_array_equal(page.z, before)
    page.tab.reload()
    page.settle()
    assert not page.tab.is_checked("#shortcuts")


def test_everything_has_a_name_for_screen_readers(page: Page) -> None:
    unnamed = page.tab.evaluate(
        """[...document.querySelectorAll("button, select, input:not([hidden]), canvas[role]")]
        .filter((e) => !(e.getAttribute("aria-label") || e.textContent.trim() || e.labels?.length))
        .map((e) => e.outerHTML)"""
    )
    assert not unnamed


def test_the_page_in_the_repository(opened: Callable[..., Page]) -> None:
    """Of its several betas it opens with 1, as whoever follows the first hour sees it."""
    page = opened(ROOT / "npvae" / "pictures" / "explorer.html")
    assert page.verdict() == "self-test passed"
    assert page.tab.evaluate("state.model.short") == "beta 1"
    assert page.tab.locator("#models label").count() == 5
    assert page.tab.locator("#latents .track").count() == 2
    assert page.pixels("#decoded").std() > 20  # something is to be seen


# --- a page that is broken turns red -------------------------------------------------------------


def damaged_weight(html: str) -> str:
    start = html.index('"weights":"') + len('"weights":"') + 4000
    return html[:start] + ("A" if html[start] != "A" else "B") + html[start + 1 :]


BROKEN: dict[str, Callable[[str], str]] = {
    "a weight": damaged_weight,
    "the sign of the logits": lambda html: html.replace("Math.exp(-logit)", "Math.exp(logit)"),
    "the sign of a product": lambda html: html.replace("y[j] += xi * W", "y[j] -= xi * W"),
    "the slope of leaky_relu": lambda html: html.replace("0.01 * y", "0.1 * y"),
    "elu": lambda html: html.replace("Math.expm1(y)", "Math.exp(y)"),
    "the order of rows and columns": lambda html: html.replace("W[row + j]", "W[j * x.length + i]"),
    "the class": lambda html: html.replace("oneHot[c] = 1", "oneHot[c] = 2"),
    "float16": lambda html: html.replace("bits[k] & 0x8000", "bits[k] & 0x4000"),
    "the name of a parameter": lambda html: html.replace('"decoder.logits.W"', '"decoder.logit.W"'),
    "a word of the script": lambda html: html.replace("function changed", "function change"),
    "the end of the script": lambda html: html[: html.index("function drawShell")],
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_page_says_so(browser: Any, html: str, tmp_path: Path, what: str) -> None:
    path = tmp_path / "broken.html"
    broken = BROKEN[what](html)
    assert broken != html
    path.write_text(broken, encoding="utf-8")
    page = Page(browser, path)
    if what == "the end of the script":  # nothing is left to say so: the page stays empty
        assert page.tab.inner_text("#verdict") == "self-test \N{HORIZONTAL ELLIPSIS}"
    else:
        assert "passed" not in page.verdict()
        assert page.tab.get_attribute("#verdict", "class") == "failed"
    page.context.close()  # not page.close(): it may well have logged an error
