"""The page of the service in a real browser: it answers as `predict` does, and is accessible."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from browser_pages import MARKS, Visit, launched

if TYPE_CHECKING:
    from headstart.inference.run import Run

pytestmark = MARKS


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as found:
        yield found


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Visit]]:
    with ExitStack() as visits:

        def open_page(running: Any, **how: Any) -> Visit:
            url = f"http://127.0.0.1:{running.port}/"
            return visits.enter_context(closing(Visit(browser, url, **how)))

        yield open_page


def test_an_image_is_answered_as_predict_does(
    visit: Callable[..., Visit], service: Any, head_run: "Run", pictures: Path
) -> None:
    file = pictures / "stripes" / "004.png"
    opened = visit(service)
    page = opened.page
    page.wait_for_selector("#drop:not([hidden])")
    assert "3 classes" in page.locator("#about").inner_text()
    page.set_input_files("#files", [file])
    page.wait_for_selector(".near li")
    (wanted,) = head_run.predict(file)
    assert page.locator(".bars .name").first.inner_text() == wanted.label
    shown = page.locator(".bars .share").all_inner_texts()
    known = sorted(wanted.probabilities.values(), reverse=True)
    assert [float(each.rstrip("%")) for each in shown] == pytest.approx(
        [min(max(100 * share, 0.1), 99.9) for share in known], abs=0.06
    )
    assert page.locator(".warning").is_visible() == wanted.out_of_distribution
    assert page.locator("canvas").is_visible()
    names = page.locator(".near span").all_inner_texts()
    assert [name.partition(",")[0] for name in names] == [
        each.image for each in head_run.similar(file)
    ]
    page.get_by_label("Show where the network looked").uncheck()
    assert page.locator("article img").first.is_visible()
    assert opened.said == []
    assert all(
        url.startswith((f"http://127.0.0.1:{service.port}/", "data:", "blob:"))
        for _, url in opened.asked
    )


def test_what_cannot_be_read_is_said(
    visit: Callable[..., Visit], service: Any, tmp_path: Path
) -> None:
    (tmp_path / "a<b>.png").write_bytes(b"no image")
    page = visit(service).page
    page.wait_for_selector("#drop:not([hidden])")
    page.set_input_files("#files", tmp_path / "a<b>.png")
    page.wait_for_selector("article")
    assert "not an image" in page.locator(".warning").inner_text()
    assert "a<b>.png" in page.locator("figcaption").inner_text()


def test_a_key_is_asked_for_on_the_page(
    visit: Callable[..., Visit], start: Callable[..., Any]
) -> None:
    page = visit(start(key="0123456789abcdef")).page
    page.get_by_label("This service asks for a key.").fill("wrong")
    page.keyboard.press("Enter")
    # Not by a function: waiting for one needs eval, which the page forbids.
    page.wait_for_selector("#wrong:not(:empty)")
    page.get_by_label("This service asks for a key.").fill("0123456789abcdef")
    page.keyboard.press("Enter")
    page.wait_for_selector("#drop:not([hidden])")
    assert not page.locator("#key").is_visible()


@pytest.mark.parametrize(("width", "dark"), [(390, False), (390, True), (1280, True)])
def test_it_is_accessible_and_fits(
    visit: Callable[..., Visit], service: Any, pictures: Path, width: int, dark: bool
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page = visit(service, width=width, dark=dark).page
    page.wait_for_selector("#drop:not([hidden])")
    page.set_input_files("#files", pictures / "rings" / "004.png")
    page.wait_for_selector(".near li")
    found = Axe().run(page).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"][:120]) for each in found] == []
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(overflow) == 0


def test_any_number_of_labels_each_with_its_threshold(
    visit: Callable[..., Visit], start: Callable[..., Any], labels_run: "Run", quarters_folder: Path
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    files = [quarters_folder / f"{number:02}.png" for number in range(30)]
    by_number = {len(each.labels or ()): (file, each)
                 for file, each in zip(files, labels_run.predict(files), strict=True)}  # fmt: skip
    opened = visit(start(labels_run.folder))
    page = opened.page
    page.wait_for_selector("#drop:not([hidden])")
    about = page.locator("#about").inner_text()
    assert "any number of 3 labels" in about and "mean average precision" in about
    metrics: Any = labels_run.metrics
    thresholds = {each.name: each.threshold for each in metrics.labels}
    for shown, number in enumerate((2, 0), 1):
        file, wanted = by_number[number]
        page.set_input_files("#files", [file])
        page.locator("article").nth(shown - 1).wait_for()
        card = page.locator("article").first
        card.locator(".near li").first.wait_for()
        assert card.locator("h2").inner_text() == (", ".join(wanted.labels or ()) or "No label")
        told = dict(
            zip(
                card.locator(".bars .name").all_inner_texts(),
                card.locator(".bars .share").all_inner_texts(),
                strict=True,
            )
        )
        assert set(told) == set(thresholds)
        for name, words in told.items():
            given = name in (wanted.labels or ())
            assert ("not given below" in words) != given
            share, _, limit = words.partition("%, ")
            assert float(share) == pytest.approx(100 * wanted.probabilities[name], abs=0.11)
            shown_limit = float(limit.rpartition(" ")[2].rstrip("%"))
            assert shown_limit == pytest.approx(100 * thresholds[name], abs=0.11)
        assert card.locator(".bars .given").count() == number
        assert card.locator(".for").is_visible() == (number > 1)
    several = page.locator("article").nth(1)
    second = several.locator("option").nth(1).inner_text()
    several.locator("select").select_option(second)
    several.locator(".heat p").filter(has_text=second).wait_for()
    assert [each["id"] for each in Axe().run(page).response["violations"]] == []
    assert opened.said == []
