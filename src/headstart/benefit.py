"""What transfer brings: the same network and tuning from pretrained weights and from scratch."""

import hashlib
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from headstart.artifacts.certificate import (
    ASKED,
    CERTIFICATE,
    ArmRun,
    BenefitPlan,
    BenefitRequest,
    Certificate,
    LabelForecast,
    read_arms,
    read_asked,
    read_certificate,
    read_plan,
    write_asked,
    write_certificate,
)
from headstart.artifacts.files import write_text
from headstart.artifacts.run import check_unclaimed, claim_folder, locked, machine, now, versions
from headstart.benefit_forecast import forecast_labels
from headstart.benefit_planning import make_plan
from headstart.benefit_training import Images, order_images, train_all
from headstart.benefit_verdicts import (
    ARMS,
    judge_fraction,
)
from headstart.cache import default_cache_dir, evict
from headstart.data.sources import load_dataset
from headstart.errors import BudgetError, RecipeError, RunError
from headstart.preparing import Prepared, prepare
from headstart.progress import SILENT, Progress
from headstart.recipe import Recipe, parse_recipe, with_settings
from headstart.report.certificate import write_certificate_page
from headstart.search.clock import Clock, parse_budget

DEFAULT_BUDGET = "10m"
RESOLUTION = 112
ON_CPU, ON_GPU = ((0.25, 1.0), 2), ((0.1, 0.25, 0.5, 1.0), 3)
"""Fractions of the data and seeds, unless they are given."""
MOST_VIEWS = 4
FIXED = {
    "backbone", "backbone.weights", "backbone.name", "backbone.resolution", "freezing", "seed",
    "epochs", "optimizer.lr",
}  # fmt: skip


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
    split: str | Path | None = None,
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
        split: The split file of a run, whose test images are to be left alone.
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
    ready = prepare(dataset, recipe, clock, split, split_seed, cache, workers, progress)
    if folder is None:
        stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
        folder = Path("runs") / f"{dataset.name}-benefit-{stamp}"
    if not going_on:
        claim_folder(folder)
    with locked(folder):
        images = order_images(ready.material, split_seed)
        asked = BenefitRequest(
            pixels=ready.pixels.key, rows=_digest(images), split_seed=split_seed,
            recipe=recipe.model_dump(mode="json"),
        )  # fmt: skip
        if going_on:
            _check_same(folder, asked)
        else:
            write_asked(folder, asked)
        write_text(folder / "audit.json", ready.audited.audit.model_dump_json(indent=1) + "\n")
        labels = forecast_labels(folder, ready, clock, split_seed, progress)
        plan = read_plan(folder)
        if plan is None:
            plan = make_plan(
                folder, ready, recipe, images, shares, n_seeds, epochs, clock, split_seed, progress
            )
        _check_design(folder, plan, fractions and shares, epochs)
        train_all(folder, ready.material, plan, images, clock, progress)
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
            "weights that are what is compared and at rates that both try. Use --backbone, "
            "--resolution, --epochs or --seeds."
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
        raise RecipeError("both arms are trained by gradient to the last epoch; leave soups out.")
    return chosen


def _begun(folder: Path) -> bool:
    """Says whether a folder holds a certificate that was begun; that of a `fit` has a run.json."""
    begun = (folder / ASKED).exists() or (folder / "audit.json").exists()
    return begun and not (folder / "run.json").exists()


def _digest(images: Images) -> str:
    """Returns a hash of which images are trained on and judged by."""
    digest = hashlib.sha256()
    for rows in (images.train, images.held):
        digest.update(rows.tobytes())
    return digest.hexdigest()[:16]


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


def _check_same(folder: Path, asked: BenefitRequest) -> None:
    """Refuses to go on with something else than was begun.

    Raises:
        RunError: Saying what differs.
    """
    begun = read_asked(folder)
    if begun is None:
        raise RunError(
            f"{folder} was begun by an older version of headstart; name another folder with --out."
        )
    for what, same in (
        ("recipe", begun.recipe == asked.recipe),
        ("images", begun.pixels == asked.pixels),
        ("split", (begun.split_seed, begun.rows) == (asked.split_seed, asked.rows)),
    ):
        if not same:
            raise RunError(
                f"{folder} was begun with another {what}; name another folder with --out, or give "
                "the same command to go on."
            )


def _certify(
    folder: Path,
    ready: Prepared,
    plan: BenefitPlan,
    images: Images,
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
