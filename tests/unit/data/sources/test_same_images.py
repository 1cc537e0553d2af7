"""The same images in a folder, in tables, in tar files and in datasets are the same examples."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from normfree.data import (
    BatchPlan,
    EvalTransform,
    TrainTransform,
    eval_batches,
    open_source,
    train_batches,
)
from normfree.errors import BadImageError, UserError
from normfree.train.fit import fit
from tests.unit.data.sources.test_wds import cache, samples_of, write_shard  # noqa: F401
from tests.unit.train.tiny import assert_same_bits, final_state, tiny_recipe

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
datasets = pytest.importorskip("datasets")

KINDS = ["csv", "jsonl", "wds", "parquet", "hf", "hf_dict"]


def _rows(folder, split):
    """Name, label and bytes of the images of a split, in no order."""
    files = sorted((folder / split).glob("*/*.jpg"))
    order = np.random.default_rng(1).permutation(len(files))
    rows = [(str(f.relative_to(folder / split)), f.parent.name, f.read_bytes()) for f in files]
    return [rows[at] for at in order]


def _columns(folder, split):
    names, labels, contents = zip(*_rows(folder, split), strict=True)
    return {
        "image": [{"bytes": content, "path": None} for content in contents],
        "label": [("china", "flower").index(label) for label in labels],
        "name": list(names),
    }


def _dataset(folder, split):
    features = datasets.Features(
        image=datasets.Image(),
        label=datasets.ClassLabel(names=["china", "flower"]),
        name=datasets.Value("string"),
    )
    return datasets.Dataset.from_dict(_columns(folder, split), features=features)


def same_images(kind, folder):
    """A source of another kind with the images of a folder."""
    place = folder / f"as_{kind}"
    place.mkdir()
    if kind in ("csv", "jsonl"):
        rows = [
            {"path": f"../{split}/{name}", "label": label, "split": split}
            for split in ("val", "train")
            for name, label, _ in _rows(folder, split)
        ]
        lines = map(json.dumps, rows)
        if kind == "csv":
            lines = ["path,label,split", *(",".join(row.values()) for row in rows)]
        (place / f"list.{kind}").write_text("\n".join(lines))
        return f"{kind}:{place}/list.{kind}"
    if kind == "wds":
        for split in ("train", "val"):
            samples = list(samples_of(folder, split))
            for number in range(3):
                members = [member for sample in samples[number::3] for member in sample]
                write_shard(place / f"{split}-{number}.tar", members)
        return f"wds:{place}/*.tar"
    if kind == "parquet":
        for split in ("train", "val"):
            _dataset(folder, split).to_parquet(place / f"{split}-0.parquet", batch_size=3)
        return f"parquet:{place}/*.parquet"
    parts = {split: _dataset(folder, split) for split in ("train", "val")}
    if kind == "hf_dict":
        datasets.DatasetDict(parts).save_to_disk(place)
        return f"hf:{place}"
    both = datasets.concatenate_datasets(
        [part.add_column("split", [split] * len(part)) for split, part in parts.items()]
    )
    both.shuffle(seed=0).save_to_disk(place)
    return f"hf:{place}"


@pytest.mark.parametrize("kind", KINDS)
def test_batches_are_the_same_bits(folder, kind):
    spec = same_images(kind, folder)
    for split in ("train", "val"):
        ours, theirs = open_source(spec, split), open_source(f"folder:{folder}", split)
        assert ours.classes == theirs.classes
        assert len({ours.name(index) for index in range(len(ours))}) == len(ours)
        assert [ours.content(index) for index in range(len(ours))] == [
            theirs.content(index) for index in range(len(theirs))
        ]
        plan = BatchPlan(seed=3, examples=len(ours), batch_size=5, mixing="mixup_cutmix")
        batches = [
            list(train_batches(source, TrainTransform(24), plan, start=1, stop=6))
            for source in (ours, theirs)
        ]
        batches += [list(eval_batches(s, EvalTransform(24), 4)) for s in (ours, theirs)]
        for left, right in ((batches[0], batches[1]), (batches[2], batches[3])):
            for a, b in zip(left, right, strict=True):
                for x, y in zip(a, b, strict=True):
                    assert x is y or torch.equal(x, y)


@pytest.mark.parametrize("kind", ["wds", "parquet", "hf"])
def test_workers_read_them_too(folder, kind):
    source = open_source(same_images(kind, folder), "train")
    plan = BatchPlan(seed=3, examples=len(source), batch_size=5)
    here, there = (
        list(train_batches(source, TrainTransform(24), plan, start=0, stop=3, workers=workers))
        for workers in (0, 1)
    )
    assert all(torch.equal(a.images, b.images) for a, b in zip(here, there, strict=True))


def test_they_train_to_the_same_bits(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    changes = {"augment": "crop_flip", "train_size": 16, "test_size": 16, "batch_size": 7}
    specs = [f"folder:{folder}", *(same_images(kind, folder) for kind in KINDS)]
    states = []
    for number, spec in enumerate(specs):
        result = fit(tiny_recipe(out / str(number), data=spec, **changes))
        states.append(final_state(result.directory))
    for state in states[1:]:
        assert_same_bits(states[0], state)


@pytest.mark.parametrize("kind", ["parquet", "hf"])
def test_without_names_images_keep_their_order_and_a_tenth_validates(folder, kind):
    features = datasets.Features(
        image=datasets.Value("binary"), tags=datasets.List(datasets.Value("string"))
    )
    rows = _rows(folder, "train")
    columns = {"image": [row[2] for row in rows], "tags": [[row[1], "all"] for row in rows]}
    data = datasets.Dataset.from_dict(columns, features=features)
    spec = f"{kind}:{folder}/it"
    data.to_parquet(folder / "it") if kind == "parquet" else data.save_to_disk(folder / "it")
    train, val = open_source(spec, "train"), open_source(spec, "val")
    assert train.classes == ("all", "china", "flower")
    assert (len(train), len(val)) == (12, 2)
    assert train.labels[:, 0].all()
    held = {val.content(index) for index in range(2)}
    assert [train.content(index) for index in range(12)] == [r[2] for r in rows if r[2] not in held]
    with pytest.raises(UserError, match="no test split"):
        open_source(spec, "test")


def test_row_groups_are_shards(folder):
    source = open_source(same_images("parquet", folder), "train")
    assert source.shards.sum() == 14
    assert source.shards.max() <= 3
    order = source.by_shard
    assert (np.diff(source.group[order]) >= 0).all()


def test_what_is_wrong_with_a_parquet_file(folder):
    file = folder / "it.parquet"
    spec = f"parquet:{file}"
    file.write_bytes(b"PAR1 nonsense PAR1")
    with pytest.raises(UserError, match=r"cannot read .*it.parquet: "):
        open_source(spec, "train")
    for columns, message in (
        (
            {"image": ["a.jpg"], "label": [1]},
            "should hold the bytes of image files; it holds string",
        ),
        ({"image": [b""], "name": ["a"]}, "has no column label or class"),
        ({"picture": [b""], "label": [1]}, "has no column image or img"),
        ({"image": [b""], "label": [0.5]}, "row group 0: the label should be a text or a whole"),
        ({"image": [b""], "label": [None]}, "row group 0: the label is missing"),
    ):
        pq.write_table(pa.table(columns), file)
        with pytest.raises(UserError, match=message):
            open_source(spec, "train")
    pq.write_table(pa.table({"image": [None, b"x", b"", None], "label": [0, 1, 1, 0]}), file)
    source = open_source(spec, "train")
    for index in range(len(source)):
        with pytest.raises(BadImageError, match=r"missing|supported format|empty"):
            source.image(index)
    file.unlink()
    with pytest.raises(UserError, match="No such file"):
        open_source(spec, "train")


def test_what_is_wrong_with_a_dataset(folder):
    for spec, message in (
        (f"hf:{folder}", f"cannot open hf:{folder}: "),
        (f"hf:{folder}/none/such/thing", "cannot open hf:"),
    ):
        with pytest.raises(UserError, match=message):
            open_source(spec, "train")
    data = datasets.Dataset.from_dict({"x": [1], "label": [1]})
    data.save_to_disk(folder / "it")
    with pytest.raises(UserError, match="has no column image or img"):
        open_source(f"hf:{folder}/it", "train")
