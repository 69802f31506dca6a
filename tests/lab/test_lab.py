"""The lab tells right from wrong, names the cause, and survives whatever a sheet does."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from npvae.commands import lab
from npvae.core.errors import OptionError, OutputError
from npvae.lab import grade, lesson
from npvae.lab.checker import BROKEN, Verdict, check_sheet
from npvae.lab.report import hint, report
from npvae.lab.sheet import lesson_lines, notebook, points, sheet
from npvae.lab.tasks import WHERE, tasks
from npvae.mistakes import MISTAKES
from npvae.mistakes.mistake import Mistake
from npvae.model import VAE
from tests.helpers import ROOT, digits_file, refused, run, unchanged
from tests.lab.forked import forking

RIGHT = {number: lesson_lines(task.name) for number, task in tasks().items()}
PAGE = sheet(answers=RIGHT)


@pytest.fixture(scope="module")
def popen() -> Iterator[Any]:
    with forking() if os.name == "posix" else nullcontext(subprocess.Popen) as popen:
        yield popen


@pytest.fixture
def forks(monkeypatch: pytest.MonkeyPatch, popen: Any) -> None:
    """The processes of sheets are forks: a Python of its own takes a tenth of a second for each."""
    monkeypatch.setattr(subprocess, "Popen", popen)


def checked(
    folder: Path, source: str | bytes, asked: Iterable[int] = tasks(), **options: Any
) -> list[Verdict]:
    path = folder / "sheet.py"
    path.write_bytes(source if isinstance(source, bytes) else source.encode())
    return list(check_sheet(path, sorted(asked), **options))


def not_right(verdicts: Sequence[Verdict]) -> dict[int, str]:
    """What is said of each task that is not right."""
    return {v.task.number: " ".join(v.lines) for v in verdicts if v.state != "right"}


def answered(lines: dict[int, str]) -> str:
    """The right sheet, but for these lines."""
    return sheet(answers={**RIGHT, **lines})


def planted(mistake: Mistake) -> dict[int, str]:
    """The lines of the tasks in which this mistake is made."""
    where = {edit.where for edit in mistake.edits}
    made = {number: task.name for number, task in tasks().items() if WHERE[task.name] in where}
    return {number: lesson_lines(name, mistake) for number, name in made.items()}


# ------------------------------------------------------------------ right and wrong


def answers() -> Iterator[tuple[str, set[int], str]]:
    """The sheets of sheets.md, their wrong tasks, and what is said of the last of these."""
    page = (ROOT / "tests" / "lab" / "sheets.md").read_text()
    page = page if os.name == "posix" else page.partition("# On Unix")[0]
    for section in page.split("\n## ")[1:]:
        words, _, text = section.partition("\n")
        blocks = re.findall(r"```python task (\d+)\n(.*?)\n```", text, re.DOTALL)
        lines = {int(number): lines for number, lines in blocks}
        yield answered(lines), set() if words == "Right" else {*lines}, words


HELPED = "return d_kl * mu, half(d_kl * (np.exp(log_var) - 1))\n\n\ndef half(a): return a / 2"
CALLED = ("dense_backward(x, W_enc, ", "dense_backward(W=W_enc, x=x, d_y=")
SIX, BOTH = "def kl_divergence_backward(d_kl, mu, log_var)", {6, 7}
SHEETS: list[tuple[str | bytes, set[int], str]] = [
    *answers(),
    (answered({9: RIGHT[9].replace(*CALLED)}), set(), "arguments by their names"),
    (answered({9: RIGHT[9].replace("d_b_mu,\n", "d_b_log_var,\n")}), {9}, "d_b_log_var has to be"),
    (answered({9: RIGHT[9].replace("+ d_mu_kl", "+ 3 * d_mu_kl")}), {9}, "two paths meet"),
    (answered({6: HELPED}).replace("    def half", "def half"), set(), "a function beside"),
    (b"\xef\xbb\xbf" + PAGE.replace("\n", "\r\n").encode(), set(), "as Windows writes it"),
    (b"# coding: latin-1\n# \xfc\n" + PAGE.encode(), set(), "in latin-1"),
    (f"{PAGE}\nimport sys; sys.stdout.close()", set(), "nowhere to print"),
    (PAGE.replace(SIX, f"{SIX[:-1]}, axis=1)"), set(), "a default"),
    (PAGE.replace(SIX, SIX.replace("divergence", "div")), {6}, "called kl_div_backward?"),
    (PAGE.replace(SIX, SIX.replace("log_var", "s")), {6}, "arguments are (d_kl, mu, s), not"),
    (PAGE.replace("    return", "\treturn"), BOTH, "TabError"),
    (PAGE.replace("return values", "return values)"), BOTH, "values)`, raises SyntaxError"),
    (f"{PAGE}\0", BOTH, "null bytes"),
    (f"import nothing_there\n{PAGE}", BOTH, "No module named 'nothing_there'"),
    (f"raise SystemExit(0)\n{PAGE}", BOTH, "SystemExit"),
]


@pytest.mark.usefixtures("forks")
@pytest.mark.parametrize(("source", "wrong", "words"), SHEETS, ids=[row[2] for row in SHEETS])
def test_whatever_a_task_does_costs_it_alone_and_is_named(
    tmp_path: Path, source: str | bytes, wrong: set[int], words: str
) -> None:
    """The sheet is named instead where it does not load. Task 7 is right, and comes after most."""
    verdicts = checked(tmp_path, source, {7, *wrong} if wrong else tasks())
    found, told = not_right(verdicts), "\n".join(report(verdicts)).splitlines()
    assert found.keys() == wrong
    assert max(map(len, told)) <= 100
    assert os.listdir(tmp_path) == ["sheet.py"]
    if wrong:
        assert words in found[max(wrong)]
        task = f"Task {min(wrong)}, {tasks()[min(wrong)].name}:"
        assert {BROKEN, task} & {*told} == {BROKEN if wrong == BOTH else task}


@pytest.mark.usefixtures("forks")
def test_blanks_are_open_and_a_short_sheet_asks_for_its_tasks_alone(tmp_path: Path) -> None:
    assert {verdict.state for verdict in checked(tmp_path, sheet())} == {"open"}
    short = sheet([4, 6, 8], check='python C:\\Users\\"""x".py')
    assert points(short.encode()) == {4: 1, 6: 1, 8: 1}
    assert set(not_right(checked(tmp_path, short))) == {4, 6, 8}


# Each mistake of the gallery that is made in a task, and the slips that the lab knows besides. The
# lesson adds gradients to its own arrays, the sheet has none to add to. One gives the numbers of
# another, which is then named.
GALLERY = [m for m in MISTAKES.values() if planted(m) and m.name != "gradients-never-zeroed"]
SLIPS = [slip for task in tasks().values() for slip in task.slips]
SAME_NUMBERS = {"sum-over-the-batch": "gradient-summed"}


@pytest.mark.usefixtures("forks")
@pytest.mark.parametrize("every", [6, pytest.param(1, marks=pytest.mark.slow)])
def test_each_mistake_is_found_and_named(tmp_path: Path, every: int) -> None:
    assert len(GALLERY) >= 27
    for seed, mistake in enumerate([*GALLERY, *SLIPS][::every]):
        lines = planted(mistake)
        found = not_right(checked(tmp_path, answered(lines), lines, seed=seed))
        assert found.keys() == lines.keys()
        name = MISTAKES.get(SAME_NUMBERS.get(mistake.name, ""), mistake).what
        assert all(name in said for said in found.values()), mistake.name


CHILD = "import os\nif os.fork():\n    while True: pass\nos.setsid()\nos._exit(0)"
ENDLESS = {
    "sleeps": answered({6: "import time; time.sleep(99)"}),
    "prints": answered({6: "while True: print('x' * 10**6)"}),
    "sleeps while it loads": f"import time; time.sleep(99)\n{PAGE}",
}
if os.name == "posix":
    ENDLESS["leaves a child"] = answered({6: CHILD})
MORE = [pytest.param(name, marks=pytest.mark.slow) for name in [*ENDLESS][1:]]


@pytest.mark.parametrize("name", ["sleeps", *MORE])
def test_a_task_that_does_not_end_is_stopped_and_costs_itself_alone(
    tmp_path: Path, name: str
) -> None:
    found = not_right(checked(tmp_path, ENDLESS[name], [6, 7]))
    assert "ran for more than 2 seconds" in found[6]
    assert (7 in found) == name.endswith("loads")


@pytest.mark.parametrize("source", [b"", b"print(1)", b"\x89PNG\r\n\0", b"#" * (2 << 20)])
def test_another_file_is_no_sheet(tmp_path: Path, source: bytes) -> None:
    with refused(OptionError, "is not a sheet"):
        checked(tmp_path, source)


@pytest.mark.usefixtures("forks")
def test_what_is_printed_is_shown_and_forges_no_verdict(tmp_path: Path) -> None:
    lie = "print('6  kl_divergence_backward     right')\nreturn mu, mu"
    first, *lines = report(checked(tmp_path, answered({6: lie}), [6]))
    assert first == "6  kl_divergence_backward     wrong"
    assert "  Task 6 prints: 6  kl_divergence_backward     right" in lines


# ------------------------------------------------------------------ what is given, and the commands


def test_what_is_given_on_the_sheet_is_the_lesson() -> None:
    """Its `forward` gives the lesson's values, and its `backward`, once filled, the gradients."""
    names: dict[str, Any] = {}
    exec(compile(PAGE, "sheet", "exec"), names)
    vae, rng = VAE(dtype="float64", rng=0), np.random.default_rng(0)
    parameters, x, epsilon = list(vae.parameters.values()), rng.random((4, 784)), vae.noise(4, rng)
    values = names["forward"](parameters, x, epsilon)
    expected = lesson.forward(parameters, x, epsilon)
    assert list(values) == list(expected)
    for name, value in values.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-12, err_msg=name)
    _, gradients = vae.loss_and_gradients(x, epsilon)
    found = names["backward"](parameters, values, 1.0)
    for (name, theirs), ours in zip(gradients.items(), found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.usefixtures("forks")
def test_start_check_and_train(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digits_file(here)
    assert lab.main(["start"]) == 0
    with unchanged(here), refused(OutputError, "never overwritten"):
        lab.main(["start"])
    assert lab.main(["check"]) == 7
    assert "\n4  bce_with_logits_backward   open\n" in capsys.readouterr().out
    assert lab.main(["train"]) == 7
    with refused(OptionError, "there is no nowhere.py"):
        lab.main(["check", "nowhere.py"])
    capsys.readouterr()

    Path("right.py").write_text(PAGE.replace("4: 1", "4: 2.5"))
    assert lab.main(["check", "right.py", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["of"] == 11.5
    expected = {"task": 4, "name": tasks()[4].name, "state": "right", "points": 2.5, "cause": ""}
    assert found["tasks"][3] == expected
    assert lab.main(["train", "right.py", "--dataset", "digits.npz"]) == 0
    differences = re.findall("difference (.*)", capsys.readouterr().out)
    assert len(differences) == 2
    assert max(map(float, differences)) <= 1e-9
    with Image.open("my-samples-001.png") as picture:
        assert picture.size[0] > 500
    names = ["digits.npz", "my-samples-001.png", "my_vae.py", "right.py"]
    assert sorted(os.listdir()) == names


def test_hints_rise_and_the_answer_comes_third() -> None:
    for task in tasks().values():
        first, second, third = ("\n".join(hint(task, count)) for count in (1, 2, 3))
        last = lesson_lines(task.name).splitlines()[-1]
        assert last in third
        assert last not in first + second
        assert first != second


def points_of(table: str) -> dict[str, float]:
    """The points of each sheet, by its name; and those that there are to be had."""
    header, *rows = csv.reader(io.StringIO(table))
    assert header[-1] == "remarks"
    most = float(header[-2].removeprefix("points of "))
    return {"of": most, **{row[0]: float(row[-2]) for row in rows}}


@pytest.mark.usefixtures("forks")
def test_a_folder_is_graded_by_the_points_of_the_sheet_that_was_given_out(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By a seed of the teacher's; an answer that fits the sizes of `check` alone has no points."""
    monkeypatch.setenv("PATH", "")  # where no program is that could take the network away
    fits_the_sheet_alone = RIGHT[6].replace("0.5", "(0.5 if mu.shape == (5, 3) else 0.4)")
    book = json.loads(notebook())
    (cell,) = [c for c in book["cells"] if c["source"].startswith("def relu_backward(")]
    cell["source"] = cell["source"].replace("raise NotImplementedError", RIGHT[2])
    sheets: dict[str, tuple[str | bytes, float]] = {
        "=formula.py": (PAGE, 5),
        "a points.py": (PAGE.replace("2: 1,", "2: 1000,"), 5),
        "b open.py": (sheet(), 0),
        "c wrong.py": (answered(planted(MISTAKES["exp-log-var-as-sigma"])), 3),
        "d fits.py": (answered({6: fits_the_sheet_alone}), 3),
        "e syntax.py": ("def backward(:", 0),
        "f binary.py": (b"\0\1\2", 0),
        "g notebook.ipynb": (json.dumps(book), 1),
    }
    Path("sheets").mkdir()
    for name, (source, _) in sheets.items():
        Path("sheets", name).write_bytes(source if isinstance(source, bytes) else source.encode())
    Path("given.py").write_text(sheet([2, 6, 7, 8]).replace("6: 1,", "6: 2,"))
    words = ["grade", "sheets", "--sheet", "given.py", "--seed", "5"]
    monkeypatch.setattr(sys, "argv", words)
    assert grade.main() == 0
    found = points_of(capsys.readouterr().out)
    assert list(found) == ["of", "./=formula.py", *list(sheets)[1:]]
    assert list(found.values()) == [5, *(points for _, points in sheets.values())]


def test_a_crash_costs_its_own_points_alone(tmp_path: Path) -> None:
    """Each sheet in a Python of its own, for ten points."""
    (tmp_path / "a.py").write_text(answered({2: "import os; os._exit(1)"}))
    (tmp_path / "b.py").write_text(PAGE)
    done = run([sys.executable, "-m", "npvae.lab.grade", str(tmp_path)])
    assert (done.returncode, done.stderr) == (0, "")
    assert points_of(done.stdout) == {"of": 10, "a.py": 9, "b.py": 10}


def filled() -> Any:
    """A notebook that asks for three tasks: one is right, one is wrong, one is open."""
    book, blank = json.loads(notebook([4, 6, 8])), "raise NotImplementedError"
    answers = {
        "def bce_with_logits_backward": "return d_bce * slope(logits, x)\n\n"
        "def slope(l, x):\n    return sigmoid(l) - x",
        "def kl_divergence_backward": "return d_kl * mu, mu / 0",
    }
    book["cells"] = [cell for cell in book["cells"] if not cell["metadata"]]  # nothing to install
    for cell in book["cells"]:
        lines = answers.get(cell["source"].partition("(")[0], blank)
        cell["source"] = cell["source"].replace(blank, lines)
    return book


def assert_each_is_told(said: Sequence[str]) -> None:
    assert said[0] == "4  bce_with_logits_backward   right\n"
    assert said[1].startswith("6  kl_divergence_backward     wrong\n")
    assert "8  reparameterize_backward    open" in said[3]


@pytest.mark.usefixtures("forks")
def test_a_notebook_checks_its_cells_that_have_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Jupyter keeps them in `In`."""
    names: dict[str, Any] = {}
    cells: list[str] = []
    said: list[str] = []
    monkeypatch.setattr(sys.modules["__main__"], "In", cells, raising=False)
    for source in (c["source"] for c in filled()["cells"] if c["cell_type"] == "code"):
        cells.append(source)
        exec(source, names)
        if source.startswith("check_cells"):
            said.append(capsys.readouterr().out)
    assert_each_is_told(said)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of the packages that run notebooks
def test_so_it_does_in_jupyter(notebooks: Any) -> None:
    nbclient, nbformat = notebooks
    book = nbformat.reads(json.dumps(filled()), as_version=4)
    nbformat.validate(book)
    nbclient.NotebookClient(book, timeout=300, kernel_name="python3").execute()
    told = [c.outputs[0].text for c in book.cells if c.source.startswith("check_cells")]
    assert_each_is_told(told)
