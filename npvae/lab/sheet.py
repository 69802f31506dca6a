"""How is a sheet made? The page of tasks.md, and the lesson's own lines in it, or blanks.

The lesson has objects, the sheet has plain functions. So the lines of `Dense.backward`, `Adam.step`
and `VAE.backward` are rewritten: `self.to_mu.backward(...)` becomes `dense_backward(...)`, and so
on. A test fills every blank with them and has them checked. Next: lesson.py.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Collection
from contextlib import suppress
from textwrap import dedent, indent
from typing import Any

from npvae.lab.tasks import WHERE, Task, page, tasks
from npvae.layers import relu
from npvae.losses import sigmoid
from npvae.mistakes.mistake import Mistake, lesson_function, replaced

PARAMETERS = "W_enc, b_enc, W_mu, b_mu, W_log_var, b_log_var, W_dec, b_dec, W_logits, b_logits"
GRADIENTS = [f"d_{name}" for name in PARAMETERS.split(", ")]
PAIRS = [", ".join(GRADIENTS[k : k + 2]) for k in range(0, 10, 2)]
RETURNED = "return [\n    " + ",\n    ".join(PAIRS) + ",\n]"
UNPACKED = f"""\
{PARAMETERS} = parameters
x, epsilon, y_enc, h_enc, mu, log_var, z, y_dec, h_dec, logits = values.values()
"""
REWRITTEN = (
    # model.py: a layer with its activation, the first layer alone, one of the other layers
    (
        r"(\w+) = self\.(enc|dec)oder\.backward\((\S+), (\S+), \S+, (\w+)\)\[.*\]",
        r"d_y_\2 = relu_backward(\4, \5)"
        "\n"
        r"\1, d_W_\2, d_b_\2 = dense_backward(\3, W_\2, d_y_\2)",
    ),
    (
        r"(\w+) = self\.(enc|dec)oder\.layers\[0\]\.backward\((\S+), (\w+)\)",
        r"\1, d_W_\2, d_b_\2 = dense_backward(\3, W_\2, \4)",
    ),
    (
        r"(\w+) = self\.to_(\w+)\.backward\((\S+), (\w+)\)",
        r"\1, d_W_\2, d_b_\2 = dense_backward(\3, W_\2, \4)",
    ),
    (r"return Gradients\(.*\)", RETURNED),
    (r"\ba\.(\w+?)(_c)?(\[-1\])?(?=\W)", r"\1"),
    (r"; the class .*", "."),
    # layers.py and optimizers.py
    (r"m, v = state\n", ""),
    (r"self\.(d_[Wb])\[:\]", r"\1"),
    (r"self\.", ""),
    (r"return (d_y @ .*)", r"return \1, d_W, d_b"),
)


def lesson_lines(name: str, mistake: Mistake | None = None) -> str:
    """The lines that fill a blank, or those of a mistake."""
    where = WHERE[name]
    source = dedent(inspect.getsource(lesson_function(where)))
    for edit in mistake.edits if mistake else ():
        if edit.where == where:
            source = replaced(source, edit)
    lines = body(source)
    for pattern, words in REWRITTEN:
        lines = re.sub(pattern, words, lines)
    return (UNPACKED if name == "backward" else "") + lines


def body(source: str) -> str:
    """The lines of a function below its docstring."""
    function: Any = ast.parse(source).body[0]
    documented = ast.get_docstring(function) is not None
    last = function.body[0].end_lineno if documented else function.body[0].lineno - 1
    return dedent("\n".join(source.splitlines()[last:])).strip("\n")


def function(task: Task, lines: str) -> str:
    """A task as it stands on the sheet, with these lines as its body."""
    returned = ", ".join(task.returns)
    notes = f"Task {task.number}. Returns {returned}.\nTour: {task.tour}."
    documented = f'"""{task.docstring}\n\n{notes}\n"""\n{lines}'
    return f"def {task.name}({task.arguments}):\n{indent(documented, '    ')}"


def sheet(
    asked: Collection[int] | None = None, check: str = "", answers: dict[int, str] | None = None
) -> str:
    """A sheet with blanks for the tasks that are asked, by default all; the others are solved.

    `check` is the command that its first lines name; `answers` are lines to fill blanks with.
    """
    asked, answers = sorted(tasks() if asked is None else asked), answers or {}
    escaped = check.replace("\\", "\\\\").replace('"', '\\"')  # it stands in a docstring
    text = page().replace("{check}", escaped).replace("{points}", str(dict.fromkeys(asked, 1)))
    for given in sigmoid, relu:
        untyped = re.sub(r": Array|( -> Array)", "", inspect.getsource(given)).strip()
        text = text.replace(f"# {{{given.__name__}}}", untyped)
    for number, task in tasks().items():
        blank = (UNPACKED if task.name == "backward" else "") + "raise NotImplementedError"
        lines = answers.get(number) or (blank if number in asked else lesson_lines(task.name))
        text = text.replace(f"# {{{number}}}\n", function(task, lines) + "\n")
    return text


def notebook(asked: Collection[int] | None = None) -> str:
    """The same as a notebook: a cell for each function, and a check below each blank."""
    asked = sorted(tasks() if asked is None else asked)
    numbers = {task.name: number for number, task in tasks().items() if number in asked}
    title, rest = sheet(asked, "the cell below each blank").strip('"\n').split('"""\n\n', 1)
    cells = [cell("markdown", title), cell("code", "%pip install --quiet npvae", tags=["install"])]
    for part in f"from npvae.lab.notebook import check_cells\n\n{rest}".split("\n\n\n"):
        cells.append(cell("code", part))
        number = numbers.get(part.removeprefix("def ").partition("(")[0])
        if number:
            cells.append(cell("code", f"check_cells({number})"))
    cells = [
        {"id": f"cell-{k}", **each}
        for k, each in enumerate([*cells, cell("code", "check_cells()")])
    ]
    about = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    whole = {"cells": cells, "metadata": about, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, indent=1) + "\n"


def points(source: bytes) -> dict[int, float]:
    """POINTS of a sheet: the tasks that are asked and what each is worth. By default 1 for each."""
    found = re.search(r"^POINTS = (\{[^}]*\})", source.decode("utf-8", "replace"), re.M)
    with suppress(ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        table: dict[int, float] = ast.literal_eval(found[1] if found else "{}")
        if table and table.keys() <= tasks().keys() and all(0 <= v < 1e6 for v in table.values()):
            return table
    return dict.fromkeys(tasks(), 1)


def cell(kind: str, source: str, tags: Collection[str] = ()) -> dict[str, Any]:
    about = {"cell_type": kind, "metadata": {"tags": list(tags)} if tags else {}, "source": source}
    return {**about, "outputs": [], "execution_count": None} if kind == "code" else about


def definitions(cells: Collection[str]) -> str:
    """The sheet that stands in the cells of a notebook: imports, functions, plain assignments."""
    kept = []
    for source in cells:
        lines = [line for line in source.splitlines() if not line.lstrip().startswith(("%", "!"))]
        try:
            statements = ast.parse("\n".join(lines)).body
        except SyntaxError:
            continue
        for node in statements:
            ours = isinstance(node, ast.ImportFrom) and (node.module or "").startswith("npvae")
            calls = isinstance(node, ast.Assign) and any(
                isinstance(part, ast.Call) for part in ast.walk(node)
            )
            wanted = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign)
            if isinstance(node, wanted) and not ours and not calls:
                kept.append(ast.unparse(node))
    return "\n\n\n".join(kept)
