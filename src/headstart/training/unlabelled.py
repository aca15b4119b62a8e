"""Unlabelled images for a head in closed form: tried by cross-validation, kept where they help."""

import time
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from headstart.artifacts.unlabelled import UnlabelledUse, measured
from headstart.backbones.places import FEATURES
from headstart.data.decode import decode_dataset
from headstart.data.views import EVALUATION, View
from headstart.evaluation.trust import Calibration, fit_calibration
from headstart.features.extractor import FeatureExtractor, activations, features_of
from headstart.features.probe import LabelledFeatures
from headstart.features.pseudo_labels import (
    FOLDS,
    HeadKind,
    Tried,
    affordable,
    solved_with,
    try_unlabelled,
)
from headstart.text import counted
from headstart.training.experiment import Experiment
from headstart.training.finetune import FittedClassifier
from headstart.training.reserve import seconds_for_training
from headstart.training.run_context import RunContext
from headstart.training.solving import seen_by
from headstart.training.transfer import TransferModel

FEWEST = 10
"""Fewest unlabelled images that are worth a try."""

NO_TIME = "the budget left no time to try them"


def with_unlabelled(run: RunContext, fitted: FittedClassifier) -> FittedClassifier:
    """Returns a classifier whose head learned from the unlabelled images, too, where they help.

    They help if the log loss of held-out images falls by more than its standard error. Each fold of
    the cross-validation makes its pseudo-labels from its own training images. Otherwise the
    classifier stays as it is. Either way, the record of the run and a line say what was found.

    Args:
        run: Run context.
        fitted: Classifier, before the sealed test.
    """
    unlabelled, known = fitted.experiment.unlabelled, run.record.unlabelled
    if unlabelled is None or known is None:
        return fitted
    done = replace(fitted.experiment, unlabelled=None)  # no time is reserved for them any more
    without = replace(fitted, experiment=done)
    if why := _why_not(run, fitted):
        run.record.unlabelled = known.model_copy(update={"why_not": why})
        run.say(f"unlabelled: {run.record.unlabelled.outcome}")
        return without
    planned = f"try pseudo-labels of {counted(len(unlabelled.rows), 'unlabelled image')}"
    with run.step("unlabelled", planned) as step:
        kind, (data, pool, views) = head_kind(fitted.transfer), _seen(run, fitted)
        began = time.monotonic()
        head = solved_with(kind, data, pool)
        needed_s = (FOLDS + 1) * (time.monotonic() - began)
        if _left(run, without) < needed_s:
            found = known.model_copy(update={"why_not": NO_TIME})
        else:
            tried = try_unlabelled(kind, data, pool, views, fitted.recipe.seed, run.progress)
            found = _found(known, tried, data, len(pool))
        run.record.unlabelled = found
        step.happened(found.outcome)
    if not found.used:
        return without
    _load(fitted.transfer, head.weight, getattr(head, "bias", None))
    return replace(without, calibration=_calibration(tried, data))


def head_kind(transfer: TransferModel) -> HeadKind:
    """Returns how the head of a transfer model was solved."""
    method = transfer.method
    one_scale = method.has_unit_parts
    if method.means_scale:
        return HeadKind(0.0, one_scale=one_scale, scale=method.means_scale)
    penalty = method.solved_penalty
    if not penalty:
        assert transfer.validated is not None
        penalty = transfer.validated.strength
    return HeadKind(penalty, method.solved_smoothing, one_scale)


def _why_not(run: RunContext, fitted: FittedClassifier) -> str:
    """Returns why unlabelled images cannot serve a classifier; empty if they can."""
    experiment, method = fitted.experiment, fitted.transfer.method
    assert experiment.unlabelled is not None
    images = len(experiment.unlabelled.rows)
    if images < FEWEST:
        return f"there are fewer than {FEWEST} that may be used"
    if not run.record.head_alone or fitted.others:
        return "they serve the head alone (--strategy head), and a fine-tuned network is shipped"
    alone = fitted.transfer.solved and not method.has_hidden_layer and not method.solutions
    if not alone or method.remembers_images:
        this = "the mean of several" if method.solutions else method.name
        return f"they serve one solved head, linear or cosine, and this one is {this}"
    labelled, classes = len(experiment.extractor.labels["train"]), len(experiment.extractor.classes)
    if not affordable(labelled, images, fitted.transfer.layout.width, classes):
        return "with so many labelled images, trying them takes long"
    if _left(run, fitted) < 0:  # what they need was reserved
        return NO_TIME
    return ""


def _left(run: RunContext, fitted: FittedClassifier) -> float:
    """Returns the seconds that are left before what follows must begin; infinite by default."""
    if run.clock.budget_s is None:
        return float("inf")
    return seconds_for_training(fitted.experiment, fitted.recipe, run.clock)


def _found(known: UnlabelledUse, tried: Tried, data: LabelledFeatures, used: int) -> UnlabelledUse:
    """Returns what was measured, and what follows from it."""
    right = [each.argmax(1) == data.labels for each in (tried.after, tried.before)]
    tested = _tested(tried)
    gains = right[0][tested].astype(float) - right[1][tested]
    accuracy = float(gains.mean()) if tested.any() else 0.0
    told = measured(tried.gain, tried.noise, accuracy)
    update = {
        "gain": tried.gain,
        "noise": tried.noise,
        "accuracy_gain": accuracy,
        "used": used if tried.helps else 0,
        "why_not": "" if tried.helps else f"they did not help: {told}",
    }
    return known.model_copy(update=update)


def _tested(tried: Tried) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(tried.before).all(1) & np.isfinite(tried.after).all(1))


def _calibration(tried: Tried, data: LabelledFeatures) -> Calibration:
    """Returns the calibration by the images that were held out from the head in each fold."""
    tested = _tested(tried)
    source = "cross-validation of the head with unlabelled images"
    return fit_calibration(
        tried.after[tested], data.labels[tested], source, groups=data.groups[tested]
    )


def _seen(
    run: RunContext, fitted: FittedClassifier
) -> tuple[LabelledFeatures, NDArray[np.float32], list[NDArray[np.float32]]]:
    """Returns what the head sees of labelled images, of unlabelled ones, and in further views."""
    transfer, extractor = fitted.transfer, fitted.experiment.extractor
    data = LabelledFeatures(
        _columns(extractor, transfer, extractor),
        extractor.labels["train"],
        len(extractor.classes),
        extractor.groups,
        transfer.method.has_unit_parts,
    )
    pool = _columns(extractor, transfer, _pool(run, fitted.experiment))
    mirrored = [View(mirror=True)] if fitted.recipe.test_time_flip else []
    return data, pool, [_columns(extractor, transfer, extractor, view) for view in mirrored]


def _pool(run: RunContext, experiment: Experiment) -> FeatureExtractor:
    """Returns the extractor with the unlabelled images in place of the training images."""
    unlabelled, extractor = experiment.unlabelled, experiment.extractor
    assert unlabelled is not None
    pixels = decode_dataset(
        unlabelled.items,
        extractor.backbone.preprocessing.resize,
        extractor.cache_dir,
        workers=run.resources.workers,
        progress=run.progress,
        reading=experiment.dataset.reading,
    )
    readable = [row for row in unlabelled.rows.tolist() if pixels.facts[row].status == "ok"]
    rows = np.array(readable, np.int64)
    return replace(extractor, pixels=pixels, rows={"train": rows}, pool=None)


def _columns(
    extractor: FeatureExtractor,
    transfer: TransferModel,
    images: FeatureExtractor,
    view: View = EVALUATION,
) -> NDArray[np.float32]:
    """Returns what the last layer of the head sees (N, F) of some images.

    Args:
        extractor: Extractor with the network.
        transfer: Transfer model.
        images: Extractor with the images as its training images.
        view: View of each image.
    """
    depends_on = {**transfer.prefix.depends_on, "pixels": images.pixels.key}
    prefix = replace(transfer.prefix, depends_on=depends_on)
    cached = activations(images, prefix, "train", view)
    if prefix.boundary == FEATURES:
        features = transfer.whole.pick(features_of(extractor, prefix, cached, ()), transfer.layout)
    else:
        features = features_of(extractor, prefix, cached, transfer.layout.taps)
    return seen_by(transfer.method, transfer.layout, features)


def _load(
    transfer: TransferModel, weight: NDArray[np.float32], bias: NDArray[np.float32] | None
) -> None:
    """Puts solved weights into the last layer of the head."""
    layer = transfer.head.out[1]  # type: ignore[index]
    state = {"weight": torch.from_numpy(weight)}
    if bias is not None:
        state["bias"] = torch.from_numpy(bias)
    layer.load_state_dict(state)
