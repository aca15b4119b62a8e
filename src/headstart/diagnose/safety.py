"""Augmentation safety: which operations change the class of an image, not only its appearance.

A mirrored arrow points the other way: training on its mirror image teaches a wrong label, and so
does test-time flipping. A head on the frozen backbone can detect this before any training.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from headstart.backbones.cut import Traced, space_dims
from headstart.backbones.places import FEATURES, INPUT
from headstart.data.views import View
from headstart.evaluation.metrics import flags_of, right_bits
from headstart.evaluation.paired import Cell, paired_difference
from headstart.evaluation.statistics import Interval, holm, mcnemar_exact
from headstart.features.extractor import FeatureExtractor, activations, open_prefix
from headstart.features.probe import LabelledFeatures, Probe, cross_validate, fit_probe
from headstart.methods.augmentation import Colour, FlipCrop, Transform
from headstart.methods.method import Method
from headstart.text import counted, percent

Operation = Literal["flip", "vertical_flip", "crop", "rotate_30", "rotate_90", "grey"]
OPERATIONS: tuple[Operation, ...] = (
    "flip",
    "vertical_flip",
    "crop",
    "rotate_30",
    "rotate_90",
    "grey",
)
"""The strongest augmentations: the smallest centre crop, the 30 degrees of AutoAugment and
RandAugment, a rotation within the 135 degrees of TrivialAugment, and a greyscale image, which is
the extreme of the colour operation."""

LEVEL = 0.05
"""Significance level over all operations."""
TOLERANCE = 0.02
"""Loss of accuracy that is negligible."""
HARM = 0.25
"""Share of the drop that a retrained head must lose for an operation to be unsafe. It is one half
if classes swap, and near 0 if the first head just never saw such images."""

MOST = {"train": 1000, "val": 500}
"""Largest number of images per part; a relevant loss is visible with fewer."""

_SETTINGS: dict[Operation, dict[str, Any]] = {
    # A policy cannot omit one of its operations, so it is replaced.
    "rotate_30": {"augmentation": "flip_crop"},
    "rotate_90": {"augmentation": "flip_crop"},
    "grey": {"augmentation": "flip_crop"},
    "flip": {"augmentation.flip": False, "feature_flip": False, "test_time_flip": False},
    "vertical_flip": {"augmentation.vertical_flip": False},
    "crop": {"augmentation.min_area": 1.0},
}
"""Recipe settings that avoid an operation; settings that choose a method come first."""

FeaturesOf = Callable[[str, Operation | None], NDArray[Any]]
"""Maps `train` or `val` and an operation (None for the plain view) to features (N, F)."""


@dataclass(frozen=True)
class OperationVerdict:
    """Whether an operation may be used as augmentation.

    Attributes:
        operation: The operation.
        safe: Whether it may be used.
        evidence: Explanation, for display.
        drop: Drop of the validation accuracy on changed images, as a share.
        interval: 95% interval of the drop.
        p_value: p-value of McNemar's exact test of the drop, adjusted by Holm over the operations.
        harm: Loss of accuracy on plain images of a head that is also trained on changed images;
            None if the drop is too small to test this.
        unfinished: Whether there was no time to see what a drop means.
    """

    operation: Operation
    safe: bool
    evidence: str
    drop: float
    interval: Interval
    p_value: float
    harm: float | None
    unfinished: bool = False


class FixedView(Method):
    """The evaluation view after one operation; cached like a policy, but not part of a recipe."""

    name: Literal["fixed_view"] = "fixed_view"
    operation: Operation

    def build(self, resolution: int, interpolation: str, fill: Colour) -> Transform:
        """Returns a function from a decoded RGB image to its square view of `resolution` pixels."""

        def view(image: Image.Image) -> Image.Image:
            whole = functional.center_crop(image, [resolution, resolution])
            return _changed(whole, self.operation, InterpolationMode(interpolation), fill)

        return view


def check_operations(
    extractor: FeatureExtractor,
    operations: Sequence[Operation] = OPERATIONS,
    *,
    seed: int = 0,
    until: float | None = None,
) -> tuple[OperationVerdict, ...]:
    """Tests whether operations are safe, with a head on the frozen backbone.

    Pooled features hardly distinguish left from right, because backbones are trained on mirror
    images, too. The head therefore uses the deepest feature map of at least 4 x 4, averaged over
    each quarter of the image (a spatial pyramid, Lazebnik et al., CVPR 2006). For a backbone
    without such a map, for example a vision transformer, it uses the pooled features.

    The cost is one pass over at most `MOST["train"]` training images, one pass over at most
    `MOST["val"]` validation images per operation, and one more pass over the training images per
    suspicious operation. All are cached.

    Args:
        extractor: Data and backbone, before any activation is swapped or any layer trained.
        operations: Operations to test.
        seed: Seed for the choice of images and the folds.
        until: As for `judge_operations`.
    """
    rng = np.random.default_rng(seed)
    some = {
        part: np.sort(rng.permutation(len(rows))[: MOST[part]])
        for part, rows in extractor.rows.items()
    }
    extractor = replace(
        extractor,
        rows={part: rows[some[part]] for part, rows in extractor.rows.items()},
        labels={part: labels[some[part]] for part, labels in extractor.labels.items()},
        groups=extractor.groups[some["train"]],
    )
    boundary = _deepest_map(extractor.traced)
    run = open_prefix(extractor, boundary)
    space = space_dims(extractor.traced, boundary)

    def features_of(part: str, operation: Operation | None) -> NDArray[Any]:
        if operation is None or operation == "flip":  # these views may be in the cache already
            view = View(mirror=operation == "flip")
        else:
            view = View(FixedView(operation=operation))
        maps = np.asarray(activations(extractor, run, part, view))
        return quarters(maps, space) if space else maps

    classes = len(extractor.classes)
    return judge_operations(
        features_of,
        extractor.labels,
        classes,
        extractor.groups,
        operations,
        seed=seed,
        until=until,
    )


def quarters(maps: NDArray[Any], space: Sequence[int]) -> NDArray[np.float32]:
    """Returns the means over each quarter of maps as features (N, 4 C).

    Args:
        maps: Maps (N, C, H, W) or (N, H, W, C), H and W at least 2. The middle of an odd side
            belongs to both halves, so a mirrored map has mirrored means.
        space: Dimensions of height and width.

    Example:
        >>> quarters(np.arange(4.0).reshape(1, 1, 2, 2), space=(2, 3)).tolist()
        [[0.0, 1.0, 2.0, 3.0]]
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
    until: float | None = None,
) -> tuple[OperationVerdict, ...]:
    """Tests whether operations are safe with a probe, in two steps.

    1. *Does it change predictions?* A probe that is trained on plain images classifies the
       validation images, plain and changed. The operation changes predictions if McNemar's exact
       test, adjusted by Holm over all operations, is significant and the interval of the drop in
       accuracy lies above `TOLERANCE`.
    2. *Is the image or the probe the reason?* A drop may only mean that the probe never saw such
       images (steel surfaces rotated by 90 degrees: 17 points). A second probe is therefore
       trained on plain and changed images with the same labels. If the class stays the same, it
       is as good as the first on plain images. If two classes swap, it cannot distinguish them and
       loses half of the drop. The operation is unsafe if this loss is at least `HARM` of the drop,
       and its interval lies above `TOLERANCE`.

    An operation that changes few of many classes is only found if they make up several times
    `TOLERANCE` of the images. The test needs a probe that is clearly better than chance, and at
    least about 8 validation images that become wrong.

    In 20 splits each of flowers17, hymenoptera and neu_steel at 128 pixels, none of the six
    operations is found unsafe, although rotated steel surfaces and grey flowers cost 16 and 23
    points.

    Args:
        features_of: Returns the features of training or validation images, plain or changed.
        labels: Class numbers of `train` and `val`; of sets of labels, 1 where an image has one,
            (N, C). A set is right if an image gets exactly its labels.
        classes: Number of classes C.
        groups: Group numbers of the training images.
        operations: Operations to test.
        seed: Seed for the folds.
        until: Time on the clock of `time.monotonic` after which no further operation goes through
            the second step. It then counts as safe, as nearly all are.

    Returns:
        One verdict per operation, in the same order.
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
        drop, interval = paired_difference([Cell("val", right, plain)])
        harm, safe = None, True
        suspicious = p_value <= LEVEL and interval[0] > TOLERANCE
        late = suspicious and until is not None and time.monotonic() > until
        if suspicious and not late:
            both = np.concatenate([train, _float(features_of("train", operation))])
            twice = np.concatenate([labels["train"]] * 2)
            taught = _right(fit_probe(both, twice, classes, validated.strength), val, labels["val"])
            harm, (least, _) = paired_difference([Cell("val", taught, plain)])
            safe = least <= TOLERANCE or harm < HARM * drop
        evidence = _evidence(plain, right, p_value, harm, safe, late)
        verdicts.append(
            OperationVerdict(operation, safe, evidence, drop, interval, p_value, harm, late)
        )
    return tuple(verdicts)


def unsafe_fields(verdicts: Iterable[OperationVerdict]) -> dict[str, Any]:
    """Returns the recipe settings that avoid all unsafe operations, as paths and values.

    Flips and crops have their own fields (`augmentation.flip`, `augmentation.min_area`). Rotations
    and colour changes cannot be removed from AutoAugment, RandAugment and TrivialAugment, so
    `flip_crop` replaces these policies. The settings can be applied in the returned order. Every
    augmentation except `none`, which needs no change, has these fields.

    Args:
        verdicts: Result of `judge_operations`.

    Example:
        >>> unsafe = OperationVerdict("crop", False, "", 0.2, (0.1, 0.3), 0.001, 0.1)
        >>> unsafe_fields([unsafe])
        {'augmentation.min_area': 1.0}
    """
    unsafe = {verdict.operation for verdict in verdicts if not verdict.safe}
    return {
        path: value
        for operation, settings in _SETTINGS.items()
        if operation in unsafe
        for path, value in settings.items()
    }


def _deepest_map(traced: Traced) -> str:
    """Returns the last boundary with a map of at least 4 x 4, or else `FEATURES`."""
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
    return flags_of(right_bits(probe.logits(_float(features)), labels))


def _evidence(
    plain: NDArray[np.bool_],
    changed: NDArray[np.bool_],
    p_value: float,
    harm: float | None,
    safe: bool,
    late: bool,
) -> str:
    figures = (
        f"{percent(float(plain.mean()))} of {counted(len(plain), 'validation image')} are "
        f"classified correctly, and {percent(float(changed.mean()))} after the change "
        f"(p = {p_value:.2g})"
    )
    if late:
        return f"{figures}: no time to see whether the class changes, which it hardly ever does."
    if harm is None:
        return f"{figures}: no clear loss."
    taught = "a head that is also trained on changed images"
    if not safe:
        return (
            f"{figures}; {taught} loses {percent(harm)} of the plain images, so the change "
            "affects the class."
        )
    cost = f"only {percent(harm)}" if harm > 0 else "none"
    return f"{figures}; but {taught} loses {cost} of the plain images, so the class stays the same."
