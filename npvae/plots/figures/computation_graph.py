"""What does a VAE compute, and where do gradients meet? `computation_graph` draws it.

Forward arrows are blue. Beside each, the gradient comes back in orange. Three values feed two
places each: h_enc feeds two heads, mu and log_var feed the draw and the KL divergence. There the
gradient is a sum. The formulas are those of `VAE.backward` in `model.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from PIL import Image, ImageDraw

from npvae.plots.axes import FAINT, INK, LARGE, MEDIUM, WHITE, Color, write

Line = list[tuple[float, float]]

FORWARD, BACKWARD, PAPER = (0, 90, 170), (200, 80, 0), (244, 246, 249)
FINER = 4  # lines are drawn this much larger, then averaged down
WIDE, HIGH = 50, 36  # half a box
TOP, MIDDLE, BOTTOM = 108, 244, 380  # rows
SIZE = 1340, 482

BOXES = {  # the middle of each box, and the shape of what it holds
    "x": (70, MIDDLE, "(B, 784)"),
    "h_enc": (206, MIDDLE, "(B, 128)"),
    "mu": (392, TOP, "(B, 10)"),
    "epsilon": (392, MIDDLE, "(B, 10)"),
    "log_var": (392, BOTTOM, "(B, 10)"),
    "z": (590, MIDDLE, "(B, 10)"),
    "h_dec": (726, MIDDLE, "(B, 128)"),
    "logits": (862, MIDDLE, "(B, 784)"),
    "bce": (998, MIDDLE, "(B,)"),
    "loss": (1134, MIDDLE, "number"),
    "kl": (1270, MIDDLE, "(B,)"),
}
NOTES = [  # x, y, anchor, color, words
    (20, 24, "la", FORWARD, "forward"),
    (20, 50, "la", BACKWARD, "gradients: d_z is dloss/dz"),
    (20, MIDDLE + 46, "la", BACKWARD, "d_h_enc ="),
    (20, MIDDLE + 72, "la", BACKWARD, "d_mu @ W_mu.T"),
    (20, MIDDLE + 98, "la", BACKWARD, "+ d_log_var @ W_log_var.T"),
    (392, TOP - 46, "md", BACKWARD, "d_mu = d_z + mu / B"),
    (
        342,
        BOTTOM + 46,
        "la",
        BACKWARD,
        "d_log_var = d_z * epsilon * 0.5 * sigma + 0.5 * (sigma^2 - 1) / B",
    ),
    (572, MIDDLE - 72, "ld", FORWARD, "z = mu + sigma * epsilon"),
    (572, MIDDLE - 46, "ld", FORWARD, "sigma = exp(0.5 * log_var)"),
    (852, MIDDLE - 46, "ld", FORWARD, "x_hat = sigmoid(logits)"),
    (812, MIDDLE + 46, "la", BACKWARD, "d_logits = (x_hat - x) / B"),
    (662, MIDDLE + 86, "la", FAINT, "A value that feeds two places gets a sum of two gradients."),
]


def computation_graph() -> Image.Image:
    """The graph of the 784-128-10 VAE at beta = 1, on white: 1340 x 482."""
    picture = Image.new("RGB", (FINER * SIZE[0], FINER * SIZE[1]), WHITE)
    draw = ImageDraw.Draw(picture)
    for x, y, _ in BOXES.values():
        corners = [FINER * c for c in (x - WIDE, y - HIGH, x + WIDE, y + HIGH)]
        draw.rounded_rectangle(corners, 8 * FINER, PAPER, INK, FINER)
    for line, color in arrows():
        draw_arrow(draw, line, color)
    picture = picture.reduce(FINER)
    for name, (x, y, shape) in BOXES.items():
        write(picture, (x, y - 1), name, LARGE, "md")
        write(picture, (x, y + 3), shape, MEDIUM, "ma", FAINT)
    for x, y, anchor, color, words in NOTES:
        write(picture, (x, y), words, MEDIUM, anchor, color)
    return picture


def arrows() -> Iterator[tuple[Line, Color]]:
    """The corners of each arrow, the last one at its head, and its colour."""
    left = {name: x - WIDE - 3 for name, (x, _, _) in BOXES.items()}
    right = {name: x + WIDE + 3 for name, (x, _, _) in BOXES.items()}
    for a, b in ("x", "h_enc"), ("epsilon", "z"):  # nothing is learned from their gradients
        yield [(right[a], MIDDLE), (left[b], MIDDLE)], FORWARD
    ends = [(right[a], left[b]) for a, b in pairwise(["z", "h_dec", "logits", "bce", "loss"])]
    for x_a, x_b in [*ends, (left["kl"], right["loss"])]:
        yield [(x_a, MIDDLE - 6), (x_b, MIDDLE - 6)], FORWARD
        yield [(x_b, MIDDLE + 6), (x_a, MIDDLE + 6)], BACKWARD
    kl = BOXES["kl"][0]
    for name, row, inwards in ("mu", TOP, 1), ("log_var", BOTTOM, -1):
        near = MIDDLE - inwards * (HIGH + 3)  # the side of the box of kl
        for out, color in (-1, FORWARD), (1, BACKWARD):
            to_head: Line = [
                (right["h_enc"], MIDDLE + inwards * (6 * out - 16)),
                (left[name], row + inwards * 6 * out),
            ]
            to_z: Line = [
                (right[name], row + inwards * (14 + 6 * out)),
                (left["z"], MIDDLE + inwards * (6 * out - 18)),
            ]
            rail = row + inwards * (6 * out - 14)
            to_kl: Line = [(right[name], rail), (kl - 6 * out, rail), (kl - 6 * out, near)]
            for line in to_head, to_z, to_kl:
                yield line if color == FORWARD else line[::-1], color


def draw_arrow(draw: ImageDraw.ImageDraw, line: Line, color: Color) -> None:
    """A line through these points with a head at the last one."""
    points = [(FINER * x, FINER * y) for x, y in line]
    (x0, y0), (x1, y1) = points[-2:]
    length, long, wide = math.hypot(x1 - x0, y1 - y0), 10 * FINER, 4.5 * FINER
    dx, dy = (x1 - x0) / length, (y1 - y0) / length
    neck = (x1 - long * dx, y1 - long * dy)
    draw.line([*points[:-1], neck], fill=color, width=round(1.75 * FINER), joint="curve")
    corners = [
        (neck[0] - wide * dy, neck[1] + wide * dx),
        (neck[0] + wide * dy, neck[1] - wide * dx),
    ]
    draw.polygon([(x1, y1), *corners], fill=color)
