"""The proof: the bundle is written, loaded again, and opens the sealed test once."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.bundle import (
    Bundle,
    Member,
    RangeSpec,
    SetSpec,
    load_bundle,
    run_bundle,
    save_bundle,
)
from headstart.artifacts.embeddings import write_embeddings
from headstart.artifacts.run import TestPrediction, write_record, write_result
from headstart.calibration import COVERAGES
from headstart.data.types import Item
from headstart.diagnose.conformal import (
    FEW,
    fit_range,
    fit_range_within,
    gallery_rows,
    out_of_range,
)
from headstart.errors import DataError
from headstart.evaluate import Metrics, SealedTest, compute_metrics, softmax
from headstart.finetuning import Finished
from headstart.predict import class_sets, range_of
from headstart.preparing import Prepared
from headstart.retrieval import retrieval, unit
from headstart.run_context import RunContext
from headstart.search.material import features_of
from headstart.search.stages import Start
from headstart.train import predict

_REPORTED = (0.9, 0.95)
"""Promised coverages of class sets that the run says the truth about."""


@dataclass(frozen=True)
class Proof:
    """What the sealed test showed, and by what.

    Attributes:
        metrics: The figures.
        bundle: The classifier, as it was loaded again.
        tested: Embeddings of the test images (N, E), in the order of the split.
        known: Embeddings of the training images (M, E), in the order of the material's rows.
    """

    metrics: Metrics
    bundle: Bundle
    tested: NDArray[np.float32]
    known: NDArray[np.float32]


def prove(run: RunContext, done: Finished) -> Proof:
    """Writes the bundle, reloads it, and opens the sealed test once with what was reloaded.

    Args:
        run: The run; when the test was opened is recorded there.
        done: What was trained.
    """
    folder, record = run.folder, run.record
    ready, recipe, start, temperature = done.ready, done.recipe, done.start, done.temperature
    material, network = ready.material, ready.material.backbone
    gallery = _keep_embeddings(ready, start, folder)
    sets = [
        SetSpec(coverage=coverage, threshold=threshold, images=done.held)
        for coverage, threshold in zip(COVERAGES, done.sets, strict=False)
    ]
    save_bundle(
        folder / "bundle",
        {
            "backbone": network.name,
            "features": start.features,
            "boundary": start.prefix.boundary,
            "taps": start.taps,
            "head": recipe.head,
            "activation": recipe.activation,
            "test_time_flip": recipe.test_time_flip,
            "classes": material.classes,
            "preprocessing": network.preprocessing,
            "temperature": temperature,
            "recipe": recipe.model_dump(mode="json"),
            "pretrained_sha256": network.weights_hash,
            "licence": network.licence,
            "data_sha256": ready.pixels.key,
            "versions": record.versions,
            "sets": sets,
        },
        [Member(network.model, start.head), *done.others],
        _range(ready, start, gallery),
    )
    bundle = load_bundle(folder / "bundle")
    sealed = SealedTest(
        [ready.dataset.items[int(index)] for index in ready.audited.kept[ready.split.test]]
    )
    items = sealed.open("every choice is made")
    record.test_opened_at = sealed.opened_at or ""
    # Before anything is seen: a run that is stopped from here on cannot hide that it was.
    write_record(folder, record)
    proof, predictions, notes = _test(run, bundle, items, ready, gallery, temperature)
    for note in notes:
        run.note(note)
    write_result(folder, proof.metrics, predictions)
    return proof


def _test(
    run: RunContext,
    bundle: Bundle,
    items: Sequence[Item],
    ready: Prepared,
    gallery: NDArray[np.float32],
    temperature: float,
) -> tuple[Proof, list[TestPrediction], list[str]]:
    paths, boxes = [item.path for item in items], [item.box for item in items]
    outputs = run_bundle(bundle, paths, boxes, run.progress, "sealed test")
    logits = outputs.logits
    if outputs.failed:
        row, why = next(iter(outputs.failed.items()))
        raise DataError(f"{paths[row]} could be read before and cannot be read now: {why}")
    classes = bundle.spec.classes
    labels = np.array([classes.index(item.label) for item in items], np.int64)
    groups = ready.audited.groups[ready.split.test]
    found = retrieval(outputs.embeddings, labels, gallery, ready.material.labels["train"])
    metrics = compute_metrics(logits, labels, classes, temperature, groups=groups)
    metrics = metrics.model_copy(update={"retrieval": found})
    probabilities = softmax(logits, temperature)
    keys = [ready.dataset.key(int(index)) for index in ready.audited.kept[ready.split.test]]
    best = probabilities.argmax(1)
    predictions = [
        TestPrediction(
            path=keys[row],
            label=item.label,
            prediction=classes[best[row]],
            probability=float(probabilities[row, best[row]]),
            probability_of_label=float(probabilities[row, labels[row]]),
        )
        for row, item in enumerate(items)
    ]
    proof = Proof(metrics, bundle, outputs.embeddings, gallery)
    return proof, predictions, _promises(bundle, probabilities, outputs.embeddings, labels)


def _promises(
    bundle: Bundle,
    probabilities: NDArray[np.float64],
    embeddings: NDArray[np.float32],
    labels: NDArray[np.int64],
) -> list[str]:
    """Says what became of the promised rates of sets and range on the sealed test."""
    notes, rows = [], np.arange(len(labels))
    for promised in bundle.spec.sets:
        if promised.coverage not in _REPORTED:
            continue
        sets = class_sets(bundle, probabilities, promised.coverage)
        held, size = sets[rows, labels].mean(), sets.sum(1).mean()
        notes.append(
            f"Sets of classes for {promised.coverage:.0%} held the true class of {held:.1%} of "
            f"{len(rows)} test images, with {size:.2f} classes a set."
        )
    known = range_of(bundle)
    if known is not None:
        unlike = int(out_of_range(embeddings, known).sum())
        notes.append(
            f"{unlike} of {len(rows)} test images were called unlike the training images "
            f"({known.false_alarm:.0%} were to be expected)."
        )
    return notes


def _range(
    ready: Prepared, start: Start, vectors: NDArray[np.float32]
) -> tuple[RangeSpec, NDArray[np.float16]]:
    """Returns from which distance on an image is unlike the training images, and their gallery.

    It comes from the validation images, unless these were trained on too or are few; then from the
    training images, each measured without its own group.
    """
    material = ready.material
    labels = material.labels["train"]
    rows = gallery_rows(labels)
    rounded = vectors.astype(np.float16)  # what is shipped is what is calibrated
    held_out = not np.isin(material.rows["val"], material.rows["train"]).any()
    if held_out and len(material.rows["val"]) >= FEW:
        held = features_of(material, start.prefix, start.cached["val"], start.taps)
        calibration = predict(start.head.embed, held, device=material.device)
        known = fit_range(rounded[rows], labels[rows], calibration)
        how = f"{len(calibration)} validation images"
    else:
        known = fit_range_within(rounded, labels, material.groups, rows)
        how = f"{len(labels)} training images, each without its group"
    spec = RangeSpec(
        k=known.k, threshold=known.threshold, false_alarm=known.false_alarm, calibrated_on=how
    )
    return spec, rounded[rows]


def _keep_embeddings(ready: Prepared, start: Start, folder: Path) -> NDArray[np.float32]:
    """Writes and returns the training images' embeddings, by which similar ones are found."""
    material = ready.material
    features = features_of(material, start.prefix, start.cached["train"], start.taps)
    vectors = unit(predict(start.head.embed, features, device=material.device))
    rows = [int(index) for index in material.rows["train"]]
    names = [ready.dataset.key(row) for row in rows]
    labels = [ready.dataset.items[row].label for row in rows]
    write_embeddings(folder / "embeddings.safetensors", names, labels, vectors)
    return vectors
