"""The equations of the optimizer, as pure functions of tensors."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def unitwise_norm(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    r"""The L2 norm of each output unit; of the whole tensor where it is no matrix.

    .. math:: \|x_i\| = \sqrt{\textstyle\sum_{j} x_{ij}^2}

    Args:
        x: a parameter or its gradient, output units first, of any rank: scalar, vector, Linear,
            Conv1d, Conv2d, Conv3d, grouped or not.

    Returns:
        The norms, in a shape that broadcasts against ``x``: (out, 1, 1, …) where ``x`` has at least
        two axes longer than one, else a scalar. So a gain, a bias, a (1, in) or an (out, 1) matrix
        and a depth-wise 1×1 filter all have a single norm, whatever shape they are kept in.

    Example:
        >>> unitwise_norm(torch.tensor([[3.0, 4.0], [0.0, 1.0]]))
        tensor([[5.],
                [1.]])
        >>> unitwise_norm(torch.tensor([3.0, 4.0]))
        tensor(5.)

    Source: section 4 of the paper and the authors' code.

    Differs from: optax, which fails on rank 5, and timm, which takes gains kept as (out, 1, 1, 1)
    element by element.
    """
    if sum(length > 1 for length in x.shape) <= 1:
        return torch.linalg.vector_norm(x)
    return torch.linalg.vector_norm(x, dim=tuple(range(1, x.ndim)), keepdim=True)


def clip_scale(
    grad: Float[Tensor, "..."], param: Float[Tensor, "..."], clipping: float, eps: float = 1e-3
) -> Float[Tensor, "..."]:
    r"""The factor in (0, 1] that AGC puts on the gradient of each unit.

    .. math:: s_i = \min\left(1,\;
        \lambda\,\frac{\max(\|w_i\|, \varepsilon)}{\max(\|g_i\|, 10^{-6})}\right)

    Args:
        grad: gradient.
        param: the parameter, same shape.
        clipping: :math:`\lambda`.
        eps: :math:`\varepsilon`, so that a parameter that starts at zero can leave it.

    Returns:
        The factors, in the shape of :func:`unitwise_norm`.
    """
    largest = clipping * unitwise_norm(param).clamp(min=eps)
    norm = unitwise_norm(grad)
    return torch.where(norm > largest, largest / norm.clamp(min=1e-6), 1.0)


def adaptive_clip(
    grad: Float[Tensor, "..."],
    param: Float[Tensor, "..."],
    clipping: float = 0.01,
    eps: float = 1e-3,
) -> Float[Tensor, "..."]:
    r"""Adaptive gradient clipping: no unit's gradient exceeds λ times the unit's norm.

    .. math:: g_i \to \begin{cases}
        \lambda\,\frac{\|w_i\|^\star}{\|g_i\|}\, g_i & \text{if } \|g_i\| > \lambda\|w_i\|^\star \\
        g_i & \text{otherwise} \end{cases}
        \qquad \|w_i\|^\star = \max(\|w_i\|, \varepsilon)

    Args:
        grad: gradient.
        param: the parameter, same shape.
        clipping: :math:`\lambda`; smaller for larger batches.
        eps: :math:`\varepsilon`, so that a parameter that starts at zero can leave it.

    Returns:
        The clipped gradient.

    Example:
        >>> adaptive_clip(torch.tensor([3.0, 4.0]), torch.tensor([0.0, 1.0]), clipping=0.1)
        tensor([0.0600, 0.0800])

    Source: equation 3 of the paper.
    """
    return grad * clip_scale(grad, param, clipping, eps)


def nesterov_momentum(
    grad: Float[Tensor, "..."], velocity: Float[Tensor, "..."], momentum: float
) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
    r"""One step of Nesterov's momentum, without dampening.

    .. math:: v \leftarrow \mu v + g, \qquad u = g + \mu v

    Args:
        grad: gradient :math:`g`, clipped and decayed.
        velocity: :math:`v` so far, zeros at first.
        momentum: :math:`\mu`.

    Returns:
        The direction :math:`u` to subtract, times the learning rate, and the new velocity.

    Example:
        >>> nesterov_momentum(torch.tensor(1.0), torch.tensor(1.0), momentum=0.5)
        (tensor(1.7500), tensor(1.5000))
    """
    velocity = momentum * velocity + grad
    return grad + momentum * velocity, velocity


def ema_decay(step: int, decay: float) -> float:
    r"""Decay of the moving average at a step: it warms up, then stays.

    .. math:: d_t = \min\left(d,\; \frac{1 + t}{10 + t}\right)

    Args:
        step: :math:`t`, from zero.
        decay: :math:`d`, the cap. The paper's 0.99999 would be reached after 899,990 steps; none
            of its runs has as many.

    Example:
        >>> ema_decay(0, 0.99999), ema_decay(10**6, 0.99999)
        (0.1, 0.99999)

    Source: the authors' code (TensorFlow 1's rule); the paper gives the cap only.
    """
    return min(decay, (1 + step) / (10 + step))
