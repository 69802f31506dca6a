"""Mistakes in the loss: a wrong formula, and its exact derivative.

As in latents.py, the gradient check passes every parameter. Next: training.py.
"""

from npvae.mistakes.mistake import Edit, Mistake

LOSSES = (
    Mistake(
        "sigmoid-before-logits",
        "A sigmoid stands in front of a loss that expects logits.",
        where="BCEWithLogitsLoss behind a sigmoid layer; asked again and again.",
        sees="A loss of 534 that hardly falls.",
        why="The loss takes x_hat for a logit between 0 and 1. So the darkest pixel it can imagine "
        "is 0.5, and black cannot be drawn.",
        edits=(
            Edit(
                "losses.bce_with_logits",
                "softplus = np.maximum(logits, 0) + np.log1p(np.exp(-np.abs(logits)))",
                "logits = sigmoid(logits)\n"
                "softplus = np.maximum(logits, 0) + np.log1p(np.exp(-np.abs(logits)))",
            ),
            Edit(
                "losses.bce_with_logits_backward",
                "return d_bce * (sigmoid(logits) - x)",
                "x_hat = sigmoid(logits)\n"
                "return d_bce * (sigmoid(x_hat) - x) * x_hat * (1 - x_hat)",
            ),
        ),
        red="x",
        meaning=("bce_is_minus_log_p", "bce_is_right_at_large_logits"),
    ),
    Mistake(
        "mean-over-pixels",
        "bce is a mean over the pixels, kl a sum over the latents.",
        where="reduction='mean', the default of most frameworks.",
        sees="Losses below 1, kl is 0.00, one picture for all images.",
        why="The mean divides bce by 784, which is the same as beta = 784: a code costs more than "
        "it can ever save.",
        edits=(
            Edit(
                "losses.bce_with_logits",
                "return np.sum(softplus - x * logits, axis=1)",
                "return np.mean(softplus - x * logits, axis=1)",
            ),
            Edit(
                "losses.bce_with_logits_backward",
                "return d_bce * (sigmoid(logits) - x)",
                "return d_bce * (sigmoid(logits) - x) / x.shape[1]",
            ),
        ),
        red="x",
        meaning=("bce_is_minus_log_p", "elbo_is_below_log_p"),
    ),
    Mistake(
        "probabilities-clipped",
        "bce is computed from x_hat, clipped at 1e-10 and 1 - 1e-10, in float32.",
        where="log(x_hat + 1e-10) and its relatives, everywhere.",
        sees="Nothing, until the loss is NaN one day.",
        why="In float32, 1 - 1e-10 is 1. A logit above 17 gives x_hat = 1, log(1 - x_hat) = -inf, "
        "and 0 times -inf is NaN.",
        edits=(
            Edit(
                "losses.bce_with_logits",
                "softplus = np.maximum(logits, 0) + np.log1p(np.exp(-np.abs(logits)))\n"
                "return np.sum(softplus - x * logits, axis=1)",
                "x_hat = np.clip(sigmoid(logits), 1e-10, 1 - 1e-10)\n"
                "return np.sum(-x * np.log(x_hat) - (1 - x) * np.log(1 - x_hat), axis=1)",
            ),
        ),
        meaning=("bce_is_right_at_large_logits",),
    ),
    Mistake(
        "kl-mean-over-latents",
        "kl is a mean over the latents, bce a sum over the pixels.",
        where="torch.mean over everything in the KL term; seen in public code.",
        sees="A much better loss: 20 nats.",
        why="The mean divides kl by Z, which is the same as beta = 0.1, and the printed kl is a "
        "tenth of what the codes cost.",
        edits=(
            Edit(
                "losses.kl_divergence",
                "return np.sum(0.5 * (mu**2 + np.exp(log_var) - 1 - log_var), axis=1)",
                "return np.mean(0.5 * (mu**2 + np.exp(log_var) - 1 - log_var), axis=1)",
            ),
            Edit(
                "losses.kl_divergence_backward",
                "return d_kl * mu, d_kl * 0.5 * (np.exp(log_var) - 1)",
                "d_kl = d_kl / mu.shape[1]\nreturn d_kl * mu, d_kl * 0.5 * (np.exp(log_var) - 1)",
            ),
        ),
        meaning=("kl_is_the_mean_of_log_q_minus_log_p",),
    ),
    Mistake(
        "kl-times-batch-over-n",
        "kl is multiplied by batch size / number of images.",
        where="PyTorch-VAE has such a weight, M_N, and is asked about it again and again.",
        sees="The best loss of all: 25 nats better than the right one.",
        why="B/N is 0.0085, which is the same as beta = 0.0085. Almost an autoencoder, whose "
        "samples are fog.",
        edits=(
            Edit(
                "losses.kl_divergence",
                "return np.sum(0.5 * (mu**2 + np.exp(log_var) - 1 - log_var), axis=1)",
                "share = len(mu) / 60_000\n"
                "return share * np.sum(0.5 * (mu**2 + np.exp(log_var) - 1 - log_var), axis=1)",
            ),
            Edit(
                "losses.kl_divergence_backward",
                "return d_kl * mu, d_kl * 0.5 * (np.exp(log_var) - 1)",
                "d_kl = d_kl * len(mu) / 60_000\n"
                "return d_kl * mu, d_kl * 0.5 * (np.exp(log_var) - 1)",
            ),
        ),
        meaning=("kl_is_the_mean_of_log_q_minus_log_p", "loss_is_a_mean_over_images"),
    ),
    Mistake(
        "log-sigma-mixed",
        "The KL takes log_var for log sigma in one of its terms.",
        where="Formulas with log sigma and with log sigma^2 are put together.",
        sees="A loss seven nats better than the right one. kl can be negative.",
        why="0.5 log_var is log sigma. With it the KL charges only half of what a precise code "
        "costs, and is smallest at sigma = 0.7 instead of 1.",
        edits=(
            Edit(
                "losses.kl_divergence",
                "return np.sum(0.5 * (mu**2 + np.exp(log_var) - 1 - log_var), axis=1)",
                "return np.sum(0.5 * (mu**2 + np.exp(log_var) - 1 - 0.5 * log_var), axis=1)",
            ),
            Edit(
                "losses.kl_divergence_backward",
                "return d_kl * mu, d_kl * 0.5 * (np.exp(log_var) - 1)",
                "return d_kl * mu, d_kl * 0.5 * (np.exp(log_var) - 0.5)",
            ),
        ),
        meaning=("kl_is_the_mean_of_log_q_minus_log_p",),
    ),
    Mistake(
        "kl-with-the-wrong-sign",
        "The KL is subtracted from the loss instead of added.",
        where="The paper's bound has -KL; the minus is copied into the loss.",
        sees="A loss that falls to minus infinity.",
        why="The loss now rewards codes that are far from the prior, and there is no limit to how "
        "far they can go.",
        edits=(
            Edit(
                "losses.Loss.total",
                "return self.bce + self.beta * self.kl",
                "return self.bce - self.beta * self.kl",
            ),
            Edit("model.VAE.backward", "d_kl = beta / len(a.x)", "d_kl = -beta / len(a.x)"),
        ),
        meaning=("beta_weighs_the_kl",),
    ),
    Mistake(
        "beta-ignored",
        "The option beta is read, and never used.",
        where="An argument that gets lost between two functions; seen in public code.",
        sees="Nothing at beta = 1. At any other beta: results of beta = 1.",
        why="A test at beta = 1 cannot see it. So the gradient check uses 0.7, which does not help "
        "if loss and gradient both ignore it.",
        edits=(
            Edit(
                "losses.Loss.total",
                "return self.bce + self.beta * self.kl",
                "return self.bce + self.kl",
            ),
            Edit("model.VAE.backward", "d_kl = beta / len(a.x)", "d_kl = 1 / len(a.x)"),
        ),
        meaning=("beta_weighs_the_kl",),
    ),
    Mistake(
        "sum-over-the-batch",
        "Loss and gradient are sums over the batch: 1/B is forgotten in both.",
        where="reduction='sum' without a division; the VAE of pytorch/examples divides when "
        "it prints.",
        sees="A training loss of 137,000. Adam learns as if nothing were wrong.",
        why="The loss depends on the batch size, and no two runs compare. With SGD the learning "
        "rate means B times as much.",
        edits=(
            Edit(
                "model.VAE.objective",
                "return Loss.of_batch(bce_with_logits(a.logits, a.x), "
                "kl_divergence(a.mu, a.log_var), beta)",
                "bce, kl = bce_with_logits(a.logits, a.x), kl_divergence(a.mu, a.log_var)\n"
                "return Loss(float(bce.sum()), float(kl.sum()), beta)",
            ),
            Edit(
                "model.VAE.backward",
                "d_bce = 1 / len(a.x)  # 1/B, because the objective is a mean over the batch\n"
                "d_kl = beta / len(a.x)",
                "d_bce = 1.0\nd_kl = beta",
            ),
        ),
        red="x",
        meaning=("loss_is_a_mean_over_images",),
    ),
)
