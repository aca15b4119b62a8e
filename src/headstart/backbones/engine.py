"""Engines for frozen networks: ONNX Runtime on a CPU; PyTorch on a GPU or if export fails."""

import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from headstart.backbones.onnx import OnnxExportError, run_onnx, verified_session
from headstart.errors import DiskFullError

_FILES = 64
"""Number of files that an export may need."""

_FEW = 4
"""Images in a batch of one thread: what they need stays in the caches of its core."""


@dataclass(frozen=True)
class Engine:
    """Runs one frozen network on batches.

    Attributes:
        run: Maps a batch (B, ...) of uint8 or float32 to the network's output (B, ...).
        identity: What the output depends on besides the network; part of every cache key.
        batch_size: Views per batch.
        at_once: Number of batches that run at a time; see `outputs_of`.
        note: Why this is not the fastest engine; empty if it is.
        file: Bytes of the ONNX file that it runs, if they are kept for other machines.
    """

    run: Callable[[NDArray[Any]], NDArray[Any]]
    identity: dict[str, Any] = field(default_factory=dict)
    batch_size: int = 16
    at_once: int = 1
    note: str = ""
    file: bytes = field(default=b"", repr=False)


class Normalize(nn.Module):
    """Turns uint8 views (N, R, R, 3) into the floats (N, 3, R, R) that a backbone expects."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, views: torch.Tensor) -> torch.Tensor:
        """Normalises each channel."""
        return (views.permute(0, 3, 1, 2).float() - self.mean) / self.std


def make_engine(
    network: nn.Module, example: NDArray[Any], device: torch.device, *, keep_file: bool = False
) -> Engine:
    """Returns the fastest engine for `network` on `device`, verified against eager PyTorch.

    Args:
        network: Frozen network in eval mode.
        example: Batch of at least two inputs, uint8 or float.
        device: Device to run on.
        keep_file: Whether the engine keeps its ONNX file, if it has one.

    Raises:
        DiskFullError: If the folder for temporary files has no room for the network.
    """
    if device.type == "cuda":
        return _torch_engine(network, device, "")
    try:
        with tempfile.TemporaryDirectory(prefix="headstart-") as folder:
            path = Path(folder) / "n.onnx"
            session = verified_session(network, torch.from_numpy(example), path, threads=1)
            kept = path.read_bytes() if keep_file else b""
    except OnnxExportError as error:
        check_room(network, Path(tempfile.gettempdir()), ", or set TMPDIR to another folder")
        return _torch_engine(
            network, device, f"ONNX export failed ({error}); PyTorch is used instead"
        )
    # Threads that share a batch wait for each other at each layer; with one batch for each thread,
    # none does, and the last bits do not depend on their number.
    identity = {"engine": "onnxruntime", "version": onnxruntime.__version__, "batch_size": _FEW}
    return Engine(
        partial(run_onnx, session), identity, _FEW, at_once=torch.get_num_threads(), file=kept
    )


def outputs_of(engine: Engine, batches: Iterable[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    """Yields the outputs of batches in their order; as many run at a time as the engine allows.

    Example:
        >>> double = Engine(lambda batch: 2 * batch, at_once=2)
        >>> [int(each[0]) for each in outputs_of(double, [np.ones(1), np.zeros(1)])]
        [2, 0]
    """
    if engine.at_once == 1:
        yield from map(engine.run, batches)
        return
    running = deque[Future[NDArray[Any]]]()
    with ThreadPoolExecutor(engine.at_once) as pool:
        try:
            for batch in batches:
                running.append(pool.submit(engine.run, batch))
                if len(running) > engine.at_once:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for unwanted in running:
                unwanted.cancel()


def check_room(network: nn.Module, place: Path, way_out: str = "") -> None:
    """Refuses to continue without a file that had no room: other outputs would follow.

    Args:
        network: The network whose export failed.
        place: Folder that the file was written to.
        way_out: What to do other than to make room there, as a clause.

    Raises:
        DiskFullError: If the folder cannot hold the network twice.
    """
    needed = 2 * sum(tensor.nbytes for tensor in network.state_dict().values())
    disk = os.statvfs(place)
    no_names = disk.f_files > 0 and disk.f_favail < _FILES
    if no_names or disk.f_bavail * disk.f_frsize < needed:
        raise DiskFullError(
            f"There is no space left in {place} for the exported network. Make room there{way_out}."
        )


def identity_engine() -> Engine:
    """Returns the engine of an empty prefix, whose output is the view itself."""
    return Engine(lambda batch: batch, {"engine": "none"}, batch_size=64)


def _torch_engine(network: nn.Module, device: torch.device, note: str) -> Engine:
    on_gpu = device.type == "cuda"
    network = network.to(device)
    network.to(memory_format=torch.channels_last)

    def run(batch: NDArray[Any]) -> NDArray[Any]:
        with (
            torch.inference_mode(),
            torch.autocast(device.type, torch.bfloat16, enabled=on_gpu),
        ):
            # torch warns about read-only arrays, such as those of a memory map.
            views = torch.from_numpy(np.require(batch, requirements="W"))
            output: torch.Tensor = network(views.to(device))
            return output.float().cpu().numpy()

    batch_size = 256 if on_gpu else 16
    identity = {
        "engine": "pytorch",
        "version": torch.__version__,
        "device": device.type,
        "precision": "bfloat16" if on_gpu else "float32",
        # Eager PyTorch is not bit-identical across batch sizes and thread counts.
        "batch_size": batch_size,
        "threads": torch.get_num_threads(),
    }
    return Engine(run, identity, batch_size, note=note)
