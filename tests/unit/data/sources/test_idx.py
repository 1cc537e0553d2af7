from __future__ import annotations

import gzip
import os
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from normfree.data import open_source
from normfree.errors import UserError

SUBSET = Path(__file__).parents[3] / "data/fashion_mnist_subset"


def _write(path, array):
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, dtype=">u4").tobytes()
    content = header + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.fixture
def directory(tmp_path):
    """Unpacked files, 12 images of 4 × 5 pixels."""
    rng = np.random.default_rng(0)
    for prefix in ("train", "t10k"):
        images = rng.integers(0, 256, (12, 4, 5))
        _write(tmp_path / f"{prefix}-images-idx3-ubyte", images)
        _write(tmp_path / f"{prefix}-labels-idx1-ubyte", np.arange(12) % 3)
    return tmp_path


def test_fashion_mnist():
    train, val = open_source(f"idx:{SUBSET}", "train"), open_source(f"idx:{SUBSET}", "val")
    assert train.pixels.shape == (200, 28, 28, 1)
    assert val.pixels.shape == (100, 28, 28, 1)
    assert np.bincount(train.labels).tolist() == [20] * 10
    assert train.labels[0] == 9  # the first image of the whole set is an ankle boot
    assert train.classes == val.classes
    assert train.classes[9] == "Ankle boot"
    assert train.name(3) == "fashion_mnist_subset[3]"
    bags = train.pixels[train.labels == 8].mean()
    sandals = train.pixels[train.labels == 5].mean()
    assert bags > 2 * sandals  # images match their labels


def test_unpacked_files_and_plain_names(directory):
    source = open_source(f"idx:{directory}", "train")
    expected = np.random.default_rng(0).integers(0, 256, (12, 4, 5))
    np.testing.assert_array_equal(source.pixels[..., 0], expected)
    assert source.labels.tolist() == [0, 1, 2] * 4
    assert source.labels.dtype == np.int64
    assert source.classes == tuple("0123456789")


def test_the_spelling_with_a_dot(directory):
    for file in list(directory.iterdir()):
        file.rename(directory / file.name.replace("-idx", ".idx"))
    assert len(open_source(f"idx:{directory}", "val")) == 12


def test_more_than_ten_classes(directory):
    _write(directory / "train-labels-idx1-ubyte", np.arange(12) + 20)
    assert len(open_source(f"idx:{directory}", "train").classes) == 32
    # val, whose labels end at 2, has the same classes as train
    assert len(open_source(f"idx:{directory}", "val").classes) == 32


def test_held_out_files_need_no_training_labels(directory):
    for file in directory.glob("train-*"):
        file.unlink()
    assert open_source(f"idx:{directory}", "val", ("a", "b", "c")).classes == ("a", "b", "c")
    with pytest.raises(UserError, match="label 2, but the training labels end at 1"):
        open_source(f"idx:{directory}", "val", ("a", "b"))


def test_missing(directory):
    with pytest.raises(UserError, match="there is no directory"):
        open_source(f"idx:{directory / 'none'}", "train")
    (directory / "t10k-images-idx3-ubyte").unlink()
    with pytest.raises(UserError, match=r"neither t10k-images-idx3-ubyte nor .*\.gz"):
        open_source(f"idx:{directory}", "val")


def test_two_files_that_do_not_belong_together(directory):
    _write(directory / "train-labels-idx1-ubyte", np.zeros(11))
    with pytest.raises(UserError, match=r"12 images .* 11 labels"):
        open_source(f"idx:{directory}", "train")


def test_a_label_unknown_to_train(directory):
    _write(directory / "t10k-labels-idx1-ubyte", np.arange(12))
    with pytest.raises(UserError, match="label 11, but the training labels end at 9"):
        open_source(f"idx:{directory}", "val")


def test_empty(directory):
    _write(directory / "train-images-idx3-ubyte", np.zeros((0, 4, 5)))
    _write(directory / "train-labels-idx1-ubyte", np.zeros(0))
    with pytest.raises(UserError, match="no images"):
        open_source(f"idx:{directory}", "train")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:-1], "should hold 12 × 4 × 5 = 240 values but has 239"),
        (lambda content: content + b"\0", "but has 241"),
        (lambda content: content[:9], "ends inside its header"),
        (lambda content: b"", "begins with nothing"),
        (lambda content: b"\0\0\x0d\x03" + content[4:], "begins with 00000d03, not 00000803"),
        (lambda content: b"\0\0\x08\x01" + content[4:], "with 3 dimensions"),
    ],
)
def test_damaged(directory, damage, message):
    file = directory / "train-images-idx3-ubyte"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(UserError, match=message) as caught:
        open_source(f"idx:{directory}", "train")
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-500],
        lambda content: b"no archive",
        lambda content: content[:40] + bytes(900) + content[940:],
    ],
    ids=["cut", "foreign", "overwritten"],
)
def test_a_damaged_archive(tmp_path, damage):
    directory = tmp_path / "copy"
    shutil.copytree(SUBSET, directory)
    file = directory / "train-images-idx3-ubyte.gz"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(UserError, match=r"cannot decompress .*train-images.* download it again"):
        open_source(f"idx:{directory}", "train")


def _bomb(path, header, size):
    """A small gzip file of zeros that decompresses to ``size`` bytes."""
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(header)
        for _ in range(size // 2**20):
            file.write(bytes(2**20))


def test_a_gzip_file_is_decompressed_by_its_declared_size(directory):
    file = directory / "train-images-idx3-ubyte"
    header = file.read_bytes()[:16]
    file.unlink()
    _bomb(directory / f"{file.name}.gz", header, 64 * 2**20)
    tracemalloc.start()
    with pytest.raises(UserError, match="= 240 values but has 241 or more: download it again"):
        open_source(f"idx:{directory}", "train")
    assert tracemalloc.get_traced_memory()[1] < 2**21
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((60_000, 1000, 1000), "more than the limit of 1073741824"),
        ((1, 30_000, 30_000), "too small"),
    ],
)
@pytest.mark.parametrize("end", ["", ".gz"])
def test_implausible_sizes_are_refused_before_they_are_allocated(directory, shape, message, end):
    file = directory / "train-images-idx3-ubyte"
    header = b"\0\0\x08\x03" + np.array(shape, dtype=">u4").tobytes()
    file.unlink()
    content = gzip.compress(header + bytes(1000)) if end else header + bytes(1000)
    (directory / f"{file.name}{end}").write_bytes(content)
    tracemalloc.start()
    with pytest.raises(UserError, match=message):
        open_source(f"idx:{directory}", "train")
    assert tracemalloc.get_traced_memory()[1] < 2**21
    tracemalloc.stop()


def test_a_fifo_does_not_hang(directory):
    file = directory / "train-images-idx3-ubyte"
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(UserError, match=r"cannot read .*: not a regular file"):
        open_source(f"idx:{directory}", "train")
