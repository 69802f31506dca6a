"""Mistakes in what is reported: the model is right, the number or the picture is not.

Next: meaning.py, which sees all these mistakes.
"""

from npvae.mistakes.mistake import Edit, Mistake

REPORTS = (
    Mistake(
        "z-is-mu-in-the-test-loss",
        "The test loss is computed with z = mu, without noise.",
        where="`if self.training` around the noise, as in the VAE of pytorch/examples for a while.",
        sees="A test loss that is five nats too good.",
        why="The loss is a mean over z drawn from q(z | x). At its center the decoder does best, "
        "but kl is paid for a whole region. The number is no bound on log p(x).",
        edits=(
            Edit(
                "evaluation.average_loss",
                "epsilon = vae.noise(len(images), rng)",
                "epsilon = np.zeros((len(images), vae.latent_dim), vae.dtype)",
            ),
        ),
        meaning=("average_loss_draws_z", "every_test_image_counts_once"),
    ),
    Mistake(
        "mean-of-batch-means",
        "The test loss is the mean of the batches' means, though the last batch is shorter.",
        where="test_loss / len(loader), as in the MNIST program of pytorch/examples for a while.",
        sees="Nothing here: the last batch of 272 images counts as much as 512.",
        why="A mean of means is the mean only where all batches have the same size. With a last "
        "batch of one image, this image counts as much as 512 others.",
        edits=(
            Edit(
                "evaluation.average_loss",
                "return Loss.of_batch(bce, kl, beta)",
                "starts = range(512, len(bce), 512)  # of batches of 512\n"
                "bce, kl = (np.split(part, starts) for part in (bce, kl))\n"
                "means = ([batch.mean() for batch in part] for part in (bce, kl))\n"
                "return Loss.of_batch(*map(np.array, means), beta)",
            ),
        ),
        meaning=("every_test_image_counts_once",),
    ),
    Mistake(
        "mean-of-logs",
        "The importance-weighted bound takes the mean of logarithms, not the log of the mean.",
        where="A mean over the draws is taken before the logsumexp; seen in public code.",
        sees="The bound does not rise with the number of draws.",
        why="The mean of log w_k is an ELBO, however large K is. Only the log of the mean of w_k "
        "comes closer to log p(x), because good draws make up for bad ones.",
        edits=(
            Edit(
                "evaluation.iwae_bound",
                "total = np.full(len(x), -np.inf)",
                "total = np.zeros(len(x))",
            ),
            Edit(
                "evaluation.iwae_bound",
                "total = np.logaddexp(total, log_w)",
                "total = total + log_w",
            ),
            Edit(
                "evaluation.iwae_bound",
                "bound[batch] = total - np.log(samples)",
                "bound[batch] = total / samples",
            ),
        ),
        meaning=("bound_rises_with_draws",),
    ),
    Mistake(
        "logits-as-pixels",
        "The decoder's logits are drawn as if they were pixels.",
        where="A loss on logits has no sigmoid in the model, and the drawing forgets it, too.",
        sees="The right loss. Samples that are mostly black, with hard edges.",
        why="A logit is any number, and below 0 for every pixel darker than 0.5. Clipped to "
        "[0, 1], these are black and many others white. What is drawn is x_hat = sigmoid(logits).",
        edits=(
            Edit(
                "model.VAE.decode",
                "return sigmoid(self.decode_logits(z, c))",
                "return np.clip(self.decode_logits(z, c), 0, 1)",
            ),
        ),
        meaning=("x_hat_is_the_sigmoid_of_the_logits",),
    ),
    Mistake(
        "elbo-of-the-wrong-sign",
        "The loss is called ELBO.",
        where="Papers maximize the ELBO, programs minimize a loss, and the two get mixed up.",
        sees="The right loss. The number that should rise, falls.",
        why="elbo = -(bce + kl) is a lower bound on log p(x), a negative number here. The loss is "
        "an upper bound on -log p(x).",
        edits=(Edit("losses.Loss.elbo", "return -(self.bce + self.kl)", "return self.total"),),
        meaning=("elbo_is_below_log_p",),
    ),
)
