"""Optimizers: how a gradient becomes a step."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from headstart.methods.method import Choices, Method, Range, family

if TYPE_CHECKING:
    import torch

_Rate = Annotated[float, Field(gt=0, le=10, description="peak learning rate of the backbone")]
_Beta = Annotated[float, Field(ge=0, lt=1, description="decay rate of a running mean")]
_Decay = Annotated[
    float,
    Field(ge=0, le=1, description="weight decay; not applied to norms and biases"),
    Range(1e-5, 1e-1, log=True),
]
_Clip = Annotated[float, Field(ge=0, description="largest gradient norm; 0: no clipping")]
_HeadFactor = Annotated[
    float,
    Field(gt=0, le=1000, description="the head's learning rate is `lr` times this"),
    Range(1, 30, log=True),
]
Groups = Iterable[dict[str, Any]]
"""Parameter groups that carry their own `lr` and `weight_decay`."""


class OptimizerMethod(Method):
    """Base of the optimizers; each has `lr`, `weight_decay`, `clip_norm` and `head_lr_factor`."""

    @property
    def lookahead_steps(self) -> int:
        """Steps between two updates of the slow weights (Lookahead); 0 if there are none."""
        return 0


class SGD(OptimizerMethod):
    """Stochastic gradient descent with Nesterov momentum (Sutskever et al., ICML 2013)."""

    advice: ClassVar[str] = (
        "Its learning rate needs tuning; then it is as good as any, and uses least memory."
    )
    name: Literal["sgd"] = "sgd"
    lr: Annotated[_Rate, Range(1e-3, 1e-1, log=True)] = 1e-2
    momentum: _Beta = 0.9
    nesterov: bool = True
    weight_decay: _Decay = 1e-4
    clip_norm: _Clip = 1.0
    head_lr_factor: _HeadFactor = 1.0

    def build(self, groups: Groups) -> "torch.optim.Optimizer":
        """Returns the optimizer over `groups`."""
        import torch

        nesterov = self.nesterov and self.momentum > 0
        return torch.optim.SGD(groups, lr=self.lr, momentum=self.momentum, nesterov=nesterov)


class Adam(OptimizerMethod):
    """Steps scaled by running means of the gradient and its square (Kingma & Ba, ICLR 2015)."""

    advice: ClassVar[str] = "It scales weight decay with the gradient; AdamW is better behaved."
    name: Literal["adam"] = "adam"
    lr: Annotated[_Rate, Range(3e-5, 3e-3, log=True)] = 5e-4
    beta1: _Beta = 0.9
    beta2: _Beta = 0.999
    weight_decay: Annotated[_Decay, Range(1e-6, 1e-3, log=True)] = 1e-5
    clip_norm: _Clip = 1.0
    head_lr_factor: _HeadFactor = 1.0

    def build(self, groups: Groups) -> "torch.optim.Optimizer":
        """Returns the optimizer over `groups`."""
        import torch

        return torch.optim.Adam(groups, lr=self.lr, betas=(self.beta1, self.beta2))


class AdamW(OptimizerMethod):
    """Adam with decoupled weight decay (Loshchilov & Hutter, ICLR 2019)."""

    advice: ClassVar[str] = "The default: tolerates a wide range of learning rates."
    name: Literal["adamw"] = "adamw"
    lr: Annotated[_Rate, Range(3e-5, 3e-3, log=True)] = 5e-4
    beta1: _Beta = 0.9
    beta2: _Beta = 0.999
    weight_decay: _Decay = 1e-2
    clip_norm: _Clip = 1.0
    head_lr_factor: _HeadFactor = 1.0

    def build(self, groups: Groups) -> "torch.optim.Optimizer":
        """Returns the optimizer over `groups`."""
        import torch

        return torch.optim.AdamW(groups, lr=self.lr, betas=(self.beta1, self.beta2))


class RAdam(OptimizerMethod):
    """Adam with a correction for the variance of its first steps (Liu et al., ICLR 2020)."""

    advice: ClassVar[str] = "Makes warm-up unnecessary; slow in the first steps of a short run."
    name: Literal["radam"] = "radam"
    lr: Annotated[_Rate, Range(3e-5, 3e-3, log=True)] = 1e-3
    beta1: _Beta = 0.9
    beta2: _Beta = 0.999
    weight_decay: _Decay = 1e-2
    clip_norm: _Clip = 1.0
    head_lr_factor: _HeadFactor = 1.0

    def build(self, groups: Groups) -> "torch.optim.Optimizer":
        """Returns the optimizer over `groups`."""
        return _radam(groups, self.lr, self.beta1, self.beta2)


class Ranger(OptimizerMethod):
    """RAdam inside Lookahead (Wright 2019; Lookahead: Zhang et al., NeurIPS 2019).

    Every `sync_every` steps the slow weights move `pull` of the way towards the fast weights,
    which then continue from the slow ones.
    """

    advice: ClassVar[str] = "Stable with high learning rates and flat schedules; needs many steps."
    name: Literal["ranger"] = "ranger"
    lr: Annotated[_Rate, Range(3e-5, 3e-3, log=True)] = 1e-3
    beta1: _Beta = 0.95
    beta2: _Beta = 0.999
    weight_decay: _Decay = 1e-2
    clip_norm: _Clip = 1.0
    head_lr_factor: _HeadFactor = 1.0
    sync_every: Annotated[
        int, Field(ge=1, le=100, description="fast steps per slow step"), Choices((5, 6))
    ] = 6
    pull: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="share of the way that the slow weights move towards the fast ones",
        ),
    ] = 0.5

    @property
    def lookahead_steps(self) -> int:
        """Steps between two updates of the slow weights."""
        return self.sync_every

    def build(self, groups: Groups) -> "torch.optim.Optimizer":
        """Returns the optimizer over `groups`; their `lookahead_syncs` counts the slow steps."""
        import torch

        optimizer = _radam(groups, self.lr, self.beta1, self.beta2)
        fast = [p for group in optimizer.param_groups for p in group["params"]]
        # Slow weights start from the initial ones, as in the paper; timm's start at the first sync.
        slow = [p.detach().clone() for p in fast]
        steps = 0

        def look_ahead(*_: Any) -> None:
            nonlocal steps
            steps += 1
            if steps % self.sync_every:
                return
            for group in optimizer.param_groups:
                group["lookahead_syncs"] = steps // self.sync_every
            with torch.no_grad():
                for kept, weights in zip(slow, fast, strict=True):
                    weights.copy_(kept.lerp_(weights, self.pull))

        optimizer.register_step_post_hook(look_ahead)
        return optimizer


OptimizerUnion = SGD | Adam | AdamW | RAdam | Ranger
Optimizer = family(OptimizerUnion)


def _radam(groups: Groups, lr: float, beta1: float, beta2: float) -> "torch.optim.Optimizer":
    import torch

    return torch.optim.RAdam(groups, lr=lr, betas=(beta1, beta2), decoupled_weight_decay=True)
