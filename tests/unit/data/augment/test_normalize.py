from __future__ import annotations

import pytest
import torch

from normfree.data.augment import IMAGENET_MEAN, IMAGENET_STD, normalize


def test_channel_by_channel():
    images = torch.tensor([10.0, 20.0, 30.0]).view(1, 3, 1, 1)
    ours = normalize(images, mean=[10.0, 10.0, 10.0], std=[1.0, 2.0, 4.0])
    assert ours.flatten().tolist() == [0.0, 5.0, 5.0]


@pytest.mark.parametrize(
    ("given", "returned"),
    [(torch.uint8, torch.float32), (torch.float32, torch.float32), (torch.float64, torch.float64)],
)
def test_dtypes(given, returned):
    images = torch.zeros(1, 3, 2, 2, dtype=given)
    ours = normalize(images, IMAGENET_MEAN, IMAGENET_STD)
    assert ours.dtype == returned
    expected = -torch.tensor(IMAGENET_MEAN) / torch.tensor(IMAGENET_STD)
    torch.testing.assert_close(ours[0, :, 0, 0], expected.to(returned), rtol=1e-6, atol=0)
