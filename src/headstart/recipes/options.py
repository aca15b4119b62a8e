"""The options of `fit`, `compare` and `benefit`: the one place where they are declared and checked.

The keywords of the Python functions, the options of the command line and the request that a search
stores for `resume` are made from these models. Nothing heavy is imported here, because the command
line must start fast; recipes are checked when they are used.
"""

import re
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from headstart.errors import BudgetError, InputError, RecipeError
from headstart.recipes.durations import parse_budget, seconds_of

Sampler = Literal["tpe", "random"]

ExecutorName = Literal["here", "processes", "ray"]

Strategy = Literal["head", "finetune"]

Boxes = Literal["crop", "keep"]

Layout = Literal["classes", "splits", "groups"]

Log = Literal["tensorboard", "mlflow"]

Task = Literal["single", "multilabel"]

DEFAULT_BUDGET = "10m"

NOTHING_TO_TRY = (
    "--trials compares ways to train, but this recipe only solves the head in closed form. Choose "
    "another freezing, or leave --trials out."
)

_CONFIG = ConfigDict(
    frozen=True, extra="forbid", use_attribute_docstrings=True, arbitrary_types_allowed=True
)


class SourceOptions(BaseModel):
    """Options of every command that reads a data set.

    Example:
        >>> SourceOptions(layout="splits").layout
        'splits'
    """

    model_config = _CONFIG

    boxes: Boxes = "crop"
    """Crop images to the bounding boxes that the data set has, or keep them whole."""
    layout: Layout | None = None
    """Meaning of the top folders: classes, splits (train, test) or groups (patients, days). Needed
    only if headstart asks."""
    task: Task | None = Field(None, exclude_if=lambda value: value is None)
    """Whether an image has one label (single) or any number of labels (multilabel). By default what
    the labels say."""
    follow_links: bool = False
    """Follow symbolic links that lead further than beside the folder of the images."""
    root: Path | None = None
    """Folder that the paths of a manifest are relative to; by default that of the manifest."""
    channels: str | None = None
    """Numbers of the channels to use, from 0: one for grey, or three for RGB such as 3,0,1. By
    default what a person would see."""
    page: str | None = None
    """Page, frame or slice to use: a number from 0, middle, or max (the largest value of each
    pixel). By default the first page, and the middle slice of a volume."""

    @field_validator("channels", "page", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        """Lets Python give numbers."""
        return ",".join(map(str, value)) if isinstance(value, list | tuple) else _text(value)

    @model_validator(mode="after")
    def _check_pixels(self) -> Self:
        if self.channels is not None and not re.fullmatch(r"\d+(,\d+){0,2}", self.channels):
            raise InputError(
                f"--channels {self.channels} cannot be read. Give one to three numbers from 0, "
                "such as 0,1,2."
            )
        if self.page is not None and not re.fullmatch(r"\d+|middle|max", self.page):
            raise InputError(
                f"--page {self.page} cannot be read. Give a number from 0, middle or max."
            )
        return self

    @property
    def reading(self) -> "SourceOptions":
        """These options alone, with absolute paths, for the record of a run."""
        kept = {name: getattr(self, name) for name in SourceOptions.model_fields}
        root = None if self.root is None else self.root.resolve()
        return SourceOptions(**{**kept, "root": root})

    @property
    def flags(self) -> list[str]:
        """The values other than the defaults, as arguments of the command line.

        Example:
            >>> SourceOptions(layout="groups", follow_links=True).flags
            ['--layout', 'groups', '--follow-links']
        """
        flags: list[str] = []
        for name, field in SourceOptions.model_fields.items():
            value = getattr(self, name)
            if value != field.default:
                flags += ["--" + name.replace("_", "-"), *([] if value is True else [str(value)])]
        return flags


class FitOptions(SourceOptions):
    """Options of `fit`.

    Example:
        >>> FitOptions(budget="90s").budget_s
        90.0
        >>> FitOptions(epochs=3).searches
        False
    """

    model_config = _CONFIG

    budget: str | float | None = None
    """Limit on the wall time: 90s, 10m or 1.5h (in Python also a number of seconds). 10m unless
    epochs or trials are given."""
    epochs: int | None = Field(None, ge=0)
    """Train one recipe for this many epochs, instead of a budget. The result is reproducible bit by
    bit."""
    trials: int | None = Field(None, ge=1)
    """Number of recipes to try, instead of a budget. The result is reproducible bit by bit."""
    sampler: Sampler = "tpe"
    """Sampler of recipes: tpe learns from earlier trials, random is a baseline."""
    executor: ExecutorName = "here"
    """Where trials run: in this process, in separate processes, or on a Ray cluster."""
    jobs: int = Field(1, ge=1)
    """Number of trials to run at the same time."""
    address: str | None = None
    """Address of a running Ray cluster: auto, or HOST:PORT."""
    trial_memory: float | None = Field(None, gt=0)
    """Memory limit of a trial in GB, for --executor processes. All free memory by default."""
    ensemble: int = Field(1, ge=1)
    """Number of best networks whose predictions are averaged. Their frozen part runs once."""
    strategy: Strategy | None = None
    """Train one recipe without a search: only the head, or the head and the last blocks."""
    backbone: str | None = None
    """Name of a timm model; `headstart backbones` lists them."""
    weights: str | None = None
    """Backbone weights: pretrained, random (from scratch), or a local file."""
    download: bool = False
    """Let the search fetch up to three promising backbones from the Hugging Face hub. `headstart
    backbones --download` lists them."""
    recipe: Any = None
    """Train this recipe without a search: default, probe, naive, or a .toml or .json file. With
    trials, the recipe that the search starts from."""
    from_run: Path | None = None
    """Continue a finished run with these images: its network and its recipe. Its sealed test images
    stay sealed, and what is gained and forgotten is measured. RUN is its folder."""
    background: Path | None = Field(None, exclude_if=lambda folder: folder is None)
    """Folder of images of no class. They are not trained on; `predict --reject` tells images like
    them from the others."""
    unlabelled: Path | None = Field(None, exclude_if=lambda folder: folder is None)
    """Folder of images without labels. The head learns from them where held-out images gain."""
    settings: tuple[str, ...] = ()
    """Change one value of the recipe, such as optimizer=sgd or optimizer.lr=3e-4."""
    precision: float | None = Field(None, gt=0, lt=1, exclude_if=lambda value: value is None)
    """With several labels an image: choose the threshold of each label so that at least this share
    of the images that get it are right, on held-out images. By default where F1 is highest."""
    out: Path | None = None
    """Run folder; runs/NAME-TIME by default."""
    log: Log | None = None
    """Log the finished run: into the run folder, or into MLflow's local store."""
    seed: int | None = None
    """Seed for training and augmentation."""
    split_seed: int = Field(0, ge=0)
    """Seed for the train/validation/test split, separate so that seeds share one test set."""
    split: Path | None = None
    """Split file to use instead: the split.csv of another run."""
    workers: int | None = Field(None, ge=1)
    """Number of processes that decode images."""
    cache_dir: Path | None = None
    """Cache folder; $HEADSTART_CACHE or the user's cache folder by default."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.budget is not None and self.epochs is not None:
            raise BudgetError("Give either a budget or a number of epochs, not both.")
        if self.budget is not None and self.trials is not None:
            raise BudgetError("Give either a budget or a number of trials, not both.")
        if isinstance(self.budget, str):
            parse_budget(self.budget)
        given = {
            "--sampler": self.sampler != "tpe",
            "--executor": self.executor != "here",
            "--jobs": self.jobs != 1,
            "--address": self.address is not None,
            "--trial-memory": self.trial_memory is not None,
            "--ensemble": self.ensemble != 1,
            "--download": self.download,
        }
        names = [name for name, there in given.items() if there]
        self._check_from_run()
        if names and not self.searches:
            raise InputError(
                f"{', '.join(names)} cannot be used here: without a search, only one recipe is "
                "trained. Leave --recipe, --strategy, --from and --epochs out, or give --trials."
            )
        if self.download and any(each.startswith("backbone") for each in self.by_hand):
            raise InputError(
                "--download is for a search that chooses the backbone. A backbone that is named is "
                "fetched anyway if it is not on this machine. Leave --download out."
            )
        _check_executor(self)
        return self

    def _check_from_run(self) -> None:
        taken = {"recipe", "backbone", "weights", "trials", "split"}
        also = sorted(name for name in taken if getattr(self, name) is not None)
        if self.from_run is not None and also:
            raise InputError(
                "--from takes the network, the recipe and the sealed images of the run, and trains "
                f"that one recipe. Leave --{', --'.join(also)} out; --set changes values."
            )

    @property
    def searches(self) -> bool:
        """Whether recipes are searched, rather than a single one trained."""
        fixed = (self.recipe, self.strategy, self.epochs, self.from_run)
        return self.trials is not None or all(each is None for each in fixed)

    @property
    def budget_s(self) -> float | None:
        """Budget in seconds; None if the number of epochs or trials is given."""
        if self.budget is not None:
            return seconds_of(self.budget)
        counted = self.epochs is not None or self.trials is not None
        epochs: int = getattr(self.recipe, "epochs", 0)
        if counted or epochs:
            return None
        return parse_budget(DEFAULT_BUDGET)

    @property
    def by_hand(self) -> tuple[str, ...]:
        """Settings of the recipe that a search does not change."""
        return (
            *(f"backbone={name}" for name in (self.backbone, self.weights) if name),
            *self.settings,
        )

    @property
    def memory_limit(self) -> int | None:
        """Memory limit of a trial in bytes."""
        return None if self.trial_memory is None else int(1e9 * self.trial_memory)


class ResumeOptions(BaseModel):
    """Options of `resume`.

    Where trials run is never taken from the run folder: a folder may come from elsewhere, and a
    cluster exchanges code.

    Example:
        >>> ResumeOptions().executor
        'here'
    """

    model_config = _CONFIG

    executor: ExecutorName = "here"
    """Where trials run: in this process, in separate processes, or on a Ray cluster."""
    jobs: int = Field(1, ge=1)
    """Number of trials to run at the same time."""
    address: str | None = None
    """Address of a running Ray cluster: auto, or HOST:PORT."""
    trial_memory: float | None = Field(None, gt=0)
    """Memory limit of a trial in GB, for --executor processes. All free memory by default."""
    workers: int | None = Field(None, ge=1)
    """Number of processes that decode images."""
    cache_dir: Path | None = None
    """Cache folder; $HEADSTART_CACHE or the user's cache folder by default."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_executor(self)
        return self


class CompareOptions(SourceOptions):
    """Options of `compare`."""

    model_config = _CONFIG

    recipe: Any = None
    """Recipe to analyse: default, probe, or a .toml or .json file. The default recipe unless a run
    is given."""
    run: Path | None = None
    """Finished run whose recipe, images and split are used. The results are added to its folder and
    its report."""
    epochs: int = Field(6, ge=1)
    """Number of epochs of every training run."""
    seeds: int = Field(1, ge=1)
    """Number of training runs of each row, with different seeds."""
    budget: str | float | None = DEFAULT_BUDGET
    """Limit on the wall time. Rows that do not fit are left out and listed."""
    settings: tuple[str, ...] = ()
    """Change one value of the recipe, such as optimizer.lr=3e-4."""
    out: Path | None = None
    """Folder for the results. Repeat the command to continue an interrupted comparison."""
    split_seed: int = Field(0, ge=0)
    """Seed for the train/validation/test split."""
    workers: int | None = Field(None, ge=1)
    """Number of processes that decode images."""
    cache_dir: Path | None = None
    """Cache folder; $HEADSTART_CACHE or the user's cache folder by default."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.run is not None and (self.recipe is not None or self.settings):
            raise InputError("--run uses the recipe of the run. Leave --recipe and --set out.")
        if self.run is not None and self.out is not None:
            raise InputError("The results are written into the folder of --run. Leave --out out.")
        if isinstance(self.budget, str):
            parse_budget(self.budget)
        return self

    @property
    def budget_s(self) -> float | None:
        """Budget in seconds; None without a budget."""
        return None if self.budget is None else seconds_of(self.budget)


class BenefitOptions(SourceOptions):
    """Options of `benefit`."""

    model_config = _CONFIG

    budget: str | float | None = None
    """Limit on the wall time: 10m or 1.5h (in Python also a number of seconds). 10m unless epochs
    are given."""
    epochs: int | None = Field(None, ge=1)
    """Number of epochs of every network, on all training images, instead of a budget."""
    fractions: tuple[float, ...] | None = None
    """Shares of the training images, each above 0 and at most 1; on the command line percentages
    such as 25,100. Default: 25% and 100%; on a GPU 10%, 25%, 50% and 100%."""
    seeds: int | None = Field(None, ge=1)
    """Number of networks for each arm and fraction. Default: 2; on a GPU 3."""
    backbone: str | None = None
    """Name of a timm model."""
    resolution: int = 112
    """Image size in pixels."""
    settings: tuple[str, ...] = ()
    """Change one value of the recipe of both arms, such as augmentation.flip=false."""
    out: Path | None = None
    """Folder for the results; runs/NAME-benefit-TIME by default. Repeat the command to continue an
    interrupted measurement."""
    split_seed: int = Field(0, ge=0)
    """Seed for the train/validation/test split."""
    split: Path | None = None
    """Split file to use: the split.csv of a run. Its test images are not used."""
    workers: int | None = Field(None, ge=1)
    """Number of processes that decode images."""
    cache_dir: Path | None = None
    """Cache folder; $HEADSTART_CACHE or the user's cache folder by default."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.budget is not None and self.epochs is not None:
            raise BudgetError("Give either a budget or a number of epochs, not both.")
        if isinstance(self.budget, str):
            parse_budget(self.budget)
        if self.fractions is not None and not all(0 < share <= 1 for share in self.fractions):
            raise RecipeError("--fractions must be percentages above 0 and up to 100, like 25,100.")
        return self

    @property
    def budget_s(self) -> float | None:
        """Budget in seconds; None if the number of epochs is given."""
        if self.budget is not None:
            return seconds_of(self.budget)
        return None if self.epochs is not None else parse_budget(DEFAULT_BUDGET)


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, int) else value


def _check_executor(options: FitOptions | ResumeOptions) -> None:
    """Refuses options of another executor.

    Raises:
        InputError: Naming the executor that they need.
    """
    if options.executor == "here" and options.jobs != 1:
        raise InputError(f"--jobs {options.jobs} needs --executor processes or ray.")
    if options.executor != "processes" and options.trial_memory is not None:
        raise InputError("--trial-memory needs --executor processes.")
    if options.executor != "ray" and options.address is not None:
        raise InputError("--address needs --executor ray.")
