"""Rebuild the tensors of a ``torch.save`` pickle without executing it (see ``unpickle``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from normfree.weights.unpickle import Machine, Name, Refused, check, shown

#: Storage class named in a file → dtype.
_STORAGES: Mapping[str, torch.dtype] = MappingProxyType(
    {
        "torch.DoubleStorage": torch.float64,
        "torch.FloatStorage": torch.float32,
        "torch.HalfStorage": torch.float16,
        "torch.BFloat16Storage": torch.bfloat16,
        "torch.LongStorage": torch.int64,
        "torch.IntStorage": torch.int32,
        "torch.ShortStorage": torch.int16,
        "torch.CharStorage": torch.int8,
        "torch.ByteStorage": torch.uint8,
        "torch.BoolStorage": torch.bool,
        "torch.ComplexFloatStorage": torch.complex64,
        "torch.ComplexDoubleStorage": torch.complex128,
    }
)
_MAX_AXES = 16
_MAX_SIDE = 2**40


class Storage:
    """A flat buffer that tensors share.

    Args:
        dtype: dtype of the elements.
        data: contents of the buffer.
    """

    def __init__(self, dtype: torch.dtype, data: bytearray) -> None:
        self.dtype = dtype
        self.data = data

    def tensor(self, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
        """A tensor over part of the buffer, in which no two elements share an address."""
        count = len(self.data) // self.dtype.itemsize
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        empty = 0 in size
        check(empty or last < count, "it contains a tensor that extends beyond its storage")
        check(empty or _distinct(size, stride), "it contains a tensor that repeats its elements")
        if empty:
            return torch.empty(size, dtype=self.dtype)
        return torch.frombuffer(self.data, dtype=self.dtype).as_strided(size, stride, offset)


def _distinct(size: tuple[int, ...], stride: tuple[int, ...]) -> bool:
    """Whether all elements of a tensor have distinct addresses, as in any dense tensor."""
    reach = 0
    for step, n in sorted((step, n) for n, step in zip(size, stride, strict=True) if n > 1):
        if step <= reach:
            return False
        reach += (n - 1) * step
    return True


class Tensors(Machine):
    """Interprets pickles of tensors, numbers and strings in dicts, lists and tuples.

    Args:
        size: size of the file, bytes.
        storage: returns the storage for a dtype, key and number of elements.
    """

    content = "tensor"

    def __init__(self, size: int, storage: Callable[[torch.dtype, str, int], Storage]) -> None:
        super().__init__(
            {
                **dict.fromkeys(_STORAGES),
                "torch._utils._rebuild_tensor_v2": self._tensor,
                "torch._utils._rebuild_parameter": self._parameter,
                "collections.OrderedDict": self._mapping,
                "torch.Size": self._size_of_tensor,
            },
            size,
        )
        self.storage = storage

    def is_key(self, key: object) -> bool:
        """Also allows integers, because optimizers number their parameters."""
        return isinstance(key, str) or (type(key) is int and 0 <= key < 2**20)

    def _on_empty_list(self, _: None) -> None:
        self.stack.append([])

    def _on_append(self, _: None) -> None:
        self._extend([self.stack.pop()])

    def _on_appends(self, _: None) -> None:
        self._extend(self._since_mark())

    def _on_list(self, _: None) -> None:
        self.stack.append(self._since_mark())

    def _extend(self, items: list[Any]) -> None:
        check(isinstance(self.stack[-1], list), "it is damaged")
        self.stack[-1].extend(items)

    def _on_binpersid(self, _: None) -> None:
        match self.stack.pop():
            case ("storage", Name() as kind, str(key), str(), int(count), *views):
                check(views in ([], [None]), "it contains a storage that is part of another")
            case _:
                raise Refused("it refers to something that is not a storage")
        check(kind.dotted in _STORAGES, f"it contains a storage of type {shown(kind.dotted)}")
        check(0 <= count < _MAX_SIDE, "it contains a storage with an invalid size")
        self.stack.append(self.storage(_STORAGES[kind.dotted], key, count))

    def build(self, target: Any, state: Any) -> None:
        """Ignore the ``_metadata`` attribute that PyTorch attaches to state dicts."""
        check(isinstance(target, dict) and isinstance(state, dict), "it sets the state of a value")

    def _tensor(
        self, storage: Any, offset: Any, size: Any, stride: Any, gradient: Any, hooks: Any, *_: Any
    ) -> Tensor:
        check(isinstance(storage, Storage), "it contains a tensor without data")
        sides = (*_sides(size), *_sides(stride), *_sides((offset,)))
        check(len(sides) == 2 * len(size) + 1, "it contains a tensor with an invalid shape")
        return storage.tensor(offset, size, stride)

    def _parameter(self, data: Any, *_: Any) -> Tensor:
        check(isinstance(data, Tensor), "it contains a parameter that is not a tensor")
        return data

    def _mapping(self, *items: Any) -> dict[str, Any]:
        empty = not items or (len(items) == 1 and isinstance(items[0], list) and not items[0])
        check(empty, "it contains a mapping made of something else")
        return {}

    def _size_of_tensor(self, sides: Any) -> torch.Size:
        return torch.Size(_sides(sides))


def _sides(value: Any) -> tuple[int, ...]:
    possible = (
        isinstance(value, tuple)
        and len(value) <= _MAX_AXES
        and all(type(side) is int and 0 <= side < _MAX_SIDE for side in value)
    )
    check(possible, "it contains a tensor with an invalid shape")
    return tuple(value)
