"""The report in a real browser: it needs no network, its script works, and it is accessible."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headstart.api.fit import fit

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
WIDTHS = {"phone": 390, "desktop": 1280}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine"),
    # Playwright's own, of the event loop that it starts.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def report(
    mislabelled_pictures: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The report of a search that makes mistakes."""
    folder = tmp_path_factory.mktemp("browser")
    images = mislabelled_pictures(folder / "images")
    settings = ["backbone.resolution=64", "freezing.boundary=blocks.5", "views=2"]
    run = fit(images, trials=3, epochs=2, out=folder / "run", settings=settings)
    return run.folder / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield launched
        launched.close()


class Visit:
    """The report opened in a page, with all that went wrong or left the machine."""

    def __init__(self, browser: Any, report: Path, width: int = 1280, dark: bool = False) -> None:
        scheme = "dark" if dark else "light"
        self.context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme
        )
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(report.as_uri())


@pytest.fixture
def visit(browser: Any, report: Path) -> Iterator[Callable[..., Visit]]:
    visits = []

    def open_page(**how: Any) -> Visit:
        visits.append(Visit(browser, report, **how))
        return visits[-1]

    yield open_page
    for each in visits:
        each.context.close()


def test_it_is_silent_and_asks_for_nothing(visit: Callable[..., Visit], report: Path) -> None:
    opened = visit()
    opened.page.wait_for_load_state("networkidle")
    opened.page.wait_for_function("[...document.images].every((image) => image.complete)")
    broken = "[...document.images].filter((image) => !image.naturalWidth).map((image) => image.alt)"
    assert opened.page.evaluate(broken) == []
    assert opened.page.evaluate("document.images.length") > 10
    assert opened.said == []
    assert [url for url in opened.asked if not url.startswith("data:")] == [report.as_uri()]


def test_tables_can_be_sorted(visit: Callable[..., Visit]) -> None:
    page = visit().page
    table = page.locator("[aria-label='Results of each class'] table")
    button = table.get_by_role("button", name="Images")
    column = "(rows) => rows.map((row) => Number(row.cells[1].textContent))"
    for wanted, reverse in (("ascending", False), ("descending", True)):
        button.click()
        shown = table.locator("tbody tr").evaluate_all(column)
        assert len(shown) == 3
        assert shown == sorted(shown, reverse=reverse)
        assert table.locator("th[aria-sort]").get_attribute("aria-sort") == wanted
    names = table.get_by_role("button", name="Class")
    names.focus()
    page.keyboard.press("Enter")
    first = table.locator("tbody th").evaluate_all("(all) => all.map((each) => each.textContent)")
    assert first == sorted(first)
    assert table.locator("th[aria-sort]").count() == 1


def test_the_map_tells_what_a_dot_is(visit: Callable[..., Visit]) -> None:
    page = visit().page
    told = page.locator(".map .told")
    dot = page.locator(".map circle").first
    dot.scroll_into_view_if_needed()
    box = dot.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert re.search(r": (checks|rings|stripes)/\d+\.png", told.inner_text())
    assert page.locator(".map .tile").is_visible()
    page.locator(".map input").check()
    page.get_by_role("button", name="Next image").click()
    assert "predicted as" in told.inner_text()


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", WIDTHS)
def test_it_is_accessible_and_fits(visit: Callable[..., Visit], width: str, dark: bool) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page = visit(width=WIDTHS[width], dark=dark).page
    found = Axe().run(page).response["violations"]
    grave = {
        (
            each["id"],
            each["nodes"][0]["html"][:120],
            each["nodes"][0].get("failureSummary", "")[:200],
        )
        for each in found
        if each["impact"] in {"serious", "critical"}
    }
    assert grave == set()
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(overflow) == 0
