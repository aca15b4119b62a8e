from pathlib import Path

import timm

from headstart.backbones.catalog import config_of
from headstart.backbones.known import BY_NAME, KNOWN, OPEN_LICENCES, KnownBackbone, worth_fetching
from headstart.backbones.weights import PACKAGES


def test_every_name_is_one_of_timm_with_weights_on_the_hub() -> None:
    pretrained = set(timm.list_pretrained())
    for each in KNOWN:
        if each.name in PACKAGES:
            continue
        assert each.name in pretrained
        assert config_of(each.name).hf_hub_id == f"timm/{each.name}"
        assert not config_of(each.name).hf_hub_filename
    assert len(BY_NAME) == len(KNOWN)


def test_the_table_begins_with_what_is_shipped_and_goes_by_cost() -> None:
    assert [each.name for each in KNOWN[:3]] == list(PACKAGES)
    costs = [each.gmacs for each in KNOWN[3:]]
    assert costs == sorted(costs)


def test_most_licences_are_open_and_the_others_are_told() -> None:
    closed = [each.name for each in KNOWN if config_of(each.name).license not in OPEN_LICENCES]
    assert closed == ["vit_small_patch16_dinov3.lvd1689m"]


def test_the_page_has_the_table() -> None:
    page = (Path(__file__).parents[2] / "docs" / "backbones.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:4] for line in page.splitlines() if line.startswith("| ")][1:]
    assert [(name.strip(), float(gmacs), float(millions)) for name, gmacs, millions in rows] == [
        (each.name, each.gmacs, each.millions) for each in KNOWN
    ]


def known(name: str, gmacs: float, accuracy: float | None, learned_from: str) -> KnownBackbone:
    return KnownBackbone(name, gmacs, 1.0, accuracy, learned_from)  # type: ignore[arg-type]


def test_the_best_of_each_kind_of_pretraining_comes_first() -> None:
    best, cousin = known("a_large", 5, 85, "labels"), known("a_small", 1, 84, "labels")
    other, worse = known("b", 2, 80, "labels"), known("c", 1, 70, "labels")
    alone, texts = known("d", 6, 81, "images"), known("e", 4, None, "texts")
    everything = [worse, cousin, alone, other, texts, best]
    assert worth_fetching(everything) == [texts, best, alone]
    assert worth_fetching(everything, most=4) == [other, texts, best, alone]
    # Without time for the largest, its cousin of the same family takes its place.
    assert worth_fetching([worse, cousin, other]) == [cousin, worse, other]
    assert worth_fetching([]) == []
