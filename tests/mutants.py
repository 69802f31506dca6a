"""How strong are the tests? Change the program in one place, and see whether one of them turns red.

    python -m tests.mutants --count 200 --seed 0 --workers 2       takes hours; prints who survived

A mutant is the last commit with another operator, number or condition in one place, or with
one call omitted. The tests of its own folder are tried first, then all others. A hang is as red as
a failure. Mutants that compute the same as before survive everything, so 100 % is not the aim: the
same seed before and after a change of the tests says whether they have become weaker.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from typing import Any, NamedTuple

from tests.helpers import ROOT

MINUTES = 10  # after which a mutant counts as hanging
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


def survives(mutant: Mutant, copy: Path) -> bool:
    """Whether no test turns red in this copy of the repository, which is put back afterwards."""
    path = copy / mutant.path
    source = path.read_bytes()
    path.write_bytes(source[: mutant.start] + mutant.new.encode() + source[mutant.end :])
    folder = Path(mutant.path).parts[1]
    own = f"tests/{folder}" if (copy / "tests" / folder).is_dir() else "tests/lesson"
    others = sorted(str(path.relative_to(copy)) for path in (copy / "tests").glob("test_*.py"))
    rest = [f"--ignore={own}", *(f"--ignore={path}" for path in others), "tests"]
    try:
        return all(green(copy, arguments) for arguments in ([own], others, rest))
    finally:
        path.write_bytes(source)


def green(copy: Path, arguments: list[str]) -> bool:
    words = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            words, cwd=copy, env=environment, capture_output=True, timeout=60 * MINUTES, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


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

        def judge(mutant: Mutant) -> tuple[Mutant, bool]:
            copy = free.get()
            try:
                return mutant, survives(mutant, copy)
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
