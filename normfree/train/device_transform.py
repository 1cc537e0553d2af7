"""The device stage: from a micro-batch as it was read to what the network learns from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from normfree.augment import RandAugment, draw_mix, mix, mix_bytes, normalize, shift, to_bytes
from normfree.data import Batch, MicroBatch
from normfree.data.batch import Labels
from normfree.nn.loss import soft_labels


class Example(NamedTuple):
    """Training examples on the device, augmented; :meth:`DeviceTransform.normalized` is to follow.

    Images are kept as gray levels, so that a step which looks at them twice (SAM) holds a byte for
    each and not a float: 0.45 GB instead of 1.8 GB for 4,096 images of 192 pixels. They are floats
    only where augmentation ends in floats: mixed, without RandAugment.

    Attributes:
        images: augmented, in gray levels of 0 to 255.
        targets: a distribution over the classes for each; or for each class how true it is, where
            an image may have several.
        keys: one for each, which dropout and stochastic depth follow.
        ascent: rows of those that give the gradient by which SAM ascends.
        others: how many of them, the last ones, are of another batch and give nothing else.
    """

    images: Shaped[Tensor, "n c h w"]
    targets: Float[Tensor, "n k"]
    keys: Int[Tensor, " n"]
    ascent: Int[Tensor, " m"]
    others: int = 0

    @property
    def descending(self) -> Example:
        """Those of the batch itself; the same memory."""
        if not self.others:
            return self
        images, targets, keys = (x[: -self.others] for x in self[:3])
        return Example(images, targets, keys, self.ascent[:0])

    @property
    def ascending(self) -> Example:
        """Those that SAM ascends by; the same tensors if they are all."""
        if len(self.ascent) == len(self.keys):
            return self
        images, targets, keys = (x[self.ascent] for x in self[:3])
        return Example(images, targets, keys, torch.arange(len(keys), device=keys.device))


@dataclass(frozen=True, kw_only=True)
class DeviceTransform:
    """What is done to each micro-batch on the device, once a step: shift, mix, RandAugment.

    What happens to an example follows from its key and its partner's alone: not from the
    micro-batch or the device it is in. Whatever is random is drawn on the host, so that nothing
    waits for the device.

    Args:
        mean: per channel, 0 to 255.
        std: per channel, 0 to 255.
        device: where the network is.
        num_classes: length of a target.
        label_smoothing: share of a target that is spread over all classes.
        channels_last: whether the channels of a pixel lie together in memory.
        shift: largest translation of a training image, pixels; 0 for none.
        flip: whether training images are mirrored, half of them.
        mixup_alpha: α of MixUp: an image's share is drawn from Beta(α, α).
        cutmix_alpha: α of CutMix: the area outside the box is drawn from Beta(α, α).
        randaugment: what each image undergoes after mixing.

    >>> images = torch.full((2, 1, 1, 2), 250, dtype=torch.uint8)
    >>> rows, none = torch.arange(2), torch.zeros(2, dtype=torch.bool)
    >>> micro_batch = MicroBatch(images, rows, rows, None, none, none)
    >>> transform = DeviceTransform(mean=(50.0,), std=(100.0,), device="cpu", num_classes=2)
    >>> example = transform(micro_batch)
    >>> example.images.dtype, example.targets
    (torch.uint8, tensor([[1., 0.],
            [0., 1.]]))
    >>> transform.normalized(example.images)[0]
    tensor([[[2., 2.]]])
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    device: str
    num_classes: int = 0
    label_smoothing: float = 0.0
    channels_last: bool = False
    shift: int = 0
    flip: bool = False
    mixup_alpha: float = 0.2
    cutmix_alpha: float = 1.0
    randaugment: RandAugment | None = None
    statistics: tuple[Float[Tensor, " c"], Float[Tensor, " c"]] = field(
        init=False, repr=False, compare=False
    )
    """``mean`` and ``std``, on the device."""

    def __post_init__(self) -> None:
        mean, std = (
            torch.tensor(values, dtype=torch.float32, device=self.device)
            for values in (self.mean, self.std)
        )
        object.__setattr__(self, "statistics", (mean, std))

    def __call__(self, micro_batch: MicroBatch) -> Example:
        """Training images: shifted, mixed, then augmented."""
        size, rows = micro_batch.size, micro_batch.partners
        images, labels, keys = map(self._upload, micro_batch[:3])
        if self.shift or self.flip:
            images = shift(images, keys, self.shift, flip=self.flip)
        own, mix_labels, ratio = images[:size], None, None
        own_keys = micro_batch.keys[:size]  # on the host
        if rows is not None:
            partners, mix_labels = self._taken(images, rows), self._taken(labels, rows)
            drawn = draw_mix(
                own_keys,
                micro_batch.cutmix,
                *images.shape[2:],
                mixup_alpha=self.mixup_alpha,
                cutmix_alpha=self.cutmix_alpha,
            ).to(self.device)
            mixed = mix if self.randaugment is None else mix_bytes
            own, ratio = mixed(own, partners, drawn), drawn.ratio
        if self.randaugment is not None:
            plan = self.randaugment.draw(own_keys, *images.shape[2:]).to(self.device)
            own = self.randaugment(to_bytes(own), plan)
        targets = soft_labels(
            labels[:size],
            self.num_classes,
            self.label_smoothing,
            mix_labels=mix_labels,
            ratio=ratio,
        )
        ascent = self._upload(micro_batch.ascent.nonzero()[:, 0])
        return Example(own, targets, keys[:size], ascent, micro_batch.others)

    def evaluation(self, batch: Batch) -> tuple[Float[Tensor, "n c h w"], Labels]:
        """Images (normalized) and labels, on the device."""
        images, labels = map(self._upload, batch[:2])
        return self.normalized(images), labels

    def normalized(self, images: Shaped[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """What the network takes: ``(x − mean) / std``, in the memory layout of the network."""
        x = normalize(images, *self.statistics)
        return x.to(memory_format=torch.channels_last) if self.channels_last else x

    def _upload(self, tensor: Tensor) -> Tensor:
        """To the device; from pinned memory, so that the host need not wait for a GPU.

        Images may be there already, see :func:`normfree.train.transfer.uploaded`.
        """
        if self.device.startswith("cuda") and tensor.device.type == "cpu":
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)

    def _taken(self, tensor: Tensor, rows: Int[Tensor, " n"]) -> Tensor:
        """Some rows; without a copy where they are consecutive."""
        first = int(rows[0])  # on the host
        if torch.equal(rows, torch.arange(first, first + len(rows))):
            return tensor[first : first + len(rows)]
        return tensor[self._upload(rows)]
