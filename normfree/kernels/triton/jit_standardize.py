"""Weight standardization on the GPU: a program for each row, which comes from memory once.

The second and third time that a program reads its row, the row is in the cache. This module imports
Triton; others import it when they launch a kernel.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def row_mean(rows, start, fan_in, block: tl.constexpr):
    """The mean of a row, as a distance from its first element: exact for a constant row."""
    column = tl.arange(0, block)
    pivot = tl.load(rows + start).to(tl.float32)
    total = tl.zeros((block,), tl.float32)
    for first in range(0, fan_in, block):
        inside = first + column < fan_in
        x = tl.load(rows + start + first + column, mask=inside, other=0.0).to(tl.float32)
        total += tl.where(inside, x - pivot, 0.0)
    return pivot + tl.sum(total) / fan_in


@triton.jit
def forward(weight, gain, result, fan_in, eps, block: tl.constexpr):
    """Result = gain · r · x, with x = w − mean(w) and r = max(Σ x², ε)^(−1/2)."""
    row = tl.program_id(0)
    start = row.to(tl.int64) * fan_in
    column = tl.arange(0, block)
    mean = row_mean(weight, start, fan_in, block)
    squares = tl.zeros((block,), tl.float32)
    for first in range(0, fan_in, block):
        inside = first + column < fan_in
        w = tl.load(weight + start + first + column, mask=inside, other=0.0).to(tl.float32)
        x = tl.where(inside, w - mean, 0.0)
        squares += x * x
    scale = tl.load(gain + row).to(tl.float32) / tl.sqrt(tl.maximum(tl.sum(squares), eps))
    for first in range(0, fan_in, block):
        inside = first + column < fan_in
        at = start + first + column
        w = tl.load(weight + at, mask=inside, other=0.0).to(tl.float32)
        tl.store(result + at, ((w - mean) * scale).to(result.dtype.element_ty), mask=inside)


@triton.jit
def backward(grad, weight, gain, weight_grad, gain_grad, fan_in, eps, block: tl.constexpr):
    """∂gain = r s and ∂w = gain · r · (g − mean(g) − r² s x), with s = Σ x g.

    The last term is left out where ε is larger than Σ x².
    """
    row = tl.program_id(0)
    start = row.to(tl.int64) * fan_in
    column = tl.arange(0, block)
    mean = row_mean(weight, start, fan_in, block)
    grad_mean = row_mean(grad, start, fan_in, block)
    squares = tl.zeros((block,), tl.float32)
    products = tl.zeros((block,), tl.float32)
    for first in range(0, fan_in, block):
        inside = first + column < fan_in
        at = start + first + column
        x = tl.load(weight + at, mask=inside, other=0.0).to(tl.float32) - mean
        x = tl.where(inside, x, 0.0)
        squares += x * x
        products += x * tl.load(grad + at, mask=inside, other=0.0).to(tl.float32)
    variance = tl.sum(squares)
    s = tl.sum(products)
    r = 1.0 / tl.sqrt(tl.maximum(variance, eps))
    scale = tl.load(gain + row).to(tl.float32) * r
    slope = tl.where(variance > eps, r * r * s, 0.0)
    for first in range(0, fan_in, block):
        inside = first + column < fan_in
        at = start + first + column
        x = tl.load(weight + at, mask=inside, other=0.0).to(tl.float32) - mean
        g = tl.load(grad + at, mask=inside, other=0.0).to(tl.float32)
        found = scale * (g - grad_mean - slope * x)
        tl.store(weight_grad + at, found.to(weight_grad.dtype.element_ty), mask=inside)
    tl.store(gain_grad + row, (r * s).to(gain_grad.dtype.element_ty))
