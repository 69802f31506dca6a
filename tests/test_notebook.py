"""The notebook runs from top to bottom, and shows what its text says."""

from __future__ import annotations

import ast
import importlib
import io
import json
import re
from base64 import b64decode
from typing import Any

import pytest
from PIL import Image

from tests.helpers import ROOT, environment

PATH = ROOT / "scripts" / "tour.ipynb"
INSTALL = "install"  # the tag of the cell that calls pip


def cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_it_is_kept_without_outputs_and_in_short_cells() -> None:
    notebook = json.loads(PATH.read_text(encoding="utf-8"))
    for cell in cells(notebook):
        assert (cell["outputs"], cell["execution_count"]) == ([], None)
        assert len(cell["source"]) <= 20
    texts = "".join("".join(cell["source"]) for cell in notebook["cells"])
    for link in re.findall(r"\]\(([^)#\s]+)\)", texts):
        assert (PATH.parent / link).is_file()


def test_what_it_imports_exists() -> None:
    """So that a moved function is noticed without nbclient, too."""
    for cell in cells(json.loads(PATH.read_text(encoding="utf-8"))):
        lines = [line for line in cell["source"] if not line.startswith("%")]
        for node in ast.walk(ast.parse("".join(lines))):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("npvae"):
                module = importlib.import_module(str(node.module))
                assert all(hasattr(module, alias.name) for alias in node.names)


@pytest.fixture(scope="module")
def ran() -> list[Any]:
    """The code cells after a run with drawn digits, one epoch at a time."""
    nbclient = pytest.importorskip("nbclient", reason="nbclient runs the notebook")
    nbformat = pytest.importorskip("nbformat", reason="nbclient runs the notebook")
    pytest.importorskip("ipykernel", reason="nbclient runs the notebook in ipykernel")
    notebook = nbformat.read(PATH, as_version=4)
    notebook.cells = [c for c in notebook.cells if INSTALL not in c.metadata.get("tags", [])]
    for cell in notebook.cells:
        cell.source = cell.source.replace("load_dataset()", 'load_dataset("drawn-digits")')
        cell.source = cell.source.replace("epochs=5", "epochs=1")
    place = {"metadata": {"path": str(PATH.parent)}}
    client = nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources=place)
    client.execute(env=environment(PYTHONPATH=str(ROOT)))
    return cells(notebook)


pytestmark = pytest.mark.filterwarnings("default")  # of the packages that run notebooks


def printed(ran: list[Any], word: str) -> str:
    """What the cell prints in whose source this word is."""
    (cell,) = [cell for cell in ran if word in cell.source]
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"[-+]?\d+\.\d+(?:e-\d+)?", text)]


def test_an_untrained_decoder_costs_a_coin_flip_for_each_pixel(ran: list[Any]) -> None:
    bce, *_, coins = numbers(printed(ran, "784 log 2"))
    assert bce == pytest.approx(coins, abs=10)


def test_the_gradient_by_hand_is_the_numerical_one(ran: list[Any]) -> None:
    by_hand, numerically = numbers(printed(ran, "above - below"))
    assert by_hand == pytest.approx(numerically, abs=1e-6)
    assert numbers(printed(ran, "worst relative error"))[0] < 1e-7


def test_it_learns_and_beta_trades_kl_for_bce(ran: list[Any]) -> None:
    train, test = numbers(printed(ran, "def after_epoch"))
    assert max(train, test) < 500  # 543 at first
    bce_0, kl_0, bce_1, kl_1, bce_4, kl_4 = numbers(printed(ran, "for beta in (0, 1, 4)"))
    assert kl_0 > kl_1 > kl_4
    assert bce_0 < bce_1 < bce_4


def test_the_check_names_what_is_broken_and_nothing_else(ran: list[Any]) -> None:
    rows = printed(ran, "def wrong").splitlines()
    wrong = {row.split()[0] for row in rows if row.endswith(" WRONG")}
    expected = {"encoder.hidden0.W", "encoder.hidden0.b", "encoder.log_var.W", "encoder.log_var.b"}
    assert wrong == {*expected, "x"}
    assert printed(ran, "wrong arrays") == "wrong arrays: []\n"


def test_every_picture_is_one(ran: list[Any]) -> None:
    outputs = [output for cell in ran for output in cell.outputs if "data" in output]
    pictures = [output.data["image/png"] for output in outputs if "image/png" in output.data]
    assert len(pictures) == 6
    for picture in pictures:
        with Image.open(io.BytesIO(b64decode(picture))) as image:
            assert min(image.size) > 100
            extrema: Any = image.convert("L").getextrema()
            assert extrema[0] < 80  # letters, pixels or axes on white
            assert extrema[1] == 255
