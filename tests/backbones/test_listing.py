from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from headstart.backbones.catalog import build_backbone
from headstart.backbones.known import KNOWN
from headstart.backbones.listing import (
    MAY_BE_FETCHED,
    NOT_HERE,
    count_gmacs,
    describe,
    for_screening,
    known_backbones,
)
from headstart.backbones.weights import PACKAGES
from headstart.errors import BackboneError

AddToCache = Callable[[Path, str, dict[str, torch.Tensor]], Path]

SMALL = "mobilenetv3_small_050.lamb_in1k"
CACHED = f"timm/{SMALL}"


def small() -> dict[str, torch.Tensor]:
    return build_backbone(SMALL).state_dict()


def test_the_short_list(hub_cache: Path) -> None:
    known = known_backbones()
    assert [info.name for info in known] == [each.name for each in KNOWN]
    assert {info.name: info.weights for info in known[:4]} == {
        **dict.fromkeys(PACKAGES, "shipped"),
        KNOWN[3].name: "hub",
    }
    by_name = {info.name: info for info in known}
    resnet = by_name["resnet18.a1_in1k"]
    # 11.69 million parameters of four bytes.
    assert (resnet.megabytes, resnet.resolution) == (pytest.approx(46.76), 224)
    assert (resnet.gmacs, resnet.accuracy) == (1.82, 71.5)
    assert by_name["regnety_008_tv.tv2_in1k"].licence == "bsd-3-clause"


def test_patterns_and_the_long_list(hub_cache: Path) -> None:
    assert [info.name for info in known_backbones("resnet*8")] == ["resnet18.a1_in1k"]
    assert [info.name for info in known_backbones("LITE1")] == ["tf_efficientnet_lite1"]
    (other,) = known_backbones("regnetx_002")  # not on the short list
    assert (other.name, other.screened) == ("regnetx_002.pycls_in1k", False)
    assert "not in the table" in other.why
    everything = known_backbones(all=True)
    assert len(everything) > 1000
    assert len({info.name for info in everything}) == len(everything)
    assert {info.weights for info in everything} == {"shipped", "hub", "none"}
    assert [info for info in everything if info.weights == "none" and info.screened] == []
    with pytest.raises(BackboneError, match=r"matches 'resnett50'; did you mean 'resnet50"):
        known_backbones("resnett50")


def test_what_a_search_looks_at(hub_cache: Path, add_to_cache: AddToCache) -> None:
    add_to_cache(hub_cache, CACHED, small())
    for download, of_the_hub in ((False, (False, NOT_HERE)), (True, (True, MAY_BE_FETCHED))):
        listed = {info.name: info for info in for_screening(download)}
        assert all(listed[name].screened and not listed[name].why for name in (*PACKAGES, SMALL))
        nano = listed["convnext_nano.in12k_ft_in1k"]
        assert (nano.screened, nano.why) == of_the_hub
        dino = listed["vit_small_patch16_dinov3.lvd1689m"]
        assert not dino.screened
        assert dino.why == "give --backbone to use it under its licence (dinov3-license)"
    found = listed[SMALL]
    # 0.03 billion multiply-adds are published; 1.59 million parameters with 1.02 of the classifier.
    assert found.weights == "cached"
    assert found.gmacs == pytest.approx(0.03, rel=0.3)
    assert found.megabytes == pytest.approx(4 * (1.59 - 1.02), rel=0.1)


@pytest.mark.parametrize("licence", ["cc-by-nc-4.0", "apple-amlr", None])
def test_a_licence_with_terms_is_never_chosen_unasked(
    licence: str | None, hub_cache: Path, add_to_cache: AddToCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    from headstart.backbones import catalog

    add_to_cache(hub_cache, CACHED, small())
    monkeypatch.setattr(catalog.config_of(SMALL), "license", licence)
    info = describe(SMALL, True)
    assert not info.screened
    assert info.why.endswith(f"({licence or 'unknown'})")


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def lengthened(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0")


def emptied(file: Path) -> None:
    file.write_bytes(b"")


@pytest.mark.parametrize("spoil", [cut, lengthened, emptied])
def test_a_damaged_file_is_told(
    spoil: Callable[[Path], None], hub_cache: Path, add_to_cache: AddToCache
) -> None:
    file = add_to_cache(hub_cache, CACHED, small())
    spoil(file)
    (info,) = known_backbones(SMALL)
    assert (info.weights, info.screened) == ("cached", False)
    assert "damaged" in info.why
    assert info.why.endswith(
        f"delete {hub_cache / 'models--timm--mobilenetv3_small_050.lamb_in1k'}"
    )


def test_an_unfinished_download_is_told(hub_cache: Path, add_to_cache: AddToCache) -> None:
    name = "convnext_nano.in12k_ft_in1k"
    for each in (name, SMALL):
        file = add_to_cache(hub_cache, f"timm/{each}", small())
        file.rename(file.with_suffix(".incomplete"))
    listed = {info.name: info for info in for_screening()}
    assert "only a part of it" in listed[name].why
    assert "not in the table" in listed[SMALL].why
    assert {listed[each].weights for each in (name, SMALL)} == {"hub"}


def test_other_formats_are_left_to_the_user(hub_cache: Path, add_to_cache: AddToCache) -> None:
    file = add_to_cache(hub_cache, CACHED, small())
    folder = next(file.parents[1].glob("snapshots/*"))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert describe(SMALL).weights == "cached"
    assert describe(SMALL).why == "give --backbone to use it: its file is not a safetensors file"


@pytest.mark.parametrize("name", ["no_such_model", "a--b", "a."])
def test_other_folders_in_the_cache_are_passed_over(name: str, hub_cache: Path) -> None:
    (hub_cache / f"models--timm--{name}" / "refs").mkdir(parents=True)
    assert [info.name for info in for_screening()] == [each.name for each in KNOWN]


@pytest.mark.parametrize(
    "name", ["tf_efficientnet_lite0", "resnet18.a1_in1k", "vit_small_patch14_dinov2.lvd142m"]
)
def test_costs_of_the_table_are_those_that_are_counted(name: str) -> None:
    info = describe(name)
    assert info.gmacs == pytest.approx(count_gmacs(name, info.resolution), rel=0.1)


def test_a_network_that_cannot_be_built_costs_nothing_known() -> None:
    assert count_gmacs("no_such_network", 64) is None
