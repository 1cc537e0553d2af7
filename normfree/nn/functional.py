"""The equations of the networks, as pure functions of tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor

from normfree.kernels.convolution import Window


def standardize_weight(
    weight: Float[Tensor, "o *fan"], gain: Float[Tensor, " o"], eps: float = 1e-4
) -> Float[Tensor, "o *fan"]:
    r"""Scaled Weight Standardization: each filter gets zero mean and norm ``gain``.

    .. math:: \hat W_i = g_i \, \frac{W_i - \mu_i}{\sqrt{\max(N \sigma_i^2,\; \varepsilon)}}

    with :math:`\mu_i` and :math:`\sigma_i^2` the mean and the (biased) variance over the fan-in
    :math:`N` of output unit :math:`i`.

    Args:
        weight: filters, output units first: (out, in / groups, height, width).
        gain: learnable factor of each output unit.
        eps: lower bound on :math:`N \sigma^2`; a constant filter gives zeros and finite gradients.

    Returns:
        The standardized filters, with the shape and dtype of ``weight``.

    Example:
        >>> w = standardize_weight(torch.randn(8, 4, 3, 3), torch.ones(8))
        >>> w.flatten(1).norm(dim=1).allclose(torch.ones(8))
        True

    Source: equation 1 of the paper, with the gain and lower bound of the authors' code.

    Differs from: timm and many ports, whose ``var + 1e-5`` slightly changes every filter.
    """
    dims = tuple(range(1, weight.ndim))
    fan_in = math.prod(weight.shape[1:])
    var, mean = torch.var_mean(weight, dim=dims, correction=0, keepdim=True)
    scale = torch.rsqrt(torch.clamp(var * fan_in, min=eps)) * gain.view(-1, *[1] * len(dims))
    return (weight - mean) * scale


def standardize_weight_backward(
    grad: Float[Tensor, "o *fan"],
    weight: Float[Tensor, "o *fan"],
    gain: Float[Tensor, " o"],
    eps: float = 1e-4,
) -> tuple[Float[Tensor, "o *fan"], Float[Tensor, " o"]]:
    r"""The gradients of :func:`standardize_weight` with respect to ``weight`` and ``gain``.

    .. math::
        x &= W_i - \mu_i, \qquad
        r = \bigl(\max(\sum_j x_j^2,\, \varepsilon)\bigr)^{-1/2}, \qquad
        s = \sum_j x_j G_{ij} \\
        \partial g_i &= r s \\
        \partial W_i &= g_i r\,\bigl(G_i - \overline{G_i} - r^2 s\,x\bigr)

    without the last term where :math:`\varepsilon` is the larger.

    Args:
        grad: gradient :math:`G` of the standardized filters.
        weight: as in :func:`standardize_weight`.
        gain: as in :func:`standardize_weight`.
        eps: as in :func:`standardize_weight`.

    Example:
        >>> w, gain, grad = torch.randn(8, 4, 3, 3), torch.ones(8), torch.randn(8, 4, 3, 3)
        >>> _ = w.requires_grad_()
        >>> expected = torch.autograd.grad(standardize_weight(w, gain), w, grad)
        >>> torch.allclose(standardize_weight_backward(grad, w, gain)[0], *expected, atol=1e-6)
        True
    """
    dims = tuple(range(1, weight.ndim))
    x = weight - weight.mean(dims, keepdim=True)
    square = x.square().sum(dims, keepdim=True)
    r = torch.rsqrt(torch.clamp(square, min=eps))
    s = (x * grad).sum(dims, keepdim=True)
    along = torch.where(square >= eps, r.square() * s, 0.0)
    scale = gain.view(r.shape) * r
    return (grad - grad.mean(dims, keepdim=True) - along * x) * scale, (r * s).view(gain.shape)


def same_padding(size: int, kernel: int, stride: int = 1, dilation: int = 1) -> tuple[int, int]:
    """The number of zeros that ``SAME`` padding adds before and after an axis.

    The output has size ``ceil(size / stride)``. If the padding is odd, the extra zero is added
    after the axis (bottom or right).

    >>> same_padding(8, kernel=3, stride=2), same_padding(7, kernel=3, stride=2)
    ((0, 1), (1, 1))

    Differs from: ``torch.nn.Conv2d(padding=1)``, which reads different pixels for an even size and
    stride 2.
    """
    out = -(-size // stride)
    total = max((out - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def same_window(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> Window:
    """The window of a convolution with ``SAME`` padding, for a map of a size (height, width).

    >>> same_window((5, 4), (3, 3), (2, 2)).padding
    (1, 1, 0, 1)
    """
    top, bottom = same_padding(size[0], kernel[0], stride[0], dilation[0])
    left, right = same_padding(size[1], kernel[1], stride[1], dilation[1])
    return Window(stride, dilation, (top, bottom, left, right), groups)


def conv2d_padded(
    x: Float[Tensor, "n i h w"],
    weight: Float[Tensor, "o k kh kw"],
    bias: Float[Tensor, " o"] | None,
    window: Window,
) -> Float[Tensor, "n o h2 w2"]:
    """Convolution with padding that may differ between the sides.

    >>> window = same_window((5, 4), (3, 3), stride=(2, 2))
    >>> conv2d_padded(torch.ones(1, 1, 5, 4), torch.ones(1, 1, 3, 3), None, window).shape
    torch.Size([1, 1, 3, 2])
    """
    top, bottom, left, right = window.padding
    if top == bottom and left == right:  # the convolution itself can pad, without a copy
        padding = (top, left)
    else:
        x, padding = F.pad(x, (left, right, top, bottom)), (0, 0)
    return F.conv2d(x, weight, bias, window.stride, padding, window.dilation, window.groups)


def conv2d_same(
    x: Float[Tensor, "n i h w"],
    weight: Float[Tensor, "o k kh kw"],
    bias: Float[Tensor, " o"] | None = None,
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> Float[Tensor, "n o h2 w2"]:
    """Convolution with ``SAME`` padding at any stride and size.

    >>> conv2d_same(torch.ones(1, 1, 5, 4), torch.ones(1, 1, 3, 3), stride=(2, 2)).shape
    torch.Size([1, 1, 3, 2])
    """
    kernel = (weight.shape[2], weight.shape[3])
    window = same_window((x.shape[2], x.shape[3]), kernel, stride, dilation, groups)
    return conv2d_padded(x, weight, bias, window)


def avg_pool2d_same(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h2 w2"]:
    """2×2 mean pooling with stride 2; at an odd edge, the mean of the pixels that exist.

    >>> avg_pool2d_same(torch.tensor([[[[1.0, 2.0, 3.0]]]]))
    tensor([[[[1.5000, 3.0000]]]])
    """
    return F.avg_pool2d(x, 2, 2, ceil_mode=True, count_include_pad=False)


def max_pool2d_same(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h2 w2"]:
    """3×3 max pooling with stride 2 and ``SAME`` padding; padded pixels are ignored.

    >>> max_pool2d_same(torch.tensor([[[[-1.0, -2.0, -3.0, -4.0]]]]))
    tensor([[[[-1., -3.]]]])
    """
    top, bottom = same_padding(x.shape[2], 3, 2)
    left, right = same_padding(x.shape[3], 3, 2)
    return F.max_pool2d(F.pad(x, (left, right, top, bottom), value=-torch.inf), 3, 2)


def squeeze_excite(
    x: Float[Tensor, "n c h w"],
    squeeze: tuple[Float[Tensor, "k c"], Float[Tensor, " k"]],
    excite: tuple[Float[Tensor, "o k"], Float[Tensor, " o"]],
    factor: float = 2.0,
    activation: Callable[[Tensor], Tensor] = F.relu,
) -> Float[Tensor, "n o 1 1"]:
    r"""The gate of squeeze-and-excite, in (0, 2) so that its mean at initialization is one.

    .. math:: s = 2\,\sigma(W_1 f(W_0 \bar x + b_0) + b_1)

    Args:
        x: feature map; :math:`\bar x` is its mean over space.
        squeeze: weight and bias of the first linear layer.
        excite: weight and bias of the second.
        factor: the factor 2; batch-normalized networks use 1.
        activation: :math:`f`.

    Example:
        >>> zeros = torch.zeros(2, 3), torch.zeros(2)
        >>> squeeze_excite(torch.randn(1, 3, 4, 4), zeros, (torch.zeros(3, 2), torch.zeros(3)))
        tensor([[[[1.]],
                 [[1.]],
                 [[1.]]]])

    Differs from: the paper's text, which has a scaled GELU between the layers. The authors' code,
    which produced the paper's numbers, uses a plain ReLU whatever the network's activation.
    """
    return excite_gate(x.mean(dim=(2, 3)), squeeze, excite, factor, activation)[:, :, None, None]


def excite_gate(
    pooled: Float[Tensor, "n c"],
    squeeze: tuple[Float[Tensor, "k c"], Float[Tensor, " k"]],
    excite: tuple[Float[Tensor, "o k"], Float[Tensor, " o"]],
    factor: float = 2.0,
    activation: Callable[[Tensor], Tensor] = F.relu,
    linear: Callable[..., Tensor] = F.linear,
) -> Float[Tensor, "n o"]:
    r"""The gate of :func:`squeeze_excite`, given the mean over space :math:`\bar x`."""
    hidden = activation(linear(pooled, *squeeze))
    return factor * torch.sigmoid(linear(hidden, *excite))


def gated_add(
    skip: Float[Tensor, "n c h w"], x: Float[Tensor, "n c h w"], gate: Tensor
) -> Float[Tensor, "n c h w"]:
    r"""The end of a residual block, where one gate holds all factors of the branch.

    .. math:: y = s + g\,x

    Args:
        skip: skip path :math:`s`.
        x: residual branch.
        gate: :math:`g`, one number, or one for each image or channel: (n or 1, c or 1, 1, 1). It is
            rounded to the data type of ``x``.

    Example:
        >>> gated_add(torch.ones(1, 1, 1, 2), torch.tensor([[[[1.0, 2.0]]]]), torch.tensor(3.0))
        tensor([[[[4., 7.]]]])
    """
    if isinstance(gate, Tensor):
        gate = gate.to(x.dtype)
    return torch.addcmul(skip, x, gate)


def squeeze_excite_add(
    skip: Float[Tensor, "n c h w"] | None,
    x: Float[Tensor, "n c h w"],
    gate: Callable[..., Tensor],
    parameters: Sequence[Tensor] = (),
) -> Float[Tensor, "n c h w"]:
    r"""The end of a residual block whose gate depends on the branch.

    .. math:: y = s + g(\bar x)\,x

    Args:
        skip: skip path :math:`s`; 0 if None.
        x: residual branch; :math:`\bar x` is its mean over space.
        gate: :math:`g`, a function from (n, c) and the parameters to (n, c).
        parameters: further arguments of the gate.

    Example:
        >>> squeeze_excite_add(None, torch.tensor([[[[1.0, 3.0]]]]), torch.sqrt)
        tensor([[[[1.4142, 4.2426]]]])
    """
    factor = gate(x.mean(dim=(2, 3)), *parameters)[:, :, None, None]
    return x * factor if skip is None else gated_add(skip, x, factor)
