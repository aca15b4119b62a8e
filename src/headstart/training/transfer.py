"""The transfer model: a frozen prefix, a trainable suffix and an initial head."""

import time
from collections import Counter
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from headstart.artifacts.records import Acted
from headstart.backbones.cut import space_dims, suffix, takes_resolution
from headstart.backbones.engine import Normalize
from headstart.backbones.parts import (
    blocks_behind,
    count_drop_path,
    frozen_tensors,
    swap_activations,
)
from headstart.backbones.places import FEATURES, INPUT
from headstart.data.views import View
from headstart.errors import RecipeError
from headstart.evaluation.calibration import score
from headstart.features.extractor import (
    Activations,
    FeatureExtractor,
    PrefixRun,
    activations,
    at_resolution,
    features_of,
    open_prefix,
)
from headstart.features.layout import FeatureLayout, FeatureTable, layout_behind
from headstart.features.probe import (
    Validated,
)
from headstart.methods.activation import head_activation
from headstart.methods.head import HeadUnion
from headstart.methods.head_layers import Head
from headstart.recipes.recipe import Recipe
from headstart.text import counted
from headstart.training.budget import views_for
from headstart.training.loop import TrainData, check_space, predict
from headstart.training.network import TrainableNetwork
from headstart.training.solving import chosen_head, solve_head

_GAP_IMAGES = 192


@dataclass(frozen=True)
class TransferModel:
    """The model from which fine-tuning begins.

    Attributes:
        prefix: Frozen part of the network.
        cached: Activations of the evaluation views of `train` and `val`, and of the mirror images
            of `val` as `val_mirrored` if both are averaged.
        whole: Layout of all features behind the boundary; that of cached activations at `features`.
        layout: Layout of the features F that the head sees.
        suffix: Activations (N, ...) to features (N, F).
        method: Head method, with what was left to cross-validation.
        head: Features (N, F) to logits (N, C).
        solved: True if the head was solved on cached features and is usable without training.
        validated: Cross-validated score of the head, if it was a probe.
        acted: Observed effects of the methods applied so far.
    """

    prefix: PrefixRun
    cached: dict[str, Activations]
    whole: FeatureLayout
    layout: FeatureLayout
    suffix: nn.Module
    method: HeadUnion
    head: Head
    solved: bool
    validated: Validated | None
    acted: tuple[Acted, ...]

    @property
    def model(self) -> nn.Module:
        """Activations (N, ...) to logits (N, C)."""
        return nn.Sequential(self.suffix, self.head)


@dataclass(frozen=True)
class Solved:
    """A solved head, shared by transfer models that differ only in how they are trained.

    Attributes:
        method: Head method, with what was left to cross-validation.
        validated: Cross-validated score of the head, if it was a probe.
        state: Parameters and buffers of the head, on the CPU.
    """

    method: HeadUnion
    validated: Validated | None
    state: dict[str, torch.Tensor]


def solved_by(transfer: TransferModel) -> Solved | None:
    """Returns the head before training, or None if it was initialized at random."""
    if not transfer.solved:
        return None
    state = {name: value.cpu().clone() for name, value in transfer.head.state_dict().items()}
    return Solved(transfer.method, transfer.validated, state)


def build_transfer_model(
    extractor: FeatureExtractor, recipe: Recipe, boundary: str, known: Solved | None = None
) -> TransferModel:
    """Caches the evaluation views at a boundary, swaps activations behind it and makes the head.

    Suffix and head are on the extractor's device.

    Args:
        extractor: Feature extractor.
        recipe: Recipe to train.
        boundary: Name of the boundary.
        known: Head for this transfer model if it was solved before.

    Raises:
        RecipeError: If a method of the recipe has nothing to act on in this backbone.
    """
    check_space(recipe, space_dims(extractor.traced, boundary))
    smaller = recipe.train_resolution
    if smaller and not takes_resolution(extractor.traced, boundary, smaller):
        raise RecipeError(
            f"{extractor.backbone.name} only takes images of "
            f"{extractor.backbone.preprocessing.resolution} pixels; use train_resolution = 0."
        )
    whole = layout_behind(extractor.traced, boundary, extractor.backbone.features)
    prefix = open_prefix(extractor, boundary, whole.taps if boundary == FEATURES else ())
    # The prefix is a copy: from here on only the suffix changes.
    acted = _swap(extractor, recipe, boundary)
    cached = {part: activations(extractor, prefix, part) for part in ("train", "val")}
    if recipe.test_time_flip:
        cached["val_mirrored"] = mirrored(extractor, prefix)
        acted.append(_test_time_flip(cached))
    table = None
    if recipe.head.init == "probe" and known is None:
        features = features_of(extractor, prefix, cached["train"], whole.taps)
        table = FeatureTable(features, whole)
    method, validated = (
        (known.method, known.validated) if known else chosen_head(extractor, recipe, table, whole)
    )
    layout = whole.only(method.features)
    if boundary == FEATURES:
        cached = {part: whole.pick(array, layout) for part, array in cached.items()}
    torch.manual_seed(recipe.seed)
    classes = len(extractor.classes)
    head = method.build(layout.widths, classes, head_activation(recipe.activation))
    if known is not None:
        head.load_state_dict(known.state)
    if table is not None:
        seen = FeatureTable(table.of(method.features), layout)
        validated = solve_head(extractor, recipe, method, head, seen, validated)
    network = _suffix(extractor, boundary, layout.taps).to(extractor.device)
    head.to(extractor.device)
    if recipe.backbone.drop_path:
        count = count_drop_path(network)
        acted.append(
            _note("backbone", recipe, f"{counted(count, 'block')} may be skipped in training")
        )
    solved = table is not None or known is not None
    how = "from cached features" if solved else "at random"
    acted.append(_note("head", recipe, f"{layout.width:,} features to {classes} classes, {how}"))
    return TransferModel(
        prefix, cached, whole, layout, network, method, head, solved, validated, tuple(acted)
    )


def mirrored(extractor: FeatureExtractor, prefix: PrefixRun) -> Activations:
    """Returns the activations (M, ...) of the mirror images of `val`.

    Those of the whole pool are computed only where each of its images is held out in turn.
    """
    here = extractor if extractor.in_turn else replace(extractor, pool=None)
    return activations(here, prefix, "val", View(mirror=True))


def training_data(
    extractor: FeatureExtractor,
    recipe: Recipe,
    transfer: TransferModel,
    epochs: int,
    until: float | None = None,
    known: int = 0,
    view_s: float = 0.0,
) -> TrainData:
    """Caches the augmented views and returns the training data.

    Args:
        extractor: Feature extractor.
        recipe: Recipe with the augmentation and, optionally, the number of views.
        transfer: Transfer model with the prefix.
        epochs: Length of training.
        until: Time on the clock of `time.monotonic` at which the views should be cached. A further
            view is not started if it would take longer, judged by the view before it.
        known: Number of views that are cached already.
        view_s: Seconds that an image of a view takes that is not; 0 if that is not known.
    """
    views: list[Activations] = [transfer.cached["train"]]
    if not recipe.augmentation.absent:
        views, took = [], 0.0
        for number in range(recipe.views or views_for(epochs)):
            began = time.monotonic()
            if number >= known:  # a view from the cache says nothing of one that is not there
                took = max(took, view_s * len(extractor.labels["train"]))
            if views and until is not None and began + took > until:
                break
            views.append(augmented(extractor, recipe, transfer, number))
            took = time.monotonic() - began
    return TrainData(
        views=views,
        labels=extractor.labels["train"],
        val=transfer.cached["val"],
        val_labels=extractor.labels["val"],
        plain=transfer.cached["train"],
        val_mirrored=transfer.cached.get("val_mirrored"),
        space=space_dims(extractor.traced, transfer.prefix.boundary),
        outputs=len(extractor.classes),
    )


def trainable(extractor: FeatureExtractor, transfer: TransferModel) -> TrainableNetwork:
    """Returns suffix and head, ready to train; the rest of the backbone is frozen."""
    boundary = transfer.prefix.boundary
    return TrainableNetwork(
        suffix=transfer.suffix,
        head=transfer.head,
        blocks=() if boundary == FEATURES else blocks_behind(extractor.traced, boundary),
        frozen=frozen_tensors(extractor.traced, transfer.suffix),
        device=extractor.device,
    )


def view_gap(
    extractor: FeatureExtractor,
    recipe: Recipe,
    transfer: TransferModel,
    model: nn.Module,
    data: TrainData,
) -> tuple[float, float] | None:
    """Returns the accuracy on a cached view and on an unseen view.

    A gap shows that the suffix memorized the cached views. None without augmentation.
    """
    if recipe.augmentation.absent:
        return None
    some = np.arange(min(_GAP_IMAGES, len(data.labels)))
    rows = {"train": extractor.rows["train"][some]}
    fresh = augmented(replace(extractor, rows=rows), recipe, transfer, len(data.views))
    scores = [
        score(predict(model, view, device=extractor.device), data.labels[some])[1]
        for view in (data.views[-1][some], fresh)
    ]
    return scores[0], scores[1]


def augmented(
    extractor: FeatureExtractor, recipe: Recipe, transfer: TransferModel, number: int
) -> Activations:
    """Returns the activations (N, ...) of augmented view `number` of the training images."""
    view = View(recipe.augmentation, recipe.seed, number)
    prefix = transfer.prefix
    if recipe.train_resolution:
        extractor = at_resolution(extractor, recipe.train_resolution)
        prefix = open_prefix(extractor, prefix.boundary)
    array = activations(extractor, prefix, "train", view)
    if prefix.boundary != FEATURES:
        return array
    picked: Activations = transfer.whole.pick(array, transfer.layout)
    return picked


def _suffix(extractor: FeatureExtractor, boundary: str, taps: tuple[str, ...]) -> nn.Module:
    if boundary == FEATURES:
        return nn.Identity()
    network = suffix(extractor.traced, boundary, taps)
    if boundary == INPUT:
        preprocessing = extractor.backbone.preprocessing
        return nn.Sequential(Normalize(preprocessing.mean, preprocessing.std), network)
    return network


def _swap(extractor: FeatureExtractor, recipe: Recipe, boundary: str) -> list[Acted]:
    method = recipe.activation
    acted = []
    if method.in_suffix:
        swapped = swap_activations(extractor.traced, boundary, method.build)
        kinds = Counter(swapped.values())
        evidence = ", ".join(f"{n} x {old} to {new}" for (old, new), n in kinds.items())
        acted.append(_note("activation", recipe, f"{evidence}, after {boundary!r}"))
    if method.in_head:
        acted.append(_note("activation", recipe, "between the layers of the head"))
    return acted


def _test_time_flip(cached: dict[str, Activations]) -> Acted:
    if np.array_equal(cached["val"], cached["val_mirrored"]):
        raise RecipeError(
            "test_time_flip has no effect: every validation image equals its mirror image."
        )
    evidence = "mirror images have different activations; both logits are averaged"
    return Acted(family="test_time_flip", method="flip", state="acted", evidence=evidence)


def _note(family: str, recipe: Recipe, evidence: str) -> Acted:
    method = getattr(recipe, family).name
    return Acted(family=family, method=method, state="acted", evidence=evidence)


def weights_of(transfer: TransferModel) -> dict[str, torch.Tensor]:
    """Returns a copy of the weights and buffers of suffix and head."""
    return deepcopy(transfer.model.state_dict())
