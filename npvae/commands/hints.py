"""What was probably meant by a word that a command does not know?

Unambiguous spellings work: --latent_dim and --latentdim are --latent-dim. Everything else is an
error that names the most likely option.
"""

from __future__ import annotations

import os
from argparse import Action, ArgumentTypeError
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from shlex import quote

from npvae.datasets.standard import DATASETS

# Names that other programs use, in small letters, for options of ours.
HABITS = {
    "--hidden": "hiddendim hiddendims hiddensize hiddensizes layers units neurons",
    "--latent-dim": "z zdim zsize latent latentsize codesize bottleneck",
    "--batch-size": "b bs batch minibatch",
    "--epochs": "e n epoch nepochs numepochs maxepochs iterations",
    "--optimizer": "opt optim",
    "--learning-rate": "lr",
    "--beta": "klweight betakl",
    "--dataset": "d data input images",
    "--out": "o output outdir outputdir save savedir logdir",
    "--checkpoint": "ckpt model run load weights",
    "--resume": "continue restart",
    "--count": "n num samples nsamples numsamples",
    "--seed": "s randomseed",
    "--quiet": "q silent",
    "--jobs": "j workers",
}


def respelled(word: str, known: Iterable[str]) -> str:
    """The word; its option as we spell it, if it differs in - and _ and capital letters alone."""
    name, equals, value = word.partition("=")
    same = [option for option in known if _plain(option) == _plain(name)]
    return f"{same[0]}{equals}{value}" if name.startswith("--") and len(same) == 1 else word


def hint(unknown: str, words: Sequence[str], options: Mapping[str, Action]) -> str:
    """What to write instead of the first unknown one of these words; "" if there is no idea."""
    if unknown.startswith("-"):
        return _option(unknown.partition("=")[0], list(options))
    position = words.index(unknown)
    for start in range(position - 1, -1, -1):
        action = options.get(words[start])
        if action is not None and action.nargs != 0:  # the last option that takes a value
            return _value(words[start], words[start + 1 :], action)
    return path_hint(unknown, options)


def beside_the_first(unknown: Sequence[str], words: Sequence[str]) -> list[str]:
    """`check --hint 4 SHEET` as `check SHEET --hint 4`, if SHEET is unknown; [] if that is no help.

    Before Python 3.13, argparse takes no optional word behind an option if one stands before it.
    """
    first = next((k for k, word in enumerate(words) if word.startswith("-")), 0)
    rest = list(words[first:])
    if not first or any(word.startswith("-") or word not in rest for word in unknown):
        return []
    for word in unknown:
        rest.remove(word)
    return [*words[:first], *unknown, *rest]


def did_you_mean(word: str, message: str) -> str:
    """The most similar of the choices that argparse lists at the end of its message."""
    _, _, choices = message.partition("(choose from ")
    names = [name.strip("'") for name in choices.removesuffix(")").split(", ")]
    close = get_close_matches(word, names, n=1, cutoff=0.7)
    return f". Did you mean {close[0]}?" if close else ""


def path_hint(word: str, options: Iterable[str]) -> str:
    """The option for a run directory, a checkpoint or a dataset that was named without one."""
    is_run = word.endswith(".npz") or os.path.exists(os.path.join(word, "run.json"))
    if "/" not in word and not os.path.exists(word) and not is_run and word not in DATASETS:
        return ""
    for option in ("--checkpoint", "--resume" if is_run else "", "--dataset"):
        if option in options:
            return f"{option} {quote(word)}"
    return ""


def _option(name: str, known: list[str]) -> str:
    for option, others in HABITS.items():
        if option in known and _plain(name) in others.split():
            return option
    return "".join(get_close_matches(name, known, n=1, cutoff=0.7))


def _value(option: str, rest: Sequence[str], action: Action) -> str:
    """The option with all the values that follow it, as one: 256,128 or 'a path with spaces'."""
    values = []
    for word in rest:
        if word.startswith("-"):
            break
        values.append(word)
    for value in (",".join(values), " ".join(values)):
        try:
            parsed = action.type(value) if callable(action.type) else ()
        except (ArgumentTypeError, TypeError, ValueError):  # all that argparse catches
            continue
        if isinstance(parsed, tuple) == ("," in value) and parsed:
            return f"{option} {quote(value)}"
    return ""


def _plain(name: str) -> str:
    return name.replace("-", "").replace("_", "").lower()
