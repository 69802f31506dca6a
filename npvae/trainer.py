"""What `scripts/train.py` does: say what is about to happen, do it, say what came of it."""

from __future__ import annotations

import platform
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from math import ceil
from pathlib import Path
from typing import Any

from npvae import __version__, compiling
from npvae.datasets import DATASETS, Dataset, load_dataset
from npvae.evaluation import Images, no_latent_loss, pixel_entropy
from npvae.images import comparison, save_png, tile
from npvae.model import VAE
from npvae.optimizers import Adam
from npvae.progress import Progress
from npvae.runs import Run, new_run
from npvae.settings import Settings
from npvae.training import PICTURES, WEIGHTS, Epoch, generator, train


def run(settings: Settings, data_dir: str | None, out: str | None, quiet: bool = False) -> Epoch:
    """A whole training run: data, folder, epochs, summary. Returns the last epoch."""
    say = (lambda text: None) if quiet else print
    train_set, test_set = load_dataset(settings.dataset, data_dir, report=say)
    vae = build(settings)
    optimizer = Adam(settings.learning_rate)
    home = new_run(
        f"{short_name(train_set)}-z{settings.latent_dim}",
        out,
        {
            "settings": settings.as_dict(),
            "data": about_data(train_set, test_set),
            "versions": versions(),
            "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        },
    )
    say(plan(settings, train_set, test_set, vae, home))
    if compiling.must_compile():
        say("Compiling the kernels for this machine: a few seconds, the first time only.\n")

    progress = Progress(settings.epochs, quiet=quiet)
    epoch = None
    try:
        for epoch in train(
            vae,
            optimizer,
            train_set.images,
            test_set.images,
            range(1, settings.epochs + 1),
            settings.batch_size,
            settings.seed,
            settings.beta,
            progress.batch,
        ):
            home.record(epoch, vae, optimizer)
            if settings.pictures_every and epoch.epoch % settings.pictures_every == 0:
                save_pictures(home.folder / "images", epoch.epoch, vae, test_set.images, settings)
            progress.epoch(epoch)
    except KeyboardInterrupt:
        progress.clear()
        print(f"Interrupted. {saved(epoch, home)}")
        raise
    assert epoch is not None  # Settings.epochs is at least 1
    print(summary(epoch, train_set, test_set, settings, home))
    return epoch


def build(settings: Settings) -> VAE:
    """The untrained model of these settings."""
    return VAE(
        hidden_dims=settings.hidden_dims,
        latent_dim=settings.latent_dim,
        rng=generator(settings.seed, WEIGHTS),
    )


def save_pictures(folder: Path, epoch: int, vae: VAE, images: Images, settings: Settings) -> None:
    """100 draws from the prior, the same z in every epoch; 50 test images and their x_hat at mu."""
    samples = vae.sample(100, generator(settings.seed, PICTURES))
    save_png(folder / f"sampled_epoch{epoch}.png", tile(samples, columns=10))
    originals = images[:50]
    mu, _ = vae.encode(originals.reshape(len(originals), -1) / 255)
    save_png(folder / f"rec_epoch{epoch}.png", comparison(originals, vae.decode(mu), columns=10))


def short_name(dataset: Dataset) -> str:
    """The name of a dataset as part of a folder's name."""
    return dataset.name if dataset.name in DATASETS else Path(dataset.name).resolve().stem


def about_data(train_set: Dataset, test_set: Dataset) -> dict[str, Any]:
    return {
        "name": train_set.name,
        "source": train_set.source,
        "train_images": len(train_set),
        "test_images": len(test_set),
    }


def versions() -> dict[str, str]:
    found = {"npvae": __version__, "python": platform.python_version()}
    for name in ("numpy", "numba", "pillow"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return found


def plan(settings: Settings, train_set: Dataset, test_set: Dataset, vae: VAE, home: Run) -> str:
    """What is about to happen, for people."""
    steps = ceil(len(train_set) / settings.batch_size)
    kernels = f"NumPy, {compiling.WHY_NUMPY}" if compiling.WHY_NUMPY else "Numba"
    return "\n".join(
        [
            f"data      {train_set.name}: {len(train_set):,} training and {len(test_set):,} test "
            f"images, {train_set.source}",
            *(f"{'network' if k == 0 else '':10}{line}" for k, line in enumerate(network(vae))),
            f"training  {settings.epochs} epochs of {steps} batches of {settings.batch_size}, "
            f"Adam {settings.learning_rate:g}, beta {settings.beta:g}, seed {settings.seed}, "
            f"kernels: {kernels}",
            f"results   {home.folder}",
            "losses    in nats per image: bce (pixels) + beta * kl (code)",
            "",
        ]
    )


def network(vae: VAE) -> list[str]:
    """The network layer by layer: shapes and parameter counts."""
    layers = [
        *((layer, vae.activation) for layer in vae.encoder.layers),
        (vae.mu, ""),
        (vae.log_var, "z = mu + exp(log_var / 2) * epsilon"),
        *((layer, vae.activation) for layer in vae.decoder.layers),
        (vae.logits, "x_hat = sigmoid(logits)"),
    ]
    names = [name.removesuffix(".W") for name in vae.parameters if name.endswith(".W")]
    lines = []
    for name, (layer, note) in zip(names, layers, strict=True):
        n_in, n_out = layer.W.shape
        count = layer.W.size + layer.b.size
        lines.append(f"{name:16} {n_in:4} -> {n_out:<4} {count:9,}  {note}".rstrip())
    return [*lines, f"{'in all':16} {'':12} {vae.parameters.flat.size:9,}  parameters"]


def saved(epoch: Epoch | None, home: Run) -> str:
    """What is left after an interruption."""
    if epoch is None:
        return f"No epoch was finished; {home.folder} holds no model yet."
    return f"The model after epoch {epoch.epoch} is in {home.folder / 'last.npz'}"


def summary(
    epoch: Epoch, train_set: Dataset, test_set: Dataset, settings: Settings, home: Run
) -> str:
    """The test loss between its floor and its baseline, and what to do next."""
    floor = pixel_entropy(test_set.images)
    baseline = no_latent_loss(train_set.images, test_set.images)
    test = epoch.test
    gained = (baseline - test.bce - test.kl) / (baseline - floor) if baseline > floor else 0.0
    beta = "" if test.beta == 1 else f"{test.beta:g} * "
    lines = [
        "",
        f"test loss {test.loss:7.2f} nats per image = bce {test.bce:.2f} + {beta}kl {test.kl:.2f}",
        f"floor     {floor:7.2f} the entropy of the test pixels: no model can go below",
        f"baseline  {baseline:7.2f} always the mean training picture, nothing in z",
        f"          which makes {gained:.0%} of the way from the baseline down to the floor",
        "",
        "Next:",
    ]
    if settings.pictures_every:
        newest = epoch.epoch - epoch.epoch % settings.pictures_every
        lines.append(f"  look at  {home.folder / 'images' / f'sampled_epoch{newest}.png'}")
    lines += [
        "  python scripts/gradcheck.py               is every gradient right?",
        "  python scripts/train.py --latent-dim 2    a code one can draw on paper",
    ]
    return "\n".join(lines)
