"""Is the header of a checkpoint, or a run.json, what npvae writes? It is checked as a whole.

A digest says no more than that a header is what somebody saved. Whoever reads a header can rely on
the names and types below. What the values mean is checked by `Settings`, the model and optimizers.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

# Forms by name; a name with ? may be missing, * stands for all other names.
LOSSES = {f"{part}_{loss}": float for part in ("train", "test") for loss in ("bce", "kl", "loss")}
SIZES = {"train_images?": int, "test_images?": int, "class_names?": [str]}
DATA = {"name": str, "extra?": str, "source?": str, "sha256?": str, "labels?": str, **SIZES}
RUN = {"settings": dict, "data": DATA, "versions": {"*": str}}
SHAPES = {"input_dim": int, "hidden_dims": [int], "latent_dim": int, "num_classes?": int}
HEADER = {
    "model": {**SHAPES, "activation": str, "dtype": str},
    **{f"{name}?": form for name, form in RUN.items()},
    "optimizer?": {"name": str, "t": int, "*": float},
    "epoch?": int,
    "history?": [{"epoch": int, **LOSSES, "*": float}],
}


def is_run(about: object) -> bool:
    """Whether a run.json can hold this."""
    return fits(about, RUN)


def is_header(header: Mapping[str, Any]) -> bool:
    """Whether a checkpoint of a model can have this header. It may hold a whole run, or no more."""
    if not fits(header, HEADER):
        return False
    history = header.get("history", [])
    counted = all(row["epoch"] == epoch for epoch, row in enumerate(history, start=1))
    complete = not history or header.get("epoch") == len(history)
    return counted and complete and len({tuple(row) for row in history}) <= 1


def fits(value: Any, form: Any) -> bool:
    """Whether plain data have a form: a type, a list with the form of its items, forms by name.

    Whole numbers are 0 or more and below 2^63, others are finite; True and False are no numbers.
    """
    if isinstance(form, dict):
        kinds = {name.rstrip("?"): kind for name, kind in form.items()}
        needed, others = {name for name in form if name[-1] not in "?*"}, kinds.get("*", object)
        return (
            isinstance(value, dict)
            and needed <= set(value)
            and all(fits(item, kinds.get(name, others)) for name, item in value.items())
        )
    if isinstance(form, list):
        return isinstance(value, list) and all(fits(item, form[0]) for item in value)
    if form is int:
        return type(value) is int and 0 <= value < 2**63
    if form is float:
        return type(value) in (int, float) and abs(value) <= sys.float_info.max
    return isinstance(value, form)
