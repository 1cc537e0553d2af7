from __future__ import annotations

import numpy as np
import pytest
import torch

from normfree.augment import Mix, draw_mix, mix
from normfree.augment.mix import cutmix_box, mask
from normfree.random import example_keys

N = 20_000
KEYS = torch.from_numpy(example_keys(0, 0, np.arange(N)))
BOXES, BLENDS = torch.ones(N, dtype=torch.bool), torch.zeros(N, dtype=torch.bool)
SIZES = [(1, 1), (1, 9), (2, 2), (7, 5), (32, 32), (48, 64)]


def _largest_gap(ours, theirs):
    """Kolmogorov–Smirnov distance of two samples, normalized by sample size."""
    places = np.concatenate([ours, theirs])
    below = [np.searchsorted(np.sort(s), places, side="right") / len(s) for s in (ours, theirs)]
    return np.abs(below[0] - below[1]).max() * (len(ours) * len(theirs) / len(places)) ** 0.5


def _plain_cutmix(rng, height, width, alpha):
    """The label weight of one box, computed directly."""
    x, y, proportion = rng.integers(width), rng.integers(height), rng.beta(alpha, alpha)
    half_width = int(width * (1 - proportion) ** 0.5) // 2
    half_height = int(height * (1 - proportion) ** 0.5) // 2
    inside = np.zeros((height, width))
    inside[max(0, y - half_height) : y + half_height, max(0, x - half_width) : x + half_width] = 1
    return inside.mean()


def _numpy_mix(images, others, drawn):
    """x = m·a + (1 − m)·b in float64, one image at a time."""
    mixed = others.double().numpy().copy()
    for x, a, ratio, box, cutmix in zip(mixed, images.double().numpy(), *drawn, strict=True):
        top, bottom, left, right = box.tolist()
        m = np.zeros(x.shape[1:])
        m[top:bottom, left:right] = 1 if cutmix else float(ratio)
        x[:] = m * a + (1 - m) * x
    return mixed


def _images(dtype, shape=(20, 3, 7, 5)):
    """a and b; floats overshoot 0 to 255, as after bicubic interpolation."""
    rng = np.random.default_rng(0)
    if dtype == torch.uint8:
        return torch.from_numpy(rng.integers(0, 256, (2, *shape), dtype=np.uint8))
    return torch.from_numpy(rng.uniform(-20, 275, (2, *shape))).to(dtype)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_mixup_ratios_are_drawn_from_beta(alpha):
    drawn = draw_mix(KEYS, BLENDS, 8, 8, mixup_alpha=alpha)
    assert drawn.ratio.dtype == torch.float32
    theirs = np.random.default_rng(0).beta(alpha, alpha, N)
    assert _largest_gap(drawn.ratio.numpy(), theirs.astype(np.float32)) < 2  # p = 7e-4
    assert torch.equal(drawn.boxes, torch.tensor([0, 8, 0, 8]).expand(N, 4))


@pytest.mark.parametrize("alpha", [0.3, 1.0])
@pytest.mark.parametrize(("height", "width"), [(31, 40), (192, 192)])
def test_cutmix_ratios_have_the_distribution_of_a_direct_computation(alpha, height, width):
    drawn = draw_mix(KEYS, BOXES, height, width, cutmix_alpha=alpha)
    rng = np.random.default_rng(0)
    theirs = [_plain_cutmix(rng, height, width, alpha) for _ in range(4000)]
    assert _largest_gap(drawn.ratio.numpy(), np.float32(theirs)) < 2


def test_the_center_is_a_uniform_pixel():
    drawn = draw_mix(KEYS, BOXES, 5, 7, cutmix_alpha=0.01)  # half of the boxes shrink to a point
    top, bottom, left, right = drawn.boxes.T
    points = (top == bottom) & (left == right)
    assert abs(points.sum() - N / 2) < N / 20
    counts = torch.bincount((top * 7 + left)[points], minlength=35).double()
    expected = counts.mean()
    chi_squared = ((counts - expected) ** 2 / expected).sum()
    assert len(counts) == 35
    assert abs(chi_squared - 34) < 5 * (2 * 34) ** 0.5


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_boxes_are_inside_and_label_weights_equal_their_area(height, width):
    drawn = draw_mix(KEYS[:500], BOXES[:500], height, width)
    top, bottom, left, right = drawn.boxes.T
    assert drawn.boxes.dtype == torch.int64
    assert ((top >= 0) & (top <= bottom) & (bottom <= height)).all()
    assert ((left >= 0) & (left <= right) & (right <= width)).all()
    pixels = mask(drawn, height, width).sum(dim=(1, 2, 3))
    assert torch.equal(drawn.ratio, pixels / (height * width))


def test_a_pixel_is_too_small_for_a_box():
    assert not draw_mix(KEYS, BOXES, 1, 1).ratio.any()


def test_a_box_of_full_size_covers_the_image_from_its_center():
    x, y, nothing = torch.tensor([3, 0, 6]), torch.tensor([2, 0, 4]), torch.zeros(3)
    boxes = cutmix_box(x, y, nothing, 5, 7)
    assert boxes.tolist() == [[0, 4, 0, 6], [0, 2, 0, 3], [2, 5, 3, 7]]
    empty = cutmix_box(x, y, torch.ones(3), 5, 7)
    assert empty.tolist() == [[2, 2, 3, 3], [0, 0, 0, 0], [4, 4, 6, 6]]


def test_a_draw_depends_only_on_its_key():
    cutmix = torch.arange(64) % 2 == 0
    whole = draw_mix(KEYS[:64], cutmix, 32, 24)
    chosen = torch.tensor([50, 3, 3, 17])
    again = draw_mix(KEYS[chosen], cutmix[chosen], 32, 24)
    assert all(torch.equal(ours, part[chosen]) for ours, part in zip(again, whole, strict=True))
    apart = draw_mix(KEYS[:64], torch.ones(64, dtype=torch.bool), 32, 24)
    assert torch.equal(apart.boxes[cutmix], whole.boxes[cutmix])  # independent of the other images
    assert len(whole.ratio[~cutmix].unique()) == 32


def test_ratio_center_and_area_are_independent():
    blend, box = draw_mix(KEYS, BLENDS, 400, 400), draw_mix(KEYS, BOXES, 400, 400)
    top, bottom, left, right = box.boxes.T
    interior = (top > 0) & (bottom < 400) & (left > 0) & (right < 400)
    small = interior & (bottom - top < 100)  # boxes that fit inside the image
    rows = torch.stack([blend.ratio, (top + bottom) / 2, (left + right) / 2, bottom - top])
    correlation = torch.corrcoef(rows[:, small].double()) - torch.eye(4)
    assert correlation.abs().max() < 5 / small.sum() ** 0.5


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
def test_mix_is_the_equation(dtype, layout):
    images, others = _images(dtype)
    drawn = draw_mix(KEYS[:20], torch.arange(20) >= 10, 7, 5)
    ours = mix(images.to(memory_format=layout), others.to(memory_format=layout), drawn)
    assert ours.dtype == torch.float32
    assert ours.is_contiguous(memory_format=layout)
    np.testing.assert_allclose(ours, _numpy_mix(images, others, drawn), rtol=3e-7, atol=4e-5)


def test_a_mixed_image_does_not_depend_on_its_batch():
    images, others = _images(torch.float32)
    drawn = draw_mix(KEYS[:20], torch.arange(20) >= 15, 7, 5)
    whole = mix(images, others, drawn)
    for chosen in (torch.tensor([18, 3, 3, 11]), torch.tensor([7])):
        part = Mix(*(values[chosen] for values in drawn))
        assert torch.equal(mix(images[chosen], others[chosen], part), whole[chosen])


def test_boxes_are_copied_bit_for_bit():
    images, others = _images(torch.float32)
    drawn = draw_mix(KEYS[:20], BOXES[:20], 7, 5)
    inside = mask(drawn, 7, 5).bool()
    assert inside.any()
    assert torch.equal(mix(images, others, drawn), torch.where(inside, images, others))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_an_image_mixed_with_itself_is_unchanged(dtype):
    images, _ = _images(dtype)
    drawn = draw_mix(KEYS[:20], torch.arange(20) % 2 == 0, 7, 5)
    assert torch.equal(mix(images, images, drawn), images.float())


def test_inputs_are_not_modified():
    images, others = _images(torch.float32)
    before = images.clone(), others.clone()
    mix(images, others, draw_mix(KEYS[:20], BLENDS[:20], 7, 5))
    assert torch.equal(images, before[0])
    assert torch.equal(others, before[1])


@pytest.mark.parametrize("n", [0, 1, 8, 9])
def test_batches_of_any_length(n):
    images, others = _images(torch.uint8, shape=(n, 1, 4, 6))
    drawn = draw_mix(KEYS[:n], BOXES[:n], 4, 6)
    np.testing.assert_array_equal(mix(images, others, drawn), _numpy_mix(images, others, drawn))


def test_no_value_is_read_from_the_device():
    """Meta tensors raise an error if a value is read."""
    images, others = _images(torch.uint8).to("meta")
    drawn = draw_mix(KEYS[:20], BOXES[:20], 7, 5).to("meta")
    assert isinstance(drawn, Mix)
    assert mix(images, others, drawn).shape == images.shape


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan"), float("inf")])
def test_invalid_alphas(alpha):
    for kind in ("mixup_alpha", "cutmix_alpha"):
        with pytest.raises(ValueError, match="must be a positive number"):
            draw_mix(KEYS[:2], BOXES[:2], 4, 4, **{kind: alpha})
