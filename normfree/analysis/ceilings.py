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

    Libraries differ, so there are several ways to a matrix product of ``side × side`` matrices:
    as a linear layer, and as a pointwise convolution with its channels last. The fastest is the
    ceiling.

    Args:
        device: where to compute.
        dtype: of the factors.
        side: of the matrices, a multiple of 4; 2,048 on a CPU and 8,192 elsewhere by default.
        copy_bytes: size of the tensor that is copied. Each of its bytes counts twice: it is read
            and written.

    Returns:
        Name → ceiling.

    Example:
        >>> {name: found.amount for name, found in ceilings(side=16, copy_bytes=64).items()}
        {'matrix: linear': 8192, 'matrix: 1×1 convolution': 8192, 'copy': 128}
    """
    side = side or (2048 if device == "cpu" else 8192)
    on: dict[str, Any] = {"device": device, "dtype": dtype}
    rows, weight = torch.randn(side, side, **on), torch.randn(side, side, **on)
    pixels = rows.view(side // 4, 2, 2, side).permute(0, 3, 1, 2)  # the same memory
    kernel = weight.view(side, side, 1, 1).to(memory_format=torch.channels_last)
    source = torch.ones(copy_bytes // 4, device=device)
    target = torch.zeros_like(source)

    def product(call: Callable[[], object]) -> Callable[[], object]:
        return torch.no_grad()(call)

    flops = 2 * side**3
    found = [
        Ceiling("matrix", "linear", flops, product(lambda: F.linear(rows, weight))),
        Ceiling("matrix", "1×1 convolution", flops, product(lambda: F.conv2d(pixels, kernel))),
        Ceiling("copy", "", 2 * source.nbytes, lambda: target.copy_(source)),
    ]
    return {": ".join(filter(None, (one.kind, one.by))): one for one in found}


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
        >>> slow, fast = Latency(2.0, 2.0, 2.0, 3), Latency(1.0, 1.0, 1.0, 3)
        >>> times = {"matrix: linear": slow, "matrix: 1×1 convolution": fast, "copy": fast}
        >>> rates = best_rates(ceilings(side=16, copy_bytes=64), times)
        >>> rates["matrix"]["by"], rates["matrix"]["per_second"], rates["copy"]["per_second"]
        ('1×1 convolution', 8192.0, 128.0)
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
