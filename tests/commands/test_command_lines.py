"""How commands read their options: help, spellings, hints, and bad command lines.

A bad command line is refused in one line that names the value, and before a heavy import.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from npvae.commands import cli
from npvae.commands.train import parsed
from tests.helpers import ROOT, SCRIPTS, environment, run

NAMES = [script.name for script in SCRIPTS]

# By script, separated by |. What the message must name is in brackets.
BAD = """
all: [--no-such-option] | --seed [-1] | --seed [x7] | --seed [1.5] | --seed [1e3] | [--seed]
all: --seed [99999999999999999999] | --quiet=[yes] | [--qui] | [surplus-word] | --quiet [surplus]
train.py: --epochs [0] | --epochs [-3] | --epochs [2.5] | --epochs [twenty] | --epochs [nan]
train.py: [--epochs] | [--epochs]= | [--epoch] 5 | --epochs 5 [6] | --epochs [9007199254740993]
train.py: --epochs [0x10] | --epochs [+-1] | [epochs=5] | [-epochs] 5 | --epochs [\u0663x]
train.py: --latent-dim [0] | --latent-dim [1,2] | [--latent] 5 | --latent-dim [-10]
train.py: --batch-size [-512] | --batch-size [5e2] | --batch-size [1_000_] | [--batch-size]
train.py: --hidden [0] | --hidden [128,] | --hidden [128,,64] | --hidden [128x64] | --hidden [-128]
train.py: --hidden [12.5] | --hidden [4294967296] | [--hidden] | [--hidden-dims] 128
train.py: --learning-rate [0] | --learning-rate [-0.001] | --learning-rate=[-1e-3] | --lr [fast]
train.py: --learning-rate [nan] | --learning-rate [inf] | --learning-rate [1e-400] | --lr [1e400]
train.py: --learning-rate [0,001] | --beta [-1] | --beta [NaN] | --beta [infinity] | --beta [1/2]
train.py: --warmup [-1] | --warmup [inf] | [--warmup] | --kl-warmup [-0.5] | --kl-warmup [slow]
train.py: --pictures-every [-1] | --pictures-every [1.0] | --validation [-1] | --validation [10%]
train.py: --activation [no-such] | --activation [ReLU] | --activation [relu,tanh] | [--activation]
train.py: --optimizer [no-such] | --optimizer [Adam] | [--optimizer]= | --schedule [linear]
train.py: --augment [spin] | --augment [shift,spin] | --augment [shift,shift] | --augment [shift,]
train.py: [--augment]= | --augment [SHIFT] | [--augment] --epochs 1 | --augment shift [rotate]
train.py: --preset [none] | --preset [Tutorial] | --preset [tutorial,best] | [--preset]
train.py: --out here [--resume] there | --resume there [--out] here | [--checkpoint] there
train.py: --resume there [--preset] tuned | --preset tuned [--resume] there | [--resume]=
train.py: [--extra-data]= | [--dataset] | [--dataset]= | [--data-dir] | [--data-dir]= | [--out]=
evaluate.py: --samples [0] | --samples [many] | --images [-1] | [--checkpoint] | [--dataset]=
evaluate.py: --json=[file] | --binarize=[no] | [--resume] there
generate.py: digit --help=[no] | digit [10] | digit [-1] | digit [seven] | class --help=[no]
generate.py: interpolate 1 2 [3] | interpolate 1 [-2] | interpolate [a] b | interpolate 1
generate.py: digit | class | prior --scale [0.5]
generate.py: reconstruct [--index] | reconstruct --index 1 [x] | reconstruct --split [both]
generate.py: traverse --index [-7] | traverse --index 1 [2] | scatter [--split] test | [priors]
generate.py: manifold --count [0] | manifold --scale [1.5] | prior [--index] 3 | [PRIOR] | [--out]
experiments.py: [some] | presets [changes] | --seeds [0] | --seeds [1,2] | --jobs [0] | [--jobs]
experiments.py: [--out]= | [--data-dir]= | --only-tables=[yes] | [--only] | all [--resume]
benchmark.py: --rounds [0] | --batch-sizes [512,] | --batch-sizes [big] | --sweep=[3] | [--json]
compare.py: [one] | [--out] | one two [--checkpoint] three | one two [--out]=
compare_torch.py: --hidden [0] | --latent-dim [0] | --activation [no-such] | --optimizer [no-such]
compare_torch.py: --batch-size [none] | --beta [-0.1] | --classes [257]
gradcheck.py: --seed [0.5] | [--eps] 1e-5 | [everything] | --trace [big] | --steps [--trace]
gradcheck.py: --only [] | [--out] here | --network [--checkpoint] there
lab.py: [begin] | [START] | start --tasks [0] | start --tasks [4,4] | start [--tasks] | [--hint]
lab.py: check --hint [11] | check --hint [x] | start [--json] | check [--epochs] 3 | check one [two]
lab.py: check --hint 4 one [two] | check one --hint 4 [two]
lab.py: train [--hint] 4 | train --epochs [0] | check [--out] there | start [--dataset] mnist
mistakes.py: [noise-to-small] | --epochs [0] | --images [some] | --all [--quiz] | z-is-mu [--all]
mistakes.py: --quiz [--epochs] 1 | --quiz --images 2 [--data-dir] x | [--epochs] 1 | --all [--out] x
mistakes.py: [--seed] 1 | --quiz [--invert] | [--dataset] mnist
benchmark.py: --mpi [--rounds] 2 | --mpi [--sweep] | --mpi --rounds=1 [--data] .
"""

# Runs command lines one after the other; npvae itself may be imported, heavy packages may not.
CHILD = """
import contextlib, io, json, runpy, sys
HEAVY = ("numba", "llvmlite", "PIL", "torch")
tried = []

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name in HEAVY:
            tried.append(name)
            raise ImportError(name + " is not wanted here")

sys.meta_path.insert(0, Watch())
results = []
for script, arguments in json.load(sys.stdin):
    tried.clear()
    sys.argv = [script, *arguments]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            runpy.run_path(script, run_name="__main__")
            code = None
        except SystemExit as end:
            code = end.code
        except BaseException as error:
            code = repr(error)
    results.append([code, out.getvalue(), err.getvalue(), list(tried)])
print(json.dumps(results))
"""

Result = tuple[Any, str, str, list[str]]  # exit code, stdout, stderr, heavy imports tried


def outcomes(lines: Sequence[tuple[str, str]], folder: Path | None = None) -> list[Result]:
    """The results of command lines (script, arguments), all run in one child process."""
    asked = [[str(ROOT / "scripts" / script), arguments.split()] for script, arguments in lines]
    words = [sys.executable, "-W", "error", "-c", CHILD]
    env = environment(PYTHONIOENCODING="utf-8")
    child = run(words, cwd=folder, env=env, given=json.dumps(asked))
    assert child.returncode == 0, child.stderr
    return [tuple(result) for result in json.loads(child.stdout)]


def bad_lines() -> list[tuple[str, str, str]]:
    """Script, arguments, and what the message must name."""
    found = []
    for line in BAD.strip().splitlines():
        script, _, cases = line.partition(": ")
        for case in cases.split(" | "):
            named = re.search(r"\[(.*)\]", case)
            arguments = re.sub(r"[][]", "", case)
            for name in NAMES if script == "all" else [script]:
                found.append((name, arguments, named[1] if named else ""))
    return found


def test_every_bad_command_line_is_refused_at_once(tally: Callable[[str, str], None]) -> None:
    lines = bad_lines()
    assert len(set(lines)) == len(lines)
    found = outcomes([(script, arguments) for script, arguments, _ in lines])
    for (script, arguments, named), (code, out, err, heavy) in zip(lines, found, strict=True):
        where = f"{script} {arguments}: {err}"
        assert (code, out, heavy) == (2, "", []), where
        assert err.startswith(Path(script).name), where
        assert err.count("\n") == 1, where
        assert err.endswith("\n"), where
        assert named in err, where
        tally("bad command lines", "exit 2, one line, at once")


# ------------------------------------------------------------------ what was meant


MEANT = """
train.py: --epocs 5: --epochs
train.py: --epocs=5: --epochs
train.py: --z_dim 5: --latent-dim
train.py: --hidden_size 5: --hidden
train.py: -n 5: --epochs
train.py: --hidden 256 128 --epochs 3: --hidden 256,128
train.py: --augment shift flip: --augment shift,flip
train.py: --dataset my pictures: --dataset 'my pictures'
train.py: --quiet mnist: --dataset mnist
train.py: runs/x: --dataset runs/x
train.py: run: --resume run
train.py: --epochs 5 6:
train.py: --device cuda:
train.py: --preset tunde: tuned
train.py: --optimizer no-such:
evaluate.py: runs/x: --checkpoint runs/x
evaluate.py: model.npz: --checkpoint model.npz
evaluate.py: surplus:
evaluate.py: --ckpt runs/x: --checkpoint
generate.py: scatter runs/x: --checkpoint runs/x
generate.py: reconstruct --index 1 2 runs/x:
generate.py: priro: prior
benchmark.py: --batch-sizes 512 64: --batch-sizes 512,64
"""


def told(table: str, folder: Path) -> Iterator[tuple[str, str, int, str]]:
    """Of each line "script: arguments: words": itself, the words, and exit code and stderr."""
    rows = [re.fullmatch(r"(\S+): (.*?):(?: (.*))?", line) for line in table.strip().splitlines()]
    cases = [row.groups(default="") for row in rows if row]
    assert len(cases) == len(rows)
    found = outcomes([(script, line) for script, line, _ in cases], folder)
    for (script, line, words), (code, _, err, _) in zip(cases, found, strict=True):
        yield f"{script} {line}: {err}", words, code, err


def test_an_error_says_what_was_probably_meant(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").touch()
    for where, meant, code, err in told(MEANT, tmp_path):
        found = re.search(r"\. Did you mean (.*)\? \(see --help\)\n$", err)
        assert (code, found[1] if found else "") == (2, meant), where


def test_spellings_that_can_mean_one_option_only_are_that_option(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for option in ("--batch_size", "--batchsize", "--BatchSize"):
        assert parsed([option, "7"]) == parsed([f"{option}=7"]) == parsed(["--batch-size", "7"])
        note = f"note: {option} is read as --batch-size\n"
        assert capsys.readouterr().err == 2 * note
    assert parsed(["--lr", "0.1"]) == parsed(["--learning-rate", "0.1"])
    assert capsys.readouterr().err == ""


NOTED = """
train.py: --epochs 1 --epochs 2 --resume none: only the last --epochs counts
train.py: --lr 1 --learning-rate 2 --resume none: only the last --learning-rate counts
train.py: --dataset drawn-digits --data-dir x --out /: --data-dir: no effect on drawn-digits
train.py: --dataset drawn-digits --extra-data mnist --data-dir x --out /:
train.py: --preset best --data-dir x --out /:
evaluate.py: --dataset a.npz --data-dir x: --data-dir: no effect on a.npz
generate.py: scatter --seed 1: --seed: no effect on scatter, which draws nothing at random
generate.py: styles --seed 1:
generate.py: explorer --checkpoint a --checkpoint b:
generate.py: prior --checkpoint a --checkpoint b: only the last --checkpoint counts
generate.py: reconstruct --index 1 --count 2: --count: no effect with --index, which names
experiments.py: --only-tables --jobs 2: --jobs: no effect with --only-tables, which
gradcheck.py: --trace --seed 1: --seed: no effect on the worked example; --trace random
gradcheck.py: --trace random --seed 1:
"""


def test_options_of_no_effect_that_could_be_wanted_are_noted(tmp_path: Path) -> None:
    """Each command is read, and then ends for want of a model, a package or a place."""
    for where, note, code, err in told(NOTED, tmp_path):
        assert code != 2, where
        assert err.count("note: ") == bool(note), where
        assert note in err, where


# ------------------------------------------------------------------ help


def test_a_word_of_two_lines_is_refused_like_others() -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.Parser("test").parse_args(["two\nlines"])


def test_help_is_quick_because_it_imports_nothing_heavy() -> None:
    found = outcomes([(name, "--help") for name in NAMES])
    for script, (code, out, err, heavy) in zip(NAMES, found, strict=True):
        assert (code, err, heavy) == (0, "", []), script
        assert out.startswith(f"usage: {script}")
        assert not re.search(r"%\(|SUPPRESS", out), script
    train = found[NAMES.index("train.py")][1]
    for default in ("20", "10", "128", "512", "0.001", "1", "auto", "runs/"):
        assert re.search(rf"\(default:[^)]*\b{re.escape(default)}", train), default


def test_numpy_comes_after_train_has_limited_the_threads_of_blas() -> None:
    """BLAS reads their number when NumPy is imported; one that finds none to start ends Python."""
    code = "import sys; from npvae.commands import train; sys.exit('numpy' in sys.modules)"
    assert run([sys.executable, "-c", code], env=environment()).returncode == 0
