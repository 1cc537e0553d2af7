"""What this machine can do at best: matrix products and copies, measured.

A fraction of a data sheet's peak says little where the peak cannot be reached. These calls take
turns with what they are compared with, so that both meet the same machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch.nn import functional as F  # noqa: N812

from normfree.analysis.latency import Latency

Kind: TypeAlias = Literal["matrix", "copy"]

_COPY_BYTES = 2**28  # far larger than any cache


@dataclass(frozen=True)
class Ceiling:
    """A call that does as much as the machine can.

    Attributes:
        kind: what it shows: the rate of matrix products or of copies.
        by: the way it takes.
        amount: floating-point operations or bytes of a call.
        call: does it.
    """

    kind: Kind
    by: str
    amount: int
    call: Callable[[], object]


def ceilings(
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    *,
    side: int | None = None,
    copy_bytes: int = _COPY_BYTES,
) -> dict[str, Ceiling]:
    """Calls whose rates are ceilings.

    Libraries differ, and so do shapes, so there are several ways to many multiply-adds: a linear
    layer of ``side × side`` matrices, and dense convolutions of 1×1 and 3×3 pixels in channels_last
    memory, from ``side / 4`` channels to as many. The fastest is the ceiling.

    Args:
        device: where to compute.
        dtype: of the factors.
        side: 2,048 on a CPU and 8,192 elsewhere by default.
        copy_bytes: size of the tensor that is copied. Each of its bytes counts twice: it is read
            and written.

    Returns:
        Name → ceiling.

    Example:
        >>> {name: found.amount for name, found in ceilings(side=64, copy_bytes=64).items()}
        {'matrix: linear': 524288, 'matrix: 1×1 convolution': 131072,
         'matrix: 3×3 convolution': 1179648, 'copy': 128}
    """
    side = side or (2048 if device == "cpu" else 8192)
    source = torch.ones(copy_bytes // 4, device=device)
    target = torch.zeros_like(source)
    found = [
        _linear(side, device, dtype),
        _convolution(1, side, device, dtype),
        _convolution(3, side, device, dtype),
        Ceiling("copy", "", 2 * source.nbytes, lambda: target.copy_(source)),
    ]
    return {": ".join(filter(None, (one.kind, one.by))): one for one in found}


def _linear(side: int, device: str, dtype: torch.dtype) -> Ceiling:
    x, weight = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return Ceiling("matrix", "linear", 2 * side**3, lambda: F.linear(x, weight))


def _convolution(pixels: int, side: int, device: str, dtype: torch.dtype) -> Ceiling:
    """A dense convolution of ``pixels × pixels`` on maps of 16 × 16."""
    images, channels = -(-side // 64), -(-side // 4)
    x, weight = (
        torch.randn(shape, device=device, dtype=dtype).to(memory_format=torch.channels_last)
        for shape in ((images, channels, 16, 16), (channels, channels, pixels, pixels))
    )
    flops = 2 * images * 16 * 16 * weight.numel()
    name = f"{pixels}×{pixels} convolution"
    return Ceiling("matrix", name, flops, lambda: F.conv2d(x, weight, padding=pixels // 2))


def best_rates(
    found: Mapping[str, Ceiling], latencies: Mapping[str, Latency]
) -> dict[Kind, dict[str, Any]]:
    """The highest rate of each kind, by median time.

    Args:
        found: see :func:`ceilings`.
        latencies: of their calls, by the same names; others are ignored.

    Returns:
        Kind → ``by``, ``per_second`` (floating-point operations or bytes) and ``seconds``.

    Example:
        >>> slow, fast = Latency(4.0, 4.0, 4.0, 3), Latency(1.0, 1.0, 1.0, 3)
        >>> found = ceilings(side=64, copy_bytes=64)
        >>> rates = best_rates(found, {**dict.fromkeys(found, slow), "matrix: linear": fast})
        >>> rates["matrix"]["by"], rates["matrix"]["per_second"], rates["copy"]["per_second"]
        ('linear', 524288.0, 32.0)
    """
    return {
        kind: max(_rates(kind, found, latencies), key=lambda rate: rate["per_second"])
        for kind in dict.fromkeys(ceiling.kind for ceiling in found.values())
    }


def _rates(
    kind: Kind, found: Mapping[str, Ceiling], latencies: Mapping[str, Latency]
) -> Iterator[dict[str, Any]]:
    for name, ceiling in found.items():
        if ceiling.kind == kind:
            rate = ceiling.amount / latencies[name].median
            yield {"by": ceiling.by, "per_second": rate, "seconds": asdict(latencies[name])}
