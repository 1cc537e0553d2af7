"""Hostile arguments to the three operators: a clear error or the result of the equation."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from normfree import kernels
from normfree.augment import IMAGENET_MEAN, IMAGENET_STD, RandAugment, draw_mix, normalize
from normfree.augment.mix import Mix, mix, mix_bytes
from normfree.augment.randaugment import OPERATIONS
from normfree.errors import UserError

MIX, NORMALIZE, RANDAUGMENT = (
    sys.modules[f"normfree.augment.{name}"] for name in ("mix", "normalize", "randaugment")
)
N, HEIGHT, WIDTH = 8, 6, 7
EXTREMES = [-(2**63), -1, 0, 3, HEIGHT, WIDTH, 2**31, 2**63 - 1]


@pytest.fixture(params=["kernels", "torch"], autouse=True)
def by(request, monkeypatch):
    """Run each test twice: with kernels, if they were built, and with PyTorch operations."""
    monkeypatch.setenv("NORMFREE_KERNELS", "1" if request.param == "kernels" else "0")
    if request.param == "kernels" and not kernels.available():
        pytest.skip(str(kernels.status()))
    return request.param


def images(n=N, height=HEIGHT, width=WIDTH, channels=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (n, channels, height, width), dtype=torch.uint8, generator=generator)


def drawn(n=N):
    return draw_mix(torch.arange(n), torch.arange(n) % 2 == 0, HEIGHT, WIDTH)


def planned(layers=3, magnitude=10, **options):
    augment = RandAugment(layers, magnitude, **options)
    return augment, augment.draw(torch.arange(N), HEIGHT, WIDTH)


@pytest.mark.parametrize(
    ("part", "bad"),
    [
        ("boxes", torch.zeros(1, 4).long()),  # once read out of bounds
        ("boxes", torch.zeros(0, 4).long()),
        ("boxes", torch.zeros(N, 3).long()),
        ("boxes", torch.zeros(4, N).long()),
        ("boxes", torch.zeros(N).long()),
        ("boxes", torch.zeros(N, 4)),
        ("boxes", torch.zeros(N, 4).int()),
        ("ratio", torch.zeros(1)),
        ("ratio", torch.tensor(0.5)),
        ("ratio", torch.zeros(N, 1)),
        ("ratio", torch.zeros(N).double()),
        ("cutmix", torch.zeros(1).bool()),
        ("cutmix", torch.zeros(N).long()),
        ("cutmix", torch.zeros(0).bool()),
    ],
)
def test_mixing_needs_one_entry_per_image(part, bad):
    how = drawn()
    how = Mix(*(bad if name == part else getattr(how, name) for name in Mix._fields))
    for call in (mix, mix_bytes, lambda a, b, how: torch.ops.normfree.mix_bytes(a, b, *how)):
        with pytest.raises(UserError, match=f"to mix 8 images, {part} should be"):
            call(images(), images(), how)


@pytest.mark.parametrize(
    "other", [images()[:1], images()[:, :1], images()[..., :6], images()[0], images()[None]]
)
def test_mixing_needs_two_batches_of_the_same_shape(other):
    for one, two in ((images(), other), (other, images())):
        with pytest.raises(UserError, match="two batches"):
            torch.ops.normfree.mix_bytes(one, two, *drawn())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_non_finite_ratios_are_rejected(value):
    how = drawn()
    how.ratio[3] = value
    with pytest.raises(UserError, match="mixing ratios should be finite; got"):
        mix_bytes(images(), images(seed=1), how)
    how.ratio[3], how.ratio[4:6] = 0.5, torch.finfo().max  # finite, but their sum overflows
    mix_bytes(images(), images(seed=1), how)


@settings(max_examples=60)
@given(
    boxes=st.lists(
        st.lists(st.sampled_from(EXTREMES) | st.integers(-9, 9), min_size=4, max_size=4),
        min_size=N,
        max_size=N,
    ),
    ratios=st.lists(
        st.sampled_from([0.0, 0.5, 1.0, -1.0, 1.5, 1e30, -3e38]) | st.floats(0, 1, width=32),
        min_size=N,
        max_size=N,
    ),
    odd=st.booleans(),
)
def test_any_box_and_any_ratio_is_mixed_as_the_equation_says(boxes, ratios, odd):
    how = Mix(torch.tensor(ratios), torch.tensor(boxes), torch.arange(N) % 3 == 0)
    one, other = images(), images(seed=1)
    if odd:  # floats that are not gray levels
        one, other = one.float(), other.float()
        one[:, 0], other[:, 1] = float("nan"), float("inf")
        one[0, 2], other[3, 2, 0] = -1e30, 1e38
    expected = MIX._equation(one, other, *how)
    assert torch.equal(mix_bytes(one, other, how), expected)
    for i, (top, bottom, left, right) in enumerate(boxes):  # outside the box nothing changes
        outside = torch.ones(HEIGHT, WIDTH, dtype=torch.bool)
        rows, columns = torch.arange(HEIGHT)[:, None], torch.arange(WIDTH)
        outside &= ~((top <= rows) & (rows < bottom) & (left <= columns) & (columns < right))
        if not odd:
            assert torch.equal(expected[i][:, outside], other[i][:, outside])


EMPTY = [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0), (0, 0, 0, 0), (3, 1, 0, 0)]


@pytest.mark.parametrize("shape", EMPTY)
@pytest.mark.parametrize("quirks", [True, False])
def test_images_without_pixels(shape, quirks):
    none, n = torch.empty(shape, dtype=torch.uint8), shape[0]
    how = draw_mix(torch.arange(n), torch.arange(n) > 0, *shape[2:])
    for dtype in (torch.uint8, torch.float32, torch.float64):
        assert mix_bytes(none.to(dtype), none.to(dtype), how).shape == shape
    assert normalize(none, [1.0], [2.0]).shape == shape
    augment = RandAugment(4, 10, quirks=quirks)
    found = augment(none, augment.draw(torch.arange(n), *shape[2:]))
    assert (found.shape, found.dtype) == (shape, torch.uint8)


@pytest.mark.parametrize(
    ("at", "value", "said"),
    [
        ((1, 0, 2), None, "each image once in every layer"),  # a duplicate
        ((0, 0, 0), -1, "each image once"),
        ((2, 0, 7), N, "each image once"),
        ((2, 0, 7), 2**62, "each image once"),
        ((0, 1, 0), -1, "rows should be from 0 to 5; one is -1"),
        ((0, 1, 0), HEIGHT, "rows should be from 0 to 5; one is 6"),
        ((2, 2, 3), WIDTH, "columns should be from 0 to 6; one is 7"),
        ((2, 2, 3), -(2**63), "columns should be from 0 to 6; one is -9223372036854775808"),
    ],
)
def test_a_plan_with_invalid_places_is_rejected(at, value, said):
    augment, plan = planned()
    places = plan.places.clone()
    places[at] = places[1, 0, 3] if value is None else value
    with pytest.raises(UserError, match=said):
        augment(images(), replace(plan, places=places))
    with pytest.raises(UserError, match=said):  # checked before the transfer
        replace(plan, places=places).to("meta")


@pytest.mark.parametrize("code", [-1, 32, 2**40, -(2**63)])
def test_a_plan_with_an_invalid_code_is_rejected(code):
    for magnitude, quirks in ((10, True), (0, False)):  # the second plan has no effect
        augment, plan = planned(magnitude=magnitude, quirks=quirks)
        codes = plan.codes.clone()
        codes[2, 5] = code
        with pytest.raises(UserError, match=f"codes should be from 0 to 31; one is {code}"):
            augment(images(), replace(plan, codes=codes))


def test_codes_in_any_order_are_applied():
    augment, plan = planned()
    codes, order = plan.codes.flip(1), plan.places.flip(2)
    expected = augment(images(), plan)
    assert torch.equal(augment(images(), replace(plan, codes=codes, places=order)), expected)


def test_a_plan_of_another_shape_or_dtype_is_refused():
    _, plan = planned()
    rest = (10.0, True, list(OPERATIONS))
    for codes, places in (
        (plan.codes[:, :1], plan.places),
        (plan.codes[0], plan.places),
        (plan.codes[:2], plan.places),
        (plan.codes.int(), plan.places),
        (plan.codes, plan.places[:, :2]),
        (plan.codes, plan.places[:, :, :7]),
        (plan.codes, plan.places.int()),
        (plan.codes, plan.places.float()),
    ):
        with pytest.raises(UserError, match=r"a plan's (codes|places) are int64"):
            torch.ops.normfree.randaugment(images(), codes, places, *rest)
    for other in (images().float(), images().bool(), images()[0], images()[None]):
        with pytest.raises(UserError, match="RandAugment takes bytes"):
            torch.ops.normfree.randaugment(other, plan.codes, plan.places, *rest)


def test_invalid_settings_are_rejected():
    _, plan = planned()
    for magnitude in (float("nan"), float("inf"), -1.0, 1e30):
        with pytest.raises(UserError, match="magnitude is from 0 to 1000"):
            RandAugment(1, magnitude)
        settings = (magnitude, True, list(OPERATIONS))
        with pytest.raises(UserError, match="magnitude is from 0 to 1000"):
            torch.ops.normfree.randaugment(images(), plan.codes, plan.places, *settings)
    with pytest.raises(UserError, match="unknown RandAugment operation 'Rotat'; did you mean"):
        RandAugment(1, 10, operations=("Rotat",))
    with pytest.raises(UserError, match="needs at least one operation"):
        RandAugment(1, 10, operations=())
    with pytest.raises(UserError, match="drawn from other operations"):
        RandAugment(3, 10, operations=("Invert",))(images(), plan)


@pytest.mark.parametrize("magnitude", [0, 1e-30, 100, 1000])
@pytest.mark.parametrize("quirks", [True, False])
def test_extreme_magnitudes_match_the_equations(magnitude, quirks):
    augment, plan = planned(8, magnitude, quirks=quirks)
    for code in range(2 * len(OPERATIONS)):
        one = replace(plan, codes=torch.full_like(plan.codes, code))
        settings = (float(magnitude), quirks, list(OPERATIONS))
        expected = RANDAUGMENT._equation(images(), one.codes, one.places, *settings)
        assert torch.equal(augment(images(), one), expected)


@pytest.mark.parametrize("values", [torch.ones(2), torch.ones(4), torch.ones(0), torch.ones(3, 1)])
def test_normalization_needs_one_value_per_channel(values):
    for x in (images(), images().float()):
        for mean, std in ((values, torch.ones(3)), (torch.ones(3), values)):
            with pytest.raises(UserError, match="a value for each of 3 channels, or one; got"):
                normalize(x, mean, std)
    with pytest.raises(UserError, match=r"\(n, c, h, w\); got"):
        torch.ops.normfree.normalize(images()[0], torch.ones(3), torch.ones(3))
    with pytest.raises(UserError, match="float32 for bytes"):
        torch.ops.normfree.normalize(images(), torch.ones(3).double(), torch.ones(3))


@pytest.mark.parametrize("std", [0.0, float("nan"), float("inf"), 1e-45, -1.0])
def test_normalization_divides_by_anything(std):
    scale = (torch.tensor([0.0, 7.0, float("nan")]), torch.full((3,), std))
    expected = NORMALIZE._equation(images(), *scale)
    torch.testing.assert_close(
        normalize(images(), *scale), expected, rtol=0, atol=0, equal_nan=True
    )


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.to(memory_format=torch.channels_last),
        lambda x: x.repeat(1, 1, 1, 2)[..., ::2],
        lambda x: x.flip(0).as_strided(x.shape, x.stride()),
        lambda x: x[:1].expand(x.shape),
        lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    ],
)
def test_any_order_in_memory(view):
    one, other = view(images()), view(images(seed=1))
    same = (one.clone(memory_format=torch.contiguous_format), other.contiguous())
    augment, plan = planned()
    assert torch.equal(mix_bytes(one, other, drawn()), mix_bytes(*same, drawn()))
    assert torch.equal(augment(one, plan), augment(same[0], plan))
    scale = (IMAGENET_MEAN, IMAGENET_STD)
    assert torch.equal(normalize(one, *scale), normalize(same[0], *scale))
