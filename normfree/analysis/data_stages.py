"""From image files to what the network takes, one stage at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

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
    View,
    eval_batches,
    open_image,
    render,
    train_batches,
)
from normfree.data.files import read_regular
from normfree.data.sources.folder import FolderSource
from normfree.data.view import Pixels, PixelType

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


def our_stages(files: Sequence[Path], transform: TrainTransform | EvalTransform) -> list[Stage]:
    """Our stages on a batch of files.

    Args:
        files: a batch of images.
        transform: of training or of evaluation.

    Returns:
        ``read``; ``decode``, of what each view shows; ``crop``, into the batch; ``all``, the loader
        in this process, which does these three; ``transfer`` if there is an accelerator; and
        ``device``, what training and evaluation do on the device.
    """
    contents = _read(files)
    views = [_view(transform, content, row) for row, content in enumerate(contents)]
    regions = _decode(contents, views)
    images = _crop(regions, views, transform.dtype)
    stages = [
        Stage("read", partial(_read, files)),
        Stage("decode", partial(_decode, contents, views)),
        Stage("crop", partial(_crop, regions, views, transform.dtype)),
        Stage("all", partial(_load, files, transform)),
        Stage("device", partial(_device, images, training=isinstance(transform, TrainTransform))),
    ]
    if torch.cuda.is_available():
        stages.insert(4, Stage("transfer", partial(_transfer, images.pin_memory())))
    return stages


def _read(files: Sequence[Path]) -> list[bytes]:
    return [read_regular(file, LIMITS.max_bytes) for file in files]


def _view(transform: TrainTransform | EvalTransform, content: bytes, row: int) -> View:
    image = open_image(content)
    return transform.view(image.height, image.width, np.random.default_rng(row))


def _decode(contents: Sequence[bytes], views: Sequence[View]) -> list[UInt8[np.ndarray, "..."]]:
    return [
        open_image(content).region(view.needed)
        for content, view in zip(contents, views, strict=True)
    ]


def _crop(
    regions: Sequence[UInt8[np.ndarray, "..."]], views: Sequence[View], dtype: PixelType
) -> Shaped[Tensor, "n c h w"]:
    shape = (len(views), regions[0].shape[2], *views[0].shape)
    batch = torch.empty(shape, dtype=getattr(torch, dtype))
    for row, (pixels, view) in enumerate(zip(regions, views, strict=True)):
        top, left = view.needed[:2]
        box = view.box._replace(top=view.box.top - top, left=view.box.left - left)
        render(Pixels(pixels), replace(view, box=box), batch.numpy()[row])
    return batch


def _transfer(images: Tensor) -> Tensor:
    found = images.to("cuda", non_blocking=True)
    torch.cuda.synchronize()
    return found


def collate(images: Sequence[Shaped[np.ndarray, "h w c"]]) -> Shaped[Tensor, "n c h w"]:
    """One tensor of images of one size and kind."""
    height, width, channels = images[0].shape
    kind = torch.from_numpy(np.empty(0, images[0].dtype)).dtype
    batch = torch.empty(len(images), channels, height, width, dtype=kind)
    for row, image in enumerate(images):
        batch.numpy()[row] = image.transpose(2, 0, 1)
    return batch


def _load(files: Sequence[Path], transform: TrainTransform | EvalTransform) -> Tensor:
    """What the loader yields."""
    labels = np.zeros(len(files), dtype=np.int64)
    source = FolderSource(files=tuple(map(str, files)), labels=labels, classes=("any",))
    if isinstance(transform, EvalTransform):
        return next(iter(eval_batches(source, transform, len(files)))).images
    plan = BatchPlan(seed=0, examples=len(files), batch_size=len(files))
    return next(iter(train_batches(source, transform, plan, start=0, stop=1))).images


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
    >>> from normfree.data import decode
    >>> with TemporaryDirectory() as directory:
    ...     [decode(file).shape for file in write_jpegs(Path(directory), 2)]
    [(375, 500, 3), (375, 500, 3)]
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
