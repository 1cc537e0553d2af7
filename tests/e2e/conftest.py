from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Crops of two real photographs, a class each: 2 × 8 to train on, 2 × 4 to test."""
    directory = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for name, image in zip(("china", "flower"), load_sample_images().images, strict=True):
        for split, count in (("train", 8), ("val", 4)):
            (directory / split / name).mkdir(parents=True)
            for number in range(count):
                top = rng.integers(image.shape[0] - 90)
                left = rng.integers(image.shape[1] - 120)
                crop = image[top : top + 90, left : left + 120]
                Image.fromarray(crop).save(directory / split / name / f"{number}.jpg")
    return directory
