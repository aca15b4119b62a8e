"""The ablation ledger: the effect of each method, and the journal of its trainings."""

from pathlib import Path
from typing import Literal

from pydantic import Base64Bytes, BaseModel, ConfigDict, Field

from headstart.artifacts.files import read_model, write_model
from headstart.artifacts.journal import Journal, Trial
from headstart.artifacts.records import Acted
from headstart.inputs.quantities import (
    Count,
    Difference,
    Finite,
    FiniteRange,
    Share,
    ShareRange,
    Size,
)

LEDGER = "ledger.json"


def _unknown(value: object) -> bool:
    return value is None


class Measured(BaseModel):
    """One training of one recipe.

    Attributes:
        data: Hash of the images and their split; measurements with another hash are not comparable.
        trial: The result.
        logits: Logits of the held-out images (N, C) as little-endian float32, where images have any
            number of labels; else None.
    """

    model_config = ConfigDict(frozen=True)

    data: str
    trial: Trial
    logits: Base64Bytes | None = Field(None, exclude_if=_unknown)


MEASURED = Journal("ledger.jsonl", Measured)


class LedgerRow(BaseModel):
    """The effect of one change, measured on the same held-out images with it and without it.

    Attributes:
        part: `ladder`: the previous row plus one change. `left_out`: the chosen recipe without one
            change. `trial`: a trial of the search, compared with its first recipe.
        families: Recipe fields that were changed; empty for the first row.
        change: The old and the new value, as text.
        epochs: Length of the schedule.
        seeds: Number of trainings that the results are averaged over.
        images: Number of held-out images.
        accuracy: Share of the held-out images that are classified correctly.
        accuracy_interval: 95% interval of the accuracy, for the networks of these seeds; None in
            older ledgers.
        loss: Log loss in nats at the best temperature.
        gain: Accuracy with the changed methods minus accuracy without them.
        interval: 95% interval of the gain, over new images of the same kind.
        loss_gain: Log loss without the changed methods minus log loss with them.
        p: p-value of McNemar's exact test; with several seeds, of the sign test on their means.
        p_holm: `p`, corrected for the number of rows.
        seconds: Wall time of one training.
        acted: Observed effects of the changed methods.
        failed: Why there is no result; empty if there is one.
        mean_average_precision: That of the held-out images, where they have any number of labels;
            else None. Accuracy is then the share that gets exactly its labels.
        precision_gain: Mean average precision with the changed methods minus that without them.
        precision_interval: 95% interval of that gain, by paired resamples of groups of images.
    """

    model_config = ConfigDict(frozen=True)

    part: Literal["ladder", "left_out", "trial"]
    families: tuple[str, ...]
    change: str
    epochs: Count
    seeds: Count = 0
    images: Count = 0
    accuracy: Share | None = None
    accuracy_interval: ShareRange | None = None
    loss: Size | None = None
    gain: Difference | None = None
    interval: FiniteRange | None = None
    loss_gain: Finite | None = None
    p: Share | None = None
    p_holm: Share | None = None
    seconds: Size = 0.0
    acted: tuple[Acted, ...] = ()
    failed: str = ""
    mean_average_precision: Share | None = Field(None, exclude_if=_unknown)
    precision_gain: Difference | None = Field(None, exclude_if=_unknown)
    precision_interval: FiniteRange | None = Field(None, exclude_if=_unknown)

    @property
    def name(self) -> str:
        """Display name: what the row adds, leaves out or tries."""
        names = " + ".join(family.replace("_", " ") for family in self.families)
        if self.part == "ladder":
            return f"+ {names}" if names else "naive"
        return f"without {names}" if self.part == "left_out" else names


class Ledger(BaseModel):
    """The whole ledger.

    Attributes:
        epochs: Length of every schedule.
        seeds: Requested number of seeds.
        folds: 1 if rows are evaluated on the validation images; else the cross-validation folds.
        rows: The ladder from the naive to the chosen recipe, then the rows without one method.
        left_out: Rows that were not measured with any seed because the time ran out.
        whole: Whether the chosen recipe itself was measured.
        seconds: Wall time of all trainings.
    """

    model_config = ConfigDict(frozen=True)

    epochs: Count
    seeds: Count
    folds: Count
    rows: tuple[LedgerRow, ...]
    left_out: tuple[str, ...] = ()
    whole: bool = True
    seconds: Size = 0.0


def write_ledger(folder: Path, ledger: Ledger) -> None:
    """Writes the ledger."""
    write_model(folder / LEDGER, ledger)


def read_ledger(folder: Path) -> Ledger | None:
    """Reads the ledger, or returns None if there is none.

    Raises:
        RunError: If it cannot be read.
    """
    return read_model(folder / LEDGER, Ledger)
