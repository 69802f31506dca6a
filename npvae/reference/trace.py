"""One tiny batch under the lens: every value on its way forward, every gradient on its way back.

The order is that of the two columns of the guided tour, top to bottom and back up.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from npvae.core.parameters import Array
from npvae.layers import ACTIVATIONS, reparameterize_backward
from npvae.losses import bce_with_logits, kl_divergence, kl_divergence_backward, sigmoid
from npvae.model import VAE


def worked_example() -> tuple[VAE, Array, Array]:
    """The VAE that the tour works through by hand, with its image and its noise.

    Two pixels, one hidden unit, one latent, all biases 0.
    """
    vae = VAE(input_dim=2, hidden_dims=(1,), latent_dim=1, dtype=np.float64)
    vae.parameters.flat[:] = 0
    vae.parameters |= {
        "encoder.hidden0.W": np.array([[1.0], [0.5]]),
        "encoder.mu.W": np.array([[0.5]]),
        "encoder.log_var.W": np.array([[-2 * math.log(2)]]),
        "decoder.hidden0.W": np.array([[1.0]]),
        "decoder.logits.W": np.array([[2.0, -1.0]]),
    }
    return vae, np.array([[1.0, 0.0]]), np.array([[1.0]])


def random_example(seed: int) -> tuple[VAE, Array, Array]:
    """Two images of four pixels, three hidden units, two latents, all numbers at random.

    They are drawn again until relu shows both of its sides: for each image some unit of the encoder
    is on and some is off, and so in the decoder. With all units off, no gradient would come back.
    """
    rng = np.random.default_rng(seed)
    vae = VAE(4, (3,), 2, dtype=np.float64)
    for _ in range(1000):
        vae.parameters.flat[:] = rng.normal(0, 0.7, vae.parameters.flat.shape)
        x, epsilon = rng.random((2, 4)).round(1), rng.standard_normal((2, 2)).round(1)
        a = vae.forward(x, epsilon)
        on = np.stack([a.y_enc[0], a.y_dec[0]]) > 0
        if (on.any(axis=-1) & ~on.all(axis=-1)).all():
            break
    return vae, x, epsilon


def trace(vae: VAE, x: Array, epsilon: Array) -> tuple[dict[str, Array], dict[str, Array]]:
    """All values by name, and all gradients by name, in their order; of one hidden layer."""
    a = vae.forward(x, epsilon)
    loss = vae.objective(a)
    forward = {
        "x": a.x,
        "y_enc": a.y_enc[-1],
        "h_enc": a.h_enc[-1],
        "mu": a.mu,
        "log_var": a.log_var,
        "sigma": np.exp(0.5 * a.log_var),
        "epsilon": a.epsilon,
        "z": a.z,
        "y_dec": a.y_dec[-1],
        "h_dec": a.h_dec[-1],
        "logits": a.logits,
        "x_hat": sigmoid(a.logits),
        "bce": bce_with_logits(a.logits, a.x),
        "kl": kl_divergence(a.mu, a.log_var),
        "loss": np.array(loss.total),
    }
    d, parameters = vae.backward(a), vae.gradients
    slope = ACTIVATIONS[vae.activation].backward
    from_pixels = reparameterize_backward(d.d_z, a.log_var, a.epsilon)
    from_kl = kl_divergence_backward(1 / len(x), a.mu, a.log_var)

    def of_layer(name: str) -> dict[str, Array]:
        return {f"d {name}.{part}": parameters[f"{name}.{part}"] for part in "Wb"}

    backward = {
        "d_logits": d.d_logits,
        **of_layer("decoder.logits"),
        "d_h_dec": d.d_h_dec,
        "d_y_dec": slope(a.y_dec[-1], d.d_h_dec),
        **of_layer("decoder.hidden0"),
        "d_z": d.d_z,
        "d_mu from pixels": from_pixels[0],
        "d_mu from kl": from_kl[0],
        "d_mu": d.d_mu,
        "d_log_var from pixels": from_pixels[1],
        "d_log_var from kl": from_kl[1],
        "d_log_var": d.d_log_var,
        **of_layer("encoder.mu"),
        **of_layer("encoder.log_var"),
        "d_h_enc": d.d_h_enc,
        "d_y_enc": slope(a.y_enc[-1], d.d_h_enc),
        **of_layer("encoder.hidden0"),
        "d_x": d.d_x,
    }
    return forward, backward


def trace_lines(vae: VAE, x: Array, epsilon: Array) -> Iterator[str]:
    """The same for people: name, shape and numbers."""
    forward, backward = trace(vae, x, epsilon)
    yield "FORWARD"
    yield from lines(forward)
    yield ""
    yield "BACKWARD  (d_mu is d loss / d mu, and so on)"
    yield from lines(backward)


def lines(values: dict[str, Array]) -> Iterator[str]:
    for name, array in values.items():
        rows = array.reshape(-1, array.shape[-1] if array.ndim else 1)
        for k, numbers in enumerate(rows):
            label = f"{name:22}{array.shape!s:7}" if k == 0 else 29 * " "
            yield (label + "".join(f"{number + 0.0:9.4f}" for number in numbers)).rstrip()
