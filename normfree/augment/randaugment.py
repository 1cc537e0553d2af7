"""RandAugment on whole batches, with independent random operations for each image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Int, Int64, Shaped, UInt8
from torch import Tensor

from normfree import kernels
from normfree.augment.levels import chunk_length
from normfree.augment.operations import OPERATIONS, SIGNED, arguments
from normfree.augment.plan import Group, Plan, check_shapes, check_values, runs
from normfree.augment.registry import Level, Operation, find
from normfree.errors import UserError
from normfree.random import uniform

__all__ = ["OPERATIONS", "SIGNED", "Group", "Plan", "RandAugment", "arguments"]

_STREAM = 0x52414E44  # "RAND": far from the small stream numbers of network layers
_DRAWS = 4  # random numbers per image and layer: operation, sign, row, column
_MOST = 1000  # beyond this magnitude, arguments leave their valid range
_WORDS = (torch.complex128, torch.int64, torch.int32, torch.int16, torch.uint8)


@dataclass(frozen=True)
class RandAugment:
    """Apply one of 16 equally likely operations to each image in each layer.

    The strength is constant; rotations, shears and translations have a random sign. The operations
    on an image depend only on its key, not on the rest of the batch or its position in the batch.

    With ``quirks``, the output equals that of the authors' code byte for byte. Without:

    - *Posterize* keeps ``8 − round(4·level/10)`` bits (torchvision's rule), at least one, and gets
      stronger with the level. The authors' keeps ``int(4·level/10)`` bits and gets weaker.
    - *Solarize* inverts from ``256 − int(256·level/10)`` up (timm's SolarizeIncreasing), at least
      0. The authors' inverts from ``int(256·level/10)`` modulo 256: level 10 inverts everything,
      and level 15 is the same as 5.
    - *Color, Contrast, Brightness, Sharpness* have the factor ``1 ± 0.9·level/10`` (timm's
      Increasing), at least 0.1. The authors' factor is ``0.1 + 1.8·level/10``, which at level 5 is
      1 and has no effect.
    - *Contrast* scales about the mean of the gray image. The authors' scales about
      ``min(255, h·w/256)``.
    - *TranslateX, TranslateY* move by ``0.45·level/10`` of the image side (timm's relative rule).
      The authors' move by ``100·level/10`` pixels, whatever the image size.

    At level 0 without quirks, only AutoContrast, Equalize and Invert change images.

    Attributes:
        layers: number of operations applied to each image in sequence.
        magnitude: the level. The rules were designed for at most 10; higher levels extrapolate.
        quirks: whether to reproduce the authors' code exactly.
        operations: names to draw from, in this order; by default the authors' sixteen. Register
            others with :func:`normfree.augment.operation`.

    Example:
        >>> augment, keys = RandAugment(layers=2, magnitude=10), torch.tensor([1, 2, 3])
        >>> images = torch.arange(108, dtype=torch.uint8).view(3, 1, 6, 6)
        >>> plan = augment.draw(keys, height=6, width=6)
        >>> augment(images, plan).shape
        torch.Size([3, 1, 6, 6])

    Source: Cubuk et al. (2019), *RandAugment*; the authors' ``autoaugment.py``. NFNets are trained
    with four layers, at level 5 for F0, 10 for F1 and F2, and 15 for F3 and larger.

    Differs from: timm, which skips each operation with probability ½ and draws a random strength;
    torchvision, which applies the same operations to all images of a batch.
    """

    layers: int
    magnitude: float
    quirks: bool = True
    operations: tuple[str, ...] = OPERATIONS

    def __post_init__(self) -> None:
        if self.layers < 0:
            raise UserError(f"RandAugment needs 0 or more layers, not {self.layers}")
        if not 0 <= self.magnitude <= _MOST:
            raise UserError(f"RandAugment's magnitude is from 0 to {_MOST}, not {self.magnitude}")
        if not self.operations:
            raise UserError("RandAugment needs at least one operation to draw from")
        for name in self.operations:
            find(name)

    def draw(self, keys: Int[Tensor, " n"], height: int, width: int) -> Plan:
        """Draw the operations for each image.

        Args:
            keys: one key per image, on the host.
            height: height of the images, pixels.
            width: width of the images, pixels.
        """
        numbers = uniform(keys, _STREAM, _DRAWS * self.layers).view(len(keys), self.layers, _DRAWS)
        bounds = torch.tensor([len(self.operations), 2, height, width])
        kinds, signs, rows, columns = (numbers * bounds).long().permute(2, 1, 0)
        codes = 2 * kinds + signs * torch.tensor(_signed(self.operations, self.quirks))[kinds]
        codes, order = codes.sort(dim=1, stable=True)
        places = torch.stack([order, rows.gather(1, order), columns.gather(1, order)], dim=1)
        return Plan(height, width, codes, places, self.operations)

    def apply(self, images: UInt8[Tensor, "n c h w"], plan: Plan) -> UInt8[Tensor, "n c h w"]:
        """Apply a plan.

        There is no device synchronization and no loop over images. ``torch.compile`` sees a single
        operator, ``torch.ops.normfree.randaugment``. On the CPU, compiled kernels are used if
        :func:`normfree.kernels.available`.

        Args:
            images: bytes, not modified.
            plan: a plan for this number and size of images, with its places on the same device.

        Returns:
            New bytes, or ``images`` itself if no operation has an effect.

        Raises:
            UserError: the plan does not match the images or, on the CPU, has invalid values.
        """
        n, _, height, width = images.shape
        if (n, height, width) != (plan.places.shape[2], plan.height, plan.width):
            raise UserError(
                f"the plan is for {plan.places.shape[2]} images of {plan.height}×{plan.width} "
                f"pixels, but there are {n} of {height}×{width}; draw one for these"
            )
        if plan.operations != self.operations:
            raise UserError("the plan was drawn from other operations; draw a new one")
        traced = torch.compiler.is_compiling() or type(plan.codes) is not Tensor
        if not traced and self._idle(plan):
            return images
        settings = (float(self.magnitude), self.quirks, list(self.operations))
        return _randaugment(images, plan.codes, plan.places, *settings)

    __call__ = apply

    def _idle(self, plan: Plan) -> bool:
        """Whether no operation in the plan has an effect."""
        steps = _steps(self.magnitude, self.quirks, self.operations, plan.height, plan.width)
        if None not in steps and plan.codes.numel():
            return False
        codes = [code for layer in runs(plan.codes) for code, _, _ in layer]
        return all(0 <= code < len(steps) and steps[code] is None for code in codes)


_Step = tuple[Operation, Level]


@lru_cache(maxsize=64)
def _signed(operations: tuple[str, ...], quirks: bool) -> list[bool]:
    """Which of the operations have a sign."""
    return [find(name).signed(quirks=quirks) for name in operations]


@lru_cache(maxsize=64)
def _steps(
    magnitude: float, quirks: bool, operations: tuple[str, ...], height: int, width: int
) -> list[_Step | None]:
    """The operation and level of each code for images of this size; ``None`` without effect."""
    RandAugment(1, magnitude, quirks, operations)
    both = (
        (find(name), Level(magnitude, sign, height, width, quirks))
        for name in operations
        for sign in (1, -1)
    )
    return [None if operation.idle(level) else (operation, level) for operation, level in both]


# ---- The operator: its checks, its kernel, its equation ----


def _check_shapes(images: Tensor, codes: Tensor, places: Tensor, *_: object) -> None:
    check_shapes(images, codes, places)


def _check_values(
    images: Tensor,
    codes: Tensor,
    places: Tensor,
    magnitude: float,
    quirks: bool,
    operations: Sequence[str],
) -> None:
    height, width = images.shape[2:]
    _steps(magnitude, quirks, tuple(operations), height, width)  # raises for invalid settings
    check_values(codes, places, height, width, len(operations))


def _by_kernel(
    images: Tensor,
    codes: Tensor,
    places: Tensor,
    magnitude: float,
    quirks: bool,
    operations: Sequence[str],
) -> Tensor | None:
    """Apply the kernels; ``None`` if an operation has no kernel."""
    if not images.numel() or not kernels.available():
        return None
    calls = _calls(magnitude, quirks, tuple(operations), *images.shape[2:])
    if calls is None:
        return None
    drawn = torch.stack([codes, places[:, 1], places[:, 2]])
    of_images = torch.zeros_like(drawn).scatter_(2, places[:, 0].expand_as(drawn), drawn)
    return kernels.randaugment(images, calls, *of_images)


@lru_cache(maxsize=16)
def _calls(
    magnitude: float, quirks: bool, operations: tuple[str, ...], height: int, width: int
) -> kernels.Operations | None:
    """The kernel call of each code."""
    calls: list[kernels.Call | None] = []
    for step in _steps(magnitude, quirks, operations, height, width):
        call = None if step is None else step[0].call(step[1])
        if step is not None and call is None:
            return None
        calls.append(call)
    return kernels.Operations(calls, height * width)


def _empty(images: Tensor, *_: object) -> Tensor:
    return torch.empty_like(images, memory_format=torch.contiguous_format)


def _equation(
    images: UInt8[Tensor, "n c h w"],
    codes: Int64[Tensor, "layers n"],
    places: Int64[Tensor, "layers 3 n"],
    magnitude: float,
    quirks: bool,
    operations: Sequence[str],
) -> UInt8[Tensor, "n c h w"]:
    """Apply each operation of each layer to its images."""
    steps = _steps(magnitude, quirks, tuple(operations), *images.shape[2:])
    result = images.clone(memory_format=torch.contiguous_format)
    if not result.numel():
        return result
    for layer, of_layer in zip(runs(codes), places.unbind(), strict=True):
        for code, start, stop in layer:
            if (step := steps[code]) is None:
                continue
            order, *centers = of_layer[:, start:stop].unbind()
            _change(result, *step, order, centers if step[0].centered else [])
    return result


def _change(
    images: UInt8[Tensor, "n c h w"],
    operation: Operation,
    level: Level,
    order: Int64[Tensor, " k"],
    centers: Sequence[Int64[Tensor, " k"]],
) -> None:
    """Replace each selected image by the output of the operation."""
    given = operation.arguments(level)
    words, length = _words(images), chunk_length(images)
    for start in range(0, len(order), length):
        part = slice(start, start + length)
        chosen = order[part]
        points = (center[part] for center in centers)
        changed = operation.function(images.index_select(0, chosen), *points, *given)
        words.index_copy_(0, chosen, _words(changed))


def _words(images: UInt8[Tensor, "n c h w"]) -> Shaped[Tensor, "n words"]:
    """View each image as the largest words that divide it, because copies go word by word."""
    lines = images.view(len(images), -1)
    length = lines.shape[1]
    return lines.view(next(word for word in _WORDS if length % word.itemsize == 0))


_randaugment = kernels.operator(
    "randaugment(Tensor images, Tensor codes, Tensor places, float magnitude, bool quirks, "
    "str[] operations) -> Tensor",
    kernel=_by_kernel,
    result=_empty,
    shapes=_check_shapes,
    values=_check_values,
)(_equation)
