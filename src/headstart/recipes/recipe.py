"""The recipe: a complete choice of methods and their values, checked as a whole."""

from collections.abc import Callable
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from headstart.methods.activation import Activation, ActivationUnion, Keep
from headstart.methods.augmentation import Augmentation, AugmentationUnion, TrivialAugment
from headstart.methods.averaging import EMA, Averaging, AveragingUnion
from headstart.methods.backbone import Backbone, BackboneChoice
from headstart.methods.batch_mixing import BatchMixing, BatchMixingUnion, NoMixing
from headstart.methods.criterion import Criterion, CriterionUnion, LabelSmoothing
from headstart.methods.freezing import Freezing, FreezingUnion, LastBlocks
from headstart.methods.head import HeadChoice, HeadUnion, Linear
from headstart.methods.method import Method, members
from headstart.methods.metric_loss import MetricLoss, MetricLossUnion, NoMetricLoss
from headstart.methods.optimizer import AdamW, Optimizer, OptimizerUnion
from headstart.methods.schedule import OneCycle, Schedule, ScheduleUnion

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
    """One method per family, plus epochs, views, batch size, seed, and what follows training.

    Example:
        >>> Recipe(epochs=3).optimizer.name
        'adamw'
    """

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
    feature_flip: Annotated[
        bool,
        Field(
            description="mirror the cached feature maps at random in training, which costs nothing "
            "(as frozen feature augmentation, Bär et al., CVPR 2024)",
        ),
    ] = False
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
    train_resolution: Annotated[
        int,
        Field(
            ge=0,
            le=2048,
            description="side of the augmented views in pixels; 0: that of the evaluation "
            "(FixRes, Touvron et al., NeurIPS 2019)",
        ),
    ] = 0
    retrain_head: Annotated[
        bool,
        Field(
            description="solve the head once more after fine-tuning, on the features of the plain "
            "training images (classifier re-training, Kang et al., ICLR 2020)",
        ),
    ] = False
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
        "freezing = head_only trains no backbone layer whose activation could be swapped; use "
        "activation.where = head or another freezing",
        lambda r: r.freezing.head_alone and r.activation.in_suffix,
    ),
    (
        "activation.where = head needs a head with an activation, and only head = mlp has one; "
        "use head = mlp or activation.where = suffix",
        lambda r: r.activation.in_head and not r.head.has_hidden_layer,
    ),
    (
        "batch_mixing = cutmix needs images or feature maps, and freezing = head_only trains on "
        "pooled features; use mixup or another freezing",
        lambda r: r.freezing.head_alone and r.batch_mixing.needs_maps,
    ),
    (
        "batch_mixing needs gradient steps, and the head is solved in closed form on frozen "
        "features; use head.init = random or another freezing",
        lambda r: r.closed_form and not r.batch_mixing.absent,
    ),
    (
        "metric_loss trains the embedding, and the embedding is frozen by freezing = head_only; "
        "use head = mlp or another freezing",
        lambda r: (
            r.freezing.head_alone and not r.head.has_hidden_layer and not r.metric_loss.absent
        ),
    ),
    (
        "head = nearest learns from a metric loss alone; set metric_loss or freezing = head_only",
        lambda r: r.head.remembers_images and r.metric_loss.absent and not r.freezing.head_alone,
    ),
    (
        "head = nearest learns from a metric loss alone, which needs unmixed images; use "
        "batch_mixing = none",
        lambda r: r.head.remembers_images and not r.batch_mixing.absent,
    ),
    (
        "head = nearest stores embeddings of the fine-tuned network, and blended weights compute "
        "others; leave blend at 1",
        lambda r: r.head.remembers_images and r.blend < 1,
    ),
    (
        "train_resolution is the size of augmented views, and augmentation = none makes none; use "
        "an augmentation or train_resolution = 0",
        lambda r: r.augmentation.absent and r.train_resolution > 0,
    ),
    (
        "train_resolution leaves a head that knows features of another size, which only "
        "retrain_head puts right; turn retrain_head on or use train_resolution = 0",
        lambda r: r.train_resolution > 0 and not r.retrain_head,
    ),
    (
        "head = nearest has no parameters that retrain_head could solve; turn retrain_head off",
        lambda r: r.head.remembers_images and r.retrain_head,
    ),
    (
        "retrain_head solves the head on fine-tuned features, and freezing = head_only leaves them "
        "as they are; turn retrain_head off or use another freezing",
        lambda r: r.freezing.head_alone and r.retrain_head,
    ),
    (
        "freezing = lp_ft and gradual start by training the head alone, and head = nearest has no "
        "parameters; use another freezing",
        lambda r: r.head.remembers_images and r.freezing.begins_with_head,
    ),
    (
        "head.mean_of adds heads that see parts of head.features, each with head.normalize = unit; "
        "set both so, or leave head.mean_of out",
        lambda r: not r.head.holds_its_mean,
    ),
    (
        "metric_loss.per_class must leave room for at least two classes in a batch; use at most "
        "half of batch_size",
        lambda r: 2 * r.metric_loss.drawn_together > r.batch_size,
    ),
    (
        "augmentation = flip_crop without flips, crops and cutout changes nothing; "
        "use augmentation = none",
        lambda r: r.augmentation.is_idle,
    ),
    (
        "freezing = head_only trains no block that backbone.drop_path could skip; use "
        "backbone.drop_path = 0 or another freezing",
        lambda r: r.freezing.head_alone and r.backbone.drop_path > 0,
    ),
    (
        "freezing.blocks and freezing.boundary name the same thing; set one, not both",
        lambda r: r.freezing.names_boundary_twice,
    ),
    (
        "feature_flip mirrors feature maps, and freezing = head_only trains on pooled features; "
        "turn feature_flip off or use another freezing",
        lambda r: r.freezing.head_alone and r.feature_flip,
    ),
    (
        "feature_flip needs classes that mirroring does not change, and augmentation.flip = false "
        "means that mirror images may differ in class; turn feature_flip off or augmentation.flip "
        "on",
        lambda r: r.feature_flip and not r.augmentation.allows_mirroring,
    ),
    (
        "test_time_flip needs classes that mirroring does not change, and augmentation.flip = "
        "false means that mirror images may differ in class; turn test_time_flip off or "
        "augmentation.flip on",
        lambda r: r.test_time_flip and not r.augmentation.allows_mirroring,
    ),
)
"""Invalid combinations: the reason, and a test that is true for a recipe that is one."""


def broken_rules(recipe: Recipe) -> list[str]:
    """Returns why the parts of a recipe do not fit together; none for one that makes sense."""
    return [reason for reason, broken in RULES if broken(recipe)]
