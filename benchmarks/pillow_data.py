"""A baseline: from files to a batch with Pillow, as in typical data loader workers.

``normfree bench data --peers`` loads this file from the checkout. The crops are those of
``TrainTransform``, resized by Pillow's own bicubic filter, which is antialiased; evaluation resizes
and crops as ``EvalTransform`` does. As usual, images remain bytes until the batch is collated.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor

from normfree.analysis.data_stages import Stage, collate
from normfree.data.crop import distorted_bounding_box

_MARGIN = 32  # of EvalTransform


def stages(files: Sequence[Path], size: int, transform: Literal["train", "eval"]) -> list[Stage]:
    """Pillow's stages on a batch of files; see :func:`normfree.analysis.data_stages.our_stages`."""
    contents = read(files)
    decoded = decode(contents)
    crop = partial(train_crop if transform == "train" else eval_crop, size=size)
    cropped = crop(decoded)
    return [
        Stage("read", partial(read, files)),
        Stage("decode", partial(decode, contents)),
        Stage("crop", partial(crop, decoded)),
        Stage("collate", partial(batch, cropped)),
        Stage("all", lambda: batch([crop(decode(read([file])))[0] for file in files])),
    ]


def read(files: Sequence[Path]) -> list[bytes]:
    """The files' contents."""
    return [file.read_bytes() for file in files]


def decode(contents: Sequence[bytes]) -> list[Image.Image]:
    """The images, in RGB."""
    return [Image.open(io.BytesIO(content)).convert("RGB") for content in contents]


def train_crop(images: Sequence[Image.Image], size: int) -> list[Image.Image]:
    """Cropped at random, resized, mirrored with probability ½."""
    cropped = []
    for row, image in enumerate(images):
        rng = np.random.default_rng(row)
        top, left, height, width = distorted_bounding_box(image.height, image.width, rng)
        box = (left, top, left + width, top + height)
        found = image.resize((size, size), Image.Resampling.BICUBIC, box=box)
        cropped.append(ImageOps.mirror(found) if rng.random() < 0.5 else found)
    return cropped


def eval_crop(images: Sequence[Image.Image], size: int) -> list[Image.Image]:
    """Resized, then the center."""
    first, side = (_MARGIN + 1) // 2, size + _MARGIN
    box = (first, first, first + size, first + size)
    return [image.resize((side, side), Image.Resampling.BICUBIC).crop(box) for image in images]


def batch(images: Sequence[Image.Image]) -> Tensor:
    """Bytes (n, 3, size, size)."""
    return collate([np.asarray(image) for image in images])
