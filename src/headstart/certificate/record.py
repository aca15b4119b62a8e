"""The transfer certificate: the files in the folder of `headstart benefit`.

asked.json        the request: data set, split and recipe
plan.json         the training plan; made once and followed by a resumed session
arms.jsonl        one line per trained network, written to disk before it counts
forecast.json     accuracy over the number of labels, and the forecast
certificate.json  the answers
certificate.svg   the picture; also as .png, and as a page in .html
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from headstart.artifacts.files import read_model, write_model
from headstart.artifacts.journal import Journal
from headstart.certificate.labels import LabelForecast
from headstart.errors import RunError
from headstart.inputs.quantities import Bits, Count, Finite, FiniteRange, Positive, Share, Size

ASKED = "asked.json"

PLAN = "plan.json"

FORECAST = "forecast.json"

CERTIFICATE = "certificate.json"

ArmName = Literal["pretrained", "scratch"]

Question = Literal["start", "slope", "asymptote"]


class _Plain(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BenefitRequest(_Plain):
    """The request that a certificate is made for; a resumed session must make the same request.

    Attributes:
        pixels: Key of the decoded images.
        rows: Hash of the rows that are used for training and evaluation.
        split_seed: Seed for the split, and for the order in which fractions grow.
        recipe: Recipe of both arms, as plain data.
    """

    pixels: str
    rows: str
    split_seed: Count
    recipe: dict[str, Any]


class BenefitPlan(_Plain):
    """The training plan; both arms differ only in weights and learning rate.

    Attributes:
        pixels: Key of the decoded images.
        recipe: Recipe of both arms without weights, learning rate and seed, as plain data.
        split_seed: Seed for the split, and for the order in which fractions grow.
        epochs: Length of every training.
        images: Number of training images at the largest fraction.
        held: Number of held-out images that every network is evaluated on.
        fractions: Shares of `images` in (0, 1], in increasing order.
        seeds: Number of seeds.
        rates: Learning rates that each arm tries.
        chosen: Best learning rate, by arm.
        notes: What was left out to fit the budget.
    """

    pixels: str
    recipe: dict[str, Any]
    split_seed: Count
    epochs: Count
    images: Count
    held: Count
    fractions: tuple[Share, ...]
    seeds: Count
    rates: tuple[Positive, ...]
    chosen: dict[ArmName, Positive]
    notes: tuple[str, ...] = ()


class Evaluation(_Plain):
    """The evaluation of a network after an epoch.

    Attributes:
        epoch: Number of the epoch; 0 is before training.
        seconds: Training time so far.
        train_loss: Mean training loss of the epoch.
        loss: Log loss on the held-out images, in nats.
        right: One character per held-out image, `1` if it is classified correctly.
    """

    epoch: Count
    seconds: Size
    train_loss: Finite | None
    loss: Size
    right: Bits

    @property
    def accuracy(self) -> float:
        """Share of the held-out images that are classified correctly."""
        return self.right.count("1") / len(self.right)


class ArmRun(_Plain):
    """One trained network.

    Attributes:
        purpose: `tuning` for the choice of the learning rate on training images, or `curve`.
        arm: The initial weights.
        fraction: Share of the training images.
        seed: Seed for the training.
        rate: Learning rate.
        images: Number of training images.
        epochs: Planned number of epochs.
        evaluations: Evaluations from epoch 0 on; fewer than planned if the budget ran out.
    """

    purpose: Literal["tuning", "curve"]
    arm: ArmName
    fraction: Share
    seed: Count
    rate: Positive
    images: Count
    epochs: Count
    evaluations: tuple[Evaluation, ...]

    @property
    def whole(self) -> bool:
        """Whether all planned epochs are trained."""
        return len(self.evaluations) == self.epochs + 1


ARM_RUNS = Journal("arms.jsonl", ArmRun)


class Verdict(_Plain):
    """One of the three questions and its answer.

    Attributes:
        question: Whether pretrained weights give a higher start, slope or asymptote.
        answer: The answer, which follows from the interval.
        pretrained: Value with pretrained weights: an accuracy, or accuracy per epoch for the slope.
        scratch: Value from scratch.
        advantage: Pretrained value minus value from scratch.
        interval: 95% interval of the advantage.
        why: Explanation in words and numbers.
    """

    question: Question
    answer: Literal["yes", "no", "cannot tell"]
    pretrained: Finite
    scratch: Finite
    advantage: Finite
    interval: FiniteRange
    why: str


class Curve(_Plain):
    """The learning curve of an arm on one fraction of the data: means over seeds, from epoch 0 on.

    Attributes:
        rate: Learning rate.
        accuracy: Accuracy on the held-out images.
        low: Lower bounds of the 95% intervals of the accuracy.
        high: Upper bounds.
        loss: Log loss in nats.
        seconds: Training time so far.
        plateau: Fitted plateau; None if the curve has not levelled off.
        plateau_interval: 95% interval of the plateau.
        no_plateau: Why there is no plateau; empty if there is one.
    """

    rate: Positive
    accuracy: tuple[Share, ...]
    low: tuple[Share, ...]
    high: tuple[Share, ...]
    loss: tuple[Size, ...]
    seconds: tuple[Size, ...]
    plateau: Finite | None
    plateau_interval: FiniteRange | None
    no_plateau: str

    @model_validator(mode="after")
    def _agree(self) -> Self:
        epochs = len(self.accuracy)
        if epochs < 2 or {*map(len, (self.low, self.high, self.loss, self.seconds))} != {epochs}:
            raise ValueError("A curve needs two epochs or more, with all its values.")
        return self


class LevelReached(_Plain):
    """The training time that the arms need to reach a level.

    Attributes:
        share: The level, as a share of the best accuracy of the better arm.
        accuracy: The level, as an accuracy.
        epochs: Number of epochs, by arm; None if the arm does not reach the level.
        seconds: Training time, by arm; None if the arm does not reach the level.
    """

    share: Share
    accuracy: Share
    epochs: dict[ArmName, Size | None]
    seconds: dict[ArmName, Size | None]


class OnFraction(_Plain):
    """The results of both arms on one fraction of the data.

    Attributes:
        fraction: Share of the training images.
        images: Number of training images.
        seeds: Number of seeds that are compared.
        curves: Learning curves, by arm.
        verdicts: Verdicts on start, slope and asymptote.
        levels: Training time to reach certain levels.
    """

    fraction: Share
    images: Annotated[Count, Field(ge=1)]
    seeds: Count
    curves: dict[ArmName, Curve]
    verdicts: tuple[Verdict, ...]
    levels: tuple[LevelReached, ...]

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if len(self.curves) != 2 or len({len(each.accuracy) for each in self.curves.values()}) != 1:
            raise ValueError("A fraction needs a curve of each arm, with the same epochs.")
        if tuple(each.question for each in self.verdicts) != get_args(Question):
            raise ValueError("A fraction needs a verdict on start, slope and asymptote.")
        return self


class Certificate(_Plain):
    """The certificate: the answers and the measurements behind them.

    Attributes:
        name: Name of the data set.
        command: Command that repeats the measurement.
        started_at: Start time as ISO 8601 in UTC.
        seconds: Wall time of all sessions.
        budget_s: Time budget in seconds, or None.
        backbone: Name of the backbone.
        weights: Source of the pretrained weights.
        resolution: Side of the images in pixels.
        chance: Accuracy of always predicting the most frequent class.
        held: Number of held-out images.
        plan: The training plan.
        fractions: Results, smallest fraction first; the verdicts are those of the last one.
        labels: The forecast; None if there are too few images.
        notes: Caveats.
        versions: Versions of the packages that the results depend on.
        machine: Description of the machine in one line.
    """

    name: str
    command: str
    started_at: str
    seconds: Size
    budget_s: Size | None
    backbone: str
    weights: str
    resolution: Count
    chance: Share
    held: Count
    plan: BenefitPlan
    fractions: Annotated[tuple[OnFraction, ...], Field(min_length=1)]
    labels: LabelForecast | None
    notes: tuple[str, ...]
    versions: dict[str, str]
    machine: str

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Verdicts of the largest fraction."""
        return self.fractions[-1].verdicts


def write_asked(folder: Path, asked: BenefitRequest) -> None:
    """Writes the request, before anything else is written."""
    write_model(folder / ASKED, asked)


def read_asked(folder: Path) -> BenefitRequest | None:
    """Reads the request, or returns None if there is none.

    Raises:
        RunError: If it cannot be read.
    """
    return read_model(folder / ASKED, BenefitRequest)


def write_plan(folder: Path, plan: BenefitPlan) -> None:
    """Writes the training plan, which is binding from then on."""
    write_model(folder / PLAN, plan)


def read_plan(folder: Path) -> BenefitPlan | None:
    """Reads the plan, or returns None if there is none yet.

    Raises:
        RunError: If it cannot be read.
    """
    return read_model(folder / PLAN, BenefitPlan)


def write_forecast(folder: Path, labels: LabelForecast) -> None:
    """Writes the forecast, so a resumed session does not repeat it."""
    write_model(folder / FORECAST, labels)


def read_forecast(folder: Path) -> LabelForecast | None:
    """Reads the forecast, or returns None if there is none yet.

    Raises:
        RunError: If it cannot be read.
    """
    return read_model(folder / FORECAST, LabelForecast)


def write_certificate(folder: Path, certificate: Certificate) -> None:
    """Writes `certificate.json`."""
    write_model(folder / CERTIFICATE, certificate)


def read_certificate(folder: Path) -> Certificate:
    """Reads `certificate.json`.

    Raises:
        RunError: If the folder has no certificate, or it is damaged.
    """
    found = read_model(folder / CERTIFICATE, Certificate)
    if found is None:
        raise RunError(f"{folder} has no {CERTIFICATE}: it is not a finished certificate.")
    return found


def read_arms(folder: Path) -> list[ArmRun]:
    """Reads the journal: the longest line per network, without an incomplete last line.

    Raises:
        RunError: If any other line cannot be read.
    """
    return longest(ARM_RUNS.read(folder))


def longest(runs: Sequence[ArmRun]) -> list[ArmRun]:
    """Returns each network once, with the largest number of trained epochs."""
    found: dict[tuple[Any, ...], ArmRun] = {}
    for run in runs:
        key = (run.purpose, run.arm, run.fraction, run.seed, run.rate)
        if key not in found or len(run.evaluations) >= len(found[key].evaluations):
            found[key] = run
    return list(found.values())
