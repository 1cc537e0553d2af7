"""The registry of RandAugment operations, each with its rule from level to argument."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from jaxtyping import Int64
from torch import Tensor

from normfree import kernels
from normfree.errors import unknown_name

Equation = TypeVar("Equation", bound=Callable[..., Tensor])


class Level(NamedTuple):
    """The strength and sign of an operation, and the size of the images.

    Attributes:
        magnitude: strength; the rules were designed for a maximum of 10.
        sign: 1 or −1, for operations with a sign.
        height: height of the images, pixels.
        width: width of the images, pixels.
        quirks: whether to reproduce the authors' code exactly.
    """

    magnitude: float
    sign: int
    height: int
    width: int
    quirks: bool

    @property
    def share(self) -> float:
        """The magnitude as a fraction of 10."""
        return self.magnitude / 10


Rule = Callable[[Level], Any]


@dataclass(frozen=True, kw_only=True)
class Operation:
    """A registered operation.

    Attributes:
        function: the equation. It takes images, then rows and columns if ``centered``, then the
            arguments from the rule.
        authors: rule from a level to the argument or arguments in the authors' code; ``None`` for
            an operation without arguments.
        clean: the rule without quirks.
        neutral: first argument that leaves images unchanged; ``None`` if there is none.
        centered: whether the operation takes a point per image.
        kernel: name of the equivalent C function; integers and booleans become its ``number``,
            fractions its ``factor``. With ``None``, the equation is also used on the CPU.
        places: for ``kernel="move"``, computes the input pixel of each output pixel from the
            argument, the height and the width.
    """

    function: Callable[..., Tensor]
    authors: Rule | None
    clean: Rule | None
    neutral: float | None
    centered: bool
    kernel: str | None
    places: Callable[[float, int, int], Int64[Tensor, " pixels"]] | None

    def arguments(self, level: Level) -> tuple[Any, ...]:
        """The arguments of the equation other than the images."""
        rule = self.authors if level.quirks else self.clean
        found = () if rule is None else rule(level)
        return found if isinstance(found, tuple) else (found,)

    def idle(self, level: Level) -> bool:
        """Whether the operation does nothing at this level."""
        return self.neutral is not None and self.arguments(level)[0] == self.neutral

    def signed(self, *, quirks: bool) -> bool:
        """Whether the operation has a sign, that is, its rule depends on the sign."""
        one, other = (Level(10.0, sign, 64, 64, quirks) for sign in (1, -1))
        return self.arguments(one) != self.arguments(other)

    def call(self, level: Level) -> kernels.Call | None:
        """The call of the equivalent kernel; ``None`` if there is none."""
        if self.kernel is None:
            return None
        found = self.arguments(level)
        if self.places is not None:
            return kernels.Call(
                self.kernel, places=self.places(found[0], level.height, level.width)
            )
        call = kernels.Call(self.kernel)
        for value in found:
            whole = isinstance(value, int)
            call = call._replace(number=int(value)) if whole else call._replace(factor=value)
        return call


TABLE: dict[str, Operation] = {}
"""Registered operations by name."""


def operation(
    name: str,
    *,
    authors: Rule | None = None,
    clean: Rule | None = None,
    neutral: float | None = None,
    centered: bool = False,
    kernel: str | None = None,
    places: Callable[[float, int, int], Int64[Tensor, " pixels"]] | None = None,
) -> Callable[[Equation], Equation]:
    """Register an equation as a RandAugment operation; see :class:`Operation`.

    The equation takes bytes (n, c, h, w), processes each image independently, and returns new
    bytes. ``clean`` defaults to ``authors``. To use a custom operation, list its name in
    ``RandAugment(operations=…)``.

    Raises:
        ValueError: the name is already registered.

    >>> @operation("Dim", authors=lambda level: 0.02 * level.magnitude, neutral=0)
    ... def dim(images, share):
    ...     return (images * (1 - share)).to(torch.uint8)
    >>> import torch
    >>> from normfree.augment import RandAugment
    >>> augment = RandAugment(layers=1, magnitude=10, operations=("Dim",))
    >>> images = torch.full((1, 1, 1, 2), 100, dtype=torch.uint8)
    >>> augment(images, augment.draw(torch.tensor([1]), 1, 2))
    tensor([[[[80, 80]]]], dtype=torch.uint8)
    >>> del TABLE["Dim"]
    """
    if name in TABLE:
        raise ValueError(f"an operation named {name!r} is already registered")

    def register(function: Equation) -> Equation:
        TABLE[name] = Operation(
            function=function,
            authors=authors,
            clean=clean or authors,
            neutral=neutral,
            centered=centered,
            kernel=kernel,
            places=places,
        )
        return function

    return register


def find(name: str) -> Operation:
    """Find a registered operation by name.

    Raises:
        UserError: the name is unknown.
    """
    if name not in TABLE:
        raise unknown_name("RandAugment operation", name, TABLE)
    return TABLE[name]
