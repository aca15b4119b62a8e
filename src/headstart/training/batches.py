"""Batches: the images of each training step, and their views."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray


class RowsReader(Protocol):
    """An array (N, ...) whose rows may be read on demand."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape (N, ...)."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the activations."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, key: Any, /) -> NDArray[Any]: ...


def steps_an_epoch(rows: int, batch_size: int) -> int:
    """Returns the number of batches in an epoch; each has at least two rows if possible.

    Example:
        >>> steps_an_epoch(rows=100, batch_size=32)
        4
    """
    return max(1, min(-(-rows // batch_size), rows // 2))


def epoch_batches(
    labels: NDArray[np.int64], batch_size: int, seed: int, epoch: int, per_class: int = 0
) -> list[NDArray[np.int64]]:
    """Returns the rows of the batches of one epoch, of nearly equal size.

    No batch is too small for BatchNorm.

    Args:
        labels: Class numbers (N,).
        batch_size: Approximate number of rows per batch.
        seed: Seed for the order.
        epoch: Number of the epoch; each epoch has its own order.
        per_class: Smallest number of rows of a class that come together, if the class has as many.
            The rows of each class are spread over the epoch: an m-per-class sampler that uses every
            row once per epoch.

    Example:
        >>> batches = epoch_batches(np.array([0, 1] * 4), batch_size=4, seed=0, epoch=0)
        >>> sorted(np.concatenate(batches).tolist())
        [0, 1, 2, 3, 4, 5, 6, 7]
    """
    random = np.random.default_rng([seed, epoch])
    number = steps_an_epoch(len(labels), batch_size)
    if not per_class:
        return np.array_split(random.permutation(len(labels)), number)
    placed: list[tuple[float, int, NDArray[np.int64]]] = []
    order = random.permutation(np.unique(labels))
    for turn, label in enumerate(order):
        rows = random.permutation(np.flatnonzero(labels == label))
        parts = np.array_split(rows, max(1, len(rows) // per_class))
        within = (turn + 0.5) / len(order)
        placed += [((part + within) / len(parts), turn, chunk) for part, chunk in enumerate(parts)]
    chunks = [chunk for _, _, chunk in sorted(placed, key=lambda each: each[:2])]
    # A batch ends with the chunk that completes its share of the rows.
    ends = np.cumsum([len(chunk) for chunk in chunks])
    batch_of = np.minimum((ends - 1) * number // len(labels), number - 1)
    batches: list[NDArray[np.int64]] = []
    for number in np.unique(batch_of):
        chosen = [c for c, batch in zip(chunks, batch_of, strict=True) if batch == number]
        if batches and min(len(batches[-1]), sum(map(len, chosen))) == 1:
            batches[-1] = np.concatenate([batches[-1], *chosen])
        else:
            batches.append(np.concatenate(chosen))
    return batches


def gather(views: Sequence[RowsReader], rows: NDArray[np.int64], epoch: int) -> NDArray[Any]:
    """Returns a batch with view (epoch + i) mod K of image i; every epoch contains all views.

    Example:
        >>> gather([np.array([10, 11]), np.array([20, 21])], np.array([0, 1]), epoch=0).tolist()
        [10, 21]
    """
    batch = np.empty((len(rows), *views[0].shape[1:]), views[0].dtype)
    for position, row in enumerate(rows):
        batch[position] = views[(epoch + int(row)) % len(views)][row]
    return batch


def to_tensor(batch: NDArray[Any], device: torch.device) -> torch.Tensor:
    """Copies a batch to the device: uint8 or else float32, with maps in channels-last order."""
    tensor = torch.from_numpy(np.array(batch)).to(device)
    if tensor.dtype == torch.uint8:
        return tensor
    layout = torch.channels_last if tensor.ndim == 4 else torch.contiguous_format
    return tensor.float().contiguous(memory_format=layout)
