"""Read ``torch.save`` files, fully checked and without executing anything.

``torch.load(weights_only=True)`` imports nothing that a file names. However, it does not verify
checksums, trusts declared sizes (a 3 kB file can declare 8 TB through a stride of zero), and
returns sparse tensors, meta tensors, and dicts with arbitrary keys. Here Python's :mod:`zipfile`
reads the archive and verifies the checksum of each member that is used, and
:class:`normfree.weights.torch_pickle.Tensors` reads the pickle.
"""

from __future__ import annotations

import io
import mmap
import struct
import zipfile
from pathlib import Path
from typing import IO, Any, cast

import torch
from torch import Tensor

from normfree.errors import UserError, one_line
from normfree.weights.torch_pickle import Storage, Tensors
from normfree.weights.unpickle import Refused, check

ZIP = b"PK\x03\x04"
#: First bytes of files written by torch before 1.6: a pickled magic number.
OLD = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_MAX_MEMBERS = 200_000
_MAX_DEPTH = 64


def read_torch(path: str | Path) -> Any:
    """Read a ``torch.save`` file to the CPU.

    For any file, nothing that it names is imported or called, damage is detected by checksums
    (files written by torch before 1.6 have none), and memory use is proportional to the actual
    size of the file.

    Args:
        path: path of the file.

    Returns:
        Tensors, numbers and strings, in dicts, lists and tuples.

    Raises:
        UserError: the file is missing, damaged, or contains anything else.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile() as file:
        ...     torch.save({"step": 3, "w": torch.zeros(2)}, file.name)
        ...     read_torch(file.name)
        {'step': 3, 'w': tensor([0., 0.])}
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no {path}")
    try:
        with path.open("rb") as file:
            old = file.read(len(OLD)) == OLD
        content = _read_old(path) if old else _read_zip(path, path.stat().st_size)
        _check_tree(content, max(path.stat().st_size, 10_000))
    except Refused as reason:
        raise UserError(f"{path} is damaged or refused: {reason}; nothing in it was run") from None
    except MemoryError:
        raise
    except Exception as error:  # zipfile raises undocumented exceptions on damaged archives
        raise UserError(f"{path} is damaged or refused: {one_line(error)}") from None
    return content


def read_torch_bytes(content: bytes) -> Any:
    """Read a ``torch.save`` file from memory, like :func:`read_torch`.

    Raises:
        Refused: it contains anything but tensors and plain values.
    """
    return _read_zip(io.BytesIO(content), len(content))


def _read_zip(file: Path | IO[bytes], size: int) -> Any:
    with zipfile.ZipFile(file) as archive:
        members = checked_members(archive, size)
        pickles = [name for name in members if name.endswith("/data.pkl")]
        check(len(pickles) == 1, "it is not a torch.save file")
        root = pickles[0].removesuffix("data.pkl")
        if f"{root}byteorder" in members:
            order = archive.read(f"{root}byteorder")
            check(order == b"little", "its data is not little-endian")
        storages: dict[str, Storage] = {}

        def storage(dtype: torch.dtype, key: str, count: int) -> Storage:
            if key not in storages:
                name = f"{root}data/{key}"
                check(name in members, "it lacks the data of a tensor")
                held = members[name].file_size
                check(
                    held == count * dtype.itemsize,
                    f"it declares {count * dtype.itemsize:,} bytes of data but contains {held:,}",
                )
                storages[key] = Storage(dtype, bytearray(archive.read(name)))
            _check_same(storages[key], dtype, count)
            return storages[key]

        with archive.open(pickles[0]) as file:
            content = file.read()
        return _interpret(content, Tensors(size, storage))


def checked_members(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """The members of an archive by name, all uncompressed and in total no larger than the file."""
    infos = archive.infolist()
    check(len(infos) <= _MAX_MEMBERS, f"it has more than {_MAX_MEMBERS:,} members")
    check(len({info.filename for info in infos}) == len(infos), "two of its members share a name")
    plain = all(i.compress_type == zipfile.ZIP_STORED and not i.flag_bits & 1 for i in infos)
    check(plain, "its members are compressed or encrypted, which torch never does")
    check(sum(info.file_size for info in infos) <= size, "its members overlap")
    return {info.filename: info for info in infos}


def _interpret(content: bytes, machine: Tensors) -> Any:
    if not content:
        raise Refused("it is empty")
    with mmap.mmap(-1, len(content)) as file:
        file.write(content)
        file.seek(0)
        return machine.run(cast(IO[bytes], file))


def _read_old(path: Path) -> Any:
    """Read the format before torch 1.6: five pickles, then the count and data of each storage."""
    storages: dict[str, tuple[Storage, int]] = {}
    with path.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as file:
        left = size = len(file)

        def storage(dtype: torch.dtype, key: str, count: int) -> Storage:
            nonlocal left
            if key not in storages:
                left -= count * dtype.itemsize
                check(left >= 0, "it declares more data than it contains")
                storages[key] = Storage(dtype, bytearray(count * dtype.itemsize)), count
            _check_same(storages[key][0], dtype, count)
            return storages[key][0]

        stream = cast(IO[bytes], file)
        for _ in range(3):  # a magic number, the protocol, and system information
            Tensors(size, storage).run(stream)
        content = Tensors(size, storage).run(stream)
        keys = Tensors(size, storage).run(stream)
        check(isinstance(keys, list) and all(isinstance(k, str) for k in keys), "it is damaged")
        once = len(keys) == len({*keys}) and {*keys} == storages.keys()
        check(once, "it lacks the data of a tensor")
        for key in keys:
            held, count = storages[key]
            (written,) = struct.unpack("<q", file.read(8))
            check(written == count, "it declares different sizes for the same storage")
            data = file.read(len(held.data))
            check(len(data) == len(held.data), "it ends early")
            held.data[:] = data
    return content


def _check_same(storage: Storage, dtype: torch.dtype, count: int) -> None:
    same = storage.dtype == dtype and len(storage.data) == count * dtype.itemsize
    check(same, "it declares one storage with different types or sizes")


def _check_tree(content: Any, most: int) -> None:
    """Reject content that is deeply nested, recursive, or large only through shared references.

    Args:
        content: content of the file.
        most: largest number of values, and a quarter of the largest number of tensor bytes, since
            tensors may share data.
    """
    sizes: dict[int, tuple[int, int]] = {}

    def count(value: Any, depth: int) -> tuple[int, int]:
        """Number of values, and bytes of tensors."""
        if isinstance(value, Tensor):
            return 1, value.nbytes
        if not isinstance(value, dict | list | tuple):
            return 1, 0
        check(depth < _MAX_DEPTH, f"it is nested more than {_MAX_DEPTH} deep")
        if id(value) not in sizes:
            sizes[id(value)] = most + 1, 0  # exceeds the limit if the value contains itself
            parts = value.values() if isinstance(value, dict) else value
            counted = [count(part, depth + 1) for part in parts]
            sizes[id(value)] = 1 + sum(c[0] for c in counted), sum(c[1] for c in counted)
        values, numbers = sizes[id(value)]
        check(values <= most, "it repeats shared values so often that it is too large")
        check(numbers <= 4 * most, "its tensors share the same data too often")
        return values, numbers

    count(content, 0)


def is_state_dict(value: object) -> bool:
    """Whether a value is a dict from names to tensors.

    >>> is_state_dict({"weight": torch.zeros(1)}), is_state_dict({0: torch.zeros(1)})
    (True, False)
    """
    return isinstance(value, dict) and all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items()
    )
