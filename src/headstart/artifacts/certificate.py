"""The transfer certificate: what the folder of `headstart benefit` holds, written and read here.

asked.json        of what and with what it was begun
plan.json         what is trained; made once, and followed by whoever goes on
arms.jsonl        one line a trained network, on the disk before it counts
forecast.json     how accuracy grows with labels, and the forecast
certificate.json  the answers
certificate.svg   the picture; also as .png, and on a page of its own as .html
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from headstart.artifacts.files import read_model, write_text
from headstart.artifacts.journal import Journal
from headstart.errors import RunError
from headstart.inference_stats import Interval

ASKED = "asked.json"
PLAN = "plan.json"
FORECAST = "forecast.json"
CERTIFICATE = "certificate.json"


ArmName = Literal["pretrained", "scratch"]
Question = Literal["start", "slope", "asymptote"]


class _Plain(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BenefitRequest(_Plain):
    """What a certificate was begun with; who goes on must ask for the same.

    Attributes:
        pixels: Key of the decoded images.
        rows: Hash of which of them are trained on and judged by.
        split_seed: Of the split, and of the order in which fractions grow.
        recipe: Of both arms, as plain data.
    """

    pixels: str
    rows: str
    split_seed: int
    recipe: dict[str, Any]


class BenefitPlan(_Plain):
    """What is trained, the same for both arms but the weights and the rate.

    Attributes:
        pixels: Key of the decoded images.
        recipe: Of both arms, without weights, rate and seed, as plain data.
        split_seed: Of the split, and of the order in which fractions grow.
        epochs: Of every network.
        images: Training images at the largest fraction.
        held: Images that all are judged by.
        fractions: Shares of `images`, rising, in (0, 1].
        seeds: How many.
        rates: Learning rates that each arm tried.
        chosen: The better one, by arm.
        notes: What was left out to fit the budget.
    """

    pixels: str
    recipe: dict[str, Any]
    split_seed: int
    epochs: int
    images: int
    held: int
    fractions: tuple[float, ...]
    seeds: int
    rates: tuple[float, ...]
    chosen: dict[ArmName, float]
    notes: tuple[str, ...] = ()


class Evaluation(_Plain):
    """A network after an epoch.

    Attributes:
        epoch: 0 is before training.
        seconds: Of training so far.
        train_loss: Mean over the epoch.
        loss: Log loss on the held-out images, in nats.
        right: One character an image of them, `1` where it was right.
    """

    epoch: int
    seconds: float
    train_loss: float | None
    loss: float
    right: str

    @property
    def accuracy(self) -> float:
        """Share of the held-out images that is right."""
        return self.right.count("1") / len(self.right)


class ArmRun(_Plain):
    """One network that was trained.

    Attributes:
        purpose: `tuning` chooses the rate, on training images; `curve` is what counts.
        arm: From which weights.
        fraction: Of the training images.
        seed: Of all that is drawn in training.
        rate: The learning rate.
        images: Trained on.
        epochs: That were planned.
        evaluations: From epoch 0 on; fewer than planned where the budget ended.
    """

    purpose: Literal["tuning", "curve"]
    arm: ArmName
    fraction: float
    seed: int
    rate: float
    images: int
    epochs: int
    evaluations: tuple[Evaluation, ...]

    @property
    def whole(self) -> bool:
        """Whether all planned epochs were trained."""
        return len(self.evaluations) == self.epochs + 1


ARM_RUNS = Journal("arms.jsonl", ArmRun)


class Verdict(_Plain):
    """One of the three questions and its answer.

    Attributes:
        question: Whether pretrained weights give a higher start, slope or asymptote.
        answer: It follows from the interval.
        pretrained: The figure; an accuracy, or for the slope accuracy an epoch.
        scratch: The same.
        advantage: Of the pretrained weights.
        interval: 95 %, of the advantage.
        why: In words and numbers.
    """

    question: Question
    answer: Literal["yes", "no", "cannot tell"]
    pretrained: float
    scratch: float
    advantage: float
    interval: Interval
    why: str


class Curve(_Plain):
    """An arm on one fraction of the data, the mean over seeds, from epoch 0 on.

    Attributes:
        rate: The learning rate.
        accuracy: On the held-out images.
        low: Lower ends of its 95 % intervals.
        high: Upper ends.
        loss: Log loss.
        seconds: Of training so far.
        plateau: Where it levels off as fitted; None where it has not.
        plateau_interval: 95 %.
        no_plateau: Why it has not.
    """

    rate: float
    accuracy: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    loss: tuple[float, ...]
    seconds: tuple[float, ...]
    plateau: float | None
    plateau_interval: Interval | None
    no_plateau: str


class LevelReached(_Plain):
    """When the arms reach a level; None where they did not.

    Attributes:
        share: Of what the better arm reaches.
        accuracy: The level.
        epochs: By arm.
        seconds: Of training, by arm.
    """

    share: float
    accuracy: float
    epochs: dict[ArmName, float | None]
    seconds: dict[ArmName, float | None]


class OnFraction(_Plain):
    """Both arms on one fraction of the data.

    Attributes:
        fraction: Of the training images.
        images: Trained on.
        seeds: That are compared.
        curves: By arm.
        verdicts: Start, slope, asymptote.
        levels: How soon.
    """

    fraction: float
    images: int
    seeds: int
    curves: dict[ArmName, Curve]
    verdicts: tuple[Verdict, ...]
    levels: tuple[LevelReached, ...]


class Expected(_Plain):
    """A forecast; see `benefit_curves.Forecast`."""

    labels: int
    accuracy: float
    interval: Interval
    new_images: Interval
    gain: float
    gain_interval: Interval


class HeldBack(_Plain):
    """A forecast that was tested: made without some of the labels, for all of them.

    Attributes:
        hidden: Share of the labels that it did not see.
        expected: What it said.
        accuracy: What was measured, on the same images.
        held: Whether that lay in the interval.
    """

    hidden: float
    expected: Expected
    accuracy: float
    held: bool


class LabelForecast(_Plain):
    """How accuracy grows with labels, for a head on frozen pretrained features.

    Attributes:
        images: That were cross-fitted over.
        sizes: Labels trained on.
        accuracy: By size.
        low: Lower ends of its 95 % intervals (Wilson's).
        high: Upper ends.
        expected: Forecasts, for now and for more.
        band: Forecasts between, for the picture.
        test: On labels that were held back.
        answer: Whether twice as many labels would help.
        why: In words and numbers.
    """

    images: int
    sizes: tuple[int, ...]
    accuracy: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    expected: tuple[Expected, ...]
    band: tuple[Expected, ...]
    test: HeldBack
    answer: Literal["yes", "no", "cannot tell"]
    why: str


class Certificate(_Plain):
    """The answers, and all that they follow from.

    Attributes:
        name: Of the data set.
        command: What repeats it.
        started_at: ISO 8601, UTC.
        seconds: Wall time of all sessions.
        budget_s: The ceiling, or None.
        backbone: Its name.
        weights: Where the pretrained ones come from.
        resolution: In pixels.
        chance: Accuracy of who always names the most frequent class.
        held: Held-out images.
        plan: What was trained.
        fractions: Results, smallest first; the last one is what the verdicts are read from.
        labels: The forecast; None where there are too few images.
        notes: What a reader must know.
        versions: Of what the figures depend on.
        machine: In one line.
    """

    name: str
    command: str
    started_at: str
    seconds: float
    budget_s: float | None
    backbone: str
    weights: str
    resolution: int
    chance: float
    held: int
    plan: BenefitPlan
    fractions: tuple[OnFraction, ...]
    labels: LabelForecast | None
    notes: tuple[str, ...]
    versions: dict[str, str]
    machine: str

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Of the largest fraction."""
        return self.fractions[-1].verdicts


def write_asked(folder: Path, asked: BenefitRequest) -> None:
    """Writes what a certificate is begun with, before anything else is."""
    write_text(folder / ASKED, asked.model_dump_json(indent=1) + "\n")


def read_asked(folder: Path) -> BenefitRequest | None:
    """Reads what a certificate was begun with; None where that was not kept.

    Raises:
        RunError: If it cannot be read.
    """
    return read_model(folder / ASKED, BenefitRequest)


def write_plan(folder: Path, plan: BenefitPlan) -> None:
    """Writes what is going to be trained; from then on it counts."""
    write_text(folder / PLAN, plan.model_dump_json(indent=1) + "\n")


def read_plan(folder: Path) -> BenefitPlan | None:
    """Reads the plan, or returns None where none was made yet.

    Raises:
        RunError: If it cannot be read.
    """
    return read_model(folder / PLAN, BenefitPlan)


def write_forecast(folder: Path, labels: LabelForecast) -> None:
    """Writes the forecast, so that whoever goes on need not make it again."""
    write_text(folder / FORECAST, labels.model_dump_json(indent=1) + "\n")


def read_forecast(folder: Path) -> LabelForecast | None:
    """Reads the forecast, or returns None where none was made yet.

    Raises:
        RunError: If it cannot be read.
    """
    return read_model(folder / FORECAST, LabelForecast)


def write_certificate(folder: Path, certificate: Certificate) -> None:
    """Writes `certificate.json`."""
    write_text(folder / CERTIFICATE, certificate.model_dump_json(indent=1) + "\n")


def read_certificate(folder: Path) -> Certificate:
    """Reads `certificate.json`.

    Raises:
        RunError: If the folder holds none.
    """
    found = read_model(folder / CERTIFICATE, Certificate)
    if found is None:
        raise RunError(f"{folder} holds no {CERTIFICATE}.")
    return found


def read_arms(folder: Path) -> list[ArmRun]:
    """Reads the journal, without a last line that was torn; of a network's lines, the longest.

    Raises:
        RunError: If another line cannot be read.
    """
    return longest(ARM_RUNS.read(folder))


def longest(runs: Sequence[ArmRun]) -> list[ArmRun]:
    """Returns each network once, with as many epochs as it was ever trained for."""
    found: dict[tuple[Any, ...], ArmRun] = {}
    for run in runs:
        key = (run.purpose, run.arm, run.fraction, run.seed, run.rate)
        if key not in found or len(run.evaluations) >= len(found[key].evaluations):
            found[key] = run
    return list(found.values())
