"""Mistakes around the model: the optimizer, the loop and the data.

The gradient check passes, because every gradient is right. Next: reports.py.
"""

from npvae.mistakes.mistake import Edit, Mistake

OPTIMIZER = (
    Mistake(
        "adam-without-correction",
        "Adam without its two bias corrections.",
        where="Short versions of Adam in teaching code; seen in public code.",
        sees="After three epochs, a loss nine nats better than the right one.",
        why="m and v begin at 0 and are too small at first, v more so than m. The first step is "
        "3.2 learning rates long, the twelfth up to 6.6. Here longer steps happen to help, as a "
        "larger learning rate would. But a step no longer has the length that was asked for.",
        edits=(
            Edit(
                "optimizers.Adam.step",
                "m_hat = m / (1 - self.beta1**self.t)\nv_hat = v / (1 - self.beta2**self.t)",
                "m_hat = m\nv_hat = v",
            ),
        ),
        meaning=("adam_steps_are_learning_rates_long",),
    ),
    Mistake(
        "adam-counts-epochs",
        "Adam's t counts epochs instead of steps.",
        where="The loop hands its epoch number to the optimizer; seen in public code.",
        sees="A few nats worse.",
        why="In the first epoch m is divided by 0.1 and v by 0.001 all the time, although after a "
        "few steps m needs no correction any more. By the two corrections, a step is up to 2.08 "
        "times as long as it should be in the first epoch, and 0.37 to 0.44 times in the third.",
        edits=(
            Edit(
                "optimizers.Adam.step",
                "m_hat = m / (1 - self.beta1**self.t)\nv_hat = v / (1 - self.beta2**self.t)",
                "epoch = 1 + (self.t - 1) // 118  # of 118 mini-batches\n"
                "m_hat = m / (1 - self.beta1**epoch)\n"
                "v_hat = v / (1 - self.beta2**epoch)",
            ),
        ),
        meaning=("adam_steps_are_learning_rates_long",),
    ),
    Mistake(
        "adam-counts-tensors",
        "Adam's t rises with every array of parameters, not with every step.",
        where="t += 1 stands inside the loop over the parameters.",
        sees="After three epochs, a loss eight nats better than the right one.",
        why="The corrections fade ten times too early, so that the steps of the first epoch are "
        "too long. Here longer steps happen to help; a larger learning rate would help as well.",
        edits=(
            Edit(
                "core.optimizer_base.Optimizer.update",
                "if len(buffers) == len(arrays):  # all in one go",
                "if False:  # one array after the other",
            ),
            Edit(
                "core.optimizer_base.Optimizer.update",
                "self.t += 1\nfor views in steps:\n    self.step(*views)",
                "for views in steps:\n    self.t += 1\n    self.step(*views)",
            ),
        ),
        meaning=("adam_steps_are_learning_rates_long",),
    ),
    Mistake(
        "m-hat-written-back",
        "The corrected m_hat is stored in place of m, and v_hat in place of v.",
        where="In-place division, as in m.div_(correction); seen in public code.",
        sees="The loss stays where it began.",
        why="Each step corrects what was corrected before. v grows without bound. m does not: for "
        "a steady gradient g it peaks at 3,945 g in step 21 and falls back to g. So the steps, "
        "m / sqrt(v), shrink to nothing.",
        edits=(
            Edit(
                "optimizers.Adam.step",
                "m_hat = m / (1 - self.beta1**self.t)\nv_hat = v / (1 - self.beta2**self.t)",
                "m /= 1 - self.beta1**self.t\nv /= 1 - self.beta2**self.t\nm_hat, v_hat = m, v",
            ),
        ),
        meaning=("adam_steps_are_learning_rates_long",),
    ),
)

LOOP = (
    Mistake(
        "weights-alike",
        "All inputs of a neuron begin with the same random weight.",
        where="rng.uniform is asked for too few numbers, and NumPy repeats them.",
        sees="NaN in the first batch.",
        why="A neuron is its weight times the sum of all pixels, and these sums grow from layer to "
        "layer. log_var is in the hundreds, and exp(log_var) overflows. In a smaller network all "
        "neurons of a layer just say the same.",
        edits=(
            Edit(
                "layers.Dense.initialize",
                "self.W[:] = rng.uniform(-limit, limit, self.W.shape)",
                "self.W[:] = rng.uniform(-limit, limit, self.W.shape[1])",
            ),
        ),
        meaning=("weights_begin_all_different",),
    ),
    Mistake(
        "batches-shuffled",
        "The order of the batches is shuffled, not the images.",
        where="Frameworks that shuffle a list of batches; tf.data with batch before shuffle.",
        sees="Nothing on shuffled data such as this.",
        why="The same images share a batch for ever. On data sorted by class every batch would "
        "hold one class, and the loss would jump.",
        edits=(
            Edit(
                "training.train_epoch",
                "for k, batch in enumerate(minibatches(plan.shuffled, settings.batch_size)):",
                "batches = list(minibatches(np.sort(plan.shuffled), settings.batch_size))\n"
                "plan.noise.shuffle(batches)\n"
                "for k, batch in enumerate(batches):",
            ),
        ),
        meaning=("images_not_batches_are_shuffled",),
    ),
    Mistake(
        "test-images-trained-on",
        "The test images are among the training images.",
        where="A dataset is put together first and split afterwards, or not at all.",
        sees="A test loss that is four nats too good, and would be better still in a larger model.",
        why="A test loss is that of images the model has never seen. Nothing in the numbers shows "
        "that it has seen these.",
        edits=(
            Edit(
                "mistakes.program.train",
                "indices = np.arange(len(images))",
                "images = np.concatenate([images, test_images])\nindices = np.arange(len(images))",
            ),
        ),
        meaning=("training_never_sees_test_images",),
    ),
    Mistake(
        "pixels-from-minus-1-to-1",
        "Pixels are scaled to [-1, 1] in front of a binary cross-entropy.",
        where="A normalization copied from another project; in a well-known VAE tutorial.",
        sees="A loss far below 0 that falls for ever. It looks splendid.",
        why="bce = softplus(l) - x l for one pixel. At x = -1 it falls with l without a bound. "
        "Here `validate` refuses such pixels, so the mistake has to go around it.",
        edits=(
            Edit(
                "datasets.minibatches.to_pixels",
                "pixels: Array = images.reshape(len(images), -1).astype(dtype) / 255",
                "pixels: Array = images.reshape(len(images), -1).astype(dtype) / 127.5 - 1",
            ),
            Edit(
                "model.VAE.loss_and_gradients",
                "a = self._checked(x, epsilon, beta, c)",
                "a = self.forward(x, epsilon, c)",
            ),
        ),
        meaning=(
            "pixels_are_from_0_to_1",
            "every_test_image_counts_once",
            "bound_rises_with_draws",
        ),
    ),
)

TRAINING = OPTIMIZER + LOOP
