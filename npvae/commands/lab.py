"""Write the gradients yourself: ten blanks, and what checks them."""

from __future__ import annotations

import json
import math
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from npvae.commands import cli
from npvae.commands.new_file import save_picture
from npvae.core.errors import OptionError, OutputError
from npvae.core.option_types import some_of, some_text, whole_number
from npvae.runs.terminal import command, show, show_note
from npvae.storage.files import write

EXAMPLES = """examples:
  python scripts/lab.py start
  python scripts/lab.py check my_vae.py
  python scripts/lab.py check my_vae.py --hint 4
  python scripts/lab.py train my_vae.py

start writes a sheet, check says what is right, and what is wrong and why, and
train trains with your gradients. The exit code is 7 while a task is not right.
For teachers: npvae/lab/TEACHERS.md"""
NOT_YET = 7
IMAGES_PER_SECOND = 2400  # both programs together, on one core of a laptop
NUMBERS = [str(number) for number in range(1, 11)]
BELONG = {
    "start": ("tasks", "notebook", "out"),
    "check": ("hint", "json"),
    "train": ("epochs", "out", "dataset", "data_dir", *cli.OWN_DATA),
}


def main(arguments: Sequence[str]) -> int:
    parser = cli.Parser(__doc__, EXAMPLES)
    add, what = parser.add_argument, ("start", "check", "train")
    add("what", nargs="?", choices=what, metavar="start | check | train", help="see below")
    add("sheet", nargs="?", metavar="SHEET", help="(default: my_vae.py)")
    help = "start: ask for these tasks only, such as 4,6,8; the others are solved "
    help += "(default: all)"
    add("--tasks", type=some_of(NUMBERS), metavar="N,N", help=help)
    add("--notebook", action="store_true", help="start: a notebook, with a check below each blank")
    help = "check: a hint at this task; given twice, the second; three times, the third and "
    help += "last (default: none)"
    add("--hint", type=int, action="append", choices=range(1, 11), metavar="N", help=help)
    add("--json", action="store_true", help="check: print JSON, for other programs")
    help = "train: how many (default: 2)"
    add("--epochs", type=whole_number(1), metavar="N", help=help)
    help = "start: the sheet; train: the picture, a .png file or a folder (default: this folder)"
    add("--out", type=some_text, metavar="PATH", help=help)
    parser.add_data()
    parser.add_common()
    options = parser.parse_args(arguments)
    if not options.what:
        parser.error("start, check or train?")
    for name in {name for names in BELONG.values() for name in names}:
        if getattr(options, name) and name not in BELONG[options.what]:
            users = " and ".join(what for what, names in BELONG.items() if name in names)
            parser.error(f"argument --{name.replace('_', '-')}: only for {users}")
    if options.what == "start":
        return start(options)
    return (hint if options.hint else check if options.what == "check" else train)(options)


def start(options: Namespace) -> int:
    """Write a sheet, never over a file that exists."""
    from npvae.lab.sheet import notebook, sheet

    path = Path(
        options.out or options.sheet or ("my_vae.ipynb" if options.notebook else "my_vae.py")
    )
    is_notebook = options.notebook or path.suffix == ".ipynb"
    if path.suffix != (".ipynb" if is_notebook else ".py"):
        raise OptionError(f"{path}: a sheet is called .py, or .ipynb with --notebook")
    asked = [int(number) for number in options.tasks or NUMBERS]
    next_step = command("lab", "check", path)
    text = notebook(asked) if is_notebook else sheet(asked, next_step)
    try:
        write(path, text.encode(errors="backslashreplace"), replace=False)
    except FileExistsError as error:
        raise OutputError(
            f"{path} exists, and a sheet is never overwritten.\nName another: "
            f"{command('lab', 'start', path.with_stem(path.stem + '2'))}"
        ) from error
    count = f"{len(asked)} functions" if len(asked) > 1 else "1 function"
    show(f"{path}: {count} to write. Open it in an editor, begin with task {asked[0]}.")
    show_note(f"\nNext, again and again:\n  {next_step}")
    return 0


def hint(options: Namespace) -> int:
    """Hints rise with the number of times that the option is given: nothing has to be stored."""
    from npvae.lab.report import hint
    from npvae.lab.tasks import tasks

    number, count = options.hint[-1], min(3, options.hint.count(options.hint[-1]))
    show("\n".join(hint(tasks()[number], count)))
    if count < 3:
        again = ["--hint", number] * (count + 1)
        show_note(f"\nThe next hint:\n  {command('lab', 'check', sheet_path(options), *again)}")
    return 0


def sheet_path(options: Namespace) -> Path:
    return Path(options.sheet or "my_vae.py")


def check(options: Namespace) -> int:
    """Print what is right, and what to do about the rest."""
    from npvae.lab.checker import BROKEN, check_sheet
    from npvae.lab.process import read_sheet
    from npvae.lab.report import explained, line
    from npvae.lab.sheet import points

    path = sheet_path(options)
    if not path.exists():
        raise OptionError(f"there is no {path}. Make one:\n{command('lab', 'start', path)}")
    worth = points(read_sheet(path))
    verdicts = []
    for verdict in check_sheet(path, worth):
        verdicts.append(verdict)
        if not options.json:
            show(line(verdict))
    missing = [verdict.task.number for verdict in verdicts if verdict.state != "right"]
    if options.json:
        rows = [
            {
                "task": v.task.number,
                "name": v.task.name,
                "state": v.state,
                "points": worth[v.task.number] * (v.state == "right"),
                "cause": " ".join(v.lines),
            }
            for v in verdicts
        ]
        print(json.dumps({"sheet": str(path), "tasks": rows, "of": sum(worth.values())}, indent=2))
        return NOT_YET if missing else 0
    for text in explained(verdicts):
        show(text)
    if missing:
        first = next((v for v in verdicts if v.state == "wrong"), None)
        number = first.task.number if first else missing[0]
        if not (first and BROKEN in first.lines):
            show_note(f"\nFor a hint:\n  {command('lab', 'check', path, '--hint', number)}")
        return NOT_YET
    show_note(f"\nAll right. Next:\n  {command('lab', 'train', path)}")
    return 0


def train(options: Namespace) -> int:
    """Train with all that the learner wrote, beside the package, and draw samples."""
    from npvae.core.random_streams import Stream, generator
    from npvae.datasets import load_dataset
    from npvae.evaluation import average_loss
    from npvae.lab.checker import check_sheet
    from npvae.lab.process import Fault, Learner
    from npvae.lab.report import report
    from npvae.lab.tasks import tasks
    from npvae.lab.training import side_by_side, trained
    from npvae.plots.request import Request, model_name
    from npvae.plots.samples import prior
    from npvae.settings import Settings

    path = sheet_path(options)
    verdicts = list(check_sheet(path, tasks()))
    if any(verdict.state != "right" for verdict in verdicts):
        show("\n".join(report(verdicts)))
        show(f"\n{path} cannot train yet: that needs all ten tasks.")
        return NOT_YET
    say = None if options.quiet else show_note
    own_data = cli.own_data(options)
    data, test = load_dataset(options.dataset or "auto", options.data_dir, say, **own_data)
    settings = Settings(epochs=options.epochs or 2, batch_size=128, seed=options.seed)
    if say:
        seconds = f"about {math.ceil(len(data.images) / IMAGES_PER_SECOND)} seconds an epoch"
        say(f"{data.title}, {len(data.images):,} images: your gradients train, and ours beside.")
        say(f"That takes {seconds}.")
    with Learner(path) as learner:
        try:
            for found in side_by_side(learner, data.images, settings):
                show(
                    f"epoch {found.epoch}: train loss {found.yours:.9f}, "
                    f"the package's {found.ours:.9f}, difference {found.difference:.0e}"
                )
            vae = trained(learner)
        except Fault as fault:
            show(f"{path}: {fault}")
            return NOT_YET
    if found.difference > 1e-9:
        show_note("The two differ by more than rounding. Does a function of the sheet round?")
    loss = average_loss(vae, test.images, generator(options.seed, Stream.TESTING, settings.epochs))
    title = f"your own gradients: {model_name(data.title, vae.latent_dim, settings.epochs)}"
    picture = prior(Request(vae, title, 50, 3, generator(options.seed, Stream.SAMPLES)))
    saved = save_picture(picture, options.out or ".", "my-samples")
    show(f"test loss {loss.total:.2f} nats per image = bce {loss.bce:.2f} + kl {loss.kl:.2f}")
    show(f"Your own gradients drew these: {saved}")
    show_note(
        "\nNext: what can go wrong and still train? Guess.\n  " + command("mistakes", "--quiz")
    )
    return 0
