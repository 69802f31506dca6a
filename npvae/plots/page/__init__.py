"""How does a page get into one file? Template, style, scripts and data become one HTML text.

The explorer, the report of a run and the comparison are pages of this kind. Each has a template and
a script of its own in its folder; the frame and the style are the same for all. A page needs no
server, no network and no library.

Scripts are JavaScript modules: each names what it imports. `bundle` puts a script behind those that
it needs, in one scope, because a browser loads no modules from a disk.
"""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
IMPORT = re.compile(r'^import (?:{[^}]*} from )?"(.+)";\n', re.MULTILINE)


def page(template: Path, words: Mapping[str, str], data: Mapping[str, Any]) -> str:
    """The text of a page: `template` with its words, beside it the script of the same name.

    `words` stand for {{word}} in frame and template; there must be a "title". `data` is what the
    script reads; numbers that are not finite become null. Equal arguments give equal text.
    """
    numbers = json.dumps(finite(data), allow_nan=False, separators=(",", ":"))
    parts = {
        **{name: html.escape(word) for name, word in words.items()},
        "kind": template.stem,
        "style": read(FOLDER / "style.css"),
        "watch": bundle(FOLDER / "watch.js"),
        "data": numbers.replace("<", "\\u003c"),  # no "</script>" may be in it
        "script": bundle(template.with_suffix(".js")),
    }

    def filled(text: str) -> str:
        return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], text)

    parts["body"] = filled(read(template))
    return filled(read(FOLDER / "frame.html"))


def bundle(script: Path) -> str:
    """The script and all modules that it needs, each one after those that it imports.

    Names at the top of two modules must differ, and imports may not run in a circle.
    """
    return '"use strict";\n' + "\n".join(modules(script.resolve(), {}).values())


def modules(script: Path, known: dict[Path, str]) -> dict[Path, str]:
    """`known` and what is new of this module and its imports, in the order in which they run."""
    text = read(script)
    for name in IMPORT.findall(text):
        if (path := (script.parent / name).resolve()) not in known:
            modules(path, known)
    known[script] = re.sub("^export ", "", IMPORT.sub("", text), flags=re.MULTILINE)
    return known


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def finite(value: Any) -> Any:
    """The same data with None in place of floats that JSON does not have: NaN and infinities."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value
