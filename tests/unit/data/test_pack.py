"""Packs: the same pixels as the source, in one file that no damage of goes unnoticed."""

from __future__ import annotations

import itertools
import json
import pickle
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from normfree.data import (
    ArraySource,
    BadImages,
    BatchPlan,
    Limits,
    TrainTransform,
    has_split,
    open_source,
    train_batches,
)
from normfree.data.pack import PREAMBLE, open_pack, read_header
from normfree.data.pack_writer import write_pack
from normfree.data.packing import Packing
from normfree.data.sources.folder import FolderSource
from normfree.errors import BadImageError, UserError


def packed(folder, path, workers=0, **settings):
    sources = {split: open_source(f"folder:{folder}", split) for split in ("train", "val")}
    write_pack(path, sources, Packing(**settings), made_of="folder", workers=workers)
    return open_pack(path, "train")


def test_a_raw_pack_has_the_pixels_labels_and_names_of_the_source(folder, tmp_path):
    pack = packed(folder, tmp_path / "a.pack")
    source = open_source(f"folder:{folder}", "train")
    assert len(pack) == len(source) == 14
    assert (pack.classes, pack.channels) == (source.classes, source.channels)
    np.testing.assert_array_equal(pack.labels, source.labels)
    for index in range(len(source)):
        np.testing.assert_array_equal(pack.image(index), source.image(index))
        assert pack.name(index) == source.name(index)
    with pytest.raises(ValueError, match="read-only"):
        pack.image(0)[0, 0, 0] = 1
    assert len(open_source(f"pack:{tmp_path / 'a.pack'}", "val")) == 8
    assert not has_split(f"pack:{tmp_path / 'a.pack'}", "test")
    assert list(pack.verify()) == []


def test_it_trains_on_the_same_bits_as_the_folder_with_any_number_of_workers(folder, tmp_path):
    pack = packed(folder, tmp_path / "a.pack")
    source = open_source(f"folder:{folder}", "train")
    plan = BatchPlan(seed=2, examples=14, batch_size=5)
    found = [
        [
            batch.images.clone()
            for batch in train_batches(
                kind, TrainTransform(16), plan, start=0, stop=4, workers=workers
            )
        ]
        for kind, workers in ((source, 0), (pack, 0), (pack, 2))
    ]
    assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(*found, strict=True))
    assert len(pickle.dumps(pack)) < 1000  # processes map the file themselves


def test_the_number_of_workers_does_not_change_the_file(folder, tmp_path):
    for workers in (0, 2):
        packed(folder, tmp_path / f"{workers}", workers, short_side=32)
    assert (tmp_path / "0").read_bytes() == (tmp_path / "2").read_bytes()


def test_the_short_side_is_the_one_asked_for_and_nothing_is_enlarged(folder, tmp_path):
    source = open_source(f"folder:{folder}", "train")
    pack = packed(folder, tmp_path / "a.pack", short_side=48)
    for index in range(len(pack)):
        before, after = source.image(index).shape[:2], pack.image(index).shape[:2]
        assert min(after) == min(48, *before)
        assert abs(after[0] / after[1] - before[0] / before[1]) < 0.03
    square = packed(folder, tmp_path / "b.pack", short_side=48, square=True)
    assert {square.image(index).shape for index in range(14)} == {(48, 48, 3)}


def test_resizing_is_antialiased():
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))[..., None]
    found = Packing(short_side=16, square=True).resized(stripes)
    assert abs(found[4:-4, 4:-4].astype(int) - 127).max() < 25


def test_jpegs_are_kept_as_they_are_unless_resized(folder, tmp_path):
    source = open_source(f"folder:{folder}", "train")
    kept = packed(folder, tmp_path / "a.pack", encoding="jpeg")
    assert isinstance(source, FolderSource)
    for index in range(len(source)):
        assert kept.content(index) == Path(source.files[index]).read_bytes()
        np.testing.assert_array_equal(kept.image(index), source.image(index))
    raw = packed(folder, tmp_path / "b.pack", short_side=32)
    small = packed(folder, tmp_path / "c.pack", short_side=32, encoding="jpeg")
    for index in range(len(source)):
        difference = small.image(index).astype(int) - raw.image(index)
        assert 0 < np.abs(difference).mean() < 4


@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
def test_gray_images_and_several_labels(encoding, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (20, 9, 7, 1), dtype=np.uint8)
    labels = np.eye(4, dtype=bool)[np.arange(20) % 4] | (np.arange(4) == 0)
    source = ArraySource("gray", pixels, labels, tuple("abcd"))
    path = tmp_path / "gray.pack"
    write_pack(path, {"train": source}, Packing(encoding=encoding), made_of="gray")
    pack = open_pack(path, "train")
    assert pack.image(3).shape == (9, 7, 1)
    np.testing.assert_array_equal(pack.labels, labels)
    if encoding == "raw":
        np.testing.assert_array_equal(pack.image(19), pixels[19])
    plan = BatchPlan(seed=0, examples=20, batch_size=4)
    batch = next(train_batches(pack, None, plan, start=0, stop=1))
    assert batch.labels.shape == (4, 4)


def test_unreadable_images_are_left_out_if_there_is_a_log(folder, tmp_path):
    (folder / "train/china/3.jpg").write_bytes(b"no")
    source, path = open_source(f"folder:{folder}", "train"), tmp_path / "a.pack"
    with pytest.raises(BadImageError, match=r"china/3\.jpg"):
        write_pack(path, {"train": source}, Packing(), made_of="folder")
    assert list(tmp_path.glob("a.pack*")) == []  # nothing is left of the attempt
    log = BadImages()
    write_pack(path, {"train": source}, Packing(), made_of="folder", bad_images=log)
    pack = open_pack(path, "train")
    assert (len(pack), log.count) == (13, 1)
    assert pack.labels.tolist() == [0] * 6 + [1] * 7


def test_splits_of_different_classes_are_refused(folder, tmp_path):
    train = open_source(f"folder:{folder}", "train")
    other = ArraySource("x", np.zeros((1, 2, 2, 3), np.uint8), np.zeros(1, np.int64), ("x", "y"))
    with pytest.raises(UserError, match="different classes"):
        write_pack(tmp_path / "a", {"train": train, "val": other}, Packing(), made_of="x")


def test_a_square_needs_a_side():
    with pytest.raises(UserError, match="--size"):
        Packing(square=True)


def opened(path):
    """Everything that can be read of a pack, or the error."""
    found = []
    for split in read_header(path).splits:
        pack = open_pack(path, split)
        found += [error.reason for error in pack.verify()]
        for index in range(len(pack)):
            pack.name(index)
            found.append(pack.image(index).sum() if pack.header.encoding == "raw" else 0)
    return found


@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
def test_no_truncation_goes_unnoticed(encoding, folder, tmp_path):
    packed(folder, tmp_path / "a.pack", short_side=8, encoding=encoding)
    whole = (tmp_path / "a.pack").read_bytes()
    for size in [0, 1, 15, 16, 63, 64, *range(65, len(whole), len(whole) // 60), len(whole) - 1]:
        (tmp_path / "cut").write_bytes(whole[:size])
        with pytest.raises(UserError, match=r"cut .*(not a pack|damaged|too small)"):
            opened(tmp_path / "cut")


def test_no_flipped_bit_goes_unnoticed(folder, tmp_path):
    packed(folder, tmp_path / "a.pack", short_side=8)
    whole = (tmp_path / "a.pack").read_bytes()
    rng = np.random.default_rng(0)
    noticed = 0
    for place in [*range(PREAMBLE.size), *rng.integers(64, len(whole), 300)]:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        (tmp_path / "b").write_bytes(damaged)
        try:
            noticed += any("checksum" in str(part) for part in opened(tmp_path / "b"))
        except UserError:
            noticed += 1
        else:
            padding = whole[place] == 0  # between blocks
            noticed += padding and opened(tmp_path / "b") == opened(tmp_path / "a.pack")
    assert noticed >= PREAMBLE.size + 300


def rewritten(path, change):
    """A pack with another header, whose checksum is right."""
    whole = path.read_bytes()
    magic, offset, length, _ = PREAMBLE.unpack(whole[: PREAMBLE.size])
    header = json.loads(whole[offset : offset + length])
    change(header)
    content = json.dumps(header).encode()
    begin = PREAMBLE.pack(magic, offset, len(content), zlib.crc32(content))
    path.write_bytes(begin + whole[len(begin) : offset] + content)


def of_split(**changes):
    def change(header):
        for name, value in changes.items():
            header["splits"]["train"][name].update(value)

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda h: h.update(classes=["a"]), "not one of its 1 classes"),
        (lambda h: h.update(channels=1), "does not match its pixels"),
        (lambda h: h.update(channels=-1), "greater than or equal to 1"),
        (lambda h: h.update(encoding="exec"), "encoding"),
        (lambda h: h.update(extra=1), "extra"),
        (lambda h: h["splits"]["train"].pop("labels"), "labels are missing"),
        (of_split(labels={"dtype": "|O"}), "labels are missing or of another type"),
        (of_split(begins={"offset": 2**62}), "out of bounds"),
        (of_split(begins={"shape": [2**62]}), "out of bounds"),
        (of_split(begins={"shape": [-14, -1]}), "out of bounds"),
        (of_split(begins={"shape": []}), "out of bounds"),
        (of_split(begins={"shape": [13]}), "checksum"),
        (of_split(begins={"offset": 3}), "out of bounds"),
        (of_split(names={"shape": [3], "checksum": 0}), "checksum"),
    ],
)
def test_a_hostile_header_is_a_named_error(change, reason, folder, tmp_path):
    packed(folder, tmp_path / "a.pack", short_side=8)
    rewritten(tmp_path / "a.pack", change)
    with pytest.raises(UserError, match=reason) as caught:
        opened(tmp_path / "a.pack")
    assert "a.pack is damaged" in str(caught.value)


@pytest.mark.parametrize(
    ("block", "value", "reason"),
    [
        ("begins", 2**60, "an image is out of bounds"),
        ("begins", -1, "an image is out of bounds"),
        ("lengths", -5, "an image is out of bounds"),
        ("heights", 2**20, "max_side"),
        ("widths", 0, "no pixels"),
        ("heights", 9, "does not match its pixels"),
        ("labels", 2, "not one of its 2 classes"),
        ("labels", -1, "not one of its 2 classes"),
        ("name_ends", 2**40, "names are out of bounds"),
        ("name_ends", -1, "names are out of bounds"),
    ],
)
def test_hostile_blocks_with_right_checksums(block, value, reason, folder, tmp_path):
    path = tmp_path / "a.pack"
    pack = packed(folder, path, short_side=8)
    where = pack.header.splits["train"][block]
    del pack
    whole = bytearray(path.read_bytes())
    values = np.ndarray(where.shape, where.dtype, whole, where.offset)
    values[3] = value
    checksum = zlib.crc32(values.tobytes())
    path.write_bytes(whole)
    rewritten(path, of_split(**{block: {"checksum": checksum}}))
    with pytest.raises(UserError, match=reason):
        opened(path)


def test_limits_hold_for_raw_images(folder, tmp_path):
    packed(folder, tmp_path / "a.pack")
    with pytest.raises(UserError, match="max_pixels"):
        open_pack(tmp_path / "a.pack", "train", Limits(max_pixels=1000))


@pytest.mark.parametrize(("split", "said"), [("test", "only train, val"), ("all", "no all images")])
def test_a_split_that_is_not_there(split, said, folder, tmp_path):
    packed(folder, tmp_path / "a.pack", short_side=8)
    with pytest.raises(UserError, match=said):
        open_pack(tmp_path / "a.pack", split)


def test_files_that_are_no_packs(tmp_path):
    (tmp_path / "text").write_text("hello" * 100)
    for name, said in (("none", "No such file"), ("text", "is not a pack"), ("", "not a regular")):
        with pytest.raises(UserError, match=said):
            read_header(tmp_path / name)
    assert list(itertools.islice(tmp_path.iterdir(), 2)) == [tmp_path / "text"]
