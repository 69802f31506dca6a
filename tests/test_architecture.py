"""Imports run one way, downwards: the lesson knows nothing of files, threads and commands."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import npvae
from tests.helpers import of_our_lesson

PACKAGE = Path(npvae.__file__).parent

# Who may import from a room, by rank: only from rooms of a lower rank, or from the same room.
LEVELS = [
    {"core"},
    {"storage", "schedules", "losses"},
    {"layers"},
    {"datasets", "optimizers"},
    {"model", "settings"},
    {"evaluation", "latent_space", "gradcheck", "training"},
    {"gradcheck_vae"},
    {"fast", "mistakes"},
    {"plots"},
    {"runs"},
    {"reference", "lab"},
    {"commands"},
    {"__main__"},
]
RANK = {room: rank for rank, rooms in enumerate(LEVELS) for room in rooms}


def imports(path: Path) -> Iterator[str]:
    """Every npvae module that a file imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            base = node.module
            for alias in node.names:
                deeper = PACKAGE.parent.joinpath(*base.split("."), f"{alias.name}.py")
                is_module = deeper.exists() or deeper.with_suffix("").is_dir()
                yield f"{base}.{alias.name}" if is_module else base
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@cache
def graph() -> dict[str, set[str]]:
    """Which npvae modules each module imports, by dotted name without the leading npvae."""
    found: dict[str, set[str]] = {}
    for path in sorted({*PACKAGE.rglob("*.py")} - {PACKAGE / "__init__.py"}):  # it only re-exports
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
        found[name] = {
            module.removeprefix("npvae.") for module in imports(path) if module.startswith("npvae.")
        }
    return found


def room(module: str) -> str:
    return module.split(".")[0]


def test_every_module_has_its_place() -> None:
    assert {room(module) for module in graph()} <= set(RANK)


def test_imports_run_downwards() -> None:
    upwards = [
        f"{module} imports {other}"
        for module, others in graph().items()
        for other in others
        if room(other) != room(module) and RANK[room(other)] >= RANK[room(module)]
    ]
    assert not upwards


def test_there_is_no_circle() -> None:
    remaining = {module: others - {module} for module, others in graph().items()}
    while free := [module for module, others in remaining.items() if not others & set(remaining)]:
        for module in free:
            del remaining[module]
    assert not remaining


@of_our_lesson
def test_the_lesson_is_short() -> None:
    """No module above 220 lines; the five that are the lesson have 600 in all."""
    lines = {path.stem: len(path.read_text().splitlines()) for path in PACKAGE.glob("*.py")}
    assert max(count for name, count in lines.items() if name != "gradcheck") <= 220, lines
    five = ("losses", "layers", "model", "optimizers", "training")
    assert sum(lines[name] for name in five) <= 600
