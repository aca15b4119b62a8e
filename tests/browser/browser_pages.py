"""Pages in a real browser, for the tests of all that is shown in one."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip

MARKS = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine"),
    # Playwright's own, of the event loop that it starts.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


_open: list[Any] = []


@contextmanager
def launched() -> Iterator[Any]:
    """A browser. Its event loop ends with it, which other tests in the process need.

    Playwright allows one event loop a thread, so a test that asks for a browser while that of
    its module is still open gets the same one.
    """
    from playwright.sync_api import sync_playwright

    if _open:
        yield _open[-1]
        return
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        _open.append(browser)
        try:
            yield browser
        finally:
            _open.pop()
            browser.close()


class Visit:
    """A page at an address, with all that went wrong or was asked for."""

    def __init__(self, browser: Any, url: str, width: int = 1280, dark: bool = False) -> None:
        scheme = "dark" if dark else "light"
        self.context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme
        )
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[tuple[str, str]] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda each: self.asked.append((each.method, each.url)))
        self.page.goto(url)

    def close(self) -> None:
        """Closes the page."""
        self.context.close()
