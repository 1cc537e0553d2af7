"""CutMix boxes, their label weights and a mixed batch against the authors' stored results."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from normfree.augment.mix import Mix, box_share, cutmix_box, mask, mix
from tests.parity.reference import arrays, below, nchw

BOXES = 6  # stored draws
GRAY_LEVELS = 4e-5  # float32 has steps of 3e-5 above 256, which overshoot reaches


@pytest.fixture(scope="module")
def stored():
    return arrays("preproc_golden")


@pytest.mark.parametrize("case", range(BOXES))
def test_box_and_label_weight(stored, case):
    expected = below(f"cutmix/{case}", stored)
    x, y, proportion = torch.from_numpy(expected["draws_x_y_proportion"])[:, None]
    m = expected["mask_h48_w64"]
    box = cutmix_box(x.long(), y.long(), proportion, *m.shape)
    ratio = box_share(box, *m.shape)
    ours = mask(Mix(ratio, box, torch.tensor([True])), *m.shape)
    np.testing.assert_array_equal(ours[0, 0].numpy(), m)
    assert ratio.numpy() == expected["ratio"]


def test_a_mixed_batch(stored):
    raw, expected = below("mixcut/in", stored), below("mixcut/out", stored)
    images, labels = nchw(raw["images"]), raw["labels"]
    masks = nchw(raw["mask"])
    first, second = [0, 1, 4, 5], [2, 3, 6, 7]  # half MixUp, half CutMix
    cutmix = torch.tensor([False, False, True, True])
    whole = torch.tensor([0, masks.shape[2], 0, masks.shape[3]])
    boxes = torch.stack([whole, whole, _box(masks[4]), _box(masks[5])])
    weights = np.where(cutmix, raw["cutmix_ratio"][first], raw["mixup_ratio"][first])
    drawn = Mix(torch.from_numpy(weights), boxes, cutmix)
    assert torch.equal(mask(drawn, *masks.shape[2:])[cutmix], masks[first][cutmix])

    ours = mix(images[first], images[second], drawn)
    assert (ours - nchw(expected["images"])).abs().max() <= GRAY_LEVELS
    np.testing.assert_array_equal(drawn.ratio, expected["ratio"])
    np.testing.assert_array_equal(labels[first], expected["labels"])
    np.testing.assert_array_equal(labels[second], expected["mix_labels"])


def _box(m):
    """Top, bottom, left and right of the box where ``m`` is 1."""
    _, rows, columns = torch.nonzero(m, as_tuple=True)
    return torch.stack([rows.min(), rows.max() + 1, columns.min(), columns.max() + 1])
