"""Mistakes in backward: gradients that are not the derivative of the loss.

Adam hides them well: it divides every gradient by its usual size, so that a wrong one still moves
every weight. The gradient check finds all but the last. Next: latents.py, what it cannot find.
"""

from npvae.mistakes.mistake import Edit, Mistake

GRADIENTS = (
    Mistake(
        "second-epsilon",
        "Backward draws its own epsilon instead of the one that forward used.",
        where="A helper that samples inside both passes; seen in public code.",
        sees="It trains, but 14 nats worse.",
        why="d_log_var is d_z times the epsilon of this z. Another epsilon has nothing to do with "
        "d_z, and their product is 0 on average: the pixels no longer ask for precise codes.",
        edits=(
            Edit(
                "layers.reparameterize_backward",
                "return d_z, d_z * epsilon * 0.5 * np.exp(0.5 * log_var)",
                "epsilon = np.random.default_rng(0).standard_normal(epsilon.shape)\n"
                "return d_z, d_z * epsilon * 0.5 * np.exp(0.5 * log_var)",
            ),
        ),
        red="reparameterize, encoder, log_var, x",
        meaning=("loss_is_a_mean_over_images",),
    ),
    Mistake(
        "log-var-head-forgotten",
        "Of the two heads, only mu passes its gradient on to h_enc.",
        where="Hand-written backward passes: the second head overwrites the first, or is left out.",
        sees="Nothing. With some seeds the loss is even a nat better than the right one.",
        why="h_enc feeds both heads, so its gradient is the sum of both. Without the second one, "
        "the encoder's hidden layer serves mu alone, and log_var has to do with what it gets.",
        edits=(
            Edit(
                "model.VAE.backward",
                "d_h_enc = d_h_enc_mu + d_h_enc_log_var",
                "d_h_enc = d_h_enc_mu",
            ),
        ),
        red="encoder, x",
    ),
    Mistake(
        "decoder-into-encoder",
        "The decoder's last gradient runs on into the encoder, past the latents.",
        where="A loop over all layers that reuses one variable; seen in public code.",
        sees="It trains, but 24 nats worse.",
        why="Decoder and encoder have hidden layers of the same size, so the shapes fit, and no "
        "error is raised. The encoder's weights move, but not downhill.",
        edits=(
            Edit(
                "model.VAE.backward",
                "d_x = self.encoder.backward(a.x_c, a.y_enc, a.h_enc, d_h_enc)"
                "[:, : self.input_dim]",
                "d_x = self.encoder.backward(a.x_c, a.y_dec, a.h_enc, d_h_dec)"
                "[:, : self.input_dim]",
            ),
        ),
        red="encoder, x",
    ),
    Mistake(
        "relu-mask-of-another-layer",
        "ReLU's backward in the encoder uses the mask of the decoder.",
        where="A cache with a wrong index or a reused name.",
        sees="It trains, but 5 nats worse.",
        why="Half of all units pass a gradient, but the wrong half: units that were off learn, and "
        "units that were on do not.",
        edits=(
            Edit(
                "model.VAE.backward",
                "d_x = self.encoder.backward(a.x_c, a.y_enc, a.h_enc, d_h_enc)"
                "[:, : self.input_dim]",
                "d_x = self.encoder.backward(a.x_c, a.y_dec, a.h_enc, d_h_enc)"
                "[:, : self.input_dim]",
            ),
        ),
        red="encoder, x",
    ),
    Mistake(
        "sigmoid-slope-twice",
        "The gradient x_hat - x is multiplied by the slope of the sigmoid once more.",
        where="Backward goes through the loss and then through the sigmoid; seen in public code.",
        sees="It trains, but 20 nats worse.",
        why="x_hat - x is the gradient at the logits already: the slope x_hat (1 - x_hat) cancels "
        "against the derivative of the logarithm. Twice, it silences pixels that are certain and "
        "wrong.",
        edits=(
            Edit(
                "losses.bce_with_logits_backward",
                "return d_bce * (sigmoid(logits) - x)",
                "x_hat = sigmoid(logits)\nreturn d_bce * (x_hat - x) * x_hat * (1 - x_hat)",
            ),
        ),
        red="bce, encoder, mu, log_var, decoder, logits, x, epsilon",
    ),
    Mistake(
        "half-forgotten",
        "The 0.5 of sigma = exp(0.5 * log_var) is forgotten in backward.",
        where="The chain rule stops one function too early.",
        sees="Hardly anything: a nat and a half, which could be another seed.",
        why="d sigma / d log_var = 0.5 sigma. Without the 0.5 the pixels ask twice as loudly for "
        "small sigma, and the codes become a little too precise.",
        edits=(
            Edit(
                "layers.reparameterize_backward",
                "return d_z, d_z * epsilon * 0.5 * np.exp(0.5 * log_var)",
                "return d_z, d_z * epsilon * np.exp(0.5 * log_var)",
            ),
        ),
        red="reparameterize, encoder, log_var, x",
    ),
    Mistake(
        "gradient-summed",
        "The loss is a mean over the batch, its gradient is a sum.",
        where="1/B is left out of both halves, because the formulas are for one image.",
        sees="Nothing with Adam. With SGD it diverges.",
        why="Every gradient is B times too large. Adam divides by the size of the gradient, so "
        "that the factor cancels. It comes back with another optimizer or batch size.",
        edits=(
            Edit(
                "model.VAE.backward",
                "d_bce = 1 / len(a.x)  # 1/B, because the objective is a mean over the batch\n"
                "d_kl = beta / len(a.x)",
                "d_bce = 1.0\nd_kl = beta",
            ),
        ),
        red="encoder, mu, log_var, decoder, logits, x, epsilon",
        meaning=("loss_is_a_mean_over_images",),
    ),
    Mistake(
        "kl-gradient-summed",
        "1/B is forgotten in the KL half of the gradient alone.",
        where="The two halves are written on different days.",
        sees="A loss of 387, that of always drawing the same picture.",
        why="To the gradient beta is 512. The codes are pushed into the prior, kl is 0, and the "
        "decoder can only draw the mean picture.",
        edits=(Edit("model.VAE.backward", "d_kl = beta / len(a.x)", "d_kl = beta"),),
        red="encoder, mu, log_var, x",
        meaning=("loss_is_a_mean_over_images",),
    ),
    Mistake(
        "update-before-d_x",
        "A layer updates its weights before it computes the gradient of its input.",
        where="Layers whose backward takes the step as well; seen in public code.",
        sees="Nothing: a step is small.",
        why="d_x = d_y @ W.T needs the W that forward used. With the W of after the step, all "
        "layers below get the gradient of another network.",
        edits=(
            Edit(
                "layers.Dense.backward",
                "return d_y @ self.W.T",
                "return d_y @ (self.W - 0.001 * np.sign(self.d_W)).T",
            ),
        ),
        red="dense, mlp, encoder, mu, log_var, decoder, x, epsilon",
        meaning=("beta_weighs_the_kl",),
    ),
    Mistake(
        "gradients-never-zeroed",
        "Gradients are added up and never set to 0.",
        where="PyTorch adds on purpose, and optimizer.zero_grad() is forgotten. Even llm.c once "
        "added the gradients of its first two steps.",
        sees="A loss of 420 that jumps: worse than always drawing the same picture.",
        why="After t batches the gradient is the sum of t gradients, most of them of weights long "
        "gone. The check calls backward once, so it cannot see this.",
        edits=(
            Edit(
                "layers.Dense.backward",
                "self.d_W[:] = x.T @ d_y\nself.d_b[:] = d_y.sum(axis=0)",
                "self.d_W[:] += x.T @ d_y\nself.d_b[:] += d_y.sum(axis=0)",
            ),
        ),
        meaning=("gradients_start_afresh",),
    ),
)
