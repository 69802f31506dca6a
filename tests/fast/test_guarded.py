"""Compiled code reads and writes nothing but what it was given: bounds checked, pages guarded.

Every array of a job lies between two pages that nobody may touch, once at its first byte and once
at its last, and Numba checks every index. In a process of its own: a fault ends it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from npvae.fast import jit
from tests.helpers import ROOT, environment, run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(jit.WHY_NOT), reason=f"there is no engine: {jit.WHY_NOT}"),
    pytest.mark.skipif(os.name != "posix", reason="pages are guarded by mprotect"),
]

PROGRAM = """
import ctypes, mmap
import numpy as np
from npvae import VAE
from npvae.datasets.augmentation import random_warps
from npvae.fast.engine import Engine
from npvae.fast import kernels
from npvae.optimizers import OPTIMIZERS

libc, page, held = ctypes.CDLL(None), mmap.PAGESIZE, []

def guarded(array, at_the_start):
    for _, known, view in held:
        if known.ctypes.data == array.ctypes.data:  # one array under two names
            return view.reshape(array.shape)
    pages = -(-array.nbytes // page) + 2
    memory = mmap.mmap(-1, pages * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for guard in (start, start + (pages - 1) * page):
        assert libc.mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(page), 0) == 0
    offset = page if at_the_start else (pages - 1) * page - array.nbytes
    view = np.frombuffer(memory, array.dtype, array.size, offset).reshape(array.shape)
    np.copyto(view, array)
    held.append((memory, array, view))
    return view

def trained(guards):
    rng = np.random.default_rng(seed)
    side, hidden = int(rng.integers(2, 6)), tuple(rng.integers(1, 9, rng.integers(1, 4)).tolist())
    classes = int(rng.choice([0, 3]))
    vae = VAE(side**2, hidden, int(rng.integers(1, 6)), str(rng.choice(list(kernels.ACTIVATIONS))),
              str(rng.choice(["float32", "float64"])), 1, classes)
    images = rng.integers(0, 256, (int(rng.integers(1, 400)), side, side), np.uint8)
    labels = rng.integers(0, 3, len(images)) if classes else None
    optimizer = OPTIMIZERS[str(rng.choice(list(kernels.OPTIMIZERS)))]()
    engine = Engine(vae, optimizer, images, labels, int(rng.integers(1, 6)))
    count, batch_size = int(rng.integers(1, 700)), int(rng.choice([1, 2, 7, 64, 300, 600]))
    compiled = engine._work

    def work(worker, job):
        if worker:
            return True  # the first does all the tasks
        arrays = {name: array for name, array in job.values.items()
                  if isinstance(array, np.ndarray) and array.size}
        done = compiled(0, job.replace(**{name: guarded(array, guards == "start")
                                          for name, array in arrays.items()}))
        for _, array, view in sorted(held, key=lambda three: -three[1].size):  # parts after wholes
            np.copyto(array, view)
        held.clear()
        return done

    if guards:
        engine._work = work
    warps = random_warps(count, ("shift", "rotate"), rng) if seed % 3 == 0 else None
    batches = -(-count // batch_size)
    losses = list(engine.train(rng.integers(0, len(images), count), vae.noise(count, 2),
                               batch_size, np.ones(batches), np.full(batches, 1e-3), warps))
    mean = engine.average_loss(images, vae.noise(len(images), 3), 1.0, labels)
    return np.concatenate([vae.parameters.flat, *np.concatenate(losses, axis=1), mean])


for seed in range(COUNT):
    plain = trained("")
    for guards in ("start", "end"):  # BLAS may round otherwise in memory that is aligned otherwise
        np.testing.assert_allclose(trained(guards), plain, rtol=1e-3, atol=1e-4, err_msg=seed)
print("same", COUNT)
"""


def test_no_access_out_of_bounds(tmp_path: Path) -> None:
    count = 125
    settings = {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    env = environment(NPVAE_BACKEND="auto", **settings)
    program = PROGRAM.replace("COUNT", str(count))
    done = run([sys.executable, "-c", program], cwd=ROOT, env=env)
    assert (done.returncode, done.stdout) == (0, f"same {count}\n"), done.stderr[-2000:]
