from pathlib import Path

import pytest

from headstart.errors import RecipeError
from headstart.recipes.reference import as_markdown, method_pages


def test_the_page_in_the_docs_is_the_one_that_is_generated() -> None:
    page = Path(__file__).parents[2] / "docs" / "methods.md"
    text = page.read_text(encoding="utf-8")
    assert text == as_markdown(method_pages()), "headstart methods --markdown > docs/methods.md"


def test_a_method_by_name_and_a_family() -> None:
    (page,) = method_pages("cutmix")
    assert page.family == "batch_mixing"
    assert "Yun" in page.what
    (alpha,) = [each for each in page.fields if each.name == "alpha"]
    assert alpha.allowed == "number > 0 ≤ 10"
    assert alpha.searched == "0.1 to 1, logarithmic"
    assert {page.name for page in method_pages("Schedule")} == {"constant", "onecycle", "cosine"}
    # A name that several families have.
    assert {page.family for page in method_pages("none")} >= {"augmentation", "averaging"}


def test_an_unknown_name_is_answered() -> None:
    with pytest.raises(RecipeError, match="did you mean 'cutmix'"):
        method_pages("cutmax")
