"""Batches: which images are trained on together, and which of their views."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray


class Images(Protocol):
    """What of an array (N, ...) is used here, so that its rows may be read when they are needed."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, ...)."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the activations."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, key: Any, /) -> NDArray[Any]: ...


def steps_an_epoch(rows: int, batch_size: int) -> int:
    """Returns the number of batches in an epoch, each of two rows at least where there are two."""
    return max(1, min(-(-rows // batch_size), rows // 2))


def epoch_batches(
    labels: NDArray[np.int64], batch_size: int, seed: int, epoch: int, per_class: int = 0
) -> list[NDArray[np.int64]]:
    """Returns the rows of one epoch's batches, of nearly equal size: none too small for BatchNorm.

    Args:
        labels: (N,).
        batch_size: Rows a batch, about.
        seed: Seed for the order.
        epoch: Number of the epoch: each has an order of its own.
        per_class: At least so many rows of one class come together, where a class has them; those
            of each class are spread over the epoch, so that classes of one size take turns (an
            m-per-class sampler that still shows every row once an epoch).
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
    # A batch ends with the chunk that reaches its share of the rows.
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


def gather(views: Sequence[Images], rows: NDArray[np.int64], epoch: int) -> NDArray[Any]:
    """Returns a batch in which image i shows view (epoch + i) mod K: each epoch sees all views."""
    batch = np.empty((len(rows), *views[0].shape[1:]), views[0].dtype)
    for position, row in enumerate(rows):
        batch[position] = views[(epoch + int(row)) % len(views)][row]
    return batch


def to_tensor(batch: NDArray[Any], device: torch.device) -> torch.Tensor:
    """Copies a batch to the device: as float32 unless it is uint8, maps in channels-last order."""
    tensor = torch.from_numpy(np.array(batch)).to(device)
    if tensor.dtype == torch.uint8:
        return tensor
    layout = torch.channels_last if tensor.ndim == 4 else torch.contiguous_format
    return tensor.float().contiguous(memory_format=layout)
