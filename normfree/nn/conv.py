"""Convolutions with ``SAME`` padding, plain and weight-standardized."""

from __future__ import annotations

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from normfree.kernels.convolution import Window
from normfree.nn.convolve import convolve
from normfree.nn.folding import Convolved, FoldedGraph, Value
from normfree.nn.functional import same_window
from normfree.nn.standardize import standardize


class SameConv2d(nn.Conv2d):
    """:class:`torch.nn.Conv2d` with TensorFlow's ``SAME`` padding at any stride.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: height and width of a filter, pixels.
        stride: step between outputs, pixels.
        padding: ``"same"`` pads as TensorFlow does, at any stride and size; ``"valid"`` or a number
            of pixels means the same as in PyTorch.
        dilation: step between taps of a filter, pixels.
        groups: number of groups the channels are split into.
        bias: whether to add a learnable bias.
        device: device of the parameters.
        dtype: data type of the parameters.

    Shape:
        (n, in_channels, h, w) → (n, out_channels, ⌈h/stride⌉, ⌈w/stride⌉) for ``"same"``.

    Example:
        >>> SameConv2d(3, 8, kernel_size=3, stride=2)(torch.randn(1, 3, 10, 7)).shape
        torch.Size([1, 8, 5, 4])

    Initialization: weights N(0, 1/fan-in), biases zero, as in the authors' convolutions.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: Literal["same", "valid"] | int | tuple[int, int] = "same",
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.same = padding == "same"
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            0 if self.same else padding,
            dilation,
            groups,
            bias,
            device=device,
            dtype=dtype,
        )

    def reset_parameters(self) -> None:
        """Redraw the weights and reset the biases to zero."""
        nn.init.normal_(self.weight, std=self.weight[0].numel() ** -0.5)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def applied_weight(self) -> Float[Tensor, "o k kh kw"]:
        """The filters that the convolution applies."""
        return self.weight

    def filters(self) -> tuple[Tensor, Tensor | None, float]:
        """The weight, the gain that its standardization uses or None, and its lower bound."""
        return self.weight, None, 0.0

    def window(self, size: tuple[int, int]) -> Window:
        """How the filters move over a map of a size (height, width)."""
        if self.same:
            return same_window(size, self.kernel_size, self.stride, self.dilation, self.groups)  # type: ignore[arg-type]
        down, right = (0, 0) if isinstance(self.padding, str) else self.padding  # "valid" is 0
        padding = (down, down, right, right)
        return Window(self.stride, self.dilation, padding, self.groups)  # type: ignore[arg-type]

    def forward(self, x: Float[Tensor, "n i h w"]) -> Float[Tensor, "n o h2 w2"]:
        """Convolve with the applied filters."""
        weight, gain, eps = self.filters()
        return convolve(x, weight, gain, self.bias, eps, self.window((x.shape[2], x.shape[3])))

    def fold(self, graph: FoldedGraph, name: str, x: Value) -> Value:
        """Fold to a plain convolution that can still absorb constants."""
        return Convolved(graph, name, self, x)

    def extra_repr(self) -> str:  # noqa: D102
        return super().extra_repr() + (", padding=same" if self.same else "")


class FixedConv2d(SameConv2d):
    """A convolution whose filters are never trained, even when other layers are unfrozen."""


class WSConv2d(SameConv2d):
    r"""Convolution with Scaled Weight Standardization and a learnable gain and bias.

    .. math:: y = \hat W * x + b, \qquad
        \hat W_i = g_i (W_i - \mu_i) / \sqrt{\max(N\sigma_i^2, \varepsilon)}

    A drop-in replacement for :class:`torch.nn.Conv2d`, except for the default padding.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: height and width of a filter, pixels.
        stride: step between outputs, pixels.
        padding: ``"same"`` pads as TensorFlow does, at any stride and size; ``"valid"`` or a number
            of pixels means the same as in PyTorch.
        dilation: step between taps of a filter, pixels.
        groups: number of groups the channels are split into.
        bias: whether to add a learnable bias.
        eps: lower bound on :math:`N\sigma^2`.
        device: device of the parameters.
        dtype: data type of the parameters.

    Example:
        >>> conv = WSConv2d(16, 32, kernel_size=3, stride=2)
        >>> conv(torch.randn(1, 16, 15, 15)).shape
        torch.Size([1, 32, 8, 8])

    Source: equation 1 and appendix C of the paper. Initialization: weights N(0, 1/fan-in), gains
    one, biases zero.

    Differs from: timm's ``ScaledStdConv2d``, which stores gains as (out, 1, 1, 1) tensors, so that
    AGC and weight decay treat them as filters.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: Literal["same", "valid"] | int | tuple[int, int] = "same",
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        eps: float = 1e-4,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        on: dict[str, Any] = {"device": device, "dtype": dtype}
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, **on
        )
        self.eps = eps
        self.gain = nn.Parameter(torch.ones(out_channels, **on))

    def reset_parameters(self) -> None:
        """Redraw the weights, and reset the gains to one and the biases to zero."""
        super().reset_parameters()
        if hasattr(self, "gain"):  # Conv2d's constructor calls this before the gain exists
            nn.init.ones_(self.gain)

    def filters(self) -> tuple[Tensor, Tensor | None, float]:
        """The weight, the gain of its standardization, and its lower bound."""
        return self.weight, self.gain, self.eps

    def applied_weight(self) -> Float[Tensor, "o k kh kw"]:
        """The standardized filters."""
        return standardize(self.weight, self.gain, self.eps)
