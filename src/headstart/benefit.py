"""What transfer brings: the same network and tuning from pretrained weights and from scratch."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from headstart.artifacts.certificate import (
    CERTIFICATE,
    ArmName,
    ArmRun,
    BenefitPlan,
    Certificate,
    Evaluation,
    LabelForecast,
    append_arm,
    read_arms,
    read_certificate,
    read_forecast,
    read_plan,
    write_certificate,
    write_forecast,
    write_plan,
)
from headstart.artifacts.files import write_text
from headstart.artifacts.run import check_unclaimed, claim_folder, locked, machine, now, versions
from headstart.backbones.cut import FEATURES, INPUT, trace
from headstart.benefit_verdicts import (
    ARMS,
    KNOWN,
    describe_test,
    judge_fraction,
    judge_labels,
)
from headstart.cache import default_cache_dir, evict
from headstart.data.sources import load_dataset
from headstart.errors import BudgetError, DataError, RecipeError, RunError
from headstart.evaluate import score
from headstart.learning_curve import classifiers_of_full_size, measure_curve, nested_order
from headstart.methods.averaging import GreedySoup
from headstart.preparing import Prepared, prepare, unsealed
from headstart.probe import fit_probe
from headstart.progress import SILENT, Progress, format_duration
from headstart.recipe import Recipe, parse_recipe, with_settings
from headstart.report.certificate import write_certificate_page
from headstart.search.clock import Clock, parse_budget
from headstart.search.material import Material, activations, backbone_of, open_prefix
from headstart.search.measuring import measure_speeds
from headstart.search.stages import blocks_of, frozen_of, start_from, training_data
from headstart.train import predict, right_bits, train

DEFAULT_BUDGET = "10m"
RESOLUTION = 112
RATES = (5e-4, 2e-3)
"""Learning rates that each arm tries: the equal tuning budget."""
ON_CPU, ON_GPU = ((0.25, 1.0), 2), ((0.1, 0.25, 0.5, 1.0), 3)
"""Fractions of the data and seeds, unless they are given."""
MOST_VIEWS = 4
MOST_HELD = 600
"""Held-out images; more would take longer to judge by than they tell."""
FEWEST_EPOCHS, MOST_EPOCHS = 6, 40
CLOSING_S = 12.0
"""Seconds kept for the answers and the picture."""
NETWORK_S = 3.0
"""Seconds that a network takes besides its epochs: it is loaded, traced and set up."""
LABELS_SHARE, TUNING_SHARE = 0.15, 0.15
"""Shares of the budget for the forecast and for choosing rates, at most."""
UNHURRIED = 0.85
JUDGING = 0.25
"""What judging by an image costs, in trainings on one."""
FIXED = {"backbone.weights", "backbone.name", "backbone.resolution", "freezing", "seed", "epochs"}


@dataclass(frozen=True)
class _Images:
    """Rows of the pixels in the order in which fractions grow, and those that all are judged by."""

    train: NDArray[np.int64]
    train_labels: NDArray[np.int64]
    held: NDArray[np.int64]
    held_labels: NDArray[np.int64]


def benefit(
    source: Any,
    *,
    budget: str | float | None = None,
    epochs: int | None = None,
    fractions: Sequence[float] | None = None,
    seeds: int | None = None,
    backbone: str | None = None,
    resolution: int = RESOLUTION,
    settings: Sequence[str] = (),
    out: str | Path | None = None,
    split_seed: int = 0,
    boxes: Literal["crop", "keep"] = "crop",
    workers: int | None = None,
    cache_dir: str | Path | None = None,
    progress: Progress = SILENT,
    command: str = "",
    started: float | None = None,
) -> tuple[Path, Certificate]:
    """Says whether pretrained weights bring a higher start, slope and asymptote (Torrey & Shavlik).

    Both arms have the same architecture, recipe, data, epochs and number of tried learning rates;
    all of the network is trained. The rate is constant, so that a curve levels off only where
    learning does, and an average of the weights (EMA) takes the noise out of it. The test images
    of the split, which is that of `fit`, are not touched.

    Args:
        source: A folder, a manifest, `demo:solar`, a DataFrame or a list of paths.
        budget: Ceiling on the wall time, as seconds or text; 10 minutes unless epochs are given.
        epochs: Of every network, on all training images, instead of a budget.
        fractions: Shares of the training images in (0, 1].
        seeds: Networks an arm and fraction.
        backbone: Name of a timm model.
        resolution: Side of a view in pixels.
        settings: Changes to the recipe of both arms such as `augmentation.flip=false`.
        out: Folder; one that was begun is gone on with. `runs/NAME-benefit-TIME` by default.
        split_seed: Of the split.
        boxes: Whether images are cropped to boxes that the source gives.
        workers: Processes that decode images.
        cache_dir: Folder of the cache.
        progress: Where progress is shown.
        command: What repeats this, for the record.
        started: When the process began, on `time.monotonic`; now by default.

    Returns:
        The folder and what is in its `certificate.json`.

    Raises:
        InputError: If nothing can be compared with what was given.
    """
    if budget is not None and epochs is not None:
        raise BudgetError("give either a budget or a number of epochs, not both.")
    if budget is None and epochs is None:
        budget = DEFAULT_BUDGET
    seconds = parse_budget(budget) if isinstance(budget, str) else budget
    clock = Clock(started or time.monotonic(), seconds)
    shares, n_seeds = _design(fractions, seeds, epochs)
    recipe = _recipe(backbone, resolution, settings)
    folder = Path(out) if out is not None else None
    going_on = folder is not None and _begun(folder)
    if folder is not None and not going_on:
        check_unclaimed(folder)
    dataset = load_dataset(source, boxes=boxes)
    cache = Path(cache_dir) if cache_dir else default_cache_dir()
    ready = prepare(dataset, recipe, clock, None, split_seed, cache, workers, progress)
    if folder is None:
        stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
        folder = Path("runs") / f"{dataset.name}-benefit-{stamp}"
    if not going_on:
        claim_folder(folder)
    with locked(folder):
        write_text(folder / "audit.json", ready.audited.audit.model_dump_json(indent=1) + "\n")
        images = _images(ready.material, split_seed)
        labels = _forecast(folder, ready, clock, split_seed, progress)
        plan = read_plan(folder)
        if plan is None:
            plan = _make_plan(
                folder, ready, recipe, images, shares, n_seeds, epochs, clock, split_seed, progress
            )
        _check_same(folder, plan, ready, recipe, split_seed)
        _check_design(folder, plan, fractions and shares, epochs)
        _train_all(folder, ready.material, plan, images, clock, progress)
        certificate = _certify(folder, ready, plan, images, labels, clock, command)
        write_certificate(folder, certificate)
        write_certificate_page(folder, certificate)
        evict(cache)
    return folder, certificate


def percentages(text: str | None) -> tuple[float, ...] | None:
    """Reads percentages such as `10,25,100` as shares.

    Raises:
        RecipeError: If they are none.
    """
    if text is None:
        return None
    try:
        return tuple(float(part.strip().removesuffix("%")) / 100 for part in text.split(","))
    except ValueError:
        raise RecipeError(
            f"--fractions {text!r} are no percentages; write them like 10,25,100."
        ) from None


def _design(
    fractions: Sequence[float] | None, seeds: int | None, epochs: int | None
) -> tuple[tuple[float, ...], int]:
    default_fractions, default_seeds = ON_GPU if torch.cuda.is_available() else ON_CPU
    shares = tuple(sorted(set(fractions or default_fractions)))
    if not all(0 < share <= 1 for share in shares):
        raise RecipeError("--fractions must be percentages above 0 and up to 100, like 25,100.")
    n_seeds = default_seeds if seeds is None else seeds
    if n_seeds < 1:
        raise RecipeError(f"{n_seeds} seeds were asked for; ask for one at least.")
    if epochs is not None and epochs < 1:
        raise RecipeError(f"{epochs} epochs were asked for; ask for one at least.")
    return shares, n_seeds


def _recipe(backbone: str | None, resolution: int, settings: Sequence[str]) -> Recipe:
    names = {setting.partition("=")[0].strip() for setting in settings}
    fixed = sorted(n for n in names if n in FIXED or n.partition(".")[0] in {"freezing", "epochs"})
    if fixed:
        raise RecipeError(
            f"{', '.join(fixed)} cannot be --set here: both arms train the whole network, from "
            "weights that are what is compared. Use --backbone, --resolution, --epochs or --seeds."
        )
    base = parse_recipe(
        {
            "backbone": {"resolution": resolution, **({"name": backbone} if backbone else {})},
            "head": {"name": "linear", "init": "random", "features": "last"},
            "freezing": "full",
            "augmentation": "flip_crop",
            "criterion": "cross_entropy",
            "schedule": "constant",
            "averaging": {"name": "ema", "half_life": 0.05},
            "views": MOST_VIEWS,
        }
    )
    chosen = with_settings(base, settings)
    if chosen.closed_form or isinstance(chosen.averaging, GreedySoup):
        raise RecipeError("both arms are trained by gradient to the last epoch; leave soups out.")
    return chosen


def _images(material: Material, split_seed: int) -> _Images:
    rng = np.random.default_rng([split_seed, 1])
    train = nested_order(material.labels["train"], rng)
    held = np.sort(nested_order(material.labels["val"], rng)[:MOST_HELD])
    return _Images(
        train=material.rows["train"][train],
        train_labels=material.labels["train"][train],
        held=material.rows["val"][held],
        held_labels=material.labels["val"][held],
    )


def _begun(folder: Path) -> bool:
    """Says whether a folder holds a certificate that was begun; that of a `fit` has a run.json."""
    return (folder / "audit.json").exists() and not (folder / "run.json").exists()


def _check_design(
    folder: Path, plan: BenefitPlan, fractions: Sequence[float] | None, epochs: int | None
) -> None:
    """Refuses fractions and epochs that are not those of the plan.

    Raises:
        RunError: Saying what they are.
    """
    if (fractions and tuple(fractions) != plan.fractions) or epochs not in {None, plan.epochs}:
        shown = ",".join(f"{100 * share:g}" for share in plan.fractions)
        raise RunError(
            f"{folder} was begun with --fractions {shown} and {plan.epochs} epochs; name another "
            "folder with --out, or leave both away to go on."
        )


def _check_same(
    folder: Path, plan: BenefitPlan, ready: Prepared, recipe: Recipe, split_seed: int
) -> None:
    """Refuses to go on with something else than was begun.

    Raises:
        RunError: Saying what differs.
    """
    # The size of a batch follows from that of the data.
    asked = recipe.model_copy(update={"batch_size": plan.recipe["batch_size"]})
    for what, same in (
        ("images", plan.pixels == ready.pixels.key),
        ("split seed", plan.split_seed == split_seed),
        ("recipe", plan.recipe == asked.model_dump(mode="json")),
    ):
        if not same:
            raise RunError(
                f"{folder} was begun with another {what}; name another folder with --out, or give "
                "the same command to go on."
            )


# Labels


def _forecast(
    folder: Path, ready: Prepared, clock: Clock, seed: int, progress: Progress
) -> LabelForecast | None:
    """Returns the forecast for more labels; None where there are too few images for one."""
    known = read_forecast(folder)
    if known is not None:
        return known
    material = ready.material
    all_of = unsealed(ready)
    rows, labels, groups = all_of.rows, all_of.labels, all_of.groups
    everything = replace(material, rows={"all": rows}, labels={"all": labels})
    features = np.asarray(
        activations(everything, open_prefix(material, FEATURES), "all"), np.float32
    )
    keep = np.arange(len(rows))
    most = _affordable_rows(features, labels, len(material.classes), clock)
    if most < len(rows):
        keep = nested_order(labels, np.random.default_rng(seed))[:most]
        progress.say(f"forecast: from {most} of {len(rows)} images, to stay in the budget")
    data = (features[keep], labels[keep], groups[keep], len(material.classes))
    try:
        curve = measure_curve(*data, seed=seed, progress=progress)
        tested = measure_curve(*data, known=KNOWN, seed=seed + 1, progress=progress)
    except DataError as error:
        progress.say(f"no forecast: {error}")
        return None
    found = judge_labels(curve, tested, seed)
    write_forecast(folder, found)
    progress.say(f"more labels: {found.answer}: {found.why}")
    progress.say(describe_test(found.test))
    return found


def _affordable_rows(
    features: NDArray[np.float32], labels: NDArray[np.int64], classes: int, clock: Clock
) -> int:
    """Returns from how many images a forecast fits into its share of the budget."""
    left = clock.left()
    if left is None:
        return len(labels)
    some = np.linspace(0, len(labels) - 1, max(16, len(labels) // 8)).astype(int)
    began = time.monotonic()
    fit_probe(features[some], labels[some], classes, 1e-4)
    # The work grows with the square of the images while there are fewer of them than features.
    whole_s = (time.monotonic() - began) * (len(labels) / len(some)) ** 1.5
    probes = classifiers_of_full_size() + classifiers_of_full_size(KNOWN)
    return int(len(labels) * min(1.0, LABELS_SHARE * left / (whole_s * probes)) ** (1 / 1.5))


# The plan


def _make_plan(
    folder: Path,
    ready: Prepared,
    recipe: Recipe,
    images: _Images,
    fractions: tuple[float, ...],
    seeds: int,
    epochs: int | None,
    clock: Clock,
    split_seed: int,
    progress: Progress,
) -> BenefitPlan:
    """Chooses a rate for each arm on a few training images, then what fits into the budget."""
    material = ready.material
    everything = len(images.train)
    input_boundary = material.traced.boundary(INPUT)
    recipe = recipe.model_copy(update={"batch_size": 16 if everything < 2000 else 32})
    tuning_epochs, few, train_s = 4, min(everything // 2, 256), 0.0
    if clock.budget_s is not None:
        train_s = measure_speeds(material, recipe, [input_boundary], 0)[INPUT].train_s
        spare = TUNING_SHARE * (clock.left() or 0) - len(ARMS) * len(RATES) * NETWORK_S
        fits = int(spare / (len(ARMS) * len(RATES) * tuning_epochs * train_s))
        least = min(everything // 2, 4 * len(material.classes))
        few = max(least, min(few, fits))
    else:
        assert epochs is not None
        tuning_epochs = min(tuning_epochs, epochs)
    chosen, train_s = _tune(
        folder, material, recipe, images, few, tuning_epochs, clock, train_s, progress
    )
    notes: tuple[str, ...] = ()
    count = everything
    if epochs is None:
        left = clock.left()
        assert left is not None
        seconds = UNHURRIED * (left - CLOSING_S)
        epochs, count, seeds, notes = fit_to_budget(
            seconds, train_s, everything, len(images.held), len(material.classes), fractions, seeds
        )
    plan = BenefitPlan(
        pixels=ready.pixels.key,
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
    shown = ", ".join(f"{share:.0%}" for share in fractions)
    progress.say(
        f"plan: 2 arms x {seeds} seeds x fractions {shown} of {count} images, {epochs} epochs "
        f"each, judged by {len(images.held)} held-out images; rates "
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
    """Returns what fits: epochs, training images, seeds, and notes on what was given up.

    All images where at least `FEWEST_EPOCHS` fit, else fewer images; a single seed before fewer
    than eight images a class.

    Args:
        seconds: For all networks.
        train_s: To train on an image once.
        images: That there are to train on.
        held: Images to judge by.
        classes: How many.
        fractions: Of the images.
        seeds: Networks an arm and fraction.

    Raises:
        BudgetError: If not even that fits.
    """
    least = min(images, 8 * classes)

    def takes(epochs: int, count: int, n_seeds: int) -> float:
        judged = JUDGING * held * (epochs + 1) * len(fractions)
        trained = epochs * count * sum(fractions)
        networks = len(ARMS) * n_seeds
        return networks * (train_s * (trained + judged) + NETWORK_S * len(fractions))

    for n_seeds in dict.fromkeys((seeds, 1)):
        notes = () if n_seeds == seeds else (f"the budget has room for 1 of {seeds} seeds",)
        fitting = [e for e in range(FEWEST_EPOCHS, MOST_EPOCHS + 1)
                   if takes(e, images, n_seeds) <= seconds]  # fmt: skip
        if fitting:
            return fitting[-1], images, n_seeds, notes
        per_image = takes(FEWEST_EPOCHS, 1, n_seeds) - takes(FEWEST_EPOCHS, 0, n_seeds)
        count = int((seconds - takes(FEWEST_EPOCHS, 0, n_seeds)) / per_image)
        if count >= least:
            note = f"the budget has room for {count} of {images} training images"
            return FEWEST_EPOCHS, count, n_seeds, (*notes, note)
    more = takes(FEWEST_EPOCHS, least, 1) / UNHURRIED - seconds
    raise BudgetError(
        f"this budget is too short to train {2 * len(fractions)} networks for {FEWEST_EPOCHS} "
        f"epochs on {least} images: about {format_duration(max(more, 1))} are missing. Give a "
        "larger --budget, fewer --fractions, or a smaller --resolution."
    )


def _tune(
    folder: Path,
    material: Material,
    recipe: Recipe,
    images: _Images,
    few: int,
    epochs: int,
    clock: Clock,
    train_s: float,
    progress: Progress,
) -> tuple[dict[ArmName, float], float]:
    """Returns each arm's better rate, and the seconds that training on an image once took.

    They are compared on training images beyond the few, so that no figure is better for it.
    """
    done = {(run.arm, run.rate): run for run in read_arms(folder) if run.purpose == "tuning"}
    others = slice(few, few + min(150, len(images.train) - few))
    apart = _Images(
        images.train[:few],
        images.train_labels[:few],
        images.train[others],
        images.train_labels[others],
    )
    chosen: dict[ArmName, float] = {}
    for arm in ARMS:
        losses = {}
        for rate in RATES:
            run = done.get((arm, rate))
            if run is None:
                run = _train_arm(
                    material, recipe, apart, "tuning", arm, 0.0, 0, rate, epochs, clock
                )
                append_arm(folder, run)
            losses[rate] = min(e.loss for e in run.evaluations)
            seen = run.evaluations[-1]
            if seen.epoch:
                train_s = max(train_s / 2, seen.seconds / (seen.epoch * run.images))
        chosen[arm] = min(losses, key=lambda rate: losses[rate])
        tried = ", ".join(f"{rate:g}: {loss:.3f}" for rate, loss in losses.items())
        progress.say(f"{arm}: log loss by learning rate on {few} images: {tried}")
    return chosen, train_s


# Training


def _train_all(
    folder: Path,
    material: Material,
    plan: BenefitPlan,
    images: _Images,
    clock: Clock,
    progress: Progress,
) -> None:
    """Trains what the plan asks for and the journal lacks, pair by pair, while the budget lasts."""
    recipe = parse_recipe(plan.recipe)
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
        run = _train_arm(
            material, recipe, part, "curve", arm, fraction, seed, plan.chosen[arm],
            plan.epochs, clock,
        )  # fmt: skip
        append_arm(folder, run)
        end = run.evaluations[-1]
        progress.say(
            f"{arm}, {fraction:.0%} of the data, seed {seed}: {end.accuracy:.1%} after "
            f"{end.epoch} epochs, {end.seconds:.0f} s"
        )


def _train_arm(
    material: Material,
    recipe: Recipe,
    images: _Images,
    purpose: Literal["tuning", "curve"],
    arm: ArmName,
    fraction: float,
    seed: int,
    rate: float,
    epochs: int,
    clock: Clock,
) -> ArmRun:
    """Trains one network and judges it after every epoch, until it is done or time is up."""
    weights = "pretrained" if arm == "pretrained" else "random"
    recipe = recipe.model_copy(
        update={
            "backbone": recipe.backbone.model_copy(update={"weights": weights}),
            "optimizer": recipe.optimizer.model_copy(update={"lr": rate}),
            "seed": seed,
        }
    )
    network = backbone_of(recipe)
    here = replace(
        material,
        rows={"train": images.train, "val": images.held},
        labels={"train": images.train_labels, "val": images.held_labels},
        groups=np.arange(len(images.train)),
        backbone=network,
        traced=trace(network.model, network.preprocessing.resolution),
        progress=SILENT,
    )
    start = start_from(here, recipe, INPUT)
    data = training_data(here, recipe, start, epochs)
    assert data.val is not None
    logits = predict(start.model.to(here.device), data.val, device=here.device)
    loss, _ = score(logits, data.val_labels)
    evaluations = [
        Evaluation(epoch=0, seconds=0, train_loss=None, loss=loss,
                   right=right_bits(logits, data.val_labels))
    ]  # fmt: skip
    seconds = 0.0
    records = train(
        start.suffix, start.head, data, recipe, epochs, None, here.device,
        blocks_of(here, start), frozen_of(here, start),
    )  # fmt: skip
    for record in records:
        assert record.val_loss is not None
        seconds += len(images.train) / (record.images_per_s or 1.0)
        evaluations.append(
            Evaluation(epoch=record.epoch, seconds=seconds, train_loss=record.train_loss,
                       loss=record.val_loss, right=record.val_right)
        )  # fmt: skip
        left = clock.left()
        if left is not None and left - CLOSING_S < 1.2 * record.seconds:
            break  # the rate is constant: what was trained so far is what it would have been
    return ArmRun(
        purpose=purpose,
        arm=arm,
        fraction=fraction,
        seed=seed,
        rate=rate,
        images=len(images.train),
        epochs=epochs,
        evaluations=tuple(evaluations),
    )


# The answers


def _certify(
    folder: Path,
    ready: Prepared,
    plan: BenefitPlan,
    images: _Images,
    labels: LabelForecast | None,
    clock: Clock,
    command: str,
) -> Certificate:
    """Reads the answers from the journal.

    Raises:
        BudgetError: If the budget ended before there was one pair to compare.
    """
    runs = [run for run in read_arms(folder) if run.purpose == "curve"]
    chance = float(np.bincount(images.held_labels).max() / len(images.held_labels))
    results = []
    for fraction in plan.fractions:
        found = judge_fraction([r for r in runs if r.fraction == fraction], chance)
        if found is not None:
            results.append(found)
    if not results:
        raise BudgetError(
            f"the budget ended before two networks could be compared; the same command with "
            f"--out {folder} goes on."
        )
    network = ready.material.backbone
    earlier = read_certificate(folder) if (folder / CERTIFICATE).exists() else None
    return Certificate(
        name=ready.dataset.name,
        command=earlier.command if earlier else command,
        started_at=earlier.started_at if earlier else now(),
        seconds=clock.elapsed() + (earlier.seconds if earlier else 0.0),
        budget_s=clock.budget_s,
        backbone=network.name,
        weights=network.source,
        resolution=network.preprocessing.resolution,
        chance=chance,
        held=len(images.held_labels),
        plan=plan,
        fractions=tuple(results),
        labels=labels,
        notes=(*plan.notes, *_notes(folder, plan, runs, results[-1].seeds)),
        versions=versions(),
        machine=machine(),
    )


def _notes(folder: Path, plan: BenefitPlan, runs: Sequence[ArmRun], seeds: int) -> list[str]:
    notes = []
    whole = sum(run.whole for run in runs)
    wanted = len(ARMS) * plan.seeds * len(plan.fractions)
    if whole < wanted:
        notes.append(
            f"the budget ended with {whole} of {wanted} networks trained to the end; the same "
            f"command with --out {folder} goes on"
        )
    if seeds == 1:
        notes.append("with one seed, intervals are over images alone")
    return notes
