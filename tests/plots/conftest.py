"""A browser for the tests of pages, if there is one: Chromium, driven by playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


@pytest.fixture(scope="module")  # its event loop must not outlive them
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="the tests of pages need playwright"
    )
    with sync_api.sync_playwright() as playwright:
        chromium = CHROMIUM or playwright.chromium.executable_path  # its own, if it has one
        if not Path(chromium).exists():
            pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS.split())
        yield browser
        browser.close()
