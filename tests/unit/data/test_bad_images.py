"""Unreadable images: noted once each, also over several runs, and not too many."""

from __future__ import annotations

import pytest

from normfree.data import BadImages, TooManyBadImagesError
from normfree.errors import BadImageError


def test_each_image_is_noted_once_over_all_runs(tmp_path):
    file = tmp_path / "bad_images.txt"
    for names in (["a", "b\n\t\udcff", "a"], ["c", "a"]):
        log = BadImages()
        log.keep(file)
        for name in names:
            log.add(BadImageError(name, "the file is empty"))
    lines = file.read_text().splitlines()
    assert lines == [f"{name}\tthe file is empty" for name in ("a", r"b\n\t\udcff", "c")]
    assert log.count == 3


def test_more_than_allowed_is_an_error_that_names_the_last_and_the_file(tmp_path):
    log = BadImages(most=2)
    log.keep(tmp_path / "list.txt")
    for _ in range(3):
        for name in "ab":
            log.add(BadImageError(name, "damaged"))
    with pytest.raises(TooManyBadImagesError) as caught:
        log.add(BadImageError("c", "damaged"))
    for part in ("3 images", "2 are allowed", "c: damaged", "list.txt", "--max-bad-fraction"):
        assert part in str(caught.value)


def test_a_damaged_list_is_read_as_far_as_it_goes(tmp_path):
    file = tmp_path / "bad_images.txt"
    file.write_bytes(b"a\treason\n\xff\xfe\n\n")
    log = BadImages()
    log.keep(file)
    assert log.reasons["a"] == "reason"
