"""What to do next, from figures that are known."""

from typing import Any

import numpy as np
import pytest

from headstart.artifacts.endings import ONLY_HEADS, TRIALS_USED_UP
from headstart.artifacts.journal import Trial
from headstart.artifacts.records import PlanStep, RunRecord
from headstart.evaluation.metrics import Metrics, compute_metrics
from headstart.recipes.recipe import Recipe
from headstart.report.advice import budget, check_labels, collect, confused, more_tests, what_next
from headstart.search.stopping import NOT_PAYING


def record(**changes: Any) -> RunRecord:
    known: dict[str, Any] = {
        "command": "", "started_at": "", "data_name": "photos", "data_root": "photos",
        "n_train": 30, "n_val": 6, "n_test": 4, "classes": ("a", "b"), "backbone": "b0",
        "backbone_source": "a local file", "plan": [PlanStep(stage="heads", planned="10 heads")],
    }  # fmt: skip
    return RunRecord(**(known | changes))


def suspect(label: str, kind: str) -> dict[str, str]:
    return {"path": "a.png", "label": label, "suggested": "", "kind": kind, "score": "1", "why": ""}


def measured(*classes: tuple[int, int]) -> Metrics:
    """Metrics of classes given as (images, right ones); the others go to the next class."""
    labels = [place for place, (n, _) in enumerate(classes) for _ in range(n)]
    answers = [
        place if number < right else (place + 1) % len(classes)
        for place, (n, right) in enumerate(classes)
        for number in range(n)
    ]
    logits = 3.0 * np.eye(len(classes))[answers]
    return compute_metrics(logits, labels, [f"c{place}" for place in range(len(classes))], 1.0)


def test_suspects_are_counted_by_reason_and_class() -> None:
    assert check_labels([]) is None
    rows = [suspect("ant", "label"), suspect("ant", "label"), suspect("bee", "outlier")]
    advice = check_labels(rows)
    assert advice is not None
    assert advice.title == "Look at the labels of 3 images"
    assert "2 have doubtful labels and 1 is far from its class" in advice.why
    assert "Most of them are labelled “ant” (2)" in advice.why
    assert advice.section == "suspects"


def test_classes_of_which_least_is_known_are_collected() -> None:
    # 20 of 20: Wilson from 83.9%. 12 of 20: from 38.7%, a low recall. 3 of 3: from 43.8%, few.
    metrics = measured((20, 20), (20, 12), (20, 20), (3, 3), (20, 20))
    advice = collect(metrics.classes)
    assert advice is not None
    assert advice.title == "Collect more images of c1 and c3"
    assert "c1 60% of 20 images (39% to 78%) and c3 100% of 3 images (44% to 100%)" in advice.why


def test_no_class_is_named_where_all_are_alike() -> None:
    assert collect(measured((20, 19), (20, 19), (20, 19)).classes) is None


def test_the_most_frequent_confusion_is_named_if_it_is_no_single_image() -> None:
    assert confused(measured((20, 19), (20, 20))) is None
    advice = confused(measured((20, 17), (20, 19)))
    assert advice is not None
    assert advice.title == "Compare c0 with c1"
    assert "3 of 20 images of c0 were taken for c1, which is 3 of 4 mistakes" in advice.why


def trial(number: int, right: list[bool]) -> Trial:
    bits = "".join("1" if each else "0" for each in right)
    return Trial(
        rung=0, number=number, state="done", recipe=Recipe().model_dump(mode="json"), epochs=3,
        val_loss=0.5 + number / 100, val_right=sum(right), val_images=len(right), val_bits=bits,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "title"),
    [
        ({"stop_reason": ONLY_HEADS}, "Allow more than 3 min 00 s"),
        ({"stop_reason": f"x; {TRIALS_USED_UP}"}, "Allow more than 3 min 00 s"),
        ({"stop_reason": NOT_PAYING}, "Keep the budget as it is"),
        (
            {"stop_reason": "all planned trials were run"},
            "A budget above 3 min 00 s may help a little",
        ),
        ({"stop_reason": ONLY_HEADS, "budget_s": None}, None),
        ({"stop_reason": NOT_PAYING, "budget_s": None}, "More trials would hardly help"),
    ],
)
def test_whether_more_time_helps_follows_from_why_the_run_ended(
    changes: dict[str, Any], title: str | None
) -> None:
    known = {"budget_s": 180.0, "source": "my photos", **changes}
    advice = budget(record(**known), [])
    assert (advice.title if advice else None) == title
    if advice is not None:
        more = "headstart fit 'my photos' --budget 6m"
        assert advice.command == (more if "3 min" in advice.title else "")


def test_a_run_of_one_recipe_is_followed_by_a_search() -> None:
    made = record(plan=[], budget_s=90.0, source="photos", stop_reason="the head is solved")
    advice = budget(made, [])
    assert advice is not None
    assert advice.title == "Search for a better recipe"
    assert "The head is solved." in advice.why
    assert advice.command == "headstart fit photos --budget 1.5m"


def test_trials_that_are_all_alike_make_more_of_them_useless() -> None:
    made = record(budget_s=180.0, stop_reason=TRIALS_USED_UP, epochs=3)
    random = np.random.default_rng(0)
    # Ten trials that differ by one image of 400: more would gain less than the noise.
    tried = []
    for number in range(10):
        right = list(random.random(400) < 0.8)
        missing = 320 + number % 2 - sum(right)
        places = [row for row, each in enumerate(right) if each is (missing < 0)]
        for row in places[: abs(missing)]:
            right[row] = missing > 0
        tried.append(trial(number, right))
    advice = budget(made, tried)
    assert advice is not None
    assert advice.title == "Keep the budget as it is"
    assert "10 more trials would gain about" in advice.why
    assert not advice.command


def test_a_wide_interval_asks_for_more_test_images() -> None:
    assert more_tests(measured((400, 390), (400, 390))) is None
    advice = more_tests(measured((10, 9), (10, 9)))
    assert advice is not None
    assert "20 test images leave an interval of 28 points, from 70% to 98%" in advice.why


def test_the_most_important_comes_first() -> None:
    metrics = measured((20, 20), (20, 12), (20, 20))
    made = record(budget_s=60.0, stop_reason=ONLY_HEADS)
    advice = what_next(made, metrics, [suspect("c0", "label")])
    assert [each.section for each in advice] == [
        "suspects", "classes", "confusion", "done", "figures"
    ]  # fmt: skip
    assert all(each.why.endswith(".") for each in advice)
