"""Heat maps of a classifier: Grad-CAM (Selvaraju et al., ICCV 2017) with the package grad-cam."""

import time
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from headstart.artifacts.bundle import Classifier
from headstart.errors import HeadstartError

_BATCH = 8


class HeatError(HeadstartError):
    """No heat map can be made for this network or on this machine."""


class _Logits(nn.Module):
    """The first member of a classifier: float views (N, 3, R, R) in 0 … 255 to logits (N, C)."""

    def __init__(self, network: Classifier) -> None:
        super().__init__()
        self.trunk, self.branch = network.trunk, network.branches[0]
        self.head = network.heads[0]

    def forward(self, views: torch.Tensor) -> torch.Tensor:
        """Returns the logits."""
        logits: torch.Tensor = self.head(self.branch(self.trunk(views.permute(0, 2, 3, 1))))
        return logits


def heat_maps(
    network: Classifier,
    views: NDArray[np.uint8],
    classes: Sequence[int],
    until: float | None = None,
) -> NDArray[np.float32]:
    """Returns heat maps (M, R, R) in 0 … 1 of the parts of views that support a class.

    They are those of the first member of an ensemble, without mirror images.

    Args:
        network: Classifier in eval mode.
        views: uint8 views (N, R, R, 3).
        classes: Class number of each view (N).
        until: Deadline on `time.monotonic`; M is the number of views until then.

    Raises:
        HeatError: If the network has no feature map near its end, or the package is missing.
    """
    try:
        from pytorch_grad_cam import GradCAM  # noqa: PLC0415 - it brings OpenCV
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget  # noqa: PLC0415
    except ImportError as error:
        raise HeatError(
            f"they need the package grad-cam (pip install 'headstart[explain]'): {error}"
        ) from None
    model = _Logits(network).eval()
    inputs = torch.from_numpy(views).permute(0, 3, 1, 2).float()
    layer, channels_last = _last_map(model, inputs[:1], views.shape[1] // 4)
    reshape = (lambda maps: maps.permute(0, 3, 1, 2)) if channels_last else None
    found = [np.empty((0, *views.shape[1:3]), np.float32)]
    trained = [p for p in model.parameters() if p.requires_grad]
    model.requires_grad_(False)  # gradients are needed from the map on, and of no weight
    watched = layer.register_forward_hook(_starting_gradients)
    try:
        with GradCAM(model=model, target_layers=[layer], reshape_transform=reshape) as cam:
            for start in range(0, len(views), _BATCH):
                if until is not None and time.monotonic() > until:
                    break
                batch = inputs[start : start + _BATCH]
                targets = [ClassifierOutputTarget(c) for c in classes[start : start + _BATCH]]
                found.append(np.asarray(cam(input_tensor=batch, targets=targets), np.float32))
    finally:
        watched.remove()
        for parameter in trained:
            parameter.requires_grad_(True)
    return np.concatenate(found)


def _starting_gradients(_: nn.Module, __: object, maps: torch.Tensor) -> torch.Tensor:
    """Returns the maps as the place where gradients end; a copy, as later layers may change it."""
    return maps.detach().requires_grad_(True).clone()


def _last_map(model: nn.Module, views: torch.Tensor, largest: int) -> tuple[nn.Module, bool]:
    """Returns the last module whose output is a map, and whether channels are its last dimension.

    Convolutional maps shrink; a larger square output is attention between tokens.

    Raises:
        HeatError: If there is no map after the first quarter of the network.
    """
    seen: list[tuple[nn.Module, tuple[int, ...]]] = []

    def note(module: nn.Module, _: object, output: object) -> None:
        shape = tuple(output.shape) if isinstance(output, torch.Tensor) else ()
        seen.append((module, shape))

    hooks = [module.register_forward_hook(note) for module in model.modules()]
    try:
        with torch.inference_mode():
            model(views)
    finally:
        for hook in hooks:
            hook.remove()
    for place in reversed(range(len(seen) // 4, len(seen))):
        module, shape = seen[place]
        if len(shape) == 4 and largest >= shape[2] == shape[3] > 1:
            return module, False
        if len(shape) == 4 and largest >= shape[1] == shape[2] > 1:
            return module, True
    raise HeatError("this network has no map of features near its end")
