"""What runs in the learner's process: the sheet, and the calls that are asked for.

It is started as a program of its own, and imports NumPy and nothing of npvae. Requests come and
answers go through two pipes, a line of JSON each; never as pickles. The answers are only arrays and
words: what is right is decided in checker.py, on the other side of the pipes.
"""

from __future__ import annotations

import importlib.abc
import inspect
import io
import json
import os
import sys
import traceback
import types
import warnings
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, BinaryIO

import numpy as np

LIMIT = 1 << 26  # bytes of a message
NUMBERS = "biufc"  # the kinds of arrays that are sent


class Other(str):
    """What cannot be sent, such as a generator: its type."""


def pack(message: Any) -> bytes:
    """A line of JSON; arrays become their type, shape and bytes, tuples become lists."""

    def plain(value: Any) -> Any:
        if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in NUMBERS:
            data = b64encode(np.asarray(value).tobytes()).decode()
            return {"dtype": value.dtype.str, "shape": value.shape, "bytes": data}
        return {"other": type(value).__name__}

    return json.dumps(message, default=plain, skipkeys=True).encode() + b"\n"


def unpack(line: bytes) -> Any:
    """The message again. Raises ValueError and its like for what does not come from `pack`."""

    def whole(value: dict[str, Any]) -> Any:
        if value.keys() == {"dtype", "shape", "bytes"}:
            if np.dtype(value["dtype"]).kind not in NUMBERS:
                raise ValueError("not an array of numbers")
            flat = np.frombuffer(b64decode(value["bytes"]), value["dtype"])
            return flat.reshape(value["shape"]).copy()
        return Other(value["other"]) if value.keys() == {"other"} else value

    return json.loads(line, object_hook=whole)


def receive(pipe: BinaryIO) -> Any:
    """The next message. Raises EOFError at the end."""
    line = pipe.readline(LIMIT)
    if not line:
        raise EOFError
    return unpack(line)


# ------------------------------------------------------------------ the learner's side alone


class Printed(io.TextIOBase):
    """In place of sys.stdout: keeps the beginning of what is printed."""

    text = ""

    def write(self, text: str) -> int:
        self.text += text[: 500 - len(self.text)]
        return len(text)


class NothingOfOurs(importlib.abc.MetaPathFinder):
    """A sheet stands alone."""

    def find_spec(self, name: str, *rest: Any) -> None:
        if name.partition(".")[0] == "npvae":
            raise ImportError("a sheet imports nothing of npvae")


class Sheet:
    """The program of the learner; and the same page with the lesson's answers, `solved`."""

    def __init__(self, path: str, source: bytes, solved: str, tasks: list[str]) -> None:
        self.path, self.source, self.tasks = path, source, tasks
        self.right: dict[str, Any] = {"__name__": "solved"}
        exec(compile(solved, "solved", "exec"), self.right)

    def load(self) -> dict[str, Any]:
        """Run the sheet. Returns the arguments of each function in it, a = for a default."""
        module = types.ModuleType("sheet")
        module.__file__ = self.path
        sys.modules["sheet"], self.globals = module, module.__dict__
        sys.path[0] = os.path.dirname(self.path)
        sys.meta_path.insert(0, NothingOfOurs())
        exec(compile(self.source, self.path, "exec"), self.globals)
        self.own = dict(self.globals)
        functions = {n: f for n, f in self.own.items() if isinstance(f, types.FunctionType)}
        return {
            name: [p.name + "=" * (p.default is not p.empty) for p in parameters.values()]
            for name, function in functions.items()
            for parameters in [inspect.signature(function).parameters]
        }

    def call(self, name: str, arguments: list[Any], keywords: dict[str, Any]) -> dict[str, Any]:
        """One function of the learner; meanwhile all other tasks are the lesson's."""
        self.globals.update({task: self.right[task] for task in self.tasks})
        self.globals[name] = self.own[name]
        return {"result": self.own[name](*arguments, **keywords), "arguments": arguments}

    def train(self, parameters: list[Any], given: BinaryIO, taken: BinaryIO) -> list[Any]:
        """All that the learner wrote: a loss for each batch, and at last the parameters."""
        self.globals.update(self.own)

        def batches() -> Iterator[Any]:
            while (batch := receive(given)) is not None:
                yield batch

        for losses in self.own["train"](parameters, batches()):
            taken.write(pack({"result": list(losses)}))
            taken.flush()
        return parameters

    def fault(self, error: BaseException) -> dict[str, Any]:
        """What was raised, and in which line of the sheet."""
        frames = traceback.extract_tb(error.__traceback__)
        numbers = [frame.lineno or 0 for frame in frames if frame.filename == self.path]
        words = ""
        with suppress(BaseException):  # an error can do what it likes, too
            words = str(error)
        if isinstance(error, SyntaxError) and error.filename == self.path:
            numbers, words = [error.lineno or 0], error.msg
        lines = self.source.decode("utf-8", "replace").splitlines()
        number = min(numbers[-1], len(lines)) if numbers else 0
        text = lines[number - 1].strip() if number else ""
        return {"error": type(error).__name__, "words": words, "line": number, "text": text}


def limit(memory: int) -> None:
    """So many bytes, files of 16 MiB, an hour, no core file; where the system has such limits."""
    with suppress(ImportError):
        import resource

        sizes = {"RLIMIT_AS": memory, "RLIMIT_FSIZE": 1 << 24, "RLIMIT_CPU": 3600, "RLIMIT_CORE": 0}
        for name, size in sizes.items():
            with suppress(ValueError, OSError, AttributeError):
                resource.setrlimit(getattr(resource, name), (size, size))


def main() -> None:
    given, taken = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):  # the sheet has neither the pipes nor a terminal
        os.dup2(nowhere, descriptor)
    sys.stdin, sys.stderr = open(os.devnull), open(os.devnull, "w")  # noqa: SIM115
    warnings.simplefilter("ignore")
    taken.write(pack({"result": "NumPy is there"}))
    taken.flush()
    start = receive(given)
    sheet = Sheet(start["path"], start["source"].tobytes(), start["solved"], start["tasks"])
    limit(start["memory"])
    request: Any = "load"
    reply: dict[str, Any]
    while True:
        sys.stdout = printed = Printed()
        try:
            if request == "load":
                reply = {"result": sheet.load()}
            elif "train" in request:
                reply = {"result": sheet.train(request["train"], given, taken)}
            else:
                reply = sheet.call(**request)
            message = pack({**reply, "printed": printed.text})
        except BaseException as error:  # SystemExit and KeyboardInterrupt, too
            message = pack({**sheet.fault(error), "printed": printed.text})
        taken.write(message)
        taken.flush()
        try:
            request = receive(given)
        except EOFError:
            os._exit(0)  # whatever threads and exit handlers the sheet has left


if __name__ == "__main__":
    main()
