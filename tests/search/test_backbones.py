import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save

from headstart.artifacts.records import Request, RunRecord
from headstart.backbones.catalog import build_backbone, load_backbone
from headstart.backbones.cut import trace
from headstart.backbones.listing import BackboneInfo, describe, for_screening
from headstart.backbones.weights import PACKAGES
from headstart.features.layout import FeatureLayout, FeatureTable
from headstart.recipes.options import FitOptions
from headstart.recipes.parsing import parse_recipe
from headstart.recipes.recipe import Recipe
from headstart.search.backbones import (
    Screened,
    Screening,
    clearly_better,
    screen,
    with_best_backbone,
)
from headstart.search.lineup import Affordable, Lineup
from headstart.training.budget import Clock
from headstart.training.experiment import DevelopmentSet, Experiment
from headstart.training.run_context import Resources, RunContext

AddToCache = Callable[[Path, str, dict[str, torch.Tensor]], Path]

LITE = list(PACKAGES)
TWIN = "efficientnet_lite0.ra_in1k"
"""The architecture of the smallest backbone that is shipped, under another name."""
SMALL = "mobilenetv3_small_050.lamb_in1k"


def infos(*names: str) -> list[BackboneInfo]:
    return [describe(name) for name in names]


def screened(name: str, losses: np.ndarray) -> Screened:
    return Screened(name, losses, 0, 0.0)


def test_another_one_must_be_better_by_more_than_chance() -> None:
    rng = np.random.default_rng(0)
    own = screened("own", rng.uniform(0.1, 0.5, 200))
    # On average better by a thousandth, with a standard error of 0.014.
    alike = screened("alike", own.losses - 0.001 + 0.2 * np.resize([1.0, -1.0], 200))
    better = screened("better", own.losses - rng.uniform(0.0, 0.1, 200))
    best = screened("best", own.losses - rng.uniform(0.05, 0.15, 200))
    worse = screened("worse", own.losses + 0.1)
    assert clearly_better([own]).name == "own"
    assert clearly_better([own, worse]).name == "own"
    assert clearly_better([own, better, best, worse]).name == "best"
    assert alike.loss < own.loss
    assert clearly_better([own, alike]).name == "own"


@pytest.mark.slow
def test_backbones_are_scored_on_the_same_images(experiment: Experiment) -> None:
    recipe = parse_recipe({"backbone": {"resolution": 64}})
    found = screen(experiment, recipe, infos(*LITE[:2]), Resources(workers=1)).found
    assert [each.name for each in found] == LITE[:2]
    images = len(experiment.extractor.rows["train"]) + len(experiment.extractor.rows["val"])
    assert {len(each.losses) for each in found} == {images}
    assert all(each.right > 0.6 * images for each in found)
    assert all(0 <= each.loss < 1.2 for each in found)


@pytest.mark.parametrize(
    ("budget_s", "slow_from", "names"),
    [
        (None, 0, LITE),
        (400.0, 3, LITE),
        (400.0, 1, LITE[:2]),
        (100.0, 3, LITE[:1]),
        (1.0, 0, LITE[:1]),
    ],
)
def test_a_candidate_without_time_is_left_out(
    budget_s: float | None, slow_from: int, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scoring takes 20 s for the first, so 31 s and 44 s for the others, and twice under load."""
    scored = list[str]()

    def seconds(name: str) -> float:
        scored.append(name)
        cost = describe(name).gmacs / describe(LITE[0]).gmacs
        return float(20 * cost * (1 + (len(scored) > slow_from)))

    result = screened_in(seconds, infos(*LITE), budget_s, monkeypatch)
    assert [each.name for each in result.found] == names
    assert result.late == [name for name in LITE if name not in names]


@pytest.mark.parametrize(("features_s", "found"), [(0.0, 3), (0.1, 2)])
def test_a_dearer_one_takes_longer_by_its_features_alone(
    features_s: float, found: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quarter of 400 s; 20 s to load each, and 3 s for the features of the first."""
    cheap, dear = describe("mobilenetv4_conv_small.e2400_r224_in1k"), describe("resnet50.a1_in1k")
    assert dear.gmacs / cheap.gmacs > 20
    backbones = [*infos(LITE[0]), cheap, replace(dear, gmacs=20 * describe(LITE[0]).gmacs)]
    result = screened_in(lambda _: 20.0, backbones, 400.0, monkeypatch, features_s)
    assert len(result.found) == found
    assert result.late == [dear.name][found - 2 :]


def screened_in(
    seconds: Callable[[str], float], backbones: list[BackboneInfo], budget_s: float | None,
    patch: pytest.MonkeyPatch, features_s: float = 0.0,
) -> Screening:  # fmt: skip
    """Screens on 30 made-up images, where scoring a backbone takes so many seconds."""
    now = [0.0]

    def features(experiment: Any, recipe: Recipe, *_: Any) -> FeatureTable:
        now[0] += seconds(recipe.backbone.name)
        features = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
        return FeatureTable(features, FeatureLayout((), (4,)))

    clock = SimpleNamespace(monotonic=lambda: now[0])
    patch.setattr("headstart.search.backbones._features", features)
    patch.setattr("headstart.search.backbones.time", clock)
    patch.setattr("headstart.search.backbones.why_out_of_reach", lambda: "")
    patch.setattr("headstart.search.backbones.fetch", lambda *_: None)
    patch.setattr("headstart.training.budget.time", clock)
    rows = np.arange(30)
    development = DevelopmentSet(rows, rows % 2, rows)
    patch.setattr("headstart.search.backbones.development_set", lambda _: development)
    extractor = SimpleNamespace(classes=("a", "b"))
    experiment: Any = SimpleNamespace(extractor=extractor, features_s=features_s)
    return screen(experiment, Recipe(), backbones, Resources(Clock(0.0, budget_s)))


def with_classifier(name: str, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A state as a file of the hub has it."""
    features = {TWIN: 1280, SMALL: 1024}[name]
    return {
        **state,
        "classifier.weight": torch.zeros(1000, features),
        "classifier.bias": torch.zeros(1000),
    }


@pytest.fixture
def no_other_shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves two of the shipped backbones out: each takes seconds."""

    def few(download: bool) -> list[BackboneInfo]:
        return [each for each in for_screening(download) if each.name not in LITE[1:]]

    monkeypatch.setattr("headstart.search.backbones.for_screening", few)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("something reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def chosen(
    experiment: Experiment, base: Recipe | None = None, **options: Any
) -> tuple[Experiment, Recipe, RunRecord]:
    record = RunRecord(
        command="", started_at="", data_name="", data_root="", n_train=0, n_val=0, n_test=0,
        classes=(), backbone="", backbone_source="",
        request=Request(options=FitOptions(trials=2, **options)),
    )  # fmt: skip
    run = RunContext(Path(), record, Resources(cache_dir=experiment.extractor.cache_dir, workers=1))
    return (*with_best_backbone(run, experiment, base or Recipe()), record)


@pytest.mark.slow
@pytest.mark.usefixtures("no_other_shipped", "no_network")
def test_what_lies_in_the_cache_is_compared_and_chosen_if_it_is_better(
    experiment: Experiment, hub_cache: Path, add_to_cache: AddToCache
) -> None:
    # The recipe's backbone knows nothing here, and its twin all that is shipped.
    untrained = load_backbone(LITE[0], weights="random", resolution=64)
    extractor = replace(experiment.extractor, backbone=untrained, traced=trace(untrained.model, 64))
    experiment = replace(experiment, extractor=extractor)
    shipped = load_backbone(LITE[0]).model.state_dict()
    add_to_cache(hub_cache, f"timm/{TWIN}", with_classifier(TWIN, shipped))
    changed, recipe, record = chosen(experiment)
    assert recipe.backbone.name == changed.extractor.backbone.name == TWIN
    assert changed.extractor.backbone.preprocessing.mean == (0.485, 0.456, 0.406)
    assert record.backbone_source == f"huggingface.co/timm/{TWIN}"
    (step,) = record.plan
    assert step.planned == "cross-validate a probe on 2 backbones"
    assert step.happened.endswith(f"chosen: {TWIN}")
    assert all(f"{name}: log loss" in step.happened for name in (LITE[0], TWIN))
    assert record.notes == []


@pytest.mark.slow
@pytest.mark.usefixtures("no_other_shipped", "no_network")
def test_what_is_worse_or_cannot_be_used_is_told_and_changes_nothing(
    experiment: Experiment, hub_cache: Path, add_to_cache: AddToCache
) -> None:
    random = with_classifier(SMALL, build_backbone(SMALL).state_dict())
    others = {
        "mobilenetv3_small_075.lamb_in1k": "cannot be built",
        "convnextv2_atto.fcmae_ft_in1k": "under its licence (cc-by-nc-4.0)",
    }
    for name in (SMALL, *others):  # the weights are those of the first
        add_to_cache(hub_cache, f"timm/{name}", random)
    changed, recipe, record = chosen(experiment)
    assert (changed, recipe) == (experiment, Recipe())
    assert record.plan[0].planned == "cross-validate a probe on 3 backbones"
    assert record.plan[0].happened.endswith(f"chosen: {LITE[0]}")
    notes = sorted(record.notes)
    assert len(notes) == 2
    for note, (name, why) in zip(notes, sorted(others.items()), strict=True):
        assert note.startswith(f"The backbone {name} was not looked at: ")
        assert why in note


@pytest.mark.usefixtures("no_other_shipped")
def test_features_that_are_not_finite_are_no_score(
    experiment: Experiment, hub_cache: Path, add_to_cache: AddToCache
) -> None:
    state = with_classifier(SMALL, build_backbone(SMALL).state_dict())
    state["conv_stem.weight"] = torch.full_like(state["conv_stem.weight"], torch.nan)
    add_to_cache(hub_cache, f"timm/{SMALL}", state)
    _, recipe, record = chosen(experiment)
    assert recipe == Recipe()
    assert record.notes == [
        f"The backbone {SMALL} was not looked at: {SMALL} gives features that are not finite."
    ]


@pytest.mark.slow
@pytest.mark.parametrize("reachable", [True, False])
def test_with_download_the_best_of_the_hub_are_compared(
    reachable: bool, experiment: Experiment, serve_hub: Callable[..., Any], hub_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    name = "mobilenetv4_conv_small.e2400_r224_in1k"
    known = [describe(each, download=True) for each in (LITE[0], name)]
    monkeypatch.setattr("headstart.search.backbones.for_screening", lambda _: known)
    state = build_backbone(name).state_dict()
    server = serve_hub({f"timm/{name}": save(state)} if reachable else {})
    _, recipe, record = chosen(experiment, download=True)
    assert recipe == Recipe()
    assert f"GET /timm/{name}/resolve/main/model.safetensors" in server.asked or not reachable
    scored = f"{name}: log loss" in record.plan[0].happened
    assert (scored, describe(name).weights == "cached") == (reachable, reachable)
    if not reachable:
        (note,) = record.notes
        assert note.endswith(
            f"was not looked at: timm/{name} on the Hugging Face hub has no weights for PyTorch."
        )


@pytest.mark.usefixtures("no_other_shipped")
def test_an_unreachable_hub_is_asked_once(
    experiment: Experiment, hub_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(
        "headstart.search.backbones.why_out_of_reach", lambda: asked.append(1) or "it is far away"
    )
    _, recipe, record = chosen(experiment, download=True)
    assert recipe == Recipe()
    assert asked == [1]
    assert len(record.notes) == 3
    assert all(note.endswith(" was not looked at: it is far away.") for note in record.notes)


def test_a_cluster_compares_what_its_machines_have(
    experiment: Experiment, hub_cache: Path, add_to_cache: AddToCache,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    add_to_cache(hub_cache, f"timm/{SMALL}", build_backbone(SMALL).state_dict())
    seen = []

    def remember(base: Recipe, known: list[BackboneInfo], affordable: Affordable) -> Lineup:
        seen.append([each.name for each in known])
        return Lineup()

    monkeypatch.setattr("headstart.search.backbones.lineup", remember)
    for address in (None, "auto"):
        chosen(experiment, executor="ray", address=address)
    here, cluster = seen
    assert SMALL in here
    assert cluster == LITE


def test_a_download_that_has_no_effect_is_told(experiment: Experiment, hub_cache: Path) -> None:
    base = parse_recipe({"backbone": {"resolution": 64}})
    *unchanged, record = chosen(experiment, base, download=True)
    assert unchanged == [experiment, base]
    assert record.notes == ["--download had no effect, because the recipe names its backbone."]
