"""The main job: from labelled images to a proven classifier in a run folder."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from headstart.api.further_images import record_of, with_further
from headstart.artifacts.files import write_text
from headstart.artifacts.fingerprint import Mark, combined, fingerprint, write_fingerprint
from headstart.artifacts.records import Request, RunRecord, machine, now, versions
from headstart.artifacts.run import check_unclaimed, claim_folder, locked
from headstart.artifacts.run_start import write_start
from headstart.data.audit import summary_rows
from headstart.data.cache_dir import default_cache_dir
from headstart.data.division import labels_of
from headstart.data.reading import range_notes
from headstart.data.sources import load_dataset, say_understood
from headstart.data.splits import save_split, split_notes
from headstart.errors import RecipeError
from headstart.export.tracking import check_log, log_run
from headstart.features.cache import evict
from headstart.inference.retest import retest
from headstart.inference.run import Run
from headstart.inference.sealed_test import Proof, prove
from headstart.methods.augmentation import NoAugmentation
from headstart.methods.averaging import NoAveraging
from headstart.methods.freezing import HeadOnly, LastBlocks
from headstart.progress import Shown, display, format_duration
from headstart.recipes.config import REQUEST, to_config
from headstart.recipes.keywords import lists_fields, with_keywords
from headstart.recipes.label_sets import for_label_sets
from headstart.recipes.options import NOTHING_TO_TRY, FitOptions
from headstart.recipes.parsing import load_recipe, with_settings
from headstart.recipes.recipe import FAMILIES, Recipe
from headstart.report.collect import keep_evidence
from headstart.report.model_card import write_model_card
from headstart.report.page import write_report
from headstart.search.search import search
from headstart.text import counted, percent
from headstart.training.budget import Clock
from headstart.training.earlier_run import EarlierRun, check_continues, notes_on, open_earlier
from headstart.training.experiment import CLOSING_S, Experiment, SplitChoice, prepare
from headstart.training.finetune import FittedClassifier, train_recipe
from headstart.training.pace import reserve
from headstart.training.reserve import proof_seconds
from headstart.training.run_context import Resources, RunContext, dated_folder
from headstart.training.unlabelled import with_unlabelled

MEASURED_ONCE = {"augmentations", "backbones", "frozen prefix", "heads"}
"""Stages before the plan of a search; a resumed search does not repeat them."""

NOTED_UNUSED = 0.2
"""Share of the budget that may be left at the end of a run without a note."""

NOTED_SLOWDOWN = 1.5
"""Slowdown of the machine during a run that is noted."""


@lists_fields(FitOptions)
def fit(
    source: Any,
    options: FitOptions | None = None,
    *,
    labels: Sequence[str | tuple[str, ...]] | None = None,
    progress: Shown = None,
    command: str = "",
    started: float | None = None,
    **keywords: Any,
) -> Run:
    """Trains a classifier, tests it once on sealed images, and writes a run folder.

    The run folder holds the bundle to ship, the report, the model card and the record of the run.

    Args:
        source: A folder, an archive, an export of an annotation tool, a manifest, `demo:solar`, a
            DataFrame or a list of paths.
        options: What to train, and for how long.
        labels: Class of each image, or a tuple of its labels, for a list of paths.
        progress: Progress display; by default one where there is a terminal or a notebook. False
            shows nothing.
        command: The command that repeats this run, for the record.
        started: Start of the process on `time.monotonic`; now by default.
        keywords: Fields of `FitOptions` instead of `options`, such as `budget="5m"`.

    Raises:
        InputError: If the data or the options cannot be used; nothing is written in that case.
        HeadstartError: If the machine fails.

    Example:
        >>> import headstart
        >>> run = headstart.fit("flowers", budget="5m")  # doctest: +SKIP
        >>> run.metrics.accuracy  # doctest: +SKIP
        0.983
        >>> run.predict(["rose.jpg"])[0].label  # doctest: +SKIP
        'rose'
    """
    progress = display(progress)
    options = asked = with_keywords(FitOptions, options, keywords)
    earlier = None if options.from_run is None else open_earlier(options.from_run)
    if earlier is not None:
        options = options.model_copy(update={"recipe": earlier.recipe})
    check_log(options.log)
    recipe = chosen_recipe(options)
    resources = Resources(
        Clock(started or time.monotonic(), options.budget_s),
        options.cache_dir or default_cache_dir(),
        options.workers,
        progress,
    )
    if options.out is not None:
        check_unclaimed(options.out)
    cache = resources.cache_dir
    dataset = load_dataset(source, options, labels=labels, cache_dir=cache, multilabel=True)
    say_understood(dataset, progress)
    if earlier is not None:
        check_continues(earlier, dataset, recipe)
    if dataset.multilabel:
        recipe = for_label_sets(recipe, options)
    elif options.precision is not None:
        raise RecipeError(
            "--precision chooses the threshold of each label, and these images have one label "
            "each. Leave it out."
        )
    split = SplitChoice(options.split, options.split_seed, earlier)
    experiment = prepare(dataset, recipe, split, resources)
    if earlier is not None:
        experiment = _of_earlier(experiment, earlier)
    further = with_further(experiment, options, resources, earlier)
    experiment = further.experiment
    request = None
    if options.searches:
        request = _request(options, recipe)
    record = RunRecord(
        command=command,
        started_at=now(),
        budget_s=options.budget_s,
        request=request,
        source=_named(source),
        reading=options.reading,
        task="multilabel" if dataset.multilabel else "single",
        precision=options.precision,
        split_seed=None if options.split else options.split_seed,
        **described(experiment),
    )
    run = RunContext(options.out or dated_folder(dataset.name), record, resources)
    continued = notes_on(earlier, dataset, experiment.pixels.facts) if earlier else ()
    for note in (*continued, *further.notes):
        run.note(note)
        run.say(f"note: {note}")
    claim_folder(run.folder)
    with locked(run.folder):
        # Before run.json: a run that was killed here is none, rather than one whose data changed.
        keys = [experiment.dataset.key(int(index)) for index in experiment.audited.kept]
        save_split(run.folder / "split.csv", experiment.split, keys)
        parts = dict(zip(keys, experiment.split.names(), strict=True))
        write_fingerprint(run.folder, marks(experiment), parts)
        further.write(run.folder)
        write_text(run.folder / REQUEST, to_config(asked))
        write_start(run.folder, record, recipe, experiment.audited.audit)
        done = train_and_prove(run, experiment, recipe, earlier)
    if options.log is not None:
        run.say(f"note: {log_run(options.log, run.folder)}")
    return done


def _request(options: FitOptions, recipe: Recipe) -> Request:
    """Returns what `resume` needs: the options, with absolute folders, and the recipe as data."""
    folders = {
        name: folder.resolve()
        for name in ("background", "unlabelled")
        if (folder := getattr(options, name)) is not None
    }
    kept = options.model_copy(update={"recipe": None, **folders})
    return Request(options=kept, recipe=recipe.model_dump(mode="json"))


def _of_earlier(experiment: Experiment, earlier: EarlierRun) -> Experiment:
    """Returns the experiment with what is known of the network of the run that it continues.

    Raises:
        RecipeError: If that network sees its images in another way.
    """
    network, spec = experiment.extractor.backbone, earlier.spec
    if network.preprocessing != spec.preprocessing:
        raise RecipeError(
            f"{earlier.folder} cannot be continued: its images were resized or normalized in "
            "another way than this version of headstart does it. Fit the images without --from."
        )
    source = f"{spec.backbone} as trained by the run {earlier.folder.resolve().name}"
    network = replace(network, licence=spec.licence, source=source)
    return replace(experiment, extractor=replace(experiment.extractor, backbone=network))


def chosen_recipe(options: FitOptions) -> Recipe:
    """Returns the recipe that `fit` trains, or that its search starts from.

    Raises:
        RecipeError: If a name or value is wrong, or a setting could have no effect.
    """
    asked = options.recipe or "default"
    chosen = load_recipe(asked) if isinstance(asked, str) else asked
    if options.strategy == "head":
        # The head is solved on evaluation views in closed form; nothing else is trained.
        simple = {"freezing": HeadOnly(), "augmentation": NoAugmentation()}
        chosen = chosen.model_copy(update={**simple, "averaging": NoAveraging()})
    elif options.strategy == "finetune" and chosen.freezing.head_alone:
        chosen = chosen.model_copy(update={"freezing": LastBlocks()})
    given = {
        "backbone.name": options.backbone, "backbone.weights": options.weights,
        "epochs": options.epochs, "seed": options.seed,
    }  # fmt: skip
    flags = [f"{key}={value}" for key, value in given.items() if value is not None]
    chosen = with_settings(chosen, [*flags, *options.settings])
    _refuse_idle_settings(chosen, options.settings)
    if options.trials is not None and chosen.closed_form:
        raise RecipeError(NOTHING_TO_TRY)
    return chosen


def train_and_prove(
    run: RunContext, experiment: Experiment, recipe: Recipe, earlier: EarlierRun | None = None
) -> Run:
    """Searches or trains one recipe, opens the sealed test, and writes the report.

    Args:
        run: The run.
        experiment: Its images and their split.
        recipe: Recipe to train, or to start the search from.
        earlier: A run that it continues.
    """
    _say_start(run, experiment)
    with run.recording_failure():
        searched = run.record.request is not None
        fitted = (
            search(run, experiment, recipe) if searched else train_recipe(run, experiment, recipe)
        )
        fitted = with_unlabelled(run, fitted)
        proof = _proved(run, fitted)
        if earlier is not None:
            run.record.continued = retest(earlier, fitted.experiment, run.folder, run.progress)
        run.save()
        write_report(run.folder)
        write_model_card(run.folder)
    # Last, because a run with this status must be complete.
    run.record.status = "done"
    run.save()
    evict(run.resources.cache_dir)
    return Run(run.folder, run.record, proof.metrics)


def _proved(run: RunContext, fitted: FittedClassifier) -> Proof:
    """Tests the classifier and stores the evidence; with a budget, says what was reserved."""
    if run.clock.budget_s is None:
        proof = prove(run, fitted)
        keep_evidence(run, fitted, proof)
        return proof
    work_s = proof_seconds(fitted.experiment, fitted.recipe)
    reserved = reserve(work_s, CLOSING_S, run.clock.pace)
    planned = f"{format_duration(reserved)} reserved for the bundle, the sealed test and the report"
    with run.step("proof", planned):
        began = time.monotonic()
        proof = prove(run, fitted)
        keep_evidence(run, fitted, proof)
        took = time.monotonic() - began
    for note in filter(None, [slower(run.clock), late(run.clock), unused(run, reserved, took)]):
        run.note(note)
        run.say(f"note: {note}")
    return proof


def slower(clock: Clock) -> str:
    """Returns a sentence on how much slower the machine became; empty if it did not."""
    if clock.pace.slowest < NOTED_SLOWDOWN:
        return ""
    return (
        f"The machine became up to {clock.pace.slowest:.1f} times slower during the run, and what "
        "was left was shortened to keep the budget."
    )


def late(clock: Clock) -> str:
    """Returns a sentence on a run that takes longer than its budget; empty if it does not."""
    left = clock.left()
    if left is None or left >= 0:
        return ""
    return (
        f"The run took {format_duration(-left)} longer than its budget, before the report: the "
        "machine was too slow for what remained after everything that can be given up."
    )


def unused(run: RunContext, reserved_s: float, took_s: float) -> str:
    """Returns why much of the budget is left at the end of a run; empty if little is left."""
    left, budget_s = run.clock.left(), run.clock.budget_s
    if left is None or budget_s is None or left <= NOTED_UNUSED * budget_s:
        return ""
    return (
        f"{percent(left / budget_s, 0)} of the budget of {format_duration(budget_s)} was not used. "
        f"Why training ended: {run.record.stop_reason}. For the bundle, the sealed test and the "
        f"report, {format_duration(reserved_s)} were reserved, and they took "
        f"{format_duration(took_s)}."
    )


def _named(source: Any) -> str:
    """Returns the path or name by which a data set is loaded again; "" for Python objects."""
    named = str(source) if isinstance(source, str | Path) else ""
    return str(Path(named).resolve()) if named and Path(named).exists() else named


def marks(experiment: Experiment) -> list[Mark]:
    """Returns the fingerprint of the data of an experiment."""
    return fingerprint(experiment.dataset, [each.sha256 for each in experiment.pixels.facts])


def described(experiment: Experiment) -> dict[str, Any]:
    """Returns the fields of `run.json` on the data, the split, the backbone and the machine."""
    dataset, split, network = experiment.dataset, experiment.split, experiment.extractor.backbone
    names = labels_of(dataset, experiment.audited)
    return {
        "data_name": dataset.name,
        "data_root": str(dataset.root.resolve()),
        "data_sha256": combined(marks(experiment)),
        "licence": dataset.licence,
        "n_train": len(split.train),
        "n_val": len(split.val),
        "n_test": len(split.test),
        "classes": experiment.extractor.classes,
        "backbone": network.name,
        "backbone_source": network.source,
        "notes": [
            *(each.sentence for each in dataset.passed_over),
            *dataset.notes,
            *filter(None, [experiment.left_out]),
            *split_notes(names, split),
            *range_notes(dataset.reading),
        ],
        "unlabelled": record_of(experiment.unlabelled),
        "versions": versions(),
        "machine": machine(),
    }


def _say_start(run: RunContext, experiment: Experiment) -> None:
    for what, severity, message in summary_rows(experiment.audited.audit):
        if severity == "warning":
            run.say(f"{severity}: {what}: {message}")
    record = run.record
    names = ("label", "labels") if experiment.multilabel else ("class", "classes")
    run.say(
        f"{record.data_name}: {counted(record.n_train, 'image')} for training, "
        f"{record.n_val:,} for validation, {record.n_test:,} sealed for the test; "
        f"{counted(len(record.classes), *names)}; {record.backbone}"
    )


def _refuse_idle_settings(recipe: Recipe, settings: Sequence[str]) -> None:
    """Checks that no setting is without effect because nothing is trained by gradient descent.

    Raises:
        RecipeError: If there are such settings; the message names all of them.
    """
    by_gradient = set(FAMILIES) - {"backbone", "head", "freezing"}
    families = {setting.partition("=")[0].partition(".")[0].strip() for setting in settings}
    idle = sorted(each for each in families & by_gradient if not getattr(recipe, each).absent)
    if recipe.closed_form and idle:
        raise RecipeError(
            f"{', '.join(idle)}: this has no effect, because the head is solved in closed form on "
            "frozen features. Set head.init=random or another freezing, or leave it out."
        )
