"""The ablation of a recipe: from the naive recipe to the chosen one, and without each method.

All rows are trained from the pretrained backbone for the same number of epochs and evaluated on the
same held-out images, which allows paired comparisons.
"""

import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from headstart.ablation.measure import (
    check_two_fit,
    is_measured,
    least_passes,
    make_bench,
    measure_rows,
)
from headstart.ablation.record import MEASURED, Ledger, write_ledger
from headstart.ablation.steps import LedgerStep, endpoints, ladder, ledger_rows, left_out
from headstart.artifacts.records import RunRecord
from headstart.artifacts.run import check_unclaimed, claim_folder, locked, read_record
from headstart.artifacts.run_start import asked_recipe
from headstart.artifacts.unchanged import ANOTHER_RUN, check_unchanged
from headstart.backbones.places import FEATURES
from headstart.data.cache_dir import default_cache_dir
from headstart.data.sources import load_dataset, say_understood
from headstart.errors import InputError, RunError
from headstart.progress import Shown, display
from headstart.recipes.keywords import lists_fields, with_keywords
from headstart.recipes.label_sets import as_set_recipe
from headstart.recipes.options import CompareOptions
from headstart.recipes.parsing import NAMED, load_recipe, parse_recipe, with_settings
from headstart.recipes.recipe import Recipe
from headstart.report.page import write_report
from headstart.training.boundary import at_boundary
from headstart.training.budget import Clock
from headstart.training.experiment import SplitChoice, prepare_again
from headstart.training.run_context import Resources

_OF_A_HEAD = ("head", "seed", "views", "batch_size", "test_time_flip")
"""Fields of a recipe that still have an effect if only the head was kept."""


@lists_fields(CompareOptions)
def compare(
    source: Any = None,
    options: CompareOptions | None = None,
    *,
    progress: Shown = None,
    started: float | None = None,
    **keywords: Any,
) -> Ledger:
    """Measures the effect of each method of a recipe, added one at a time and left out.

    With a folder, every row is journalled, and a second call trains only the rows that are missing
    or failed. The test images stay sealed.

    Args:
        source: The images, as for `fit`; by default those of the run.
        options: What to compare, and for how long.
        progress: Progress display; by default one where there is a terminal or a notebook. False
            shows nothing.
        started: Start of the process on `time.monotonic`; now by default.
        keywords: Fields of `CompareOptions` instead of `options`, such as `epochs=6`.

    Raises:
        InputError: If the options contradict each other, or there is nothing to compare.
        RunError: If the run is not finished, or the folder is in use.
        BudgetError: If no two rows fit into the budget.

    Example:
        >>> import headstart
        >>> ledger = headstart.compare("flowers", epochs=6)  # doctest: +SKIP
        >>> {row.name: row.gain for row in ledger.rows}  # doctest: +SKIP
        {'naive': None, '+ optimizer': 0.021, 'without optimizer': 0.018}
    """
    progress = display(progress)
    options = with_keywords(CompareOptions, options, keywords)
    run, epochs, seeds = options.run, options.epochs, options.seeds
    reading = options.reading
    if source is None and run is None:
        raise InputError("Give a folder of images, or a finished run with --run.")
    resources = Resources(
        Clock(started or time.monotonic(), options.budget_s),
        options.cache_dir or default_cache_dir(),
        options.workers,
        progress,
    )
    split: Path | None = None
    record: RunRecord | None = None
    folder = run or options.out
    if run is not None:
        record = read_record(run)
        if record.status != "done":
            raise RunError(
                f"{run} is not finished ({record.status}). Give the folder of a finished run."
            )
        chosen = chosen_by(run, record)
        source, reading = source or record.source or record.data_root, record.reading
        split = run / "split.csv"
    else:
        chosen = _asked_for(options)
    asked, (chosen, steps) = chosen, _rows(chosen, epochs)  # before anything is read
    begun = folder is not None and MEASURED.path(folder).exists()
    if folder is not None and run is None and not begun:
        check_unclaimed(folder)
    assert source is not None
    dataset = load_dataset(source, reading, cache_dir=resources.cache_dir, multilabel=True)
    say_understood(dataset, progress)
    if run is not None and record is not None:
        unknown = check_unchanged(run, record, dataset, ANOTHER_RUN, progress)
        if unknown:
            progress.say(f"note: {unknown}")
    if dataset.multilabel:
        chosen, steps = _rows(as_set_recipe(asked, options.recipe, options.settings), epochs)
    first = (asked_recipe(record) if record else None) or chosen
    passes = 0.0 if begun else least_passes(len(dataset.items), steps, epochs)
    experiment = prepare_again(
        dataset, first, chosen, SplitChoice(split, options.split_seed), resources, passes
    )
    bench = make_bench(experiment, chosen, epochs)
    if not begun:
        check_two_fit(bench, steps, resources.clock)
    if folder is not None and run is None and not begun:
        claim_folder(folder)
    with locked(folder) if folder is not None else nullcontext():
        trials, missing, held = measure_rows(bench, steps, seeds, folder, resources)
        ledger = Ledger(
            epochs=epochs,
            seeds=seeds,
            folds=bench.plan.folds,
            rows=tuple(ledger_rows(steps, trials, seeds, held)),
            left_out=tuple(missing),
            whole=is_measured(steps, trials, seeds),
            seconds=sum(trial.seconds for trial in trials),
        )
        if folder is not None:
            write_ledger(folder, ledger)
        if run is not None:
            write_report(run, progress=progress)
    return ledger


def _asked_for(options: CompareOptions) -> Recipe:
    asked = options.recipe or "default"
    recipe = load_recipe(asked) if isinstance(asked, str) else asked
    return with_settings(recipe, options.settings)


def _rows(chosen: Recipe, epochs: int) -> tuple[Recipe, list[LedgerStep]]:
    """Returns the chosen recipe as it is compared, and all rows."""
    if chosen.averaging.chooses_by_validation:
        raise InputError(
            "averaging = soup chooses its weights on the held-out images that compare evaluates "
            "on. Compare the recipe (--recipe) with another averaging (--set averaging=ema)."
        )
    naive, chosen = endpoints(chosen, epochs)
    steps = ladder(naive, chosen)
    if len(steps) == 1:
        raise InputError("The chosen recipe is the naive one: there is nothing to compare.")
    return chosen, [*steps, *left_out(naive, chosen)]


def chosen_by(folder: Path, record: RunRecord) -> Recipe:
    """Returns the recipe that a run ended with, at the boundary of the run.

    If the run kept only the head, the result is the recipe of that head.

    Args:
        folder: Run folder.
        record: Record of the run.
    """
    recipe = load_recipe(str(folder / "recipe.toml"))
    if record.boundary and not (record.head_alone and record.boundary == FEATURES):
        recipe = at_boundary(recipe, record.boundary)
    if record.head_alone and not recipe.freezing.head_alone:
        probe = NAMED["probe"]
        head_alone = probe.model_copy(update={name: getattr(recipe, name) for name in _OF_A_HEAD})
        backbone = {**recipe.backbone.model_dump(), "drop_path": 0.0}
        head_alone = parse_recipe({**head_alone.model_dump(), "backbone": backbone})
        return head_alone if head_alone.closed_form else recipe
    return recipe
