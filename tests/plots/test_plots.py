"""Pictures with words show what they are given: at the right place, in the right colour, whole."""

import time

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageColor

from npvae.plots.axes import MARGIN, WHITE, drawable, largest, nice_ticks, tick_labels
from npvae.plots.labelled_grid import strip
from npvae.plots.latent_scatter import CLASS_COLORS, scatter
from npvae.plots.loss_curves import BLUE, VERMILION, loss_curve


def run(epochs: int, first_bce: float = 320.0) -> list[dict[str, float]]:
    """A made-up training run, as smooth as real ones are."""
    rows = []
    for epoch in range(1, epochs + 1):
        bce = first_bce if epoch == 1 else 228.0 + 30.0 / epoch
        kl = 14.5 - 8.0 / epoch
        row = {"epoch": float(epoch), "train_bce": bce, "train_kl": kl, "train_loss": bce + kl}
        row |= {"test_bce": bce + 5, "test_kl": kl - 1, "test_loss": bce + kl + 4}
        rows.append(row)
    return rows


def pixels_of(picture: Image.Image) -> NDArray[np.int64]:
    assert picture.mode == "RGB"
    return np.asarray(picture).astype(np.int64)


def where(picture: Image.Image, color: tuple[int, ...]) -> NDArray[np.int64]:
    """The (row, column) of each pixel of exactly this colour: (N, 2)."""
    return np.argwhere((pixels_of(picture) == color).all(axis=-1))


def assert_nothing_is_cut_off(picture: Image.Image, border: int = 8) -> None:
    pixels = pixels_of(picture)
    pixels[border:-border, border:-border] = WHITE
    assert (pixels == WHITE).all()


# --- words --


def test_letters_that_the_font_lacks_become_others_and_no_boxes() -> None:
    assert drawable("Bücher & Café, Å") == "Bucher & Cafe, A"
    assert drawable("靴 1") == "? 1"
    assert largest(["Bücher"], 17) == largest(["Bucher"], 17)
    image, label = np.zeros((1, 1, 28, 28), np.uint8), ["Bücher"]
    with_umlaut, without = (pixels_of(strip(list(image), words)) for words in (label, ["Bucher"]))
    np.testing.assert_array_equal(with_umlaut, without)


# --- loss_curve ----------------------------------------------------------------------------------


def test_one_epoch_is_a_dot_in_the_middle_of_each_panel() -> None:
    picture = loss_curve(run(1))
    for color in (BLUE, VERMILION):
        below = where(picture, color)
        below = below[below[:, 0] > 120]  # the legend is above
        left, right = below[below[:, 1] < 500], below[below[:, 1] > 500]
        for dot in (left, right):
            assert 20 <= len(dot) <= 50  # a disc of radius 3.5 without its soft edge
            assert np.ptp(dot, axis=0).max() <= 8
        assert abs(left[:, 1].mean() - 270) < 20
        assert abs(right[:, 1].mean() - 762) < 20


def test_values_stand_where_they_belong() -> None:
    """Three epochs, test constant in between: heights are proportional to values."""
    history = run(3)
    for row, bce in zip(history, (100.0, 200.0, 300.0), strict=True):
        row["train_bce"], row["test_bce"] = bce, 150.0
    picture = loss_curve(history)
    blue, orange = where(picture, BLUE), where(picture, VERMILION)
    blue = blue[(blue[:, 0] > 120) & (blue[:, 1] < 500)]
    orange = orange[(orange[:, 0] > 120) & (orange[:, 1] < 500)]
    low, high = blue[:, 0].max() - 3.5, blue[:, 0].min() + 3.5  # centres of the extreme dots
    expected = low + (high - low) * (150 - 100) / (300 - 100)
    assert np.median(orange[:, 0]) == pytest.approx(expected, abs=1.5)  # pixels
    assert np.ptp(orange[:, 0]) <= 8
    first = blue[blue[:, 1] < blue[:, 1].min() + 6]  # 100 comes first: lowest on the left
    assert first[:, 0].mean() == pytest.approx(low, abs=3.0)


def test_the_legend_shows_both_colours_above_the_panels() -> None:
    picture = loss_curve(run(20))
    for color in (BLUE, VERMILION):
        legend = where(picture, color)
        legend = legend[legend[:, 0] < 60]
        assert len(legend) == 24 * 3
        right = legend[:, 1].max()
        words = pixels_of(picture)[legend[0, 0] - 8 : legend[0, 0] + 8, right + 5 : right + 50]
        assert (words < 100).any()


def test_a_far_first_epoch_does_not_squash_the_rest() -> None:
    near, far = loss_curve(run(20)), loss_curve(run(20, first_bce=1e6))
    for picture in (near, far):
        blue = where(picture, BLUE)
        blue = blue[(blue[:, 0] > 120) & (blue[:, 1] < 500)]
        assert np.ptp(blue[:, 0]) > 80  # of the 238 pixels of the panel
    note = pixels_of(far)[98:121, 250:486]
    assert (note < 100).any()  # "epoch 1 not in the frame"


def test_a_gentle_curve_is_shown_whole_and_without_a_note() -> None:
    note = pixels_of(loss_curve(run(5)))[98:121, 250:486]
    assert (note == 255).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30, -1e300])
@pytest.mark.parametrize("count", [1, 2, 7, 40])
def test_no_value_is_too_bad_to_draw(bad: float, count: int) -> None:
    """One bad epoch, or all of them bad."""
    one, every = run(count), run(count)
    one[count // 2] |= {"train_bce": bad, "test_kl": bad, "test_loss": bad}
    for row in every:
        row |= {key: bad for key in row if key != "epoch"}
    for history in (one, every):
        picture = loss_curve(history)
        assert picture.size == (1000, 430)
        assert_nothing_is_cut_off(picture)


def test_a_value_that_is_not_finite_leaves_a_hole() -> None:
    history = run(9)
    for row in history:
        row["train_bce"], row["test_bce"] = 100.0, 200.0
    whole = where(loss_curve(history), BLUE)
    history[4]["train_bce"] = np.nan
    holed = where(loss_curve(history), BLUE)
    columns_whole, columns_holed = (
        np.unique(c[(c[:, 0] > 120) & (c[:, 1] < 500), 1]) for c in (whole, holed)
    )
    assert np.diff(columns_whole).max() == 1
    assert np.diff(columns_holed).max() > 60  # two steps of about 48 pixels, without the dots


@pytest.mark.parametrize("count", [2, 20, 100, 1000])
def test_nothing_is_cut_off_for_any_length(count: int) -> None:
    assert_nothing_is_cut_off(loss_curve(run(count)))


def test_equal_histories_give_equal_bytes() -> None:
    assert loss_curve(run(30)).tobytes() == loss_curve(run(30)).tobytes()


def test_a_redraw_is_quick() -> None:
    history = run(100)
    times = []
    for _ in range(5):
        start = time.process_time()
        loss_curve(history)
        times.append(time.process_time() - start)
    assert min(times) < 0.06  # seconds; it is redrawn after each epoch


def test_no_history_is_refused() -> None:
    with pytest.raises(ValueError, match="without epochs"):
        loss_curve([])


# --- strip ---------------------------------------------------------------------------------------


def find(picture: Image.Image, image: NDArray[np.uint8], scale: int) -> list[tuple[int, int]]:
    """All (top, left) where this image stands in the picture, enlarged."""
    block = image.repeat(scale, axis=0).repeat(scale, axis=1).astype(np.int64)
    pixels = pixels_of(picture)[..., 0]
    windows = np.lib.stride_tricks.sliding_window_view(pixels, block.shape)
    corners = np.argwhere(windows[:, :, 0, 0] == block[0, 0])
    return [(int(i), int(j)) for i, j in corners if (windows[i, j] == block).all()]


def noise(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 250, (count, 28, 28), dtype=np.uint8)


def test_a_bare_strip_is_its_images_a_gap_apart_in_a_white_margin() -> None:
    images = noise(6)
    picture = strip([images[:3], images[3:]], scale=2, gap=5)
    assert picture.size == (2 * MARGIN + 3 * 56 + 2 * 5, 2 * MARGIN + 2 * 56 + 5)
    for k, image in enumerate(images):
        corner = MARGIN + (k // 3) * (56 + 5), MARGIN + (k % 3) * (56 + 5)
        assert find(picture, image, 2) == [corner]


def test_floats_and_rows_of_784_are_drawn_the_same() -> None:
    images = noise(2)
    expected = strip([images]).tobytes()
    assert strip([images / 255.0]).tobytes() == expected
    assert strip([(images / 255.0).astype(np.float32).reshape(2, 784)]).tobytes() == expected


def test_labels_stand_outside_the_images_and_inside_the_picture() -> None:
    """Without its images a labelled strip is words and white; no word touches another."""
    images = np.full((6, 28, 28), 200, dtype=np.uint8)
    names = [f"{name}, wider than any image" for name in ("one", "two", "six")]
    picture = strip([images[:3], images[3:]], ["original", "reconstruction"], names, 1, "A title")
    assert_nothing_is_cut_off(picture)
    whole = [
        (top, left)
        for top, left in find(picture, images[0], 1)
        if pixels_of(picture)[top - 1, left, 0] == 255 == pixels_of(picture)[top, left - 1, 0]
    ]
    assert len(whole) == 6
    tops, lefts = sorted({top for top, _ in whole}), sorted({left for _, left in whole})
    header = (pixels_of(picture)[tops[0] - 26 : tops[0] - 2, lefts[0] - 40 :, 0] < 250).any(axis=0)
    inked = np.flatnonzero(header)
    breaks = np.flatnonzero(np.diff(inked) > 8)  # letters and words are closer than labels
    assert len(breaks) == 2
    margin = pixels_of(picture)[tops[0] :, : lefts[0] - 4, 0]
    for top in tops:
        beside = margin[top - tops[0] : top - tops[0] + 28]
        assert (beside < 100).any()


def test_a_row_label_ends_just_before_its_row_and_a_column_label_just_above() -> None:
    image = noise(1)[0]
    picture = strip([[image]], ["z3  1.92 nats"], ["+3"], scale=2)
    ((top, left),) = find(picture, image, 2)
    dark = pixels_of(picture)[..., 0] < 200
    dark[top : top + 56, left : left + 56] = False
    rows, columns = np.nonzero(dark)
    beside, above = columns < left, rows < top
    assert (beside | above).all()
    assert left - 16 <= columns[beside].max() < left - 8
    assert rows[beside].mean() == pytest.approx(top + 28, abs=4)
    assert top - 18 <= rows[above].max() < top - 4
    assert columns[above].mean() == pytest.approx(left + 28, abs=4)


@pytest.mark.parametrize("title", ["short", "a title that is much wider than one small image"])
def test_a_title_makes_room_for_itself(title: str) -> None:
    images = noise(1)
    bare, titled = strip([images], scale=1), strip([images], scale=1, title=title)
    assert_nothing_is_cut_off(titled)
    assert titled.height > bare.height
    (top, left), (bare_top, bare_left) = find(titled, images[0], 1)[0], find(bare, images[0], 1)[0]
    assert (left, top > bare_top) == (bare_left, True)


def test_a_short_row_ends_in_white() -> None:
    images = noise(3)
    picture = strip([images[:2], images[2:]], scale=1, gap=0)
    assert (pixels_of(picture)[MARGIN + 28 :, MARGIN + 28 :] == 255).all()


def test_a_strip_that_makes_no_sense_is_refused() -> None:
    images = noise(2)
    for nothing in (np.zeros((0, 0, 28, 28)), np.zeros((1, 0, 28, 28))):
        with pytest.raises(ValueError, match="needs an image"):
            strip(list(nothing))
    with pytest.raises(ValueError, match="1 row labels and 0 column labels for 2 rows"):
        strip([images, images], ["only one"])
    with pytest.raises(ValueError, match="3 column labels"):
        strip([images], [], ["a", "b", "c"])
    with pytest.raises(ValueError, match="scale"):
        strip([images], scale=0)
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        strip([[np.full((28, 28), 1.5)]])
    with pytest.raises(ValueError, match=r"\(N, 784\)"):
        strip([[np.zeros((14, 56))]])


# --- scatter -------------------------------------------------------------------------------------


def rgb(name: str) -> NDArray[np.int64]:
    return np.array(ImageColor.getrgb(name), dtype=np.int64)


def panel_center(picture: Image.Image, color: NDArray[np.int64]) -> NDArray[np.float64]:
    """The (row, column) middle of the panel's pixels that have this hue, seen through 65 %."""
    seen = np.rint(0.65 * color + 0.35 * 255)
    panel = pixels_of(picture)[96:696, 60:690]
    near = np.abs(panel - seen).max(axis=-1) <= 3
    center: NDArray[np.float64] = np.argwhere(near).mean(axis=0)
    return center


def test_dots_stand_where_the_codes_are_in_the_colour_of_their_class() -> None:
    codes = [[-1.02, -1.02], [1.02, -1.02], [-0.98, 1.01]]  # off the grid lines
    picture = scatter(codes, [0, 1, 2], ["a", "b", "c"], "Three", "z0", "z1")
    a, b, c = (panel_center(picture, rgb(CLASS_COLORS[k])) for k in range(3))
    unit = (b - a)[1] / 2.04  # pixels
    assert unit > 200
    assert (b - a)[0] == pytest.approx(0.0, abs=1.0)
    np.testing.assert_allclose(c - a, [-2.03 * unit, 0.04 * unit], atol=1.0)  # rows run downwards


def test_no_class_hides_another() -> None:
    """Two classes in one cloud: in the picture each covers as much as the other."""
    rng = np.random.default_rng(0)
    codes, labels = rng.standard_normal((6000, 2)), np.repeat([0, 5], 3000)  # class by class
    picture = scatter(codes, labels, [str(k) for k in range(6)], "", "z0", "z1")
    panel = pixels_of(picture)[300:500, 250:450].reshape(-1, 3)
    nearer = [np.abs(panel - rgb(CLASS_COLORS[k])).sum(axis=1) for k in (0, 5)]
    share = np.mean(nearer[0] < nearer[1])
    assert 0.3 < share < 0.7  # drawn in the order given, the first class keeps less than 0.1


def test_the_legend_names_each_class_outside_the_panel() -> None:
    names = ["T-shirt/top", "Trouser", "Ankle boot"]
    picture = scatter([[0.0, 0.0], [1.0, 1.0]], [0, 2], names, "Codes", "z0", "z1")
    rows = []
    for k in range(3):
        disc = where(picture, tuple(rgb(CLASS_COLORS[k]).tolist()))
        assert len(disc) > 100
        assert disc[:, 1].min() > 650
        rows.append(disc[:, 0].mean())
        row = round(rows[-1])
        assert (pixels_of(picture)[row - 6 : row + 6, disc[:, 1].max() + 6 :] < 100).any()
    assert rows == sorted(rows)
    assert_nothing_is_cut_off(picture)


@pytest.mark.parametrize(
    ("count", "names"),
    [
        (1, ["only"]),
        (50, ["a class whose name is as long as a sentence and longer than most of them"]),
        (200, [f"class {k}" for k in range(47)]),
    ],
)
def test_odd_sets_of_codes_are_drawn_whole(count: int, names: list[str]) -> None:
    """One point; all points equal; more classes than the picture is high."""
    picture = scatter(np.ones((count, 2)), np.arange(count) % len(names), names, "T", "x", "y")
    assert_nothing_is_cut_off(picture)
    assert (pixels_of(picture)[380:412, 330:370] < 220).any()  # the dot, in the middle


def test_ten_thousand_codes_are_drawn_within_a_second_and_always_the_same() -> None:
    rng = np.random.default_rng(1)
    codes, labels = rng.standard_normal((10_000, 2)), rng.integers(0, 10, 10_000)
    names = [str(k) for k in range(10)]
    start = time.process_time()
    picture = scatter(codes, labels, names, "Codes", "z0", "z1")
    assert time.process_time() - start < 1.0
    assert picture.tobytes() == scatter(codes, labels, names, "Codes", "z0", "z1").tobytes()


def test_codes_that_cannot_be_drawn_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(N, 2\)"):
        scatter(np.zeros((4, 3)), np.zeros(4, dtype=int), ["a"], "", "x", "y")
    with pytest.raises(ValueError, match=r"\(N,\)"):
        scatter(np.zeros((4, 2)), np.zeros(3, dtype=int), ["a"], "", "x", "y")
    with pytest.raises(ValueError, match="finite"):
        scatter([[0.0, np.nan]], [0], ["a"], "", "x", "y")
    with pytest.raises(ValueError, match="at least one"):
        scatter(np.zeros((0, 2)), np.zeros(0, dtype=int), ["a"], "", "x", "y")
    for label in (-1, 1):
        with pytest.raises(ValueError, match="class names"):
            scatter([[0.0, 0.0]], [label], ["a"], "", "x", "y")


# --- ticks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "at_most", "labels"),
    [
        (0.0, 1.0, 6, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (241.3, 263.9, 6, ["245", "250", "255", "260"]),
        (-3.2, 3.2, 8, ["-3", "-2", "-1", "0", "1", "2", "3"]),
        (0.0, 0.011, 6, ["0.000", "0.002", "0.004", "0.006", "0.008", "0.010"]),
        (1.0, 1000.0, 8, ["200", "400", "600", "800", "1000"]),
    ],
)
def test_ticks_are_round_numbers(low: float, high: float, at_most: int, labels: list[str]) -> None:
    assert tick_labels(nice_ticks(low, high, at_most)) == labels


def test_epochs_are_whole_numbers() -> None:
    assert tick_labels(nice_ticks(1, 1, 8, least_step=1.0)) == ["1"]
    assert tick_labels(nice_ticks(1, 3, 8, least_step=1.0)) == ["1", "2", "3"]


def test_ticks_are_inside_the_range_and_neither_too_many_nor_too_few() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        low = rng.normal() * 10.0 ** rng.uniform(-3, 6)
        high = low + 10.0 ** rng.uniform(-4, 6)
        ticks = nice_ticks(low, high, at_most=6)
        assert 2 <= len(ticks) <= 7
        slack = 1e-8 * (high - low)
        assert ticks[0] >= low - slack
        assert ticks[-1] <= high + slack
        assert len(set(tick_labels(ticks))) == len(ticks)
