"""The table of RandAugment's operations: each equation is registered with its rule for a level."""

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
    """How strong an operation is to be, which way it goes, and on what.

    Attributes:
        magnitude: 10 is what the rules were made for.
        sign: 1 or −1, for operations that go either way.
        height: of the images, pixels.
        width: of the images, pixels.
        quirks: whether to follow the authors' code to the letter.
    """

    magnitude: float
    sign: int
    height: int
    width: int
    quirks: bool

    @property
    def share(self) -> float:
        """The magnitude, of 10."""
        return self.magnitude / 10


Rule = Callable[[Level], Any]


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One row of the table.

    Attributes:
        function: the equation: of images; for ``centered`` ones, of rows and columns too; then of
            what the rule gives.
        authors: the argument at a level in the authors' code, or several; ``None`` without any.
        clean: the same without quirks.
        neutral: the (first) argument with which nothing happens; ``None`` if there is none.
        centered: whether each image has a point of its own.
        kernel: the C function that does the same; whole numbers and truths go to its ``number``,
            fractions to its ``factor``. ``None``: the equation does the work on CPUs, too.
        places: for ``kernel="move"``: the input pixel that each output pixel takes, from the
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
        """What the equation takes beside images."""
        rule = self.authors if level.quirks else self.clean
        found = () if rule is None else rule(level)
        return found if isinstance(found, tuple) else (found,)

    def idle(self, level: Level) -> bool:
        """Whether it does nothing."""
        return self.neutral is not None and self.arguments(level)[0] == self.neutral

    def signed(self, *, quirks: bool) -> bool:
        """Whether it goes either way: then its rule depends on the sign."""
        one, other = (Level(10.0, sign, 64, 64, quirks) for sign in (1, -1))
        return self.arguments(one) != self.arguments(other)

    def call(self, level: Level) -> kernels.Call | None:
        """The same for the kernel; ``None`` if there is none."""
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
"""The registered operations by name."""


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
    """Register an equation as an operation of RandAugment; see :class:`Operation`.

    The equation takes bytes (n, c, h, w), treats each image alone and returns new bytes; ``clean``
    is like ``authors`` unless it is given. To use an operation of your own, name it in
    ``RandAugment(operations=…)``.

    Raises:
        ValueError: the name is taken.

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
        raise ValueError(f"there is an operation {name!r} already")

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
    """A row of the table.

    Raises:
        UserError: there is none of this name.
    """
    if name not in TABLE:
        raise unknown_name("operation of RandAugment", name, TABLE)
    return TABLE[name]
