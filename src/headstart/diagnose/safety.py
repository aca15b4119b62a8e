"""Augmentation safety: which operations change what an image is, rather than how it looks.

A mirrored arrow points the other way. Training on mirror images of it teaches what is wrong, and
averaging over them at test time asks for it. Before anything is trained, a head on the frozen
backbone can tell.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from headstart.backbones.boundaries import FEATURES, INPUT
from headstart.backbones.cut import Traced, space_dims
from headstart.data.views import View
from headstart.inference_stats import Cell, Interval, holm, mcnemar_exact, paired_difference
from headstart.methods.augmentation import Colour, FlipCrop, Transform
from headstart.methods.method import Method
from headstart.probe import LabelledFeatures, Probe, cross_validate, fit_probe
from headstart.search.material import Material, activations, open_prefix

Operation = Literal["flip", "vertical_flip", "crop", "rotate_30", "rotate_90", "grey"]
OPERATIONS: tuple[Operation, ...] = (
    "flip",
    "vertical_flip",
    "crop",
    "rotate_30",
    "rotate_90",
    "grey",
)
"""What augmentation does at most: the smallest crop of the middle, the 30 degrees of AutoAugment
and RandAugment, a rotation within TrivialAugment's 135 degrees, and the colour taken out, which is
where the policies' colour operation ends."""

LEVEL = 0.05
"""Chance that an operation which changes no prediction is taken for one that does, over all."""
TOLERANCE = 0.02
"""Loss of accuracy that is not worth a word."""
HARM = 0.25
"""Share of the loss that teaching must cost. It is half where classes swap, and near 0 where the
head had only not seen such images."""

MOST = {"train": 1000, "val": 500}
"""Images that are looked at: a loss that matters shows in fewer."""

_SETTINGS: dict[Operation, dict[str, Any]] = {
    # No policy can leave out one of its operations, so that another method takes its place.
    "rotate_30": {"augmentation": "flip_crop"},
    "rotate_90": {"augmentation": "flip_crop"},
    "grey": {"augmentation": "flip_crop"},
    "flip": {"augmentation.flip": False, "test_time_flip": False},
    "vertical_flip": {"augmentation.vertical_flip": False},
    "crop": {"augmentation.min_area": 1.0},
}
"""Recipe settings that avoid an operation; those that choose a method come first."""

FeaturesOf = Callable[[str, Operation | None], NDArray[Any]]
"""From `train` or `val` and an operation, or None for the plain view, to features (N, F)."""


@dataclass(frozen=True)
class Verdict:
    """Whether an operation may be used as augmentation.

    Attributes:
        operation: It.
        safe: Whether it may be.
        evidence: Why, for people.
        drop: By how much it lowers the accuracy on validation, as a share.
        interval: 95 % interval of the drop.
        p_value: Of McNemar's exact test of the drop, adjusted by Holm over the operations.
        harm: By how much a head that was taught on such images too is worse on plain ones; None
            where the drop was too small to ask.
    """

    operation: Operation
    safe: bool
    evidence: str
    drop: float
    interval: Interval
    p_value: float
    harm: float | None


class FixedView(Method):
    """The evaluation view after one operation; no policy of a recipe, but cached like one."""

    name: Literal["fixed_view"] = "fixed_view"
    operation: Operation

    def build(self, resolution: int, interpolation: str, fill: Colour) -> Transform:
        """Returns a function from a decoded RGB image to its square view of `resolution` pixels."""

        def view(image: Image.Image) -> Image.Image:
            whole = functional.center_crop(image, [resolution, resolution])
            return _changed(whole, self.operation, InterpolationMode(interpolation), fill)

        return view


def check_operations(
    material: Material,
    operations: Sequence[Operation] = OPERATIONS,
    *,
    seed: int = 0,
) -> tuple[Verdict, ...]:
    """Judges operations by a head on the frozen backbone.

    Pooled features hardly know left from right: backbones were trained on mirror images, too. So
    the head sees the deepest map of at least 4 x 4, averaged over each quarter of the image (a
    spatial pyramid, Lazebnik et al., CVPR 2006). A backbone without such a map, a vision
    transformer for one, is judged by its features.

    It costs a pass over at most `MOST["train"]` training images, one over at most `MOST["val"]`
    validation images an operation, and one more over the training images for each suspicious one.
    All are cached.

    Args:
        material: The data and the backbone, before anything in it is swapped or trained.
        operations: Those to judge.
        seed: Of the choice of images, of the folds and of the resampling.
    """
    rng = np.random.default_rng(seed)
    some = {
        part: np.sort(rng.permutation(len(rows))[: MOST[part]])
        for part, rows in material.rows.items()
    }
    material = replace(
        material,
        rows={part: rows[some[part]] for part, rows in material.rows.items()},
        labels={part: labels[some[part]] for part, labels in material.labels.items()},
        groups=material.groups[some["train"]],
    )
    boundary = _deepest_map(material.traced)
    run = open_prefix(material, boundary)
    space = space_dims(material.traced, boundary)

    def features_of(part: str, operation: Operation | None) -> NDArray[Any]:
        if operation is None or operation == "flip":  # views that others may have cached, too
            view = View(mirror=operation == "flip")
        else:
            view = View(FixedView(operation=operation))
        maps = np.asarray(activations(material, run, part, view))
        return quarters(maps, space) if space else maps

    classes = len(material.classes)
    return judge_operations(
        features_of, material.labels, classes, material.groups, operations, seed=seed
    )


def quarters(maps: NDArray[Any], space: Sequence[int]) -> NDArray[np.float32]:
    """Returns the means over each quarter of maps as features (N, 4 C).

    Args:
        maps: (N, C, H, W) or (N, H, W, C), H and W at least 2. Where a side is odd, its middle
            belongs to both halves, so that a mirrored map has the mirrored means.
        space: The dimensions that are H and W.
    """
    found = []
    for rows in _halves(maps.shape[space[0]]):
        for columns in _halves(maps.shape[space[1]]):
            at = [slice(None)] * 4
            at[space[0]], at[space[1]] = rows, columns
            found.append(np.asarray(maps[tuple(at)], np.float32).mean(axis=tuple(space)))
    return np.concatenate(found, axis=1)


def judge_operations(
    features_of: FeaturesOf,
    labels: Mapping[str, NDArray[np.int64]],
    classes: int,
    groups: NDArray[np.int64],
    operations: Sequence[Operation] = OPERATIONS,
    *,
    seed: int = 0,
) -> tuple[Verdict, ...]:
    """Judges operations by a probe, in two steps.

    1. *Does it change predictions?* A probe that has seen plain images alone classifies validation
       images plain and changed. It does where McNemar's exact test, adjusted by Holm over all
       operations, says that more become wrong than right, and the interval of the drop in accuracy
       lies above `TOLERANCE`.
    2. *Is that the image or the probe?* A drop may only mean that the probe has not seen such
       images (steel turned by 90 degrees: 17 points). So a second probe is taught that changed
       training images keep their class. If they do, it is as good as the first on plain images.
       Where two classes swap, it cannot tell them apart any more, and loses half of the drop. The
       operation is unsafe where this loss is at least `HARM` of the drop, and its interval lies
       above `TOLERANCE`.

    So an operation that changes a few classes of many is found only where they make up several
    times `TOLERANCE` of the images; nothing can be found by a probe that hardly knows the classes,
    nor with few validation images: 8 that become wrong are about the least.

    In 20 splits each of flowers17, hymenoptera and neu_steel at 128 pixels none of the six
    operations was found unsafe, although turning steel and taking the colour from flowers cost 16
    and 23 points.

    Args:
        features_of: Gives the features of the training and validation images, plain and changed.
        labels: Class numbers of `train` and `val`.
        classes: Number of classes C.
        groups: Group numbers of the training images.
        operations: Those to judge.
        seed: Of the folds and the resampling.

    Returns:
        One verdict an operation, in their order.
    """
    train, val = _float(features_of("train", None)), _float(features_of("val", None))
    data = LabelledFeatures(train, labels["train"], classes, groups)
    validated = cross_validate(data, seed=seed)
    probe = fit_probe(train, labels["train"], classes, validated.strength)
    plain = _right(probe, val, labels["val"])
    changed = [_right(probe, features_of("val", each), labels["val"]) for each in operations]
    p_values = holm([mcnemar_exact(plain, right) for right in changed])

    verdicts = []
    for operation, right, p_value in zip(operations, changed, p_values, strict=True):
        drop, interval = paired_difference([Cell("val", right, plain)], seed=seed)
        harm, safe = None, True
        if p_value <= LEVEL and interval[0] > TOLERANCE:
            both = np.concatenate([train, _float(features_of("train", operation))])
            twice = np.concatenate([labels["train"]] * 2)
            taught = _right(fit_probe(both, twice, classes, validated.strength), val, labels["val"])
            harm, (least, _) = paired_difference([Cell("val", taught, plain)], seed=seed)
            safe = least <= TOLERANCE or harm < HARM * drop
        evidence = _evidence(plain, right, p_value, harm, safe)
        verdicts.append(Verdict(operation, safe, evidence, drop, interval, p_value, harm))
    return tuple(verdicts)


def unsafe_fields(verdicts: Iterable[Verdict]) -> dict[str, Any]:
    """Returns the recipe settings that avoid all unsafe operations, as paths and values.

    Flips and crops have fields of their own (`augmentation.flip`, `augmentation.min_area`); the
    policies still move an image a little, as they all do. Rotations and colours are parts of
    AutoAugment, RandAugment and TrivialAugment that cannot be left out, so that `flip_crop` takes
    their place. The settings are in an order in which they can be applied one after the other; the
    fields are there in every augmentation but `none`, which needs none of them.

    Args:
        verdicts: Of `judge_operations`.
    """
    unsafe = {verdict.operation for verdict in verdicts if not verdict.safe}
    return {
        path: value
        for operation, settings in _SETTINGS.items()
        if operation in unsafe
        for path, value in settings.items()
    }


def _deepest_map(traced: Traced) -> str:
    """Returns the last boundary with a map of at least 4 x 4, else that of the features."""
    found = FEATURES
    for boundary in traced.boundaries:
        space = space_dims(traced, boundary.name)
        if boundary.name != INPUT and space and min(boundary.shape[d - 1] for d in space) >= 4:
            found = boundary.name
    return found


def _halves(side: int) -> tuple[slice, slice]:
    return slice(0, (side + 1) // 2), slice(side // 2, side)


def _changed(
    image: Image.Image, operation: Operation, interpolation: InterpolationMode, fill: Colour
) -> Image.Image:
    side = image.width
    changed: Image.Image
    match operation:
        case "flip":
            changed = functional.horizontal_flip(image)
        case "vertical_flip":
            changed = functional.vertical_flip(image)
        case "crop":
            middle = functional.center_crop(image, [round(side * FlipCrop().min_area ** 0.5)] * 2)
            changed = functional.resize(middle, [side, side], interpolation=interpolation)
        case "rotate_30":
            changed = functional.rotate(image, 30, InterpolationMode.BILINEAR, fill=list(fill))
        case "rotate_90":
            changed = functional.rotate(image, 90)
        case "grey":
            changed = functional.rgb_to_grayscale(image, 3)
    return changed


def _float(features: NDArray[Any]) -> NDArray[np.float32]:
    return np.asarray(features, np.float32)


def _right(probe: Probe, features: NDArray[Any], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.asarray(probe.logits(_float(features)).argmax(axis=1) == labels)


def _evidence(
    plain: NDArray[np.bool_],
    changed: NDArray[np.bool_],
    p_value: float,
    harm: float | None,
    safe: bool,
) -> str:
    figures = (
        f"{plain.mean():.1%} of {len(plain)} validation images are classified right, and "
        f"{changed.mean():.1%} of them changed (p = {p_value:.2g})"
    )
    if harm is None:
        return f"{figures}: no clear loss."
    if not safe:
        return (
            f"{figures}; a head that is taught that they keep their class loses {harm:.1%} of the "
            "plain ones: they do not."
        )
    cost = f"only {harm:.1%}" if harm > 0 else "none"
    return (
        f"{figures}; but a head that is taught that they keep their class loses {cost} of the "
        "plain ones: the first had just not seen any."
    )
