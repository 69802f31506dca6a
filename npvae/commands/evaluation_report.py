"""What `scripts/evaluate.py` does: all that numbers can say about a trained model, as a table."""

from __future__ import annotations

from typing import Any

import numpy as np

from npvae import evaluation
from npvae.core.errors import CheckpointError
from npvae.datasets import Dataset
from npvae.evaluation import Floats
from npvae.model import VAE


@np.errstate(all="ignore")  # what overflows shows in the figures, which are looked at
def evaluation_report_of(
    vae: VAE,
    train_set: Dataset,
    test_set: Dataset,
    samples: int,
    bound_images: int,
    seed: int,
    binarize: bool = False,
) -> dict[str, Any]:
    """Every figure of merit, as plain data; losses in nats per image.

    The importance-weighted bound takes `samples` draws for each of the first `bound_images` images.
    Raises CheckpointError if the loss is not finite.
    """
    rng = np.random.default_rng(seed)
    train, test = train_set.images, test_set.images
    if binarize:
        train, test = evaluation.binarized(train, rng), evaluation.binarized(test, rng)
    bce, kl = evaluation.losses_per_image(vae, test, vae.noise(len(test), rng))
    bound = evaluation.iwae_bound(vae, test[:bound_images], samples, rng)
    if not np.isfinite([(bce + kl).mean(), bound.mean()]).all():
        raise CheckpointError(
            "the model's loss on these images is not finite: it was trained on others,\n"
            "or its training has diverged. Use another checkpoint."
        )
    return {
        "dataset": test_set.name,
        "binarized": binarize,
        "images": len(test),
        "bce": mean_and_error(bce),
        "kl": mean_and_error(kl),
        "loss": mean_and_error(bce + kl),
        "nll_bound": {
            **mean_and_error(-bound),
            "samples": samples,
            "images": len(bound),
            "loss_of_these": float((bce + kl)[: len(bound)].mean()),
        },
        "mean_squared_error": evaluation.reconstruction_error(vae, test),
        "floor": evaluation.pixel_entropy(test),
        "baseline": evaluation.no_latent_loss(train, test),
        "kl_per_latent": evaluation.kl_per_latent(vae, test).tolist(),
        "active": evaluation.active_units(vae, test).tolist(),
    }


def mean_and_error(values: Floats) -> dict[str, float | None]:
    """The mean and its standard error, which a single value does not have."""
    count = len(values)
    error = float(values.std(ddof=1) / np.sqrt(count)) if count > 1 else None
    return {"mean": float(values.mean()), "standard_error": error}


def table(verdict: dict[str, Any]) -> str:
    """The same for people."""
    bound = verdict["nll_bound"]
    lines = [
        f"{verdict['dataset']}: {verdict['images']:,} test images"
        f"{', made black and white' if verdict['binarized'] else ''}, in nats per image",
        "",
    ]

    def row(title: str, figure: str, note: str, error: float | None = None) -> str:
        spread = "" if error is None else f"+- {error:.2f}"
        return f"{title:12} {figure:>8} {spread:9} {note}"

    notes = {
        "bce": "the pixels, given the code",
        "kl": "the code, given the prior",
        "loss": "their sum: -log p(x) is at most this",
        "nll_bound": f"a closer bound: {bound['samples']} draws, first {bound['images']:,} images",
    }
    for name, note in notes.items():
        title = "-log p(x) <=" if name == "nll_bound" else name
        mean, error = verdict[name]["mean"], verdict[name]["standard_error"]
        lines.append(row(title, f"{mean:.2f}", note, error))
    lines += [
        row("", f"{bound['loss_of_these']:.2f}", "the loss of these"),
        row("floor", f"{verdict['floor']:.2f}", "the entropy of the pixels"),
        row("baseline", f"{verdict['baseline']:.2f}", "always the mean training picture"),
        row("mse", f"{verdict['mean_squared_error']:.4f}", "mean squared error per pixel"),
        "",
        f"{sum(verdict['active'])} of {len(verdict['active'])} latents are active; their KL:",
    ]
    per_latent = np.array(verdict["kl_per_latent"])
    for k in np.argsort(-per_latent, kind="stable"):
        bar = "#" * round(40 * per_latent[k] / max(per_latent.max(), 1e-12))
        lines.append(f"  z{k:<3} {per_latent[k]:6.3f}  {bar}".rstrip())
    if verdict["floor"] > 0:
        lines += [
            "",
            "The pixels are grey, so p(x) is a pseudo-likelihood: it orders models, no more.",
            "--binarize gives a true probability, of black and white pixels.",
        ]
    return "\n".join(lines)
