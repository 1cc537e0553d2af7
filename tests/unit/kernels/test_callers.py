"""Arguments are checked before their pointers are passed to C."""

from __future__ import annotations

import platform

import pytest
import torch
from jaxtyping import TypeCheckError

from normfree import kernels
from normfree.kernels import Call, Operations, library
from normfree.kernels.pointers import pointer

COMPILED = ["neon"] if platform.machine() in ("aarch64", "arm64") else ["avx2", "avx512"]
pytestmark = pytest.mark.skipif(not kernels.available(), reason=str(kernels.status()))
REFUSED = (ValueError, TypeCheckError)
BYTES = torch.arange(8 * 3 * 16).view(8, 3, 4, 4).to(torch.uint8)
ZEROS = torch.zeros(2, 8, dtype=torch.int64)


def test_pointers_are_checked():
    x = torch.arange(12.0).view(3, 4)
    assert pointer("x", x, torch.float32, [3, 4]).value == x.data_ptr()
    for other in (
        *(x.double(), x[:2], x[:, :2], x.t(), x[None], x.to("meta"), x.half()),
        *(x.view(4, 3), torch.complex(x, x).conj(), torch.complex(x, x).conj().imag),
    ):
        with pytest.raises(ValueError, match=r"x should be contiguous torch.float32 \(3, 4\) on"):
            pointer("x", other, torch.float32, [3, 4])


@pytest.mark.parametrize("codes", [-1, 2, 1 << 40, -(1 << 63)])
@pytest.mark.parametrize("threads", [1, 3])
def test_c_rejects_invalid_codes(codes, threads):
    operations, before = Operations([Call("invert"), None], 16), torch.get_num_threads()
    bad = ZEROS.clone()
    bad[1, 5] = codes
    try:
        torch.set_num_threads(threads)
        with pytest.raises(ValueError, match="a code stands for no operation"):
            kernels.randaugment(BYTES, operations, bad, ZEROS, ZEROS)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(kernels.randaugment(BYTES, operations, ZEROS, ZEROS, ZEROS), BYTES)


@pytest.mark.parametrize(
    "bad", [ZEROS[:1], ZEROS[:, :7], ZEROS.int(), ZEROS[0], ZEROS.t().contiguous().t()]
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_lists_of_another_shape_are_refused(place, bad):
    given = [ZEROS, ZEROS, ZEROS]
    given[place] = bad
    if place == 0 and len(bad) == 1 and bad.ndim == 2:
        given[1] = given[2] = ZEROS  # the codes determine the number of layers
    with pytest.raises(REFUSED):
        kernels.randaugment(BYTES, Operations([Call("invert")], 16), *given)


def test_operations_for_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match="for images of 15 pixels"):
        kernels.randaugment(BYTES, Operations([Call("invert")], 15), ZEROS, ZEROS, ZEROS)


@pytest.mark.parametrize("places", [[0] * 15, [0] * 17, [-1] + [0] * 15, [17] + [0] * 15])
def test_places_beyond_the_image_are_refused(places):
    with pytest.raises(ValueError, match="16 integers from 0 to 16"):
        Operations([Call("move", places=torch.tensor(places))], 16)
    with pytest.raises(KeyError):
        Operations([Call("no_such_kernel")], 16)


@pytest.mark.parametrize("number", [-(1 << 70), -1, 0, 7, 8, 9, 255, 256, 257, 1 << 30, 1 << 70])
@pytest.mark.parametrize("kernel", ["posterize", "solarize", "solarize_add", "cutout", "contrast"])
@pytest.mark.parametrize("factor", [0.0, -1e30, 1e300, float("inf"), float("nan")])
def test_any_strength_gives_a_result(kernel, number, factor):
    operations = Operations([Call(kernel, number=number, factor=factor)], 16)
    centers = torch.tensor([[0, 3, 0, 3, 1, 2, -(1 << 62), 1 << 62]] * 2)
    found = kernels.randaugment(BYTES, operations, ZEROS, centers, centers)
    assert (found.shape, found.dtype) == (BYTES.shape, torch.uint8)


@pytest.mark.parametrize("factor", [0.0, -1e30, 1e300, float("inf"), float("-inf"), float("nan")])
@pytest.mark.parametrize("kernel", ["color", "brightness", "sharpness", "contrast"])
@pytest.mark.parametrize("name", COMPILED)
def test_any_factor_gives_the_same_result_everywhere(kernel, factor, name):
    operations = Operations([Call(kernel, factor=factor)], 16)
    expected = kernels.randaugment(BYTES, operations, ZEROS, ZEROS, ZEROS)
    try:
        if not library.use(name):
            pytest.skip(f"no {name} here")
        assert torch.equal(kernels.randaugment(BYTES, operations, ZEROS, ZEROS, ZEROS), expected)
    finally:
        library.use()


def test_mixing_rejects_mismatched_arguments():
    ratio, boxes, cutmix = torch.rand(8), torch.zeros(8, 4).long(), torch.zeros(8).bool()
    assert kernels.mix_bytes(BYTES, BYTES, ratio, boxes, cutmix).shape == BYTES.shape
    for bad in (
        (BYTES, BYTES[:7], ratio, boxes, cutmix),
        (BYTES, BYTES[..., :3], ratio, boxes, cutmix),
        (BYTES, BYTES, ratio[:1], boxes, cutmix),
        (BYTES, BYTES, ratio.double(), boxes, cutmix),
        (BYTES, BYTES, ratio, boxes[:1], cutmix),
        (BYTES, BYTES, ratio, boxes[:, :3], cutmix),
        (BYTES, BYTES, ratio, boxes[:0], cutmix),
        (BYTES, BYTES, ratio, boxes.int(), cutmix),
        (BYTES, BYTES, ratio, boxes, cutmix[:1]),
        (BYTES, BYTES, ratio, boxes, cutmix.int()),
    ):
        with pytest.raises(REFUSED):
            kernels.mix_bytes(*bad)


def test_normalization_rejects_mismatched_arguments():
    for bad in (torch.ones(3).double(), torch.ones(3).to("meta")):
        with pytest.raises(REFUSED):
            kernels.normalize(BYTES, bad, torch.ones(3))
        with pytest.raises(REFUSED):
            kernels.normalize(BYTES, torch.ones(3), bad)
    for other in (
        torch.ones(1),
        torch.ones(4),
    ):  # left to the equation
        assert kernels.normalize(BYTES, other, torch.ones(3)) is None
        assert kernels.normalize(BYTES, torch.ones(3), other) is None
    assert kernels.normalize(BYTES[..., :3], torch.ones(3), torch.ones(3)) is None
