"""From a batch as it was read to what the network takes: move, shift, normalize."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from normfree.data import ArraySource, Batch, EvalView, Source, TrainView, View
from normfree.data.augment import normalize, shift
from normfree.train.resolve import Resolved


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """How batches become inputs; one for training and evaluation alike.

    Attributes:
        mean: per channel, 0..255; kept on the device.
        std: per channel, 0..255; kept on the device.
        device: where the network is.
        channels_last: whether the channels of a pixel lie together.
        shift_padding: largest translation of a training image, pixels; 0 for none.
        flip: whether ``shift`` also mirrors.
    """

    mean: Sequence[float] | Float[Tensor, " c"]
    std: Sequence[float] | Float[Tensor, " c"]
    device: str
    channels_last: bool = False
    shift_padding: int = 0
    flip: bool = False

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            values = torch.as_tensor(getattr(self, name), dtype=torch.float32, device=self.device)
            object.__setattr__(self, name, values)

    def train(
        self, batch: Batch
    ) -> tuple[Float[Tensor, "n c h w"], Int[Tensor, " n"], Int[Tensor, " n"]]:
        """Images (augmented and normalized), labels and keys, on the device."""
        images, labels, keys = map(self._upload, batch)
        if self.shift_padding or self.flip:
            images = shift(images, keys, self.shift_padding, flip=self.flip)
        return self._normalize(images), labels, keys

    def evaluation(self, batch: Batch) -> tuple[Float[Tensor, "n c h w"], Int[Tensor, " n"]]:
        """Images (normalized) and labels, on the device."""
        images, labels = map(self._upload, batch[:2])
        return self._normalize(images), labels

    def _upload(self, part: Tensor) -> Tensor:
        """To the device; from pinned memory, so that the host need not wait for a GPU."""
        if self.device.startswith("cuda"):
            part = part.pin_memory()
        return part.to(self.device, non_blocking=True)

    def _normalize(self, images: Shaped[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        x = normalize(images, self.mean, self.std)
        return x.to(memory_format=torch.channels_last) if self.channels_last else x


def make_inputs(resolved: Resolved) -> Inputs:
    """The inputs of a run."""
    recipe = resolved.recipe
    shifts = recipe.augment in ("shift", "shift_flip")
    return Inputs(
        mean=resolved.mean,
        std=resolved.std,
        device=resolved.device,
        channels_last=recipe.channels_last,
        shift_padding=recipe.shift_padding if shifts else 0,
        flip=recipe.augment == "shift_flip",
    )


def train_view(resolved: Resolved, source: Source) -> View | None:
    """What the loader does to a training image: random crops of photographs, else resizing."""
    if resolved.recipe.augment == "crop_flip":
        return TrainView(resolved.train_size)
    return eval_view(source, resolved.train_size, margin=0)


def eval_view(source: Source, size: int, margin: int) -> View | None:
    """What the loader does to a test image; nothing where images have the right size already."""
    if margin == 0 and isinstance(source, ArraySource) and source.pixels.shape[1:3] == (size, size):
        return None
    return EvalView(size, margin)
