"""How is a program called that may do anything? In a process of its own, with limits.

A `Learner` calls functions of a sheet as if they were here. What the process says is not trusted:
its answers are arrays that are looked at, and the time for them is limited. Next: checker.py.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from npvae.core.errors import OptionError
from npvae.lab import runner
from npvae.lab.sheet import definitions, sheet
from npvae.lab.tasks import tasks
from npvae.storage.files import open_plain

SECONDS = 2.0  # for each task, and to load the sheet
TICK = 0.05  # seconds: waits are counted, so that a machine that stands still costs no points
START = 60.0  # seconds until Python has imported NumPy, on a busy machine or a slow disk
MEMORY = 2 << 30  # bytes
LARGEST = 1 << 20  # bytes of a sheet
NO_ANSWER = "Its process has sent something else than an answer."
END = object()  # after the last message


class Fault(Exception):
    """What the learner's program did instead of giving an answer, in one line."""

    kind = ""  # of the error that it has raised, if it has


def read_sheet(path: Path) -> bytes:
    """The source of a sheet, a program or a notebook. Raises OptionError if it cannot be one."""
    try:
        with open_plain(path) as file:
            source = file.read(LARGEST + 1)
    except OSError as error:
        raise OptionError(f"{path} cannot be read: {error.strerror or error}") from error
    if path.suffix == ".ipynb":
        try:
            cells = json.loads(source)["cells"]
            code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise OptionError(f"{path} is not a notebook") from error
        source = definitions(code).encode()
    if len(source) > LARGEST or not any(task.name.encode() in source for task in tasks().values()):
        raise OptionError(f"{path} is not a sheet: it has none of the functions that are asked for")
    return source


class Learner:
    """The process of one sheet. It is started anew after a task that has ended it.

    `before` are words in front of its command line, such as those that take the network away.
    Raises Fault, in all methods, for whatever the program does wrong.
    """

    def __init__(self, path: Path, source: bytes = b"", before: Sequence[str] = ()) -> None:
        self.path, self.source, self.before = path, source or read_sheet(path), before
        self.process: subprocess.Popen[bytes] | None = None
        self.functions: dict[str, list[str]] = {}  # their arguments
        self.printed = ""
        self.broken: Fault | None = None  # a sheet that does not load is not loaded again

    def begin(self) -> None:
        """A new task: its time starts now. Starts the process if there is none."""
        self.printed = ""
        if self.broken:
            raise self.broken
        if self.process is None:
            self._start()
        self._limit(SECONDS)

    def call(self, name: str, *arguments: Any, **keywords: Any) -> tuple[Any, list[Any]]:
        """What a function returns, and its arguments after the call."""
        given = {"name": name, "arguments": arguments, "keywords": keywords}
        answer = self._ask(given)
        after = answer.get("arguments")
        if not isinstance(after, list) or len(after) != len(arguments):
            raise Fault(NO_ANSWER)
        return answer["result"], after

    def give(self, message: Any) -> None:
        """{"train": parameters}, then batches (x, epsilon), at last None. Does not wait."""
        self.requests.put(message)

    def take(self) -> Any:
        """The bce and kl of a batch; after None, the parameters."""
        self._limit(START)
        return self._answer()["result"]

    def stop(self) -> None:
        """End the process and its children, and remove what it has written."""
        process, self.process = self.process, None
        if process is None:
            return
        with suppress(OSError):
            if os.name == "posix":
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()
        process.wait()
        self.requests.put(END)
        ends = time.monotonic() + 1
        while (alive := any(t.is_alive() for t in self.threads)) and time.monotonic() < ends:
            with suppress(queue.Empty):
                self.answers.get(timeout=0.01)
        for pipe in (process.stdin, process.stdout):
            if pipe and not alive:
                pipe.close()
        self.folder.cleanup()

    def __enter__(self) -> Learner:
        return self

    def __exit__(self, *anything: object) -> None:
        self.stop()

    def _start(self) -> None:
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.process = subprocess.Popen(
            [*self.before, sys.executable, "-B", runner.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self.folder.name,  # what it writes there is removed
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
            bufsize=0,
            start_new_session=True,  # its children end with it, and Ctrl-C is ours
        )
        self.answers: queue.Queue[Any] = queue.Queue(4)
        self.requests: queue.Queue[Any] = queue.Queue()
        self.threads = [
            threading.Thread(target=act, args=(pipe, messages), daemon=True)
            for act, pipe, messages in (
                (_read, self.process.stdout, self.answers),
                (_write, self.process.stdin, self.requests),
            )
        ]
        for thread in self.threads:
            thread.start()
        self._limit(START)
        self._answer()
        self._limit(SECONDS)
        about = {
            "path": str(self.path.resolve()),
            "source": np.frombuffer(self.source, np.uint8),
            "solved": sheet(asked=[]),
            "tasks": [task.name for task in tasks().values()],
            "memory": MEMORY,
        }
        try:
            found = self._ask(about)["result"]
            self.functions = {name: list(map(str, given)) for name, given in dict(found).items()}
        except (Fault, TypeError, ValueError) as error:
            fault = error if isinstance(error, Fault) else Fault(NO_ANSWER)
            self.broken = fault
            raise fault from None

    def _limit(self, seconds: float) -> None:
        self.seconds = self.left = seconds

    def _ask(self, message: Any) -> dict[str, Any]:
        self.requests.put(message)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        answer: Any = None
        while answer is None:
            start = time.monotonic()
            with suppress(queue.Empty):
                answer = self.answers.get(timeout=TICK)
            self.left -= min(TICK, time.monotonic() - start)
            if answer is None and self.left < 0:
                self.stop()
                raise Fault(f"It ran for more than {self.seconds:g} seconds, and was stopped.")
        if answer is END:
            raise Fault(self._death())
        if not isinstance(answer, dict) or not answer.keys() & {"result", "error"}:
            self.stop()
            raise Fault(NO_ANSWER)
        self.printed += str(answer.get("printed", ""))[: 500 - len(self.printed)]
        if "error" in answer:
            raise raised(answer, numbered=self.path.suffix != ".ipynb")
        return answer

    def _death(self) -> str:
        """Why there is no answer any more."""
        assert self.process
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(1)
        code = self.process.returncode or 0
        self.stop()
        if code < 0:
            return f"Its process crashed or was killed (signal {-code})."
        return f"It ended Python itself, with exit code {code}."


def raised(answer: dict[str, Any], numbered: bool) -> Fault:
    """The error of the learner's program in one line: what, and in which line."""
    kind, words, text = (readable(answer.get(key)) for key in ("error", "words", "text"))
    number = answer.get("line")
    place = f"Line {number}" if numbered and isinstance(number, int) else "The line"
    fault = Fault(
        f"{f'{place}, `{text}`, raises' if text else 'It raises'} {kind}"
        f"{f': {words}' if words else ''}."
    )
    fault.kind = kind
    return fault


def readable(text: object, length: int = 160) -> str:
    """The first line of words that are not ours, without control characters."""
    first = (str(text or "").strip().splitlines() or [""])[0]
    first = "".join(letter if letter.isprintable() else "?" for letter in first)
    return first if len(first) <= length else f"{first[:length]}..."


def _read(pipe: Any, answers: queue.Queue[Any]) -> None:
    """Puts the messages of the process into the queue, and END after the last."""
    with open(pipe.fileno(), "rb", closefd=False) as lines:
        while True:
            try:
                answers.put(runner.receive(lines))
            except (EOFError, OSError):
                return answers.put(END)
            except Exception:  # bytes that are no message
                answers.put("garbled")


def _write(pipe: Any, requests: queue.Queue[Any]) -> None:
    """A process that does not read cannot stop the checker: this thread waits in its place."""
    with suppress(OSError, ValueError):
        while (message := requests.get()) is not END:
            rest = memoryview(runner.pack(message))
            while rest:
                rest = rest[pipe.write(rest) :]
