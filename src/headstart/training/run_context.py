"""The run context: folder, record, resources and timed steps of a run."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from headstart.artifacts.records import PlanStep, Request, RunRecord
from headstart.artifacts.run import write_record
from headstart.data.cache_dir import default_cache_dir
from headstart.errors import HeadstartError
from headstart.progress import SILENT, Progress
from headstart.recipes.options import FitOptions
from headstart.training.budget import Clock


@dataclass(frozen=True)
class Resources:
    """The resources of a job.

    Attributes:
        clock: The time budget.
        cache_dir: Cache folder.
        workers: Processes that decode images; None lets the machine decide.
        progress: Progress display.
    """

    clock: Clock = field(default_factory=lambda: Clock(time.monotonic()))
    cache_dir: Path = field(default_factory=default_cache_dir)
    workers: int | None = None
    progress: Progress = SILENT

    def __post_init__(self) -> None:
        """Lets the display show the time that is left in all."""
        self.progress.until(self.clock.end)


@dataclass
class Step:
    """One stage of a run in progress.

    Attributes:
        stage: Name of the stage.
        planned: What the stage will do.
        outcome: What the stage did; empty if there is nothing to add.
        seconds: Duration; None for the wall time.
    """

    stage: str
    planned: str
    outcome: str = ""
    seconds: float | None = None

    def happened(self, outcome: str) -> None:
        """Sets the outcome of the stage."""
        self.outcome = outcome


@dataclass(frozen=True)
class RunContext:
    """The context that every stage of a run works with and reports to.

    Stages read `resources` and write into `folder`; what they did goes through `step` and `note`
    into `record`, the content of `run.json`.

    Attributes:
        folder: The run folder.
        record: Request, plan and results so far.
        resources: Time, cache, decode workers and progress display.
    """

    folder: Path
    record: RunRecord
    resources: Resources

    @property
    def clock(self) -> Clock:
        """The time budget."""
        return self.resources.clock

    @property
    def progress(self) -> Progress:
        """Progress display."""
        return self.resources.progress

    @property
    def request(self) -> Request:
        """The requested search."""
        assert self.record.request is not None
        return self.record.request

    @property
    def options(self) -> FitOptions:
        """Options of the search."""
        return self.request.options

    @contextmanager
    def step(self, stage: str, planned: str) -> Iterator[Step]:
        """Times a stage, and records and shows its outcome if it succeeds.

        Under a budget, the pace of the machine is measured first.

        Args:
            stage: Name of the stage.
            planned: What the stage will do.
        """
        step = Step(stage, planned)
        began = time.monotonic()
        if self.clock.budget_s is not None:
            self.clock.pace.measure()
        yield step
        seconds = time.monotonic() - began if step.seconds is None else step.seconds
        self.record.plan.append(
            PlanStep(stage=step.stage, planned=step.planned, happened=step.outcome, seconds=seconds)
        )
        if step.outcome:
            self.say(f"{step.stage}: {step.outcome}")

    def note(self, text: str) -> None:
        """Adds a note to the run, which its report shows."""
        self.record.notes.append(text)

    def say(self, line: str) -> None:
        """Shows one line."""
        self.progress.say(line)

    def save(self) -> None:
        """Writes `run.json` with the duration of the run so far."""
        self.record.seconds = self.clock.total()
        write_record(self.folder, self.record)

    @contextmanager
    def recording_failure(self) -> Iterator[None]:
        """Records how the run ended if it failed or was interrupted."""
        try:
            yield
        except BaseException as error:
            record = self.record
            record.status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            record.stop_reason = f"{type(error).__name__}: {error}".rstrip(": ")
            try:
                self.save()
            except (HeadstartError, OSError):
                shutil.rmtree(self.folder / "bundle", ignore_errors=True)
            if record.status == "interrupted":
                self.say(
                    f"{self.folder} keeps every finished trial. Resume the search with "
                    f"`headstart resume {self.folder}`."
                    if record.request
                    else f"{self.folder} keeps the recipe, the split and the journal, but no "
                    "network: the training of one recipe cannot be resumed, only a search "
                    "(--budget or --trials); Ctrl-C after the first epoch keeps the best one. "
                    "Decoded images and activations stay cached: the same "
                    "command with another --out starts again from them."
                )
            raise


def dated_folder(name: str) -> Path:
    """Returns `runs/NAME-TIME`, the default folder of a run."""
    stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    return Path("runs") / f"{name}-{stamp}"
