"""Arrays out of a pickle that is read, never run.

A pickle is a program: it may import anything and call it. Restricting what ``pickle.Unpickler`` may
import leaves an engine that still calls, allocates what the file declares and hashes what it built.
Here the opcodes are interpreted as text instead. A name in the file stays a name; the few that
writers of arrays use have a counterpart below, and any other ends the reading.
"""

from __future__ import annotations

import math
import mmap
import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import numpy as np

from normfree.errors import UserError

_VALUES = (
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_NUMBERS = re.compile(r"[<>=|]?(f[248]|[iu][1248]|b1)")
_MAX_AXES = 8


class _Refused(Exception):  # noqa: N818
    """Why a pickle is not read; the caller adds the file's name."""


class _Name(NamedTuple):
    """What a pickle would import."""

    dotted: str


@dataclass
class _DType:
    """A dtype on its way: its code, then its byte order."""

    code: str

    def build(self, state: Any) -> None:
        _check(
            isinstance(state, tuple) and len(state) >= 2 and state[1] in ("<", ">", "|", "="),
            "it holds a damaged dtype",
        )
        _check(not any(state[2:5]), "it holds arrays of structures, not of numbers")
        self.code = (state[1] if state[1] != "|" else "") + self.code.lstrip("<>=|")

    def numpy(self) -> np.dtype:
        return np.dtype(self.code)


class _Array:
    """An array on its way: empty, then with its state."""

    value: np.ndarray | None = None

    def build(self, state: Any) -> None:
        _check(isinstance(state, tuple) and len(state) == 5, "it holds a damaged array")
        _, shape, dtype, fortran, data = state
        self.value = _array(data, dtype, shape, "F" if fortran else "C")


def _array(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    _check(isinstance(dtype, _DType), "it holds an array without a dtype")
    _check(isinstance(data, bytes | bytearray), "it holds an array whose numbers are not bytes")
    _check(
        isinstance(shape, tuple)
        and len(shape) <= _MAX_AXES
        and all(type(side) is int and 0 <= side < 2**40 for side in shape),
        "it holds an array of no possible shape",
    )
    declared = math.prod(shape) * dtype.numpy().itemsize
    _check(
        declared == len(data),
        f"it declares an array of {declared:,} bytes and holds {len(data):,} of them",
    )
    view = memoryview(data).toreadonly()
    return np.ndarray(shape, dtype.numpy(), view, order="F" if order == "F" else "C")


def _new_array(kind: Any, *_: Any) -> _Array:
    _check(kind == _Name("numpy.ndarray"), "it holds an array of an unknown kind")
    return _Array()


def _new_dtype(code: Any, *_: Any) -> _DType:
    numbers = isinstance(code, str) and _NUMBERS.fullmatch(code)
    _check(numbers, f"it holds an array of dtype {str(code)[:40]!r}, not of plain numbers")
    return _DType(code)


def _new_scalar(dtype: Any, data: Any) -> _Array:
    array = _Array()
    array.value = _array(data, dtype, (), "C")
    return array


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    array = _Array()
    array.value = _array(data, dtype, shape, order)
    return array


def _encode(text: Any, encoding: Any) -> bytes:
    latin = isinstance(text, str) and encoding in ("latin1", "latin-1", "iso-8859-1")
    _check(latin, "it encodes something that is not the bytes of an array")
    return text.encode("latin1")


def _mapping(content: Any = None) -> dict[str, Any]:
    _check(
        content is None or isinstance(content, dict), "it holds a mapping made of something else"
    )
    return {} if content is None else content


def _default_mapping(*_: Any) -> dict[str, Any]:
    return {}


def _device_array(make: Any, arguments: Any, state: Any, *_: Any) -> Any:
    array = _call(make, arguments)
    _check(isinstance(array, _Array), "it holds a device array made of something else")
    array.build(state)
    return array


def _module(dotted: Any, *_: Any) -> _Name:
    inside = isinstance(dotted, str) and any(name.startswith(f"{dotted}.") for name in _KNOWN)
    _check(inside, f"it names {str(dotted)[:100]!r}, which no array needs")
    return _Name(dotted)


def _attribute(module: Any, name: Any) -> _Name:
    """What dill writes for a function of an extension module."""
    _check(isinstance(module, _Name) and isinstance(name, str), "it takes an attribute of a value")
    return _known(f"{module.dotted}.{name}")


def _known(dotted: str) -> _Name:
    _check(dotted in _KNOWN, f"it names {dotted[:100]!r}, which no array needs")
    return _Name(dotted)


#: What a file may name, and what stands for it here.
_KNOWN: dict[str, Callable[..., Any] | None] = {
    "numpy.ndarray": None,
    "numpy.dtype": _new_dtype,
    **{
        f"numpy.{core}.{module}.{name}": make
        for core in ("core", "_core")
        for module, name, make in (
            ("multiarray", "_reconstruct", _new_array),
            ("multiarray", "scalar", _new_scalar),
            ("_multiarray_umath", "_reconstruct", _new_array),
            ("_multiarray_umath", "scalar", _new_scalar),
            ("numeric", "_frombuffer", _from_buffer),
        )
    },
    "dill._dill._import_module": _module,
    "dill._dill._get_attr": _attribute,
    "_codecs.encode": _encode,
    "builtins.dict": None,
    "__builtin__.dict": None,
    "collections.OrderedDict": _mapping,
    "collections.defaultdict": _default_mapping,
    "haiku._src.data_structures.FlatMapping": _mapping,
    "jax._src.array._reconstruct_array": _device_array,
    "jax._src.device_array.reconstruct_device_array": _device_array,
}


def _call(function: Any, arguments: Any) -> Any:
    make = _KNOWN.get(function.dotted) if isinstance(function, _Name) else None
    if make is None or not isinstance(arguments, tuple):
        raise _Refused("it calls something that makes no array")
    try:
        return make(*arguments)
    except TypeError:
        raise _Refused(
            f"it calls {function.dotted} with other arguments than arrays have"
        ) from None


class _Reader:
    """The stack and the memo of a pickle, and what each opcode does to them.

    Args:
        size: of the file, bytes; calls make no more bytes than that in all.
    """

    def __init__(self, size: int) -> None:
        self.bytes_left = size
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def step(self, opcode: str, argument: Any) -> None:
        if opcode in _VALUES:
            self.stack.append(argument)
        elif opcode in _CONSTANTS:
            self.stack.append(_CONSTANTS[opcode])
        elif handler := getattr(self, f"on_{opcode.lower()}", None):
            handler(argument)
        elif opcode not in ("PROTO", "FRAME", "STOP"):
            raise _Refused(f"it uses the opcode {opcode}, which arrays do not need")

    def on_global(self, argument: str) -> None:
        self.stack.append(_known(argument.replace(" ", ".")))

    def on_inst(self, argument: str) -> None:
        raise _Refused(f"it makes an object of {argument.replace(' ', '.')[:100]!r}")

    def on_stack_global(self, _: None) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        _check(isinstance(name, str) and isinstance(module, str), "it names no text")
        self.stack.append(_known(f"{module}.{name}"))

    def on_mark(self, _: None) -> None:
        self.marks.append(len(self.stack))

    def since_mark(self) -> list[Any]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def on_tuple(self, _: None) -> None:
        self.stack.append(tuple(self.since_mark()))

    def on_tuple1(self, _: None) -> None:
        self.last_as_tuple(1)

    def on_tuple2(self, _: None) -> None:
        self.last_as_tuple(2)

    def on_tuple3(self, _: None) -> None:
        self.last_as_tuple(3)

    def last_as_tuple(self, count: int) -> None:
        _check(len(self.stack) >= count, "it is damaged")
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def on_empty_dict(self, _: None) -> None:
        self.stack.append({})

    def on_dict(self, _: None) -> None:
        items = self.since_mark()
        self.stack.append({})
        self.fill(items)

    def on_setitem(self, _: None) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.fill([key, value])

    def on_setitems(self, _: None) -> None:
        self.fill(self.since_mark())

    def fill(self, items: list[Any]) -> None:
        target, keys = self.stack[-1], items[::2]
        _check(isinstance(target, dict) and len(items) % 2 == 0, "it is damaged")
        # Text hashes in the time of its length; nested tuples can take for ever.
        _check(all(isinstance(key, str) for key in keys), "it has keys that are not text")
        target.update(zip(keys, items[1::2], strict=True))

    def on_memoize(self, _: None) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def on_put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    on_binput = on_long_binput = on_put

    def on_get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    on_binget = on_long_binget = on_get

    def on_reduce(self, _: None) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        made = _call(function, arguments)
        if isinstance(made, bytes):
            self.bytes_left -= len(made)
            _check(self.bytes_left >= 0, "it makes more bytes than it holds")
        self.stack.append(made)

    def on_build(self, _: None) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        _check(isinstance(target, _Array | _DType), "it sets the state of something else")
        target.build(state)


def read_pickled_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a pickled ``{module: {name: array}}``, as the authors published their weights.

    Guaranteed of any file: nothing that it names is imported or called, and no memory is taken that
    is not proportional to the bytes really in the file. Only arrays of plain numbers in dicts with
    text as keys come out; anything else is refused by name before anything is returned.

    Args:
        path: of the pickle, of any protocol, written by ``pickle`` or ``dill``; arrays of NumPy or
            of JAX.

    Returns:
        ``module/name`` → read-only array.

    Raises:
        UserError: the file is damaged, or holds or names anything but arrays and dicts.

    Example:
        >>> import pickle, tempfile
        >>> with tempfile.NamedTemporaryFile() as file:
        ...     pickle.dump({"NFNet/~/linear": {"b": np.zeros(10, "f4")}}, file)
        ...     file.flush()
        ...     {name: array.shape for name, array in read_pickled_arrays(file.name).items()}
        {'NFNet/~/linear/b': (10,)}
    """
    try:
        with (
            Path(path).open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as m,
        ):
            return _flatten(_read(m), len(m))
    except _Refused as reason:
        raise UserError(
            f"{path} is refused: {reason}; nothing in it was run. Expected a pickle of arrays in "
            "dicts, such as the authors' F0_haiku.npz"
        ) from None
    except (OSError, ValueError, IndexError, KeyError) as error:
        raise UserError(f"{path} is damaged or no pickle: {error}") from None


def _read(file: mmap.mmap) -> Any:
    reader = _Reader(len(file))
    for opcode, argument, _ in pickletools.genops(cast(IO[bytes], file)):
        reader.step(opcode.name, argument)
    return reader.stack[-1]


def _flatten(tree: Any, size: int) -> dict[str, np.ndarray]:
    """The arrays by their joined names, of which neither grow beyond ``size``."""
    _check(isinstance(tree, dict), "it holds no dict")
    flat: dict[str, np.ndarray] = {}
    letters = numbers = 0
    for module, parameters in tree.items():
        _check(isinstance(parameters, dict), f"{module[:80]!r} holds no dict")
        for name, array in parameters.items():
            whole = isinstance(array, _Array) and array.value is not None
            _check(whole, f"{module[:80]!r} holds something that is no array: {name[:80]!r}")
            letters += len(module) + 1 + len(name)
            numbers += array.value.nbytes
            _check(letters <= size, "its names repeat, so that they grow when joined")
            _check(numbers <= size, "its arrays share their bytes, so that they grow when copied")
            flat[f"{module}/{name}"] = array.value
    return flat


def _check(condition: Any, reason: str) -> None:
    if not condition:
        raise _Refused(reason)
