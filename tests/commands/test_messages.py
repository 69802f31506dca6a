"""Every command that a message suggests is run here, as a shell would, and works.

A command stands at the end of a line, or two spaces before what follows it.
"""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from npvae.commands.messages import Bounds, floor_and_baseline, summary
from npvae.datasets import Dataset
from npvae.losses import Loss
from tests.forks import Forks
from tests.helpers import ROOT, SCRIPTS, Said, digits_file, from_clone

SMALL = "--epochs 2 --hidden 8 --batch-size 64 --pictures-every 2"
TRAIN = f"train.py --dataset digits.npz {SMALL}"


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    folder = tmp_path_factory.mktemp("it's a Prüf stand")
    digits_file(folder)
    (folder / "empty").mkdir()
    with closing(Forks(folder)) as forks:
        yield forks


@pytest.fixture(scope="module")
def newest(forks: Forks) -> str:
    """The output of a run in runs/ that stays the newest one during the tests of this file."""
    return ran(forks, TRAIN)


def ran(forks: Forks, line: str, code: int = 0, folder: str = ".") -> str:
    """What a command line prints, or says if it is refused. Another one than ours just runs."""
    script, *arguments = shlex.split(line)
    if not script.endswith(".py"):
        return str(subprocess.run([script, *arguments], cwd=forks.folder, check=True))
    ending = forks.run(arguments, script=script, folder=folder)
    assert ending.code == code, (line, ending)
    assert "Traceback" not in ending.err
    assert code or ending.err == ""
    return ending.err if code else ending.out


def commands(text: str) -> list[str]:
    """All commands in a text, from the name of a script of ours on."""
    found = re.findall(r"(?<!\S)python (\S.*?)(?:  |$)", text, re.MULTILINE)
    lines = [shlex.split(line) for line in found]
    assert all(Path(script).parent in (ROOT / "scripts", Path("scripts")) for script, *_ in lines)
    return [shlex.join([Path(script).name, *arguments]) for script, *arguments in lines]


# ------------------------------------------------------------------ what to do next


@pytest.mark.parametrize("out", ["", "a run's place"])
def test_what_a_finished_run_suggests(out: str, forks: Forks, newest: str) -> None:
    text = ran(forks, f"{TRAIN} --out {shlex.quote(out)}") if out else newest
    named = ["--checkpoint", out] if out else []
    following = text.partition("Next:")[2]
    pages = re.findall(r"(?:look at|play with) (.*\.html)$", following, re.MULTILINE)
    assert [Path(page).name for page in pages] == ["report.html", "explorer.html"]
    assert all((forks.folder / page).is_file() for page in pages)
    traverse, evaluate = commands(following)
    assert traverse.startswith("generate.py traverse")
    verdict = ran(forks, evaluate)
    assert (out or "runs") in verdict.partition("\n")[0]
    again, *_ = commands(verdict)
    assert again.startswith("generate.py traverse")
    for line in commands(verdict):
        ran(forks, line)
    # Each picture suggests the next, in a circle, and names the model that was asked for.
    seen, line = list[list[str]](), shlex.join(["generate.py", *named])
    while (mode := shlex.split(line)[1:2]) not in seen:
        seen.append(mode)
        printed = ran(forks, line)
        assert re.search(rf"^picture +{out or 'runs'}", printed, re.MULTILINE)
        (line,) = commands(printed)
    assert all([mode] in seen for mode in ("reconstruct", "interpolate", "traverse", "manifold"))


# ------------------------------------------------------------------ what to do about it

# What was done before, what is refused then, its exit code, and what works instead. The commands
# that a message suggests are run, too.
REFUSED: dict[str, tuple[list[str], str, int, list[str]]] = {
    "a folder in use": ([f"{TRAIN} --out used"], f"{TRAIN} --out used", 6, [f"{TRAIN} --out new"]),
    "a folder of a run that cannot have more": (
        [f"{TRAIN} --schedule cosine --out cosine"],
        f"{TRAIN} --schedule cosine --out cosine",
        6,
        [],
    ),
    "a run whose schedule has ended": ([], "train.py --resume cosine", 2, []),
    "a run that has all its epochs": (
        [f"{TRAIN} --out finished"],
        "train.py --resume finished",
        2,
        ["train.py --resume finished --epochs 12"],
    ),
    "a change that a resumed run does not allow": (
        [f"{TRAIN} --out changed"],
        "train.py --resume changed --epochs 3 --latent-dim 3",
        2,
        ["train.py --resume changed --epochs 3"],
    ),
    "an unknown class": ([], "generate.py class thing", 2, ["generate.py class 0"]),
    "a picture that exists": (
        ["generate.py --count 4 --out 'my picture.png'"],
        "generate.py --count 4 --out 'my picture.png'",
        6,
        [
            "generate.py --count 4 --out another.png",
            "generate.py --count 4 --out 'a folder'",
            "generate.py --count 4",
        ],
    ),
    "data that have moved": (
        [
            "cp digits.npz moved.npz",
            f"train.py --dataset moved.npz {SMALL} --out moved",
            "rm moved.npz",
        ],
        "train.py --resume moved --epochs 3",
        3,
        [
            "train.py --resume moved --epochs 3 --dataset digits.npz",
            "evaluate.py --checkpoint moved",  # knows where they are now
        ],
    ),
    "a run that diverged": (
        [],
        f"{TRAIN} --optimizer sgd --out diverged --learning-rate 0.3",
        5,
        [],
    ),
    "a run without an epoch": (
        [f"{TRAIN} --out 'no epoch'", "find 'no epoch' -type f ! -name run.json -delete"],
        "evaluate.py --checkpoint 'no epoch'",
        4,
        ["evaluate.py --checkpoint 'no epoch'"],
    ),
    "a run without an epoch to go on from": (
        [f"{TRAIN} --out none", "find none -type f ! -name run.json -delete"],
        "train.py --resume none",
        4,
        ["evaluate.py --checkpoint none"],
    ),
}


def test_what_is_refused_says_what_works_instead(forks: Forks, newest: str, said: Said) -> None:
    told = {}
    for case, (before, refused, code, after) in REFUSED.items():
        for line in before:
            ran(forks, line)
        message = ran(forks, refused, code)
        assert message.count("\n") <= 4, message
        told[case] = re.sub("in epoch .* before", "in SOME EPOCH", message)
        for line in [*commands(message), *after]:
            ran(forks, line)
    # The commands of these would train for long; here they get less to do.
    for script in ("evaluate.py", "generate.py"):
        told[f"{script} without a run"] = ran(forks, script, 4, "empty")
    (line,) = commands(told["generate.py without a run"])
    ran(forks, f"{line} {SMALL} --dataset ../digits.npz", folder="empty")
    ran(forks, "evaluate.py", folder="empty")
    none = "experiments.py presets --only-tables --out none"
    told["experiments without runs"] = ran(forks, none, 4)
    place = str(forks.folder)
    said(
        "what to do about it", {k: from_clone(t).replace(place, "FOLDER") for k, t in told.items()}
    )


# ------------------------------------------------------------------ the summary


def test_the_summary_says_where_the_loss_is(said: Said) -> None:
    """For losses between baseline and floor, and for impossible ones: never "100008604 %"."""
    bounds = Bounds(56.1, 197.02)
    told = {
        str(loss): summary(Loss(loss, 0.0), bounds) for loss in (700.0, 197.02, 150.0, 56.1, 20.0)
    }
    grey = np.full((200, 28, 28), 100, np.uint8)
    sets = [Dataset("any", grey, np.zeros(200, np.uint8), ("any",), "drawn") for _ in range(2)]
    for loss in (527.0, 400.0):
        told[f"{loss}, all grey"] = summary(Loss(loss, 0.0), floor_and_baseline(*sets))
    for active in ([True, False], [False, False]):
        told[f"active: {active}"] = summary(Loss(150.0, 0.0), bounds, active)
    said("summaries", told)


@pytest.mark.parametrize("floor", [0.0, 190.0])
def test_a_loss_below_the_floor_by_rounding_alone_is_possible(floor: float) -> None:
    bounds, rounding = Bounds(floor, 400.0), 1e-4 * (1 + floor)
    for share, is_impossible in ((-1.0, False), (0.9, False), (1.1, True)):
        text = summary(Loss(floor - share * rounding, 0.0), bounds)
        assert ("impossible" in text) == is_impossible


# ------------------------------------------------------------------ help, and the source


@pytest.mark.parametrize("script", [script.name for script in SCRIPTS])
def test_the_examples_in_the_help_are_understood(script: str, forks: Forks) -> None:
    """All words except the last one, which is there to be refused."""
    text = ran(forks, f"{script} --help")
    for line in re.findall(r"python scripts/(.*?)(?:  |$)", text, re.MULTILINE):
        if "--help" not in line:
            refused = ran(forks, f"{line} --no-such-option", 2)
            assert "unrecognized arguments: --no-such-option " in refused, line


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
