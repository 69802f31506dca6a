"""How many cores this process may use."""

from __future__ import annotations

import os

import pytest

from npvae.fast.threads import cores as usable_cores


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine with five cores, of which this process may use three, and no environment."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 2, 4}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    return monkeypatch


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        *((None, 3), ("", 3), ("1", 1), ("2", 2), ("7", 7), ("0", 1), ("x", 3), ("-2", 3)),
        *(("4,2", 4), (" 4 , 2", 4), ("4;2", 3), ("2 ", 2), ("99999", 1024), ("9" * 5000, 1024)),
    ],
)
def test_cores_are_those_that_one_may_use(
    cores: pytest.MonkeyPatch, wanted: str | None, expected: int
) -> None:
    if wanted is not None:
        cores.setenv("OMP_NUM_THREADS", wanted)
    assert usable_cores() == expected


def test_where_nobody_says_which_cores_one_may_use(cores: pytest.MonkeyPatch) -> None:
    cores.delattr(os, "sched_getaffinity")
    assert usable_cores() == 5
    cores.setattr(os, "cpu_count", lambda: None)
    assert usable_cores() == 1
