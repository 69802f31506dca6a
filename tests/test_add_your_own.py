"""All that npvae/ADD.md adds is added to a copy of the program, as it stands there, and works."""

import gzip
import re
import shlex
import shutil
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import numpy as np

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


def published(folder: Path) -> list[str]:
    """Files of a small dataset in IDX format, compressed as one downloads them, and their sums."""
    rng, sums = np.random.default_rng(0), []
    for name in FILES:
        count = 600 if name.startswith("train") else 100
        images, labels = rng.integers(0, 256, (count, 28, 28)), np.arange(count) % 10
        values = (images if "images" in name else labels).astype(np.uint8)
        sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
        data = bytes([0, 0, 8, values.ndim]) + sizes + values.tobytes()
        (folder / f"{name}.gz").write_bytes(gzip.compress(data))
        sums.append(sha256(data).hexdigest())
    return sums


def copy_with_additions(folder: Path) -> None:
    for name in ("npvae", "scripts"):
        ignored = shutil.ignore_patterns("__pycache__", "pictures")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    digits = folder / "npvae" / "datasets" / "drawn_digits.py"  # fewer of them, which is quicker
    text = digits.read_text().replace("20_000", "600", 1).replace("= 2_000)", "= 100)", 1)
    text = text.replace("_HANDS = 20", "_HANDS = 2")
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


def test_every_addition_works_as_the_page_says(tmp_path: Path) -> None:
    """All commands of the page in their order, and what there is to see."""
    copy_with_additions(tmp_path)
    blocks = re.findall(r"```bash\n(.*?)```", PAGE, flags=re.DOTALL)
    commands = [line.removeprefix("python ") for block in blocks for line in block.splitlines()]

    def ran(words: str) -> Ending:
        script, *options = shlex.split(words.replace("-m npvae", "../npvae/__main__.py", 1))
        return forks.run(options, script=script.removeprefix("scripts/"))

    with closing(
        Forks(tmp_path, tmp_path, NPVAE_BACKEND="auto", PYTHONPATH=str(tmp_path))
    ) as forks:
        said = {words: ran(words) for words in commands}
        help_text = ran("-m npvae --help").out
        refused = ran("scripts/train.py --resume runs/drawn-digits-z10-003 --clip 1")
        page = ran("scripts/generate.py explorer --checkpoint runs/drawn-digits-z10-001")
    assert {words: ending for words, ending in said.items() if ending.code} == {}

    def shown_by(part: str) -> list[str]:
        return [ending.out for words, ending in said.items() if part in words]

    (gradients,) = shown_by("gradcheck.py --only softsign")
    assert re.search(r"^all \d+ right", gradients, re.MULTILINE)
    assert {"softsign", "vae softsign 7"} <= {line.strip() for line in gradients.splitlines()}
    plans = shown_by("train.py")
    if not why_not("auto"):
        assert "NumPy (the engine does not know the activation softsign)" in plans[0]
        assert "the optimizer lion" in plans[1]
        assert re.search(r"training\.py differs", plans[3])
    assert " clip " in shown_by("compare.py")[0].splitlines()[0]
    assert "beta-squared" in shown_by("mistakes.py")[0]
    assert "encoder.mu.W" in shown_by("-m npvae weights")[0]
    assert "  weights " in help_text
    assert refused.code == 2
    assert page.code == 2
    assert "the page cannot compute the activation softsign" in page.err
