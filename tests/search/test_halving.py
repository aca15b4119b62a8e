"""The study: rungs, journal, failures, and the same result however often it is stopped."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from headstart.artifacts.journal import TRIALS, SearchPlan, Trial
from headstart.errors import DivergedError, HeadstartError, RunError
from headstart.evaluation.label_rules import FittedRules
from headstart.evaluation.trust import Calibration
from headstart.recipes.parsing import parse_recipe
from headstart.recipes.recipe import Recipe
from headstart.recipes.space import drawn_families
from headstart.search.executors.outcome import Outcome, attempt
from headstart.search.halving import (
    as_trial,
    plan_rungs,
    successive_halving,
)
from headstart.search.leaderboard import differences, leaderboard
from headstart.search.messages import all_failed, why_ended
from headstart.search.sampler import Asking
from headstart.search.score import Score
from headstart.search.stopping import enough, not_yet, pays, ranked
from headstart.search.trial import TrialJob

BASE = parse_recipe({"epochs": 8, "views": 2})


def score_of(recipe: Recipe, epochs: int) -> Score:
    """A made-up score that likes a learning rate of 3e-4, SGD less, and long schedules."""
    rate = abs(np.log(recipe.optimizer.lr / 3e-4))
    loss = 0.2 + 0.1 * rate + 0.3 * (recipe.optimizer.name == "sgd") + 0.5 / epochs
    return scored(loss)


def scored(loss: float, start_loss: float = 9.0, blend: float = 1.0) -> Score:
    right = round(100 * float(np.exp(-loss)))
    bits = "1" * right + "0" * (100 - right)
    return Score(loss, bits, blend, False, start_loss, "0" * 100)


class Made:
    """An executor of made-up trials."""

    def __init__(self, evaluate: Callable[[Recipe, int], Score], slots: int = 1) -> None:
        self.evaluate, self.slots = evaluate, slots
        self.jobs: list[TrialJob] = []

    def run(self, jobs: Sequence[TrialJob]) -> Iterator[tuple[int, Outcome[Score]]]:
        for position, job in reversed(list(enumerate(jobs))):
            self.jobs.append(job)

            def work(evaluate: Callable[[Recipe, int], Score], job: TrialJob) -> Score:
                return evaluate(parse_recipe(job.recipe), job.epochs)

            yield position, attempt(work, self.evaluate, job)


def plan_of(trials: int, epochs: int = 8) -> SearchPlan:
    return SearchPlan(rungs=tuple(plan_rungs(trials, epochs)), folds=1, epochs=epochs)


def run(
    folder: Path,
    trials: int = 12,
    evaluate: Callable[[Recipe, int], Score] = score_of,
    stop_after: int | None = None,
    executor: Made | None = None,
) -> Recipe | None:
    """Searches with a journal in `folder`; may be stopped dead after so many new trials."""

    class Killed(BaseException):
        pass

    written = 0

    def journal(trial: Trial) -> None:
        nonlocal written
        if written == stop_after:
            raise Killed
        TRIALS.append(folder, trial)
        written += 1

    try:
        best, _ = successive_halving(
            Asking(BASE), plan_of(trials), TRIALS.read(folder), executor or Made(evaluate), journal
        )
    except Killed:
        return None
    return parse_recipe(best[0].recipe)


def test_rungs_are_whole_schedules_of_growing_length() -> None:
    def pairs(trials: int, epochs: int) -> list[tuple[int, int]]:
        return [(rung.trials, rung.epochs) for rung in plan_rungs(trials, epochs)]

    assert pairs(12, 8) == [(12, 2), (4, 4)]
    assert pairs(2, 8) == [(2, 2), (0, 4)], "none goes on, unless it is in doubt"
    assert pairs(1, 1) == [(1, 1), (0, 1)]


def test_finds_a_better_recipe_and_journals_every_trial(tmp_path: Path) -> None:
    best = run(tmp_path)
    assert best is not None
    trials = TRIALS.read(tmp_path)
    assert [t.number for t in trials if t.rung == 0] == list(range(12))
    assert len([t for t in trials if t.rung == 1]) == 4
    assert score_of(best, 8).val_loss <= score_of(BASE, 8).val_loss
    finalists = [t for t in trials if t.rung == 1]
    assert best.model_dump(mode="json") == ranked(finalists)[0].recipe
    assert {t.epochs for t in finalists} == {4}


def test_trials_share_what_is_cached_and_the_first_is_the_base(tmp_path: Path) -> None:
    run(tmp_path, trials=20)
    recipes = [parse_recipe(trial.recipe) for trial in TRIALS.read(tmp_path)]
    assert recipes[0] == BASE
    for recipe in recipes:
        for name in ("backbone", "head", "activation", "augmentation", "views", "seed"):
            assert getattr(recipe, name) == getattr(BASE, name)
        assert recipe.freezing.boundary == "auto"  # type: ignore[union-attr]
        assert recipe.averaging.name != "soup", "the winner is trained without validation"
    assert len({str(t.recipe) for t in TRIALS.read(tmp_path) if t.rung == 0}) == 20


@pytest.mark.parametrize("stop_after", [0, 1, 5, 9, 13])
def test_a_stopped_search_goes_on_to_the_same_end(tmp_path: Path, stop_after: int) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    expected = run(whole)
    assert run(parts, stop_after=stop_after) is None
    assert len(TRIALS.read(parts)) == stop_after
    assert run(parts) == expected
    without_time = [
        [trial.model_dump(exclude={"seconds"}) for trial in TRIALS.read(folder)]
        for folder in (whole, parts)
    ]
    assert without_time[0] == without_time[1]


def test_a_torn_line_is_tried_again(tmp_path: Path) -> None:
    expected = run(tmp_path)
    path = TRIALS.path(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[:-40])
    assert len(TRIALS.read(tmp_path)) == 15
    assert run(tmp_path) == expected
    assert len(TRIALS.read(tmp_path)) == 16


def test_a_line_torn_within_a_character_is_tried_again(tmp_path: Path) -> None:
    trial = Trial(rung=0, number=0, state="failed", recipe={}, epochs=1, cause="größer")
    TRIALS.append(tmp_path, trial)
    TRIALS.append(tmp_path, trial)
    path = TRIALS.path(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex("ö".encode()) + 1])
    assert TRIALS.read(tmp_path) == [trial]


def test_a_broken_journal_is_named(tmp_path: Path) -> None:
    TRIALS.path(tmp_path).write_text("{}\n")
    with pytest.raises(RunError, match=r"trials\.jsonl is damaged"):
        TRIALS.read(tmp_path)


def test_failures_are_failures_with_their_cause_and_the_search_goes_on(tmp_path: Path) -> None:
    errors = iter(
        [HeadstartError("the loss is not finite."), RuntimeError("it broke"), ArithmeticError()]
    )

    def evaluate(recipe: Recipe, epochs: int) -> Score:
        error = next(errors, None)
        if error is not None:
            raise error
        return score_of(recipe, epochs)

    assert run(tmp_path, evaluate=evaluate) is not None
    failed = [trial for trial in TRIALS.read(tmp_path) if trial.state == "failed"]
    assert [t.cause for t in failed] == ["the loss is not finite.", "it broke", "ArithmeticError"]
    assert all(t.val_loss is None and "Traceback" in t.traceback for t in failed)
    rows = leaderboard(TRIALS.read(tmp_path), BASE)
    assert [row.failed for row in rows[-3:]] == [t.cause for t in failed]


@pytest.mark.parametrize(
    "error",
    [DivergedError("it always breaks."), RuntimeError("it always breaks."), MemoryError("always")],
)
def test_where_every_trial_fails_none_is_returned_and_the_plan_says_why(error: Exception) -> None:
    def evaluate(recipe: Recipe, epochs: int) -> Score:
        raise error

    trials: list[Trial] = []
    best, plan = successive_halving(
        Asking(BASE), plan_of(trials=3), [], Made(evaluate), trials.append
    )
    assert best == []
    assert [rung.trials for rung in plan.rungs] == [3, 0]
    assert plan.rungs[0].ended == "every trial failed"
    assert [trial.state for trial in trials] == ["failed"] * 3
    assert all_failed(trials).startswith("All trials failed (3), the first with: ")
    assert "always" in all_failed(trials)
    assert why_ended(plan, False, best, best) == "every trial failed"


def test_ctrl_c_is_no_failed_trial(tmp_path: Path) -> None:
    def evaluate(recipe: Recipe, epochs: int) -> Score:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, evaluate=evaluate)
    assert TRIALS.read(tmp_path) == []


def test_the_leaderboard_ranks_what_came_farthest_first(tmp_path: Path) -> None:
    run(tmp_path)
    rows = leaderboard(TRIALS.read(tmp_path), BASE)
    assert [row.rank for row in rows] == list(range(1, 13))
    assert [row.epochs for row in rows] == [4] * 4 + [2] * 8
    losses = [row.val_loss for row in rows[:4]]
    assert losses == sorted(losses)
    base = next(row for row in rows if row.trial == 1)
    assert base.changes == ""
    assert base.interval is not None
    assert base.interval[0] < (base.val_accuracy or 0) < base.interval[1]


def test_differences_are_named_by_path() -> None:
    other = parse_recipe({"optimizer": {"name": "adamw", "lr": 0.001}, "schedule": "cosine"})
    found = differences(other.model_dump(), Recipe().model_dump())
    assert found == {"optimizer.lr": 0.001, "schedule": "cosine"}


@pytest.mark.parametrize(
    "settings",
    [
        {"freezing": "full"},
        {"freezing": {"name": "last_blocks", "blocks": 3}},
        {"head": "nearest", "metric_loss": {"name": "triplet", "per_class": 3}},
        {"optimizer": {"name": "ranger", "sync_every": 7}},
        {"freezing": "head_only", "head": "mlp"},
    ],
)
def test_searches_around_any_base(tmp_path: Path, settings: dict[str, object]) -> None:
    base = parse_recipe({"epochs": 4, **settings})
    journal: list[Trial] = []
    successive_halving(Asking(base), plan_of(10, 4), [], Made(score_of), journal.append)
    for trial in journal:
        assert trial.state == "done", trial.cause
        assert parse_recipe(trial.recipe).head == base.head


def test_what_runs_side_by_side_is_journalled_as_it_ends_and_learnt_from_in_order(
    tmp_path: Path,
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    expected = run(whole, executor=Made(score_of, slots=4))
    assert [t.number for t in TRIALS.read(whole)[:5]] == [3, 2, 1, 0, 7], "they end in this order"
    assert run(parts, executor=Made(score_of, slots=4), stop_after=2) is None
    assert [t.number for t in TRIALS.read(parts)] == [3, 2], "what ended is not lost"
    assert run(parts, executor=Made(score_of, slots=4)) == expected
    for one, other in zip(*(sorted(TRIALS.read(folder), key=lambda t: (t.rung, t.number))
                            for folder in (whole, parts)), strict=True):  # fmt: skip
        assert one.recipe == other.recipe


def test_a_trial_without_memory_runs_again_with_smaller_batches(tmp_path: Path) -> None:
    def evaluate(recipe: Recipe, epochs: int) -> Score:
        if recipe.batch_size > 8:
            raise MemoryError
        return score_of(recipe, epochs)

    executor = Made(evaluate)
    best = run(tmp_path, trials=2, executor=executor)
    assert best is not None
    assert best.batch_size == 8
    assert [job.recipe["batch_size"] for job in executor.jobs[:3]] == [32, 16, 8]
    assert "ran out of memory" in TRIALS.read(tmp_path)[0].note


def test_memory_that_never_suffices_is_a_failure(tmp_path: Path) -> None:
    def evaluate(recipe: Recipe, epochs: int) -> Score:
        if recipe.optimizer.lr == BASE.optimizer.lr:
            raise MemoryError("no memory")
        return score_of(recipe, epochs)

    assert run(tmp_path, trials=3, evaluate=evaluate) is not None
    assert TRIALS.read(tmp_path)[0].state == "failed"


def test_a_batch_is_not_halved_below_what_its_methods_need(tmp_path: Path) -> None:
    base = parse_recipe(
        {"epochs": 8, "batch_size": 16, "metric_loss": {"name": "triplet", "per_class": 4}}
    )
    tried: list[int] = []

    def evaluate(recipe: Recipe, epochs: int) -> Score:
        tried.append(recipe.batch_size)
        raise MemoryError("no memory")

    trials: list[Trial] = []
    successive_halving(Asking(base), plan_of(trials=9), [], Made(evaluate), trials.append)
    assert tried[:2] == [16, 8], "a batch of 4 has no room for two classes of 4 images"
    assert {trial.cause for trial in trials} == {"no memory"}, "not that of the smaller batch"
    assert all(parse_recipe(trial.recipe) for trial in trials)


def test_it_stops_where_training_does_not_pay(tmp_path: Path) -> None:
    journal: list[Trial] = []
    made = Made(lambda recipe, epochs: scored(0.5, start_loss=0.4))
    best, plan = successive_halving(Asking(BASE), plan_of(12), [], made, journal.append)
    assert [rung.trials for rung in plan.rungs] == [12, 1], "no rule was given, so all of them ran"
    assert [trial.rung for trial in best] == [1], "the best was asked again, and alone"
    assert "no short schedule" in not_yet(journal[:3], plan_of(12))
    assert not_yet(journal[:2], plan_of(12)) == ""
    assert best[0].val_loss == 0.5
    # Schedules that were not short are not asked again.
    journal.clear()
    best, plan = successive_halving(Asking(BASE), plan_of(3, epochs=2), [], made, journal.append)
    assert [(rung.trials, rung.epochs) for rung in plan.rungs] == [(3, 1), (0, 1)]
    assert "does not help" in plan.rungs[1].ended


@pytest.mark.parametrize("trials", [1, 6])
def test_a_short_schedule_has_not_the_last_word(trials: int) -> None:
    """What does not pay for 2 epochs may pay for 4; the same however often it is stopped."""

    def evaluate(recipe: Recipe, epochs: int) -> Score:
        return scored(0.5 if epochs < 4 else 0.3, start_loss=0.4)

    journal: list[Trial] = []
    plan = plan_of(trials)
    best, ran = successive_halving(Asking(BASE), plan, [], Made(evaluate), journal.append)
    assert [(trial.rung, trial.val_loss) for trial in best] == [(1, 0.3)]
    assert [rung.trials for rung in ran.rungs] == [trials, 1]
    assert successive_halving(Asking(BASE), ran, journal, Made(evaluate), journal.append) == (
        best,
        ran,
    )
    again = journal[:trials]
    _, same = successive_halving(Asking(BASE), plan, again, Made(evaluate), again.append)
    assert same == ran
    assert len(again) == len(journal) == trials + 1

    def no_time(
        tried: Sequence[Trial], finished: Sequence[Trial], plan: SearchPlan, rung: int
    ) -> str:
        return f"no time for {plan.epochs} epochs" if rung else ""

    best, ran = successive_halving(
        Asking(BASE), plan, [], Made(evaluate), lambda trial: None, no_time
    )
    assert ran.rungs[1].ended == "no time for 4 epochs", "a schedule of that length would do"
    assert {trial.rung for trial in best} == {0}


def test_it_stops_where_the_gain_is_within_the_noise() -> None:
    def trial(number: int, right: int, shift: int = 0) -> Trial:
        bits = np.roll(np.array(["1"] * right + ["0"] * (100 - right)), shift)
        return Trial(
            rung=0, number=number, state="done", recipe={}, epochs=1, val_loss=1 - right / 100,
            val_right=right, val_images=100, val_bits="".join(bits),
        )  # fmt: skip

    alike = [trial(number, 90, shift=3 * number) for number in range(8)]
    assert "less than the noise" in enough(alike, 8)
    assert enough(alike[:7], 8) == "", "too few to know how they spread"
    # Each better by five images of the same, and the two best alike: what is to come may be better.
    apart = [trial(number, 55 + 5 * min(number, 6)) for number in range(8)]
    assert enough(apart, 60) == ""


def test_a_rung_that_ends_early_lets_fewer_go_on(tmp_path: Path) -> None:
    journal: list[Trial] = []

    def why_stop(
        tried: Sequence[Trial], finished: Sequence[Trial], plan: SearchPlan, rung: int
    ) -> str:
        return "the time is up" if rung == 0 and len(tried) == 4 else ""

    _, plan = successive_halving(
        Asking(BASE), plan_of(12), [], Made(score_of), journal.append, why_stop
    )
    assert [(rung.trials, rung.ended) for rung in plan.rungs] == [(4, "the time is up"), (2, "")]
    assert len(journal) == 6


def test_time_that_ends_before_a_rung_is_its_reason() -> None:
    journal: list[Trial] = []

    def why_stop(
        tried: Sequence[Trial], finished: Sequence[Trial], plan: SearchPlan, rung: int
    ) -> str:
        return "the time is up" if rung == 1 else ""

    best, plan = successive_halving(
        Asking(BASE), plan_of(6), [], Made(score_of), journal.append, why_stop
    )
    assert [(rung.trials, rung.ended) for rung in plan.rungs] == [(6, ""), (0, "the time is up")]
    assert [rung.planned for rung in plan.rungs] == [6, 2]
    assert best == ranked(journal)
    assert successive_halving(Asking(BASE), plan, journal, Made(score_of), journal.append) == (
        best,
        plan,
    )
    assert len(journal) == 6


@pytest.mark.parametrize("winners", [2, 3])
def test_no_more_go_on_than_ended_well(winners: int) -> None:
    journal: list[Trial] = []

    def evaluate(recipe: Recipe, epochs: int) -> Score:
        if len(journal) in {0, 2, 3}:
            raise HeadstartError("it breaks.")
        return score_of(recipe, epochs)

    asking = Asking(BASE, winners=winners)
    plan = SearchPlan(rungs=tuple(plan_rungs(4, 8, winners)), folds=1, epochs=8)
    best, plan = successive_halving(asking, plan, [], Made(evaluate), journal.append)
    assert [trial.number for trial in best] == [1]
    assert [rung.trials for rung in plan.rungs] == [4, 1]
    assert plan.rungs[0].ended == "only 1 trial did not fail"


def test_where_all_that_went_on_fail_the_rung_before_decides() -> None:
    journal: list[Trial] = []

    def evaluate(recipe: Recipe, epochs: int) -> Score:
        if epochs > 2:
            raise HeadstartError("longer schedules break.")
        return score_of(recipe, epochs)

    best, plan = successive_halving(Asking(BASE), plan_of(6), [], Made(evaluate), journal.append)
    assert [trial.rung for trial in best] == [0] * 6
    assert best == ranked([trial for trial in journal if trial.rung == 0])
    assert "failed" in plan.rungs[1].ended
    again = successive_halving(Asking(BASE), plan, journal, Made(evaluate), journal.append)
    assert again == (best, plan)
    assert len(journal) == 8


def test_trials_are_judged_by_the_schedule_that_was_planned_for_them() -> None:
    """After a run was killed, as before, though the winner's schedule was stretched since."""

    def evaluate(recipe: Recipe, epochs: int) -> Score:
        # Worse than the head, but within the noise, which a short schedule is forgiven.
        bits = "1" * 270 + "0" * 30
        return Score(0.41, bits, 1.0, False, 0.4, bits, gain_noise=0.02)

    journal: list[Trial] = []
    plan = SearchPlan(rungs=tuple(plan_rungs(3, 4)), folds=1, epochs=4)
    best, ran = successive_halving(Asking(BASE), plan, [], Made(evaluate), journal.append)
    assert len(journal) == 4, "1 of 4 epochs is short"
    stretched = ran.model_copy(update={"fitted_epochs": 2})
    assert stretched.whole_epochs == 2
    again = successive_halving(Asking(BASE), stretched, journal, Made(evaluate), journal.append)
    assert again == (best, stretched)


@pytest.mark.parametrize(
    ("saved", "epochs", "images", "paid"),
    [
        (0.03, 8, 9, True), (0.01, 8, 300, False), (-0.01, 8, 300, False), (-0.01, 2, 300, True),
        (-0.03, 2, 300, False), (-0.01, 2, 299, False), (0.01, 2, 299, True), (0.01, 2, 100, True),
        (-0.01, 2, 99, False), (0.01, 2, 99, False), (0.03, 2, 99, True), (0.01, 4, 100, True),
        (-0.01, 4, 300, False), (0.01, 4, 99, False), (0.01, 5, 300, False),
    ],
)  # fmt: skip
def test_training_pays_if_it_saves_more_than_the_noise(
    saved: float, epochs: int, images: int, paid: bool
) -> None:
    """By a noise of 0.02; 2 of 8 epochs are short, and up to 4 need not save so much.

    It may even cost that much where images are kept out of the final training, which needs 300
    validation images; on a few images the noise is so large that anything would pay.
    """
    made = {"recipe": BASE.model_dump(mode="json"), "epochs": epochs, "state": "done"}
    losses = {"start_loss": 0.4, "val_loss": 0.4 - saved, "val_images": images, "gain_noise": 0.02}
    trial = Trial.model_validate({"rung": 0, "number": 0, **made, **losses})
    assert pays(trial, plan_of(1)) is paid


@pytest.mark.parametrize(
    ("saved", "images", "among", "paid"),
    [
        (0.03, 99, 1, True), (0.03, 99, 3, False), (0.038, 99, 3, True), (0.03, 100, 3, True),
        (0.04, 99, 8, False), (0.05, 99, 8, True),
    ],
)  # fmt: skip
def test_on_a_few_images_the_best_of_several_trials_must_be_better_than_luck(
    saved: float, images: int, among: int, paid: bool
) -> None:
    """By a noise of 0.02: the largest of 3 normals is 0.85 on average, and that of 8 is 1.43."""
    made = {"recipe": BASE.model_dump(mode="json"), "epochs": 8, "state": "done"}
    losses = {"start_loss": 0.4, "val_loss": 0.4 - saved, "val_images": images, "gain_noise": 0.02}
    trial = Trial.model_validate({"rung": 0, "number": 0, **made, **losses})
    assert pays(trial, plan_of(1), among) is paid


def test_whatever_was_learned_beats_a_head_that_began_at_random() -> None:
    made = {"rung": 0, "number": 0, "epochs": 8, "state": "done", "val_images": 99}
    losses = {"start_loss": 0.4, "val_loss": 0.5, "gain_noise": 0.02}
    for init, paid in (("random", True), ("probe", False)):
        head = {"name": "linear", "init": init, "features": "last"}
        recipe = parse_recipe({**BASE.model_dump(), "head": head}).model_dump(mode="json")
        trial = Trial.model_validate({**made, **losses, "recipe": recipe})
        assert pays(trial, plan_of(1), 8) is paid


@pytest.mark.parametrize(
    ("folds", "images", "rules", "paid"),
    [
        (1, 300, False, True), (3, 300, False, False), (3, 1999, False, False),
        (3, 2000, False, True), (3, 100, True, True), (3, 99, True, False),
    ],
)  # fmt: skip
def test_a_short_schedule_may_be_worse_only_where_the_final_training_is_tested(
    folds: int, images: int, rules: bool, paid: bool
) -> None:
    """Cross-validated trials have all images as held-out ones; labels keep some out in any case."""
    trial = Trial(
        rung=0, number=0, recipe=BASE.model_dump(mode="json"), epochs=2, state="done",
        start_loss=0.4, val_loss=0.41, val_images=images, gain_noise=0.02,
    )  # fmt: skip
    of_labels = FittedRules(rules=(), images=images, log_loss=0.4, log_loss_uncalibrated=0.4)
    plan = plan_of(1).model_copy(
        update={"folds": folds, "head_rules": of_labels if rules else None}
    )
    assert pays(trial, plan) is paid


def test_a_kill_in_a_later_rung_does_not_open_an_earlier_one_again() -> None:
    def why_stop(
        tried: Sequence[Trial], finished: Sequence[Trial], plan: SearchPlan, rung: int
    ) -> str:
        return "the time is up" if rung == 0 and len(tried) == 4 else ""

    kept: list[SearchPlan] = []
    journal: list[Trial] = []
    asking, made = Asking(BASE), Made(score_of)
    best, plan = successive_halving(
        asking, plan_of(12), [], made, journal.append, why_stop, kept.append
    )
    assert [tuple(rung.trials for rung in each.rungs) for each in kept] == [(4, 2), (4, 2)]
    # Killed after one of two trials of the second rung, and without a clock since.
    again = journal[:5]
    resumed, same = successive_halving(asking, kept[0], again, made, again.append)
    assert [t.val_loss for t in resumed] == [t.val_loss for t in best]
    assert same == plan
    assert [(t.rung, t.number) for t in again] == [(t.rung, t.number) for t in journal]


def test_random_search_draws_from_the_first_trial_on() -> None:
    journal: list[Trial] = []
    asking = Asking(BASE, "random")
    successive_halving(asking, plan_of(10), [], Made(score_of), journal.append)
    assert parse_recipe(journal[0].recipe) != BASE
    again: list[Trial] = []
    successive_halving(asking, plan_of(10), [], Made(score_of), again.append)
    assert [t.recipe for t in again] == [t.recipe for t in journal]


def test_what_is_set_by_hand_is_not_drawn() -> None:
    families = drawn_families(["optimizer.lr=1e-3", "schedule=cosine", "views=3"])
    assert "optimizer" not in families
    assert "schedule" not in families
    assert "criterion" in families
    journal: list[Trial] = []
    successive_halving(
        Asking(BASE, "tpe", families), plan_of(14), [], Made(score_of), journal.append
    )
    recipes = [parse_recipe(trial.recipe) for trial in journal]
    assert all(recipe.optimizer == BASE.optimizer for recipe in recipes)
    assert len({recipe.criterion for recipe in recipes}) > 1


def test_an_ensemble_keeps_as_many_as_it_wants() -> None:
    asking = Asking(BASE, winners=3)
    plan = SearchPlan(rungs=tuple(plan_rungs(4, 8, winners=3)), folds=1, epochs=8)
    best, _ = successive_halving(asking, plan, [], Made(score_of), lambda trial: None)
    assert len(best) == 3
    assert [trial.val_loss for trial in best] == sorted(t.val_loss or 0.0 for t in best)


def test_a_rung_that_was_ended_is_gone_on_with_as_it_was(tmp_path: Path) -> None:
    """What a killed finish leaves: a plan that says why the first rung ended, and its trials."""

    def why_stop(
        tried: Sequence[Trial], finished: Sequence[Trial], plan: SearchPlan, rung: int
    ) -> str:
        return "the time is up" if rung == 0 and len(tried) == 4 else ""

    journal: list[Trial] = []
    asking = Asking(BASE)
    best, plan = successive_halving(
        asking, plan_of(12), [], Made(score_of), journal.append, why_stop
    )
    again: list[Trial] = []
    resumed, same = successive_halving(asking, plan, journal, Made(score_of), again.append)
    assert again == [], "nothing is tried again"
    assert resumed == best
    assert same == plan


def test_a_trial_holds_all_that_a_score_says() -> None:
    calibrations = [Calibration(temperature=each, sets=(0.1,)) for each in (1.5, 1.2, 2.0)]
    score = Score(0.4, "1101", 0.5, True, 0.6, "1001", *calibrations, gain_noise=0.02)
    job = TrialJob(3, 1, BASE.model_dump(mode="json"), 6)
    trial = as_trial(job, Outcome(score, seconds=2.0), "a note")
    assert (trial.number, trial.rung, trial.epochs, trial.seconds) == (3, 1, 6, 2.0)
    assert (trial.val_right, trial.val_images, trial.note) == (3, 4, "a note")
    assert (trial.recipe["blend"], trial.recipe["test_time_flip"]) == (0.5, True)
    for name, value in vars(score).items():
        if name not in {"blend", "flip", "cut", "retrained", "logits"}:
            assert getattr(trial, name) == value
    assert not trial.recipe["retrain_head"]
    retrained = as_trial(job, Outcome(replace(score, retrained=True)))
    assert retrained.recipe["retrain_head"]
    cut = as_trial(job, Outcome(replace(score, cut=2)), "a note")
    assert cut.note == "a note; the time budget cut it to 2 of 6 epochs"
