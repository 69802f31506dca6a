"""Every command that a message suggests is run here, as a shell would, and works.

A command stands at the end of a line, or two spaces before what follows it.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from npvae.commands.messages import Bounds, floor_and_baseline, summary
from npvae.datasets import Dataset
from npvae.losses import Loss
from npvae.runs.terminal import fitted
from tests.forks import Ending, Forks
from tests.helpers import ROOT, SCRIPTS, digits, digits_file

SMALL = ["--epochs", "2", "--hidden", "8", "--batch-size", "64", "--pictures-every", "2"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("it's a Prüf stand")
    digits_file(folder)
    (folder / "empty").mkdir()
    return folder


@pytest.fixture(scope="module")
def forks(home: Path) -> Iterator[Forks]:
    with closing(Forks(home)) as forks:
        yield forks


@pytest.fixture(scope="module")
def here(forks: Forks) -> Ending:
    """A run in runs/ that stays the newest one during the tests of this file."""
    return ran(forks, "train.py", "--dataset", "digits.npz", *SMALL)


@pytest.fixture(scope="module")
def elsewhere(forks: Forks) -> Ending:
    """A run in a folder of its own."""
    return ran(forks, "train.py", "--dataset", "digits.npz", *SMALL, "--out", "a run's place")


def ran(forks: Forks, script: str, *arguments: str, code: int = 0) -> Ending:
    ending = forks.run(arguments, script=script)
    assert ending.code == code, ending.err
    assert "Traceback" not in ending.err
    return ending


def commands(text: str) -> list[list[str]]:
    """All commands in a text: the name of a script of ours, and its arguments."""
    found = re.findall(r"(?<!\S)python (\S.*?)(?:  |$)", text, re.MULTILINE)
    lines = [shlex.split(line) for line in found]
    assert all(Path(script).parent in (ROOT / "scripts", Path("scripts")) for script, *_ in lines)
    return [[Path(script).name, *arguments] for script, *arguments in lines]


def run_all(forks: Forks, text: str, at_least: int = 1) -> list[Ending]:
    """Run all commands in a text."""
    found = commands(text)
    assert len(found) >= at_least, text
    return [ran(forks, *words) for words in found]


# ------------------------------------------------------------------ what to do next


@pytest.mark.parametrize("which", ["here", "elsewhere"])
def test_what_a_finished_run_suggests(
    which: str, forks: Forks, home: Path, request: pytest.FixtureRequest
) -> None:
    _, out, err = request.getfixturevalue(which)
    assert err == ""
    following = out.partition("Next:")[2]
    pages = re.findall(r"(?:look at|play with) (.*\.html)$", following, re.MULTILINE)
    assert [Path(page).name for page in pages] == ["report.html", "explorer.html"]
    assert all((home / page).is_file() for page in pages)
    traverse, evaluate = commands(following)
    assert traverse[:2] == ["generate.py", "traverse"]
    assert evaluate[0] == "evaluate.py"
    if which == "here":
        ran(forks, *traverse)
    verdict = ran(forks, *evaluate).out
    path = verdict.splitlines()[0] if which == "elsewhere" else ""
    assert path in ("", "a run's place/last.npz") or path.startswith("model")
    assert commands(verdict)[0][:2] == ["generate.py", "traverse"]
    run_all(forks, verdict)


def test_what_each_picture_suggests(forks: Forks, here: Ending, elsewhere: Ending) -> None:
    """Each command suggests the next, in a circle, and each names the model that was asked for."""
    for given in ([], ["--checkpoint", "a run's place"]):
        words, seen = ["generate.py", *given], list[str]()
        while (mode := words[1] if words[1:2] != given[:1] and words[1:] else "prior") not in seen:
            seen.append(mode)
            ending = ran(forks, *words)
            place = "a run's place" if given else "runs"
            assert re.search(rf"^picture +{place}", ending.out, re.MULTILINE)
            (words,) = commands(ending.out)
        assert {"prior", "reconstruct", "interpolate", "traverse", "manifold"} <= set(seen)


# ------------------------------------------------------------------ what to do about it


def test_a_folder_in_use(forks: Forks, elsewhere: Ending) -> None:
    """It has all its epochs already, so the suggestion asks for more."""
    arguments = ["--dataset", "digits.npz", *SMALL, "--out"]
    ran(forks, "train.py", *arguments, "used")
    refused = ran(forks, "train.py", *arguments, "used", code=6)
    assert refused.err.startswith(
        "error: the folder used is not empty: a new run would overwrite what it holds.\n"
        "Choose another one with --out, or omit --out.\n"
        "Or continue the run in it:  python "
    )
    assert commands(refused.err) == [["train.py", "--resume", "used", "--epochs=12"]]
    run_all(forks, refused.err)
    ran(forks, "train.py", *arguments, "another one")


def test_a_folder_in_use_by_a_run_that_cannot_have_more(forks: Forks) -> None:
    """Its schedule ends with its last epoch, so nothing is suggested that would be refused."""
    arguments = ["--dataset", "digits.npz", *SMALL, "--schedule", "cosine", "--out", "cosine"]
    ran(forks, "train.py", *arguments)
    refused = ran(forks, "train.py", *arguments, code=6)
    assert refused.err.count("\n") == 2
    refused = ran(forks, "train.py", "--resume", "cosine", code=2)
    assert "for more, start a new run" in refused.err


def test_a_run_that_has_all_its_epochs(forks: Forks) -> None:
    arguments = ["--dataset", "digits.npz", *SMALL, "--out", "finished"]
    ran(forks, "train.py", *arguments)
    refused = ran(forks, "train.py", "--resume", "finished", code=2)
    more = re.search(r"Ask for more with (--epochs \d+)", refused.err)
    assert more
    ran(forks, "train.py", "--resume", "finished", *more[1].split())


def test_no_model_at_all(forks: Forks) -> None:
    """The command alone would train for twenty epochs; here it gets less to do."""
    for script in ("evaluate.py", "generate.py"):
        refused = forks.run([], script=script, folder="empty")
        assert refused.code == 4
        (words,) = commands(refused.err)
        assert words == ["train.py"]
    refused = forks.run([*SMALL, "--dataset", "../digits.npz"], script=words[0], folder="empty")
    assert refused.code == 0
    assert forks.run([], script="evaluate.py", folder="empty").code == 0


def test_an_unknown_class(forks: Forks, here: Ending) -> None:
    """Each of the names suggested instead is a class."""
    refused = ran(forks, "generate.py", "class", "thing", code=2)
    named = re.search(r"^Its classes: (.+)\.$", refused.err, re.MULTILINE)
    assert named
    for name in named[1].split(", "):
        ran(forks, "generate.py", "class", name)


def test_a_change_that_a_resumed_run_does_not_allow(forks: Forks) -> None:
    ran(forks, "train.py", "--dataset", "digits.npz", *SMALL, "--out", "changed")
    arguments = ["--resume", "changed", "--epochs", "3"]
    refused = ran(forks, "train.py", *arguments, "--latent-dim", "3", code=2)
    assert "Omit --latent-dim, or start a new run." in refused.err
    ran(forks, "train.py", *arguments)


def test_a_picture_that_exists(forks: Forks, here: Ending) -> None:
    arguments = ["generate.py", "--count", "4", "--out", "my picture.png"]
    ran(forks, *arguments)
    refused = ran(forks, *arguments, code=6)
    assert "Choose another name or a folder with --out, or omit --out." in refused.err
    ran(forks, *arguments[:-1], "another.png")
    ran(forks, *arguments[:-1], "a folder")
    ran(forks, *arguments[:-2])


def test_data_that_have_moved(forks: Forks, home: Path) -> None:
    (home / "moved.npz").write_bytes((home / "digits.npz").read_bytes())
    ran(forks, "train.py", "--dataset", "moved.npz", *SMALL, "--out", "moved run")
    (home / "moved.npz").unlink()
    refused = ran(forks, "train.py", "--resume", "moved run", "--epochs", "3", code=3)
    assert refused.err.count("\n") <= 4
    arguments = ["--resume", "moved run", "--epochs", "3", "--dataset", "digits.npz"]
    ran(forks, "train.py", *arguments)
    ran(forks, "evaluate.py", "--checkpoint", "moved run")  # knows where they are now


def test_a_run_that_diverged_and_how_it_may_start_again(forks: Forks) -> None:
    arguments = ["--dataset", "digits.npz", *SMALL, "--optimizer", "sgd", "--out", "diverged"]
    diverged = ran(forks, "train.py", *arguments, "--learning-rate", "0.3", code=5)
    assert diverged.err.count("\n") <= 4
    (words,) = commands(diverged.err)
    assert words[words.index("--learning-rate") + 1] == "0.03"
    ran(forks, *words)


def test_a_run_without_an_epoch_and_how_to_start_it_again(forks: Forks, home: Path) -> None:
    ran(forks, "train.py", "--dataset", "digits.npz", *SMALL, "--out", "no epoch")
    for path in home.glob("no epoch/**/*.*"):
        if path.name != "run.json":
            path.unlink()
    for script, option in (("train.py", "--resume"), ("evaluate.py", "--checkpoint")):
        refused = ran(forks, script, option, "no epoch", code=4)
        assert "Its run ended before the first epoch was finished." in refused.err
    run_all(forks, refused.err)
    ran(forks, "evaluate.py", "--checkpoint", "no epoch")


def test_experiments_without_runs(forks: Forks) -> None:
    refused = ran(forks, "experiments.py", "presets", "--only-tables", "--out", "none", code=4)
    assert refused.err.startswith("error: there are no finished runs in none.\n")
    assert commands(refused.err) == [["experiments.py", "presets", "--out", "none"]]


# ------------------------------------------------------------------ the summary


@pytest.mark.parametrize(
    ("images", "loss", "said"),
    [
        ("digits", 150.0, "% of the way"),
        ("digits", 700.0, "train for longer"),
        ("digits", 20.0, "impossible"),
        ("grey", 527.0, "nothing to learn"),
        ("grey", 400.0, "impossible"),
    ],
)
def test_the_summary_says_where_the_loss_is(images: str, loss: float, said: str) -> None:
    """For losses between baseline and floor, and for impossible ones: never "100008604 %"."""
    train, test = digits(200, 60)
    if images == "grey":
        train, test = np.full_like(train, 100), np.full_like(test, 100)
    sets = (Dataset("any", x, np.zeros(len(x), np.uint8), ("any",), "drawn") for x in (train, test))
    text = summary(Loss(loss, 0.0), floor_and_baseline(*sets))
    assert said in text
    shares = re.findall(r"(\S+)% of the way", text)
    assert all(0 <= int(share) <= 100 for share in shares)
    assert "Posterior collapse" not in summary(Loss(loss, 0.0), Bounds(20, 100), [True, False])
    assert "Posterior collapse" in summary(Loss(loss, 0.0), Bounds(20, 100), [False, False])


@pytest.mark.parametrize("floor", [0.0, 190.0])
def test_a_loss_below_the_floor_by_rounding_alone_is_possible(floor: float) -> None:
    bounds, rounding = Bounds(floor, 400.0), 1e-4 * (1 + floor)
    for share, is_impossible in ((-1.0, False), (0.9, False), (1.1, True)):
        text = summary(Loss(floor - share * rounding, 0.0), bounds)
        assert ("impossible" in text) == is_impossible


# ------------------------------------------------------------------ help


@pytest.mark.parametrize("script", [script.name for script in SCRIPTS])
def test_the_examples_in_the_help_are_understood(script: str, forks: Forks) -> None:
    """All words except the last one, which is there to be refused."""
    examples = re.findall(
        r"python (scripts/.*?)(?:  |$)", ran(forks, script, "--help").out, re.MULTILINE
    )
    for line in examples:
        name, *words = shlex.split(line)
        if "--help" in words:
            continue
        refused = ran(forks, Path(name).name, *words, "--no-such-option", code=2)
        assert "unrecognized arguments: --no-such-option " in refused.err, line


# ------------------------------------------------------------------ what fits a narrow terminal


@pytest.mark.parametrize(
    "line",
    [
        "Continue with:  python scripts/train.py --resume 'a run'\"'\"'s place' --epochs 20",
        "  python3 'my scripts/generate.py' --checkpoint 'two words' traverse --index 7",
    ],
)
def test_a_command_stays_one_line_so_that_it_can_be_copied(line: str) -> None:
    assert fitted(line, 40) == line


def test_prose_with_the_word_python_is_prose() -> None:
    text = "this takes python and half a minute of your time, no more"
    assert fitted(text, 40).count("\n") == 1


def test_what_fits_stays_as_it_is() -> None:
    for line in ("", "short", "  spaces   inside and at the end  ", "x" * 40):
        assert fitted(line, 40) == line


def test_prose_is_broken_between_words_and_goes_on_where_it_began() -> None:
    text = "data      digits.npz: 200 training and 60 test images, isn't it"
    assert fitted(text, 40) == (
        "data      digits.npz: 200 training and\n          60 test images, isn't it"
    )


# ------------------------------------------------------------------ in the source


def test_no_command_is_written_but_by_the_function_for_it() -> None:
    """So that the path of the script is right from every folder, and odd names are quoted."""
    examples = [ROOT / "npvae" / "commands" / script.name for script in SCRIPTS]
    for path in sorted({*(ROOT / "npvae").rglob("*.py")} - {*examples}):
        tree = ast.parse(path.read_text())
        docs = {
            ast.get_docstring(node, clean=False)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef)
        }
        texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)} - docs
        assert not [text for text in texts if isinstance(text, str) and "python scripts" in text]
