from __future__ import annotations

import pytest

from normfree.data.sources.patterns import expand_braces, expand_files, file_split, file_splits
from normfree.errors import UserError


@pytest.mark.parametrize(
    ("pattern", "files"),
    [
        ("a.tar", ["a.tar"]),
        ("{a,b}{1..2}", ["a1", "a2", "b1", "b2"]),
        ("{08..11}", ["08", "09", "10", "11"]),
        ("{8..11}", ["8", "9", "10", "11"]),
        ("{0..1}{,x}", ["0", "0x", "1", "1x"]),
        ("{a-{00..01},b}.tar", ["a-00.tar", "a-01.tar", "b.tar"]),
        ("{3..1}", []),
    ],
)
def test_braces(pattern, files):
    assert sorted(expand_braces(pattern)) == sorted(files)


@pytest.mark.parametrize("pattern", ["{a", "a}", "{a}", "{}", "{0..2000000}", "{a..c}"])
def test_braces_that_stand_for_nothing(pattern):
    with pytest.raises(UserError, match=r"counterpart|neither a list|more than"):
        expand_braces(pattern)


def test_many_braces_are_refused_in_bounded_time():
    with pytest.raises(UserError, match="more than 1,048,576 files"):
        expand_braces("{0..999}" * 30)


def test_wildcards_and_braces_are_sorted(tmp_path):
    for name in ("b1", "b0", "a1", "x[1]"):
        (tmp_path / name).touch()
    files = expand_files(f"{tmp_path}/{{b,a}}*", "wds")
    assert files == [f"{tmp_path}/{name}" for name in ("a1", "b0", "b1")]
    assert expand_files(f"{tmp_path}/x[1]", "wds") == [f"{tmp_path}/x[1]"]
    with pytest.raises(UserError, match=r"there is no file .*none\*; name yours as wds:PATTERN"):
        expand_files(f"{tmp_path}/none*", "wds")


@pytest.mark.parametrize("pattern", ["pipe:cat a.tar", "pipe:curl -s https://host/0.tar", "|cat a"])
def test_commands_are_refused(pattern):
    with pytest.raises(UserError, match="runs a command"):
        expand_files(pattern, "wds")


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("imagenet-train-000000.tar", "train"),
        ("imagenet-validation-00.tar", "val"),
        ("TEST_3.parquet", "test"),
        ("https://host/val/00000.tar", "val"),
        ("train/val-0.tar", "val"),
        ("train-val-0.tar", None),
        ("training-cars/0.tar", None),
        ("test/mine/0.tar", None),
        ("train", "train"),
        ("contest/trainer-0.tar", None),
    ],
)
def test_the_split_that_a_name_says(path, split):
    assert file_split(path) == split


def test_all_names_say_a_split_or_none():
    assert file_splits(["a/0.tar", "a/1.tar"], "x") is None
    assert file_splits(["train/0.tar", "val/1.tar"], "x") == ["train", "val"]
    with pytest.raises(UserError, match=r"that of extra.tar does not"):
        file_splits(["train-0.tar", "extra.tar"], "x")
