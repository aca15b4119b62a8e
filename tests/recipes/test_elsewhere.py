"""Every name of another tool leads to a field, a family or a method that is really there."""

import pytest

from headstart.methods.method import method_name
from headstart.recipes.elsewhere import ELSEWHERE
from headstart.recipes.recipe import FAMILIES, Recipe


@pytest.mark.parametrize("name", ELSEWHERE)
def test_our_name_is_there(name: str) -> None:
    ours, _, method = ELSEWHERE[name].partition("=")
    family, _, field = ours.partition(".")
    assert family in Recipe.model_fields
    if field:
        assert any(field in each.model_fields for each in FAMILIES[family])
    if method:
        assert method in {method_name(each) for each in FAMILIES[family]}
    assert name == ELSEWHERE[name] or name not in Recipe.model_fields
