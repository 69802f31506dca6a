"""What goes wrong, and what sees it? A gallery of mistakes that a VAE can have and still train.

Each is a line of the lesson and the wrong line that programs have in its place. It says where the
mistake is made, what a user sees, and why. A wrong VAE looks right; often its loss looks better.
The files in order:

    mistake.py      how a mistake is put in and taken out
    gradients.py    a wrong backward: the gradient check sees all of them but one
    latents.py      a wrong forward and its exact derivative: the gradient check passes
    losses.py       the same in the loss
    training.py     mistakes in optimizer, loop and data
    reports.py      the model is right, the number that is printed is not
    meaning.py      checks that state a second time, in other words, what the lesson means;
                    meaning_of_training.py has those of training and of reports
    program.py      the training program that makes the mistakes
    trial.py        trains with a mistake, and computes what the same weights are worth

`python scripts/mistakes.py` lists them.
"""

from npvae.mistakes.gradients import GRADIENTS
from npvae.mistakes.latents import LATENTS
from npvae.mistakes.losses import LOSSES
from npvae.mistakes.reports import REPORTS
from npvae.mistakes.training import TRAINING

EVERY = GRADIENTS + LATENTS + LOSSES + TRAINING + REPORTS
MISTAKES = {mistake.name: mistake for mistake in EVERY}
