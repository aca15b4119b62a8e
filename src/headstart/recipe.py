"""The recipe: a complete choice of methods and their values, checked as a whole."""

import json
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from headstart.errors import RecipeError, did_you_mean
from headstart.methods.activation import Activation, ActivationUnion, Keep
from headstart.methods.augmentation import (
    Augmentation,
    AugmentationUnion,
    NoAugmentation,
    TrivialAugment,
)
from headstart.methods.averaging import EMA, Averaging, AveragingUnion, NoAveraging
from headstart.methods.backbone import Backbone, BackboneChoice
from headstart.methods.batch_mixing import BatchMixing, BatchMixingUnion, NoMixing
from headstart.methods.criterion import Criterion, CriterionUnion, CrossEntropy, LabelSmoothing
from headstart.methods.freezing import (
    Freezing,
    FreezingUnion,
    Full,
    HeadOnly,
    LastBlocks,
)
from headstart.methods.head import HeadChoice, HeadUnion, Linear
from headstart.methods.method import Method, members, method_name
from headstart.methods.metric_loss import MetricLoss, MetricLossUnion, NoMetricLoss
from headstart.methods.optimizer import AdamW, Optimizer, OptimizerUnion
from headstart.methods.schedule import Constant, OneCycle, Schedule, ScheduleUnion
from headstart.text import listed

FAMILIES: dict[str, tuple[type[Method], ...]] = {
    "backbone": (Backbone,),
    "head": members(HeadUnion),
    "activation": members(ActivationUnion),
    "augmentation": members(AugmentationUnion),
    "batch_mixing": members(BatchMixingUnion),
    "optimizer": members(OptimizerUnion),
    "schedule": members(ScheduleUnion),
    "criterion": members(CriterionUnion),
    "metric_loss": members(MetricLossUnion),
    "freezing": members(FreezingUnion),
    "averaging": members(AveragingUnion),
}
"""The methods of each family, by the family's field in a recipe."""
SEARCHED = (
    "freezing", "metric_loss", "batch_mixing", "optimizer", "schedule", "criterion", "averaging",
)  # fmt: skip
"""The families that trials draw. The others determine the cached features, shared by all trials."""


class Recipe(BaseModel):
    """One method per family, plus epochs, views, batch size, seed, blend and test-time flips."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    backbone: BackboneChoice = Backbone()
    head: HeadChoice = Linear()
    activation: Activation = Keep()
    augmentation: Augmentation = TrivialAugment()
    batch_mixing: BatchMixing = NoMixing()
    optimizer: Optimizer = AdamW()
    schedule: Schedule = OneCycle()
    criterion: Criterion = LabelSmoothing()
    metric_loss: MetricLoss = NoMetricLoss()
    freezing: Freezing = LastBlocks()
    averaging: Averaging = EMA()
    epochs: Annotated[
        int, Field(ge=0, le=10_000, description="training epochs; 0: as many as the time allows")
    ] = 0
    views: Annotated[
        int,
        Field(ge=0, le=1_000, description="augmented views of each image; 0: set by the epochs"),
    ] = 0
    batch_size: Annotated[int, Field(ge=2, le=4096)] = 32
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    blend: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="share of the fine-tuned weights in the final ones; the rest are the "
            "initial weights (WiSE-FT, Wortsman et al., CVPR 2022)",
        ),
    ] = 1.0
    test_time_flip: Annotated[
        bool, Field(description="average the logits of an image and its mirror image")
    ] = False

    @property
    def closed_form(self) -> bool:
        """Whether the head is solved on frozen features, without any gradient steps."""
        solved = self.head.init == "probe" and not self.head.has_hidden_layer
        return bool(self.freezing.head_alone and solved)

    @model_validator(mode="after")
    def _makes_sense(self) -> "Recipe":
        reasons = broken_rules(self)
        if reasons:
            raise ValueError("; ".join(reasons))
        return self


RULES: tuple[tuple[str, Callable[[Recipe], bool]], ...] = (
    (
        "activation.where: freezing = head_only trains no backbone layer whose activation could "
        "be swapped; use where = head or another freezing",
        lambda r: r.freezing.head_alone and r.activation.in_suffix,
    ),
    (
        "activation.where: only head = mlp has an activation; use head = mlp or where = suffix",
        lambda r: r.activation.in_head and not r.head.has_hidden_layer,
    ),
    (
        "batch_mixing = cutmix needs images or feature maps, and freezing = head_only trains on "
        "pooled features; use mixup or another freezing",
        lambda r: r.freezing.head_alone and r.batch_mixing.needs_maps,
    ),
    (
        "batch_mixing: no gradient steps are taken, because the head is solved in closed form on "
        "frozen features; use head.init = random or another freezing",
        lambda r: r.closed_form and not r.batch_mixing.absent,
    ),
    (
        "metric_loss: the embedding is frozen, because freezing = head_only trains the last layer "
        "alone; use head = mlp or another freezing",
        lambda r: (
            r.freezing.head_alone and not r.head.has_hidden_layer and not r.metric_loss.absent
        ),
    ),
    (
        "head = nearest learns from a metric loss alone; set metric_loss or freezing = head_only",
        lambda r: r.head.remembers_images and r.metric_loss.absent and not r.freezing.head_alone,
    ),
    (
        "batch_mixing: head = nearest learns from a metric loss alone, which needs unmixed images; "
        "use batch_mixing = none",
        lambda r: r.head.remembers_images and not r.batch_mixing.absent,
    ),
    (
        "blend: head = nearest stores embeddings of the fine-tuned network, and blended weights "
        "compute others; leave blend at 1",
        lambda r: r.head.remembers_images and r.blend < 1,
    ),
    (
        "freezing: lp_ft and gradual start by training the head alone, and head = nearest has no "
        "parameters; use another freezing",
        lambda r: r.head.remembers_images and r.freezing.begins_with_head,
    ),
    (
        "metric_loss.per_class: a batch must hold at least two classes; use at most half of "
        "batch_size",
        lambda r: 2 * r.metric_loss.drawn_together > r.batch_size,
    ),
    (
        "augmentation = flip_crop without flips, crops and cutout changes nothing; "
        "use augmentation = none",
        lambda r: r.augmentation.is_idle,
    ),
    (
        "backbone.drop_path: freezing = head_only trains no block that could be skipped; use "
        "drop_path = 0 or another freezing",
        lambda r: r.freezing.head_alone and r.backbone.drop_path > 0,
    ),
    (
        "freezing: set blocks or boundary, not both",
        lambda r: r.freezing.names_boundary_twice,
    ),
    (
        "test_time_flip: augmentation.flip = false means that mirror images may differ in class; "
        "turn test_time_flip off or augmentation.flip on",
        lambda r: r.test_time_flip and not r.augmentation.allows_mirroring,
    ),
)
"""Invalid combinations: the reason, and a test that is true for a recipe that is one."""


def broken_rules(recipe: Recipe) -> list[str]:
    """Returns why the parts of a recipe do not fit together; none for one that makes sense."""
    return [reason for reason, broken in RULES if broken(recipe)]


NAMED: dict[str, Recipe] = {
    "default": Recipe(),
    "probe": Recipe(freezing=HeadOnly(), augmentation=NoAugmentation(), averaging=NoAveraging()),
    "naive": Recipe(
        head=Linear(init="random", features="last"),
        freezing=Full(),
        criterion=CrossEntropy(),
        augmentation=NoAugmentation(),
        schedule=Constant(),
        optimizer=AdamW(lr=1e-3, clip_norm=0, weight_decay=0),
        averaging=NoAveraging(),
    ),
}
"""A good default, a linear probe, and the naive fine-tuning that many tutorials start with."""


def parse_recipe(data: Mapping[str, Any], source: str = "The recipe") -> Recipe:
    """Returns the recipe in plain data.

    Args:
        data: Field names and values; a method's name stands for its default values.
        source: Where the data come from, for messages.

    Raises:
        RecipeError: If keys are unknown or values invalid; the message names all of them.

    Example:
        >>> parse_recipe({"optimizer": "sgd", "epochs": 5}).optimizer.lr
        0.01
    """
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        problems = "; ".join(_explain(detail) for detail in error.errors())
        raise RecipeError(
            f"{source}: {problems}" + ("" if problems.endswith("?") else ".")
        ) from None


def load_recipe(name_or_file: str) -> Recipe:
    """Returns a named recipe, or the one in a TOML or JSON file.

    Raises:
        RecipeError: If there is no such recipe or file, or if the file does not hold one.
    """
    if name_or_file in NAMED:
        return NAMED[name_or_file]
    path = Path(name_or_file)
    if path.suffix not in {".toml", ".json"}:
        known = ", ".join(NAMED)
        hint = did_you_mean(name_or_file, NAMED)
        raise RecipeError(
            f"Unknown recipe {name_or_file!r}{hint or '.'} Give one of {known}, or the path of a "
            ".toml or .json file."
        )
    try:
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except OSError as error:
        raise RecipeError(f"The recipe {path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise RecipeError(f"{path} is not valid {path.suffix[1:].upper()}: {error}.") from None
    if not isinstance(data, dict):
        raise RecipeError(f"{path} must hold one table of recipe fields.")
    return parse_recipe(data, str(path))


def with_settings(recipe: Recipe, settings: Iterable[str]) -> Recipe:
    """Returns the recipe with `family=method` and `family.field=value` settings applied in order.

    Raises:
        RecipeError: If a setting has no `=`, or its name or value is invalid.

    Example:
        >>> recipe = with_settings(Recipe(), ["optimizer=sgd", "optimizer.lr=0.1", "epochs=3"])
        >>> recipe.optimizer.name, recipe.optimizer.lr, recipe.epochs
        ('sgd', 0.1, 3)
    """
    data = recipe.model_dump()
    for setting in settings:
        path, equals, value = setting.partition("=")
        if not equals or not path:
            raise RecipeError(
                f"'--set {setting}' has no value; write for example --set optimizer.lr=3e-4."
            )
        head, *rest = path.strip().split(".")
        if not rest:
            data[head] = _scalar(value) if head not in FAMILIES else value.strip()
        elif len(rest) > 1 or head not in FAMILIES:
            parse_recipe({**data, path: value}, f"--set {setting}")
            raise RecipeError(f"'--set {setting}': {head!r} has no fields; use --set {head}=VALUE.")
        else:
            current = data[head]
            if isinstance(current, str):
                current = {"name": current}
            data[head] = {**current, rest[0]: _scalar(value)}
    return parse_recipe(data, "--set")


def to_toml(recipe: Recipe) -> str:
    """Returns the recipe as a TOML document, from which `load_recipe` reads the same recipe.

    Example:
        >>> print(to_toml(Recipe(epochs=3)).splitlines()[0])
        epochs = 3
    """
    fields = recipe.model_dump()
    lines = [f"{key} = {json.dumps(value)}" for key, value in fields.items() if key not in FAMILIES]
    for family_name in FAMILIES:
        lines += ["", f"[{family_name}]"]
        # JSON strings, numbers, booleans and flat lists are valid TOML values.
        lines += [f"{key} = {json.dumps(value)}" for key, value in fields[family_name].items()]
    return "\n".join(lines) + "\n"


def _scalar(text: str) -> Any:
    """Returns a value parsed as TOML, or as plain text if it is not valid TOML."""
    try:
        return tomllib.loads(f"value = {text.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()


def _explain(detail: ErrorDetails) -> str:
    """Returns one clause that says what is wrong, with the closest known name."""
    # pydantic adds the method's name to the location of a union's errors; users do not write it.
    location = [str(part) for part in detail["loc"]]
    if len(location) > 1 and location[0] in FAMILIES:
        names = {method_name(method) for method in FAMILIES[location[0]]}
        location = [location[0], *[part for part in location[1:] if part not in names]]
    path = ".".join(location)
    if detail["type"] == "union_tag_invalid":
        known = [method_name(method) for method in FAMILIES[location[0]]]
        name = str(detail["ctx"]["tag"])
        hint = did_you_mean(name, known) or f"; use {listed(known, 'or')}"
        return f"unknown {location[0].replace('_', ' ')} {name!r}{hint}"
    if detail["type"] == "extra_forbidden":
        return f"unknown key {path!r}{did_you_mean(location[-1], _known_keys(location))}"
    if detail["type"] == "literal_error" and location[-1] == "name":
        known = [method_name(method) for method in FAMILIES[location[0]]]
        name = str(detail["input"])
        hint = did_you_mean(name, known) or f"; use {listed(known, 'or')}"
        return f"unknown {location[0].replace('_', ' ')} {name!r}{hint}"
    if detail["type"] == "value_error" and not location:  # RULES hold complete clauses
        return str(detail["ctx"]["error"])
    message = detail["msg"][0].lower() + detail["msg"][1:]
    return f"{path} = {detail['input']!r}: {message}"


def _known_keys(location: list[str]) -> list[str]:
    if len(location) < 2:
        return list(Recipe.model_fields)
    return sorted({key for method in FAMILIES.get(location[0], ()) for key in method.model_fields})
