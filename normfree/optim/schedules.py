"""Learning rate schedules as functions of the step."""

from __future__ import annotations

import math


def warmup_cosine(
    step: float,
    *,
    peak: float,
    warmup_steps: float,
    total_steps: float,
    start: float = 0.0,
    floor: float = 0.0,
) -> float:
    r"""Linear warm-up followed by cosine decay.

    .. math:: \eta_t = \begin{cases}
        \eta_0 + (\eta_{max} - \eta_0)\, t/t_w & t \le t_w \\
        \eta_{min} + \tfrac12 (\eta_{max} - \eta_{min})
            \left(1 + \cos \pi\frac{t - t_w}{T - t_w}\right) & t > t_w \end{cases}

    Args:
        step: :math:`t`, from zero; with ``start=0``, the first update has a learning rate of zero.
        peak: :math:`\eta_{max}`.
        warmup_steps: :math:`t_w`, which may be fractional.
        total_steps: :math:`T`; later steps use ``floor``.
        start: :math:`\eta_0`.
        floor: :math:`\eta_{min}`.

    Example:
        >>> f0 = {"peak": 1.6, "warmup_steps": 1563.9, "total_steps": 112602}
        >>> [round(warmup_cosine(t, **f0), 4) for t in (0, 1000, 57083, 112602)]
        [0.0, 1.0231, 0.8, 0.0]

        With ``peak=1``, it is a factor for PyTorch's ``LambdaLR`` scheduler:

        >>> import torch
        >>> sgd = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
        >>> factor = lambda t: warmup_cosine(t, peak=1.0, warmup_steps=5, total_steps=100)
        >>> torch.optim.lr_scheduler.LambdaLR(sgd, factor).get_last_lr()
        [0.0]

    Source: appendix A.1 of the paper; the authors' code.

    Differs from: the authors' code, whose cosine rises again after ``total_steps``.
    """
    if step <= warmup_steps and warmup_steps > 0:
        return start + (peak - start) * step / warmup_steps
    progress = min((step - warmup_steps) / max(total_steps - warmup_steps, 1e-12), 1.0)
    return floor + 0.5 * (peak - floor) * (1 + math.cos(math.pi * progress))


def warmup_exponential(
    step: float,
    *,
    peak: float,
    warmup_steps: float,
    decay_rate: float,
    decay_steps: float,
    start: float = 0.0,
    floor: float = 0.0,
    staircase: bool = True,
) -> float:
    r"""Linear warm-up followed by exponential decay, in steps or continuous.

    .. math:: \eta_t = \begin{cases}
        \eta_0 + (\eta_{max} - \eta_0)\, t/t_w & t < t_w \\
        \max\left(\eta_{min},\; \eta_{max}\, r^{\lfloor t/t_d \rfloor}\right) & t \ge t_w
        \end{cases}

    As in the training of EfficientNets, decay is counted from step 0, not from the end of the
    warm-up. A warm-up longer than :math:`t_d` therefore ends with a drop below the peak.

    Args:
        step: :math:`t`, from zero.
        peak: :math:`\eta_{max}`.
        warmup_steps: :math:`t_w`, which may be fractional.
        decay_rate: :math:`r`.
        decay_steps: :math:`t_d`, which may be fractional.
        start: :math:`\eta_0`.
        floor: :math:`\eta_{min}`.
        staircase: whether to round the exponent :math:`t/t_d` down to an integer.

    Example:
        EfficientNet at batch size 4096: 5 epochs of warm-up to 0.256, then × 0.97 every 2.4 epochs:

        >>> epoch = 1281167 / 4096
        >>> b0 = {"peak": 0.256, "warmup_steps": 5 * epoch}
        >>> b0 |= {"decay_rate": 0.97, "decay_steps": 2.4 * epoch}
        >>> [round(warmup_exponential(n * epoch, **b0), 4) for n in (0, 1, 5, 100, 350)]
        [0.0, 0.0512, 0.2409, 0.0734, 0.0031]

    Source: Tan & Le (2019) and their code.
    """
    if step < warmup_steps:
        return start + (peak - start) * step / warmup_steps
    exponent = step / decay_steps
    if staircase:
        exponent = math.floor(exponent)
    return max(floor, peak * decay_rate**exponent)
