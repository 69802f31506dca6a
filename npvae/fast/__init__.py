"""The engine: what the lesson computes, many batches in one compiled call, a worker for each core.

`npvae/*.py` is written to be read. It makes a new array for every line and calls NumPy some sixty
times a batch, which costs more than the arithmetic where batches are small. The engine does the
same arithmetic in another form:

    engine = Engine(vae, optimizer, images, labels=None, workers=None)
    for loss in engine.train_epoch(plan, settings):                # as training.train_epoch does
        ...
    for bce, kl in engine.train(indices, epsilon, batch_size, betas, learning_rates, warps=None):
        ...                            # of the batches since the last look, ten times a second
    loss = engine.average_loss(test_images, epsilon, beta)               # nothing is learned

What it gains is measured in reference/README.md: at every batch size, an epoch takes 1.2 times as
long as its five large products alone.

Parameters, optimizer state and losses are those of the lesson, to 1e-12 in float64: that is tested
for everything the engine supports. `why_not` and `why_not_for` say why the lesson has to run
instead, if so: also where it was changed.

    engine.py    what Python sees: threads, signals, progress
    step.py      the training step, task by task: read it beside model.py and training.py
    job.py       what compiled code is given: numbers, and where arrays lie
    turns.py     who does which task, and when
    kernels.py   the loops between the products; each names the function it stands for
    atomics.py   what Numba cannot say: a call of BLAS, and numbers that threads share
    blas.py      the BLAS of NumPy: where its functions are, and how many threads it uses
    jit.py       compiling, once, and the cache
    ranks.py     workers that are processes of MPI, on one machine or several
    threads.py   how many cores there are
    stands_for.py   is the lesson still what the engine computes? Otherwise the lesson trains
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from npvae.core.errors import OptionError

if TYPE_CHECKING:
    from npvae.core.optimizer_base import Optimizer
    from npvae.model import VAE

BACKENDS = ("auto", "numpy")  # the engine where it can run, or always the lesson


def wanted_backend() -> str:
    """What $NPVAE_BACKEND says, or auto."""
    wanted = os.environ.get("NPVAE_BACKEND") or "auto"
    if wanted not in BACKENDS:
        raise OptionError(f"NPVAE_BACKEND must be {' or '.join(BACKENDS)}, not {wanted!r}")
    return wanted


def why_not(backend: str) -> str:
    """Why the engine does not run here; empty if it does."""
    if backend == "numpy":
        return "as asked for"
    from npvae.fast import blas, jit

    if jit.WHY_NOT:
        return jit.WHY_NOT
    if blas.find_blas() is None:
        return "NumPy's BLAS has no functions that compiled code can call"
    return ""


def must_compile(backend: str) -> bool:
    """Whether the engine for float32 will have to be compiled, which takes some ten seconds."""
    if why_not(backend):
        return False
    from npvae.fast.engine import program

    return program("float32").must_compile()


def describe(backend: str, vae: VAE, optimizer: type[Optimizer], ranks: int = 1) -> str:
    """What trains this model here, in a line for people; `ranks` processes together."""
    from npvae.fast.threads import cores

    if why := why_not(backend) or why_not_for(vae, optimizer()):
        return f"NumPy ({why})" + (f", MPI: {ranks} ranks" if ranks > 1 else "")
    if ranks > 1:
        return f"engine: compiled by Numba, MPI: {ranks} ranks, each a worker"
    number = cores()
    return f"engine: compiled by Numba, {number} worker{'s' * (number != 1)}"


def why_not_for(vae: VAE, optimizer: Optimizer) -> str:
    """Why the engine cannot train this model with this optimizer; empty if it can."""
    from npvae import layers
    from npvae.fast import kernels, stands_for
    from npvae.model import VAE
    from npvae.optimizers import OPTIMIZERS

    if type(vae) is not VAE or {type(layer) for layer in vae.layers} != {layers.Dense}:
        return "the engine does not know this kind of model"
    name = vae.activation
    functions = getattr(layers, name, None), getattr(layers, f"{name}_backward", None)
    if name not in kernels.ACTIVATIONS or layers.ACTIVATIONS[name] != functions:
        return f"the engine does not know the activation {name}"
    if optimizer.name not in kernels.OPTIMIZERS or type(optimizer) is not OPTIMIZERS.get(
        optimizer.name
    ):
        return f"the engine does not know the optimizer {optimizer.name}"
    if method := stands_for.replaced(vae, vae.encoder, vae.decoder, *vae.layers, optimizer):
        return f"the engine does not know this {method}"
    return stands_for.difference()
