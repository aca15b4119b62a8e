"""Activations: the nonlinearity of the head, or of the layers that are trained."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from headstart.methods.method import Choices, Method, Range, family

if TYPE_CHECKING:
    from torch import nn

_Where = Annotated[
    Literal["suffix", "head", "both"],
    Field(description="where it is used: in the trained layers, in an MLP head, or in both"),
    Choices(("suffix", "head", "both")),
]


class ActivationMethod(Method):
    """Base of the activations, and where they are used."""

    @property
    def in_suffix(self) -> bool:
        """Whether it replaces the activations of the trained backbone layers."""
        return getattr(self, "where", "") in {"suffix", "both"}

    @property
    def in_head(self) -> bool:
        """Whether it is used in a head with a hidden layer."""
        return getattr(self, "where", "") in {"head", "both"}


class Keep(ActivationMethod):
    """The activations that the backbone was pretrained with; ReLU in an MLP head."""

    advice: ClassVar[str] = "Hard to beat: the pretrained weights were fitted to them."
    absent: ClassVar[bool] = True
    name: Literal["keep"] = "keep"

    def build(self) -> "nn.Module":
        """Returns the activation of a head."""
        from torch import nn

        return nn.ReLU()


class Mish(ActivationMethod):
    """x tanh(ln(1 + e^x)), smooth and unbounded above (Misra, BMVC 2020)."""

    advice: ClassVar[str] = (
        "In pretrained layers it disturbs the features at first and needs more epochs; "
        "in an MLP head it costs nothing."
    )
    name: Literal["mish"] = "mish"
    where: _Where = "suffix"

    def build(self) -> "nn.Module":
        """Returns the activation."""
        from torch import nn

        return nn.Mish()


class Swish(ActivationMethod):
    """x sigmoid(x), also called SiLU (Ramachandran et al. 2017)."""

    advice: ClassVar[str] = (
        "EfficientNets already use it, except the Lite ones; swapping it in needs more epochs."
    )
    name: Literal["swish"] = "swish"
    where: _Where = "suffix"

    def build(self) -> "nn.Module":
        """Returns the activation."""
        from torch import nn

        return nn.SiLU()


class LeakyReLU(ActivationMethod):
    """max(x, slope x): negative inputs keep a small gradient (Maas et al., ICML workshop 2013)."""

    advice: ClassVar[str] = "The closest to ReLU, so it disturbs a ReLU network least."
    name: Literal["leaky_relu"] = "leaky_relu"
    where: _Where = "suffix"
    slope: Annotated[float, Field(gt=0, lt=1), Range(0.005, 0.2, log=True)] = 0.01

    def build(self) -> "nn.Module":
        """Returns the activation."""
        from torch import nn

        return nn.LeakyReLU(self.slope)


ActivationUnion = Keep | Mish | Swish | LeakyReLU
Activation = family(ActivationUnion, squish="swish", silu="swish")


def head_activation(method: ActivationUnion) -> "nn.Module":
    """Returns the activation of a head: the method's own if it applies to heads, else ReLU.

    Example:
        >>> head_activation(Swish(where="head")), head_activation(Swish(where="suffix"))
        (SiLU(), ReLU())
    """
    return (method if method.in_head else Keep()).build()
