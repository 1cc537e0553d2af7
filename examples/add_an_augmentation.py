"""Add an operation to RandAugment: one registered function.

    python examples/add_an_augmentation.py

``@operation`` names it and derives its argument from the level. In the package the function would
be defined in a file of ``normfree/augment/``. Batches that may draw it are augmented by PyTorch's
operations; a C kernel of the same equation is optional.
"""

from __future__ import annotations

import torch
from torch import Tensor

from normfree.augment import RandAugment
from normfree.augment.registry import operation


@operation("Darken", authors=lambda level: 0.05 * level.magnitude, neutral=0)
def darken(images: Tensor, share: float) -> Tensor:
    """Take a share of the light away: x → (1 − share)·x."""
    return (images * (1 - share)).to(torch.uint8)


def main() -> None:
    """Augment a gray batch with it, and with it among the usual operations."""
    images = torch.full((4, 3, 8, 8), 200, dtype=torch.uint8)
    keys = torch.arange(4)
    only = RandAugment(layers=1, magnitude=10, operations=("Darken",))
    mixed = RandAugment(layers=2, magnitude=10, operations=("Invert", "Darken"))
    for name, augment in (("Darken", only), ("Invert, Darken", mixed)):
        augmented = augment(images, augment.draw(keys, 8, 8))
        print(f"{name:16}{augmented.float().mean(dim=(1, 2, 3)).tolist()}")


if __name__ == "__main__":
    main()
