"""Operations that change what an image is are found, and others are left alone."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from headstart.diagnose.safety import (
    OPERATIONS,
    FixedView,
    Operation,
    OperationVerdict,
    check_operations,
    judge_operations,
    quarters,
    unsafe_fields,
)
from headstart.recipes.parsing import with_settings
from headstart.recipes.recipe import Recipe

if TYPE_CHECKING:
    from headstart.features.extractor import FeatureExtractor


def arrow(points: str, seed: int) -> Image.Image:
    """A noisy arrow that points left or right."""
    rng = np.random.default_rng([seed, points == "left"])
    ground, ink = rng.uniform(120, 250, 3), rng.uniform(0, 90, 3)
    image = Image.new("RGB", (72, 72), tuple(ground.astype(int)))
    x, y, half = rng.uniform(32, 40), rng.uniform(28, 44), rng.uniform(18, 26)
    head, shaft = rng.uniform(10, 16), rng.uniform(3, 6)
    to = -1 if points == "left" else 1
    tip, neck, tail = x + to * half, x + to * (half - head), x - to * half
    outline = [
        (tip, y), (neck, y - head), (neck, y - shaft), (tail, y - shaft),
        (tail, y + shaft), (neck, y + shaft), (neck, y + head),
    ]  # fmt: skip
    ImageDraw.Draw(image).polygon(outline, fill=tuple(ink.astype(int)))
    pixels = np.asarray(image, float) + rng.normal(0, 12, (72, 72, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def extractor_of(folder: Path, cache: Path) -> "FeatureExtractor":
    from headstart.data.sources import load_dataset
    from headstart.recipes.parsing import parse_recipe
    from headstart.training.experiment import SplitChoice, prepare
    from headstart.training.run_context import Resources

    recipe = parse_recipe({"backbone": {"resolution": 64}})
    resources = Resources(cache_dir=cache, workers=1)
    return prepare(load_dataset(folder), recipe, SplitChoice(), resources).extractor


def of(verdicts: tuple[OperationVerdict, ...], operation: Operation) -> OperationVerdict:
    return next(verdict for verdict in verdicts if verdict.operation == operation)


def test_arrows_must_not_be_mirrored(tmp_path: Path, shared_cache: Path) -> None:
    for points in ("left", "right"):
        (tmp_path / points).mkdir()
        for seed in range(80):
            arrow(points, seed).save(tmp_path / points / f"{seed}.png")
    verdicts = check_operations(extractor_of(tmp_path, shared_cache))
    assert [verdict.operation for verdict in verdicts] == list(OPERATIONS)
    flip = of(verdicts, "flip")
    assert not flip.safe
    assert flip.interval[0] > 0.5
    assert flip.harm is not None
    assert flip.harm > 0.25
    assert flip.evidence.endswith("so the change affects the class.")
    for operation in ("vertical_flip", "crop", "grey"):
        assert of(verdicts, operation).safe  # type: ignore[arg-type]
    fields = unsafe_fields(verdicts)
    assert fields["augmentation.flip"] is False
    assert fields["test_time_flip"] is False


def test_symmetric_shapes_may_be(experiment: Any) -> None:
    verdicts = check_operations(experiment.extractor, ("flip", "vertical_flip", "grey"))
    assert all(verdict.safe for verdict in verdicts)
    assert unsafe_fields(verdicts) == {}
    assert verdicts == check_operations(experiment.extractor, ("flip", "vertical_flip", "grey"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hymenoptera", "flowers17"])
def test_photographs_may_be(
    name: str, data: Callable[[str], Path], shared_cache: Path, tmp_path: Path
) -> None:
    folder = data(name)
    if name == "flowers17":  # 30 photographs a class are enough
        for kind in (each for each in folder.iterdir() if each.is_dir()):
            (tmp_path / kind.name).mkdir()
            for file in sorted(kind.glob("*.jpg"))[:30]:
                shutil.copy(file, tmp_path / kind.name)
        folder = tmp_path
    verdicts = check_operations(extractor_of(folder, shared_cache))
    assert all(verdict.safe for verdict in verdicts), unsafe_fields(verdicts)


def vectors(swapped: tuple[int, ...], seed: int, classes: int = 4) -> tuple[Any, Any]:
    """Features of which an operation swaps some classes, and another only moves all of them."""
    rng = np.random.default_rng(seed)
    rows = {"train": 400, "val": 200}
    labels = {part: np.arange(n) % classes for part, n in rows.items()}
    partner = np.arange(classes)
    for label in swapped:
        partner[label] = label ^ 1
    centres = np.random.default_rng(99).normal(0, 2, (classes, 10))
    away = np.random.default_rng(98).normal(0, 1, (classes, 10))
    plain = {part: centres[y] + rng.normal(size=(len(y), 10)) for part, y in labels.items()}
    views = {
        None: plain,
        "flip": {
            part: centres[partner[y]] + rng.normal(size=(len(y), 10)) for part, y in labels.items()
        },
        # In columns of its own, so that a probe that has not seen it is lost.
        "grey": {
            part: np.where(np.arange(20) < 10, 0.3 * away[y].repeat(2, 1), 0)
            for part, y in labels.items()
        },
        "crop": plain,
    }
    noise = 0.1 * rng.normal(size=(400, 10))

    def features_of(part: str, operation: Operation | None) -> Any:
        found = views[operation][part]  # type: ignore[index]
        if operation == "grey":
            return np.concatenate([np.zeros_like(noise[: len(found)]), found[:, :10]], 1)
        return np.concatenate([found, noise[: len(found)]], 1)

    return features_of, labels


@pytest.mark.parametrize("swapped", [(0, 1, 2, 3), (2, 3)])
def test_a_swap_is_told_from_what_the_probe_has_not_seen(swapped: tuple[int, ...]) -> None:
    features_of, labels = vectors(swapped, 0)
    operations: tuple[Operation, ...] = ("crop", "flip", "grey")
    verdicts = judge_operations(features_of, labels, 4, np.arange(400), operations)
    same, swap, unseen = verdicts
    assert (same.safe, same.drop, same.harm) == (True, 0, None)
    assert not swap.safe
    assert swap.drop == pytest.approx(len(swapped) / 4, abs=0.08)
    assert swap.harm == pytest.approx(swap.drop / 2, abs=0.1)
    assert swap.p_value < 1e-6
    # Lost as badly, and harmless to learn.
    assert unseen.drop > 0.3
    assert unseen.harm is not None
    assert unseen.harm < 0.05
    assert unseen.safe
    assert "so the class stays the same" in unseen.evidence
    assert unsafe_fields(verdicts) == {
        "augmentation.flip": False, "feature_flip": False, "test_time_flip": False,
    }  # fmt: skip


def test_what_a_drop_means_is_left_open_when_the_time_is_over() -> None:
    features_of, labels = vectors((0, 1, 2, 3), 0)
    seen: list[tuple[str, Operation | None]] = []

    def counting(part: str, operation: Operation | None) -> Any:
        seen.append((part, operation))
        return features_of(part, operation)

    late = time.monotonic() - 1
    operations: tuple[Operation, ...] = ("crop", "flip", "grey")
    verdicts = judge_operations(counting, labels, 4, np.arange(400), operations, until=late)
    assert [each.unfinished for each in verdicts] == [False, True, True]
    assert all(each.safe and each.harm is None for each in verdicts)
    assert "no time to see" in verdicts[1].evidence
    assert verdicts[1].drop > 0.9
    assert [part for part, _ in seen].count("train") == 1, "none but the plain training images"
    soon = judge_operations(
        features_of, labels, 4, np.arange(400), operations, until=time.monotonic() + 600
    )
    assert soon == judge_operations(features_of, labels, 4, np.arange(400), operations)


def test_no_false_alarms_where_nothing_is_changed() -> None:
    for seed in range(20):
        features_of, labels = vectors((), seed)
        (verdict,) = judge_operations(features_of, labels, 4, np.arange(400), ("flip",))
        assert verdict.safe


def test_quarters_by_hand() -> None:
    maps = np.arange(9.0).reshape(1, 1, 3, 3)
    assert quarters(maps, (2, 3)).tolist() == [[2, 3, 5, 6]]
    assert quarters(maps[..., ::-1], (2, 3)).tolist() == [[3, 2, 6, 5]]
    both = np.random.default_rng(0).normal(size=(2, 5, 4, 6))
    assert np.allclose(quarters(both, (2, 3)), quarters(both.transpose(0, 2, 3, 1), (1, 2)))
    assert quarters(both, (2, 3)).shape == (2, 20)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_changes_a_picture_as_it_says(operation: Operation) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 32, 3), dtype=np.uint8)
    view = FixedView(operation=operation).build(32, "bicubic", (128, 128, 128))
    changed = np.asarray(view(Image.fromarray(pixels)))
    middle = pixels[4:36]
    assert changed.shape == (32, 32, 3)
    expected = {
        "flip": middle[:, ::-1],
        "vertical_flip": middle[::-1],
        "rotate_90": np.rot90(middle),
    }
    if operation in expected:
        assert np.array_equal(changed, expected[operation])
    assert not np.array_equal(changed, middle)
    assert operation != "grey" or np.ptp(changed, axis=2).max() == 0


@pytest.mark.parametrize("base", ["default", "flip_crop", "auto_augment", "rand_augment"])
def test_settings_can_be_applied_to_a_recipe(base: str) -> None:
    verdicts = [
        OperationVerdict(o, False, "", 0.5, (0.4, 0.6), 0.0, 0.3) for o in reversed(OPERATIONS)
    ]
    start = Recipe() if base == "default" else with_settings(Recipe(), [f"augmentation={base}"])
    settings = [f"{path}={value}" for path, value in unsafe_fields(verdicts).items()]
    recipe = with_settings(start, settings)
    assert recipe.augmentation.name == "flip_crop"
    assert (recipe.augmentation.flip, recipe.augmentation.vertical_flip) == (False, False)
    assert recipe.augmentation.min_area == 1.0
    only_flips = [verdict for verdict in verdicts if verdict.operation == "flip"]
    settings = [f"{path}={value}" for path, value in unsafe_fields(only_flips).items()]
    recipe = with_settings(start, settings)
    assert recipe.augmentation.name == start.augmentation.name
    assert recipe.augmentation.flip is False  # type: ignore[union-attr]
