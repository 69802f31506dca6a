"""Every eye can tell the colours of classes and runs apart, on the ground that they are seen on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from PIL import ImageColor

from npvae.plots import explorer
from npvae.plots import page as builder
from npvae.plots.latent_scatter import CLASS_COLORS

# Linear RGB as an eye without one kind of cone sees it (Machado, Oliveira and Fernandes 2009).
EYES: dict[str, Any] = {
    "normal": np.eye(3),
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}
# From there to coordinates in which distances are about as large as they look (Ottosson 2020).
LMS = [[0.4122, 0.5363, 0.0514], [0.2119, 0.6807, 0.1074], [0.0883, 0.2817, 0.6300]]
LAB = [[0.2105, 0.7936, -0.0041], [1.9780, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]]

SCRIPT = builder.read(explorer.FOLDER / "plane.js").partition("const COLORS")[2].partition(";")[0]
STYLE = builder.read(builder.FOLDER / "style.css")
RUNS = re.findall(r"--(?:surface|run\d): light-dark\((#\w{6}), (#\w{6})\)", STYLE)
LIGHT, DARK = zip(*RUNS, strict=True)

# How many, on which ground, and the least contrast and distance. As WCAG defines it, yellow on
# white has a contrast of 1.07. A distance of 0.02 is about the least that is seen at all: Tol's
# "muted" comes to it.
COLORS: dict[str, tuple[int, Sequence[str], str, float, float]] = {
    "classes in a scatter": (10, CLASS_COLORS, "white", 2.2, 0.07),
    "classes in the explorer": (10, re.findall("#[0-9a-f]{6}", SCRIPT), "black", 4.5, 0.1),
    "runs in a light comparison": (6, LIGHT[1:], LIGHT[0], 3, 0.15),
    "runs in a dark comparison": (6, DARK[1:], DARK[0], 3, 0.15),
}


@pytest.mark.parametrize("eye", EYES)
@pytest.mark.parametrize(
    ("count", "names", "ground", "contrast", "apart"), COLORS.values(), ids=COLORS
)
def test_every_eye_can_tell_the_colours_apart(
    eye: str, count: int, names: Sequence[str], ground: str, contrast: float, apart: float
) -> None:
    c = np.array([ImageColor.getrgb(name) for name in [ground, *names]]) / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    light = linear @ [0.2126, 0.7152, 0.0722] + 0.05
    assert (np.maximum(light, light[0]) / np.minimum(light, light[0]))[1:].min() > contrast
    seen = np.clip(linear[1:] @ np.transpose(EYES[eye]), 0, 1)
    lab = np.cbrt(seen @ np.transpose(LMS)) @ np.transpose(LAB)
    distance = np.linalg.norm(lab[:, None] - lab, axis=-1)[~np.eye(count, dtype=bool)]
    assert distance.min() > (0.15 if eye == "normal" else apart)
