"""Learning rates as functions of the step."""

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
    r"""Linear warm-up, then half a cosine.

    .. math:: \eta_t = \begin{cases}
        \eta_0 + (\eta_{max} - \eta_0)\, t/t_w & t \le t_w \\
        \eta_{min} + \tfrac12 (\eta_{max} - \eta_{min})
            \left(1 + \cos \pi\frac{t - t_w}{T - t_w}\right) & t > t_w \end{cases}

    Args:
        step: :math:`t`, from zero: with ``start=0`` the first update has learning rate zero.
        peak: :math:`\eta_{max}`.
        warmup_steps: :math:`t_w`; need not be whole.
        total_steps: :math:`T`; later steps keep ``floor``.
        start: :math:`\eta_0`.
        floor: :math:`\eta_{min}`.

    Example:
        >>> f0 = {"peak": 1.6, "warmup_steps": 1563.9, "total_steps": 112602}
        >>> [round(warmup_cosine(t, **f0), 4) for t in (0, 1000, 57083, 112602)]
        [0.0, 1.0231, 0.8, 0.0]

        With a PyTorch scheduler, ``peak=1`` makes it a factor of the optimizer's rate:

        >>> import torch
        >>> sgd = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
        >>> factor = lambda t: warmup_cosine(t, peak=1.0, warmup_steps=5, total_steps=100)
        >>> torch.optim.lr_scheduler.LambdaLR(sgd, factor).get_last_lr()
        [0.0]

    Source: section 6.1 of the paper and the authors' code.

    Differs from: the authors' code after ``total_steps``, where its cosine rises again.
    """
    if step <= warmup_steps and warmup_steps > 0:
        return start + (peak - start) * step / warmup_steps
    progress = min((step - warmup_steps) / max(total_steps - warmup_steps, 1e-12), 1.0)
    return floor + 0.5 * (peak - floor) * (1 + math.cos(math.pi * progress))
