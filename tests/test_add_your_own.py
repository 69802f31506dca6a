"""All that npvae/ADD.md adds is added to a copy of the program, as it stands there, and works."""

import gzip
import re
import shlex
import shutil
from collections.abc import Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from npvae.datasets.standard import FILES
from npvae.fast import why_not
from tests.forks import Ending, Forks
from tests.helpers import ROOT

PAGE = (ROOT / "npvae" / "ADD.md").read_text()
ADDED = re.compile(
    r"(?:(?P<end>[Aa]t the end of)|Above `(?P<line>[^`]+)` in|As a new file) `(?P<path>[^`]+)`:"
    r"\n\n(?P<fence>`{3,4})\w+\n(?P<block>.*?)(?P=fence)",
    re.DOTALL,
)
# What tables of their own say of what they do not know: words of the refusal, by command.
UNKNOWN = {
    "generate.py explorer": "the page cannot compute the activation softsign",
    "compare_torch.py --activation softsign": "no counterpart of softsign in PyTorch",
    "compare_torch.py --optimizer lion": "no counterpart of lion in PyTorch",
}


def published(folder: Path) -> list[str]:
    """Files of a small dataset in IDX format, compressed as one downloads them, and their sums."""
    rng, sums = np.random.default_rng(0), []
    for name in FILES:
        count = 600 if name.startswith("train") else 100
        if "images" in name:
            shape, values = (count, 28, 28), rng.integers(0, 256, (count, 28, 28))
        else:
            shape, values = (count,), np.arange(count) % 10  # type: ignore[assignment]
        sizes = b"".join(size.to_bytes(4, "big") for size in shape)
        data = bytes([0, 0, 8, len(shape)]) + sizes + values.astype(np.uint8).tobytes()
        (folder / f"{name}.gz").write_bytes(gzip.compress(data))
        sums.append(sha256(data).hexdigest())
    return sums


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The program with all additions of the page."""
    folder = tmp_path_factory.mktemp("copy")
    for name in ("npvae", "scripts"):
        ignored = shutil.ignore_patterns("__pycache__", "pictures")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    digits = folder / "npvae" / "datasets" / "drawn_digits.py"  # a tenth of them, which is quicker
    text = digits.read_text().replace("20_000", "2_000", 1).replace("= 2_000)", "= 200)", 1)
    digits.write_text(text)
    shutil.copy(ROOT / "pyproject.toml", folder)  # it is known as a clone by this file
    (folder / "data" / "kmnist").mkdir(parents=True)
    sums = published(folder / "data" / "kmnist")
    for found in ADDED.finditer(PAGE):
        path, block = folder / found["path"], found["block"]
        assert path.exists() == bool(found["end"] or found["line"])
        before = path.read_text() if path.exists() else ""
        for digest in sums if "sha256=" in block else ():
            block = block.replace('"..."', f'"{digest}"', 1)
        if found["line"]:
            (line,) = [line for line in before.splitlines() if found["line"] in line]
            path.write_text(before.replace(line, f"{block}\n{line}"))
        else:
            path.write_text(f"{before}\n\n{block}" if before else block)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def forks(copy: Path) -> Iterator[Forks]:
    with closing(Forks(copy, copy, NPVAE_BACKEND="auto", PYTHONPATH=str(copy))) as forks:
        yield forks


@pytest.fixture(scope="module")
def said(forks: Forks) -> dict[str, Ending]:
    """How the commands of the page end, in their order."""
    return {words: ran(forks, words) for words in commands()}


def test_every_addition_works_as_the_page_says(forks: Forks, said: dict[str, Ending]) -> None:
    out = {words: text for words, (_, text, _) in said.items()}
    assert {words: ending for words, ending in said.items() if ending.code} == {}
    gradients = out["scripts/gradcheck.py --only softsign"]
    assert re.search(r"^all \d+ right", gradients, re.MULTILINE)
    assert {"softsign", "vae softsign 7"} <= {line.strip() for line in gradients.splitlines()}
    plans = [text for words, text in out.items() if "train.py" in words]
    if not why_not("auto"):
        assert "NumPy (the engine does not know the activation softsign)" in plans[0]
        assert "the optimizer lion" in plans[1]
        assert re.search(r"training\.py differs", plans[3])
    comparison = next(text for words, text in out.items() if "compare.py" in words)
    assert " clip " in comparison.splitlines()[0]
    assert "beta-squared" in next(text for words, text in out.items() if "mistakes.py" in words)
    assert "encoder.mu.W" in out["-m npvae weights"]
    assert "  weights " in ran(forks, "-m npvae --help").out
    assert ran(forks, "scripts/train.py --resume runs/drawn-digits-z10-003 --clip 1").code


def commands() -> list[str]:
    """The commands of the page in their order, without the word python."""
    blocks = re.findall(r"```bash\n(.*?)```", PAGE, flags=re.DOTALL)
    return [line.removeprefix("python ") for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize("words", UNKNOWN)
def test_whoever_has_a_table_of_its_own_answers_for_what_it_does_not_know(
    words: str, forks: Forks, said: dict[str, Ending]
) -> None:
    if "torch" in words:
        pytest.importorskip("torch", reason="the comparison with PyTorch needs torch")
    newest = " --checkpoint runs/drawn-digits-z10-001" if "generate" in words else ""
    ending = ran(forks, f"scripts/{words}{newest}")
    assert ending.code == 2
    assert UNKNOWN[words] in ending.err
    assert "Traceback" not in ending.err


def ran(forks: Forks, words: str) -> Ending:
    """How Python ends with these words in the copy, as in a fresh clone."""
    script, *options = shlex.split(words.replace("-m npvae", "../npvae/__main__.py", 1))
    return forks.run(options, script=script.removeprefix("scripts/"))
