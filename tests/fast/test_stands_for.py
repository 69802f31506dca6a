"""What you change is what trains: the engine steps back where the lesson was changed."""

from __future__ import annotations

import ast
import inspect
import json
import re
import shutil
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npvae
from npvae import VAE, Adam, fast, fit
from npvae.fast import jit
from npvae.fast.stands_for import DIGESTS, LESSON, difference, digests
from tests.helpers import run

IMAGES = np.random.default_rng(0).integers(0, 256, (64, 16), np.uint8)
needs_engine = pytest.mark.skipif(bool(jit.WHY_NOT), reason=f"there is no engine: {jit.WHY_NOT}")


def test_the_digests_are_those_of_the_lesson() -> None:
    """After a change that the engine makes, too: python -m npvae.fast.stands_for."""
    known = json.loads(DIGESTS.read_text(encoding="utf-8"))
    for name in LESSON:  # what is new in the lesson has none, and the engine does not know it
        found = digests(name, inspect.getsource(import_module(name)))
        assert known[name].items() <= found.items(), name
        assert known[name].keys() >= set(LESSON[name])
    assert difference() == ""


def test_only_what_computes_counts() -> None:
    """Not comments, docstrings, and what is new; but every function, and it alone is named."""
    for name in LESSON:
        source = inspect.getsource(import_module(name))
        found, tree = digests(name, source), ast.parse(source)
        more = f'# new\n{source}\ndef mine(x):\n    """New."""\n    return x\n'
        more = more.replace('"""', '"""In other words. ', 1)
        assert digests(name, more).items() >= found.items()
        functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
        for holder in (node for node in tree.body if isinstance(node, ast.ClassDef)):
            methods = (node for node in holder.body if isinstance(node, ast.FunctionDef))
            functions |= {f"{holder.name}.{method.name}": method for method in methods}
        for counted in functions.keys() & found.keys():
            node = functions[counted]
            body, node.body = node.body, ast.parse("7").body
            changed = digests(name, ast.unparse(tree))
            node.body = body
            assert [n for n, digest in changed.items() if found[n] != digest] == [counted]


CHANGES: dict[str, tuple[str, Callable[..., Any]]] = {
    "kl_divergence": ("npvae.losses", lambda mu, log_var: 0 * mu.sum(axis=1)),
    "bce_with_logits": ("npvae.model", lambda logits, x: 0 * x.sum(axis=1)),
    "relu": ("npvae.layers", np.abs),
    "Dense.backward": ("npvae.layers", lambda self, x, d_y: d_y @ self.W.T),
    "VAE.__init__": ("npvae.model", lambda self, *sizes: None),  # it wires the network
    "VAE.backward": ("npvae.model", lambda self, a, beta=1.0: None),
    "VAE._checked": ("npvae.model", lambda self, x, epsilon, beta, c: self.forward(x, epsilon)),
    "Adam.step": ("npvae.optimizers", lambda self, theta, gradient, *state: None),
    "Loss.total": ("npvae.losses", property(lambda self: 0.0)),  # type: ignore[dict-item]
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_function_that_was_replaced_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a notebook, where a cell defines it anew."""
    module, mine = CHANGES[name]
    monkeypatch.setattr(f"{module}.{name}", mine)
    assert re.fullmatch(rf"\w+\.py differs from what the engine computes: {name}", difference())


@needs_engine
def test_a_function_that_was_replaced_trains_and_a_warning_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NPVAE_BACKEND", "auto")
    assert fit(VAE(16, (7,), 3), IMAGES, 1)[0].train.kl > 0
    monkeypatch.setattr("npvae.model.kl_divergence", CHANGES["kl_divergence"][1])
    with pytest.warns(UserWarning, match="computes: kl_divergence, so NumPy trains"):
        (epoch,) = fit(VAE(16, (7,), 3), IMAGES, 1)
    assert epoch.train.kl == 0


@needs_engine
def test_methods_of_one_model_or_optimizer_count() -> None:
    vae, adam = VAE(16, (7,), 3), Adam()
    assert fast.why_not_for(vae, adam) == ""
    vae.forward = vae.forward  # type: ignore[method-assign]
    assert fast.why_not_for(vae, adam) == "the engine does not know this forward"
    other = VAE(16, (7,), 3)
    other.to_mu.backward = other.to_mu.backward  # type: ignore[method-assign]
    assert fast.why_not_for(other, adam) == "the engine does not know this backward"
    adam.step = adam.step  # type: ignore[method-assign]
    assert fast.why_not_for(VAE(16, (7,), 3), adam) == "the engine does not know this step"


@needs_engine
def test_an_edited_file_trains(tmp_path: Path) -> None:
    """Edited before the program starts, or while it runs, as by %autoreload: then once reloaded."""
    shutil.copytree(Path(npvae.__file__).parent, tmp_path / "npvae")
    file = tmp_path / "npvae" / "losses.py"
    line = "return np.sum(0.5 * (mu**2 + np.exp(log_var) - 1 - log_var), axis=1)"
    edited = file.read_text(encoding="utf-8").replace(line, "return 0 * mu.sum(axis=1)")
    assert "return 0 * mu" in edited
    program = f"""
import importlib, os, pathlib, warnings
import numpy as np
import npvae.losses, npvae.model
from npvae import VAE, fit
from npvae.fast.stands_for import difference
os.environ["NPVAE_BACKEND"] = "auto"
warnings.simplefilter("ignore")
images = np.random.default_rng(0).integers(0, 256, (64, 16), dtype=np.uint8)
def say():
    print(difference(), fit(VAE(16, (7,), 3), images, 1)[0].train.kl > 0)
say()
pathlib.Path("npvae/losses.py").write_text({edited!r}, encoding="utf-8")
say()
importlib.reload(npvae.losses)
npvae.model.kl_divergence = npvae.losses.kl_divergence
say()
"""
    done = run([sys.executable, "-c", program], cwd=tmp_path)
    seen = "losses.py differs from what the engine computes: kl_divergence"
    assert done.stdout == f" True\n{seen} True\n{seen} False\n", done.stderr


def test_without_source_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_source(_: object) -> str:
        raise OSError("could not get source code")

    monkeypatch.setattr(inspect, "getsource", no_source)
    assert difference() == ""
