"""Operations that change a class are taken out of a search, and no others."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from headstart.api.fit import fit
from headstart.artifacts.records import Request, RunRecord
from headstart.data.sources import load_dataset
from headstart.diagnose.safety import OperationVerdict
from headstart.recipes.options import FitOptions
from headstart.recipes.parsing import load_recipe, parse_recipe, with_settings
from headstart.recipes.recipe import Recipe
from headstart.search import augmentations
from headstart.search.augmentations import _affordable, used_operations, without_unsafe
from headstart.training.budget import Clock
from headstart.training.experiment import Experiment, SplitChoice, prepare
from headstart.training.run_context import Resources, RunContext

SMALL = {"backbone": {"resolution": 64}}


def hand(points: str, seed: int) -> Image.Image:
    """A bright wedge that points left or right, on a noisy ground."""
    rng = np.random.default_rng([seed, points == "left"])
    ground = rng.normal(60, 15, (64, 64, 3)).clip(0, 255).astype(np.uint8)
    image = Image.fromarray(ground)
    top, left = rng.uniform(10, 18), rng.uniform(8, 16)
    tip, base = (left, left + 38) if points == "left" else (left + 38, left)
    corners = [(tip, top + 16), (base, top), (base, top + 32)]
    ImageDraw.Draw(image).polygon(corners, fill=tuple(rng.integers(180, 255, 3).tolist()))
    return image


@pytest.fixture(scope="module")
def hands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hands")
    for points in ("left", "right"):
        (folder / points).mkdir()
        for seed in range(80):
            hand(points, seed).save(folder / points / f"{seed}.png")
    return folder


def experiment_of(folder: Path, cache: Path) -> Experiment:
    recipe = parse_recipe(SMALL)
    resources = Resources(cache_dir=cache, workers=1)
    return prepare(load_dataset(folder), recipe, SplitChoice(), resources)


def guard(
    experiment: Experiment, settings: tuple[str, ...] = (), budget_s: float | None = None
) -> tuple[Recipe, RunRecord]:
    made = RunRecord(
        command="", started_at="", data_name="", data_root="", n_train=0, n_val=0, n_test=0,
        classes=(), backbone="", backbone_source="",
        request=Request(options=FitOptions(settings=settings)),
    )  # fmt: skip
    base = with_settings(parse_recipe(SMALL), settings)
    run = RunContext(Path(), made, Resources(Clock(time.monotonic(), budget_s)))
    return without_unsafe(run, experiment, base), made


def test_hands_are_not_mirrored(hands: Path, shared_cache: Path) -> None:
    recipe, made = guard(experiment_of(hands, shared_cache))
    assert getattr(recipe.augmentation, "flip", None) is False
    assert not recipe.test_time_flip
    unsafe = [each for each in made.operations if not each.safe]
    assert "flip" in [each.operation for each in unsafe]
    assert all(each.evidence for each in made.operations)
    (step,) = made.plan
    assert step.stage == "augmentations"
    assert "flip" in step.happened


def test_what_looks_the_same_mirrored_is_left_alone(experiment: Experiment) -> None:
    whole = replace(experiment.extractor, rows={
        "train": experiment.extractor.rows["val"], "val": experiment.extractor.rows["train"],
    }, labels={
        "train": experiment.extractor.labels["val"], "val": experiment.extractor.labels["train"],
    }, groups=np.arange(len(experiment.extractor.rows["val"])))  # fmt: skip
    recipe, made = guard(replace(experiment, extractor=whole))
    assert recipe == parse_recipe(SMALL)
    assert all(each.safe for each in made.operations)
    assert [each.operation for each in made.operations] == list(used_operations(recipe))


def test_few_images_and_little_time_are_said(experiment: Experiment) -> None:
    recipe, made = guard(experiment)
    assert recipe == parse_recipe(SMALL)
    assert made.plan[0].happened.endswith("too few to tell")
    assert not made.operations
    many = replace(experiment.extractor, rows={**experiment.extractor.rows, "val": np.arange(30)})
    _, made = guard(replace(experiment, extractor=many, features_s=0.01), budget_s=20.0)
    assert [step.happened for step in made.plan] == ["no time to check"]


def test_what_there_was_no_time_to_finish_is_said(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On 196 classes, the second step of each operation took a check to 12% of the budget."""
    asked: list[float | None] = []

    def judged(extractor: Any, checked: Any, *, seed: int, until: float | None) -> Any:
        asked.append(until)
        return tuple(
            OperationVerdict(each, True, "", 0.1, (0.0, 0.2), 0.01, None, each == "crop")
            for each in checked
        )

    monkeypatch.setattr(augmentations, "check_operations", judged)
    many = replace(experiment.extractor, rows={**experiment.extractor.rows, "val": np.arange(30)})
    here = replace(experiment, extractor=many)
    _, made = guard(here, budget_s=600.0)
    assert made.plan[0].happened == "no operation was found to change the class; no time for crop"
    assert asked[0] == pytest.approx(time.monotonic() + 0.05 * 600, abs=5)
    guard(here)
    assert asked[1] is None, "without a budget, everything is finished"


def test_many_classes_leave_time_for_fewer_operations(experiment: Experiment) -> None:
    rows = {"train": np.arange(1000), "val": np.arange(500)}
    here = replace(experiment, features_s=0.001)
    known = {}
    for classes in (10, 196):
        names = tuple(map(str, range(classes)))
        extractor = replace(here.extractor, rows=rows, classes=names)
        clock = Clock(time.monotonic(), 200.0)
        known[classes] = _affordable(replace(here, extractor=extractor), clock)
    # 10 s less 3 s to load and 1.5 s for plain images, and heads of 1280 features (3.1 and 8.7 s).
    assert known[10] == pytest.approx((10 - 3 - 1.5 - 3.1) / 0.5, abs=1)
    assert known[196] == 0


def test_what_was_set_by_hand_stays(hands: Path, shared_cache: Path) -> None:
    settings = ("augmentation.flip=true",)
    recipe, made = guard(experiment_of(hands, shared_cache), settings)
    assert recipe == with_settings(parse_recipe(SMALL), settings)
    assert not made.operations


@pytest.mark.parametrize("field", ["feature_flip", "test_time_flip"])
def test_a_flip_outside_the_augmentation_is_checked_and_taken_out(
    field: str, hands: Path, shared_cache: Path
) -> None:
    base = with_settings(parse_recipe({**SMALL, field: True}), ["augmentation=none"])
    assert used_operations(base) == ("flip",)
    recipe, _ = guard(experiment_of(hands, shared_cache), (f"{field}=true",))
    assert not getattr(recipe, field)


@pytest.mark.parametrize(
    ("augmentation", "used"),
    [
        ({"name": "none"}, ()),
        ({"name": "flip_crop"}, ("flip", "crop")),
        ({"name": "flip_crop", "flip": False, "min_area": 1.0}, ()),
        ({"name": "flip_crop", "vertical_flip": True}, ("flip", "crop", "vertical_flip")),
        ({"name": "rand_augment"}, ("flip", "crop", "rotate_30", "grey")),
        ({"name": "trivial_augment"}, ("flip", "crop", "rotate_30", "rotate_90", "grey")),
    ],
)
def test_only_what_the_policy_does_is_checked(augmentation: Any, used: tuple[str, ...]) -> None:
    assert used_operations(parse_recipe({"augmentation": augmentation})) == used


@pytest.mark.slow
def test_a_search_leaves_it_out_and_says_why(hands: Path, tmp_path: Path) -> None:
    settings = ["backbone.resolution=64", "freezing.boundary=blocks.5", "views=2"]
    run = fit(hands, trials=1, epochs=2, settings=settings, out=tmp_path / "run")
    recipe = load_recipe(str(run.folder / "recipe.toml"))
    assert getattr(recipe.augmentation, "flip", False) is False
    assert not recipe.test_time_flip
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "flip: removed." in page
