"""What all commands share: reading options, reporting errors, exit codes.

Exit codes: 0 done, 1 a bug in npvae, 2 bad option, 3 data, 4 checkpoint, 5 diverged, 6 output
folder or disk, 7 a sheet of the lab that is not right yet, 128 + n for signal n. An error takes
four lines at most; --debug shows the traceback. This module imports nothing heavy, so that --help
and bad options answer at once.
"""

from __future__ import annotations

import argparse
import errno
import gc
import io
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from copy import deepcopy
from functools import partial
from importlib import import_module
from pathlib import Path
from shlex import quote
from traceback import format_exception
from typing import Any, NoReturn

from npvae.commands.hints import beside_the_first, did_you_mean, hint, path_hint, respelled
from npvae.commands.session import is_alone, restored
from npvae.commands.signals import Signals
from npvae.core.errors import NpvaeError, OutputError
from npvae.core.option_types import some_text, whole_number
from npvae.datasets.standard import DATASETS
from npvae.runs.launcher import on_failure
from npvae.runs.terminal import program, show

PACKAGES = {"numpy": "numpy", "PIL": "pillow", "numba": "numba"}  # by the names of their modules
OWN_DATA = {
    "resize": "scale pictures of your own to 28 x 28",
    "invert": "swap black and white in pictures of your own",
    "skip_broken": "omit pictures of your own that cannot be read",
}


class Parser(argparse.ArgumentParser):
    """An argument parser that reports errors in one line, with a hint at what was meant."""

    def __init__(self, description: str | None, epilog: str | None = None, **more: Any) -> None:
        self.known: dict[str, argparse.Action] = {}  # by the names of the options
        self.modes: Any = None
        called = program()
        more.setdefault("prog", called)
        if epilog and "npvae " in called:  # the examples get the same form
            script = f"scripts/{called.split()[-1]}.py"
            epilog = epilog.replace(f"python {script}", called)
        super().__init__(
            description=description,
            epilog=epilog,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            **more,
        )
        self._negative_number_matcher = re.compile(r"-([\d.]|inf)")  # -1e-3 is a value, too

    def add_argument(self, *names: Any, **more: Any) -> argparse.Action:
        """The same as in argparse; `known` has it by its names then."""
        action = super().add_argument(*names, **more)
        self.known |= dict.fromkeys(action.option_strings, action)
        return action

    def add_mutually_exclusive_group(self, **more: Any) -> Any:
        """The same as in argparse; `known` has its options, too."""
        group: Any = super().add_mutually_exclusive_group(**more)
        add = group.add_argument

        def add_argument(*names: Any, **more: Any) -> None:
            self.known |= dict.fromkeys(names, add(*names, **more))

        group.add_argument = add_argument
        return group

    def add_subparsers(self, **more: Any) -> Any:
        """The same as in argparse; `modes` has their parsers then."""
        self.modes = super().add_subparsers(**more)
        return self.modes

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """The same as in argparse, but an unknown word is an error here, with a hint."""
        known, words = self.known, []
        for word in args:
            words.append(respelled(word, known))
            if word != words[-1]:
                read = words[-1].partition("=")[0]
                _print_error(f"note: {word.partition('=')[0]} is read as {read}")
        before = deepcopy(namespace)
        namespace, unknown = super().parse_known_args(words, namespace)
        if unknown and (moved := beside_the_first(unknown, words)):
            again, rest = super().parse_known_args(moved, before)
            namespace, unknown = (namespace, unknown) if rest else (again, rest)
        if unknown:
            meant = hint(unknown[0], words, known)
            question = f". Did you mean {meant}?" if meant else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{question}")
        names = [word.partition("=")[0] for word in words]
        given = [known[name] for name in names if name in known]
        for action in dict.fromkeys(given):
            value = getattr(namespace, action.dest, None)
            all_count = action.nargs == 0 or (action.nargs is None and isinstance(value, list))
            if given.count(action) > 1 and not all_count and not getattr(namespace, "quiet", False):
                _print_error(f"note: only the last {action.option_strings[0]} counts")
        namespace.given = {*getattr(namespace, "given", ()), *(action.dest for action in given)}
        return namespace, unknown

    def error(self, message: str) -> NoReturn:
        """Report it in one line, and end with exit code 2."""
        choice = re.search("invalid choice: '(.*?)'", message)
        if choice and (meant := path_hint(choice[1], self.all_options())):
            message = f"unrecognized arguments: {choice[1]}. Did you mean {meant}?"
        elif choice:
            message += did_you_mean(choice[1], message)
        _print_error(f"{self.prog}: {message} (see --help)")
        sys.exit(2)

    def refuse(self, options: argparse.Namespace, names: Sequence[str], where: str) -> None:
        """End as an error does if one of these options was given where it has no effect."""
        if unused := given_options(options, *names):
            omit = "them" if "," in unused else "it"
            self.error(f"argument {unused}: no effect {where}; omit {omit}")

    def all_options(self) -> set[str]:
        """The options of this parser and, as in generate.py, those of its modes."""
        parsers = [self, *(self.modes.choices.values() if self.modes else ())]
        return {option for parser in parsers for option in parser.known}

    def add_common(self, seed: int | str | None = 0) -> None:
        """--seed (unless it is None), --quiet and --debug, which every command has."""
        if seed is not None:
            help = "seed of all random numbers (default: 0)"
            self.add_argument("--seed", type=whole_number(0), default=seed, metavar="N", help=help)
        self.add_argument("--quiet", action="store_true", help="print results and errors only")
        self.add_argument("--debug", action="store_true", help="show the traceback of an error")

    def add_data(self, default: str = "auto") -> None:
        """--dataset, --data-dir and what to do to the user's own pictures.

        `default` says which dataset is used if none is named.
        """
        help = (
            f"{', '.join(DATASETS)}, a folder of pictures, a file (.npz, .npy, .csv), "
            "or auto: Fashion-MNIST, or drawn-digits if that is not available "
            f"(default: {default})"
        )
        self.add_argument("--dataset", type=some_text, metavar="NAME", help=help)
        help = (
            "where the files of the dataset are, or will be downloaded to "
            "(default: $NPVAE_DATA_DIR, otherwise data/ of a clone or ~/.cache/npvae)"
        )
        self.add_argument("--data-dir", type=some_text, metavar="FOLDER", help=help)
        self.add_own_data()

    def add_own_data(self) -> None:
        """--resize, --invert and --skip-broken, for the user's own pictures."""
        for name, help in OWN_DATA.items():
            self.add_argument(f"--{name.replace('_', '-')}", action="store_true", help=help)


def given_options(options: argparse.Namespace, *names: str) -> str:
    """Those of these options that were given, as one types them: "--epochs, --data-dir"."""
    return ", ".join(f"--{name.replace('_', '-')}" for name in names if name in options.given)


def note_unused(options: argparse.Namespace, names: Sequence[str], where: str) -> None:
    """Print a note if one of these options was given where it has no effect."""
    if (unused := given_options(options, *names)) and not getattr(options, "quiet", False):
        _print_error(f"note: {unused}: no effect {where}")


def note_data_dir(options: argparse.Namespace) -> None:
    """The same for --data-dir with datasets that do not lie there: pictures and drawn digits."""
    if "data_dir" not in options.given:
        return
    from npvae.datasets import is_path, known_name

    names = [getattr(options, "dataset", None) or "auto", getattr(options, "extra_data", None)]
    read = [name for name in names if name]
    if all(is_path(name) or known_name(name) == "drawn-digits" for name in read):
        note_unused(options, ("data_dir",), f"on {' and '.join(read)}")


def given_words(options: argparse.Namespace, *names: str) -> list[str | Path]:
    """Those of these options (paths or flags) that were given, as words for another command."""
    words: list[str | Path] = []
    for name, value in vars(options).items():
        if name in names and value:
            words += [f"--{name.replace('_', '-')}", *([] if value is True else [Path(value)])]
    return words


def own_data(options: argparse.Namespace) -> dict[str, bool]:
    """What to do to the user's own pictures, as keywords of `load_dataset`."""
    return {name: getattr(options, name) for name in OWN_DATA}


def command(name: str) -> Callable[[Sequence[str]], int | None]:
    """The main of a command, whose module is imported only when main is called.

    So a missing package, or Ctrl-C during the import, is reported like any other error.
    """

    def main(arguments: Sequence[str]) -> int | None:
        code: int | None = import_module(f"npvae.commands.{name}").main(arguments)
        return code

    return main


def run(main: Callable[[Sequence[str]], int | None]) -> NoReturn:
    """Call main with the command line and exit with its code; put back what main has changed."""
    signals = Signals(is_alone())
    if signals.alone:
        gc.set_threshold(100_000)  # packages make as many objects, which all stay
    with nullcontext() if signals.alone else restored():
        try:
            signals.catch()
            warnings.showwarning = partial(_show_warning, signals)
            _prepare_streams()
            code = _flush(_outcome(main, signals), signals.alone)
            signals.over = True
        except KeyboardInterrupt:
            code = _flush(128 + (signals.number or signal.SIGINT), signals.alone)
            signals.over = True
        ends = on_failure.copy()  # those of this command, before a session gets its own back
    if signals.pending:  # it was meant for the session as well
        signal.raise_signal(signals.pending)
    if code:
        for end in ends:
            end(code)
    if signals.alone:
        gc.freeze()  # otherwise Python looks through all of them before it ends: 0.1 s
    sys.exit(code)


def _outcome(main: Callable[[Sequence[str]], int | None], signals: Signals) -> int:
    """The exit code of main, whose errors are reported."""
    arguments = sys.argv[1:]
    try:
        _check_current_folder()
        return main(arguments) or 0
    except SystemExit as end:  # argparse, after --help or a bad option
        return int(end.code or 0)
    except Exception as error:
        if signals.number:  # the interruption was turned into another error
            _print_error("Interrupted.")
            return 128 + signals.number
        if isinstance(error, BrokenPipeError):  # the reader of our output has left, as `head` does
            return 0
        code, message = _explain(error)
        if "--debug" in arguments:
            _print_error("".join(format_exception(error)).rstrip())
        else:
            _print_error(f"error: {message}")
        return code


def _explain(error: Exception) -> tuple[int, str]:
    """The exit code and the message for the user."""
    if isinstance(error, NpvaeError):
        return error.exit_code, str(error)
    if is_out_of_memory(error):
        return 2, f"there is not enough memory for this.\n{error}".rstrip()
    if isinstance(error, OSError):
        why = error.strerror or error
        if error.filename:
            return 6, f"{error.filename} cannot be read or written: {why}"
        return 6, f"the output cannot be written: {why}"
    if isinstance(error, ModuleNotFoundError) and error.name in PACKAGES:
        python, package = quote(sys.executable), PACKAGES[error.name]
        return 2, (
            f"the Python package {package} is missing. Install it for this Python with\n"
            f"{python} -m pip install {' '.join(PACKAGES.values())}"
        )
    return 1, f"{type(error).__name__}: {error}\n{whose_bug(error)}"


def whose_bug(error: Exception) -> str:
    """In words: ours, unless the source was changed."""
    if isinstance(error, SyntaxError):
        return "Python cannot read this file."
    with suppress(Exception):
        from npvae.fast.stands_for import difference

        if changed := difference():
            return f"{changed}. --debug shows where it happened."
    return "This is a bug in npvae. --debug shows where it happened."


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether it is that, or was raised while that was handled."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    return error is not None and is_out_of_memory(error.__cause__ or error.__context__)


def _check_current_folder() -> None:
    try:
        os.getcwd()
    except OSError as error:
        raise OutputError(
            "the current folder was removed.\nChange to another folder, and run this again."
        ) from error


def _prepare_streams() -> None:
    """Letters that a terminal lacks become escapes. Missing streams, as of pythonw, go nowhere."""
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115  kept open
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _flush(code: int, alone: bool) -> int:
    """The exit code, after all output was written."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:  # the reader has left, or the disk is full
            if alone:  # Python would complain once more when it ends
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            if code == 0 and not isinstance(error, BrokenPipeError):
                _print_error(f"error: the output cannot be written: {error.strerror}")
                code = 6
    return code


def _print_error(text: str) -> None:
    with suppress(OSError):  # the terminal is closed
        show(text, sys.stderr)


def _show_warning(signals: Signals, message: Warning | str, *rest: Any, **named: Any) -> None:
    if not signals.number:  # code that was interrupted may warn, too
        _print_error(f"note: {str(message).splitlines()[0]}")
