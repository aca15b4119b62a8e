"""The benefit of transfer: the same network from pretrained weights and from scratch."""

import hashlib
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from headstart.artifacts.files import write_text
from headstart.artifacts.records import machine, now, versions
from headstart.artifacts.run import check_unclaimed, claim_folder, locked
from headstart.certificate.arms import ArmImages, order_images, train_all
from headstart.certificate.forecast import forecast_labels
from headstart.certificate.labels import LabelForecast
from headstart.certificate.plan import Design, least_passes, make_plan
from headstart.certificate.record import (
    ASKED,
    CERTIFICATE,
    ArmRun,
    BenefitPlan,
    BenefitRequest,
    Certificate,
    read_arms,
    read_asked,
    read_certificate,
    read_plan,
    write_asked,
    write_certificate,
)
from headstart.certificate.verdicts import ARMS, judge_fraction
from headstart.data.cache_dir import default_cache_dir
from headstart.data.sources import load_dataset, say_understood
from headstart.errors import BudgetError, DataError, RecipeError, RunError
from headstart.evaluation.intervals import FEW_GROUPS
from headstart.features.cache import evict
from headstart.progress import Shown, display
from headstart.recipes.keywords import lists_fields, with_keywords
from headstart.recipes.options import BenefitOptions
from headstart.recipes.parsing import parse_recipe, with_settings
from headstart.recipes.recipe import Recipe
from headstart.report.certificate import write_certificate_page
from headstart.text import counted
from headstart.training.budget import Clock
from headstart.training.experiment import Experiment, SplitChoice, development_set, prepare
from headstart.training.run_context import Resources, dated_folder

ON_CPU, ON_GPU = ((0.25, 1.0), 2), ((0.1, 0.25, 0.5, 1.0), 3)
"""Default fractions of the data and default number of seeds."""

MOST_VIEWS = 4

FIXED = {
    "backbone", "backbone.weights", "backbone.name", "backbone.resolution", "freezing", "seed",
    "epochs", "optimizer.lr",
}  # fmt: skip


@lists_fields(BenefitOptions)
def benefit(
    source: Any,
    options: BenefitOptions | None = None,
    *,
    progress: Shown = None,
    command: str = "",
    started: float | None = None,
    **keywords: Any,
) -> tuple[Path, Certificate]:
    """Measures whether pretrained weights give a higher start, slope and asymptote.

    The three questions are those of Torrey & Shavlik (2010). Both arms share architecture, recipe,
    data, epochs and number of learning rates tried; the whole network is trained. The learning
    rate is constant: a curve levels off only when learning does. An exponential moving average of
    the weights reduces the noise. The split is that of `fit`, and its test images stay sealed.

    Args:
        source: A folder, an archive, an export of an annotation tool, a manifest, `demo:solar`, a
            DataFrame or a list of paths.
        options: What to compare, and for how long.
        progress: Progress display; by default one where there is a terminal or a notebook. False
            shows nothing.
        command: The command that repeats this, for the record.
        started: Start of the process on `time.monotonic`; now by default.
        keywords: Fields of `BenefitOptions` instead of `options`, such as `budget="5m"`.

    Returns:
        The folder, and the contents of its `certificate.json`.

    Raises:
        InputError: If the options or the data allow no comparison.

    Example:
        >>> import headstart
        >>> folder, certificate = headstart.benefit("flowers", budget="20m")  # doctest: +SKIP
        >>> [verdict.answer for verdict in certificate.verdicts]  # doctest: +SKIP
        ['yes', 'yes', 'cannot tell']
    """
    progress = display(progress)
    options = with_keywords(BenefitOptions, options, keywords)
    resources = Resources(
        Clock(started or time.monotonic(), options.budget_s),
        options.cache_dir or default_cache_dir(),
        options.workers,
        progress,
    )
    design = _design(options)
    recipe = _recipe(options.backbone, options.resolution, options.settings)
    folder = options.out
    continued = folder is not None and _begun(folder)
    if folder is not None and not continued:
        check_unclaimed(folder)
    dataset = load_dataset(source, options, cache_dir=resources.cache_dir, multilabel=True)
    if dataset.multilabel:
        raise DataError(
            f"{dataset.notes[0]} benefit needs one label an image: it counts the images of the "
            "right class after every epoch. To see what pretrained weights bring here, run "
            "`headstart fit` twice with the same --split-seed, once with --set "
            "backbone.weights=random, and compare both runs with `headstart diff`."
        )
    say_understood(dataset, progress)
    seed = options.split_seed
    sizes = list(Counter(item.label for item in dataset.items).values())
    passes = 0.0 if continued else least_passes(sizes, design.fractions)
    experiment = prepare(dataset, recipe, SplitChoice(options.split, seed), resources, passes)
    if folder is None:
        folder = dated_folder(f"{dataset.name}-benefit")
    if not continued:
        claim_folder(folder)
    with locked(folder):
        images = order_images(experiment.extractor, seed)
        asked = BenefitRequest(
            pixels=experiment.pixels.key, rows=_digest(images), split_seed=seed,
            recipe=recipe.model_dump(mode="json"),
        )  # fmt: skip
        if continued:
            _check_same(folder, asked)
        else:
            write_asked(folder, asked)
        write_text(folder / "audit.json", experiment.audited.audit.model_dump_json(indent=1) + "\n")
        labels = forecast_labels(folder, experiment, seed, resources)
        plan = read_plan(folder)
        if plan is None:
            plan = make_plan(folder, experiment, recipe, images, design, seed, resources)
        _check_design(folder, plan, options.fractions and design.fractions, options.epochs)
        train_all(folder, experiment.extractor, plan, images, resources)
        certificate = _certify(folder, experiment, plan, images, labels, resources.clock, command)
        write_certificate(folder, certificate)
        write_certificate_page(folder, certificate)
        evict(resources.cache_dir)
    return folder, certificate


def _design(options: BenefitOptions) -> Design:
    default_fractions, default_seeds = ON_GPU if torch.cuda.is_available() else ON_CPU
    shares = tuple(sorted(set(options.fractions or default_fractions)))
    return Design(shares, options.seeds or default_seeds, options.epochs)


def _recipe(backbone: str | None, resolution: int, settings: Sequence[str]) -> Recipe:
    names = {setting.partition("=")[0].strip() for setting in settings}
    fixed = sorted(n for n in names if n in FIXED or n.partition(".")[0] in {"freezing", "epochs"})
    if fixed:
        raise RecipeError(
            f"{', '.join(fixed)} cannot be changed with --set here: both arms train the whole "
            "network, differ only in their initial weights, and try the same learning rates. Use "
            "--backbone, --resolution, --epochs or --seeds."
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
    if chosen.closed_form or chosen.averaging.chooses_by_validation:
        raise RecipeError(
            "Both arms are trained by gradient descent to the last epoch. Choose another head or "
            "averaging: closed-form heads and soups cannot be compared here."
        )
    return chosen


def _begun(folder: Path) -> bool:
    """Returns whether a folder holds an unfinished certificate, not a run of `fit`."""
    begun = (folder / ASKED).exists() or (folder / "audit.json").exists()
    return begun and not (folder / "run.json").exists()


def _digest(images: ArmImages) -> str:
    """Returns a hash of the images for training and evaluation."""
    digest = hashlib.sha256()
    for rows in (images.train, images.held):
        digest.update(rows.tobytes())
    return digest.hexdigest()[:16]


def _check_design(
    folder: Path, plan: BenefitPlan, fractions: Sequence[float] | None, epochs: int | None
) -> None:
    """Checks that fractions and epochs, where given, are those of the plan.

    Raises:
        RunError: If they differ; the message names those of the plan.
    """
    if (fractions and tuple(fractions) != plan.fractions) or epochs not in {None, plan.epochs}:
        shown = ",".join(f"{100 * share:g}" for share in plan.fractions)
        raise RunError(
            f"{folder} was begun with --fractions {shown} and {counted(plan.epochs, 'epoch')}. "
            "Choose another folder with --out, or leave out both options to continue."
        )


def _check_same(folder: Path, asked: BenefitRequest) -> None:
    """Checks that a continued certificate has the same request as before.

    Raises:
        RunError: If they differ; the message says in what.
    """
    begun = read_asked(folder)
    if begun is None:
        raise RunError(
            f"{folder} was begun by an older version of headstart. Choose another folder with "
            "--out."
        )
    for what, same in (
        ("recipe", begun.recipe == asked.recipe),
        ("images", begun.pixels == asked.pixels),
        ("split", (begun.split_seed, begun.rows) == (asked.split_seed, asked.rows)),
    ):
        if not same:
            raise RunError(
                f"{folder} was begun with another {what}. Choose another folder with --out, or "
                "repeat the same command to continue."
            )


def _certify(
    folder: Path,
    experiment: Experiment,
    plan: BenefitPlan,
    images: ArmImages,
    labels: LabelForecast | None,
    clock: Clock,
    command: str,
) -> Certificate:
    """Computes the answers from the journal.

    Raises:
        BudgetError: If the budget ended before both arms of one pair were trained.
    """
    runs = [run for run in read_arms(folder) if run.purpose == "curve"]
    chance = float(np.bincount(images.held_labels).max() / len(images.held_labels))
    everything = development_set(experiment)
    place = {row: number for number, row in enumerate(everything.rows.tolist())}
    groups = everything.groups[[place[row] for row in images.held.tolist()]]
    results = []
    for fraction in plan.fractions:
        found = judge_fraction([r for r in runs if r.fraction == fraction], chance, groups)
        if found is not None:
            results.append(found)
    if not results:
        raise BudgetError(
            f"The budget ended before two networks could be compared. Repeat the command with "
            f"--out {folder} to continue."
        )
    network = experiment.extractor.backbone
    earlier = read_certificate(folder) if (folder / CERTIFICATE).exists() else None
    return Certificate(
        name=experiment.dataset.name,
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
        notes=(*plan.notes, *_notes(folder, plan, runs, results[-1].seeds), *_grouped(groups)),
        versions=versions(),
        machine=machine(),
    )


def _notes(folder: Path, plan: BenefitPlan, runs: Sequence[ArmRun], seeds: int) -> list[str]:
    notes = []
    whole = sum(run.whole for run in runs)
    wanted = len(ARMS) * plan.seeds * len(plan.fractions)
    if whole < wanted:
        notes.append(
            f"The budget ended with {whole} of {counted(wanted, 'network')} fully trained. Repeat "
            f"the command with --out {folder} to continue."
        )
    if seeds == 1:
        notes.append("With one seed, intervals cover the variance over images only.")
    return notes


def _grouped(groups: NDArray[np.int64]) -> list[str]:
    """Returns a note on held-out images that belong together; none if all are independent."""
    independent = len(np.unique(groups))
    if independent == len(groups):
        return []
    few = ", too few for more than a rough guide" if independent < FEW_GROUPS else ""
    return [
        f"The {counted(len(groups), 'held-out image')} are "
        f"{counted(independent, 'independent group')}{few}. Intervals count the images of a group "
        "together."
    ]
