"""The authors' weights: read arrays from a pickle without executing it (see ``unpickle``)."""

from __future__ import annotations

import math
import mmap
import re
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from normfree.errors import UserError
from normfree.weights.unpickle import Machine, Name, Refused, check, is_name, shown

_NUMBERS = re.compile(r"[<>=|]?(f[248]|[iu][1248]|b1)")
_MAX_AXES = 8


class _DType:
    """A dtype under construction: its code first, then its byte order."""

    def __init__(self, code: str) -> None:
        self.code = code

    def build(self, state: Any) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) >= 2 else ""
        if not isinstance(order, str) or order not in ("<", ">", "|", "="):
            raise Refused("it contains a damaged dtype")
        structured = any(part is not None for part in state[2:5])
        check(not structured, "it contains structured arrays")
        self.code = (order if order != "|" else "") + self.code.lstrip("<>=|")

    def numpy(self) -> np.dtype:
        return np.dtype(self.code)


class _Array:
    """An array under construction: empty first, then with its state."""

    value: np.ndarray | None = None

    def build(self, state: Any) -> None:
        check(isinstance(state, tuple) and len(state) == 5, "it contains a damaged array")
        _, shape, dtype, fortran, data = state
        self.value = _array(data, dtype, shape, "F" if fortran is True else "C")


def _array(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    check(isinstance(dtype, _DType), "it contains an array without a dtype")
    check(isinstance(data, bytes | bytearray), "it contains an array whose data is not bytes")
    check(
        isinstance(shape, tuple)
        and len(shape) <= _MAX_AXES
        and all(type(side) is int and 0 <= side < 2**40 for side in shape),
        "it contains an array with an invalid shape",
    )
    declared = math.prod(shape) * dtype.numpy().itemsize
    check(
        declared == len(data),
        f"it declares an array of {declared:,} bytes but contains {len(data):,}",
    )
    view = memoryview(data).toreadonly()
    fortran = isinstance(order, str) and order == "F"
    return np.ndarray(shape, dtype.numpy(), view, order="F" if fortran else "C")


def _new_array(kind: Any, *_: Any) -> _Array:
    check(is_name(kind, "numpy.ndarray"), "it contains an array of an unknown kind")
    return _Array()


def _new_dtype(code: Any, *_: Any) -> _DType:
    numbers = isinstance(code, str) and _NUMBERS.fullmatch(code)
    check(numbers, f"it contains an array of dtype {shown(code, 40)}, which is not a numeric dtype")
    return _DType(code)


def _new_scalar(dtype: Any, data: Any) -> _Array:
    return _from_buffer(data, dtype, (), "C")


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    array = _Array()
    array.value = _array(data, dtype, shape, order)
    return array


def _encode(text: Any, encoding: Any) -> bytes:
    latin = isinstance(encoding, str) and encoding in ("latin1", "latin-1", "iso-8859-1")
    check(isinstance(text, str) and latin, "it encodes something that is not the bytes of an array")
    return text.encode("latin1")


def _mapping(content: Any = None) -> dict[str, Any]:
    check(
        content is None or isinstance(content, dict), "it contains a mapping made of something else"
    )
    return {} if content is None else content


def _default_mapping(*_: Any) -> dict[str, Any]:
    return {}


class _Arrays(Machine):
    """Interprets the names that pickles of arrays use."""

    def __init__(self, size: int) -> None:
        super().__init__(
            {
                **_KNOWN,
                "dill._dill._import_module": self.module,
                "dill._dill._get_attr": self.attribute,
                "jax._src.array._reconstruct_array": self.device_array,
                "jax._src.device_array.reconstruct_device_array": self.device_array,
            },
            size,
        )

    def build(self, target: Any, state: Any) -> None:
        check(isinstance(target, _Array | _DType), "it sets the state of something else")
        target.build(state)

    def device_array(self, make: Any, arguments: Any, state: Any, *_: Any) -> Any:
        array = self.call(make, arguments)
        check(isinstance(array, _Array), "it contains a device array made of something else")
        array.build(state)
        return array

    def module(self, dotted: Any, *_: Any) -> Name:
        inside = isinstance(dotted, str) and dotted in _MODULES
        check(inside, f"it names {shown(dotted, 100)}, which no array needs")
        return Name(dotted)

    def attribute(self, module: Any, name: Any) -> Name:
        """The encoding by dill of a function in an extension module."""
        check(
            isinstance(module, Name) and isinstance(name, str), "it takes an attribute of a value"
        )
        return self.name(f"{module.dotted}.{name}")


#: Names that a file may use → their implementation here.
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
    "_codecs.encode": _encode,
    "builtins.dict": None,
    "__builtin__.dict": None,
    "collections.OrderedDict": _mapping,
    "collections.defaultdict": _default_mapping,
    "haiku._src.data_structures.FlatMapping": _mapping,
}
_MODULES = frozenset(
    ".".join(dotted.split(".")[:count])
    for dotted in _KNOWN
    for count in range(1, dotted.count(".") + 1)
)


def read_pickled_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """Read a pickled ``{module: {name: array}}``, the format of the authors' published weights.

    For any file, nothing that it names is imported or called, and memory use is proportional to
    the actual size of the file. The result has only numeric arrays, in dicts with string keys; if
    the file contains anything else, it is rejected with an error that names the object.

    Args:
        path: a pickle of any protocol, written by ``pickle`` or ``dill``, with arrays of NumPy or
            JAX.

    Returns:
        ``module/name`` → read-only array.

    Raises:
        UserError: the file is damaged, or contains anything but arrays and dicts.

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
            tree = _Arrays(len(m)).run(cast(IO[bytes], m))
            return _flatten(tree, len(m))
    except Refused as reason:
        raise UserError(
            f"{path} is refused: {reason}; nothing in it was run. Expected a pickle of arrays in "
            "dicts, such as the authors' F0_haiku.npz"
        ) from None
    except (OSError, ValueError, IndexError, KeyError) as error:
        raise UserError(f"{path} is damaged or not a pickle: {error}") from None


def _flatten(tree: Any, size: int) -> dict[str, np.ndarray]:
    """Join module and parameter names; bound the total size of names and of arrays by ``size``."""
    check(isinstance(tree, dict), "it is not a dict")
    flat: dict[str, np.ndarray] = {}
    letters = numbers = 0
    for module, parameters in tree.items():
        check(isinstance(parameters, dict), f"{shown(module)} is not a dict")
        for name, array in parameters.items():
            whole = isinstance(array, _Array) and array.value is not None
            check(whole, f"{shown(name)} in {shown(module)} is not an array")
            letters += len(module) + 1 + len(name)
            numbers += array.value.nbytes
            check(letters <= size, "its names repeat so often that joining them would take memory")
            check(numbers <= size, "its arrays share data, so copying them would take more memory")
            flat[f"{module}/{name}"] = array.value
    return flat
