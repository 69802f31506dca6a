"""A variational autoencoder on one page: NumPy alone, every gradient written by hand.

    encoder   x (B, 784) -> h_enc (B, 128) -> mu, log_var (B, 10)    q(z | x) = N(mu, sigma^2)
    draw      z = mu + sigma * epsilon                               epsilon ~ N(0, 1)
    decoder   z (B, 10) -> h_dec (B, 128) -> logits (B, 784)         x_hat = sigmoid(logits)
    loss      bce(logits, x) + kl(mu, log_var)                       in nats per image

Run `python minimal_vae.py FOLDER` with the IDX files of Fashion-MNIST or MNIST in FOLDER. Without
FOLDER it reads data/fashion-mnist, or draws simple shapes. It saves samples as minimal_vae.png.
"""

import gzip
import os
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np

D, H, Z = 784, 128, 10  # pixels, hidden units, latents


def initialize(rng):
    """Glorot-uniform weights (in, out) and zero biases, layer by layer."""
    parameters = []
    for n_in, n_out in (D, H), (H, Z), (H, Z), (Z, H), (H, D):
        limit = np.sqrt(6 / (n_in + n_out))
        parameters += [rng.uniform(-limit, limit, (n_in, n_out)), np.zeros(n_out)]
    return [theta.astype(np.float32) for theta in parameters]


def loss_and_gradients(parameters, x, epsilon):
    """bce and kl of pixels x (B, D) with noise epsilon (B, Z), and the gradients of bce + kl."""
    # Forward
    W_enc, b_enc, W_mu, b_mu, W_log_var, b_log_var, W_dec, b_dec, W_logits, b_logits = parameters
    h_enc = np.maximum(x @ W_enc + b_enc, 0)            # (B, H)  ReLU
    mu = h_enc @ W_mu + b_mu                            # (B, Z)
    log_var = h_enc @ W_log_var + b_log_var             # (B, Z)  log sigma^2, any real number
    sigma = np.exp(0.5 * log_var)                       # (B, Z)  positive
    z = mu + sigma * epsilon                            # (B, Z)
    h_dec = np.maximum(z @ W_dec + b_dec, 0)            # (B, H)
    logits = h_dec @ W_logits + b_logits                # (B, D)

    # Loss: summed over pixels and latents, averaged over the batch
    B = len(x)
    softplus = np.maximum(logits, 0) + np.log1p(np.exp(-np.abs(logits)))  # log(1 + exp(logits))
    bce = np.sum(softplus - x * logits) / B             # -x log(x_hat) - (1 - x) log(1 - x_hat)
    kl = np.sum(0.5 * (mu**2 + sigma**2 - 1 - log_var)) / B

    # Backward: d_z is dloss/dz. The gradient of a value that is used twice is a sum of two terms.
    x_hat = np.exp(logits - softplus)                   # sigmoid(logits), without overflow
    d_logits = (x_hat - x) / B
    d_h_dec = d_logits @ W_logits.T
    d_y_dec = d_h_dec * (h_dec > 0)                     # through h = max(y, 0)
    d_z = d_y_dec @ W_dec.T
    d_mu = d_z + mu / B                                                   # from z and from kl
    d_log_var = d_z * epsilon * 0.5 * sigma + 0.5 * (sigma**2 - 1) / B    # from z and from kl
    d_h_enc = d_mu @ W_mu.T + d_log_var @ W_log_var.T                     # from both heads
    d_y_enc = d_h_enc * (h_enc > 0)
    gradients = []
    for h, d_y in (x, d_y_enc), (h_enc, d_mu), (h_enc, d_log_var), (z, d_y_dec), (h_dec, d_logits):
        gradients += [h.T @ d_y, d_y.sum(axis=0)]       # d_W and d_b of y = h @ W + b
    return bce, kl, gradients


def adam(parameters, gradients, moments, t, learning_rate=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):
    """Step number t = 1, 2, ... of Adam (Kingma and Ba 2015), in place."""
    for theta, g, (m, v) in zip(parameters, gradients, moments, strict=True):
        m[:] = beta1 * m + (1 - beta1) * g              # running mean of the gradient
        v[:] = beta2 * v + (1 - beta2) * g**2           # running mean of its square
        m_hat = m / (1 - beta1**t)                      # m and v start at 0; this makes up for it
        v_hat = v / (1 - beta2**t)
        theta -= learning_rate * m_hat / (np.sqrt(v_hat) + eps)


def train(x_train, x_test, rng, epochs=20, batch_size=512):
    """Return the trained parameters. Print the loss of the test images after each epoch."""
    parameters, t = initialize(rng), 0
    moments = [(np.zeros_like(theta), np.zeros_like(theta)) for theta in parameters]
    for epoch in range(1, epochs + 1):
        for rows in np.array_split(rng.permutation(len(x_train)), 1 + len(x_train) // batch_size):
            epsilon = rng.standard_normal((len(rows), Z), np.float32)
            _, _, gradients = loss_and_gradients(parameters, x_train[rows], epsilon)
            t += 1
            adam(parameters, gradients, moments, t)
        epsilon = rng.standard_normal((len(x_test), Z), np.float32)
        bce, kl, _ = loss_and_gradients(parameters, x_test, epsilon)
        print(f"epoch {epoch:2}: test bce {bce:6.2f} + kl {kl:5.2f} = {bce + kl:6.2f}", flush=True)
    return parameters


def read_images(path):
    """Pixels (N, D) in [0, 1] of an IDX file: 16 bytes of header, then one byte per pixel."""
    with open(path, "rb") if path.exists() else gzip.open(f"{path}.gz") as file:
        return np.frombuffer(file.read()[16:], np.uint8).reshape(-1, D).astype(np.float32) / 255


def draw_shapes(rng, count):
    """Diamonds, discs and squares (count, D) of random place and size, with soft edges."""
    x, y, radius, p = rng.uniform((9, 9, 3, 1), (18, 18, 8, 6), (count, 4)).T[..., None, None]
    dx, dy = np.abs(np.arange(28) - x), np.abs(np.arange(28)[:, None] - y)
    return np.float32(np.clip(radius - (dx**p + dy**p) ** (1 / p) + 0.5, 0, 1)).reshape(count, D)


if __name__ == "__main__":
    rng = np.random.default_rng(0)
    data = Path(*sys.argv[1:] or (os.environ.get("NPVAE_DATA_DIR", "data"), "fashion-mnist"))
    if data.is_dir() or sys.argv[1:]:
        x_train, x_test = (read_images(data / f"{s}-images-idx3-ubyte") for s in ("train", "t10k"))
    else:
        print(f"There is no {data}. The images are simple shapes.")
        x_train, x_test = np.split(draw_shapes(rng, 22_000), [20_000])
    *_, W_dec, b_dec, W_logits, b_logits = train(x_train, x_test, rng)
    z = rng.standard_normal((50, Z))                   # new images: decode z from N(0, 1)
    h_dec = np.maximum(z @ W_dec + b_dec, 0)
    x_hat = 1 / (1 + np.exp(-h_dec @ W_logits - b_logits))
    with suppress(ImportError):
        from PIL import Image
        sheet = x_hat.reshape(5, 10, 28, 28).swapaxes(1, 2).reshape(140, 280)
        Image.fromarray(np.uint8(255 * sheet)).resize((840, 420)).save("minimal_vae.png")
