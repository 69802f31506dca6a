"""What has a name in this network? Every parameter, and everything that is computed for a batch.

B images, D pixels, H hidden units (a number for each hidden layer), Z latents. Next: model.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import DTypeLike

from npvae.core.parameters import Array


def parameter_shapes(
    input_dim: int, hidden_dims: Sequence[int], latent_dim: int
) -> dict[str, tuple[int, ...]]:
    """The name and shape of every parameter, in the order in which data flow through them."""
    encoder, decoder = [input_dim, *hidden_dims], [latent_dim, *reversed(hidden_dims)]
    weights = {
        **{f"encoder.hidden{k}": size for k, size in enumerate(pairwise(encoder))},
        "encoder.mu": (encoder[-1], latent_dim),
        "encoder.log_var": (encoder[-1], latent_dim),
        **{f"decoder.hidden{k}": size for k, size in enumerate(pairwise(decoder))},
        "decoder.logits": (decoder[-1], input_dim),
    }
    shapes: dict[str, tuple[int, ...]] = {}
    for name, (n_in, n_out) in weights.items():
        shapes[f"{name}.W"] = (n_in, n_out)
        shapes[f"{name}.b"] = (n_out,)
    return shapes


@dataclass
class Activations:
    """Every intermediate of one batch, by name.

    A second one holds the gradients: `d.z` is d loss / d z, and so on. There the hidden layers end
    up with d_y, the gradient before their activation; x and epsilon get none.
    """

    x: Array  # (B, D)
    epsilon: Array  # (B, Z)
    h_enc: list[Array]  # (B, H) for each hidden layer of the encoder
    mu: Array  # (B, Z)
    log_var: Array  # (B, Z)
    z: Array  # (B, Z)
    h_dec: list[Array]  # (B, H) for each hidden layer of the decoder
    logits: Array  # (B, D)

    @classmethod
    def empty(
        cls,
        batch_size: int,
        input_dim: int,
        hidden_dims: Sequence[int],
        latent_dim: int,
        dtype: DTypeLike,
    ) -> Activations:
        """All of them, not yet filled in."""

        def arrays(*sizes: int) -> list[Array]:
            return [np.empty((batch_size, size), dtype) for size in sizes]

        x, logits = arrays(input_dim, input_dim)
        epsilon, mu, log_var, z = arrays(latent_dim, latent_dim, latent_dim, latent_dim)
        h_enc, h_dec = arrays(*hidden_dims), arrays(*reversed(hidden_dims))
        return cls(x, epsilon, h_enc, mu, log_var, z, h_dec, logits)
