"""Optimizers: how a gradient becomes a step."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from headstart.methods.method import Method, Range, family

_Rate = Annotated[float, Field(gt=0, le=10)]
_Decay = Annotated[float, Field(ge=0, le=1), Range(1e-5, 1e-1, log=True)]
_Clip = Annotated[float, Field(ge=0, description="largest gradient norm; 0 clips nothing")]
_HeadFactor = Annotated[
    float,
    Field(gt=0, le=1000, description="the head's learning rate is `lr` times this"),
    Range(1, 30, log=True),
]


class SGD(Method):
    """Stochastic gradient descent with Nesterov momentum (Sutskever et al., ICML 2013)."""

    name: Literal["sgd"] = "sgd"
    lr: Annotated[_Rate, Range(1e-3, 1e-1, log=True)] = 1e-2
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    nesterov: bool = True
    weight_decay: _Decay = 1e-4
    clip_norm: _Clip = 1.0
    head_lr_factor: _HeadFactor = 1.0

    def build(self, groups: Iterable[dict[str, Any]]) -> torch.optim.Optimizer:
        """Returns the optimizer over parameter groups that carry their own `lr`, `weight_decay`."""
        nesterov = self.nesterov and self.momentum > 0
        return torch.optim.SGD(groups, lr=self.lr, momentum=self.momentum, nesterov=nesterov)


class AdamW(Method):
    """Adam with decoupled weight decay (Loshchilov & Hutter, ICLR 2019)."""

    name: Literal["adamw"] = "adamw"
    lr: Annotated[_Rate, Range(3e-5, 3e-3, log=True)] = 5e-4
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    weight_decay: _Decay = 1e-2
    clip_norm: _Clip = 1.0
    head_lr_factor: _HeadFactor = 1.0

    def build(self, groups: Iterable[dict[str, Any]]) -> torch.optim.Optimizer:
        """Returns the optimizer over parameter groups that carry their own `lr`, `weight_decay`."""
        return torch.optim.AdamW(groups, lr=self.lr, betas=(self.beta1, self.beta2))


OptimizerUnion = SGD | AdamW
Optimizer = family(OptimizerUnion)
