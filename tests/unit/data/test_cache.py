"""Decoded images are kept, shared, bounded, and never wrong."""

from __future__ import annotations

import os
import resource
import signal
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

from normfree.data import BatchPlan, TrainTransform, Workers, open_source, train_batches
from normfree.data.cache import CachedSource, PixelCache, source_key
from normfree.data.share import share, shared
from normfree.data.sources.folder import FolderSource


class Counting(FolderSource):
    """Notes every image that is decoded in a file."""

    def image(self, index):
        with (Path(self.files[0]).parents[2] / "decoded").open("a") as file:
            file.write(f"{index}\n")
        return super().image(index)


def counting(folder):
    source = open_source(f"folder:{folder}", "train")
    return Counting(files=source.files, labels=source.labels, classes=source.classes)


def decoded(folder):
    return (folder / "decoded").read_text().split()


def test_what_has_no_room_is_decoded_in_parts(folder):
    source = counting(folder)
    plan = BatchPlan(seed=1, examples=14, batch_size=14)
    wanted, found = (
        [batch.images.clone() for batch in batches]
        for batches in (
            train_batches(some, TrainTransform(16), plan, start=0, stop=3)
            for some in (source, CachedSource(source, make("ram", folder, 14, 25_000)))
        )
    )
    assert all(map(torch.equal, found, wanted))
    whole = [int(index) for index in decoded(folder)]
    assert len(whole) == len(set(whole)) < 14  # one of them did not fit, and no other was tried


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_each_image_is_decoded_once_and_batches_have_the_same_bits(kind, workers, folder):
    source = counting(folder)
    plan = BatchPlan(seed=1, examples=14, batch_size=14)
    wanted = [
        batch.images.clone()
        for batch in train_batches(source, TrainTransform(16), plan, start=0, stop=6)
    ]
    (folder / "decoded").unlink(missing_ok=True)  # without a cache, only parts were decoded
    cache = make(kind, folder, 14, 10**7)
    with closing(Workers(max(workers, 1))) as pool:
        found = [
            batch.images.clone()
            for batch in train_batches(
                CachedSource(source, cache), TrainTransform(16), plan,
                start=0, stop=6, workers=pool if workers else 0, prefetch_bytes=0,
            )
        ]  # fmt: skip
    assert all(map(torch.equal, found, wanted))
    # Two workers may both read an image before either has kept it.
    assert 14 <= len(decoded(folder)) <= 14 * max(workers, 1)
    assert set(decoded(folder)) == set(map(str, range(14)))


def make(kind, directory, examples, capacity):
    if kind == "ram":
        return PixelCache.in_memory(examples, capacity)
    return PixelCache.on_disk(directory / "cache", bytes(16), examples, capacity)


def image(value, side=8):
    return np.full((side, side, 3), value, np.uint8)


@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_what_does_not_fit_is_not_kept(kind, tmp_path):
    cache = make(kind, tmp_path, 100, 10 * (16 + 192))
    for index in range(100):
        cache.put(index, image(index))
    kept = [index for index in range(100) if cache.get(index) is not None]
    assert kept == list(range(10))
    assert all((cache.get(index) == index).all() for index in kept)
    assert cache.used == 10 * (16 + 192)


def test_memory_is_taken_when_images_come():
    cache = PixelCache.in_memory(1000, 10**12)
    cache.put(3, image(3))
    assert 512 * os.fstat(cache.file.number).st_blocks < 10**5


def test_another_process_sees_the_same_memory():
    cache = PixelCache.in_memory(10, 10**6)
    sent = share(CachedSource(None, cache))
    (file,) = sent.files
    other = shared(sent.file, sent.pickle, [os.dup(file.number)]).cache
    sent.close()
    other.put(7, image(9))
    assert (cache.get(7) == 9).all()
    with pytest.raises(ValueError, match="read-only"):
        cache.get(7)[0] = 1


def test_a_later_run_finds_what_an_earlier_one_kept(tmp_path):
    make("disk", tmp_path, 5, 10**5).put(2, image(2))
    again = make("disk", tmp_path, 5, 10**5)
    assert (again.get(2) == 2).all()
    assert again.get(1) is None
    again.put(1, image(1))
    assert (make("disk", tmp_path, 5, 10).get(1) == 1).all()  # also with less room


def test_no_damage_of_a_file_goes_unnoticed(tmp_path):
    cache = make("disk", tmp_path, 5, 3000)
    for index in range(4):
        cache.put(index, image(index))
    (path,) = (tmp_path / "cache").iterdir()
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in [*range(48), *range(4096, 4136), *rng.integers(8192, len(whole), 200)]:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.unlink()
        path.write_bytes(damaged)
        again = make("disk", tmp_path, 5, 3000)
        for index in range(4):
            found = again.get(index)
            assert found is None or (found.shape == (8, 8, 3) and (found == index).all())
    for size in (0, 10, 4096, 8192, 8300):
        path.unlink(missing_ok=True)
        path.write_bytes(whole[:size])
        again = make("disk", tmp_path, 5, 3000)
        assert all(again.get(i) is None or (again.get(i) == i).all() for i in range(5))


def test_a_full_disk_keeps_what_there_is(tmp_path):
    cache = make("disk", tmp_path, 100, 10**6)
    cache.put(0, image(0))
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192 + 1000, limit[1]))
        for index in range(1, 100):
            cache.put(index, image(index))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    kept = [index for index in range(100) if cache.get(index) is not None]
    assert 1 < len(kept) < 6
    assert all((cache.get(index) == index).all() for index in kept)


def test_the_key_follows_names_and_files(folder):
    first = source_key(open_source(f"folder:{folder}", "train"))
    assert source_key(open_source(f"folder:{folder}", "train")) == first
    file = folder / "train/china/0.jpg"
    file.write_bytes(file.read_bytes() + b"\0")
    changed = source_key(open_source(f"folder:{folder}", "train"))
    file.rename(folder / "train/china/00.jpg")
    assert len({first, changed, source_key(open_source(f"folder:{folder}", "train"))}) == 3
