from __future__ import annotations

import os
import pickle
import shutil

import numpy as np
import pytest
from PIL import Image

from normfree.data import Limits, has_split, open_source
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
        ("train", lambda d: shutil.rmtree(d / "train/china"), "1 class directory .*DIR/CLASS/"),
        ("train", lambda d: _remove_images(d / "train/china"), "china has no images; add"),
        ("val", lambda d: _remove_images(d / "val/flower"), "flower has no images; add"),
        ("val", lambda d: [shutil.rmtree(c) for c in (d / "val").iterdir()], "val is empty: "),
        ("val", lambda d: (d / "val/china").rename(d / "val/chino"), "'chino'; did you mean china"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_folder(folder, split, damage, message):
    damage(folder)
    with pytest.raises(UserError, match=message) as caught:
        open_source(f"folder:{folder}", split)
    assert str(folder) in str(caught.value)


LAYOUT = "expected DIR/train/CLASS/ and DIR/val/CLASS/ with images in them, or DIR/CLASS/ without"


def _flat(d):
    for file in d.rglob("*.jpg"):
        file.rename(d / f"{'-'.join(file.relative_to(d).parts)}")
    shutil.rmtree(d / "train")
    shutil.rmtree(d / "val")


def _renamed(**names):
    def rename(d):
        for old, new in names.items():
            (d / old).rename(d / new)

    return rename


def _classes_above(d):
    for split in ("train", "val"):
        for name in ("china", "flower"):
            (d / name).mkdir(exist_ok=True)
            (d / split / name).rename(d / name / split)
        (d / split).rmdir()


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (shutil.rmtree, "there is no directory {}"),
        (_flat, "{} has 0 class directories"),
        (_renamed(train="Train", val="Val"), "{} have the names of splits: Train, Val"),
        (_renamed(train="training", val="testing"), "{} have the names of splits: testing, tra"),
        (_classes_above, "{}/china has directories with the names of splits (train, val)"),
        (lambda d: shutil.rmtree(d / "train"), "{} has no directory 'train'"),
        (lambda d: _remove_images(d / "train/china"), "{}/train/china has no images"),
    ],
)
def test_every_wrong_layout_is_told_the_right_one(folder, damage, problem):
    damage(folder)
    with pytest.raises(UserError) as caught:
        open_source(f"folder:{folder}", "train")
    assert problem.format(folder) in str(caught.value)
    assert LAYOUT in str(caught.value)


def test_a_class_may_be_called_like_a_split(folder):
    _renamed(train="x")(folder)
    (folder / "x/china").rename(folder / "x/Test")
    source = open_source(f"folder:{folder}/x", "train")
    assert source.classes == ("Test", "flower")
    assert "validate" in " ".join(open_source(f"folder:{folder}/x", "val").notes)


def test_a_test_directory_beside_val_is_a_split_of_its_own(folder):
    shutil.copytree(folder / "val", folder / "test")
    (folder / "test/china/0.jpg").unlink()
    spec = f"folder:{folder}"
    assert [has_split(spec, split) for split in ("train", "val", "test")] == [True] * 3
    val, test = open_source(spec, "val"), open_source(spec, "test")
    assert val.name(0) == str(folder / "val/china/0.jpg")
    assert test.name(0) == str(folder / "test/china/1.jpg")
    assert test.classes == val.classes == ("china", "flower")
    assert test.labels.tolist() == [0] * 3 + [1] * 4
    assert not val.notes


def test_a_test_directory_alone_validates_and_says_so(folder):
    (folder / "val").rename(folder / "test")
    spec = f"folder:{folder}"
    assert has_split(spec, "val")
    assert not has_split(spec, "test")
    (note,) = open_source(spec, "val").notes
    assert note.startswith(f"there is no {folder / 'val'}: {folder / 'test'} is used")
    with pytest.raises(UserError, match="has no test split: evaluate on val"):
        open_source(spec, "test")
    assert not open_source(spec, "train").notes


def test_without_val_a_tenth_of_each_class_validates(folder):
    shutil.rmtree(folder / "val")
    spec = f"folder:{folder}"
    assert has_split(spec, "val")
    assert not has_split(spec, "test")
    train, val = open_source(spec, "train"), open_source(spec, "val")
    assert train.labels.tolist() == [0] * 6 + [1] * 6
    assert val.labels.tolist() == [0, 1]
    assert val.notes == (
        f"no validation images in {folder / 'train'}: 2 of its 14 images, chosen by their names, "
        "validate",
    )
    assert not train.notes
    names = [train.name(index) for index in range(12)] + [val.name(index) for index in range(2)]
    assert sorted(names) == sorted(map(str, folder.glob("train/*/*.jpg")))


def test_the_held_out_images_do_not_depend_on_contents_or_place(folder, tmp_path_factory):
    shutil.rmtree(folder / "val")
    before = [f.removeprefix(str(folder)) for f in open_source(f"folder:{folder}", "val").files]
    other = tmp_path_factory.mktemp("other")
    for file in folder.glob("train/*/*.jpg"):
        place = other / file.relative_to(folder / "train")  # and the classes lie directly in it
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(b"")
    spec = f"folder:{other}"
    train, val = open_source(spec, "train"), open_source(spec, "val")
    assert [f"/train{f.removeprefix(str(other))}" for f in val.files] == before
    assert (train.classes, len(train), len(val)) == (("china", "flower"), 12, 2)


def test_classes_of_one_image_only_train(folder):
    shutil.rmtree(folder / "val")
    for file in folder.glob("train/*/[1-6].jpg"):
        file.unlink()
    assert len(open_source(f"folder:{folder}", "train")) == 2
    with pytest.raises(UserError, match=r"every class .* has a single image.*val/CLASS/"):
        open_source(f"folder:{folder}", "val")


def test_images_are_sorted_as_paths_at_any_depth(folder):
    place = folder / "train/china"
    for name in ("b/x/deep.jpg", "b-/1.jpg", "b.jpg", "ä 1\n.jpg", "Z.jpg", "b/0.jpg"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(place / "0.jpg", place / name)
    (place / os.fsdecode(b"\xff.jpg")).write_bytes((place / "0.jpg").read_bytes())
    source = open_source(f"folder:{folder}", "train")
    names = [file.removeprefix(f"{place}/") for file in source.files][:14]
    expected = ["b/0.jpg", "b/x/deep.jpg", "b-/1.jpg", "b.jpg", "ä 1\n.jpg", "\udcff.jpg"]
    assert names == [*(f"{n}.jpg" for n in range(7)), "Z.jpg", *expected]
    for index in range(14):
        assert source.image(index).shape == source.image(0).shape or index < 7
        assert source.name(index).isprintable()


def test_encoded_images_are_the_files(folder):
    source = open_source(f"folder:{folder}", "val")
    assert source.content(5) == (folder / "val/flower/1.jpg").read_bytes()
    (folder / "val/flower/1.jpg").unlink()
    with pytest.raises(BadImageError, match="No such file"):
        source.content(5)


def test_a_source_for_a_worker_is_compact(folder):
    source = open_source(f"folder:{folder}", "train")
    copy = pickle.loads(pickle.dumps(source))
    assert list(copy.files) == list(source.files)
    np.testing.assert_array_equal(copy.image(3), source.image(3))


def test_linked_directories_inside_a_class_are_followed(folder):
    place = folder / "train/china"
    (folder / "elsewhere/deep").mkdir(parents=True)
    for number in (5, 6):
        (place / f"{number}.jpg").rename(folder / f"elsewhere/deep/{number}.jpg")
    (place / "more").symlink_to(folder / "elsewhere")
    source = open_source(f"folder:{folder}", "train")
    assert source.labels.tolist() == [0] * 7 + [1] * 7
    assert source.name(6) == str(place / "more/deep/6.jpg")
    assert not source.notes


@pytest.mark.parametrize("target", [".", "..", "../..", "/", "inner"])
def test_links_that_lead_back_are_not_followed_and_said(folder, target):
    place = folder / "train/china"
    (place / "inner").mkdir()
    (place / "6.jpg").rename(place / "inner/6.jpg")
    (place / "loop").symlink_to(target)
    source = open_source(f"folder:{folder}", "train")
    assert source.labels.tolist() == [0] * 7 + [1] * 7
    assert source.notes == (
        f"1 linked directories in {folder / 'train'} were not followed, because they point "
        f"into directories that are read already: {place / 'loop'}",
    )


def test_a_directory_that_two_links_lead_to_is_read_once(folder):
    (folder / "train/china/6.jpg").rename(folder / "6.jpg")
    (folder / "outside/inside").mkdir(parents=True)
    (folder / "6.jpg").rename(folder / "outside/inside/6.jpg")
    for name, target in (("a", "outside/inside"), ("b", "outside"), ("c", "outside/inside")):
        (folder / "train/china" / name).symlink_to(folder / target)
    source = open_source(f"folder:{folder}", "train")
    assert source.labels.tolist() == [0] * 7 + [1] * 7
    assert source.notes[0].startswith("2 linked directories")


def test_links_to_themselves_and_to_nothing_are_ignored_and_counted(folder):
    for place in (folder / "train", folder / "train/china"):
        (place / "itself").symlink_to("itself")
        (place / "nothing").symlink_to("nowhere")
    source = open_source(f"folder:{folder}", "train")
    assert source.classes == ("china", "flower")
    assert source.ignored == 4


@pytest.mark.parametrize("name", [b"caf\xe9", b"cat\x1b[2J", b"two\nlines"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_class_that_cannot_be_named_is_refused_early(folder, name, split):
    (folder / split / "china").rename(folder / split / os.fsdecode(name))
    with pytest.raises(UserError, match="has control characters or bytes that are not UTF-8") as e:
        open_source(f"folder:{folder}", split)
    assert str(e.value).isprintable()
    str(e.value).encode()


def test_a_path_that_is_not_utf8_is_refused(folder):
    with pytest.raises(UserError, match="not UTF-8: rename the directory"):
        open_source(f"folder:{folder}/caf\udce9", "train")


def test_names_of_files_are_escaped_where_they_are_shown(folder):
    place = folder / "train/china"
    (place / "0.jpg").rename(place / "0\x1b[31m\n.jpg")
    source = open_source(f"folder:{folder}", "train")
    assert source.name(0) == f"{place}/0\\x1b[31m\\n.jpg"
    assert source.image(0).shape[2] == 3
    (place / "0\x1b[31m\n.jpg").write_bytes(b"")
    with pytest.raises(BadImageError) as caught:
        source.image(0)
    assert caught.value.name == source.name(0)
    assert str(caught.value).isprintable()
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize("place", ["train", "train/china", "train/china/more"])
def test_a_directory_that_cannot_be_read_is_named(folder, place, monkeypatch):
    (folder / "train/china/more").mkdir()
    scandir = os.scandir

    def refuse(directory):
        if str(directory) == str(folder / place):
            raise PermissionError(13, "Permission denied")
        return scandir(directory)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match=f"cannot read the directory .*{place}: Permission denied"):
        open_source(f"folder:{folder}", "train")


def test_what_is_not_an_image_by_its_ending_is_ignored_and_counted(folder):
    for name in ("clip.mpg", "data.h5", "drawing.eps", "paper.pdf", "scan.fits"):
        (folder / "train/china" / name).write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n")
    source = open_source(f"folder:{folder}", "train")
    assert len(source) == 14
    assert source.ignored == 5


def test_special_and_vanished_files_are_bad_images(folder):
    os.mkfifo(folder / "val/china/9.jpg")
    source = open_source(f"folder:{folder}", "val")
    (folder / "val/china/0.jpg").unlink()
    for index, reason in ((0, "No such file"), (4, "not a regular file")):
        with pytest.raises(BadImageError, match=reason):
            source.image(index)


def test_the_limits_reach_the_decoder(folder):
    source = open_source(f"folder:{folder}", "val", limits=Limits(max_side=39))
    with pytest.raises(BadImageError, match="may exceed 39"):
        source.image(0)
