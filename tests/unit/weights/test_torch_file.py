from __future__ import annotations

import io
import pickle
import struct
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import normfree
from normfree.errors import UserError
from normfree.weights import load_model, read_torch
from tests.unit.weights.files import pico


def content() -> dict[str, Any]:
    """All types of values in a checkpoint."""
    model = pico()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.randn(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    return {
        "model": model.state_dict(),
        "parameters": dict(model.named_parameters()),
        "optimizer": optimizer.state_dict(),
        "plain": [1, -2.5, None, True, "ä", (1, 2), {}],
        "size": torch.Size([1, 2]),
        "kinds": [torch.arange(3).to(kind) for kind in KINDS],
        "turned": torch.randn(3, 4).t(),
        "none": torch.empty(0, 3),
        "scalar": torch.tensor(3),
    }


KINDS = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32),
    *(torch.int16, torch.int8, torch.uint8, torch.bool, torch.complex64),
)


def assert_same(a: Any, b: Any) -> None:
    if isinstance(b, Tensor):
        assert torch.equal(a, b)
        assert (a.dtype, a.stride()) == (b.dtype, b.stride())
    elif isinstance(b, dict | list | tuple):
        assert len(a) == len(b)
        pairs = [(a[k], b[k]) for k in b] if isinstance(b, dict) else zip(a, b, strict=True)
        for mine, theirs in pairs:
            assert_same(mine, theirs)
    else:
        assert (type(a), a) == (type(b), b)


@pytest.mark.parametrize("new", [True, False])
def test_as_torch_reads_it(new: bool, tmp_path: Path) -> None:
    torch.save(content(), tmp_path / "a.pt", _use_new_zipfile_serialization=new)
    assert_same(read_torch(tmp_path / "a.pt"), torch.load(tmp_path / "a.pt", weights_only=True))


def test_ties_stay_ties(tmp_path: Path) -> None:
    w = torch.zeros(3)
    torch.save({"a": w, "b": w, "c": w[1:]}, tmp_path / "a.pt")
    read = read_torch(tmp_path / "a.pt")
    read["a"][1] = 5
    assert (read["b"][1], read["c"][0]) == (5, 5)


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({"w": torch.zeros(1000)}, path)
    data = bytearray(path.read_bytes())
    data[data.index(bytes(2000)) + 1000] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="damaged or refused"):
        read_torch(path)


class Hostile:
    def __reduce__(self) -> object:
        return print, ("it ran",)


ODD = {
    "stride zero": (lambda: torch.zeros(1).expand(10**12), "repeats its elements"),
    "overlaps": (lambda: torch.zeros(9).as_strided((4, 4), (1, 1)), "repeats its elements"),
    "sparse": (lambda: torch.zeros(2, 2).to_sparse(), "_rebuild_sparse_tensor"),
    "meta": (lambda: torch.zeros(3, device="meta"), "_rebuild_meta_tensor"),
    "a call": (Hostile, "builtin.*print"),
    "a set": (lambda: {1}, "set"),
    "an array": (lambda: torch.zeros(2).numpy(), "numpy"),
}


@pytest.mark.parametrize("kind", list(ODD))
def test_what_is_no_plain_tensor_is_named(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, message = ODD[kind]
    for new in (True, False):
        torch.save({"w": make()}, tmp_path / "a.pt", _use_new_zipfile_serialization=new)
        began = time.monotonic()
        with pytest.raises(UserError, match=message):
            read_torch(tmp_path / "a.pt")
        assert time.monotonic() - began < 1
    assert capsys.readouterr().out == ""


def archive(path: Path, pickled: bytes, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a/data.pkl", pickled)
        for name, value in members.items():
            file.writestr(f"a/data/{name.removeprefix('_')}", value)
    return path


def test_a_storage_smaller_than_declared(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(1000)}, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as file:
        pickled = next(file.read(n) for n in file.namelist() if n.endswith("data.pkl"))
    with pytest.raises(UserError, match="declares 4,000 bytes of data but contains 4"):
        read_torch(archive(tmp_path / "b.pt", pickled, _0=b"1234"))
    with pytest.raises(UserError, match="lacks the data"):
        read_torch(archive(tmp_path / "b.pt", pickled))


def doubled(times: int) -> bytes:
    """Nested lists, each containing the previous one twice: 2 ** ``times`` values."""
    return (
        b"\x80\x02]q\x00" + b"".join(b"](h%ch%ceq%c" % (i, i, i + 1) for i in range(times)) + b"."
    )


TREES = {
    "large by repetition": (doubled(50), "repeats shared values"),
    "in itself": (b"\x80\x02]q\x00h\x00a.", "repeats shared values"),
    "deep": (b"\x80\x02" + b"]" * 5000 + b"a" * 4999 + b".", "nested more than"),
    "keys of tuples": (b"\x80\x02}))\x86K\x01s.", "keys that are not text"),
    "a large key": (b"\x80\x02}J\xff\xff\xff\x7fK\x01s.", "keys that are not text"),
    "compressed": (b"", "compressed"),
}


@pytest.mark.parametrize("kind", list(TREES))
def test_trees_that_would_never_end(kind: str, tmp_path: Path) -> None:
    pickled, message = TREES[kind]
    path = archive(tmp_path / "a.pt", pickled)
    if kind == "compressed":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("a/data.pkl", bytes(10**7))
    began = time.monotonic()
    with pytest.raises(UserError, match=message):
        read_torch(path)
    assert time.monotonic() - began < 2


def test_one_storage_under_many_names_does_not_grow(tmp_path: Path) -> None:
    w = torch.zeros(25_000)
    for one in (lambda: w, lambda: w.view(-1)):  # 0.1 MB, but 50 MB once copied
        torch.save({str(i): one() for i in range(500)}, tmp_path / "a.pt")
        with pytest.raises(UserError, match="share the same data too often"):
            read_torch(tmp_path / "a.pt")


def test_old_files_that_declare_more_than_they_hold(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({"w": torch.zeros(10)}, path, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    count = struct.pack("<q", 10)
    assert data.count(count) == 1
    path.write_bytes(data.replace(count, struct.pack("<q", 10**10)))
    with pytest.raises(UserError, match="different sizes for the same storage"):
        read_torch(path)
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        with pytest.raises(UserError):
            read_torch(path)


def _save(state: dict[Any, Any], path: Path) -> Path:
    torch.save(state, path)
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.to(torch.complex64), r"wrong kind .*complex64"),
        (lambda w: w.long(), r"wrong kind .*int64"),
        (lambda w: w * float("nan"), "not finite: stem.conv0.weight"),
        (lambda w: w[:, :, 0, 0], "fits no network"),
    ],
)
def test_weights_that_would_lose_something(change: Any, message: str, tmp_path: Path) -> None:
    state = dict(pico().state_dict())
    state["stem.conv0.weight"] = change(state["stem.conv0.weight"])
    path = _save(state, tmp_path / "a.pth")
    with pytest.raises(UserError, match=message):
        load_model(path)


def test_names_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no state dict"):
        load_model(_save({0: torch.zeros(1)}, tmp_path / "a.pth"))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "a.pt")
    for read in (read_torch, normfree.load, load_model):
        with pytest.raises(UserError):
            read(tmp_path / "a.pt")


def test_a_file_in_memory_is_a_file(tmp_path: Path) -> None:
    file = io.BytesIO()
    pickle.dump({"w": 1}, file, 2)
    (tmp_path / "a.pt").write_bytes(file.getvalue())
    with pytest.raises(UserError, match="damaged or refused"):
        read_torch(tmp_path / "a.pt")
