"""The equations of the networks, as pure functions of tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor


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
    fan_in = weight[0].numel()
    var, mean = torch.var_mean(weight, dim=dims, correction=0, keepdim=True)
    scale = torch.rsqrt(torch.clamp(var * fan_in, min=eps)) * gain.view(-1, *[1] * len(dims))
    return (weight - mean) * scale


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
    (kh, kw), (sh, sw), (dh, dw) = weight.shape[2:], stride, dilation
    top, bottom = same_padding(x.shape[2], kh, sh, dh)
    left, right = same_padding(x.shape[3], kw, sw, dw)
    if top == bottom and left == right:  # the convolution itself can pad, without a copy
        return F.conv2d(x, weight, bias, stride, (top, left), dilation, groups)
    x = F.pad(x, (left, right, top, bottom))
    return F.conv2d(x, weight, bias, stride, 0, dilation, groups)


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
) -> Float[Tensor, "n o"]:
    r"""The gate of :func:`squeeze_excite`, given the mean over space :math:`\bar x`."""
    hidden = activation(F.linear(pooled, *squeeze))
    return factor * torch.sigmoid(F.linear(hidden, *excite))


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
