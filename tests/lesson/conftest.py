"""These tests are about the lesson: it trains, and not the engine."""

import pytest


@pytest.fixture(autouse=True)
def lesson(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPVAE_BACKEND", "numpy")
