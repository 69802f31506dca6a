"""A browser for the tests of pages, if there is one: Chromium, driven by playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import HANGS_AFTER

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


@pytest.fixture(scope="package")  # its event loop must not outlive them
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


class Page:
    """A tab, offline, for one page after another: to open another tab takes a second."""

    def __init__(self, browser: Any, width: int = 1280, height: int = 900, **more: Any) -> None:
        self.size = {"width": width, "height": height}
        self.context = browser.new_context(viewport=self.size, offline=True, **more)
        self.context.set_default_timeout(1000 * HANGS_AFTER)
        self.tab = self.context.new_page()
        self.js, self.wrong, self.folder = self.tab.evaluate, list[str](), Path()
        self.tab.on("console", lambda message: self.wrong.append(message.text))
        self.tab.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.tab.on("request", lambda request: self.note(request.url))

    def note(self, url: str) -> None:
        if not url.startswith(("data:", "blob:", self.folder.as_uri())):
            self.wrong.append(f"asks for {url}")

    def show(self, html: str, hash_: str = "", scheme: str = "light") -> None:
        """A page of this text, in its folder."""
        path = self.folder / "page.html"
        path.write_text(html, encoding="utf-8")
        if self.tab.url.startswith(path.as_uri()):
            self.tab.goto("about:blank")  # what differs in its # alone is not loaded again
        self.tab.set_viewport_size(self.size)
        self.tab.emulate_media(color_scheme=scheme)
        self.tab.mouse.move(0, 0)
        self.tab.goto(path.as_uri() + hash_)

    def until(self, condition: str) -> None:
        """Wait for the next frame, and until this holds in JavaScript, however slow the machine."""
        late = f"if (performance.now() > start + {1000 * HANGS_AFTER}) throw 'it waits for ever'"
        wait = f"do {{ await new Promise(requestAnimationFrame); {late}; }} while (!({condition}));"
        self.js(f"async () => {{ const start = performance.now(); {wait} }}")

    def check(self) -> None:
        """No error, no request but for its own folder; and the next page finds nothing kept."""
        self.js("[localStorage, sessionStorage].forEach((storage) => storage.clear())")
        wrong, self.wrong = self.wrong, []
        assert not wrong
