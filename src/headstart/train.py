"""The training loop: a generator of one record an epoch; the caller prints, stops or goes on."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from torch import nn

from headstart.errors import HeadstartError
from headstart.evaluate import softmax
from headstart.recipe import Recipe


class EpochRecord(BaseModel):
    """What one epoch brought.

    Attributes:
        epoch: Number of the epoch, from 1; 0 is the state before training.
        progress: Share of the schedule that lies behind, in [0, 1].
        lr: Learning rate of the backbone's parameters at the end of the epoch.
        train_loss: Mean value of the criterion over the epoch; NaN for epoch 0.
        val_loss: Mean log loss on validation of the weights that would be kept now.
        val_accuracy: Their accuracy on validation.
        images_per_s: Images trained on in a second, validation not counted.
        seconds: Wall time of the epoch.
    """

    model_config = ConfigDict(frozen=True)

    epoch: int
    progress: float
    lr: float
    train_loss: float | None
    val_loss: float
    val_accuracy: float
    images_per_s: float | None
    seconds: float


@dataclass(frozen=True)
class TrainData:
    """Cached activations and labels.

    Attributes:
        views: One array (N, ...) a view of the training images.
        labels: (N,).
        val: Activations of the evaluation views of the validation images (M, ...).
        val_labels: (M,).
    """

    views: Sequence[NDArray[Any]]
    labels: NDArray[np.int64]
    val: NDArray[Any]
    val_labels: NDArray[np.int64]


def train(
    suffix: nn.Module,
    head: nn.Module,
    data: TrainData,
    recipe: Recipe,
    epochs: int,
    deadline: float | None = None,
    device: torch.device | None = None,
) -> Iterator[EpochRecord]:
    """Trains suffix and head in place and yields a record an epoch.

    After the last record they hold the weights to keep: averaged ones where the recipe averages.

    Args:
        suffix: Activations (N, ...) to features (N, F); every parameter in it is trained.
        head: Features (N, F) to logits (N, C).
        data: What to train on.
        recipe: Optimizer, schedule, criterion, averaging, BatchNorm, batch size, seed.
        epochs: Length of the schedule.
        deadline: On `time.monotonic`. Where steps are slower than planned, the schedule runs by
            the clock instead, so that it is complete when the time is up.
        device: Where to train; where the modules already are by default.

    Raises:
        HeadstartError: If the loss is no longer finite.
    """
    device = device or torch.device("cpu")
    model = nn.Sequential(suffix, head).to(device)
    model.to(memory_format=torch.channels_last)
    freezing = recipe.freezing
    freeze_statistics = getattr(freezing, "batchnorm", "frozen") == "frozen"
    optimizer = recipe.optimizer.build(_parameter_groups(suffix, head, recipe))
    full_rates = [group["lr"] for group in optimizer.param_groups]
    criterion = recipe.criterion.build()
    kept = _averaged_tensors(model)
    average = [tensor.detach().clone() for tensor in kept]
    total_steps = epochs * _steps(len(data.labels), recipe.batch_size)
    start = time.monotonic()
    torch.manual_seed(recipe.seed)
    step, progress, epoch = 0, 0.0, 0
    while progress < 1:
        epoch_start = time.monotonic()
        _train_mode(model, freeze_statistics)
        losses, seen = 0.0, 0
        for rows in _batches(len(data.labels), recipe.batch_size, recipe.seed, epoch):
            progress = step / total_steps
            if deadline is not None:
                allowed = max(deadline - start, 1e-9)
                progress = max(progress, (time.monotonic() - start) / allowed)
            if progress >= 1:
                break
            for group, rate in zip(optimizer.param_groups, full_rates, strict=True):
                group["lr"] = rate * recipe.schedule.factor(progress)
            inputs = _to_tensor(_gather(data.views, rows, epoch), device)
            targets = torch.from_numpy(data.labels[rows]).to(device)
            losses += len(rows) * _step(
                model, criterion, optimizer, inputs, targets, recipe.optimizer.clip_norm
            )
            _average(average, kept, recipe.averaging.decay(step, total_steps))
            seen += len(rows)
            step += 1
        if not seen:
            break
        if not np.isfinite(losses):
            raise HeadstartError(
                f"training diverged in epoch {epoch + 1}: the loss is not finite. "
                "Try a smaller --set optimizer.lr."
            )
        progress = max(progress, step / total_steps)
        trained = time.monotonic()
        last = [tensor.detach().clone() for tensor in kept]
        _copy(average, kept)
        val_loss, val_accuracy = score(predict(model, data.val, device=device), data.val_labels)
        epoch += 1
        if progress < 1:
            _copy(last, kept)
        yield EpochRecord(
            epoch=epoch,
            progress=progress,
            lr=optimizer.param_groups[0]["lr"],
            train_loss=losses / seen,
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            images_per_s=seen / max(trained - epoch_start, 1e-9),
            seconds=time.monotonic() - epoch_start,
        )
    _copy(average, kept)
    model.eval()


def predict(
    model: nn.Module, inputs: NDArray[Any], batch_size: int = 64, device: torch.device | None = None
) -> NDArray[np.float32]:
    """Returns the model's outputs (N, C) in eval mode for activations (N, ...)."""
    model.eval()
    device = device or torch.device("cpu")
    with torch.inference_mode():
        outputs = [
            model(_to_tensor(inputs[start : start + batch_size], device)).float().cpu().numpy()
            for start in range(0, len(inputs), batch_size)
        ]
    return np.concatenate(outputs)


def score(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> tuple[float, float]:
    """Returns mean log loss (nats) and accuracy."""
    likelihood = softmax(logits)[np.arange(len(labels)), labels]
    loss = -np.log(np.maximum(likelihood, 1e-12)).mean()
    return float(loss), float((logits.argmax(1) == labels).mean())


def _step(
    model: nn.Module,
    criterion: nn.Module,
    optimizer: torch.optim.Optimizer,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    clip_norm: float,
) -> float:
    """Takes one step and returns the criterion's value before it."""
    on_gpu = inputs.device.type == "cuda"
    with torch.autocast(inputs.device.type, torch.bfloat16, enabled=on_gpu):
        loss = criterion(model(inputs), targets)
    loss.backward()
    if clip_norm:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(parameters, clip_norm)
    optimizer.step()
    optimizer.zero_grad()
    return float(loss.detach())


def _steps(rows: int, batch_size: int) -> int:
    return max(1, -(-rows // batch_size))


def _batches(rows: int, batch_size: int, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """Returns one epoch's batches, of nearly equal size: none is too small for BatchNorm."""
    order = np.random.default_rng([seed, epoch]).permutation(rows)
    return np.array_split(order, _steps(rows, batch_size))


def _gather(views: Sequence[NDArray[Any]], rows: NDArray[np.int64], epoch: int) -> NDArray[Any]:
    """Returns a batch in which image i shows view (epoch + i) mod K: each epoch sees all views."""
    batch = np.empty((len(rows), *views[0].shape[1:]), views[0].dtype)
    for position, row in enumerate(rows):
        batch[position] = views[(epoch + int(row)) % len(views)][row]
    return batch


def _to_tensor(batch: NDArray[Any], device: torch.device) -> torch.Tensor:
    """Copies a batch to the device: as float32 unless it is uint8, maps in channels-last order."""
    tensor = torch.from_numpy(np.array(batch)).to(device)
    if tensor.dtype == torch.uint8:
        return tensor
    layout = torch.channels_last if tensor.ndim == 4 else torch.contiguous_format
    return tensor.float().contiguous(memory_format=layout)


def _train_mode(model: nn.Module, freeze_statistics: bool) -> None:
    model.train()
    if freeze_statistics:
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


def _parameter_groups(suffix: nn.Module, head: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Returns groups by place and shape: norms and biases are not decayed."""
    groups = []
    for module, factor in ((suffix, 1.0), (head, recipe.optimizer.head_lr_factor)):
        for decayed in (True, False):
            parameters = [
                p for p in module.parameters() if p.requires_grad and (p.ndim > 1) == decayed
            ]
            if parameters:
                decay = recipe.optimizer.weight_decay if decayed else 0.0
                lr = recipe.optimizer.lr * factor
                groups.append({"params": parameters, "lr": lr, "weight_decay": decay})
    return groups


def _averaged_tensors(model: nn.Module) -> list[torch.Tensor]:
    """Returns all parameters and floating-point buffers: BatchNorm's statistics move with them."""
    buffers = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
    return [p.data for p in model.parameters() if p.requires_grad] + buffers


def _average(average: list[torch.Tensor], current: list[torch.Tensor], decay: float) -> None:
    with torch.no_grad():
        for mean, value in zip(average, current, strict=True):
            mean.lerp_(value, 1 - decay)


def _copy(source: list[torch.Tensor], target: list[torch.Tensor]) -> None:
    with torch.no_grad():
        for old, new in zip(target, source, strict=True):
            old.copy_(new)
