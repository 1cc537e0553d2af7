"""All that happens to weights in a training step, beside copying the bytes that it must touch."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from normfree.optim import AGCSGD, EMA

#: What everything is compared with.
COPY = "copy of the same bytes"
_BUFFER = 1 << 27  # larger than caches


def weight_work(
    groups: list[dict[str, Any]], standardized: set[str]
) -> tuple[dict[str, int], dict[str, Callable[[], object]]]:
    """The bytes to touch, and the parts of the work by kernels and by PyTorch's operations.

    The update reads and writes each parameter, its velocity and its average, and reads its
    gradient. Standardization reads weights and writes the standardized ones; its gradient reads
    weights and the gradient of the standardized ones, and writes that of the weights.

    Args:
        groups: parameter groups with gradients.
        standardized: the names of parameters that are standardized.
    """
    import torch

    from normfree.nn.functional import standardize_weight
    from normfree.nn.standardize import standardize
    from normfree.optim import AGCSGD, EMA

    params: list[nn.Parameter] = [param for group in groups for param in group["params"]]
    names = [name for group in groups for name in group["param_names"]]
    weights = [p for name, p in zip(names, params, strict=True) if name in standardized]
    gains = [torch.ones(len(w), requires_grad=True) for w in weights]
    grads = [0.01 * torch.randn(w.shape) for w in weights]
    optimizer = AGCSGD([dict(group) for group in groups], lr=0.0)
    ema = EMA(torch.nn.ParameterList(params))

    def both_ways(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[], object]:
        def work() -> object:
            results = [function(w, gain) for w, gain in zip(weights, gains, strict=True)]
            return torch.autograd.grad(results, [*weights, *gains], grads)

        return work

    elements = sum(param.numel() for param in params)
    filters = sum(weight.numel() for weight in weights)
    sizes = {"update": 4 * 7 * elements, "standardization": 4 * 5 * filters}
    by_kernels, by_pytorch = both_ways(standardize), both_ways(standardize_weight)
    fused, foreach = _joint(optimizer, ema), _apart(optimizer, ema)
    return sizes, {
        COPY: _copy(sum(sizes.values())),
        "all, kernels": lambda: (by_kernels(), fused()),
        "all, PyTorch": lambda: (by_pytorch(), foreach()),
        "standardization both ways, kernels": by_kernels,
        "standardization both ways, PyTorch": by_pytorch,
        "clip, update and average, fused": fused,
        "clip, update and average, foreach": foreach,
    }


def _joint(optimizer: AGCSGD, ema: EMA) -> Callable[[], object]:
    def work() -> object:
        optimizer.backend = "fused"
        optimizer.step_and_average(ema, step=1000)
        return optimizer.clipped_units  # telemetry is part of every training step

    return work


def _apart(optimizer: AGCSGD, ema: EMA) -> Callable[[], object]:
    def work() -> object:
        optimizer.backend = "foreach"
        optimizer.step()
        ema.update(step=1000)
        return optimizer.clipped_units

    return work


def _copy(size: int) -> Callable[[], None]:
    """Read and write ``size`` bytes in total, by the C library's copy, which skips the caches."""
    import torch

    threads = torch.get_num_threads()
    half = min(_BUFFER, size // 2) // threads
    buffers = [(bytearray(half), bytearray(half)) for _ in range(threads)]
    views = [tuple((ctypes.c_char * half).from_buffer(b) for b in pair) for pair in buffers]
    pool = ThreadPoolExecutor(threads)

    def copied(pair: tuple[Any, ...]) -> None:
        left = size // 2 // threads
        while left > 0:
            ctypes.memmove(pair[1], pair[0], min(half, left))
            left -= half

    def work() -> None:
        list(pool.map(copied, views))

    return work
