"""The update of the weights on the GPU: a program for each unit of each of many tensors.

This module imports Triton; others import it when they launch a kernel.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def floats_at(table, entry, start, aligned: tl.constexpr):
    """A pointer to floats of the tensor whose address is in a table; aligned: to 16 bytes."""
    pointer = tl.load(table + entry).to(tl.pointer_type(tl.float32))
    if aligned:
        pointer = tl.multiple_of(pointer, 16)
    return pointer + start


@triton.jit
def scale_of(w, g, size, clipping, eps, block: tl.constexpr):
    """S = min(1, λ · max(‖w‖, ε) / max(‖g‖, 10⁻⁶)) of a unit."""
    column = tl.arange(0, block)
    w_squares = tl.zeros((block,), tl.float32)
    g_squares = tl.zeros((block,), tl.float32)
    for first in range(0, size, block):
        inside = first + column < size
        x = tl.load(w + first + column, mask=inside, other=0.0)
        y = tl.load(g + first + column, mask=inside, other=0.0)
        w_squares += x * x
        g_squares += y * y
    largest = clipping * tl.maximum(tl.sqrt(tl.sum(w_squares)), eps)
    norm = tl.sqrt(tl.sum(g_squares))
    return tl.where(norm > largest, largest / tl.maximum(norm, 1e-6), 1.0)


@triton.jit
def update(
    table,
    owner,
    scales,
    lr,
    average_weight,
    momentum,
    weight_decay,
    clipping,
    eps,
    clips: tl.constexpr,
    nesterov: tl.constexpr,
    has_velocity: tl.constexpr,
    has_average: tl.constexpr,
    lr_on_device: tl.constexpr,
    average_weight_on_device: tl.constexpr,
    aligned: tl.constexpr,
    block: tl.constexpr,
):
    """Clip, decay, accumulate momentum, update and average a unit.

    A row of the table: addresses of w, g, v and the average, the size of a unit, the program of the
    tensor's first unit, and the scale of its first unit. ``owner`` names a program's row.
    """
    program = tl.program_id(0)
    entry = tl.load(owner + program).to(tl.int64) * 7
    size = tl.load(table + entry + 4)
    if aligned:
        size = tl.multiple_of(size, 4)
    unit = program - tl.load(table + entry + 5)
    start = unit * size
    w = floats_at(table, entry, start, aligned)
    g = floats_at(table, entry + 1, start, aligned)
    v = floats_at(table, entry + 2, start, aligned)
    a = floats_at(table, entry + 3, start, aligned)
    if lr_on_device:
        lr = tl.load(lr)
    if average_weight_on_device:
        average_weight = tl.load(average_weight)
    scale = 1.0
    if clips:
        scale = scale_of(w, g, size, clipping, eps, block)
        tl.store(scales + tl.load(table + entry + 6) + unit, scale)
    column = tl.arange(0, block)
    for first in range(0, size, block):
        inside = first + column < size
        x = tl.load(w + first + column, mask=inside, other=0.0)
        step = scale * tl.load(g + first + column, mask=inside, other=0.0) + weight_decay * x
        if has_velocity:
            velocity = momentum * tl.load(v + first + column, mask=inside, other=0.0) + step
            tl.store(v + first + column, velocity, mask=inside)
            if nesterov:
                step += momentum * velocity
            else:
                step = velocity
        x -= lr * step
        tl.store(w + first + column, x, mask=inside)
        if has_average:
            average = tl.load(a + first + column, mask=inside, other=0.0)
            tl.store(a + first + column, average + average_weight * (x - average), mask=inside)
