"""A sample of what `python -m tests.mutants` measures over the whole program, by hand."""

import random
import shutil
from pathlib import Path

import pytest

from tests.helpers import ROOT, of_our_lesson
from tests.mutants import mutants, survives

LESSON = [f"npvae/{name}.py" for name in ("losses", "layers", "model", "optimizers")]


@pytest.mark.slow
@of_our_lesson
def test_a_changed_formula_of_the_lesson_turns_a_test_red(tmp_path: Path) -> None:
    for name in ("npvae", "tests", "scripts", "pyproject.toml"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    found = [mutant for mutant in mutants() if mutant.path in LESSON]
    chosen = random.Random(0).sample(found, 5)
    survived = [str(mutant) for mutant in chosen if survives(mutant, tmp_path)]
    assert len(survived) <= 1, survived  # one may compute the same
