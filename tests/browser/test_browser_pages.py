"""Tests of the browser that tests share."""

from browser_pages import MARKS, launched

pytestmark = MARKS


def test_a_browser_in_a_browser_is_the_same_and_stays_open() -> None:
    with launched() as outer:
        with launched() as inner:
            inner.new_page().close()
        page = outer.new_page()
        page.set_content("<p>still here</p>")
        assert page.inner_text("p") == "still here"
    with launched() as another:
        another.new_page().close()
