"""The notebook runs from top to bottom, and shows what its text says."""

from __future__ import annotations

import ast
import importlib
import io
import json
import os
import re
import sys
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.helpers import ROOT, environment, run

PATH = ROOT / "scripts" / "tour.ipynb"
NOTEBOOK = json.loads(PATH.read_text(encoding="utf-8"))

# The cells whose pictures are kept, without images of the dataset: what the model draws, and codes.
KEPT = ("history = fit(", "ellipses(panels", "manifold(models")

# Python that finds the packages of this one, but not npvae, which may be installed here: the .pth
# files in these folders do not count.
FRESH = [sys.executable, "-S"]
OTHERS = os.pathsep.join(path for path in sys.path if path.endswith("site-packages"))


def cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def code(cell: Any) -> str:
    return "".join(line for line in cell["source"] if not line.startswith("%"))


def test_it_is_kept_in_short_cells_with_three_small_pictures_and_no_other_output() -> None:
    """Each picture has an alternative text. After a run of the notebook, clear the rest."""
    assert PATH.stat().st_size < 300_000
    for cell in cells(NOTEBOOK):
        assert cell["execution_count"] is None
        assert len(cell["source"]) <= 20
        assert len(cell["outputs"]) == any(word in code(cell) for word in KEPT)
        for output in cell["outputs"]:
            assert list(output["data"]) == ["image/png"]
            assert len(output["metadata"]["image/png"]["alt"]) > 80
    texts = "".join("".join(cell["source"]) for cell in NOTEBOOK["cells"])
    for link in re.findall(r"\]\(([^)#\s]+)\)", texts):
        assert (PATH.parent / link).is_file()


def test_its_imports_exist() -> None:
    """So that a moved function is noticed without nbclient, too."""
    for cell in cells(NOTEBOOK):
        for node in ast.walk(ast.parse(code(cell))):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("npvae"):
                module = importlib.import_module(str(node.module))
                assert all(hasattr(module, alias.name) for alias in node.names)


def test_it_installs_what_the_package_needs_and_nothing_else() -> None:
    """Such as another project, which happens to lie in the folder above."""
    needs = re.search("^dependencies = (.*)$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert needs
    lines = [line for cell in cells(NOTEBOOK) for line in cell["source"] if line[0] in "%!"]
    assert lines == ["%pip install --quiet " + needs[1].strip("[]").replace(", ", " ") + "\n"]


def test_away_from_its_clone_it_uses_one_beside_it_or_says_what_to_do(tmp_path: Path) -> None:
    env = environment(PYTHONPATH=OTHERS)
    first = [*FRESH, "-c", code(cells(NOTEBOOK)[0]) + "\nimport npvae\nprint(npvae.__file__)"]
    away = run(first, cwd=tmp_path, env=env)
    if not away.returncode:
        pytest.skip("npvae is installed, and not as editable")
    assert "Upload its clone beside this notebook" in away.stderr
    (tmp_path / "a clone").symlink_to(ROOT)
    beside = run(first, cwd=tmp_path, env=env)
    assert beside.stdout == f"{ROOT / 'npvae' / '__init__.py'}\n", beside.stderr


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"[-+]?\d+\.\d+(?:e-\d+)?", text)]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of the packages that run notebooks
def test_it_runs_in_a_fresh_kernel_and_shows_what_its_text_says(notebooks: Any) -> None:
    """With drawn digits, one epoch at a time."""
    nbclient, nbformat = notebooks
    notebook = nbformat.read(PATH, as_version=4)
    for cell in notebook.cells:
        source = re.sub(r"^%pip.*\n", "", cell.source)  # nothing is installed here
        source = source.replace("load_dataset()", 'load_dataset("drawn-digits")')
        cell.source = source.replace("epochs=5", "epochs=1")
    place = {"metadata": {"path": str(PATH.parent)}}
    client = nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources=place)
    client.create_kernel_manager().kernel_spec.argv[:1] = FRESH
    client.execute(env=environment(PYTHONPATH=OTHERS))
    ran = cells(notebook)

    def printed(word: str) -> str:
        """What the cell prints in whose source this word is."""
        (cell,) = [cell for cell in ran if word in cell.source]
        return "".join(output.text for output in cell.outputs if output.output_type == "stream")

    bce, *_, coins = numbers(printed("784 log 2"))
    assert bce == pytest.approx(coins, abs=10)  # an untrained decoder flips a coin for each pixel
    by_hand, numerically = numbers(printed("above - below"))
    assert by_hand == pytest.approx(numerically, abs=1e-6)
    assert numbers(printed("worst relative error"))[0] < 1e-7
    assert max(numbers(printed("def after_epoch"))) < 500  # 543 at first
    bce_0, kl_0, bce_1, kl_1, bce_4, kl_4 = numbers(printed("for beta in (0, 1, 4)"))
    assert kl_0 > kl_1 > kl_4
    assert bce_0 < bce_1 < bce_4
    wrong = {row.split()[0] for row in printed("def wrong").splitlines() if row.endswith(" WRONG")}
    expected = {"encoder.hidden0.W", "encoder.hidden0.b", "encoder.log_var.W", "encoder.log_var.b"}
    assert wrong == {*expected, "x"}
    assert printed("wrong arrays") == "wrong arrays: []\n"

    outputs = [output for cell in ran for output in cell.outputs if "data" in output]
    pictures = [output.data["image/png"] for output in outputs if "image/png" in output.data]
    assert len(pictures) == 6
    for picture in pictures:
        with Image.open(io.BytesIO(b64decode(picture))) as image:
            assert min(image.size) > 100
            extrema: Any = image.convert("L").getextrema()
            assert extrema[0] < 80  # letters, pixels or axes on white
            assert extrema[1] == 255
