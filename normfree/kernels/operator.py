"""An operator: an equation in PyTorch, a kernel that gives the same bits, and what tracing sees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Equation = Callable[..., Tensor]


def operator(
    schema: str,
    *,
    kernel: Callable[..., Tensor | None],
    result: Equation,
    shapes: Callable[..., None],
    values: Callable[..., None] | None = None,
) -> Callable[[Equation], Equation]:
    """Register an equation as ``torch.ops.normfree.NAME``, which ``torch.compile`` takes whole.

    On a CPU the kernel does the work where it can; else the equation does. Both see only arguments
    that passed the same checks, so both refuse the same.

    Args:
        schema: name and types, ``"invert(Tensor images) -> Tensor"``; nothing is changed in place.
        kernel: the same on a CPU, or ``None`` where it cannot.
        result: makes an empty result: what tracing takes for the operator.
        shapes: raises UserError unless shapes and dtypes fit; never reads an element.
        values: raises UserError unless the elements are in range; only called on a CPU, where
            reading them waits for nothing.

    Returns:
        A decorator: the equation goes in, the operator comes out.

    Example:
        >>> @operator(
        ...     "doctest_invert(Tensor images) -> Tensor",
        ...     kernel=lambda images: None,
        ...     result=torch.empty_like,
        ...     shapes=lambda images: None,
        ... )
        ... def invert(images):
        ...     return 255 - images
        >>> invert(torch.tensor([1, 2])), torch.ops.normfree.doctest_invert(torch.tensor([3]))
        (tensor([254, 253]), tensor([252]))
    """
    name, parenthesis, types = schema.partition("(")
    full = f"normfree::{name}"

    def register(equation: Equation) -> Equation:
        def on_any_device(*arguments: Any) -> Tensor:
            shapes(*arguments)
            return equation(*arguments)

        def on_cpu(*arguments: Any) -> Tensor:
            shapes(*arguments)
            if values is not None:
                values(*arguments)
            found = kernel(*arguments)
            return equation(*arguments) if found is None else found

        def traced(*arguments: Any) -> Tensor:
            shapes(*arguments)
            return result(*arguments)

        # Not torch.library.custom_op: its layers of Python cost as much as a small batch.
        torch.library.define(full, parenthesis + types, tags=(torch.Tag.pt2_compliant_tag,))
        torch.library.impl(full, "default", on_any_device)
        torch.library.impl(full, "cpu", on_cpu)
        torch.library.register_fake(full, traced)
        made: Equation = getattr(torch.ops.normfree, name).default
        return made

    return register
