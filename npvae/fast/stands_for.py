"""Is the lesson still what the engine computes? Whoever changes it sees the lesson train.

The engine is a second implementation of the functions below. A file beside this one holds a digest
of each, of its code without comments and docstrings. `difference` compares it with the source, and
the source with the functions of this session, which may have been replaced or loaded again. After a
change of the lesson and of the engine, which tests hold together,

    python -m npvae.fast.stands_for

writes the digests anew.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import json
import types
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

DIGESTS = Path(__file__).with_name("stands_for.json")

# Of each module all functions and classes, or those that are named.
LESSON: dict[str, tuple[str, ...]] = {
    "npvae.losses": (),
    "npvae.layers": (),
    "npvae.model": (
        *("VAE.__init__", "VAE.forward", "VAE.objective", "VAE.backward"),
        *("VAE.loss_and_gradients", "VAE._checked"),
    ),
    "npvae.optimizers": (),
    "npvae.training": ("train_epoch",),
    "npvae.core.optimizer_base": ("Optimizer.update",),
    "npvae.core.validation": ("one_hot", "with_classes"),
    "npvae.datasets.minibatches": ("minibatches", "to_pixels"),
    "npvae.datasets.augmentation": ("warp", "augmented"),
}


def difference() -> str:
    """What differs, such as "losses.py differs from what the engine computes: kl_divergence".

    Empty if nothing does, or if there is no source to look at.
    """
    known = json.loads(DIGESTS.read_text(encoding="utf-8"))
    for name in LESSON:
        module = import_module(name)
        try:
            source = inspect.getsource(module)
        except OSError:
            continue
        found, codes = digests(name, source), code_objects(source, str(module.__file__))
        changed = [n for n, digest in known[name].items() if found.get(n) != digest]
        changed += [n for n in found if n in codes and code_of(module, n) != codes[n]]
        changed += [n for home, n in imported(source) if bound(module, n) is not bound(home, n)]
        if changed:
            file = name.rpartition(".")[2]
            return f"{file}.py differs from what the engine computes: {changed[0]}"
    return ""


def replaced(*objects: object) -> str:
    """The first method that one of these objects has instead of its class's, such as "forward"."""
    own = (name for thing in objects for name in vars(thing) if callable(bound(type(thing), name)))
    return next(own, "")


@functools.lru_cache(maxsize=64)
def digests(module: str, source: str) -> dict[str, str]:
    """A digest of each function and class of a module that the engine stands for, by name."""
    wanted = LESSON[module]
    return {
        name: hashlib.sha256(repr(structure(node)).encode()).hexdigest()[:12]
        for name, node in pieces(ast.parse(source))
        if name in wanted or not wanted
    }


def pieces(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Functions, methods, and classes without their methods, by name; all without docstrings."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield node.name, without_docstring(node)
        elif isinstance(node, ast.ClassDef):
            methods = [child for child in node.body if isinstance(child, ast.FunctionDef)]
            for method in methods:
                yield f"{node.name}.{method.name}", without_docstring(method)
            without_docstring(node).body = [n for n in node.body if n not in methods]
            yield node.name, node


def structure(node: object) -> object:
    """A tree of code as tuples and lists, which no version of Python writes in another way."""
    if isinstance(node, list):
        return [structure(child) for child in node]
    if isinstance(node, ast.AST):
        fields = [field for field in ast.iter_fields(node) if field[1] not in (None, [])]
        return type(node).__name__, [(name, structure(value)) for name, value in fields]
    return node


def without_docstring(node: Any) -> Any:
    if ast.get_docstring(node, clean=False) is not None:
        node.body = node.body[1:] or [ast.Pass()]
    return node


@functools.lru_cache(maxsize=64)
def code_objects(source: str, file: str) -> dict[str, types.CodeType]:
    """What Python makes of each function and method, by name."""

    def inside(code: types.CodeType, prefix: str) -> Iterator[tuple[str, types.CodeType]]:
        for part in code.co_consts:
            if isinstance(part, types.CodeType):
                if part.co_flags & inspect.CO_OPTIMIZED:  # a function
                    yield prefix + part.co_name, part
                else:  # a class
                    yield from inside(part, f"{part.co_name}.")

    return dict(inside(compile(source, file, "exec", dont_inherit=True), ""))


def code_of(module: object, name: str) -> object:
    """The code of a function, method or property as it is in this session."""
    thing: Any = functools.reduce(bound, name.split("."), module)
    thing = getattr(thing, "fget", getattr(thing, "__func__", thing))
    return getattr(inspect.unwrap(thing), "__code__", None)


def bound(holder: object, name: str) -> object:
    """What a module or class has under this name; None if nothing."""
    return getattr(holder, name, None)


def imported(source: str) -> Iterator[tuple[object, str]]:
    """The names that a module has from others of the lesson, each with that module."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.ImportFrom) and node.module in LESSON:
            yield from ((import_module(node.module), alias.name) for alias in node.names)


def main() -> None:
    """Write the digests of the lesson as it is."""
    found = {name: digests(name, inspect.getsource(import_module(name))) for name in LESSON}
    DIGESTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
