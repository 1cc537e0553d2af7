"""A stem that takes the discrete cosine transform of 8×8 patches, from appendix E of the paper."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from normfree.nn import Layers
from normfree.nn.conv import FixedConv2d


def dct_basis(size: int = 8) -> Float[Tensor, "frequencies size size"]:
    r"""The orthonormal two-dimensional DCT-II, as ``size``² filters.

    .. math:: B_{uv}(x, y) = c_u c_v
        \cos\frac{(2x + 1)u\pi}{2N} \cos\frac{(2y + 1)v\pi}{2N},
        \qquad c_0 = \sqrt{1/N},\; c_{u>0} = \sqrt{2/N}

    Args:
        size: side length :math:`N` of a patch, pixels.

    Example:
        >>> basis = dct_basis().flatten(1)
        >>> torch.allclose(basis @ basis.T, torch.eye(64), atol=1e-6)
        True
    """
    frequency, place = torch.meshgrid(*[torch.arange(size, dtype=torch.float64)] * 2, indexing="ij")
    rows = torch.cos((2 * place + 1) * frequency * math.pi / (2 * size)) * math.sqrt(2 / size)
    rows[0] /= math.sqrt(2)
    return torch.einsum("ux,vy->uvxy", rows, rows).flatten(0, 1).float()


class DCTStem(nn.Module):
    """Transform 8×8 patches of each channel to 64 coefficients, then apply a 1×1 convolution.

    Args:
        in_channels: channels of the images.
        out_channels: input channels of the first stage.
        layers: factory for the convolution.

    The transform is not trained, and its stride is 8.

    Source: appendix E of the paper, after Gueguen et al. (2018).
    """

    def __init__(self, in_channels: int, out_channels: int, layers: Layers) -> None:
        super().__init__()
        coefficients = 64 * in_channels
        self.dct = FixedConv2d(
            in_channels, coefficients, 8, 8, groups=in_channels, bias=False, **layers.on
        )
        self.dct.requires_grad_(False)
        with torch.no_grad():
            self.dct.weight.copy_(dct_basis().repeat(in_channels, 1, 1)[:, None])
        self.conv = layers.conv(coefficients, out_channels, 1)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n o h8 w8"]:
        """Map images to the input of the first stage."""
        return self.conv(self.dct(x))
