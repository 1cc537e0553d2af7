"""What a step needs in memory, estimated before anything is allocated for it."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from normfree.errors import UserError
from normfree.factory import create_model
from normfree.models import ImageClassifier
from normfree.train.machine import free_memory
from normfree.train.resolve import Resolved

_FLOAT = 4  # bytes
_REFUSED, _WARNED = 1.5, 0.9  # of the free memory
_MOST_PER_PIXEL = 1 << 16  # bytes of an image that no network here keeps


class Need(NamedTuple):
    """Bytes of a step.

    Attributes:
        weights: with gradients, what the optimizer remembers, and the average.
        image: what the backward pass needs of an image, and the image itself.
        images: that are computed at a time.
    """

    weights: int
    image: int
    images: int

    @property
    def total(self) -> int:
        """Of a step."""
        return self.weights + self.image * self.images

    def images_in(self, memory: float) -> int:
        """The images that can be computed at a time in so much memory; 0 if not even one."""
        return max(0, int((memory - self.weights) // self.image))


def estimate(resolved: Resolved, world: int = 1) -> Need:
    """Estimate it from the network's forward pass on the meta device, where nothing is computed.

    Counted are the tensors that the forward pass keeps for the backward pass, each once. Work space
    of convolutions and what reading prepares are not, nor what compiling saves.

    Args:
        resolved: the configuration.
        world: number of ranks, which share a batch.
    """
    recipe = resolved.recipe
    model = create_model(**resolved.model, device="meta")  # type: ignore[arg-type]
    model.freeze(recipe.model.freeze)
    copies = 2 + _remembered(recipe.optimizer.kind) + (recipe.ema is not None)
    copies += recipe.sam is not None
    weights = copies * _FLOAT * sum(p.numel() for p in model.parameters())
    image = _kept(model, resolved) + 2 * _FLOAT * len(resolved.mean) * resolved.train_size**2
    if recipe.ranks.kind != "ddp":
        weights //= recipe.ranks.shards or world
    return Need(weights, image, _images_at_a_time(resolved, world))


def check_memory(resolved: Resolved, world: int = 1) -> list[str]:
    """What to say of the memory of a step, if there may be too little.

    Raises:
        UserError: there is far too little, so that the system would kill the run.
    """
    free, images = _free(resolved.device), _images_at_a_time(resolved, world)
    if (
        images * resolved.train_size**2 * _MOST_PER_PIXEL < free / 10
    ):  # not worth the second it takes
        return []
    need = estimate(resolved, world)
    if need.total <= _WARNED * free:
        return []
    said = (
        f"a step of {need.images} images at a time needs about {_gb(need.total)}, and "
        f"{_gb(free)} are free"
    )
    if need.total <= _REFUSED * free:
        return [f"warning: {said}; {_advice(resolved, need, free, world)}"]
    raise UserError(f"{said}: {_advice(resolved, need, free, world)}")


def _images_at_a_time(resolved: Resolved, world: int) -> int:
    batch = resolved.recipe.batch
    return math.ceil(batch.size / (batch.accumulate * world))


def _advice(resolved: Resolved, need: Need, free: float, world: int) -> str:
    """The smallest ``--accumulate`` with which it fits, or what else to do."""
    most = need.images_in(_WARNED * free)
    if most < 1:
        return "choose a smaller --model or --train-size, or free some memory"
    size = resolved.recipe.batch.size
    count = math.ceil(size / (most * world))
    return (
        f"--accumulate {count} computes {math.ceil(size / (count * world))} at a time, to the same "
        "update; or lower --batch-size or --train-size"
    )


def _kept(model: ImageClassifier, resolved: Resolved) -> int:
    """Bytes that the forward pass keeps of one image; what it keeps of the weights cancels out."""
    few, many = (_kept_of(model, resolved, images) for images in (2, 4))
    half = resolved.recipe.compute.precision == "bfloat16"
    return max(1, (many - few) // 2) // (2 if half else 1)


def _kept_of(model: ImageClassifier, resolved: Resolved, images: int) -> int:
    """Bytes of all tensors that the backward pass of some images needs."""
    kept: dict[int, Tensor] = {}  # alive, so that no two have the same number

    def keep(tensor: Tensor) -> Tensor:
        base = tensor if tensor._base is None else tensor._base
        kept[id(base)] = base
        return tensor

    side = resolved.train_size
    batch = torch.empty(images, len(resolved.mean), side, side, device="meta")
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = model(batch, torch.zeros(images, dtype=torch.int64, device="meta"))
    del logits
    return sum(tensor.numel() * tensor.element_size() for tensor in kept.values())


def _remembered(optimizer: str) -> int:
    """Tensors as large as the weights that an optimizer keeps."""
    return {"adamw": 2, "rmsprop": 2}.get(optimizer, 1)


def _free(device: str) -> float:
    """Bytes that are free where the run computes."""
    if device.startswith("cuda"):
        return float(torch.cuda.mem_get_info(device)[0])
    return free_memory() if device == "cpu" else math.inf


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB"
