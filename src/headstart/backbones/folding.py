"""Training through frozen BatchNorm statistics without a pass over the activations for each.

A BatchNorm layer whose statistics are frozen is a scale and a shift for each channel. Both are
applied to the weights of the convolution before it, which are few, instead of to its output. The
layers keep their own parameters, and gradients reach them through the product: the function and
its gradients are the same up to rounding.
"""

import copy

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, fx, nn
from torch.func import functional_call

_CONVOLUTIONS = (nn.Conv2d, Conv2dSame)
"""Layers that are linear in their weight; others may normalize it first."""

_NORMS = (nn.BatchNorm2d, BatchNormAct2d)


class FoldedNorm(nn.Module):
    """A convolution and the BatchNorm layer behind it, which it shares with their network."""

    def __init__(self, convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.convolution = convolution
        self.norm = norm

    def forward(self, activations: Tensor) -> Tensor:
        """Returns what the two layers return in their current modes."""
        convolution, norm = self.convolution, self.norm
        if norm.training:
            normalized: Tensor = norm(convolution(activations))
            return normalized
        assert norm.running_mean is not None and norm.running_var is not None
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        shift = norm.bias - norm.running_mean * scale
        if convolution.bias is not None:
            shift = shift + convolution.bias * scale
        folded = {"weight": convolution.weight * scale.view(-1, 1, 1, 1), "bias": shift}
        output: Tensor = functional_call(convolution, folded, (activations,))
        return norm.act(norm.drop(output)) if isinstance(norm, BatchNormAct2d) else output


def folded(network: nn.Module) -> nn.Module:
    """Returns a network for training steps that shares all its layers with `network`.

    Args:
        network: Suffix of a traced backbone. Anything else is returned as it is.
    """
    train_graph = getattr(network, "train_graph", None)
    if train_graph is None:
        return network
    training = fx.GraphModule(network, copy.deepcopy(train_graph), "Training")
    layers = dict(training.named_modules(remove_duplicate=False))
    for number, node in enumerate(list(training.graph.nodes)):
        convolution = _convolution_before(node, layers)
        if convolution is None:
            continue
        name = f"folded_{number}"
        pair = FoldedNorm(layers[str(convolution.target)], layers[str(node.target)])
        training.add_submodule(name, pair)
        with training.graph.inserting_before(node):
            new = training.graph.call_module(name, convolution.args)
        node.replace_all_uses_with(new)
        training.graph.erase_node(node)
        training.graph.erase_node(convolution)
    training.recompile()
    return training


def _convolution_before(node: fx.Node, layers: dict[str, nn.Module]) -> fx.Node | None:
    """Returns the convolution whose output only a BatchNorm layer sees; None at other nodes."""
    if node.op != "call_module" or type(layers[str(node.target)]) not in _NORMS:
        return None
    (before,) = node.all_input_nodes
    fits = before.op == "call_module" and type(layers[str(before.target)]) in _CONVOLUTIONS
    norm = layers[str(node.target)]
    has_all = norm.affine and norm.track_running_stats
    return before if fits and has_all and len(before.users) == 1 else None
