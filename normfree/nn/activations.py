"""Variance-preserving scaled activations, and the estimation of their gains."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor, nn

from normfree.errors import UserError, unknown_name
from normfree.nn.folding import FoldedGraph, Value
from normfree.nn.fused import scaled_activation

Function = Callable[[Tensor], Tensor]

#: Source of a gain: the authors' constant or the exact integral.
GainKind = Literal["reference", "exact"]


class Activation(NamedTuple):
    """A function, the authors' constant γ for it, and the plain layer that computes it."""

    function: Function
    gain: float
    layer: Callable[[], nn.Module]


def _identity(x: Tensor) -> Tensor:
    return x


def _gelu(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def _glu(x: Tensor) -> Tensor:
    return F.glu(x, dim=1)


def _log_softmax(x: Tensor) -> Tensor:
    return F.log_softmax(x, dim=1)


#: Every activation in the authors' table. The gains are Monte Carlo estimates with errors of up to
#: 9e-4. Networks use them unchanged, so their outputs match the reference.
ACTIVATIONS: Mapping[str, Activation] = MappingProxyType(
    {
        "identity": Activation(_identity, 1.0, nn.Identity),
        "celu": Activation(F.celu, 1.270926833152771, nn.CELU),
        "elu": Activation(F.elu, 1.2716004848480225, nn.ELU),
        "gelu": Activation(_gelu, 1.7015043497085571, partial(nn.GELU, approximate="tanh")),
        "glu": Activation(_glu, 1.8484294414520264, partial(nn.GLU, dim=1)),
        "leaky_relu": Activation(F.leaky_relu, 1.70590341091156, nn.LeakyReLU),
        "log_sigmoid": Activation(F.logsigmoid, 1.9193484783172607, nn.LogSigmoid),
        "log_softmax": Activation(_log_softmax, 1.0002083778381348, partial(nn.LogSoftmax, dim=1)),
        "relu": Activation(F.relu, 1.7139588594436646, nn.ReLU),
        "relu6": Activation(F.relu6, 1.7131484746932983, nn.ReLU6),
        "selu": Activation(F.selu, 1.0008515119552612, nn.SELU),
        "sigmoid": Activation(torch.sigmoid, 4.803835391998291, nn.Sigmoid),
        "silu": Activation(F.silu, 1.7881293296813965, nn.SiLU),
        "soft_sign": Activation(F.softsign, 2.338853120803833, nn.Softsign),
        "softplus": Activation(F.softplus, 1.9203323125839233, nn.Softplus),
        "tanh": Activation(torch.tanh, 1.5939117670059204, nn.Tanh),
    }
)


def estimate_gain(function: Function) -> float:
    r"""The gain γ that gives :math:`\gamma f(z)` unit variance for :math:`z \sim N(0, 1)`.

    .. math:: \gamma = 1 / \sqrt{\mathrm{Var}\, f(z)}

    The two moments are integrals against the normal density. The trapezoid rule evaluates them over
    ±12 standard deviations in float64. The result is deterministic and accurate to about 1e-9, also
    for functions with kinks.

    Args:
        function: any elementwise function.

    Returns:
        γ. Multiply the function by it, or pass both to :class:`ScaledActivation`.

    Raises:
        UserError: the function mixes channels, is constant, or has no finite variance.

    Example:
        >>> round(estimate_gain(torch.relu), 6)  # sqrt(2 / (1 - 1/pi))
        1.712859

    Source: section 3 of the paper; Arpit et al. (2016) for the closed form of ReLU.
    """
    z = torch.linspace(-12, 12, 2**18 + 1, dtype=torch.float64)
    density = torch.exp(-(z**2) / 2) / (2 * torch.pi) ** 0.5
    name = getattr(function, "__name__", "the function").removeprefix("_")
    if function in (_glu, _log_softmax):
        raise UserError(
            f"{name} mixes channels; gains can be estimated only for elementwise functions"
        )
    y = function(z)
    mean = torch.trapezoid(y * density, z)
    variance = torch.trapezoid((y - mean) ** 2 * density, z).item()
    if not 1e-20 < variance < float("inf"):
        raise UserError(f"{name} has no gain: its variance is {variance} for a normal input")
    return variance**-0.5


class ScaledActivation(nn.Module):
    r""":math:`\gamma f(x)`, which has unit variance for a standard normal input.

    Args:
        function: a name in :data:`ACTIVATIONS` or any elementwise function.
        gain: ``"reference"`` for the authors' constant (named activations only), ``"exact"`` for
            :func:`estimate_gain`, or γ itself.

    Raises:
        UserError: the activation or the kind of gain is unknown, or no gain exists.

    Example:
        >>> ScaledActivation("relu")(torch.tensor([-1.0, 1.0]))
        tensor([0.0000, 1.7140])
        >>> ScaledActivation(torch.sin, gain="exact").gain == estimate_gain(torch.sin)
        True

    Differs from: timm, whose GELU uses the error function by default; the authors use the tanh
    approximation.
    """

    def __init__(
        self,
        function: str | Function,
        gain: GainKind | float = "reference",
    ) -> None:
        super().__init__()
        reference: float | None = None
        self.layer: Callable[[], nn.Module] | None = None
        self.kernel = function if isinstance(function, str) else None
        if isinstance(function, str):
            if function not in ACTIVATIONS:
                raise unknown_name("activation", function, ACTIVATIONS)
            self.name = function
            self.function, reference, self.layer = ACTIVATIONS[function]
        else:
            self.name, self.function = getattr(function, "__name__", "f"), function
        if isinstance(gain, str):
            if gain not in ("reference", "exact"):
                raise unknown_name("gain", gain, ("reference", "exact"))
            exact = gain == "exact" or reference is None
            gain = estimate_gain(self.function) if exact else reference  # type: ignore[assignment]
        self.gain = float(gain)

    def forward(self, x: Float[Tensor, "..."], factor: float = 1.0) -> Float[Tensor, "..."]:
        """Apply the function, then the gain and another constant factor, in one pass."""
        return scaled_activation(x, self.function, self.gain * factor, self.kernel)

    def fold(self, graph: FoldedGraph, name: str, x: Value, factor: float = 1.0) -> Value:
        """Apply the function without its constants, which are deferred to the next layer."""
        scale = self.gain * factor
        if self.layer is None:
            return Value(self.function(x.proxy()), scale)
        return Value(graph.call(name, self.layer(), x.proxy()), scale)

    def extra_repr(self) -> str:  # noqa: D102
        return f"{self.name}, gain={self.gain:.6g}"
