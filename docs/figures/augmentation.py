"""Draw what augmentation does to a photograph: ``python docs/figures/augmentation.py``.

Writes ``docs/_static/augmentation.jpg`` and ``docs/_static/mixing.jpg``. Needs
``pip install 'normfree[demo,report]'``: the photographs are scikit-learn's.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from matplotlib import pyplot as plt
from sklearn.datasets import load_sample_images
from torch import Tensor

from normfree.augment import RandAugment, draw_mix, mix_bytes
from normfree.augment.randaugment import OPERATIONS
from normfree.data import TrainTransform

SIDE, MAGNITUDE = 192, 10
STATIC = Path(__file__).parents[1] / "_static"


def photographs() -> Tensor:
    """A training crop of each of two photographs, bytes (2, 3, side, side)."""
    transform = TrainTransform(SIDE, dtype="uint8")
    crops = [transform(image, np.random.default_rng(2)) for image in load_sample_images().images]
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).contiguous()


def grid(path: Path, images: dict[str, Tensor], columns: int, title: str) -> None:
    """Write images with their names as a sheet."""
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(1.9 * columns, 2.15 * rows + 0.4))
    figure.suptitle(title)
    for axis in axes.flat:
        axis.axis("off")
    for axis, (name, image) in zip(axes.flat, images.items(), strict=False):
        axis.imshow(image.permute(1, 2, 0).numpy())
        axis.set_title(name, fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=80, pil_kwargs={"quality": 85})
    plt.close(figure)


def main() -> None:
    """Write both sheets."""
    both = photographs()
    keys = torch.tensor([3])
    sheet = {"the crop": both[0]}
    for name in OPERATIONS:
        augment = RandAugment(layers=1, magnitude=MAGNITUDE, operations=(name,))
        sheet[name] = augment(both[:1], augment.draw(keys, SIDE, SIDE))[0]
    augment = RandAugment(layers=4, magnitude=MAGNITUDE)
    for key in range(4, 8):
        drawn = augment.draw(torch.tensor([key]), SIDE, SIDE)
        sheet[f"four layers, key {key}"] = augment(both[:1], drawn)[0]
    title = f"RandAugment: each operation at magnitude {MAGNITUDE}, as the authors' code has it"
    grid(STATIC / "augmentation.jpg", sheet, 7, title)

    mixed = {}
    for method, cut in (("MixUp", False), ("CutMix", True)):
        for key in (1, 5):
            drawn = draw_mix(torch.tensor([key]), torch.tensor([cut]), SIDE, SIDE)
            share = float(drawn.ratio[0])
            image = mix_bytes(both[:1].float(), both[1:].float(), drawn)[0]
            mixed[f"{method}: {share:.0%} + {1 - share:.0%}"] = image
    grid(STATIC / "mixing.jpg", mixed, 4, "Two images and their labels become one")


if __name__ == "__main__":
    main()
