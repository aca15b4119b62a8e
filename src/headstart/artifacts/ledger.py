"""The ablation ledger: what each method brought, and the journal of what was trained for it."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from headstart.artifacts.files import read_model, write_text
from headstart.artifacts.journal import Journal, Trial
from headstart.fingerprints import Acted
from headstart.inference_stats import Interval

LEDGER = "ledger.json"


class Measured(BaseModel):
    """One recipe that was trained once, on certain images.

    Attributes:
        data: Hash of the images and of how they were divided; another one is another measurement.
        trial: What came of it.
    """

    model_config = ConfigDict(frozen=True)

    data: str
    trial: Trial


MEASURED = Journal("ledger.jsonl", Measured)


class LedgerRow(BaseModel):
    """What one change brought, judged on the same held-out images with it and without it.

    Attributes:
        part: `ladder`: the row before with one change more. `left_out`: the chosen recipe with one
            change taken back. `trial`: a trial of the search against its first recipe.
        families: The recipe's fields that were changed; none for the row that others start from.
        change: From what to what.
        epochs: Length of the schedule.
        seeds: Trainings that the figures are the mean of.
        images: Held-out images.
        accuracy: Share of them that were right.
        loss: Log loss in nats at the best temperature.
        gain: Accuracy with the methods in question minus accuracy without them.
        interval: Of the gain, 95 %, over other images of this kind.
        loss_gain: Log loss without them minus log loss with them.
        p: Of McNemar's exact test; over several seeds, of the sign test on their means.
        p_holm: The same, corrected for the number of rows.
        seconds: Wall time of a training.
        acted: What the methods in question were seen to do.
        failed: Why there are no figures.
    """

    model_config = ConfigDict(frozen=True)

    part: Literal["ladder", "left_out", "trial"]
    families: tuple[str, ...]
    change: str
    epochs: int
    seeds: int = 0
    images: int = 0
    accuracy: float | None = None
    loss: float | None = None
    gain: float | None = None
    interval: Interval | None = None
    loss_gain: float | None = None
    p: float | None = None
    p_holm: float | None = None
    seconds: float = 0.0
    acted: tuple[Acted, ...] = ()
    failed: str = ""

    @property
    def name(self) -> str:
        """For people, what the row adds, leaves out or tries."""
        names = " + ".join(family.replace("_", " ") for family in self.families)
        if self.part == "ladder":
            return f"+ {names}" if names else "naive"
        return f"without {names}" if self.part == "left_out" else names


class Ledger(BaseModel):
    """The whole ledger.

    Attributes:
        epochs: Length of every schedule.
        seeds: Asked for.
        folds: 1 for rows that are judged on the validation images; more cross-validates them.
        rows: The ladder from the naive recipe to the chosen one, then those with one left out.
        left_out: What was not measured from any seed because the time was up.
        whole: Whether there are figures of the chosen recipe itself.
        seconds: Of all trainings.
    """

    model_config = ConfigDict(frozen=True)

    epochs: int
    seeds: int
    folds: int
    rows: tuple[LedgerRow, ...]
    left_out: tuple[str, ...] = ()
    whole: bool = True
    seconds: float = 0.0


def write_ledger(folder: Path, ledger: Ledger) -> None:
    """Writes the ledger."""
    write_text(folder / LEDGER, ledger.model_dump_json(indent=1) + "\n")


def read_ledger(folder: Path) -> Ledger | None:
    """Reads the ledger, or returns None where there is none.

    Raises:
        RunError: If it cannot be read.
    """
    return read_model(folder / LEDGER, Ledger)
