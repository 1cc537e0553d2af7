"""A folder of real images: crops of the two photographs that scikit-learn includes."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

TRAIN, VAL = 7, 4  # images per class


@pytest.fixture(scope="session")
def photographs():
    """One large photograph per class, uint8 (h, w, 3)."""
    images = load_sample_images().images
    return {"china": images[0], "flower": images[1]}


@pytest.fixture
def folder(tmp_path, photographs):
    """``train/CLASS/*.jpg`` and ``val/CLASS/*.jpg``, crops of different shapes."""
    rng = np.random.default_rng(0)
    for split, count in (("train", TRAIN), ("val", VAL)):
        for name, photograph in photographs.items():
            place = tmp_path / split / name
            place.mkdir(parents=True)
            for number in range(count):
                height, width = rng.integers(40, 90, size=2)
                top, left = rng.integers(300, size=2)
                crop = photograph[top : top + height, left : left + width]
                Image.fromarray(crop).save(place / f"{number}.jpg")
    return tmp_path
