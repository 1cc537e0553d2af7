from __future__ import annotations

import io
import json
import os
import pickle
import tarfile
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import numpy as np
import pytest

from normfree.data import Limits, has_split, open_source
from normfree.data.sources import tar_index, wds
from normfree.errors import BadImageError, UserError


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    directory = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(directory))
    wds._described.cache_clear()
    return directory / "normfree"


def write_shard(file, members):
    """A tar file of ``(name, content)``."""
    with tarfile.open(file, "w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def samples_of(folder, split, label=lambda name: ("cls", name.encode())):
    """The images of a folder as pairs of members."""
    for file in sorted((folder / split).glob("*/*.jpg")):
        name = str(file.relative_to(folder / split))
        ending, content = label(file.parent.name)
        yield [(name, file.read_bytes()), (name.removesuffix("jpg") + ending, content)]


def write_shards(folder, count=3, **options):
    """Shards of every split, the images in no order."""
    (folder / "shards").mkdir(exist_ok=True)
    for split in ("train", "val"):
        samples = list(samples_of(folder, split, **options))
        order = np.random.default_rng(0).permutation(len(samples))
        for number in range(count):
            members = [member for at in order[number::count] for member in samples[at]]
            write_shard(folder / f"shards/{split}-{number}.tar", members)
    return f"wds:{folder}/shards/{{train,val}}-{{0..{count - 1}}}.tar"


def _same(ours, theirs, place):
    assert ours.classes == theirs.classes
    np.testing.assert_array_equal(ours.labels, theirs.labels)
    for index in range(len(theirs)):
        np.testing.assert_array_equal(ours.image(index), theirs.image(index))
        assert ours.content(index) == theirs.content(index)
        assert ours.name(index).endswith(theirs.name(index).removeprefix(f"{place}"))


def test_the_images_are_those_of_the_folder(folder):
    spec = write_shards(folder)
    assert [has_split(spec, split) for split in ("train", "val", "test")] == [True, True, False]
    for split in ("train", "val"):
        source = open_source(spec, split)
        _same(source, open_source(f"folder:{folder}", split), folder / split)
        assert not source.notes
        assert source.name(0).startswith(f"{folder}/shards/{split}-")


def test_the_same_images_validate_as_in_a_folder(folder, tmp_path_factory):
    place = tmp_path_factory.mktemp("shards")
    samples = list(samples_of(folder, "train"))
    for number in range(2):
        members = [member for sample in samples[number::2] for member in sample]
        write_shard(place / f"{number}.tar", members)
    (folder / "val").rename(folder / "other")
    for split in ("train", "val"):
        source = open_source(f"wds:{place}/*.tar", split)
        _same(source, open_source(f"folder:{folder}", split), folder / "train")
    assert "2 of its 14 images, chosen by their names, validate" in source.notes[0]


def test_sizes_and_order_of_the_shards(folder):
    source = open_source(write_shards(folder), "train")
    assert source.shards.tolist() == [5, 5, 4, 0, 0, 0]
    order = source.by_shard
    assert sorted(order.tolist()) == list(range(14))
    assert source.shard[order].tolist() == [0] * 5 + [1] * 5 + [2] * 4
    assert (np.diff(source.offsets[order])[np.diff(source.shard[order]) == 0] > 0).all()


@pytest.mark.parametrize("label", [7, "7"])
def test_numbers_and_json(folder, label):
    content = {"china": b"3\n", "flower": json.dumps({"label": label, "more": 1}).encode()}
    spec = write_shards(
        folder, label=lambda name: ({"china": "cls", "flower": "json"}[name], content[name])
    )
    assert open_source(spec, "val").classes == ("3", "7")
    (folder / "shards/classes.txt").write_text("".join(f"c{n}\n" for n in range(8)))
    source = open_source(spec, "val")
    assert source.classes[7] == "c7"
    assert source.labels.tolist() == [3] * 4 + [7] * 4
    (folder / "few.txt").write_text("a\nb\n")
    with pytest.raises(UserError, match=r"unknown class '[37]'; known: a, b"):
        open_source(f"{spec}#classes={folder}/few.txt", "val")


def test_several_labels_and_other_keys(folder):
    tags = {"china": ["old", "red"], "flower": []}
    spec = write_shards(
        folder, label=lambda name: ("json", json.dumps({"kinds": tags[name]}).encode())
    )
    with pytest.raises(UserError, match="has an image but no label"):
        open_source(spec, "train")
    source = open_source(f"{spec}#labels=kinds", "train")
    assert source.labels.astype(int).tolist() == [[1, 1]] * 7 + [[0, 0]] * 7


def test_names_of_members_as_webdataset_reads_them(folder, tmp_path):
    image = (folder / "train/china/0.jpg").read_bytes()
    members = [
        ("./a/0.jpg", image),
        ("./a/0.seg.png", b"a mask"),
        ("./a/0.cls", b"x"),
        ("a.b/1.cls", b"y"),
        ("a.b/1.JPG", image),
        ("b 犬\n.jpeg", image),
        ("b 犬\n.cls", b"y"),
        ("__meta__", b""),
        ("c/.hidden.jpg", image),
        ("lonely.cls", b"x"),
        ("deep/" * 60 + "long.jpg", image),
        ("deep/" * 60 + "long.cls", b"x"),
    ]
    write_shard(tmp_path / "train-0.tar", members)
    source = open_source(f"wds:{tmp_path}/train-0.tar", "train")
    with_val = [*source.names, *open_source(f"wds:{tmp_path}/train-0.tar", "val").names]
    assert sorted(with_val) == ["a.b/1.JPG", "a/0.jpg", "b 犬\n.jpeg", "deep/" * 60 + "long.jpg"]
    assert source.notes == ("1 labels in the shards have no image",)
    assert all(source.name(index).isprintable() for index in range(len(source)))


def test_links_devices_and_paths_outside_are_never_followed(folder, tmp_path):
    image = (folder / "train/china/0.jpg").read_bytes()
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        for kind, name in (
            (tarfile.SYMTYPE, "link.jpg"),
            (tarfile.LNKTYPE, "hard.jpg"),
            (tarfile.CHRTYPE, "dev.jpg"),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
        for number, name in enumerate(("../../up", "/abs", "in", "more")):
            for ending, content in (("jpg", image), ("cls", b"%d" % (number % 2))):
                member = tarfile.TarInfo(f"{name}.{ending}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    before = sorted(tmp_path.rglob("*"))
    source = open_source(f"wds:{tmp_path}/0.tar", "train")
    names = {*source.names, *open_source(f"wds:{tmp_path}/0.tar", "val").names}
    assert names == {"../../up.jpg", "/abs.jpg", "in.jpg", "more.jpg"}
    assert source.image(0).shape[2] == 3
    assert sorted(tmp_path.rglob("*")) == before


def test_the_index_is_made_once_and_again_when_a_shard_changes(folder, cache, monkeypatch):
    spec = write_shards(folder)
    made = []
    original = wds.index_tar

    def counting(path, title, options):
        made.append(Path(path).name)
        return original(path, title, options)

    monkeypatch.setattr(wds, "index_tar", counting)
    first = open_source(spec, "train")
    assert sorted(made) == sorted(f"{s}-{n}.tar" for s in ("train", "val") for n in range(3))
    made.clear()
    wds._described.cache_clear()
    again = open_source(spec, "train")
    assert made == []
    assert list(again.names) == list(first.names)
    np.testing.assert_array_equal(again.labels, first.labels)
    file = folder / "shards/train-1.tar"
    write_shard(file, next(iter(samples_of(folder, "train"))))
    os.utime(file, ns=(1, 1))
    assert len(open_source(spec, "train")) == 10
    assert made == ["train-1.tar"]
    with pytest.raises(BadImageError, match="the shard has changed since the run began"):
        first.image(int(first.by_shard[5]))
    assert len(list((cache / "indices").iterdir())) == 6


@pytest.mark.parametrize("at", [*range(0, 900, 60), -1])
def test_a_damaged_index_is_made_again(folder, cache, at):
    spec = write_shards(folder, count=1)
    names = list(open_source(spec, "train").names)
    for file in (cache / "indices").iterdir():
        content = bytearray(file.read_bytes())
        content[at % len(content)] ^= 0xFF
        file.write_bytes(content if at >= 0 else content[:-9])
    wds._described.cache_clear()
    try:
        found = list(open_source(spec, "train").names)
    except UserError:  # a label or a name has changed: said, not crashed
        return
    assert len(found) == len(names)


def test_a_cache_that_cannot_be_written_is_done_without(folder, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/cache")
    assert len(open_source(write_shards(folder), "train")) == 14


def _cut(file, size):
    file.write_bytes(file.read_bytes()[:size])


def _members(file):
    with tarfile.open(file) as archive:
        return archive.getmembers()


@pytest.mark.parametrize(
    ("place", "kept", "message"),
    [
        (lambda m: m[4].offset_data + 100, 4, "it ends inside"),  # within an image
        (lambda m: m[5].offset + 200, 4, "after 5 members"),  # within a header
        (lambda m: m[4].offset, 4, "no header and no end mark"),  # between two members
        (lambda m: m[5].offset_data, 4, "it ends inside"),  # before a label
    ],
)
def test_a_shard_that_ends_early(folder, place, kept, message):
    spec = write_shards(folder, count=2)
    file = folder / "shards/train-0.tar"
    _cut(file, place(_members(file)))
    with pytest.raises(UserError, match=f"train-0.tar is damaged: .*{message}.*on-bad-image skip"):
        open_source(spec, "train")
    source = open_source(spec, "train", on_bad_image="skip")
    assert source.shards[0] == kept // 2
    assert source.notes[0].startswith(f"warning: {file} is damaged: ")


def test_a_damaged_header_is_not_taken_for_the_end(folder):
    spec = write_shards(folder, count=1)
    file = folder / "shards/train-0.tar"
    content = bytearray(file.read_bytes())
    at = _members(file)[24].offset
    content[at : at + 20] = b"\xff" * 20
    file.write_bytes(content)
    with pytest.raises(UserError, match="is damaged: after 24 members"):
        open_source(spec, "train")
    assert len(open_source(spec, "train", on_bad_image="skip")) == 12


def test_a_damaged_image_is_a_bad_image(folder):
    spec = write_shards(folder, count=1)
    source = open_source(spec, "train", limits=Limits(max_bytes=100))
    with pytest.raises(BadImageError, match="more than the 100 allowed") as caught:
        source.image(3)
    assert caught.value.name == source.name(3)
    source = open_source(spec, "train")
    (folder / "shards/train-0.tar").unlink()
    with pytest.raises(BadImageError, match="No such file"):
        source.image(3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a tar file: empty file"),
        (b"not a tar file" * 100, "not a tar file"),
        (bytes(10240), "has no images"),
        (b"\x1f\x8b" + bytes(600), "compressed ones cannot be read"),
    ],
)
def test_what_is_no_shard(tmp_path, content, message):
    (tmp_path / "0.tar").write_bytes(content)
    with pytest.raises(UserError, match=message):
        open_source(f"wds:{tmp_path}/0.tar", "train")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a.jpg", b""), ("a.cls", b"\xff")], "a.cls: 'utf-8' codec"),
        ([("a.jpg", b""), ("a.json", b"[" * 10**5)], "a.json: "),
        ([("a.jpg", b""), ("a.json", b'{"label": 1.5}')], "whole number; got 1.5"),
        ([("a.jpg", b""), ("a.json", b"3")], "a has an image but no label: add a.cls or .json"),
        ([("a.jpg", b""), ("a.cls", b" \n")], "the label is missing"),
        ([("a.jpg", b""), ("a.cls", b"x" * (2**20 + 1))], "too large for a label"),
        ([("a.jpg", b""), ("a.json", b'{"label": {"x": 1}}')], "text or a whole number"),
        ([("a.jpg", b""), ("a.json", b'{"labels": []}'), ("b.jpg", b""), ("b.cls", b"x")], "list"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_labels(tmp_path, members, message):
    write_shard(tmp_path / "0.tar", members)
    with pytest.raises(UserError, match=message) as caught:
        open_source(f"wds:{tmp_path}/0.tar", "train")
    assert str(caught.value).isprintable()


def test_missing_shards_are_named(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*1.tar: No such file"):
        open_source(f"wds:{tmp_path}/1.tar", "train")
    os.mkfifo(tmp_path / "0.tar")
    with pytest.raises(UserError, match="not a regular file"):
        open_source(f"wds:{tmp_path}/0.tar", "train")


def test_the_source_is_picklable(folder):
    source = open_source(write_shards(folder), "train")
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(source)).image(3), source.image(3))


def _upload(folder, where):
    write_shards(folder)
    fs = fsspec.filesystem("memory")
    for file in (folder / "shards").iterdir():
        fs.pipe(f"/{where}/{file.name}", file.read_bytes())
    return fs


@pytest.mark.parametrize("room", ["1000000000", "0"])
@pytest.mark.parametrize("pattern", ["{train,val}-{0..2}.tar", "*.tar"])
def test_any_url_of_fsspec(folder, cache, monkeypatch, room, pattern):
    fs = _upload(folder, "any")
    monkeypatch.setenv("NORMFREE_CACHE_BYTES", room)
    source = open_source(f"wds:memory://any/{pattern}", "train")
    _same(source, open_source(f"folder:{folder}", "train"), folder / "train")
    kept = [file for file in (cache / "files").iterdir() if file.suffix != ".lock"]
    assert len(kept) == (6 if room != "0" else 0)
    fs.rm("/any", recursive=True)
    if room == "0":
        with pytest.raises(BadImageError, match=r"train-0.tar"):
            source.image(int(source.by_shard[0]))
    else:
        assert source.image(0).shape[2] == 3


def test_what_is_wrong_with_a_url(folder, monkeypatch):
    fs = _upload(folder, "wrong")
    for spec, message in (
        ("memory://wrong/none.tar", "no such file"),
        ("nosuch://host/0.tar", "cannot read nosuch://host/0.tar: Protocol not known"),
    ):
        with pytest.raises(UserError, match=message):
            open_source(f"wds:{spec}", "train")
    monkeypatch.setenv("NORMFREE_CACHE_BYTES", "much")
    with pytest.raises(UserError, match="should be a number of bytes; got 'much'"):
        open_source("wds:memory://wrong/train-0.tar", "train")
    fs.rm("/wrong", recursive=True)


class _Ranges(SimpleHTTPRequestHandler):
    """Serves parts of files, as servers of data do; remembers what it was asked for."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        content = Path(self.translate_path(self.path)).read_bytes()
        asked = self.headers.get("Range", "")
        self.server.asked.append((self.path, asked))
        first, last = 0, len(content) - 1
        if asked and self.server.ranges:
            first, last = (int(n) for n in asked.removeprefix("bytes=").split("-"))
        part = content[first : last + 1]
        self.send_response(206 if asked and self.server.ranges else 200)
        if asked and self.server.ranges:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(folder):
    class Handler(_Ranges):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.ranges = [], True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("room", ["1000000000", "0"])
def test_http(folder, server, monkeypatch, room):
    monkeypatch.setenv("NORMFREE_CACHE_BYTES", room)
    write_shards(folder)
    url = f"http://127.0.0.1:{server.server_port}/shards"
    source = open_source(f"wds:{url}/{{train,val}}-{{0..2}}.tar", "train")
    server.asked.clear()
    _same(source, open_source(f"folder:{folder}", "train"), folder / "train")
    if room == "0":
        begin, size = source.offsets[0], source.sizes[0]
        assert server.asked[0][1] == f"bytes={begin}-{begin + size - 1}"
        server.ranges = False
        with pytest.raises(BadImageError, match="whole files only"):
            source.image(0)
    else:
        assert server.asked == []


def test_an_index_has_no_position_outside_its_shard(tmp_path):
    write_shard(tmp_path / "0.tar", [("a.jpg", b"12345"), ("a.cls", b"x")])
    state = wds._state(str(tmp_path / "0.tar"))
    index = tar_index.index_tar(tmp_path / "0.tar", "0.tar", {})
    tar_index.write_index(tmp_path / "index", index, state)
    assert tar_index.read_index(tmp_path / "index", state) is not None
    index.offsets[0] = state.size - 2
    tar_index.write_index(tmp_path / "index", index, state)
    assert tar_index.read_index(tmp_path / "index", state) is None
