from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from normfree import kernels
from normfree.augment import levels, randaugment
from normfree.augment.randaugment import OPERATIONS, Plan, RandAugment, arguments
from normfree.augment.registry import TABLE
from normfree.errors import UserError
from normfree.random import example_keys

N = 20_000
KEYS = torch.from_numpy(example_keys(0, 0, np.arange(N)))
MOVES = {"Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY"}
ENHANCE = {"Color", "Contrast", "Brightness", "Sharpness"}
LEVELS = [0, 1, 3.7, 5, 10, 15, 20]


@pytest.fixture(scope="module", params=["compiled", "torch"], autouse=True)
def by(request):
    """Run each test twice: with kernels, if they were built, and with PyTorch operations."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NORMFREE_KERNELS", "1" if request.param == "compiled" else "0")
        if request.param == "compiled" and not kernels.available():
            pytest.skip(str(kernels.status()))
        yield


def _images(n, height, width, channels=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (n, channels, height, width), dtype=torch.uint8, generator=generator)


def _drawn(plan: Plan) -> np.ndarray:
    """(layers, n, 4): operation, sign, row and column of each image."""
    layers, _, n = plan.places.shape
    drawn = np.full((layers, n, 4), -99)
    for layer, (groups, places) in enumerate(zip(plan.groups, plan.places.numpy(), strict=True)):
        order, rows, columns = places
        for name, sign, start, stop in groups:
            chosen = order[start:stop]
            drawn[layer, chosen, 0] = OPERATIONS.index(name)
            drawn[layer, chosen, 1] = sign
        drawn[layer, order, 2], drawn[layer, order, 3] = rows, columns
    assert (drawn != -99).all()
    return drawn


@pytest.fixture(scope="module")
def drawn():
    return _drawn(RandAugment(layers=3, magnitude=10).draw(KEYS, 24, 40))


def _near(count, trials, probability):
    return abs(count - trials * probability) < 5 * math.sqrt(
        trials * probability * (1 - probability)
    )


def test_all_operations_are_equally_likely_in_each_layer(drawn):
    for layer in drawn:
        counts = np.bincount(layer[:, 0], minlength=16)
        assert all(_near(count, N, 1 / 16) for count in counts)


def test_layers_are_independent(drawn):
    for first, second in ((0, 1), (1, 2), (0, 2)):
        pairs = np.bincount(drawn[first, :, 0] * 16 + drawn[second, :, 0], minlength=256)
        assert all(_near(count, N, 1 / 256) for count in pairs)


@pytest.mark.parametrize("quirks", [True, False])
def test_signs_are_equally_likely(quirks):
    (layer,) = _drawn(RandAugment(1, 10, quirks=quirks).draw(KEYS, 24, 40))
    for number, name in enumerate(OPERATIONS):
        signs = layer[layer[:, 0] == number, 1]
        if name in MOVES or (name in ENHANCE and not quirks):
            assert _near((signs == 1).sum(), len(signs), 0.5)
            assert set(signs) == {1, -1}
        else:
            assert set(signs) == {1}


def test_centers_are_uniform_and_independent_of_the_operation(drawn):
    for chosen in (drawn[0], drawn[1], drawn[0][drawn[0][:, 0] == OPERATIONS.index("Cutout")]):
        for column, length in ((2, 24), (3, 40)):
            counts = np.bincount(chosen[:, column], minlength=length)
            assert len(counts) == length
            assert all(_near(count, len(chosen), 1 / length) for count in counts)
    rows, columns = drawn[0, :, 2], drawn[0, :, 3]
    assert abs(np.corrcoef(rows, columns)[0, 1]) < 5 / math.sqrt(N)


def test_no_batch_gets_a_single_operation(drawn):
    batches = drawn[0, : 500 * 32, 0].reshape(500, 32)
    assert min(len(set(batch)) for batch in batches) > 5


def test_more_layers_do_not_change_the_first(drawn):
    assert np.array_equal(_drawn(RandAugment(1, 3).draw(KEYS, 24, 40)), drawn[:1])


@pytest.mark.parametrize("quirks", [True, False])
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 7), (16, 16)])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_depends_neither_on_its_batch_nor_on_its_position(
    quirks, level, height, width, channels
):
    augment = RandAugment(layers=4, magnitude=level, quirks=quirks)
    images, before = _images(64, height, width, channels), _images(64, height, width, channels)
    whole = augment(images, augment.draw(KEYS[:64], height, width))
    assert torch.equal(images, before)
    assert whole.dtype == torch.uint8
    chosen = torch.tensor([50, 3, 17, 3])
    part = augment(images[chosen], augment.draw(KEYS[chosen], height, width))
    assert torch.equal(part, whole[chosen])
    for place in (0, 31, 63):
        alone = augment(images[place, None], augment.draw(KEYS[place, None], height, width))
        assert torch.equal(alone[0], whole[place])


@pytest.mark.parametrize("quirks", [True, False])
def test_each_image_gets_its_operations_in_sequence(quirks):
    augment = RandAugment(layers=3, magnitude=10, quirks=quirks)
    images = _images(200, 11, 13)
    plan = augment.draw(KEYS[:200], 11, 13)
    result = augment.apply(images, plan)
    for place, steps in enumerate(_drawn(plan).transpose(1, 0, 2)):
        image = images[place, None]
        for number, sign, row, column in steps.tolist():
            name = OPERATIONS[number]
            function = TABLE[name].function
            given = arguments(10, sign, 11, 13, quirks=quirks)
            rest = [given[name]] if name in given else []
            if name == "Cutout":
                rest = [torch.tensor([row]), torch.tensor([column]), *rest]
            if name == "Contrast":
                rest = [*rest, quirks]
            image = function(image, *rest)
        assert torch.equal(image[0], result[place])


@settings(max_examples=25)
@given(
    level=st.floats(0, 30, allow_nan=False),
    layers=st.integers(0, 3),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    quirks=st.booleans(),
)
def test_any_level_and_any_size(level, layers, height, width, quirks):
    augment = RandAugment(layers, level, quirks=quirks)
    images = _images(12, height, width)
    result = augment(images, augment.draw(KEYS[:12], height, width))
    assert (result.shape, result.dtype) == (images.shape, torch.uint8)
    again = augment(images, augment.draw(KEYS[:12], height, width))
    assert torch.equal(result, again)


def test_no_layers_and_no_images():
    images = _images(3, 4, 4)
    none = RandAugment(0, 10)
    assert none(images, none.draw(KEYS[:3], 4, 4)) is images
    some = RandAugment(2, 10)
    assert some(images[:0], some.draw(KEYS[:0], 4, 4)).shape == (0, 3, 4, 4)


def test_images_in_another_order_in_memory():
    augment = RandAugment(4, 10)
    images = _images(40, 6, 10)
    plan = augment.draw(KEYS[:40], 6, 10)
    last = images.to(memory_format=torch.channels_last)
    assert torch.equal(augment(last, plan), augment(images, plan))


def test_many_images_of_one_operation_are_processed_in_chunks(monkeypatch):
    augment, images = RandAugment(3, 10), _images(64, 8, 8)
    plan = augment.draw(KEYS[:64], 8, 8)
    whole = augment(images, plan)
    monkeypatch.setattr(levels, "_CHUNK", 2 * 3 * 64)
    assert levels.chunk_length(images) == 2
    assert torch.equal(augment(images, plan), whole)


@pytest.mark.parametrize("quirks", [True, False])
def test_no_value_is_read_from_the_device(monkeypatch, quirks):
    """On a device, the equation is used; only the codes are read, which stay on the host."""
    augment, images = RandAugment(4, 10, quirks=quirks), _images(128, 9, 9)
    plan = augment.draw(KEYS[:128], 9, 9).to("cpu")
    expected = augment(images, plan)

    def forbid(owner, name):
        before = getattr(owner, name)

        def wait(*given, **named):
            if given and given[0] is plan.codes:
                return before(*given, **named)
            raise AssertionError("this would synchronize a GPU")

        monkeypatch.setattr(owner, name, wait)

    names = ["item", "tolist", "cpu", "numpy", "nonzero", "unique", "__bool__", "__int__"]
    for name in [*names, "__float__", "__index__", "masked_select", "__contains__"]:
        forbid(torch.Tensor, name)
    for name in ("nonzero", "masked_select", "unique", "argwhere"):
        forbid(torch, name)
    settings = (10.0, quirks, plan.operations)
    result = randaugment._equation(images, plan.codes, plan.places, *settings)
    monkeypatch.undo()
    assert torch.equal(result, expected)
    elsewhere = plan.to("meta")  # meta tensors have no values to read
    shape = randaugment._equation(images.to("meta"), plan.codes, elsewhere.places, *settings).shape
    assert shape == images.shape


def test_a_quarter_of_the_operations_have_no_effect_at_level_five():
    images = _images(2000, 6, 6)
    counts = {}
    for quirks in (True, False):
        augment = RandAugment(1, 5, quirks=quirks)
        plan = augment.draw(KEYS[:2000], 6, 6)
        same = (augment(images, plan) == images).flatten(1).all(1).numpy()
        kinds = _drawn(plan)[0, :, 0]
        counts[quirks] = {
            name: same[kinds == number].mean() for number, name in enumerate(OPERATIONS)
        }
    assert {name for name, share in counts[True].items() if share == 1} >= ENHANCE
    assert all(counts[False][name] < 0.01 for name in ENHANCE)


def test_without_quirks_operations_get_stronger_with_the_level():
    images = torch.arange(256, dtype=torch.uint8).repeat(3, 1).view(1, 3, 16, 16)
    images = images.flip(2)  # so that every move changes some pixel
    for name in (*sorted(MOVES), *sorted(ENHANCE - {"Sharpness"}), "Posterize", "Solarize"):
        for sign in (1, -1):
            change = []
            for level in (0, 2, 4, 6, 8, 10):
                given = arguments(level, sign, 16, 16, quirks=False)[name]
                rest = [False] if name == "Contrast" else []
                found = TABLE[name].function(images, given, *rest)
                change.append(
                    (found != images).sum().item()
                    if name in MOVES
                    else (found.int() - images.int()).abs().sum().item()
                )
            assert change[0] == 0
            if name in ENHANCE - {"Color"} or name in {"Posterize", "Solarize"}:
                assert change == sorted(change)
                assert len(set(change)) == 6 if name != "Posterize" else len(set(change)) > 3


def test_arguments_without_quirks():
    def at(level, sign=1):
        return arguments(level, sign, 100, 200, quirks=False)

    assert [at(level)["Posterize"] for level in (0, 5, 10, 15, 17.5, 100)] == [8, 6, 4, 2, 1, 1]
    assert [at(level)["Solarize"] for level in (0, 5, 10, 15)] == [256, 128, 0, 0]
    assert [at(5, sign)["Color"] for sign in (1, -1)] == pytest.approx([1.45, 0.55])
    assert at(20, -1)["Sharpness"] == 0.1
    assert at(10)["TranslateX"] == pytest.approx(90)
    assert at(10, -1)["TranslateY"] == pytest.approx(-45)
    assert at(10)["Rotate"] == arguments(10, 1, 100, 200)["Rotate"]


def test_arguments_of_the_authors_at_the_ends():
    none, most = arguments(0, -1, 9, 9), arguments(20, 1, 9, 9)
    assert (none["Posterize"], none["Solarize"], none["Color"]) == (0, 0, 0.1)
    assert (most["Posterize"], most["Solarize"], most["SolarizeAdd"]) == (8, 0, 220)


def test_mismatched_plans_are_rejected():
    augment = RandAugment(1, 10)
    plan = augment.draw(KEYS[:4], 8, 8)
    with pytest.raises(UserError, match=r"4 images of 8×8 pixels, but there are 4 of 8×9; draw"):
        augment(_images(4, 8, 9), plan)
    with pytest.raises(UserError, match="but there are 3"):
        augment(_images(3, 8, 8), plan)
    with pytest.raises(UserError, match="layers, not -1"):
        RandAugment(-1, 10)
    for magnitude in (-1.0, math.inf, math.nan):
        with pytest.raises(UserError, match="magnitude"):
            RandAugment(1, magnitude)


def test_the_settings_are_values():
    assert RandAugment(4, 5) == RandAugment(4, 5.0, quirks=True)
    with pytest.raises(dataclasses.FrozenInstanceError):
        RandAugment(4, 5).layers = 2
