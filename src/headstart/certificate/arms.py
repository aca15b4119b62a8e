"""The networks of a certificate, trained from pretrained weights and from scratch."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from headstart.backbones.cut import trace
from headstart.backbones.places import INPUT
from headstart.certificate.learning_curve import nested_order
from headstart.certificate.record import (
    ARM_RUNS,
    ArmName,
    ArmRun,
    BenefitPlan,
    Evaluation,
    read_arms,
)
from headstart.certificate.verdicts import ARMS
from headstart.evaluation.calibration import score
from headstart.evaluation.metrics import right_bits
from headstart.features.extractor import FeatureExtractor, backbone_of
from headstart.progress import SILENT
from headstart.recipes.parsing import parse_recipe
from headstart.recipes.recipe import Recipe
from headstart.text import counted, percent
from headstart.training.budget import Clock
from headstart.training.loop import predict, train
from headstart.training.run_context import Resources
from headstart.training.transfer import build_transfer_model, trainable, training_data

MOST_HELD = 600
"""Largest number of held-out images; more would cost time and add little precision."""

CLOSING_S = 12.0
"""Seconds reserved for the answers and the picture."""

NETWORK_S = 3.0
"""Overhead of a network in seconds: loading, tracing and set-up."""


@dataclass(frozen=True)
class ArmImages:
    """Training rows in the order in which fractions grow, and held-out rows for evaluation."""

    train: NDArray[np.int64]
    train_labels: NDArray[np.int64]
    held: NDArray[np.int64]
    held_labels: NDArray[np.int64]


def order_images(extractor: FeatureExtractor, split_seed: int) -> ArmImages:
    """Returns training images, whose every prefix is stratified, and held-out images."""
    rng = np.random.default_rng([split_seed, 1])
    train = nested_order(extractor.labels["train"], rng)
    held = np.sort(nested_order(extractor.labels["val"], rng)[:MOST_HELD])
    return ArmImages(
        train=extractor.rows["train"][train],
        train_labels=extractor.labels["train"][train],
        held=extractor.rows["val"][held],
        held_labels=extractor.labels["val"][held],
    )


@dataclass(frozen=True)
class ArmJob:
    """One network to train for a certificate.

    Attributes:
        purpose: `tuning` for the choice of the learning rate, or `curve`.
        arm: Initial weights.
        fraction: Share of the training images; 0 for tuning.
        seed: Seed for the network and its training.
        rate: Learning rate.
        epochs: Length of training.
    """

    purpose: Literal["tuning", "curve"]
    arm: ArmName
    fraction: float
    seed: int
    rate: float
    epochs: int


def train_all(
    folder: Path,
    extractor: FeatureExtractor,
    plan: BenefitPlan,
    images: ArmImages,
    resources: Resources,
) -> None:
    """Trains the planned networks that the journal lacks, pair by pair, within the budget."""
    recipe = parse_recipe(plan.recipe)
    clock, progress = resources.clock, resources.progress
    done = {(r.arm, r.fraction, r.seed) for r in read_arms(folder) if r.purpose == "curve"
            and r.whole}  # fmt: skip
    wanted = [
        (seed, fraction, arm)
        for seed in range(plan.seeds)
        for fraction in reversed(plan.fractions)
        for arm in ARMS
    ]
    for seed, fraction, arm in progress.track(wanted, "training both arms", len(wanted)):
        left = clock.left()
        if (arm, fraction, seed) in done or (left is not None and left < CLOSING_S + NETWORK_S):
            continue
        count = max(2, round(fraction * plan.images))
        part = replace(images, train=images.train[:count], train_labels=images.train_labels[:count])
        job = ArmJob("curve", arm, fraction, seed, plan.chosen[arm], plan.epochs)
        run = train_arm(extractor, recipe, part, job, clock)
        ARM_RUNS.append(folder, run)
        end = run.evaluations[-1]
        progress.say(
            f"{arm}, {percent(fraction, 0)} of the data, seed {seed}: {percent(end.accuracy)} "
            f"after {counted(end.epoch, 'epoch')}, {end.seconds:.0f} s"
        )


def train_arm(
    extractor: FeatureExtractor, recipe: Recipe, images: ArmImages, job: ArmJob, clock: Clock
) -> ArmRun:
    """Trains one network and evaluates it after every epoch, until it is done or time is up.

    Args:
        extractor: Decoded images and device.
        recipe: Recipe of both arms.
        images: Training and held-out images.
        job: Network to train.
        clock: Clock with the budget.
    """
    weights = "pretrained" if job.arm == "pretrained" else "random"
    recipe = recipe.model_copy(
        update={
            "backbone": recipe.backbone.model_copy(update={"weights": weights}),
            "optimizer": recipe.optimizer.model_copy(update={"lr": job.rate}),
            "seed": job.seed,
        }
    )
    network = backbone_of(recipe)
    here = replace(
        extractor,
        rows={"train": images.train, "val": images.held},
        labels={"train": images.train_labels, "val": images.held_labels},
        groups=np.arange(len(images.train)),
        backbone=network,
        traced=trace(network.model, network.preprocessing.resolution),
        progress=SILENT,
    )
    transfer = build_transfer_model(here, recipe, INPUT)
    data = training_data(here, recipe, transfer, job.epochs)
    assert data.val is not None
    logits = predict(transfer.model.to(here.device), data.val, device=here.device)
    loss, _ = score(logits, data.val_labels)
    evaluations = [
        Evaluation(epoch=0, seconds=0, train_loss=None, loss=loss,
                   right=right_bits(logits, data.val_labels))
    ]  # fmt: skip
    seconds = 0.0
    for record in train(trainable(here, transfer), data, recipe, job.epochs):
        assert record.val_loss is not None
        seconds += len(images.train) / (record.images_per_s or 1.0)
        evaluations.append(
            Evaluation(epoch=record.epoch, seconds=seconds, train_loss=record.train_loss,
                       loss=record.val_loss, right=record.val_right)
        )  # fmt: skip
        left = clock.left()
        if left is not None and left - CLOSING_S < 1.2 * record.seconds:
            break  # the learning rate is constant: an early stop does not change the epochs so far
    return ArmRun(
        purpose=job.purpose,
        arm=job.arm,
        fraction=job.fraction,
        seed=job.seed,
        rate=job.rate,
        images=len(images.train),
        epochs=job.epochs,
        evaluations=tuple(evaluations),
    )
