"""The runs of `search_vs_fixed.py`: arms, and cells of data, split and budget that they share."""

from dataclasses import dataclass

ARMS = {
    "searched": (),
    "fixed": ("--recipe", "default"),
    "random": ("--sampler", "random"),
    "earlier": (),
}
"""What each arm adds to the command; the last is the search of an earlier version."""


@dataclass(frozen=True)
class Cell:
    """What the arms share: a data folder below --data, the split's seed, the budget.

    With `each` above 0, so many training images are drawn of each class, and up to 300 others are
    the test; `classes` above 0 takes the first classes only.
    """

    data: str
    split_seed: int
    budget: str
    each: int = 0
    classes: int = 0

    def options(self, arm: str) -> list[str]:
        """The options of `headstart fit`."""
        common = ["--budget", self.budget, "--seed", "0", "--split-seed", str(self.split_seed)]
        return [*common, *ARMS[arm]]

    def command(self, arm: str) -> str:
        """The command as a reader would type it."""
        return " ".join(["headstart fit", self.data, *self.options(arm)])


CELLS = (
    *(Cell(data, seed, "3m") for data in ("hymenoptera", "flowers17") for seed in (11, 12, 13)),
    Cell("neu_steel", 11, "10m"),
    Cell("stanford_cars_crops", 11, "10m"),
)
"""Splits that were not looked at while the search was built; split seed 0 was."""

FEW = tuple(
    Cell(data, 41, budget, each=15, classes=60 if data == "stanford_cars_crops" else 0)
    for budget in ("3m", "10m")
    for data in (
        "clothing10", "flowers17", "sign_digits", "stanford_cars_crops", "magnetic_tile",
        "hymenoptera", "rice_leaf", "neu_steel",
    )
)  # fmt: skip
