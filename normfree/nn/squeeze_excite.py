"""Squeeze-and-excite."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from normfree.errors import UserError
from normfree.nn.activations import ScaledActivation
from normfree.nn.channels import Channels, round_channels
from normfree.nn.folding import FoldedGraph, Gated, Value, affine
from normfree.nn.functional import excite_gate
from normfree.nn.fused import gated_add, spatial_mean, squeeze_excite_add
from normfree.nn.linear import linear
from normfree.schema import Field, record

#: Position of squeeze-and-excite: on the branch's output, on the input of the last convolution,
#: straddling it (computed from its input, applied to its output), or absent.
SEPlace = Literal["output", "bottleneck", "straddled", "none"]

#: Squeeze-and-excite itself, or efficient channel attention, whose gate has no hidden layer.
SEKind = Literal["se", "eca"]

#: Activation of the hidden layer: a plain, unscaled ReLU, or the network's scaled activation.
SEActivation = Literal["relu", "network"]


@record
class SESpec:
    """Squeeze-and-excite in a residual block.

    Args:
        kind: ``"se"``, or ``"eca"`` for efficient channel attention, which ignores what follows
            the place.
        place: position within the block.
        ratio: hidden units per output channel.
        divisor: the number of hidden units is a multiple of it; 1 rounds down.
        activation: activation of the hidden layer.

    Raises:
        UserError: efficient channel attention straddles a convolution.

    Differs from: the paper's text, where the hidden layer uses the scaled activation of the network
    (``"network"``). The authors' code, which produced the paper's numbers, uses a plain ReLU.
    """

    kind: SEKind = "se"
    place: SEPlace = "output"
    ratio: Annotated[float, Field(gt=0, le=64)] = 0.5
    divisor: Channels = 1
    activation: SEActivation = "relu"

    def __post_init__(self) -> None:
        if self.kind == "eca" and self.place == "straddled":
            raise UserError(
                "efficient channel attention gates the map that it reads and cannot be straddled; "
                "set the place to 'output' or 'bottleneck'"
            )


class SqueezeExcite(nn.Module):
    r"""Scale each channel by a gate in (0, 2) computed from all channels.

    .. math:: y = x \cdot 2\,\sigma(W_1 f(W_0 \bar x + b_0) + b_1)

    Args:
        channels: channels of the feature map.
        ratio: hidden units per channel of the output; at least one unit is kept.
        source_channels: channels of the map that the gate is computed from; by default, the same
            as ``channels``.
        factor: the factor 2, which preserves the variance; batch-normalized networks use 1.
        divisor: the number of hidden units is rounded to a multiple of it; 1 rounds down.
        activation: :math:`f`; a plain ReLU by default.
        device: device of the parameters.
        dtype: data type of the parameters.

    Example:
        >>> SqueezeExcite(8, ratio=0.5)(torch.randn(2, 8, 5, 5)).shape
        torch.Size([2, 8, 5, 5])

    Source: section 3 and appendix C of the paper (the factor 2 preserves the variance).
    Initialization: LeCun, as a normal distribution truncated at two standard deviations.
    """

    def __init__(
        self,
        channels: int,
        ratio: float = 0.5,
        source_channels: int | None = None,
        *,
        factor: float = 2.0,
        divisor: int = 1,
        activation: ScaledActivation | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.factor = factor
        hidden = round_channels(channels * ratio, divisor)
        self.fc0 = nn.Linear(source_channels or channels, hidden, device=device, dtype=dtype)
        self.act = activation or ScaledActivation("relu", gain=1.0)
        self.fc1 = nn.Linear(hidden, channels, device=device, dtype=dtype)
        for fc in (self.fc0, self.fc1):
            std = fc.in_features**-0.5
            nn.init.trunc_normal_(fc.weight, std=std, a=-2 * std, b=2 * std)
            nn.init.zeros_(fc.bias)

    def gate(self, source: Float[Tensor, "n s h w"]) -> Float[Tensor, "n c 1 1"]:
        """The factor of each channel, in (0, ``factor``)."""
        return self._gate(spatial_mean(source), *self._weights())[:, :, None, None]

    def forward(
        self,
        x: Float[Tensor, "n c h w"],
        source: Float[Tensor, "n s _h _w"] | None = None,
        skip: Float[Tensor, "n c h w"] | None = None,
        scale: Tensor | None = None,
    ) -> Float[Tensor, "n c h w"]:
        """Multiply the map by its gate and by ``scale``, and add it to the skip path.

        Args:
            x: the map.
            source: the map that the gate is computed from; ``x`` if None.
            skip: the skip path; 0 if None.
            scale: a further factor, one number or (n, 1, 1, 1); 1 if None.
        """
        if source is None:
            scales = () if scale is None else (scale.reshape(-1, 1),)
            return squeeze_excite_add(skip, x, self._gate, (*self._weights(), *scales))
        gate = self.gate(source) if scale is None else self.gate(source) * scale
        return x * gate if skip is None else gated_add(skip, x, gate)

    def _weights(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.fc0.weight, self.fc0.bias, self.fc1.weight, self.fc1.bias

    def _gate(
        self,
        pooled: Float[Tensor, "n s"],
        w0: Float[Tensor, "k s"],
        b0: Float[Tensor, " k"],
        w1: Float[Tensor, "c k"],
        b1: Float[Tensor, " c"],
        scale: Float[Tensor, "_n 1"] | None = None,
    ) -> Float[Tensor, "n c"]:
        """The factor of each channel from the mean over space, times the scale of each image."""
        gate = excite_gate(pooled, (w0, b0), (w1, b1), self.factor, self.act, linear)
        return gate if scale is None else gate * scale

    def fold(
        self,
        graph: FoldedGraph,
        name: str,
        x: Value,
        source: Value | None = None,
        skip: Value | None = None,
        scale: float | None = None,
    ) -> Value:
        """Move the constants into the convolution of ``x``, which leaves a gate in (0, 1)."""
        y = x * self.factor
        if source is None:  # a pointwise convolution is merged into fc0; others are computed first
            source = x if x.pointwise else y.written() * (1 / self.factor)
        hidden = Value(graph.linear_of_mean(f"{name}.fc0", self.fc0, source))
        hidden = self.act.fold(graph, f"{name}.act", hidden).written()
        weight, bias = affine(self.fc1)
        z = graph.linear(f"{name}.fc1", weight * hidden.scale, bias, hidden.value)
        gated = Gated(y, z.sigmoid()[:, :, None, None]) * (1 if scale is None else scale)
        return gated if skip is None else skip + gated
