"""The plan of a certificate: a learning rate for each arm, and the work that fits the budget."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from headstart.backbones.places import INPUT
from headstart.certificate.arms import CLOSING_S, NETWORK_S, ArmImages, ArmJob, train_arm
from headstart.certificate.record import ARM_RUNS, ArmName, BenefitPlan, read_arms, write_plan
from headstart.certificate.verdicts import ARMS
from headstart.errors import BudgetError
from headstart.features.extractor import FeatureExtractor
from headstart.progress import format_duration
from headstart.recipes.recipe import Recipe
from headstart.text import counted, listed, percent
from headstart.training.experiment import Experiment
from headstart.training.run_context import Resources
from headstart.training.speed import measure_speeds

RATES = (5e-4, 2e-3)
"""Learning rates that each arm tries: the tuning budget is equal."""

FEWEST_EPOCHS, MOST_EPOCHS = 6, 40

FEWEST_OF_A_CLASS = 8
"""Training images of a class, on average, below which seeds are given up first."""

TUNING_SHARE = 0.15
"""Largest share of the budget for the choice of learning rates."""

UNHURRIED = 0.85

JUDGING = 0.25
"""Cost of evaluating an image, relative to training on it."""


@dataclass(frozen=True)
class Design:
    """The design of a certificate.

    Attributes:
        fractions: Shares of the training images, in ascending order.
        seeds: Number of networks for each arm and fraction.
        epochs: Length of every training; None for the length that the budget allows.
    """

    fractions: tuple[float, ...]
    seeds: int
    epochs: int | None


def make_plan(
    folder: Path,
    experiment: Experiment,
    recipe: Recipe,
    images: ArmImages,
    design: Design,
    split_seed: int,
    resources: Resources,
) -> BenefitPlan:
    """Chooses a learning rate for each arm on a few images, then fits the work to the budget."""
    clock, progress = resources.clock, resources.progress
    fractions, seeds, epochs = design.fractions, design.seeds, design.epochs
    extractor = experiment.extractor
    everything = len(images.train)
    input_boundary = extractor.traced.boundary(INPUT)
    recipe = recipe.model_copy(update={"batch_size": 16 if everything < 2000 else 32})
    tuning_epochs, few, train_s = 4, min(everything // 2, 256), 0.0
    if clock.budget_s is not None:
        train_s = measure_speeds(extractor, recipe, [input_boundary], 0)[INPUT].train_s
        spare = TUNING_SHARE * (clock.left() or 0) - len(ARMS) * len(RATES) * NETWORK_S
        fits = int(spare / (len(ARMS) * len(RATES) * tuning_epochs * train_s))
        least = min(everything // 2, 4 * len(extractor.classes))
        few = max(least, min(few, fits))
    else:
        assert epochs is not None
        tuning_epochs = min(tuning_epochs, epochs)
    chosen, train_s = _tune(
        folder, extractor, recipe, _for_tuning(images, few), tuning_epochs, train_s, resources
    )
    notes: tuple[str, ...] = ()
    count = everything
    if epochs is None:
        left = clock.left()
        assert left is not None
        seconds = UNHURRIED * (left - CLOSING_S)
        epochs, count, seeds, notes = fit_to_budget(
            seconds, train_s, everything, len(images.held), len(extractor.classes), fractions, seeds
        )
    plan = BenefitPlan(
        pixels=experiment.pixels.key,
        recipe=recipe.model_dump(mode="json"),
        split_seed=split_seed,
        epochs=epochs,
        images=count,
        held=len(images.held),
        fractions=fractions,
        seeds=seeds,
        rates=RATES,
        chosen=chosen,
        notes=notes,
    )
    write_plan(folder, plan)
    for note in notes:
        progress.say(f"note: {note}")
    shown = listed([percent(share, 0) for share in fractions])
    progress.say(
        f"plan: 2 arms, {counted(seeds, 'seed')}, {shown} of {counted(count, 'image')}, "
        f"{counted(epochs, 'epoch')} each, evaluated on "
        f"{counted(len(images.held), 'held-out image')}; learning rates "
        + ", ".join(f"{arm} {rate:g}" for arm, rate in chosen.items())
    )
    return plan


def fit_to_budget(
    seconds: float,
    train_s: float,
    images: int,
    held: int,
    classes: int,
    fractions: Sequence[float],
    seeds: int,
) -> tuple[int, int, int, tuple[str, ...]]:
    """Returns the epochs, training images and seeds that fit a budget, and notes on reductions.

    All images are used if at least `FEWEST_EPOCHS` fit, else fewer. A single seed is preferred to
    fewer than eight images per class.

    Args:
        seconds: Time for all networks.
        train_s: Seconds to train on one image once.
        images: Number of training images.
        held: Number of held-out images.
        classes: Number of classes.
        fractions: Shares of the training images.
        seeds: Number of networks for each arm and fraction.

    Raises:
        BudgetError: If not even the smallest design fits.

    Example:
        >>> fit_to_budget(600, 0.01, 200, 40, 2, (0.5, 1.0), 2)
        (40, 200, 2, ())
    """
    least = min(images, FEWEST_OF_A_CLASS * classes)

    def takes(epochs: int, count: int, n_seeds: int) -> float:
        judged = JUDGING * held * (epochs + 1) * len(fractions)
        trained = epochs * count * sum(fractions)
        networks = len(ARMS) * n_seeds
        return networks * (train_s * (trained + judged) + NETWORK_S * len(fractions))

    for n_seeds in dict.fromkeys((seeds, 1)):
        notes = () if n_seeds == seeds else (f"The budget allows 1 of {seeds} seeds.",)
        fitting = [e for e in range(FEWEST_EPOCHS, MOST_EPOCHS + 1)
                   if takes(e, images, n_seeds) <= seconds]  # fmt: skip
        if fitting:
            return fitting[-1], images, n_seeds, notes
        per_image = takes(FEWEST_EPOCHS, 1, n_seeds) - takes(FEWEST_EPOCHS, 0, n_seeds)
        count = int((seconds - takes(FEWEST_EPOCHS, 0, n_seeds)) / per_image)
        if count >= least:
            note = f"The budget allows {count:,} of {counted(images, 'training image')}."
            return FEWEST_EPOCHS, count, n_seeds, (*notes, note)
    more = takes(FEWEST_EPOCHS, least, 1) / UNHURRIED - seconds
    raise BudgetError(
        f"This budget is too short to train {2 * len(fractions)} networks for {FEWEST_EPOCHS} "
        f"epochs on {least} images: it lacks about {format_duration(max(more, 1))}. Give a "
        "larger --budget, fewer --fractions, or a smaller --resolution."
    )


def least_passes(sizes: Sequence[int], fractions: Sequence[float]) -> float:
    """Returns how often an image goes through the network in the smallest design.

    That is the design of `fit_to_budget` with one seed, without evaluation. Training on an image
    counts as two passes: the gradient takes at least as long as the output.

    Args:
        sizes: Number of images of each class. Half of them are counted, and only classes of eight:
            the others may be held out or left out.
        fractions: Shares of the training images.

    Example:
        >>> least_passes([100, 100, 2], (0.25, 1.0))
        480.0
    """
    large = [size for size in sizes if size >= FEWEST_OF_A_CLASS]
    images = min(sum(large) // 2, FEWEST_OF_A_CLASS * len(large))
    return 2.0 * len(ARMS) * FEWEST_EPOCHS * images * sum(fractions)


def _for_tuning(images: ArmImages, few: int) -> ArmImages:
    """Returns a few training images for tuning the learning rates, and others to evaluate them.

    The held-out images are not used: the tuning does not bias the results.
    """
    others = slice(few, few + min(150, len(images.train) - few))
    return ArmImages(
        images.train[:few],
        images.train_labels[:few],
        images.train[others],
        images.train_labels[others],
    )


def _tune(
    folder: Path,
    extractor: FeatureExtractor,
    recipe: Recipe,
    images: ArmImages,
    epochs: int,
    train_s: float,
    resources: Resources,
) -> tuple[dict[ArmName, float], float]:
    """Returns the better learning rate of each arm, and the seconds per training image."""
    clock, few = resources.clock, len(images.train)
    done = {(run.arm, run.rate): run for run in read_arms(folder) if run.purpose == "tuning"}
    chosen: dict[ArmName, float] = {}
    for arm in ARMS:
        losses = {}
        for rate in RATES:
            run = done.get((arm, rate))
            if run is None:
                job = ArmJob("tuning", arm, 0.0, 0, rate, epochs)
                run = train_arm(extractor, recipe, images, job, clock)
                ARM_RUNS.append(folder, run)
            losses[rate] = min(e.loss for e in run.evaluations)
            seen = run.evaluations[-1]
            if seen.epoch:
                train_s = max(train_s / 2, seen.seconds / (seen.epoch * run.images))
        chosen[arm] = min(losses, key=lambda rate: losses[rate])
        tried = ", ".join(f"{rate:g}: {loss:.3f}" for rate, loss in losses.items())
        resources.progress.say(f"{arm}: log loss by learning rate on {few} images: {tried}")
    return chosen, train_s
