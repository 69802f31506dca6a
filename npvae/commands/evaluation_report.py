"""What is a trained model worth? The figures that `scripts/evaluate.py` prints, and their table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from npvae import evaluation
from npvae.commands.agreement import agreement
from npvae.commands.messages import COLLAPSED
from npvae.core.errors import CheckpointError
from npvae.datasets import Dataset
from npvae.evaluation import Floats
from npvae.model import VAE


@np.errstate(all="ignore")  # an overflow shows in the figures, which are checked
def evaluation_report(
    vae: VAE,
    train_set: Dataset,
    test_set: Dataset,
    samples: int,
    bound_images: int,
    seed: int,
    binarize: bool = False,
) -> dict[str, Any]:
    """Every figure of merit as plain data, ready for JSON; losses in nats per image.

    The importance-weighted bound draws `samples` latent codes for each of the first `bound_images`
    test images. With `binarize`, each pixel becomes 0 or 255 at random, with its grey value as the
    probability of 255. Raises CheckpointError if the loss is not finite.
    """
    rng = np.random.default_rng(seed)
    train, test = train_set.images, test_set.images
    if binarize:
        train, test = evaluation.binarized(train, rng), evaluation.binarized(test, rng)
    labels = vae.classes(test_set.labels)
    some = vae.classes(test_set.labels[:bound_images])
    bce, kl = evaluation.losses_per_image(vae, test, vae.noise(len(test), rng), labels=labels)
    bound = evaluation.iwae_bound(vae, test[:bound_images], samples, rng, labels=some)
    if not np.isfinite([(bce + kl).mean(), bound.mean()]).all():
        raise CheckpointError(
            "the loss of the model on these images is not finite. The model was trained on other\n"
            "images, or its training diverged. Use another checkpoint."
        )
    return {
        "dataset": test_set.name,
        "binarized": binarize,
        "conditional": vae.num_classes > 0,
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
        "mean_squared_error": evaluation.reconstruction_error(vae, test, labels=labels),
        "floor": evaluation.pixel_entropy(test),
        "baseline": evaluation.no_latent_loss(train, test),
        "kl_per_latent": evaluation.kl_per_latent(vae, test, labels=labels).tolist(),
        "agreement": agreement(vae, train_set, test_set, seed),
        "active": evaluation.active_units(vae, test, labels=labels).tolist(),
    }


def mean_and_error(values: Floats) -> dict[str, float | None]:
    """The mean and its standard error, which is None for a single value."""
    count = len(values)
    error = float(values.std(ddof=1) / np.sqrt(count)) if count > 1 else None
    return {"mean": float(values.mean()), "standard_error": error}


def row(title: str, figure: str, note: str, error: float | None = None) -> str:
    spread = "" if error is None else f"+- {error:.2f}"
    return f"{title:12} {figure:>8} {spread:9} {note}"


def table(report: dict[str, Any]) -> str:
    """The same for people."""
    bound, agreed, active = report["nll_bound"], report["agreement"], report["active"]
    black_and_white = ", made black and white" if report["binarized"] else ""
    lines = [
        f"{report['dataset']}: {report['images']:,} test images{black_and_white}, "
        "in nats per image",
        "",
    ]
    for name, title, note in (
        ("bce", "bce", "the pixels, given the latent code"),
        ("kl", "kl", "the latent code, given the prior"),
        ("loss", "loss", "their sum: -log p(x) is at most this"),
        (
            "nll_bound",
            "-log p(x) <=",
            f"a closer bound: {bound['samples']} draws, first {bound['images']:,} images",
        ),
    ):
        found = report[name]
        lines.append(row(title, f"{found['mean']:.2f}", note, found["standard_error"]))
    lines += [
        row("", f"{bound['loss_of_these']:.2f}", "the loss of these images"),
        row("floor", f"{report['floor']:.2f}", "the entropy of the pixels"),
        row("baseline", f"{report['baseline']:.2f}", "always the mean training image"),
        row("mse", f"{report['mean_squared_error']:.4f}", "mean squared error per pixel"),
    ]
    if agreed:
        on_test = f"(test images: {agreed['test_images']:.1%}); z fitted"
        note = f"draws of a class that look like it {on_test}"
        lines.append(row("agreement", f"{agreed['fitted']:.1%}", note))
    if agreed and agreed["prior"] is not None:
        lines.append(row("", f"{agreed['prior']:.1%}", "the same with z from the prior"))
    names = [f"z{k}" for k, is_active in enumerate(active) if is_active]
    which = f" ({', '.join(names)})" if 0 < len(names) < len(active) else ""
    lines += ["", f"{len(names)} of {len(active)} latents are active{which}; the KL of each:"]
    per_latent = np.array(report["kl_per_latent"])
    full_bar = max(per_latent.max(), 1.0)  # nats: a latent that says nothing gets no bar
    for k in np.argsort(-per_latent, kind="stable"):
        bar = "#" * round(40 * per_latent[k] / full_bar)
        lines.append(f"  z{k:<3} {per_latent[k]:6.3f}  {bar}".rstrip())
    if not names:
        lines += ["", *COLLAPSED]
    if report["conditional"]:
        lines += ["", "The model is conditional: p(x) is p(x | c) here, given the class c of x."]
    if report["floor"] > 0:
        lines += [
            "",
            "The pixels are grey, so p(x) is a pseudo-likelihood: use it to compare models only.",
            "--binarize makes the pixels black and white, and p(x) a probability.",
        ]
    return "\n".join(lines)


def beside_training(name: str, header: Mapping[str, Any]) -> str:
    """Why `train` printed another loss for these images; `name` is that of the checkpoint."""
    lines = ["`train` draws other noise for z: the last digits of its test loss may differ."]
    if name == "best.npz":
        lines.append("best.npz is the epoch with the lowest validation loss, seldom the last one.")
    settings = header.get("settings")
    beta = settings.get("beta") if isinstance(settings, dict) else None
    if isinstance(beta, int | float) and beta != 1:
        lines.append(f"It was trained with beta {beta:g}. The loss here is bce + kl, its -elbo.")
    return "\n".join(lines)
