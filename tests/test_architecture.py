"""Imports run one way, downwards: the lesson knows nothing of files, threads and commands."""

from __future__ import annotations

import ast
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


@cache
def graph() -> dict[str, set[str]]:
    """Which modules each one imports, at its top or in a function, by names without "npvae."."""
    paths = {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path
        for path in PACKAGE.rglob("*.py")
    }
    modules = {name.removesuffix(".__init__"): path for name, path in paths.items()}
    found = {}
    for name, path in modules.items():
        imported: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                full_names = [f"{node.module}.{alias.name}" for alias in node.names]
                imported |= {full if full in modules else node.module for full in full_names}
            elif isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
        ours = {other for other in imported if other.startswith("npvae.")}
        found[name.removeprefix("npvae.")] = {other.removeprefix("npvae.") for other in ours}
    del found["npvae"]  # it only re-exports
    return found


def test_imports_run_downwards() -> None:
    """And every module has its place."""
    for module, others in graph().items():
        room = module.split(".")[0]
        for other in {name.split(".")[0] for name in others} - {room}:
            assert RANK[other] < RANK[room], f"{module} imports {other}"


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
