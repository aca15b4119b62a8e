"""The training loop: a generator of one record per epoch; the caller may stop it at any time."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from headstart.artifacts.records import EpochRecord
from headstart.errors import DivergedError, RecipeError
from headstart.evaluation.calibration import score
from headstart.evaluation.metrics import right_bits
from headstart.inputs.large_arrays import joined
from headstart.methods.metric_loss import MetricTerm
from headstart.recipes.recipe import Recipe
from headstart.training.activity import Observed, compare_views, fingerprints
from headstart.training.averaging import (
    WeightPath,
    begin_path,
    finish_path,
    follow,
    go_on,
    keep_epoch,
    use_average,
)
from headstart.training.batches import RowsReader, epoch_batches, gather, steps_an_epoch, to_tensor
from headstart.training.freezing import (
    Guard,
    inspect,
    put_under_guard,
    retake_statistics,
    train_mode,
    wake,
)
from headstart.training.network import TrainableNetwork
from headstart.training.pace import Deadline, begin, watched
from headstart.training.step import Stepper, make_stepper, note_clipping, take_step


@dataclass(frozen=True)
class TrainData:
    """Cached activations and labels for training and validation.

    Attributes:
        views: One array (N, ...) per view of the training images.
        labels: Class numbers (N,), in 0 … C-1; or 1 where an image has a label, (N, C).
        val: Activations of the evaluation views of the validation images (M, ...); None if
            no images are held out.
        val_labels: (M,).
        plain: Activations of the evaluation views of the training images (N, ...), if a head stores
            them or views are compared with them.
        val_mirrored: `val` for the mirror images, if the logits of both are averaged.
        space: Dimensions of height and width of the activations; may be empty.
        outputs: Number of classes of the head, if some have no image here.
    """

    views: Sequence[RowsReader]
    labels: NDArray[np.int64]
    val: RowsReader | None
    val_labels: NDArray[np.int64]
    plain: RowsReader | None = None
    val_mirrored: RowsReader | None = None
    space: tuple[int, ...] = ()
    outputs: int = 0

    @property
    def classes(self) -> int:
        """Number of classes C."""
        if self.labels.ndim == 2:
            return len(self.labels[0])
        return max(self.outputs, 1 + int(max(self.labels.max(), self.val_labels.max(initial=0))))

    @property
    def counts(self) -> NDArray[np.int64]:
        """Number of training images by class (C,)."""
        if self.labels.ndim == 2:
            return np.asarray(self.labels.sum(0))
        return np.bincount(self.labels, minlength=self.classes)


def train(
    network: TrainableNetwork,
    data: TrainData,
    recipe: Recipe,
    epochs: int,
    deadline: Deadline | None = None,
) -> Iterator[EpochRecord]:
    """Trains a network in place and yields one record per epoch.

    At each record the network holds the weights that it evaluates, averaged if the recipe averages;
    at the last one, those to keep. Each also holds the observed effect of the methods so far.

    Args:
        network: Network to train.
        data: Training and validation data.
        recipe: Recipe. Its backbone, activation and augmentation are not read: they are already
            in the suffix and the data.
        epochs: Length of the schedule.
        deadline: End of training. If steps are slower than planned, the schedule follows the
            clock, so it is complete at the deadline.

    Raises:
        RecipeError: If the recipe pastes boxes into activations without height and width.
        DivergedError: If the loss or an output on a validation image is no longer finite.
        HeadstartError: If a method did nothing, or a frozen tensor changed.
    """
    device = network.device
    model = network.model.to(device)
    model.to(memory_format=torch.channels_last)
    check_space(recipe, data.space)
    term = _metric_term(network, data, recipe)
    groups = parameter_groups(network, term, recipe)
    optimizer = recipe.optimizer.build(groups)
    fixed = recipe.freezing.freezes_statistics
    guard = put_under_guard(network.suffix, network.frozen, fixed, optimizer.param_groups)
    path = begin_path(recipe.averaging, network.suffix, network.head)
    seen = _observed(recipe, data, groups, len(guard.still))
    stepper = make_stepper(network, data.counts, recipe, optimizer, term, data.space, seen)
    total_steps = epochs * steps_an_epoch(len(data.labels), recipe.batch_size)
    torch.manual_seed(recipe.seed)
    start, progress, epoch = begin(deadline), 0.0, 0
    while progress < 1:
        epoch_start = time.monotonic()
        train_mode(model, guard)
        batches = _batches(data, recipe, epoch)
        losses, images = torch.zeros((), dtype=torch.float64, device=device), 0
        for rows in watched(batches, deadline):
            progress = max(seen.steps / total_steps, _share_of_time(start, deadline))
            if progress >= 1 and (images or not epoch):  # every epoch has at least one step
                break
            if wake(guard, progress, seen):
                train_mode(model, guard)
            _set_rates(optimizer, recipe, progress)
            inputs = to_tensor(gather(data.views, rows, epoch), device)
            labels = torch.from_numpy(data.labels[rows]).to(device)
            losses += len(rows) * take_step(stepper, inputs, labels).double()
            follow(path, progress, total_steps, seen)
            images += len(rows)
        if not images:
            break
        train_loss = _read_back(stepper, losses, epoch + 1) / images
        trained = time.monotonic()
        epoch += 1
        # With several images of each class per batch, there may be fewer batches than planned.
        progress = 1.0 if epoch == epochs else max(progress, seen.steps / total_steps)
        use_average(path, seen)
        val_loss, val_accuracy, val_right = _validate(network, data)
        if recipe.averaging.chooses_by_validation:
            # The weights of the last step: a soup has no other average.
            keep_epoch(path, _known(val_loss))
        if progress >= 1 and _finish(network, data, path, guard, batches, seen):
            val_loss, val_accuracy, val_right = _validate(network, data)
        acted = fingerprints(recipe, seen)
        if progress < 1:
            go_on(path)
        yield EpochRecord(
            epoch=epoch,
            progress=min(progress, 1.0),
            lr=_rate_of_last_block(optimizer),
            train_loss=train_loss,
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            images_per_s=images / max(trained - epoch_start, 1e-9),
            seconds=time.monotonic() - epoch_start,
            acted=acted,
            val_right=val_right,
        )
    model.requires_grad_(True)
    model.eval()


def predict(
    model: nn.Module, inputs: RowsReader, batch_size: int = 64, device: torch.device | None = None
) -> NDArray[np.float32]:
    """Returns the model's outputs (N, C) in eval mode for activations (N, ...)."""
    model.eval()
    device = device or torch.device("cpu")
    with torch.inference_mode():
        outputs = (
            model(to_tensor(inputs[start : start + batch_size], device)).float().cpu().numpy()
            for start in range(0, len(inputs), batch_size)
        )
        return joined(outputs, len(inputs))


def validation_logits(
    model: nn.Module, data: TrainData, device: torch.device
) -> NDArray[np.float32]:
    """Returns validation logits (M, C), averaged with those of any mirror images."""
    assert data.val is not None
    logits = predict(model, data.val, device=device)
    if data.val_mirrored is not None:
        logits += predict(model, data.val_mirrored, device=device)
        logits /= 2
    return logits


def _validate(network: TrainableNetwork, data: TrainData) -> tuple[float | None, float | None, str]:
    """Returns validation log loss, accuracy and correct images for the current weights."""
    head, device = network.head, network.device
    if head.remembers_images:
        assert data.plain is not None
        embed = nn.Sequential(network.suffix, head.embed)
        embeddings = torch.from_numpy(predict(embed, data.plain, device=device))
        head.remember(embeddings.to(device), torch.from_numpy(data.labels))
    if data.val is None:
        return None, None, ""
    logits = validation_logits(network.model, data, device)
    if not np.isfinite(logits).all():
        raise DivergedError(
            "Training diverged: the outputs of the network are not finite. "
            "Try a lower learning rate with --set optimizer.lr."
        )
    return *score(logits, data.val_labels), right_bits(logits, data.val_labels)


def _known(loss: float | None) -> float:
    if loss is None:
        raise RecipeError(
            "averaging = soup needs held-out images, and none are held out. Use another averaging."
        )
    return loss


def _batches(data: TrainData, recipe: Recipe, epoch: int) -> list[NDArray[np.int64]]:
    together = recipe.metric_loss.drawn_together
    return epoch_batches(data.labels, recipe.batch_size, recipe.seed, epoch, together)


def _set_rates(optimizer: torch.optim.Optimizer, recipe: Recipe, progress: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["full_lr"] * recipe.schedule.factor(min(progress, 1.0))


def _finish(
    network: TrainableNetwork,
    data: TrainData,
    path: WeightPath,
    guard: Guard,
    batches: Sequence[NDArray[np.int64]],
    seen: Observed,
) -> bool:
    """Loads the final weights into the modules and checks the frozen tensors.

    Returns:
        True if this changed the weights in the modules.
    """
    finish_path(path, lambda: _known(_validate(network, data)[0]), seen)
    if path.method.needs_fresh_statistics and not guard.freeze_statistics:
        # The statistics of averaged weights are not the average of the statistics.
        inputs = (to_tensor(gather(data.views, rows, 0), network.device) for rows in batches)
        retake_statistics(network.model, guard, inputs)
    inspect(guard, seen)
    return path.method.chooses_by_validation or path.method.needs_fresh_statistics


def check_space(recipe: Recipe, space: tuple[int, ...]) -> None:
    """Checks that boxes are only pasted into activations with height and width, and maps mirrored.

    Raises:
        RecipeError: If the recipe does one of these and there is no height and width.
    """
    if recipe.feature_flip and len(space) != 2:
        raise RecipeError(
            "feature_flip mirrors feature maps, and at this boundary there is no height and width "
            "(a vision transformer's tokens, or features). Turn it off or use freezing = full."
        )
    if recipe.batch_mixing.needs_maps and len(space) != 2:
        raise RecipeError(
            "batch_mixing = cutmix pastes boxes, and at this boundary there is no height and width "
            "(a vision transformer's tokens, or features). Use mixup or freezing = full."
        )


def _read_back(stepper: Stepper, losses: torch.Tensor, epoch: int) -> float:
    """Returns the sum of the losses of an epoch, and counts its clipped steps."""
    loss = float(losses)
    if not np.isfinite(loss):
        raise DivergedError(
            f"Training diverged in epoch {epoch}: the loss is not finite. "
            "Try a lower learning rate with --set optimizer.lr."
        )
    note_clipping(stepper)
    return loss


def _share_of_time(start: float, deadline: Deadline | None) -> float:
    if deadline is None:
        return 0.0
    return (time.monotonic() - start) / max(deadline.at - start, 1e-9)


def _metric_term(network: TrainableNetwork, data: TrainData, recipe: Recipe) -> MetricTerm | None:
    with torch.inference_mode():
        some = to_tensor(data.views[0][:2], network.device)
        embedding = network.head.eval().embed(network.suffix.eval()(some)).shape[1]
    torch.manual_seed(recipe.seed)  # the centres of ArcFace are random
    term: MetricTerm | None = recipe.metric_loss.build(embedding, data.classes, network.device)
    return term


def parameter_groups(
    network: TrainableNetwork, term: MetricTerm | None, recipe: Recipe
) -> list[dict[str, Any]]:
    """Returns parameter groups by learning rate, start and shape; norms and biases do not decay.

    The blocks come first, nearest the input first, then the head, then the metric term.
    """
    blocks = network.blocks
    if blocks is None:
        blocks = [tuple(network.suffix.parameters())]
    method, freezing = recipe.optimizer, recipe.freezing
    parts: list[tuple[str, Sequence[nn.Parameter], float, float]] = []
    if not freezing.head_alone:
        starts, factors = freezing.starts(len(blocks)), freezing.rate_factors(len(blocks))
        for number, block in enumerate(blocks):
            parts.append(("backbone", block, method.lr * factors[number], starts[number]))
    head_rate = method.lr * method.head_lr_factor
    parts.append(("head", list(network.head.parameters()), head_rate, 0.0))
    if term is not None:
        parts.append(("metric term", term.parameters, head_rate, 0.0))
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for place, parameters, rate, start in parts:
        for parameter in parameters:
            decay = method.weight_decay if parameter.ndim > 1 else 0.0
            settings = {
                "lr": rate, "full_lr": rate, "weight_decay": decay, "start": start, "place": place,
            }  # fmt: skip
            key = (*settings.values(), parameter.ndim > 1)
            groups.setdefault(key, {"params": [], **settings})["params"].append(parameter)
    return list(groups.values())


def _observed(
    recipe: Recipe, data: TrainData, groups: list[dict[str, Any]], frozen: int
) -> Observed:
    seen = Observed(frozen=frozen, trained=sum(len(group["params"]) for group in groups))
    rates = [group["lr"] for group in groups if group["place"] == "backbone"]
    if rates:
        seen.rates_by_block = min(rates), max(rates)
    if data.plain is not None and not recipe.augmentation.absent:
        compare_views(seen, data.views, data.plain)
    return seen


def _rate_of_last_block(optimizer: torch.optim.Optimizer) -> float:
    """Returns the learning rate next to the head, or that of the head if it trains alone."""
    groups = optimizer.param_groups
    rates = [group["lr"] for group in groups if group["place"] == "backbone"]
    return float(rates[-1] if rates else groups[0]["lr"])
