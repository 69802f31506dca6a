"""Mistakes in the formulas: forward is wrong, and backward is the exact derivative of the wrong.

The gradient check compares the two, so it passes every parameter. meaning.py sees these mistakes.
Of the gradient check only the rows x and epsilon do: it states their gradients from what they mean.
These mistakes concern the latent code. Next: losses.py, those in the loss.
"""

from npvae.mistakes.mistake import Edit, Mistake

LATENTS = (
    Mistake(
        "exp-log-var-as-sigma",
        "exp(log_var) is taken for the standard deviation.",
        where="The most common one, in forward and backward. The VAEs of numpy-ml and DeZero have "
        "it, both otherwise among the best code to learn from.",
        sees="A loss four nats better than the right one.",
        why="exp(log_var) is sigma^2. Where sigma < 1, sigma^2 is smaller still, so the model "
        "sends more precise codes than those it pays for in kl.",
        edits=(
            Edit(
                "layers.reparameterize",
                "return mu + np.exp(0.5 * log_var) * epsilon",
                "return mu + np.exp(log_var) * epsilon",
            ),
            Edit(
                "layers.reparameterize_backward",
                "return d_z, d_z * epsilon * 0.5 * np.exp(0.5 * log_var)",
                "return d_z, d_z * epsilon * np.exp(log_var)",
            ),
        ),
        red="epsilon",
        meaning=("z_has_mean_mu_and_spread_sigma",),
    ),
    Mistake(
        "noise-too-small",
        "epsilon has a standard deviation of 0.01 instead of 1.",
        where="epsilon_std = 0.01 in an early example of Keras, with which losses looked better.",
        sees="A much better loss: 17 nats. Samples that are poor.",
        why="The model pays for sigma in kl, but gets z almost without noise. The bound no longer "
        "holds. The decoder learns points, and fog between them.",
        edits=(
            Edit(
                "layers.reparameterize",
                "return mu + np.exp(0.5 * log_var) * epsilon",
                "return mu + np.exp(0.5 * log_var) * 0.01 * epsilon",
            ),
            Edit(
                "layers.reparameterize_backward",
                "return d_z, d_z * epsilon * 0.5 * np.exp(0.5 * log_var)",
                "return d_z, d_z * 0.01 * epsilon * 0.5 * np.exp(0.5 * log_var)",
            ),
        ),
        red="epsilon",
        meaning=("z_has_mean_mu_and_spread_sigma",),
    ),
    Mistake(
        "z-is-mu",
        "z = mu while training: no noise at all.",
        where="The noise is switched off for a clean test, and stays off.",
        sees="A much better loss: 17 nats. sigma is 1 everywhere.",
        why="sigma no longer matters to the pixels, so kl makes it 1, and costs only mu^2 / 2. "
        "What is left is an autoencoder, whose codes are points.",
        edits=(
            Edit(
                "layers.reparameterize",
                "return mu + np.exp(0.5 * log_var) * epsilon",
                "return mu + 0 * epsilon",
            ),
            Edit(
                "layers.reparameterize_backward",
                "return d_z, d_z * epsilon * 0.5 * np.exp(0.5 * log_var)",
                "return d_z, 0 * d_z",
            ),
        ),
        red="epsilon",
        meaning=("z_has_mean_mu_and_spread_sigma", "average_loss_draws_z"),
    ),
    Mistake(
        "one-epsilon-per-batch",
        "All images of a batch share one epsilon.",
        where="randn(latent_dim) in place of randn(batch, latent_dim): broadcasting fits it.",
        sees="It trains, but 14 nats worse, and the test loss jumps.",
        why="The mean of the gradient stays right, but the noise no longer averages out over the "
        "batch: every batch pulls all its codes the same way.",
        edits=(
            Edit(
                "layers.reparameterize",
                "return mu + np.exp(0.5 * log_var) * epsilon",
                "return mu + np.exp(0.5 * log_var) * epsilon[0]",
            ),
            Edit(
                "layers.reparameterize_backward",
                "return d_z, d_z * epsilon * 0.5 * np.exp(0.5 * log_var)",
                "return d_z, d_z * epsilon[0] * 0.5 * np.exp(0.5 * log_var)",
            ),
        ),
        red="epsilon",
        meaning=("z_has_mean_mu_and_spread_sigma", "every_test_image_counts_once"),
    ),
    Mistake(
        "relu-on-the-heads",
        "mu and log_var pass through a ReLU.",
        where="A layer class that always has an activation; seen in public code.",
        sees="A loss of 298.",
        why="mu is never negative and sigma never below 1. Half of the prior stays empty, and no "
        "code can be precise.",
        edits=(
            Edit(
                "model.VAE.forward",
                "mu = self.to_mu.forward(h_enc[-1])\nlog_var = self.to_log_var.forward(h_enc[-1])",
                "mu = np.maximum(self.to_mu.forward(h_enc[-1]), 0)\n"
                "log_var = np.maximum(self.to_log_var.forward(h_enc[-1]), 0)",
            ),
            Edit(
                "model.VAE.backward",
                "d_mu = d_mu_z + d_mu_kl\nd_log_var = d_log_var_z + d_log_var_kl",
                "d_mu = (d_mu_z + d_mu_kl) * (a.mu > 0)\n"
                "d_log_var = (d_log_var_z + d_log_var_kl) * (a.log_var > 0)",
            ),
        ),
        meaning=("mu_and_log_var_can_have_any_sign",),
    ),
    Mistake(
        "sigma-never-below-1",
        "log sigma passes through a softplus, so that sigma is never below 1.",
        where="softplus is meant to make sigma positive, but exp does that already; vamb had it "
        "for years and says so itself.",
        sees="A loss of 282.",
        why="The best sigmas of a VAE are below 1, about 0.1 to 0.5 here. Codes that are never "
        "more precise than the prior say little.",
        edits=(
            Edit(
                "model.VAE.forward",
                "log_var = self.to_log_var.forward(h_enc[-1])",
                "log_var = np.logaddexp(0, self.to_log_var.forward(h_enc[-1]))",
            ),
            Edit(
                "model.VAE.backward",
                "d_log_var = d_log_var_z + d_log_var_kl",
                "d_log_var = (d_log_var_z + d_log_var_kl) * (1 - np.exp(-a.log_var))",
            ),
        ),
        meaning=("mu_and_log_var_can_have_any_sign",),
    ),
)
