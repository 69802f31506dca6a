"""What goes wrong, and what sees it? A gallery of mistakes that a VAE can have and still train.

    gallery.md    the mistakes, to browse; a mistake of your own is one more section of it
    mistake.py    how a mistake is read from the page, put in and taken out
    meaning.py    checks that state a second time, in other words, what the lesson means;
                  meaning_of_training.py has those of training and of reports
    program.py    the training program that makes the mistakes
    trial.py      trains with a mistake, and computes what the same weights are worth
    causes.py     guesses why a gradient is wrong, from its numbers

`python scripts/mistakes.py` lists them.
"""

from pathlib import Path

from npvae.mistakes.mistake import Mistake, sections

MISTAKES = {
    name: Mistake.read(name, text)
    for name, text in sections(Path(__file__).with_name("gallery.md")).items()
}
