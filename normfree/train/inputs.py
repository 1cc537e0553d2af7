"""From a batch as it was read to what the network takes: move, shift, mix, augment, normalize."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from normfree.augment import RandAugment, draw_mix, mix, normalize, shift, to_bytes
from normfree.augment.mix import mix_bytes
from normfree.data import Batch, EvalTransform, Source, TrainTransform, Transform
from normfree.inference import source_transform
from normfree.nn.loss import soft_labels
from normfree.train.parts import Part
from normfree.train.resolve import Resolved


class Example(NamedTuple):
    """What the network takes in training, and what it should answer; on the device.

    Attributes:
        images: augmented and normalized.
        targets: a distribution over the classes for each.
        keys: one for each, which dropout and stochastic depth follow.
    """

    images: Float[Tensor, "n c h w"]
    targets: Float[Tensor, "n k"]
    keys: Int[Tensor, " n"]


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """How batches become inputs; one for training and evaluation alike.

    What happens to an example follows from its key and its partner's alone: not from the batch, the
    part of the batch or the device it is in. Whatever is random is drawn on the host, so that
    nothing waits for the device.

    Attributes:
        mean: per channel, 0..255; kept on the device.
        std: per channel, 0..255; kept on the device.
        device: where the network is.
        num_classes: length of a target.
        label_smoothing: share of a target that is spread over all classes.
        channels_last: whether the channels of a pixel lie together.
        shift_padding: largest translation of a training image, pixels; 0 for none.
        flip: whether ``shift`` also mirrors.
        mixup_alpha: of the distribution of MixUp's shares.
        cutmix_alpha: of the distribution of the area outside CutMix's boxes.
        randaugment: what each image undergoes after mixing.
    """

    mean: Sequence[float] | Float[Tensor, " c"]
    std: Sequence[float] | Float[Tensor, " c"]
    device: str
    num_classes: int = 0
    label_smoothing: float = 0.0
    channels_last: bool = False
    shift_padding: int = 0
    flip: bool = False
    mixup_alpha: float = 0.2
    cutmix_alpha: float = 1.0
    randaugment: RandAugment | None = None

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            values = torch.as_tensor(getattr(self, name), dtype=torch.float32, device=self.device)
            object.__setattr__(self, name, values)

    def train(self, part: Part) -> Example:
        """Training images: shifted, mixed, then augmented, then normalized."""
        images, labels, keys = self._shifted(part.own)
        mix_labels, ratio = None, None
        if part.others is not None:
            others, mix_labels, _ = self._shifted(part.others)
            drawn = draw_mix(
                part.own.keys,
                part.cutmix,
                *images.shape[2:],
                mixup_alpha=self.mixup_alpha,
                cutmix_alpha=self.cutmix_alpha,
            ).to(self.device)
            mixed = mix if self.randaugment is None else mix_bytes
            images, ratio = mixed(images, others, drawn), drawn.ratio
        if self.randaugment is not None:
            plan = self.randaugment.draw(part.own.keys, *images.shape[2:]).to(self.device)
            images = self.randaugment(to_bytes(images), plan)
        targets = soft_labels(
            labels, self.num_classes, self.label_smoothing, mix_labels=mix_labels, ratio=ratio
        )
        return Example(self._normalize(images), targets, keys)

    def evaluation(self, batch: Batch) -> tuple[Float[Tensor, "n c h w"], Int[Tensor, " n"]]:
        """Images (normalized) and labels, on the device."""
        images, labels = map(self._upload, batch[:2])
        return self._normalize(images), labels

    def _shifted(self, batch: Batch) -> Batch:
        """On the device, and shifted if the recipe says so."""
        images, labels, keys = map(self._upload, batch)
        if self.shift_padding or self.flip:
            images = shift(images, keys, self.shift_padding, flip=self.flip)
        return Batch(images, labels, keys)

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
        num_classes=resolved.model["num_classes"],
        label_smoothing=recipe.label_smoothing,
        channels_last=recipe.channels_last,
        shift_padding=recipe.shift_padding if shifts else 0,
        flip=recipe.augment == "shift_flip",
        mixup_alpha=recipe.mixup_alpha,
        cutmix_alpha=recipe.cutmix_alpha,
        randaugment=RandAugment(
            recipe.randaugment_layers, resolved.randaugment_magnitude, quirks=recipe.quirks
        )
        if recipe.randaugment_layers
        else None,
    )


def train_transform(resolved: Resolved, source: Source) -> Transform | None:
    """What the loader does to a training image: random crops of photographs, else resizing."""
    if resolved.recipe.augment == "crop_flip":
        return TrainTransform(resolved.train_size, crop=resolved.recipe.crop)
    return source_transform(EvalTransform(resolved.train_size, margin=0), source)


def eval_transform(resolved: Resolved, source: Source) -> Transform | None:
    """What the loader does to a test image; nothing where images have the right size already."""
    keep_aspect = resolved.recipe.test_crop == "crop_resize"
    transform = EvalTransform(resolved.test_size, resolved.test_margin, keep_aspect)
    return source_transform(transform, source)
