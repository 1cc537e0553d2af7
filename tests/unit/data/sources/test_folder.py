from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from normfree.data import open_source
from normfree.errors import BadImageError, UserError


def test_train_and_val(folder):
    train, val = open_source(f"folder:{folder}", "train"), open_source(f"folder:{folder}", "val")
    assert train.classes == val.classes == ("china", "flower")
    assert train.labels.tolist() == [0] * 7 + [1] * 7
    assert val.labels.tolist() == [0] * 4 + [1] * 4
    assert train.name(8) == str(folder / "train/flower/1.jpg")
    assert train.channels == 3
    image = train.image(8)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, np.asarray(Image.open(folder / "train/flower/1.jpg")))


def test_labels_follow_train_when_val_has_fewer_classes(folder):
    shutil.rmtree(folder / "val/china")
    val = open_source(f"folder:{folder}", "val")
    assert val.classes == ("china", "flower")
    assert val.labels.tolist() == [1] * 4


def test_a_held_out_folder_needs_no_training_images(folder):
    shutil.rmtree(folder / "train")
    classes = ("bridge", "china", "flower")
    val = open_source(f"folder:{folder}", "val", classes)
    assert val.classes == classes
    assert val.labels.tolist() == [1] * 4 + [2] * 4
    with pytest.raises(UserError, match="unknown class 'flower'"):
        open_source(f"folder:{folder}", "val", classes[:2])
    with pytest.raises(UserError, match="no directory 'train'"):
        open_source(f"folder:{folder}", "train", classes)


@pytest.mark.parametrize("name", ["validation", "valid", "test"])
def test_other_names_of_val(folder, name):
    (folder / "val").rename(folder / name)
    assert open_source(f"folder:{folder}", "val").name(0) == str(folder / name / "china/0.jpg")


def test_nested_hidden_and_foreign_files(folder):
    place = folder / "train/china"
    (place / "more").mkdir()
    (place / "0.jpg").rename(place / "more/deep.JPG")
    (place / ".hidden.jpg").write_bytes(b"")
    (place / ".cache").mkdir()
    (place / ".cache/a.jpg").write_bytes(b"")
    (folder / "train/.git").mkdir()
    (place / "notes.txt").write_text("not an image")
    (folder / "train/read.me").write_text("beside the classes")
    Image.new("RGB", (5, 5)).save(place / "8.webp")
    source = open_source(f"folder:{folder}", "train")
    names = [source.name(index).removeprefix(f"{place}/") for index in range(8)]
    assert source.labels.tolist() == [0] * 8 + [1] * 7
    assert names == [
        "1.jpg",
        "2.jpg",
        "3.jpg",
        "4.jpg",
        "5.jpg",
        "6.jpg",
        "8.webp",
        "more/deep.JPG",
    ]
    assert source.classes == ("china", "flower")
    assert source.ignored == 2


def test_a_linked_class(folder, tmp_path):
    (folder / "train/flower").rename(folder / "elsewhere")
    (folder / "train/flower").symlink_to(folder / "elsewhere")
    assert open_source(f"folder:{folder}", "train").labels.sum() == 7


def test_the_home_directory(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert len(open_source(f"folder:~/{folder.name}", "val")) == 8


def test_unreadable_images_are_named(folder):
    (folder / "val/flower/2.jpg").write_bytes(b"")
    source = open_source(f"folder:{folder}", "val")
    with pytest.raises(BadImageError) as caught:
        source.image(6)
    assert caught.value.name == source.name(6) == str(folder / "val/flower/2.jpg")


def _remove_images(place):
    for file in place.rglob("*.jpg"):
        file.unlink()


@pytest.mark.parametrize(
    ("split", "damage", "message"),
    [
        ("train", shutil.rmtree, "there is no directory"),
        ("train", lambda d: shutil.rmtree(d / "train"), "no directory 'train': .*train/CLASS/"),
        ("val", lambda d: shutil.rmtree(d / "val"), "no directory 'val': .*val/CLASS/"),
        ("train", lambda d: shutil.rmtree(d / "train/china"), "1 class directories"),
        ("train", lambda d: _remove_images(d / "train/china"), "china holds no images: add"),
        ("val", lambda d: _remove_images(d / "val/flower"), "flower holds no images: add"),
        ("val", lambda d: [shutil.rmtree(c) for c in (d / "val").iterdir()], "val is empty: put"),
        ("val", lambda d: (d / "val/china").rename(d / "val/chino"), "'chino'; did you mean china"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_folder(folder, split, damage, message):
    damage(folder)
    with pytest.raises(UserError, match=message) as caught:
        open_source(f"folder:{folder}", split)
    assert str(folder) in str(caught.value)
