"""How strong are the tests? Change the program in one place, and see whether one of them turns red.

    python -m tests.mutants --count 200 --seed 0 --workers 2

A mutant is the last commit with another operator, number or condition in one place, or with
one call omitted. First, coverage.py (`pip install coverage`) notes which tests run which line;
each mutant is then shown to the tests that run its line, the quickest first (of a line that runs on
import, to those that run any of its file), and to all tests of its own folder, which may run it in
another process. A hang is as red as a failure. Mutants that
compute the same as before survive everything, so 100 % is not the aim: the same seed before and
after a change of the tests says whether they have become weaker.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import re
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from queue import Queue
from typing import Any, NamedTuple

from tests.helpers import ROOT

MINUTES = 20  # after which a mutant counts as hanging
ENOUGH = 60.0  # seconds of tests that run its line, without its folder
PAIRS: list[tuple[type[ast.AST], type[ast.AST]]] = [
    (ast.Lt, ast.LtE),
    (ast.Gt, ast.GtE),
    (ast.Eq, ast.NotEq),
    (ast.Is, ast.IsNot),
    (ast.In, ast.NotIn),
    (ast.And, ast.Or),
    (ast.Add, ast.Sub),
    (ast.Mult, ast.Div),
]
OTHER: dict[type[ast.AST], Any] = {**dict(PAIRS), **{second: first for first, second in PAIRS}}


class Mutant(NamedTuple):
    """The program with `new` in place of the bytes from `start` to `end` of a file."""

    path: str  # from ROOT
    line: int
    start: int
    end: int
    old: str
    new: str

    def __str__(self) -> str:
        old, new = (" ".join(text.split())[:60] for text in (self.old, self.new))
        return f"{self.path}:{self.line}: {old}  ->  {new}"


def changed(node: ast.AST) -> ast.AST | None:
    """Another node that could stand in its place, or None."""
    match node:
        case ast.Compare(left, [op], right) if type(op) in OTHER:
            return ast.Compare(left, [OTHER[type(op)]()], right)
        case ast.BinOp(left, op, right) if type(op) in OTHER and not is_text(left, right):
            return ast.BinOp(left, OTHER[type(op)](), right)
        case ast.BoolOp(op, values):
            return ast.BoolOp(OTHER[type(op)](), values)
        case ast.UnaryOp(ast.Not(), operand):
            return operand
        case ast.Constant(bool() as value):
            return ast.Constant(not value)
        case ast.Constant(int() | float() as value):
            return ast.Constant(value + 1)
        case ast.IfExp(test, body, orelse):
            return ast.IfExp(test, orelse, body)
        case ast.Expr(ast.Call()):
            return ast.Pass()
    return None


def is_text(*nodes: ast.expr) -> bool:
    """Whether one of them is text, for which no operator but + exists."""
    texts = (str, bytes)
    return any(
        isinstance(node, ast.JoinedStr)
        or (isinstance(node, ast.Constant) and isinstance(node.value, texts))
        for node in nodes
    )


def places(node: ast.AST) -> Iterator[ast.AST]:
    """The node and all below, but for annotations and what stands in an f-string."""
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns") or isinstance(node, ast.JoinedStr):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from places(child)


def mutants() -> list[Mutant]:
    """All of them, in the order of files and lines."""
    found = []
    for path in sorted((ROOT / "npvae").rglob("*.py")):
        source = path.read_bytes()
        starts = [0]
        for line in source.splitlines(keepends=True):
            starts.append(starts[-1] + len(line))
        for node in places(ast.parse(source)):
            if (new := changed(node)) is None:
                continue
            assert isinstance(node, ast.expr | ast.stmt)
            start = starts[node.lineno - 1] + node.col_offset
            end = starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
            text = ast.unparse(ast.fix_missing_locations(new))
            if isinstance(new, ast.expr):
                text = f"({text})"
            old = source[start:end].decode()
            name = path.relative_to(ROOT).as_posix()
            found.append(Mutant(name, node.lineno, start, end, old, text))
    return found


class Tests:
    """Which tests run a line of the program, the quickest first."""

    def __init__(self, copy: Path) -> None:
        """Run all tests once in this copy of the repository, and note what they do."""
        import coverage

        (copy / "notes.ini").write_text(
            "[run]\nsource = npvae\ndynamic_context = test_function\ndata_file = notes\n"
        )
        words = ["-m", "coverage", "run", "--rcfile=notes.ini", "-m", "pytest", "-q"]
        done = python(copy, [*words, "--durations=0", "--durations-min=0"])
        assert done is not None, "the tests hang"
        red = {
            line.split()[1].partition("[")[0]
            for line in done.stdout.splitlines()
            if line.startswith("FAILED")
        }
        self.seconds: defaultdict[str, float] = defaultdict(float)
        for time, name in re.findall(r"([\d.]+)s \w+ +tests/(\S+?)(?:\[.*)?\n", done.stdout):
            self.seconds[f"tests/{name}"] += float(time)
        self.of_line: dict[tuple[str, int], set[str]] = {}
        notes = coverage.CoverageData(str(copy / "notes"))
        notes.read()
        for path in notes.measured_files():
            for line, contexts in notes.contexts_by_lineno(path).items():
                names = {as_argument(context) for context in contexts}
                relative = Path(path).relative_to(copy).as_posix()
                self.of_line[relative, line] = names & set(self.seconds) - red

    def of(self, mutant: Mutant) -> list[str]:
        names = self.of_line.get((mutant.path, mutant.line))
        if not names:
            every = (names for (path, _), names in self.of_line.items() if path == mutant.path)
            names = set().union(*every)
        found = sorted(names, key=lambda name: self.seconds[name])
        spent = list(accumulate(self.seconds[name] for name in found))
        return [name for name, seconds in zip(found, spent, strict=True) if seconds < ENOUGH]


def as_argument(context: str) -> str:
    """tests.core.test_parameters.test_names, as pytest wants to be given it."""
    module, _, name = context.partition(".test_")[2].partition(".")
    folder = context.partition(".test_")[0].replace(".", "/")
    return f"{folder}/test_{module}.py::{name}"


def survives(mutant: Mutant, copy: Path, first: Sequence[str] = ()) -> bool:
    """Whether no test turns red in a copy of the repository, which is put back afterwards.

    These tests are run `first`, then all of its folder.
    """
    path = copy / mutant.path
    source = path.read_bytes()
    path.write_bytes(source[: mutant.start] + mutant.new.encode() + source[mutant.end :])
    folder = Path(mutant.path).parts[1]
    own = f"tests/{folder}" if (copy / "tests" / folder).is_dir() else "tests/lesson"
    try:
        return all(green(copy, names) for names in (first, [own]) if names)
    finally:
        path.write_bytes(source)


def green(copy: Path, names: Sequence[str]) -> bool:
    done = python(copy, ["-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *names])
    return done is not None and done.returncode == 0


def python(copy: Path, words: list[str]) -> subprocess.CompletedProcess[str] | None:
    """The end of such a process in this copy, or None if it hangs."""
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    with suppress(subprocess.TimeoutExpired):
        return subprocess.run(
            [sys.executable, *words],
            cwd=copy,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60 * MINUTES,
            check=False,
        )
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=200, help="how many (default: 200)")
    parser.add_argument("--seed", type=int, default=0, help="which ones (default: 0)")
    parser.add_argument("--workers", type=int, default=2, help="side by side (default: 2)")
    options = parser.parse_args()
    chosen = random.Random(options.seed).sample(mutants(), options.count)
    killed: Counter[str] = Counter()
    tried: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.workers) as pool:
        free: Queue[Path] = Queue()
        for k in range(options.workers):
            subprocess.run(["git", "clone", "-q", ROOT, Path(folder, str(k))], check=True)
            free.put(Path(folder, str(k)))
        tests = Tests(Path(folder, "0"))

        def judge(mutant: Mutant) -> tuple[Mutant, bool]:
            copy = free.get()
            try:
                return mutant, survives(mutant, copy, tests.of(mutant))
            finally:
                free.put(copy)

        for mutant, survived in pool.map(judge, chosen):
            where = str(Path(mutant.path).parent)
            tried[where] += 1
            killed[where] += not survived
            if survived:
                print("survived ", mutant, flush=True)
    for where in sorted(tried):
        print(f"{where:20} {killed[where]:4} of {tried[where]:4} killed")
    print(f"{'in all':20} {killed.total():4} of {tried.total():4} killed")


if __name__ == "__main__":
    main()
