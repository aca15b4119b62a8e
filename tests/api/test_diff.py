"""What differs between two runs, and whether the difference is real, by hand."""

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest

from headstart.api.diff import Change, RunDiff, compare, diff, flat
from headstart.artifacts.records import RunRecord, TestPrediction
from headstart.artifacts.run import write_result
from headstart.artifacts.run_start import write_start
from headstart.data.audit import Audit
from headstart.errors import RunError
from headstart.evaluation.metrics import compute_metrics
from headstart.recipes.parsing import parse_recipe
from headstart.recipes.recipe import Recipe

Command = Callable[..., CompletedProcess[str]]


def predictions(right: str, label: str = "ant", start: int = 0) -> list[TestPrediction]:
    """One image a character, right where it is 1."""
    return [
        TestPrediction(
            path=f"ants/{number}.png",
            label=label,
            prediction=label if each == "1" else "bee",
            probability=0.8,
            probability_of_label=0.8,
            group=number,
        )
        for number, each in enumerate(right, start)
    ]


def in_groups(found: list[TestPrediction], size: int) -> list[TestPrediction]:
    """The same predictions with `size` images in a group; 0 as an older run wrote them."""
    return [
        each.model_copy(update={"group": number // size if size else ""})
        for number, each in enumerate(found)
    ]


def test_a_real_difference_by_hand() -> None:
    # B alone is right on 6 images, A on none: p = 2 · (1/2)^6.
    compared, warnings = compare(predictions("1" * 8 + "0" * 12), predictions("1" * 14 + "0" * 6))
    assert not warnings
    assert (compared.shared, compared.right_a, compared.right_b) == (20, 8, 14)
    assert (compared.only_a, compared.only_b) == (0, 6)
    assert compared.p_value == pytest.approx(0.03125)
    assert compared.difference == pytest.approx(0.3)
    low, high = compared.interval
    assert 0 < low < 0.3 < high < 0.6
    assert compared.verdict == (
        "B classifies 30.0 percentage points more of 20 shared test images correctly (95% "
        f"interval {100 * low:.1f} to {100 * high:.1f}; p = 0.03)."
    )


def test_images_of_a_group_count_together() -> None:
    a, b = predictions("1" * 40 + "0" * 40), predictions("1" * 52 + "0" * 28)
    alone, _ = compare(a, b)
    alike, warnings = compare(in_groups(a, 4), in_groups(b, 4))
    assert not warnings
    assert (alone.groups, alike.groups) == (80, 20)
    # Three groups of four on which B alone is right: p = 2 · (1/2)^3.
    assert alike.p_value == pytest.approx(0.25)
    assert alone.p_value == pytest.approx(2 / 2**12)
    assert alike.difference == alone.difference == pytest.approx(0.15)
    assert alike.interval[0] < 0 < alone.interval[0]
    assert "No significant difference: B" in alike.verdict
    assert ", from 20 independent groups; p = 0.25)." in alike.verdict
    few, _ = compare(in_groups(a, 20), in_groups(b, 20))
    assert ", a rough guide from only 4 independent groups; p = 1.00)." in few.verdict


def test_groups_of_either_run_hold_images_together() -> None:
    a, b = predictions("1" * 40 + "0" * 40), predictions("1" * 52 + "0" * 28)
    known, _ = compare(in_groups(a, 4), in_groups(b, 4))
    for one, other in ((in_groups(a, 4), b), (in_groups(a, 0), in_groups(b, 4))):
        found, warnings = compare(one, other)
        assert found == known
        assert not warnings
    found, warnings = compare(in_groups(a, 0), in_groups(b, 0))
    assert found.groups is None
    assert found.interval == compare(a, b)[0].interval
    assert any("Neither run recorded which test images belong together" in w for w in warnings)


def test_the_better_one_is_named_with_its_own_interval() -> None:
    forward, _ = compare(predictions("0" * 10 + "1"), predictions("1" * 11))
    backward, _ = compare(predictions("1" * 11), predictions("0" * 10 + "1"))
    assert backward.p_value == pytest.approx(2 / 2**10)
    assert forward.verdict == backward.verdict.replace("A classifies", "B classifies")
    assert backward.interval == pytest.approx([-end for end in reversed(forward.interval)], abs=0.1)


def test_no_difference_by_hand() -> None:
    # Each alone is right on one image: p = 1.
    compared, _ = compare(predictions("1" * 8 + "10"), predictions("1" * 8 + "01"))
    assert compared.p_value == 1
    assert compared.verdict.startswith(
        "No significant difference: both classify equally many of 10 shared test images correctly"
    )
    # They agree on all: Wilson's upper end for 0 of 20 is z² / (n + z²).
    compared, _ = compare(predictions("1" * 20), predictions("1" * 20))
    assert compared.interval == pytest.approx((-0.16113, 0.16113), abs=1e-4)


def test_only_shared_images_with_one_label_count() -> None:
    a = predictions("11110000")
    b = [*predictions("1111", start=4), *predictions("11", label="wasp", start=0)]
    compared, warnings = compare(a, b)
    assert (compared.shared, compared.right_a, compared.right_b) == (4, 0, 4)
    partly, relabelled = warnings
    assert "The runs share only 6 test images, of 8 in A and 6 in B" in partly
    assert (
        "leaves out 2 test images with another label in B than in A, such as ants/0.png"
        in relabelled
    )


def test_nothing_to_compare_is_refused() -> None:
    with pytest.raises(RunError, match=r"one and other share no test image.*--split"):
        compare(predictions("11"), predictions("11", start=5), ("one", "other"))


def test_recipes_by_path() -> None:
    assert flat({"a": 1, "b": {"c": 2, "d": {"e": 3}}, "f": [4]}) == {
        "a": 1, "b.c": 2, "b.d.e": 3, "f": [4],
    }  # fmt: skip


def make_run(folder: Path, recipe: Recipe, right: str, **changes: Any) -> Path:
    record = RunRecord.model_validate(
        {
            "status": "done", "command": "headstart fit", "started_at": "2025-03-04T05:06:07+00:00",
            "data_name": "insects", "data_root": "/insects", "n_train": 30, "n_val": 6,
            "n_test": len(right), "classes": ("ant", "bee"), "backbone": "tf_efficientnet_lite0",
            "backbone_source": "a package", **changes,
        }
    )  # fmt: skip
    folder.mkdir()
    audit = Audit(n_images=9, n_usable=9, classes=dict.fromkeys(record.classes, 9), dropped={},
                  findings=())  # fmt: skip
    write_start(folder, record, recipe, audit)
    labels = np.zeros(len(right), np.int64)
    logits = np.array([[3.0, 0.0] if each == "1" else [0.0, 3.0] for each in right])
    write_result(folder, compute_metrics(logits, labels, ("ant", "bee"), 1), predictions(right))
    rows = [f"ants/{number}.png,test" for number in range(len(right))]
    rows.append(f"bees/0.png,{'train' if record.budget_s is None else 'val'}")
    (folder / "split.csv").write_text("\n".join(["path,split", *rows]) + "\n")
    return folder


@pytest.fixture
def two_runs(tmp_path: Path) -> tuple[Path, Path]:
    other = parse_recipe({"optimizer": {"name": "adamw", "lr": 2e-3}, "epochs": 3})
    a = make_run(tmp_path / "a", Recipe(), "1" * 8 + "0" * 12)
    b = make_run(
        tmp_path / "b", other, "1" * 14 + "0" * 6, budget_s=60.0, backbone="resnet18",
        classes=("ant", "bee", "wasp"), data_root="/moved",
    )  # fmt: skip
    return a, b


def test_what_differs_is_told(two_runs: tuple[Path, Path]) -> None:
    found = diff(*two_runs)
    lr = Recipe().optimizer.lr
    assert set(found.recipe) == {
        Change(what="optimizer.lr", a=lr, b=2e-3), Change(what="epochs", a=0, b=3),
    }  # fmt: skip
    assert found.backbone == (Change(what="backbone", a="tf_efficientnet_lite0", b="resnet18"),)
    assert Change(what="budget in seconds", b=60.0) in found.budget
    data = {change.what: (change.a, change.b) for change in found.data}
    assert data["classes"] == (2, 3)
    assert data["classes that the other run lacks"] == ([], ["wasp"])
    assert data["images of class 'wasp'"] == (None, 9)
    assert "split: 1 of 21 images that both have" in data
    assert found.accuracy.p_value == pytest.approx(0.03125)
    assert "/moved" in found.warnings[0]


def test_a_run_against_itself(two_runs: tuple[Path, Path]) -> None:
    found = diff(two_runs[0], two_runs[0])
    assert not (found.recipe or found.data or found.backbone or found.budget or found.software)
    assert not found.warnings


def test_the_command(two_runs: tuple[Path, Path], tmp_path: Path, headstart: Command) -> None:
    table = headstart("diff", *two_runs)
    assert table.returncode == 0
    assert "optimizer.lr" in table.stdout
    assert "B classifies 30.0 percentage points more of 20 shared test images" in table.stdout
    assert "warning: " in table.stderr
    assert RunDiff.model_validate_json(headstart("diff", *two_runs, "--json").stdout) == diff(
        *two_runs
    )
    refused = headstart("diff", two_runs[0], tmp_path)
    assert refused.returncode == 2
    assert "not a finished run" in refused.stderr


def test_labels_that_all_differ_are_counted_in_words() -> None:
    with pytest.raises(RunError, match="label the only test image that they share differently"):
        compare(predictions("1"), predictions("1", label="wasp"))
