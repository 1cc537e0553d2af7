from __future__ import annotations

import json
import os
import pickle

import numpy as np
import pytest

from normfree.data import Limits, has_split, open_source
from normfree.errors import BadImageError, UserError


def _rows(folder):
    """``split, path, label`` of every image of the folder, shuffled."""
    files = [file.relative_to(folder) for file in folder.glob("*/*/*.jpg")]
    rows = sorted((path.parts[0], str(path), path.parts[1]) for path in files)
    return [rows[index] for index in np.random.default_rng(0).permutation(len(rows))]


def write_table(file, header, rows):
    """CSV, or JSON where the file's name says so."""
    if file.suffix == ".jsonl":
        lines = [json.dumps(dict(zip(header, row, strict=True))) for row in rows]
    else:
        lines = [",".join(map(str, row)) for row in (header, *rows)]
    file.write_text("\n".join(lines) + "\n")
    return f"{file.suffix[1:]}:{file}"


@pytest.fixture(params=["list.csv", "list.jsonl"])
def table(request, folder):
    return folder / request.param


def test_the_images_are_those_of_the_folder(folder, table):
    spec = write_table(table, ("split", "path", "label"), _rows(folder))
    assert [has_split(spec, split) for split in ("train", "val", "test")] == [True, True, False]
    for split in ("train", "val"):
        ours, theirs = open_source(spec, split), open_source(f"folder:{folder}", split)
        assert list(ours.files) == list(theirs.files)
        assert ours.classes == theirs.classes
        np.testing.assert_array_equal(ours.labels, theirs.labels)
        np.testing.assert_array_equal(ours.image(3), theirs.image(3))
        assert ours.content(3) == theirs.content(3)
        assert ours.name(3) == theirs.name(3)
        assert not ours.notes
    with pytest.raises(UserError, match="no test split"):
        open_source(spec, "test")


def test_without_a_split_the_same_images_validate_as_in_a_folder(folder, table):
    spec = write_table(
        folder / "train" / table.name,
        ("path", "label"),
        [
            (p.removeprefix("train/"), label)
            for split, p, label in _rows(folder)
            if split == "train"
        ],
    )
    (folder / "val").rename(folder / "other")
    for split in ("train", "val"):
        ours, theirs = open_source(spec, split), open_source(f"folder:{folder}", split)
        assert list(ours.files) == list(theirs.files)
    assert ours.notes[0].startswith(
        f"no validation images in {folder / 'train' / table.name}: 2 of"
    )


def test_groups_stay_together(folder, table):
    rows = [(p, label, int(p[-5]) // 2) for split, p, label in _rows(folder) if split == "train"]
    spec = write_table(table, ("path", "label", "group"), rows)
    group_of = {f"{folder}/{path}": group for path, _, group in rows}
    groups = [{group_of[f] for f in open_source(spec, s).files} for s in ("train", "val")]
    assert groups[0].isdisjoint(groups[1])
    assert all(groups)
    assert "whole groups" in open_source(spec, "val").notes[0]


def test_groups_in_several_splits_are_said(folder, table):
    spec = write_table(
        table, ("split", "path", "label", "group"), [(*r, "a") for r in _rows(folder)]
    )
    assert open_source(spec, "train").notes == (
        f"warning: 1 groups of {table} are in more than one split",
    )


def test_columns_by_other_names(folder, table):
    spec = write_table(table, ("x", "fold", "File", "Species"), [(0, *r) for r in _rows(folder)])
    with pytest.raises(UserError, match=r"has no column label or class .*name it with #label="):
        open_source(spec, "train")
    source = open_source(f"{spec}#label=species,split=fold", "train")
    assert (source.classes, len(source)) == (("china", "flower"), 14)
    with pytest.raises(UserError, match="has no column kind, but "):
        open_source(f"{spec}#label=kind", "train")
    with pytest.raises(UserError, match="option of a source 'lable'; did you mean label"):
        open_source(f"{spec}#lable=kind", "train")


def test_several_labels(folder, table):
    several = [["china", "old"], [], ["flower"], ["old", "old"]]
    joined = several if table.suffix == ".jsonl" else ["|".join(labels) for labels in several]
    rows = [(f"train/china/{n}.jpg", joined[n], "train") for n in (3, 1, 0, 2)]
    spec = write_table(
        table, ("path", "labels", "split"), [*rows, ("val/china/0.jpg", joined[0], "val")]
    )
    train, val = open_source(spec, "train"), open_source(spec, "val")
    assert train.classes == val.classes == ("china", "flower", "old")
    assert train.labels.dtype == bool
    assert train.labels.astype(int).tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert val.labels.astype(int).tolist() == [[1, 0, 1]]


def test_several_labels_without_validation_images(folder, table):
    several = [["a", "rare"] if n < 4 else ["a"] for n in range(7)]
    joined = several if table.suffix == ".jsonl" else ["|".join(labels) for labels in several]
    rows = [(f"train/{c}/{n}.jpg", joined[n]) for c in ("china", "flower") for n in range(7)]
    val = open_source(write_table(table, ("path", "labels"), rows), "val")
    assert val.labels.astype(int).sum(axis=0).tolist() == [2, 1]  # one rare, one that is not


def test_numbers_are_sorted_as_numbers_and_point_into_a_list_of_classes(folder, table):
    rows = [(path, 10 if label == "china" else 9) for split, path, label in _rows(folder)]
    spec = write_table(table, ("path", "label"), rows)
    assert open_source(spec, "train").classes == ("9", "10")
    (folder / "names.txt").write_text("".join(f"class {n}\n" for n in range(11)))
    source = open_source(f"{spec}#classes=names.txt", "train")
    assert source.classes[9:] == ("class 9", "class 10")
    assert set(source.labels.tolist()) == {9, 10}
    (folder / "classes.txt").write_text("only\none\n")
    with pytest.raises(UserError, match=r"unknown class '(10|9)'; known: one, only"):
        open_source(spec, "train")
    (folder / "classes.txt").write_text("twice\ntwice\n")
    with pytest.raises(UserError, match="each of them once"):
        open_source(spec, "train")


def test_held_out_tables_take_the_classes_of_the_network(folder, table):
    rows = [row for row in _rows(folder) if row[0] == "val"]
    spec = write_table(table, ("split", "path", "label"), rows)
    val = open_source(spec, "val", ["bridge", "china", "flower"])
    assert val.labels.tolist() == [1] * 4 + [2] * 4
    with pytest.raises(UserError, match="unknown class 'flower'; known: bridge, china"):
        open_source(spec, "val", ["bridge", "china"])
    with pytest.raises(UserError, match="no images whose split is train"):
        open_source(spec, "train")


def test_a_class_that_only_validation_images_have(folder, table):
    rows = [(s, p, "bridge" if s == "val" else label) for s, p, label in _rows(folder)]
    spec = write_table(table, ("split", "path", "label"), rows)
    with pytest.raises(UserError, match=r"val/china/0.jpg: unknown class 'bridge'"):
        open_source(spec, "val")


def test_names_of_files_may_be_strange(folder, tmp_path):
    names = [
        "a b.jpg",
        "ä 犬.jpg",
        "line\nbreak.jpg",
        'quote",.jpg',
        "#label=2.jpg",
        "caf\udce9.jpg",
    ]
    lines = ["path,label\r\n"]
    for number, name in enumerate(names):
        (folder / name).write_bytes((folder / f"train/china/{number}.jpg").read_bytes())
        quoted = name.replace('"', '""')
        lines.append(f'"{quoted}",{"ab"[number % 2]}\r\n')
    table = folder / "my #1.csv"
    table.write_bytes(b"\xef\xbb\xbf" + os.fsencode("".join(lines)))
    sources = [open_source(f"csv:{table}", split) for split in ("train", "val")]
    found = {file for source in sources for file in source.files}
    assert found == {f"{folder}/{name}" for name in names}
    for source in sources:
        for index in range(len(source)):
            assert source.image(index).shape[2] == 3
            assert source.name(index).isprintable()


def test_absolute_and_home_paths(folder, tmp_path_factory, monkeypatch):
    place = tmp_path_factory.mktemp("elsewhere")
    rows = [(folder / path, label) for split, path, label in _rows(folder) if split == "train"]
    spec = write_table(place / "list.csv", ("path", "label"), rows)
    assert open_source(spec, "train").image(0).shape[2] == 3
    monkeypatch.setenv("HOME", str(place))
    assert len(open_source("csv:~/list.csv", "train")) == 12


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_other_delimiters(folder, delimiter):
    rows = [("path", "label"), *((p, label) for _, p, label in _rows(folder))]
    (folder / "list.csv").write_text("\n".join(delimiter.join(row) for row in rows))
    assert len(open_source(f"csv:{folder}/list.csv", "train")) == 20


def test_vanished_files_and_limits(folder, table):
    spec = write_table(table, ("split", "path", "label"), _rows(folder))
    source = open_source(spec, "val", limits=Limits(max_side=39))
    with pytest.raises(BadImageError, match="may exceed 39"):
        source.image(1)
    (folder / "val/china/0.jpg").unlink()
    with pytest.raises(BadImageError, match="No such file"):
        source.image(0)


def test_repeated_images_are_said(folder, table):
    rows = [("train/china/0.jpg", "a"), ("train/china/1.jpg", "b"), ("train/china/2.jpg", "a")]
    spec = write_table(table, ("path", "label"), [*rows, rows[0], rows[1], rows[1]])
    notes = open_source(spec, "train").notes
    assert any("listed more than once" in note for note in notes)


def test_a_table_that_changes_is_read_again(folder, table):
    rows = _rows(folder)
    spec = write_table(table, ("split", "path", "label"), rows)
    assert len(open_source(spec, "val")) == 8
    write_table(table, ("split", "path", "label"), [r for r in rows if "val/china/0" not in r[1]])
    assert len(open_source(spec, "val")) == 7


def test_the_source_is_picklable(folder, table):
    source = open_source(
        write_table(table, ("path", "label"), [r[1:] for r in _rows(folder)]), "train"
    )
    assert list(pickle.loads(pickle.dumps(source)).files) == list(source.files)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column path or file"),
        ("path,label\n", "list.csv has no images"),
        ("path,label\na.jpg\n", "line 2: the label is missing"),
        ("path,label\na.jpg,\n", "line 2: the label is missing"),
        ("path,label\na.jpg,x\n,y\n", "line 3: the path is missing"),
        (
            "path,label,split\na.jpg,x,night\n",
            "line 2: the split should be train, val or test; got",
        ),
        ("path,label,group\na.jpg,x,\n", "line 2: the group is missing"),
        ("path,label\na.jpg,x\nb.jpg,x\n", "has 1 classes, and a classifier needs two"),
        ("path,label\na.jpg,x\nb.jpg,y\n", "every class of .* has a single image"),
        ('path,label\na.jpg,"x\n', "line 2: unexpected end of data"),
        ("path,label\na.jpg,a\x1b[2J\nb.jpg,b\nc.jpg,b\n", "has control characters"),
        ("path,label\n" + "x" * (2**20 + 1), "more than 1,048,576 characters"),
        ("path,label\na.jpg," + "y" * 2**18, "field larger than field limit"),
    ],
)
def test_what_is_wrong_with_a_csv(tmp_path, text, message):
    (tmp_path / "list.csv").write_text(text)
    _is_refused(f"csv:{tmp_path}/list.csv", message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no images"),
        ("[" * 10**5, "line 1: it is not JSON"),
        ("1" * 5000, "line 1: it is not JSON"),
        ("3", "line 1: it should be an object"),
        ('{"path": 3, "label": "x"}', "line 1: no path: 3"),
        ('{"path": "a", "label": 1.5}', "label should be a text or a whole number; got 1.5"),
        ('{"path": "a", "label": true}', "should be a text or a whole number; got True"),
        ('{"path": "a", "label": null}', "the label is missing"),
        ('{"path": "a", "labels": "x"}', "the labels should be a list; got 'x'"),
        ('{"path": "a", "labels": [["x"]]}', r"whole number; got \['x'\]"),
        ('{"path": "\\ud800", "label": "x"}', "line 1: .*surrogates not allowed"),
        ('{"path": "a", "label": "x"}\n{"path": "b", "split": "val"}', "line 2: it has split"),
        ('{"path": "a", "label": "x"}\n{"path": "b"}', "line 2: the label is missing"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_jsonl(tmp_path, text, message):
    (tmp_path / "list.jsonl").write_text(text)
    _is_refused(f"jsonl:{tmp_path}/list.jsonl", message)


def test_files_that_are_not_there_or_are_no_files(tmp_path):
    _is_refused(f"csv:{tmp_path}/none.csv", "No such file or directory; name yours as csv:FILE")
    _is_refused(f"csv:{tmp_path}", "not a regular file")
    os.mkfifo(tmp_path / "fifo.csv")
    _is_refused(f"csv:{tmp_path}/fifo.csv", "not a regular file")
    _is_refused("csv:a\0b", "embedded null byte")
    (tmp_path / "list.csv").write_text("path,label\na,b\n")
    _is_refused(f"csv:{tmp_path}/list.csv#classes=none.txt", "cannot read .*none.txt: No such file")
    (tmp_path / "classes.txt").write_bytes(b"caf\xe9\nb\n")
    _is_refused(f"csv:{tmp_path}/list.csv", "classes.txt is not UTF-8")


def _is_refused(spec, message):
    with pytest.raises(UserError, match=message) as caught:
        _open_both(spec)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


def _open_both(spec):
    return open_source(spec, "train"), open_source(spec, "val")
