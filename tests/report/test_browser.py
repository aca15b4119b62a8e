"""The report in a real browser: it needs no network, its script works, and it is accessible."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from browser_pages import MARKS, Visit, launched

from headstart.api.fit import fit

WIDTHS = {"phone": 390, "tablet": 768, "desktop": 1280}

OVERLAPPING = """() => {
  const found = [];
  for (const svg of document.querySelectorAll(".plot svg, .certificate svg")) {
    const labels = [...svg.querySelectorAll("text")].filter((each) => each.textContent.trim());
    const boxes = labels.map((each) => each.getBoundingClientRect());
    labels.forEach((first, i) => labels.slice(i + 1).forEach((second, j) => {
      const [a, b] = [boxes[i], boxes[i + 1 + j]];
      const beside = a.right <= b.left + 1 || b.right <= a.left + 1;
      const below = a.bottom <= b.top + 1 || b.bottom <= a.top + 1;
      if (!beside && !below) found.push(first.textContent + " and " + second.textContent);
    }));
  }
  return found;
}"""
"""Pairs of labels of the charts that lie on each other."""

pytestmark = MARKS


@pytest.fixture(scope="module")
def report(
    mislabelled_pictures: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The report of a search that makes mistakes."""
    folder = tmp_path_factory.mktemp("browser")
    images = mislabelled_pictures(folder / "images")
    settings = [
        "backbone.resolution=64",
        "backbone.name=test_efficientnet",
        "backbone.weights=random",
        "freezing.boundary=blocks.3",
    ]
    settings += ["views=2"]
    run = fit(images, trials=3, epochs=2, out=folder / "run", settings=settings)
    return run.folder / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as found:
        yield found


@pytest.fixture
def visit(browser: Any, report: Path) -> Iterator[Callable[..., Visit]]:
    with ExitStack() as visits:
        yield lambda **how: visits.enter_context(closing(Visit(browser, report.as_uri(), **how)))


def test_it_is_silent_and_asks_for_nothing(visit: Callable[..., Visit], report: Path) -> None:
    opened = visit()
    opened.page.wait_for_load_state("networkidle")
    opened.page.wait_for_function("[...document.images].every((image) => image.complete)")
    broken = "[...document.images].filter((image) => !image.naturalWidth).map((image) => image.alt)"
    assert opened.page.evaluate(broken) == []
    assert opened.page.evaluate("document.images.length") > 10
    assert opened.said == []
    assert [url for _, url in opened.asked if not url.startswith("data:")] == [report.as_uri()]


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
    found = {
        (each["id"], each["nodes"][0]["html"][:120], each["nodes"][0].get("failureSummary", ""))
        for each in Axe().run(page).response["violations"]
    }
    assert found == set()
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(overflow) == 0
    assert page.evaluate(OVERLAPPING) == []


def test_a_class_of_the_legend_can_be_chosen(visit: Callable[..., Visit]) -> None:
    page = visit().page
    faded = page.locator(".plane circle.faded")
    entry = page.locator(".legend").get_by_role("button", name="rings")
    entry.click()
    others = page.locator(".plane circle").count() - page.locator("[data-class='1']").count() + 1
    assert faded.count() == others > 0
    assert entry.get_attribute("aria-pressed") == "true"
    entry.click()
    assert faded.count() == 0


def test_a_mistake_stands_beside_a_right_answer(visit: Callable[..., Visit]) -> None:
    first = visit().page.locator(".mistakes > li").first
    assert first.locator(".was-wrong img").count() == 2, "the image and its heat map"
    assert first.locator(".was-right img").count() == 2
