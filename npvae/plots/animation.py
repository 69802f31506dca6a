"""How do pictures move? `gif` joins frames into one small file that repeats forever.

GIF is the format that every browser and image viewer plays. It stores an index into a palette for
each pixel; noise and fine gradients compress badly. So the frames are reduced to LEVELS greys, and
a pixel keeps its grey until it has changed by more than one of these levels: parts that hardly
change cost nothing. `of_samples` makes the frames of a training run from its saved pictures.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from npvae.datasets.dataset import SIDE
from npvae.plots.axes import MARGIN
from npvae.plots.image_grid import GAP, image_grid

LEVELS = 24  # of grey: 20 frames of 100 samples take 0.8 MB, with 64 levels 2 MB
STEP, HOLD = 250, 2500  # milliseconds: a frame, and one that is held
MOST_FRAMES = 24


def gif(frames: Sequence[Image.Image], held: Sequence[int] = (-1,), step: int = STEP) -> bytes:
    """An animation of grey frames of one size; those with an index in `held` stay longer."""
    pictures = in_few_greys(frames)
    times = [step] * len(frames)
    for k in held:
        times[k] = HOLD
    data = io.BytesIO()
    more = {"save_all": True, "append_images": pictures, "duration": times, "loop": 0}
    next(pictures).save(data, format="GIF", **more)
    return data.getvalue()


def in_few_greys(frames: Sequence[Image.Image]) -> Iterator[Image.Image]:
    """The frames as indices into a palette of LEVELS greys, one after another."""
    top = LEVELS - 1
    palette = [grey for k in range(LEVELS) for grey in 3 * [round(255 * k / top)]]
    shown: NDArray[Any] = np.full((frames[0].height, frames[0].width), -2, np.int16)
    for frame in frames:
        exact = np.asarray(frame).astype(np.int16) * top  # in 255ths of a level
        changed = abs(exact - 255 * shown) > 255
        shown = np.where(changed, (exact + 127) // 255, shown)
        picture = Image.fromarray(shown.astype(np.uint8))
        picture.putpalette(palette)
        yield picture


def there_and_back(frames: Sequence[Image.Image], step: int = 80) -> bytes:
    """An animation that goes through the frames, back again, and stays at both ends."""
    backwards = list(frames)[-2:0:-1]
    return gif([*frames, *backwards], held=(0, len(frames) - 1), step=step)


def of_samples(
    images: Path, epochs: Sequence[int], name: str, count: int = 100, scale: int = 2
) -> list[Image.Image]:
    """The first `count` samples of a run at each of these epochs, from the pictures in its images/.

    Pictures that are missing or have another layout are left out. `name` is the run in the title.
    """
    frames = []
    for epoch in epochs:
        try:
            with Image.open(images / f"sampled_epoch{epoch}.png") as picture:
                samples = samples_in(np.asarray(picture))
        except (OSError, ValueError):
            continue
        rows = [samples[start : start + 10] for start in range(0, count, 10)]
        frames.append(image_grid(rows, scale=scale, title=f"{name}, epoch {epoch}", gap=2))
    return frames


def samples_in(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The 100 images (100, 28, 28) in a picture of samples, which has 10 x 10 of scale 3.

    Raises ValueError if the picture is smaller.
    """
    side, pitch = 3 * SIDE, 3 * SIDE + GAP
    top, left = pixels.shape[0] - MARGIN - 10 * pitch + GAP, MARGIN
    places = [(top + row * pitch, left + column * pitch) for row, column in np.ndindex(10, 10)]
    if pixels.ndim != 2 or top < 0 or pixels.shape[1] < left + 10 * pitch:
        raise ValueError(f"a picture of samples has another shape than {pixels.shape}")
    return np.stack([pixels[y : y + side : 3, x : x + side : 3] for y, x in places])


def chosen_epochs(epochs: Sequence[int]) -> list[int]:
    """At most MOST_FRAMES of these epochs: the first and the last, the early ones more closely."""
    if len(epochs) <= MOST_FRAMES:
        return list(epochs)
    places = np.geomspace(1, len(epochs), MOST_FRAMES).round().astype(int) - 1
    return [epochs[k] for k in sorted(set(places.tolist()))]
