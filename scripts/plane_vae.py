"""A VAE that you can see whole: points on a spiral, two latents, at beta 0, 1 and 4.

    python scripts/plane_vae.py            some ten seconds; draws plane_vae.png

The network and its gradients are those of the lesson. Only the likelihood is another one: a point
is no pixel, so the decoder's output is the mean of a normal distribution with standard deviation S.
Two functions stand in for the cross-entropy, and the gradient check covers them before training.
"""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a clone works uninstalled

import npvae.model
from npvae import VAE, Adam
from npvae.core.parameters import Array
from npvae.gradcheck import check
from npvae.losses import Loss
from npvae.plots.axes import FAINT, INK, LARGE, MARGIN, MEDIUM, WHITE, Color, around, write

S = 0.1  # of the points around the spiral, and of the decoder
BETAS = 0, 1, 4
COLUMNS = (
    "decoded draws of N(0, 1)",
    "the same, with noise S",
    "q(z | x) of 100 points",
    "one z of each q(z | x)",
)
SIDE, FINER = 240, 3  # pixels of a panel; it is drawn so much larger, then averaged down
ENDS = np.array([(30, 60, 160), (30, 140, 110), (225, 120, 20)])  # colours along the spiral


def spiral(count: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Points x (count, 2), and where along the spiral each belongs (count,), from 0 to 1."""
    t = np.sqrt(rng.uniform(0.05, 1, count))
    x = 1.8 * t[:, None] * np.stack([np.cos(3 * np.pi * t), np.sin(3 * np.pi * t)], axis=1)
    return x + S * rng.standard_normal(x.shape), t


def gaussian_nll(mean: Array, x: Array) -> Array:
    """-log p(x | z) (B,), the negative log-likelihood of points x under N(mean, S^2), both (B, D).

    It replaces bce. A density can be larger than 1, so this number can be negative.
    """
    nll: Array = np.sum(0.5 * ((x - mean) / S) ** 2 + np.log(S * np.sqrt(2 * np.pi)), axis=1)
    return nll


def gaussian_nll_backward(d_nll: Array | float, mean: Array, x: Array) -> Array:
    """d_mean (B, D)."""
    return d_nll * (mean - x) / S**2


def use_gaussian_likelihood() -> None:
    """From now on, VAE.objective and VAE.backward call the two functions above."""
    vars(npvae.model).update(
        bce_with_logits=gaussian_nll, bce_with_logits_backward=gaussian_nll_backward
    )


def worst_error() -> float:
    """Of all gradients of a small model of this kind, relative to central differences."""
    rng = np.random.default_rng(0)
    vae = VAE(2, (5, 4), 2, "tanh", np.float64, rng)
    x, epsilon = spiral(6, rng)[0], rng.standard_normal((6, 2))
    vae.backward(vae.forward(x, epsilon))
    gradients = vae.gradients.copy()

    def loss() -> float:
        return vae.objective(vae.forward(x, epsilon)).total

    return max(check(name, loss, W, gradients[name]).error for name, W in vae.parameters.items())


def train(beta: float, steps: int = 4000, batch_size: int = 100) -> tuple[VAE, Loss]:
    """A model and its test loss. Each batch is drawn anew, so the model cannot overfit."""
    rng = np.random.default_rng(0)
    vae, adam = VAE(2, (64, 64), 2, dtype=np.float64, rng=rng), Adam(learning_rate=2e-3)
    for _ in range(steps):
        x, _ = spiral(batch_size, rng)
        vae.backward(vae.forward(x, vae.noise(batch_size, rng)), beta)
        adam.update(vae.parameters, vae.gradients)
    x, _ = spiral(10_000, rng)
    return vae, vae.objective(vae.forward(x, vae.noise(len(x), rng)), beta)


def panel(
    reach: float,
    colors: Iterable[Color],
    centers: Array,
    radii: Array | None = None,
    circle: bool = False,
) -> Image.Image:
    """The square from -reach to reach with dots at centers (N, 2), or ellipses with radii (N, 2).

    The circle is the prior at two standard deviations.
    """
    size = FINER * SIDE
    unit = size / (2 * reach)  # pixels
    picture = Image.new("RGB", (size, size), WHITE)
    draw = ImageDraw.Draw(picture)
    x, y = size / 2 + unit * centers[:, 0], size / 2 - unit * centers[:, 1]
    if radii is None:
        for *point, color in zip(x, y, colors, strict=True):
            draw.ellipse(around((point[0], point[1]), 1.2 * FINER), color)
    else:
        a, b = np.maximum(unit * radii, FINER).T
        for *box, color in zip(x - a, y - b, x + a, y + b, colors, strict=True):
            draw.ellipse(box, outline=color, width=FINER)
    if circle:
        draw.ellipse(around((size / 2, size / 2), 2 * unit), outline=INK, width=2 * FINER)
    draw.rectangle((0, 0, size - 1, size - 1), outline=FAINT, width=FINER)
    return picture.reduce(FINER)


def panels_of(vae: VAE) -> list[Image.Image]:
    """Samples without and with the decoder's noise, posteriors, and z drawn from all of them."""
    rng = np.random.default_rng(1)
    x, t = spiral(1500, rng)
    z, noise, epsilon = rng.standard_normal((3, *x.shape))
    mean, a = vae.decode_logits(z), vae.forward(x, epsilon)
    reach, sigma, few = max(3.2, 1.05 * np.abs(a.z).max()), np.exp(0.5 * a.log_var), slice(100)
    return [
        panel(2.3, [INK] * len(x), mean),
        panel(2.3, [INK] * len(x), mean + S * noise),
        panel(reach, hues(t[few]), a.mu[few], 2 * sigma[few], circle=True),
        panel(reach, hues(t), a.z, circle=True),
    ]


def hues(t: Array) -> list[Color]:
    """A colour for each place along the spiral: blue inside, orange outside."""
    parts = np.stack([np.interp(t, (0, 0.5, 1), ends) for ends in ENDS.T], axis=1).astype(int)
    return [(red, green, blue) for red, green, blue in parts.tolist()]


def figure(models: Sequence[tuple[VAE, Loss]]) -> Image.Image:
    """The data above, then a row for each model."""
    pitch, left, top = SIDE + 16, MARGIN + 130, MARGIN + SIDE + 60
    picture = Image.new("RGB", (left + 4 * pitch + 8, top + pitch * len(models) + 8), WHITE)
    x, t = spiral(1500, np.random.default_rng(1))
    write(picture, (MARGIN, MARGIN), "data", LARGE)
    picture.paste(panel(2.3, hues(t), x), (left, MARGIN))
    words = (
        "Each point x has the colour of its place on the spiral,\n"
        "and so have its q(z | x) and its z below.\n\n"
        "Circle: the prior N(0, 1). Circle and ellipses are drawn\n"
        "at two standard deviations."
    )
    write(picture, (left + pitch, MARGIN + 40), words, MEDIUM)
    for column, heading in enumerate(COLUMNS):
        write(picture, (left + column * pitch, top - 8), heading, MEDIUM, "ld", FAINT)
    for row, (vae, loss) in enumerate(models):
        y = top + row * pitch
        write(picture, (MARGIN, y), f"beta {loss.beta:g}", LARGE)
        write(picture, (MARGIN, y + 40), f"nll {loss.bce:.2f}\nkl {loss.kl:.2f}", MEDIUM)
        for column, part in enumerate(panels_of(vae)):
            picture.paste(part, (left + column * pitch, y))
    return picture


if __name__ == "__main__":
    use_gaussian_likelihood()
    print(f"gradient check: worst relative error {worst_error():.1e}")
    models = []
    for beta in BETAS:
        models.append(train(beta))
        loss = models[-1][1]
        print(f"beta {beta}: nll {loss.bce:.2f}, kl {loss.kl:.2f}, nll + kl {-loss.elbo:.2f}")
    figure(models).quantize(64).save("plane_vae.png", optimize=True)
    print("plane_vae.png")
