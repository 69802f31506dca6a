"""The notebook runs from top to bottom, and shows what its text says."""

from __future__ import annotations

import ast
import importlib
import io
import json
import re
import sys
import venv
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.helpers import ROOT, environment, run

PATH = ROOT / "scripts" / "tour.ipynb"


def cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


# The cells whose pictures are kept, without images of the dataset: what the model draws, and codes.
KEPT = ("history = fit(", "ellipses(panels", "manifold(models")


def test_it_is_kept_in_short_cells_with_three_small_pictures_and_no_other_output() -> None:
    """Each picture has an alternative text. After a run of the notebook, clear the rest."""
    assert PATH.stat().st_size < 300_000
    notebook = json.loads(PATH.read_text(encoding="utf-8"))
    for cell in cells(notebook):
        assert cell["execution_count"] is None
        assert len(cell["source"]) <= 20
        kept = any(word in "".join(cell["source"]) for word in KEPT)
        assert len(cell["outputs"]) == kept
        for output in cell["outputs"]:
            assert list(output["data"]) == ["image/png"]
            assert len(output["metadata"]["image/png"]["alt"]) > 80
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


def fresh_python(folder: Path) -> str:
    """A Python that finds the packages of this one, but not npvae, which may be installed here."""
    venv.create(folder, symlinks=True)
    found = [path for path in sys.path if path.endswith("site-packages")]
    (where,) = folder.glob("[Ll]ib/**/site-packages")
    (where / "others.pth").write_text("\n".join(found))  # the .pth files in there do not count
    python = str(next(folder.glob("*/python")))
    look = "import importlib.util; print(importlib.util.find_spec('npvae'))"
    if run([python, "-c", look], cwd=folder, env=without_npvae()).stdout != "None\n":
        pytest.skip("npvae is installed, and not as editable")
    return python


def without_npvae() -> dict[str, str]:
    return {name: value for name, value in environment().items() if name != "PYTHONPATH"}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The code cells after a run with drawn digits, one epoch at a time, in a fresh kernel."""
    pytest.importorskip("nbclient", reason="nbclient runs the notebook")
    nbformat = pytest.importorskip("nbformat", reason="nbclient runs the notebook")
    pytest.importorskip("ipykernel", reason="nbclient runs the notebook in ipykernel")
    notebook = nbformat.read(PATH, as_version=4)
    for cell in notebook.cells:
        cell.source = cell.source.replace("load_dataset()", 'load_dataset("drawn-digits")')
        cell.source = cell.source.replace("epochs=5", "epochs=1")
    execute(notebook, PATH.parent, fresh_python(tmp_path_factory.mktemp("fresh")))
    return cells(notebook)


def execute(notebook: Any, folder: Path, python: str) -> None:
    import nbclient

    place = {"metadata": {"path": str(folder)}}
    client = nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources=place)
    spec: Any = client.create_kernel_manager().kernel_spec
    spec.argv[0] = python
    client.execute(env=without_npvae())


@pytest.mark.parametrize(("place", "clone"), [("away", ""), ("beside", "a clone")])
def test_away_from_its_clone_it_uses_one_beside_it_or_says_what_to_do(
    place: str, clone: str, tmp_path: Path
) -> None:
    """And installs nothing that happens to lie in the folder above, such as another project."""
    nbclient = pytest.importorskip("nbclient", reason="nbclient runs the notebook")
    nbformat = pytest.importorskip("nbformat", reason="nbclient runs the notebook")
    (tmp_path / "pyproject.toml").write_text("a project that cannot be installed")
    (tmp_path / place).mkdir()
    if clone:
        (tmp_path / place / clone).symlink_to(ROOT)
    notebook = nbformat.read(PATH, as_version=4)
    notebook.cells = cells(notebook)[:1]
    notebook.cells[0].source += "\nimport npvae\nprint(npvae.__file__)"
    python = fresh_python(tmp_path / "fresh")
    if clone:
        execute(notebook, tmp_path / place, python)
        printed = notebook.cells[0].outputs[-1].text.split()[-1]
        assert printed == str(ROOT / "npvae" / "__init__.py")
    else:
        with pytest.raises(nbclient.exceptions.CellExecutionError, match="Upload its clone"):
            execute(notebook, tmp_path / place, python)


def test_it_installs_what_the_package_needs() -> None:
    needs = re.search("^dependencies = (.*)$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert needs
    first = "".join(cells(json.loads(PATH.read_text(encoding="utf-8")))[0]["source"])
    assert first.splitlines()[0].split()[3:] == needs[1].strip("[]").split(", ")


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
