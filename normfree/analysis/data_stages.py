"""From image files to what the network takes, one stage at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Shaped, UInt8
from PIL import Image
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from normfree.augment import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    RandAugment,
    draw_mix,
    mix_bytes,
    normalize,
)
from normfree.data import (
    LIMITS,
    BatchPlan,
    EvalTransform,
    TrainTransform,
    decode,
    eval_batches,
    train_batches,
)
from normfree.data.files import read_regular
from normfree.data.sources.folder import FolderSource

#: Width and height of generated images, and the quality of their JPEGs: about 60 KB each.
PHOTOGRAPH, QUALITY = (500, 375), 92


@dataclass(frozen=True)
class Stage:
    """A stage that does one batch when it is called.

    Attributes:
        name: of the stage, the same for every way to do it.
        call: does it, and returns its result.
    """

    name: str
    call: Callable[[], Any]


def our_stages(
    files: Sequence[Path], size: int, transform: Literal["train", "eval"] = "train"
) -> list[Stage]:
    """Our stages on a batch of files.

    Args:
        files: a batch of images.
        size: side of the result, pixels.
        transform: of training or of evaluation.

    Returns:
        ``read``, ``decode``, ``crop`` and ``collate``; ``all``, the loader in this process, which
        does these four; and ``device``, what training and evaluation do on the device.
    """
    contents = _read(files)
    decoded = [decode(content) for content in contents]
    crop = TrainTransform(size) if transform == "train" else EvalTransform(size)
    cropped = _crop(crop, decoded)
    images = collate(cropped)
    return [
        Stage("read", partial(_read, files)),
        Stage("decode", lambda: [decode(content) for content in contents]),
        Stage("crop", partial(_crop, crop, decoded)),
        Stage("collate", partial(collate, cropped)),
        Stage("all", partial(_load, files, crop)),
        Stage("device", partial(_device, images, training=transform == "train")),
    ]


def _read(files: Sequence[Path]) -> list[bytes]:
    return [read_regular(file, LIMITS.max_bytes) for file in files]


def _crop(
    crop: TrainTransform | EvalTransform, images: Sequence[UInt8[np.ndarray, "..."]]
) -> list[np.ndarray]:
    return [crop(image, np.random.default_rng(row)) for row, image in enumerate(images)]


def collate(images: Sequence[Shaped[np.ndarray, "h w c"]]) -> Shaped[Tensor, "n c h w"]:
    """One tensor of images of one size and kind."""
    height, width, channels = images[0].shape
    kind = torch.from_numpy(np.empty(0, images[0].dtype)).dtype
    batch = torch.empty(len(images), channels, height, width, dtype=kind)
    for row, image in enumerate(images):
        batch.numpy()[row] = image.transpose(2, 0, 1)
    return batch


def _load(files: Sequence[Path], crop: TrainTransform | EvalTransform) -> Tensor:
    """What the loader yields."""
    labels = np.zeros(len(files), dtype=np.int64)
    source = FolderSource(files=tuple(map(str, files)), labels=labels, classes=("any",))
    if isinstance(crop, EvalTransform):
        return next(iter(eval_batches(source, crop, len(files)))).images
    plan = BatchPlan(seed=0, examples=len(files), batch_size=len(files))
    return next(iter(train_batches(source, crop, plan, start=0, stop=1))).images


def _device(images: Tensor, *, training: bool) -> Tensor:
    """Mixed, half of them by MixUp and half by CutMix; augmented; normalized."""
    if training:
        n, _, size, _ = images.shape
        rows, augment = torch.arange(n), RandAugment(4, 10.0)
        drawn = draw_mix(rows, rows >= n // 2, size, size)
        mixed = mix_bytes(images, images.roll(1, 0), drawn)
        images = augment(mixed, augment.draw(rows, size, size))
    return normalize(images, IMAGENET_MEAN, IMAGENET_STD)


def write_jpegs(directory: Path, count: int) -> list[Path]:
    """Write generated photographs: slopes and edges with noise, as large as ImageNet's.

    Args:
        directory: where to.
        count: number of files.

    Returns:
        The files.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as directory:
    ...     [Image.open(file).size for file in write_jpegs(Path(directory), 2)]
    [(500, 375), (500, 375)]
    """
    generator = torch.Generator().manual_seed(0)
    files = [directory / f"{number}.jpg" for number in range(count)]
    for file in files:
        coarse = torch.rand(1, 3, 9, 12, generator=generator)
        fine = torch.rand(1, 3, 72, 96, generator=generator)
        size = PHOTOGRAPH[::-1]
        slopes, edges = (F.interpolate(x, size, mode="bicubic") for x in (coarse, fine))
        noise = torch.randn(slopes.shape, generator=generator)
        pixels = (180 * slopes + 60 * edges + 4 * noise).clamp(0, 255).to(torch.uint8)
        image = Image.fromarray(pixels[0].permute(1, 2, 0).numpy())
        image.save(file, quality=QUALITY)
    return files
