"""Custom RandAugment operations, each a registered function."""

from __future__ import annotations

import pytest
import torch

from normfree import kernels
from normfree.augment import RandAugment, operation
from normfree.augment.randaugment import OPERATIONS
from normfree.augment.registry import TABLE, Level
from normfree.errors import UserError
from normfree.kernels import Call

KEYS = torch.arange(40)
IMAGES = torch.arange(40 * 3 * 20).view(40, 3, 4, 5).to(torch.uint8)


@pytest.fixture
def add():
    """A custom operation, unregistered after the test."""

    @operation(
        "Add",
        authors=lambda level: level.sign * int(level.magnitude),
        clean=lambda level: 2 * int(level.magnitude),
        neutral=0,
    )
    def add(images, number):
        return images + number

    yield add
    del TABLE["Add"]


def test_it_is_drawn_with_the_others_and_with_both_signs(add):
    augment = RandAugment(1, 3, operations=("Invert", "Add"))
    plan = augment.draw(KEYS, 4, 5)
    found = augment(IMAGES, plan)
    for name, sign, start, stop in plan.groups[0]:
        chosen = plan.places[0, 0, start:stop]
        expected = ~IMAGES[chosen] if name == "Invert" else IMAGES[chosen] + 3 * sign
        assert torch.equal(found[chosen], expected)
    assert {group[:2] for group in plan.groups[0]} == {("Invert", 1), ("Add", 1), ("Add", -1)}


def test_without_quirks_it_follows_its_other_rule(add):
    augment = RandAugment(1, 3, quirks=False, operations=("Add",))
    assert torch.equal(augment(IMAGES, augment.draw(KEYS, 4, 5)), IMAGES + 6)
    idle = RandAugment(1, 0, operations=("Add",))
    assert idle(IMAGES, idle.draw(KEYS, 4, 5)) is IMAGES


def test_a_reordered_subset_of_the_operations_uses_kernels(monkeypatch):
    augment = RandAugment(3, 10, operations=("Cutout", "Rotate", "Color", "AutoContrast"))
    plan = augment.draw(KEYS, 4, 5)
    found = augment(IMAGES, plan)
    monkeypatch.setenv("NORMFREE_KERNELS", "0")
    assert torch.equal(found, augment(IMAGES, plan))


@pytest.mark.skipif(not kernels.available(), reason=str(kernels.status()))
def test_the_kernel_is_used_unless_an_operation_has_none(add, monkeypatch):
    used = []
    monkeypatch.setattr(kernels, "randaugment", lambda images, *_: used.append(1) or images.clone())
    for operations, number in ((OPERATIONS, 1), ((*OPERATIONS, "Add"), 1)):
        augment = RandAugment(1, 7, operations=operations)
        augment(IMAGES, augment.draw(KEYS, 4, 5))
        assert len(used) == number


def test_a_name_is_registered_once(add):
    with pytest.raises(ValueError, match="'Add' is already registered"):
        operation("Add")(add)
    with pytest.raises(UserError, match="unknown RandAugment operation 'Ad'; did you mean Add"):
        RandAugment(1, 1, operations=("Ad",))


def test_whole_numbers_and_fractions_reach_the_kernel():
    level = Level(10.0, 1, 4, 5, True)
    assert TABLE["Posterize"].call(level) == Call("posterize", number=4)
    assert TABLE["Brightness"].call(level) == Call("brightness", factor=1.9000000000000001)
    assert TABLE["Contrast"].call(level) == Call("contrast", number=1, factor=1.9000000000000001)
    assert TABLE["Invert"].call(level) == Call("invert")
    moved = TABLE["TranslateX"].call(Level(0.1, -1, 1, 3, True))
    assert moved.kernel == "move"
    assert moved.places.tolist() == [3, 0, 1]
