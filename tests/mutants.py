"""How strong are the tests? Change the program in one place, and see whether one of them turns red.

    python -m tests.mutants --count 200 --seed 0 --workers 2

A mutant is the last commit with another operator, number or condition in one place, or with one
call omitted. First, coverage.py (`pip install coverage`) notes which tests run which line. Each
mutant is then shown to the tests that run its line, the quickest first (of a line that runs on
import, to those that run any of its file), and to all tests of its own folder, which may run it in
another process. A hang is as red as a failure. Mutants that compute the same as before survive, so
100 % is not the aim: the same seed before and after a change of the tests says whether they have
become weaker.
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
from itertools import accumulate
from pathlib import Path
from queue import Queue
from typing import Any, NamedTuple

from tests.helpers import ROOT, run

MINUTES = 20  # after which a mutant counts as hanging
ENOUGH = 60.0  # seconds of tests that run its line, without its folder
PAIRS: list[tuple[type[ast.AST], type[ast.AST]]] = [
    *((ast.Lt, ast.LtE), (ast.Gt, ast.GtE), (ast.Eq, ast.NotEq), (ast.Is, ast.IsNot)),
    *((ast.In, ast.NotIn), (ast.And, ast.Or), (ast.Add, ast.Sub), (ast.Mult, ast.Div)),
]
OTHER: dict[type[ast.AST], Any] = {a: b for pair in PAIRS for a, b in (pair, pair[::-1])}


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
    return any(
        isinstance(node, ast.JoinedStr) or isinstance(getattr(node, "value", None), str | bytes)
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
        source, name = path.read_bytes(), path.relative_to(ROOT).as_posix()
        starts = [0, *accumulate(map(len, source.splitlines(keepends=True)))]
        for node in places(ast.parse(source)):
            if (new := changed(node)) is None:
                continue
            assert isinstance(node, ast.expr | ast.stmt)
            start = starts[node.lineno - 1] + node.col_offset
            end = starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
            text = ast.unparse(ast.fix_missing_locations(new))
            text = f"({text})" if isinstance(new, ast.expr) else text
            found.append(Mutant(name, node.lineno, start, end, source[start:end].decode(), text))
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
        done = python(copy, *words, "--durations=0", "--durations-min=0")
        assert done is not None, "the tests hang"
        red = set(re.findall(r"^FAILED ([^\s[]+)", done.stdout, re.MULTILINE))
        self.seconds: Counter[str] = Counter()  # of all cases of a test
        for time, name in re.findall(r"([\d.]+)s \w+ +(tests/[^\s[]+)", done.stdout):
            self.seconds[name] += float(time)  # type: ignore[assignment]
        self.of_line: defaultdict[str, dict[int, set[str]]] = defaultdict(dict)
        notes = coverage.CoverageData(str(copy / "notes"))
        notes.read()
        for path in notes.measured_files():
            lines = self.of_line[Path(path).relative_to(copy).as_posix()]
            for line, contexts in notes.contexts_by_lineno(path).items():
                lines[line] = set(map(as_argument, contexts)) & self.seconds.keys() - red

    def of(self, mutant: Mutant) -> list[str]:
        lines = self.of_line[mutant.path]
        names = lines.get(mutant.line) or set().union(*lines.values())
        found = sorted(names, key=self.seconds.__getitem__)
        spent = accumulate(self.seconds[name] for name in found)
        return [name for name, seconds in zip(found, spent, strict=True) if seconds < ENOUGH]


def as_argument(context: str) -> str:
    """tests.core.test_parameters.test_names, as pytest wants to be given it."""
    folder, _, test = context.partition(".test_")
    module, _, name = test.partition(".")
    return f"{folder.replace('.', '/')}/test_{module}.py::{name.replace('.', '::')}"


def survives(mutant: Mutant, copy: Path, first: Sequence[str] = ()) -> bool:
    """Whether no test turns red in a copy of the repository, which is put back afterwards.

    These tests are run `first`, then all of its folder.
    """
    path, folder = copy / mutant.path, Path(mutant.path).parts[1]
    own = f"tests/{folder}" if (copy / "tests" / folder).is_dir() else "tests/lesson"
    source = path.read_bytes()
    path.write_bytes(source[: mutant.start] + mutant.new.encode() + source[mutant.end :])
    try:
        for names in filter(None, (first, [own])):
            done = python(copy, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *names)
            if done is None or done.returncode:
                return False
        return True
    finally:
        path.write_bytes(source)


def python(copy: Path, *words: str) -> subprocess.CompletedProcess[str] | None:
    """The end of such a process in this copy, or None if it hangs."""
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        return run([sys.executable, *words], cwd=copy, env=environment, timeout=60 * MINUTES)
    except subprocess.TimeoutExpired:
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=200, help="how many (default: 200)")
    parser.add_argument("--seed", type=int, default=0, help="which ones (default: 0)")
    parser.add_argument("--workers", type=int, default=2, help="side by side (default: 2)")
    options = parser.parse_args()
    chosen = random.Random(options.seed).sample(mutants(), options.count)
    tried = Counter(str(Path(mutant.path).parent) for mutant in chosen)
    survived: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.workers) as pool:
        free: Queue[Path] = Queue()
        for k in range(options.workers):
            subprocess.run(["git", "clone", "-q", ROOT, Path(folder, str(k))], check=True)
            free.put(Path(folder, str(k)))
        tests = Tests(Path(folder, "0"))

        def judge(mutant: Mutant) -> bool:
            copy = free.get()
            try:
                return survives(mutant, copy, tests.of(mutant))
            finally:
                free.put(copy)

        for mutant, survives_all in zip(chosen, pool.map(judge, chosen), strict=True):
            if survives_all:
                print("survived ", mutant, flush=True)
                survived[str(Path(mutant.path).parent)] += 1
    for where, count in sorted(tried.items()):
        print(f"{where:20} {count - survived[where]:4} of {count:4} killed")
    print(f"{'in all':20} {options.count - survived.total():4} of {options.count:4} killed")


if __name__ == "__main__":
    main()
