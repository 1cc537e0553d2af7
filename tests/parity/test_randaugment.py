"""RandAugment operations against the authors' outputs on the same images, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from normfree.augment.geometry import rotate, shear_x, shear_y, translate_x, translate_y
from normfree.augment.operations import (
    auto_contrast,
    brightness,
    color,
    contrast,
    cutout,
    equalize,
    invert,
    posterize,
    sharpness,
    solarize,
    solarize_add,
)
from normfree.augment.randaugment import OPERATIONS, arguments
from tests.parity.reference import arrays, nchw, table

STORED = arrays("ra_ops_golden")
RESULTS = [key for key in STORED if not key.startswith(("image/", "arg/"))]
FUNCTIONS = {
    "AutoContrast": auto_contrast,
    "Equalize": equalize,
    "Invert": invert,
    "Rotate": rotate,
    "Posterize": posterize,
    "Solarize": solarize,
    "Color": color,
    "Contrast": contrast,
    "Brightness": brightness,
    "Sharpness": sharpness,
    "ShearX": shear_x,
    "ShearY": shear_y,
    "TranslateX": translate_x,
    "TranslateY": translate_y,
    "SolarizeAdd": solarize_add,
}


def _ours(key, images):
    """Apply the stored operation to a batch."""
    operation, how, *rest = key.split("/")
    if how.startswith("pad"):
        row, column = (int(place[1:]) for place in rest[0].removeprefix("centre_").split("_"))
        centers = torch.tensor([[row], [column]]).expand(2, len(images))
        return cutout(images, *centers, pad=int(how[3:]))
    if how.startswith("px"):
        return FUNCTIONS[operation](images, float(how[2:]))
    sign = -1 if rest[0] == "neg" else 1
    argument = arguments(float(how[1:]), sign, *images.shape[2:]).get(operation)
    return FUNCTIONS[operation](images, *([] if argument is None else [argument]))


@pytest.mark.parametrize("key", RESULTS)
def test_every_byte_is_the_authors(key):
    image = nchw(STORED[f"image/{key.rpartition('/')[2]}"][None], torch.uint8)
    other = image.flip(1, 3)  # a second image, which must not affect the first
    ours = _ours(key, torch.cat([other, image, other]))
    np.testing.assert_array_equal(ours[1].permute(1, 2, 0).numpy(), STORED[key])


def test_every_operation_and_level_is_stored():
    assert len(RESULTS) == 69
    assert {key.partition("/")[0] for key in RESULTS} == {*OPERATIONS}


def test_the_order_and_the_arguments_are_the_authors():
    facts = table("randaugment_ops")["randaugment"]
    assert list(OPERATIONS) == facts["op_order"]
    shared = {"enhance": "Color", "Shear": "ShearX", "Translate": "TranslateX"}
    for level, stored in facts["arguments_at_levels"].items():
        ours = arguments(float(level), 1, 192, 192)
        for name, value in stored.items():
            value = value % 256 if name == "Solarize" else value
            assert ours[shared.get(name, name)] == pytest.approx(value, rel=1e-15)
    for key in (key for key in STORED if key.startswith("arg/")):
        _, name, level, *sign = key.split("/")
        value = STORED[key].item() % 256 if name == "Solarize" else STORED[key].item()
        found = arguments(float(level[1:]), -1 if sign == ["neg"] else 1, 48, 40)[name]
        assert found == pytest.approx(value, rel=1e-15)
