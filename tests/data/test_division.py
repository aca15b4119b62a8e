"""`check` refuses what `fit` refuses: a split that nothing can be trained with."""

from collections.abc import Callable
from pathlib import Path

import pytest

from headstart import check, fit
from headstart.errors import DataError

ROWS = [(f"{name}/{number:03}.png", name) for name in ("rings", "stripes") for number in range(8)]


def partial(path: str, label: str) -> str:
    return "train" if path != "rings/003.png" else ""


def one_alone(path: str, label: str) -> str:
    return "val" if path == "rings/003.png" else "train" if path.endswith("1.png") else ""


def divided(path: str, label: str) -> str:
    return "train" if path < f"{label}/004" else "test"


def whole(path: str, label: str) -> str:
    return "test" if path.endswith("7.png") else "train"


@pytest.mark.parametrize(
    ("split", "group", "said"),
    [
        (partial, "", "1 of 16 images have no split although others have one"),
        (one_alone, "", "13 of 16 images have no split although others have one"),
        (divided, "patient", "has no training images"),
        (whole, "", ""),
    ],
)
def test_check_refuses_what_fit_refuses(
    split: Callable[[str, str], str], group: str, said: str, two_classes: Path, tmp_path: Path
) -> None:
    table = two_classes / "labels.csv"
    rows = [("path", "label", "split", "group")]
    rows += [(*row, split(*row), group or row[0]) for row in ROWS]
    table.write_text("".join(",".join(row) + "\n" for row in rows))
    problem = check(table).problem
    assert said in problem and bool(problem) == bool(said)
    if said:
        with pytest.raises(DataError) as refused:
            fit(table, strategy="head", epochs=0, out=tmp_path / "run")
        assert str(refused.value) == problem


def test_too_few_images_to_validate_on(two_classes: Path) -> None:
    for path in [*two_classes.glob("*/00[3-7].png")]:
        path.unlink()
    assert "too few images to validate on" in check(two_classes).problem
