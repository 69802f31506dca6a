"""Whatever a header says, its digest being right, a command works or says that it cannot."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npvae.core.errors import CheckpointError, NpvaeError
from npvae.model import VAE
from npvae.runs.run_directory import open_run
from npvae.runs.trained_model import TrainedModel
from tests.helpers import Tally, digits_file, start
from tests.storage.test_checkpoint import changed, forged, members_of, write_members

NEVER: dict[str, Any] = {"null": None, "list": [[1]], "dict": {"a": {"b": None}}}
ODD: dict[str, Any] = {
    "empty list": [],
    "empty dict": {},
    "word": "x",
    "control": "\0\33[2J\n",
    "negative": -1,
    "infinite": float("inf"),
    "NaN": float("nan"),
    "True": True,
    "huge": 2**62,
    "vast": 10**400,
}


def places(value: Any, *above: Any) -> Iterator[tuple[Any, ...]]:
    """The keys that lead to everything in a header that is not about its arrays."""
    if above:
        yield above
    if isinstance(value, list):
        value = dict(enumerate(value))
    for key, inside in value.items() if isinstance(value, dict) else ():
        if key not in ("arrays", "format", "version"):
            yield from places(inside, *above, key)


@pytest.fixture
def last(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NPVAE_BACKEND", "numpy")  # nothing to compile
    digits_file(here, 20, 10)
    start(epochs=1, hidden_dims=(2,), latent_dim=1)
    return Path("run/last.npz")


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_any_header_is_used_or_refused(last: Path, every: int, tally: Tally) -> None:
    members = members_of(last)
    header = json.loads(str(np.load(last)["header"]))
    uses: list[Callable[[], object]] = [
        lambda: VAE.load(last),
        lambda: TrainedModel(last).data,
        lambda: open_run(last)[0].close(),
    ]
    values = {**NEVER, **ODD, "missing": ...}  # 14, so of every seventh case each has its turn
    cases = [(where, *item) for where in places(header) for item in values.items()]
    for number, (where, name, odd) in enumerate(cases):
        if (number + number // len(values)) % every:
            continue
        write_members(last, forged(members, changed(*where, to=odd)))
        refused = 0
        for use in uses:
            try:
                use()
            except CheckpointError:
                refused += 1
            except NpvaeError:
                pass  # no other is raised
        setting = where[0] == "settings"  # and those may be True
        if name in NEVER or (name == "True" and not setting):
            assert refused >= (2 if setting else 3), (where, name)
        tally("checkpoint: headers", "refused" if refused else "harmless")
