"""Bad command lines of every script: counted, refused at once, in one line that names the value."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.commands.test_cli import EVERYWHERE, NAMES, TRAIN, outcomes

# Script, arguments, and what the line must name; beside those of test_cli.py.
MORE = [
    ("train.py", "--epochs 9007199254740993", "9007199254740993"),
    ("train.py", "--epochs ٣x", "٣x"),
    ("train.py", "--epochs 0x10", "0x10"),
    ("train.py", "--epochs +-1", "+-1"),
    ("train.py", "--batch-size 1_000_", "1_000_"),
    ("train.py", "--batch-size", "--batch-size"),
    ("train.py", "--hidden []", "[]"),
    ("train.py", "--hidden 4294967296", "4294967296"),
    ("train.py", "--hidden", "--hidden"),
    ("train.py", "--hidden-dims 128", "--hidden-dims"),
    ("train.py", "--latent-dim -10", "-10"),
    ("train.py", "--learning-rate 1e-400", "1e-400"),
    ("train.py", "--learning-rate 1e400", "1e400"),
    ("train.py", "--learning-rate 0,001", "0,001"),
    ("train.py", "--lr 0.1", "--lr"),
    ("train.py", "--beta 1/2", "1/2"),
    ("train.py", "--beta -inf", "-inf"),
    ("train.py", "--warmup nan", "nan"),
    ("train.py", "--warmup", "--warmup"),
    ("train.py", "--kl-warmup inf", "inf"),
    ("train.py", "--kl-warmup", "--kl-warmup"),
    ("train.py", "--activation", "--activation"),
    ("train.py", "--activation relu,tanh", "relu,tanh"),
    ("train.py", "--optimizer Adam", "Adam"),
    ("train.py", "--optimizer=", "--optimizer"),
    ("train.py", "--schedule cos", "cos"),
    ("train.py", "--augment SHIFT", "SHIFT"),
    ("train.py", "--augment shift,,flip", "shift,,flip"),
    ("train.py", "--augment --epochs 1", "--augment"),
    ("train.py", "--validation 1e3", "1e3"),
    ("train.py", "--pictures-every never", "never"),
    ("train.py", "--preset Tutorial", "Tutorial"),
    ("train.py", "--preset tutorial,best", "tutorial,best"),
    ("train.py", "--resume", "--resume"),
    ("train.py", "--resume=", "--resume"),
    ("train.py", "--out=", "--out"),
    ("train.py", "--dataset=", "--dataset"),
    ("train.py", "--data-dir=", "--data-dir"),
    ("train.py", "--checkpoint there", "--checkpoint"),
    ("train.py", "-epochs 5", "-epochs"),
    ("train.py", "epochs=5", "epochs=5"),
    ("evaluate.py", "--samples 0", "0"),
    ("evaluate.py", "--samples many", "many"),
    ("evaluate.py", "--images 0", "0"),
    ("evaluate.py", "--images all", "all"),
    ("evaluate.py", "--checkpoint", "--checkpoint"),
    ("evaluate.py", "--dataset=", "--dataset"),
    ("evaluate.py", "--json=file", "file"),
    ("evaluate.py", "--binarize=no", "no"),
    ("evaluate.py", "--resume there", "--resume"),
    ("generate.py", "digit", "N"),
    ("generate.py", "digit 10", "10"),
    ("generate.py", "digit -1", "-1"),
    ("generate.py", "digit seven", "seven"),
    ("generate.py", "class", "NAME"),
    ("generate.py", "interpolate", "N"),
    ("generate.py", "interpolate 1", "N"),
    ("generate.py", "interpolate 1 2 3", "3"),
    ("generate.py", "interpolate 1 -2", "-2"),
    ("generate.py", "interpolate a b", "a"),
    ("generate.py", "reconstruct --index", "--index"),
    ("generate.py", "reconstruct --index 1 x", "x"),
    ("generate.py", "reconstruct --split both", "both"),
    ("generate.py", "traverse --index -7", "-7"),
    ("generate.py", "traverse --index 1 2", "2"),
    ("generate.py", "scatter --split test", "--split"),
    ("generate.py", "manifold --count 0", "0"),
    ("generate.py", "manifold --scale 1.5", "1.5"),
    ("generate.py", "prior --index 3", "--index"),
    ("generate.py", "priors", "priors"),
    ("generate.py", "PRIOR", "PRIOR"),
    ("generate.py", "--count -1", "-1"),
    ("generate.py", "--scale 0", "0"),
    ("generate.py", "--out", "--out"),
    ("experiments.py", "some", "some"),
    ("experiments.py", "presets changes", "changes"),
    ("experiments.py", "--seeds 0", "0"),
    ("experiments.py", "--seeds 1,2", "1,2"),
    ("experiments.py", "--jobs 0", "0"),
    ("experiments.py", "--jobs", "--jobs"),
    ("experiments.py", "--out=", "--out"),
    ("experiments.py", "--data-dir=", "--data-dir"),
    ("experiments.py", "--only-tables=yes", "yes"),
    ("experiments.py", "--only", "--only"),
    ("experiments.py", "all --resume", "--resume"),
    ("benchmark.py", "--rounds 0", "0"),
    ("benchmark.py", "--batch-sizes 512,", "512,"),
    ("benchmark.py", "--batch-sizes big", "big"),
    ("benchmark.py", "--sweep=3", "3"),
    ("benchmark.py", "--json", "--json"),
    ("benchmark.py", "--data", "--data"),
    ("compare_torch.py", "--hidden 0", "0"),
    ("compare_torch.py", "--latent-dim 0", "0"),
    ("compare_torch.py", "--activation swish", "swish"),
    ("compare_torch.py", "--optimizer adamw", "adamw"),
    ("compare_torch.py", "--batch-size none", "none"),
    ("compare_torch.py", "--beta -0.1", "-0.1"),
    ("gradcheck.py", "--seed 0.5", "0.5"),
    ("gradcheck.py", "--eps 1e-5", "--eps"),
    ("gradcheck.py", "everything", "everything"),
]


def test_every_bad_command_line_is_refused_at_once(tally: Callable[[str, str], None]) -> None:
    lines = [(script, *case) for script in NAMES for case in EVERYWHERE]
    lines += [("train.py", *case) for case in TRAIN] + MORE
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
