"""Where in the plane do the images of each class lie?

    codes     the codes mu of a model's test images: which plane is shown
    scatter   a dot for each code, coloured by class: how it is drawn

With ten thousand dots and ten classes, the order of drawing and the choice of colours decide what
one sees. Both are explained where they are made. Axes and text are drawn by `axes.py`. The
decoder's view of the same plane is in `manifold.py`.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageColor, ImageDraw

from npvae.datasets.dataset import SIDE
from npvae.latent_space import encode_all, principal_plane
from npvae.plots.axes import (
    FAINT,
    LARGE,
    MARGIN,
    MEDIUM,
    SMALL,
    Axis,
    Color,
    Panel,
    Values,
    around,
    draw_axes,
    enlarged,
    figure,
    largest,
    write,
)
from npvae.plots.class_names import explanation, picture_name
from npvae.plots.request import Request, check_size

# Found by a search: no two are alike, and none is pale on white, for normal and for colour-blind
# eyes (tests/plots/test_latent_scatter.py says how far apart they are).
CLASS_COLORS = (
    *("#1E85C7", "#DE5DFF", "#401AC0", "#2DAE96", "#B70F08"),
    *("#571947", "#9D6E52", "#EC7F1F", "#9E03FC", "#5E557E"),
)
OPACITY = 0.8  # of the dots
SPREAD = 24  # the panel has so many cells across in which a class's name may stand


def codes(request: Request) -> Image.Image:
    """The encoder's view: mu of the first `count` images, coloured by class.

    One latent is drawn against the class, two as they are, more in the plane of greatest variance.
    Raises OptionError if the picture would be too large.
    """
    images = request.images
    labels = images.labels[: request.count]
    mu, _ = encode_all(
        request.vae, images.images[: request.count], labels=request.vae.classes(labels)
    )
    x_name, y_name = "mu of z0", "mu of z1"
    if request.vae.latent_dim == 1:
        rows = labels + np.random.default_rng(0).uniform(-0.35, 0.35, len(mu))
        mu, y_name = np.stack([mu[:, 0], rows], axis=1), "class, spread to show all dots"
    elif request.vae.latent_dim > 2:
        mu, shares = principal_plane(mu)
        x_name, y_name = (
            f"principal component {k} of mu: {share:.0%} of the variance"
            for k, share in enumerate(shares, start=1)
        )
    title = f"{request.name}: codes of {len(mu):,} {request.source()}s"
    names = [picture_name(images, label) for label in range(len(images.class_names))]
    picture = scatter(mu, labels, names, title, x_name, y_name, explanation(images))
    scale = request.scale
    check_size(picture.width * picture.height // SIDE**2, request.scale)
    return picture.resize((scale * picture.width, scale * picture.height), Image.Resampling.NEAREST)


def scatter(
    points: ArrayLike,
    labels: ArrayLike,
    class_names: Sequence[str],
    title: str,
    x_name: str,
    y_name: str,
    note: str = "",
) -> Image.Image:
    """Points in the plane, coloured by class, with names at the clusters and a legend.

    `points` is (N, 2), `labels` (N,) with 0 <= label < len(class_names). Both axes have the same
    scale, so that distances are what they seem. The dots are slightly transparent and drawn in
    random order, so that no class hides the others. `note` stands below. The picture has about
    850 x 760 pixels.
    Raises ValueError for other shapes, no points, infinite ones, and labels without a name.
    """
    codes, classes = np.asarray(points, dtype=np.float64), np.asarray(labels)
    if codes.ndim != 2 or codes.shape[1] != 2 or classes.shape != codes.shape[:1]:
        raise ValueError(f"points are (N, 2) and labels (N,), not {codes.shape}, {classes.shape}")
    if not len(codes) or not np.isfinite(codes).all():
        raise ValueError("a scatter needs at least one point, and finite ones")
    if classes.min() < 0 or classes.max() >= len(class_names):
        raise ValueError(f"labels up to {classes.max()} for {len(class_names)} class names")

    low, high = codes.min(axis=0), codes.max(axis=0)
    half = 0.54 * float((high - low).max()) or 1.0
    x_middle, y_middle = map(float, (low + high) / 2)
    axes = Axis.around(x_middle, half, x_name), Axis.around(y_middle, half, y_name)
    panel = Panel.square(MARGIN, 96, 600, *axes)
    legend = panel.right + 30

    text_width, text_height = largest(class_names, SMALL)
    pitch = text_height + 10
    width = max(legend + 24 + text_width, MARGIN + largest([title], LARGE)[0]) + MARGIN
    height = max(784 if note else 760, panel.top + pitch * len(class_names) + MARGIN)
    picture = figure(width, height, title)
    draw_axes(picture, panel)
    write(picture, (MARGIN, height - MARGIN), note, SMALL, "ld", FAINT)
    colors = class_colors(len(class_names))
    _dots(picture, panel, codes, [colors[k] for k in classes])
    if len(class_names) <= SPREAD:
        _write_names(picture, panel, codes, classes, class_names)
    disc = _disc(radius=7.0, opacity=1.0)
    for k, name in enumerate(class_names):
        middle = panel.top + k * pitch + pitch // 2
        picture.paste(colors[k], (legend, middle - disc.height // 2), disc)
        write(picture, (legend + 24, middle), name, SMALL, "lm")
    return picture


def _dots(picture: Image.Image, panel: Panel, codes: Values, colors: Sequence[Color]) -> None:
    """Slightly transparent dots, smaller if there are many, placed to half a pixel."""
    radius = float(np.clip(40.0 * len(codes) ** -0.3, 2.5, 5.0))  # 2.5 for 10,000 dots
    dot = _disc(2 * radius, opacity=OPACITY)
    corners = np.rint(2 * panel.place(codes[:, 0], codes[:, 1]) - dot.width / 2).astype(int)
    with enlarged(picture, panel, 2) as canvas:
        for k in np.random.default_rng(0).permutation(len(codes)):
            canvas.paste(colors[k], (int(corners[k, 0]), int(corners[k, 1])), dot)


def _write_names(
    picture: Image.Image,
    panel: Panel,
    codes: Values,
    classes: NDArray[np.integer],
    names: Sequence[str],
) -> None:
    """The name of each class where it has many dots and the others have few; no two overlap."""
    places = panel.place(codes[:, 0], codes[:, 1])  # (N, 2)
    cells = (places * SPREAD / (panel.width, panel.height)).astype(int).clip(0, SPREAD - 1)
    counts = np.zeros((len(names), SPREAD + 2, SPREAD + 2))
    np.add.at(counts, (classes, cells[:, 0] + 1, cells[:, 1] + 1), 1)
    near = np.zeros((len(names), SPREAD, SPREAD))  # dots of a class in a cell and its neighbours
    for i, j in np.ndindex(3, 3):
        near += counts[:, i : i + SPREAD, j : j + SPREAD]
    score = near**2 / np.maximum(near.sum(axis=0), 1)
    taken: list[tuple[float, float, float, float]] = []
    for k in np.argsort(-score.max(axis=(1, 2)), kind="stable"):
        width, height = largest([names[k]], MEDIUM)
        for cell in np.argsort(-score[k].ravel(), kind="stable"):
            if score[k].flat[cell] == 0:
                break
            x = panel.left + (cell // SPREAD + 0.5) * panel.width / SPREAD
            y = panel.top + (cell % SPREAD + 0.5) * panel.height / SPREAD
            box = x - width / 2, y - height / 2, x + width / 2, y + height / 2
            if all(box[2] < a or c < box[0] or box[3] < b or d < box[1] for a, b, c, d in taken):
                taken.append(box)
                write(picture, (x, y), names[k], MEDIUM, "mm", halo=3)
                break


def _disc(radius: float, opacity: float) -> Image.Image:
    """A smooth disc as a mask, in the middle of the smallest square that holds it."""
    side = 2 * math.ceil(radius)
    mask = Image.new("L", (8 * side, 8 * side))
    center = (4.0 * side - 0.5, 4.0 * side - 0.5)
    ImageDraw.Draw(mask).ellipse(around(center, 8 * radius), fill=round(255 * opacity))
    return mask.reduce(8)


def class_colors(count: int) -> list[Color]:
    """A colour for each class: those above for up to ten, around the colour circle for more."""
    names = (
        CLASS_COLORS
        if count <= len(CLASS_COLORS)
        else [f"hsl({360 * k // count}, 65%, {40 + 25 * (k % 2)}%)" for k in range(count)]
    )
    return [ImageColor.getrgb(name)[:3] for name in names[:count]]
