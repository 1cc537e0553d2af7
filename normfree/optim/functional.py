"""The equations of the optimizer, as pure functions of tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from normfree.errors import UserError


def unitwise_norm(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    r"""The L2 norm of each output unit, or of the whole tensor if it has no units.

    .. math:: \|x_i\| = \sqrt{\sum_{j} x_{ij}^2}

    Args:
        x: a parameter or its gradient, of any rank, with output units along the first axis: a
            scalar, a vector, or the weight of a Linear, Conv1d, Conv2d or Conv3d layer.

    Returns:
        The norms, in a shape that broadcasts against ``x``: (out, 1, 1, …) if ``x`` has at least
        two axes longer than one, else a scalar. Gains, biases, (1, in) and (out, 1) matrices, and
        depthwise 1×1 filters therefore have a single norm, whatever their shape.

    Example:
        >>> unitwise_norm(torch.tensor([[3.0, 4.0], [0.0, 1.0]]))
        tensor([[5.],
                [1.]])
        >>> unitwise_norm(torch.tensor([3.0, 4.0]))
        tensor(5.)

    Source: section 4 of the paper and the authors' code.

    Differs from: timm, which clips gains stored as (out, 1, 1, 1) tensors element by element.
    """
    if not has_units(x.shape):
        return torch.linalg.vector_norm(x)
    return torch.linalg.vector_norm(x, dim=tuple(range(1, x.ndim)), keepdim=True)


def has_units(shape: Sequence[int]) -> bool:
    """Whether a parameter of this shape has output units: at least two axes longer than one.

    >>> has_units((8, 3, 3, 3)), has_units((8,)), has_units((8, 1, 1, 1))
    (True, False, False)
    """
    return sum(length > 1 for length in shape) > 1


def clip_scale(
    grad: Float[Tensor, "..."],
    param: Float[Tensor, "..."],
    clipping: float,
    eps: float = 1e-3,
    *,
    unitwise: bool = True,
) -> Float[Tensor, "..."]:
    r"""The factor in (0, 1] by which AGC scales the gradient of each unit.

    .. math:: s_i = \min\left(1,\;
        \lambda\,\frac{\max(\|w_i\|, \varepsilon)}{\max(\|g_i\|, 10^{-6})}\right)

    Args:
        grad: gradient.
        param: parameter, same shape.
        clipping: :math:`\lambda`.
        eps: :math:`\varepsilon`, which lets parameters initialized to zero move.
        unitwise: one norm per unit; else the whole tensor is one unit.

    Returns:
        The scales, in the shape of :func:`unitwise_norm`; a scalar unless ``unitwise``.
    """
    norm = unitwise_norm if unitwise else torch.linalg.vector_norm
    return scale_from_norms(norm(grad), norm(param), clipping, eps)


def scale_from_norms(
    grad_norm: Float[Tensor, "*units"],
    param_norm: Float[Tensor, "*units"],
    clipping: float,
    eps: float,
) -> Float[Tensor, "*units"]:
    r"""The scales of AGC from the norms of units; see :func:`clip_scale`.

    >>> scale_from_norms(torch.tensor([0.1, 0.001]), torch.ones(2), clipping=0.01, eps=1e-3)
    tensor([0.1000, 1.0000])
    """
    largest = clipping * param_norm.clamp(min=eps)
    return torch.where(grad_norm > largest, largest / grad_norm.clamp(min=1e-6), 1.0)


def adaptive_clip(
    grad: Float[Tensor, "..."],
    param: Float[Tensor, "..."],
    clipping: float = 0.01,
    eps: float = 1e-3,
    *,
    unitwise: bool = True,
) -> Float[Tensor, "..."]:
    r"""Adaptive gradient clipping: no unit's gradient exceeds λ times the unit's norm.

    .. math:: g_i \to \begin{cases}
        \lambda\,\frac{\|w_i\|^\star}{\|g_i\|}\, g_i & \text{if } \|g_i\| > \lambda\|w_i\|^\star \\
        g_i & \text{otherwise} \end{cases}
        \qquad \|w_i\|^\star = \max(\|w_i\|, \varepsilon)

    Args:
        grad: gradient.
        param: parameter, same shape.
        clipping: :math:`\lambda`; larger batches need smaller values.
        eps: :math:`\varepsilon`, which lets parameters initialized to zero move.
        unitwise: one norm per unit, which the paper found to work better than one per tensor.

    Returns:
        The clipped gradient.

    Example:
        >>> adaptive_clip(torch.tensor([3.0, 4.0]), torch.tensor([0.0, 1.0]), clipping=0.1)
        tensor([0.0600, 0.0800])

    Source: section 4 of the paper, equation 3.
    """
    return grad * clip_scale(grad, param, clipping, eps, unitwise=unitwise)


def advised_clipping(batch_size: int) -> float:
    r"""Suggest an initial λ of AGC for a batch size.

    .. math:: \lambda = \min\left(0.16,\; \max\left(0.01,\; 0.01 \cdot \frac{1024}{B}\right)\right)

    The paper uses 0.01 for batch sizes of 1024 to 4096, and finds that smaller batches work with a
    larger λ. It studies λ from 0.01 to 0.16, at batch sizes of 256 to 4096. Keeping λB constant is
    our interpolation, and our extrapolation below a batch size of 256, where the paper gives no
    value. The best λ also depends on the learning rate and the optimizer.

    Args:
        batch_size: :math:`B`, the number of examples per update over all devices.

    Raises:
        UserError: the batch is empty.

    Example:
        >>> [advised_clipping(batch) for batch in (4096, 1024, 256, 128, 32)]
        [0.01, 0.01, 0.04, 0.08, 0.16]

    Source: sections 4.1 and 5.1, figures 2b and 7 of the paper.
    """
    if not batch_size >= 1:
        raise UserError(f"a batch has at least one example; got {batch_size}")
    return min(0.16, max(0.01, 0.01 * 1024 / batch_size))


def nesterov_momentum(
    grad: Float[Tensor, "..."], velocity: Float[Tensor, "..."], momentum: float
) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
    r"""One step of Nesterov's momentum, without dampening.

    .. math:: v \leftarrow \mu v + g, \qquad u = g + \mu v

    Args:
        grad: gradient :math:`g`, clipped and decayed.
        velocity: current :math:`v`, initially zero.
        momentum: :math:`\mu`.

    Returns:
        The update direction :math:`u`, not yet scaled by the learning rate, and the new velocity.

    Example:
        >>> nesterov_momentum(torch.tensor(1.0), torch.tensor(1.0), momentum=0.5)
        (tensor(1.7500), tensor(1.5000))
    """
    velocity = momentum * velocity + grad
    return grad + momentum * velocity, velocity


def sam_perturbation(
    grads: Sequence[Float[Tensor, "..."]], rho: float, norm: Float[Tensor, ""] | None = None
) -> list[Float[Tensor, "..."]]:
    r"""The ascent step of sharpness-aware minimization.

    .. math:: \epsilon = \rho\,\frac{g}{\|g\|_2}

    Args:
        grads: gradients :math:`g` of all parameters; the norm is taken over all of them together.
        rho: :math:`\rho`, the norm of the step.
        norm: :math:`\|g\|_2`, where these are not all of the gradients; None computes it.

    Returns:
        The steps, in the shapes of the gradients; zero if the norm is zero or not finite. They do
        not depend on the scale of the gradients, for example under a ``GradScaler``.

    Example:
        >>> sam_perturbation([torch.tensor([3.0]), torch.tensor([[0.0, -4.0]])], rho=0.5)
        [tensor([0.3000]), tensor([[ 0.0000, -0.4000]])]

    Source: equation 2 of Foret et al. (2021), with p = 2.
    """
    if not grads:
        return []
    scale = rho / (torch.nn.utils.get_total_norm(grads) if norm is None else norm)
    usable = (scale > 0) & scale.isfinite()
    return [torch.where(usable, step, 0.0) for step in torch._foreach_mul(list(grads), scale)]


def lars_rate(
    grad: Float[Tensor, "..."],
    param: Float[Tensor, "..."],
    trust: float,
    weight_decay: float = 0.0,
) -> Float[Tensor, ""]:
    r"""The local rate of LARS, which makes the step a fixed fraction of the parameter's norm.

    .. math:: \tau = c\,\frac{\|w\|}{\|g\| + \omega\|w\|}

    Args:
        grad: gradient :math:`g`.
        param: parameter :math:`w`, same shape; norms are taken over whole tensors.
        trust: :math:`c`.
        weight_decay: :math:`\omega`.

    Returns:
        The rate; one if either norm is zero, which lets parameters initialized to zero move.

    Example:
        >>> lars_rate(torch.tensor([[0.0, 4.0]]), torch.tensor([[2.0, 0.0]]), trust=0.1)
        tensor(0.0500)

    Source: algorithm 1 of You et al. (2017).
    """
    norm, grad_norm = torch.linalg.vector_norm(param), torch.linalg.vector_norm(grad)
    return lars_rate_from_norms(grad_norm, norm, trust, weight_decay)


def lars_rate_from_norms(
    grad_norm: Float[Tensor, "*layers"],
    param_norm: Float[Tensor, "*layers"],
    trust: float,
    weight_decay: float,
) -> Float[Tensor, "*layers"]:
    r"""The local rates of LARS from the norms of layers; see :func:`lars_rate`.

    >>> lars_rate_from_norms(torch.tensor([4.0]), torch.tensor([2.0]), 0.1, weight_decay=0.0)
    tensor([0.0500])
    """
    rate = trust * param_norm / (grad_norm + weight_decay * param_norm)
    return torch.where((param_norm > 0) & (grad_norm > 0), rate, 1.0)


def ema_decay(step: int, decay: float) -> float:
    r"""Decay of the moving average at a step, which warms up to a cap.

    .. math:: d_t = \min\left(d,\; \frac{1 + t}{10 + t}\right)

    Args:
        step: :math:`t`, from zero.
        decay: :math:`d`, the cap. The paper's cap of 0.99999 is reached after 899,990 steps, more
            than in its ImageNet runs.

    Example:
        >>> ema_decay(0, 0.99999), ema_decay(10**6, 0.99999)
        (0.1, 0.99999)

    Source: appendix A.1 of the paper; the authors' code (the rule of TensorFlow 1).
    """
    return min(decay, (1 + step) / (10 + step))
