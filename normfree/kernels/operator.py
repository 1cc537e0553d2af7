"""Operators: an equation in PyTorch, a bit-identical CPU kernel, and a fake implementation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result", Tensor, tuple[Tensor, Tensor])


def operator(
    schema: str,
    *,
    kernel: Callable[..., Result | None],
    result: Callable[..., Result],
    shapes: Callable[..., None],
    values: Callable[..., None] | None = None,
    cuda: Callable[..., Result | None] | None = None,
) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Register an equation as ``torch.ops.normfree.NAME``, opaque to ``torch.compile``.

    On the CPU, the kernel is used if it supports the arguments; otherwise the equation is used. The
    checks run before either, so both reject the same arguments.

    Args:
        schema: operator schema without in-place arguments, such as
            ``"invert(Tensor images) -> Tensor"``.
        kernel: the CPU implementation; returns ``None`` for arguments it does not support.
        result: creates an empty result; the fake implementation for tracing.
        shapes: raises UserError unless shapes and dtypes match; never reads an element.
        values: raises UserError unless elements are in range; only called on the CPU, where reading
            them does not synchronize.
        cuda: the implementation on CUDA, like ``kernel``; None for the equation.

    Returns:
        A decorator that turns the equation into the operator.

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

    def register(equation: Callable[..., Result]) -> Callable[..., Result]:
        def on_any_device(*arguments: Any) -> Result:
            shapes(*arguments)
            return equation(*arguments)

        def on_cpu(*arguments: Any) -> Result:
            shapes(*arguments)
            if values is not None:
                values(*arguments)
            found = kernel(*arguments)
            return equation(*arguments) if found is None else found

        def on_cuda(*arguments: Any) -> Result:
            shapes(*arguments)
            found = None if cuda is None else cuda(*arguments)
            return equation(*arguments) if found is None else found

        def traced(*arguments: Any) -> Result:
            shapes(*arguments)
            return result(*arguments)

        # Not torch.library.custom_op: its Python overhead costs as much as a small batch.
        torch.library.define(full, parenthesis + types, tags=(torch.Tag.pt2_compliant_tag,))
        torch.library.impl(full, "default", on_any_device)
        torch.library.impl(full, "cpu", on_cpu)
        if cuda is not None:
            torch.library.impl(full, "cuda", on_cuda)
        torch.library.register_fake(full, traced)
        made: Callable[..., Result] = getattr(torch.ops.normfree, name).default
        return made

    return register
