"""The sealed test: the shipped bundle is evaluated on the test images, once."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Generic

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.bundle import Classifier, Member, load_network, save_bundle
from headstart.artifacts.bundle_export import export_graph
from headstart.artifacts.bundle_spec import (
    MULTILABEL_FORMAT,
    BundleSpec,
    DistributionSpec,
    SetSpec,
)
from headstart.artifacts.embeddings import write_embeddings
from headstart.artifacts.records import TestPrediction
from headstart.artifacts.run import write_record, write_result
from headstart.artifacts.set_results import write_set_result
from headstart.data.pixels import depths_of
from headstart.data.reading import shipped
from headstart.data.types import Item
from headstart.errors import DataError, HeadstartError
from headstart.evaluation.calibration import softmax
from headstart.evaluation.conformal import (
    COVERAGES,
    FEW,
    TrainingDistribution,
    fit_distribution,
    fit_distribution_within,
    gallery_rows,
    out_of_distribution,
)
from headstart.evaluation.intervals import numbered
from headstart.evaluation.label_metrics import SetMetrics
from headstart.evaluation.metrics import Metrics, T, compute_metrics
from headstart.evaluation.retrieval import retrieval, unit
from headstart.evaluation.trust import alarms
from headstart.features.extractor import features_of
from headstart.inference.background import embedded, told, write_background
from headstart.inference.bundle import Bundle, load_bundle
from headstart.inference.predict import class_sets, training_distribution
from headstart.inference.run_bundle import Outputs, run_bundle
from headstart.inference.sealed_sets import set_results
from headstart.inputs.large_arrays import copied
from headstart.text import counted, percent
from headstart.training.experiment import Experiment
from headstart.training.finetune import FittedClassifier
from headstart.training.loop import predict
from headstart.training.run_context import RunContext
from headstart.training.transfer import TransferModel

_REPORTED = (0.9, 0.95)
"""Coverages of prediction sets that the run reports the measured coverage of."""


@dataclass(frozen=True)
class Proof:
    """The result of the sealed test.

    Attributes:
        metrics: Metrics on the test images.
        spec: What the bundle says of itself.
        network: Its network, reloaded in PyTorch, for heat maps.
        tested: Embeddings of the test images (N, E), in the order of the split.
        known: Embeddings of the training images (M, E), in the order of the extractor's rows.
    """

    metrics: Metrics | SetMetrics
    spec: BundleSpec
    network: Classifier
    tested: NDArray[np.float32]
    known: NDArray[np.float32]


def prove(run: RunContext, fitted: FittedClassifier) -> Proof:
    """Writes the bundle, reloads it, and evaluates it once on the sealed test images.

    Args:
        run: The run, whose record gets the time of the opening.
        fitted: The trained classifier.

    Raises:
        DataError: If a test image can no longer be read.
    """
    folder, record = run.folder, run.record
    experiment, recipe, transfer = fitted.experiment, fitted.recipe, fitted.transfer
    calibration = fitted.calibration
    record.calibration = None if experiment.multilabel else calibration
    temperature = calibration.temperature
    extractor, network = experiment.extractor, experiment.extractor.backbone
    gallery = _keep_embeddings(experiment, transfer, folder)
    sets = [
        SetSpec(coverage=coverage, threshold=threshold, images=calibration.images)
        for coverage, threshold in zip(COVERAGES, calibration.sets, strict=False)
    ]
    save_bundle(
        folder / "bundle",
        {
            "backbone": network.name,
            "features": transfer.layout.width,
            "parts": transfer.layout.widths,
            "boundary": transfer.prefix.boundary,
            "taps": transfer.layout.taps,
            "head": transfer.method,
            "activation": recipe.activation,
            "test_time_flip": recipe.test_time_flip,
            "classes": extractor.classes,
            "preprocessing": network.preprocessing,
            "reading": shipped(experiment.dataset.reading),
            "depths": depths_of(experiment.pixels.facts, extractor.rows["train"]),
            "temperature": temperature,
            "recipe": recipe.model_dump(mode="json"),
            "pretrained_sha256": network.weights_hash,
            "licence": network.licence,
            "data_sha256": experiment.pixels.key,
            "versions": record.versions,
            "sets": sets,
            **({"labels": fitted.rules, "format": MULTILABEL_FORMAT} if fitted.rules else {}),
        },
        [Member(network.model, transfer.head), *fitted.others],
        _distribution(experiment, transfer, gallery),
    )
    if experiment.background:
        other = embedded(run, experiment.background)
        known, _ = _calibrated(experiment, transfer, gallery, other)
        write_background(folder / "bundle", known)
        run.note(told(known))
    reloaded = _export(run)
    bundle = load_bundle(folder / "bundle", multilabel=experiment.multilabel)
    sealed = SealedTest(
        [
            experiment.dataset.items[int(index)]
            for index in experiment.audited.kept[experiment.split.test]
        ]
    )
    items = sealed.open("every choice is made")
    record.test_opened_at = sealed.opened_at or ""
    # Written before the evaluation: an interrupted run cannot hide that its test was opened.
    write_record(folder, record)
    outputs = _outputs(run, bundle, items)
    metrics: Metrics | SetMetrics
    if experiment.multilabel:
        metrics = _test_sets(run, bundle, items, experiment, outputs)
    else:
        metrics, predictions, notes = _test(run, bundle, outputs, items, experiment, gallery)
        for note in notes:
            run.note(note)
        write_result(folder, metrics, predictions)
    return Proof(metrics, bundle.spec, reloaded, outputs.embeddings, gallery)


def _export(run: RunContext) -> Classifier:
    """Reloads the network of the bundle, writes `model.onnx`, and returns the network."""
    reloaded = load_network(run.folder / "bundle")
    missing = export_graph(run.folder / "bundle", reloaded)
    if missing:
        note = f"The bundle has no model.onnx, so that predictions need PyTorch: {missing}."
        run.note(note)
        run.say(f"note: {note}")
    return reloaded


def _outputs(run: RunContext, bundle: Bundle, items: Sequence[Item]) -> Outputs:
    """Runs the bundle on the test images."""
    paths, boxes = [item.path for item in items], [item.box for item in items]
    outputs = run_bundle(bundle, paths, boxes, run.progress, "sealed test")
    if outputs.failed:
        row, why = next(iter(outputs.failed.items()))
        raise DataError(f"{paths[row]} can no longer be read: {why}")
    return outputs


def _test_keys(experiment: Experiment) -> list[str]:
    rows = experiment.audited.kept[experiment.split.test]
    return [experiment.dataset.key(int(index)) for index in rows]


def _test_sets(
    run: RunContext,
    bundle: Bundle,
    items: Sequence[Item],
    experiment: Experiment,
    outputs: Outputs,
) -> SetMetrics:
    """Returns the metrics of several labels an image, and writes the results."""
    sets = [item.names for item in items]
    groups = experiment.audited.groups[experiment.split.test]
    metrics, predictions = set_results(
        bundle.spec, outputs.logits, sets, _test_keys(experiment), groups
    )
    for note in _outside(bundle, outputs.embeddings):
        run.note(note)
    write_set_result(run.folder, metrics, predictions)
    return metrics


def _test(
    run: RunContext,
    bundle: Bundle,
    outputs: Outputs,
    items: Sequence[Item],
    experiment: Experiment,
    gallery: NDArray[np.float32],
) -> tuple[Metrics, list[TestPrediction], list[str]]:
    logits = outputs.logits
    classes, temperature = bundle.spec.classes, bundle.spec.temperature
    labels = np.array([classes.index(item.label) for item in items], np.int64)
    groups = experiment.audited.groups[experiment.split.test]
    found = retrieval(outputs.embeddings, labels, gallery, experiment.extractor.labels["train"])
    metrics = compute_metrics(logits, labels, classes, temperature, groups=groups)
    metrics = metrics.model_copy(update={"retrieval": found})
    probabilities = softmax(logits, temperature)
    run.record.alarms = alarms(logits, labels, temperature, groups)
    keys = _test_keys(experiment)
    best, group = probabilities.argmax(1), numbered(groups, len(labels))
    predictions = [
        TestPrediction(
            path=keys[row],
            label=item.label,
            prediction=classes[best[row]],
            probability=float(probabilities[row, best[row]]),
            probability_of_label=float(probabilities[row, labels[row]]),
            group=int(group[row]),
        )
        for row, item in enumerate(items)
    ]
    return metrics, predictions, _promises(bundle, probabilities, outputs.embeddings, labels)


def _promises(
    bundle: Bundle,
    probabilities: NDArray[np.float64],
    embeddings: NDArray[np.float32],
    labels: NDArray[np.int64],
) -> list[str]:
    """Returns notes on the measured coverage and false alarm rate on the sealed test."""
    notes, rows = [], np.arange(len(labels))
    for promised in bundle.spec.sets:
        if promised.coverage not in _REPORTED:
            continue
        sets = class_sets(bundle, probabilities, promised.coverage)
        held, size = sets[rows, labels].mean(), sets.sum(1).mean()
        notes.append(
            f"Prediction sets with {percent(promised.coverage, 0)} coverage contain the true class "
            f"of {percent(float(held))} of {counted(len(rows), 'test image')}, with {size:.2f} "
            "classes per set."
        )
    return [*notes, *_outside(bundle, embeddings)]


def _outside(bundle: Bundle, embeddings: NDArray[np.float32]) -> list[str]:
    """Returns a note on the measured false alarm rate; none if the bundle has no distribution."""
    known = training_distribution(bundle)
    if known is None:
        return []
    outside = int(out_of_distribution(embeddings, known).sum())
    return [
        f"{outside:,} of {counted(len(embeddings), 'test image')} "
        f"{'is' if outside == 1 else 'are'} flagged as out of distribution (expected: "
        f"{percent(known.false_alarm, 0)})."
    ]


def _distribution(
    experiment: Experiment, transfer: TransferModel, vectors: NDArray[np.float32]
) -> tuple[DistributionSpec, NDArray[np.float16]]:
    """Returns the distance above which an image is out of distribution, and the gallery."""
    known, how = _calibrated(experiment, transfer, vectors)
    spec = DistributionSpec(
        k=known.k, threshold=known.threshold, false_alarm=known.false_alarm, calibrated_on=how
    )
    rows = gallery_rows(_kinds(experiment))
    return spec, vectors[rows].astype(np.float16)


def _calibrated(
    experiment: Experiment,
    transfer: TransferModel,
    vectors: NDArray[np.float32],
    background: NDArray[np.float16] | None = None,
) -> tuple[TrainingDistribution, str]:
    """Returns the calibrated distribution, and what it was calibrated on.

    The threshold is calibrated on the validation images; if they are few or were trained on, on the
    training images, each compared with those of other groups.
    """
    extractor = experiment.extractor
    labels = _kinds(experiment)
    rows = gallery_rows(labels)
    rounded = copied(vectors, dtype=np.float16)  # calibrate the rounded vectors that are shipped
    held_out = not np.isin(extractor.rows["val"], extractor.rows["train"]).any()
    if held_out and len(extractor.rows["val"]) >= FEW:
        held = features_of(extractor, transfer.prefix, transfer.cached["val"], transfer.layout.taps)
        calibration = predict(transfer.head.embed, held, device=extractor.device)
        known = fit_distribution(rounded[rows], labels[rows], calibration, background=background)
        return known, counted(len(calibration), "validation image")
    groups = extractor.groups
    known = fit_distribution_within(rounded, labels, groups, rows, background=background)
    return known, f"{counted(len(labels), 'training image')}, each without its group"


def _kinds(experiment: Experiment) -> NDArray[np.int64]:
    """Returns the class of each training image; one for all where it may have several labels."""
    labels = experiment.extractor.labels["train"]
    return np.zeros(len(labels), np.int64) if labels.ndim == 2 else labels


def _keep_embeddings(
    experiment: Experiment, transfer: TransferModel, folder: Path
) -> NDArray[np.float32]:
    """Writes and returns the embeddings of the training images, for the search of similar ones."""
    extractor = experiment.extractor
    features = features_of(
        extractor, transfer.prefix, transfer.cached["train"], transfer.layout.taps
    )
    vectors = unit(predict(transfer.head.embed, features, device=extractor.device))
    rows = [int(index) for index in extractor.rows["train"]]
    names = [experiment.dataset.key(row) for row in rows]
    labels = [experiment.dataset.items[row].label for row in rows]
    write_embeddings(folder / "embeddings.safetensors", names, labels, vectors)
    return vectors


class SealedTest(Generic[T]):
    """The withheld test items, which can be taken out only once.

    Attributes:
        opened_at: Time of the opening (ISO 8601, UTC), or None.
        reason: Reason for the opening, or None.
    """

    def __init__(self, items: Sequence[T]) -> None:
        self._items = tuple(items)
        self.opened_at: str | None = None
        self.reason: str | None = None

    def __len__(self) -> int:
        return len(self._items)

    def open(self, reason: str) -> tuple[T, ...]:
        """Returns the test items.

        Raises:
            HeadstartError: If it was opened before.
        """
        if self.opened_at is not None:
            raise HeadstartError(
                f"The test set was already opened at {self.opened_at} for {self.reason}. It can be "
                "opened only once per run. Use the result of that evaluation, or start a new run."
            )
        self.opened_at = datetime.now(UTC).isoformat(timespec="seconds")
        self.reason = reason
        return self._items
