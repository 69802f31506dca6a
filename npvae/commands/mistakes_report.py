"""The mistakes for people: a list, one beside the right program, the tour's table, a quiz."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from npvae.datasets.minibatches import Images
from npvae.mistakes import MISTAKES
from npvae.mistakes.mistake import Mistake
from npvae.mistakes.trial import Trial, findings, trial
from npvae.plots.image_grid import image_grid
from npvae.runs.terminal import show
from npvae.settings import Settings

NOISE = 1.0  # nats: about what runs with other seeds differ by after three epochs


def listed() -> str:
    """Every mistake in a sentence."""
    width = max(map(len, MISTAKES))
    lines = [f"{name:{width}}  {mistake.what}" for name, mistake in MISTAKES.items()]
    return "\n".join(lines)


def explained(mistake: Mistake) -> str:
    """A mistake in words, and the lines that it changes."""
    return (
        f"{mistake.what}\n\nWhere  {mistake.where}\nSeen   {mistake.sees}\n"
        f"Why    {mistake.why}\n\n{mistake.diff}"
    )


def nats(loss: float) -> str:
    return f"{loss:.1f}" if abs(loss) < 1e5 else f"{loss:.1e}"


def side_by_side(
    mistake: Mistake, images: Images, test_images: Images, settings: Settings
) -> tuple[str, Image.Image]:
    """The same training without the mistake and with it: numbers, and samples of both."""
    right = trial(None, images, test_images, settings)
    wrong = trial(mistake, images, test_images, settings)
    found, clean = findings(mistake), findings(None)
    rows = [("test loss, nats per image", "right", "mistake")]
    for epoch, losses in enumerate(zip(right.printed, wrong.printed, strict=True), start=1):
        rows.append((f"  it prints, epoch {epoch}", nats(losses[0]), nats(losses[1])))
    rows.append(("  same weights, right formulas", nats(right.true.total), nats(wrong.true.total)))
    rows.append(("gradient check, worst error", f"{clean.worst:.0e}", f"{found.worst:.0e}"))
    lines = [f"{what:30}{a:>10}{b:>11}" for what, a, b in rows]
    lines.append(f"its rows that are WRONG: {found.red or 'none'}")
    lines.append(f"tests of meaning that fail: {', '.join(found.meaning) or 'none'}")
    return "\n".join(lines), samples(mistake, right, wrong)


def samples(mistake: Mistake, right: Trial, wrong: Trial) -> Image.Image:
    """Samples from the same z: of the right program, and of the mistaken one as it shows them."""
    rows = [np.nan_to_num(result.samples).clip(0, 1) for result in (right, wrong)]
    title = f"samples after {len(right.printed)} epochs: {mistake.name}"
    return image_grid(rows, ["right", "mistake"], title=title)


def tour_table(
    images: Images, test_images: Images, settings: Settings, dataset: str
) -> Iterator[str]:
    """The table of the tour in markdown, row by row."""
    right = trial(None, images, test_images, settings)
    yield (
        f"{len(images):,} images of {dataset}, {settings.epochs} epochs, "
        f"batch {settings.batch_size}, seed {settings.seed}. Right: {nats(right.true.total)}."
    )
    yield ""
    yield "| mistake | prints | true | gradient check | tests of meaning that fail |"
    yield "| --- | ---: | ---: | --- | --- |"
    for mistake in MISTAKES.values():
        wrong, found = trial(mistake, images, test_images, settings), findings(mistake)
        printed = nats(wrong.printed[-1])
        if wrong.printed[-1] < right.printed[-1] - NOISE:
            printed = f"**{printed}**"
        names = ", ".join(f"`{name}`" for name in found.meaning)
        red = found.red or "passes"
        yield f"| `{mistake.name}` | {printed} | {nats(wrong.true.total)} | {red} | {names} |"


def quiz(seed: int, ask: Callable[[str], str] = input) -> int:
    """Symptoms first; the answer is one of three. It ends after the last, or at an empty line."""
    rng = np.random.default_rng(seed)
    names, right, asked = list(MISTAKES), 0, 0
    show("What is wrong? Answer 1, 2 or 3; an empty line ends the quiz.")
    for name in rng.permutation(names):
        mistake = MISTAKES[name]
        others = rng.choice([other for other in names if other != name], 2, replace=False)
        choices = rng.permutation([name, *others])
        show(f"\nWhat you see: {mistake.sees}")
        show(f"Gradient check: {f'WRONG in {mistake.red}' if mistake.red else 'passes'}.")
        for number, choice in enumerate(choices, start=1):
            show(f"  {number}  {MISTAKES[choice].what}")
        try:
            while (answer := ask("> ").strip()) not in ("1", "2", "3", ""):
                show("Answer 1, 2 or 3; an empty line ends the quiz.")
        except EOFError:
            break
        if not answer:
            break
        asked += 1
        hit = choices[int(answer) - 1] == name
        right += hit
        show(f"{'Right' if hit else 'No'}: {mistake.what}\n{mistake.why}\n\n{mistake.diff}")
    show(f"\n{right} of {asked} right.")
    return 0
