from __future__ import annotations

import collections
import os
import pickle
import subprocess
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from normfree.errors import UserError
from normfree.weights.pickled import read_pickled_arrays
from tests.unit.weights.pickle_bombs import (
    BOMBS,
    DTYPE,
    EMPTY,
    ENDLESS,
    ONE,
    module_of,
    text,
)

Write = Callable[[bytes], Path]

ARRAYS = {
    "w": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "big_endian": np.arange(3, dtype=">f8"),
    "columns_first": np.asfortranarray(np.arange(6, dtype=np.float16).reshape(2, 3)),
    "skip_gain": np.array(0.5, np.float32),
    "scalar": np.float32(3),
    "steps": np.arange(4),
    "mask": np.array([True, False]),
}

#: {"NFNet/~/linear": {"w": 2×3 numbers from 0, "b": 3 zeros}} as dill 0.3.3 writes it: it takes the
#: functions of NumPy's extension as attributes of an imported module.
BY_DILL = (
    b"\x80\x03}q\x00X\x0e\x00\x00\x00NFNet/~/linearq\x01}q\x02(X\x01\x00\x00\x00wq\x03cdill._dill\n"
    b"_get_attr\nq\x04cdill._dill\n_import_module\nq\x05X\x1d\x00\x00\x00numpy._core._multiarray_u"
    b"mathq\x06\x85q\x07Rq\x08X\x0c\x00\x00\x00_reconstructq\t\x86q\nRq\x0bcnumpy\nndarray\nq\x0cK"
    b"\x00\x85q\rC\x01bq\x0e\x87q\x0fRq\x10(K\x01K\x02K\x03\x86q\x11cnumpy\ndtype\nq\x12X\x02\x00"
    b"\x00\x00f4q\x13\x89\x88\x87q\x14Rq\x15(K\x03X\x01\x00\x00\x00<q\x16NNNJ\xff\xff\xff\xffJ\xff"
    b"\xff\xff\xffK\x00tq\x17b\x89C\x18\x00\x00\x00\x00\x00\x00\x80?\x00\x00\x00@\x00\x00@@\x00\x00"
    b"\x80@\x00\x00\xa0@q\x18tq\x19bX\x01\x00\x00\x00bq\x1ah\x0bh\x0cK\x00\x85q\x1bh\x0e\x87q\x1cRq"
    b"\x1d(K\x01K\x03\x85q\x1eh\x15\x89C\x0c\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00q\x1ftq"
    b" bus."
)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(content: bytes) -> Path:
        path = tmp_path / "F0_haiku.npz"
        path.write_bytes(content)
        return path

    return write


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "kind", [dict, collections.OrderedDict, partial(collections.defaultdict, dict)]
)
def test_arrays_come_back(kind: Callable[[Any], Any], protocol: int, write: Write) -> None:
    read = read_pickled_arrays(write(pickle.dumps(kind({"NFNet/~/a": ARRAYS}), protocol)))
    assert list(read) == [f"NFNet/~/a/{name}" for name in ARRAYS]
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(read[f"NFNet/~/a/{name}"], array)
        assert read[f"NFNet/~/a/{name}"].dtype == array.dtype


def test_as_dill_writes_them(write: Write) -> None:
    read = read_pickled_arrays(write(BY_DILL))
    np.testing.assert_array_equal(read["NFNet/~/linear/w"], np.arange(6).reshape(2, 3))
    np.testing.assert_array_equal(read["NFNet/~/linear/b"], np.zeros(3))


def test_as_jax_and_haiku_write_them(write: Write) -> None:
    make = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01bt"
    state = b"(K\x01K\x01\x85" + DTYPE + b"\x89C\x04\x00\x00\x80?t"
    weak = b"}" + text("weak_type") + b"\x89s"
    for name in (
        "jax._src.array\n_reconstruct_array",
        "jax._src.device_array\nreconstruct_device_array",
    ):
        array = b"c" + name.encode() + b"\n(" + make + state + weak + b"tR"
        assert read_pickled_arrays(write(module_of(array))) == {"m/w": np.ones(1, np.float32)}
    mapping = b"chaiku._src.data_structures\nFlatMapping\n"
    tree = b"\x80\x03" + mapping + b"}" + text("m") + mapping + b"}" + text("w") + ONE
    assert read_pickled_arrays(write(tree + b"s\x85Rs\x85R.")) == {"m/w": np.ones(1, np.float32)}


class Call:
    """An object that pickles as a function call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


class Custom:
    """An ordinary object."""


def hostile(marker: Path) -> dict[str, tuple[bytes, str]]:
    """Kind → (pickle, text in the error). Each would create ``marker`` if it were executed."""
    shell = f"touch {marker}"
    system = f"{os.system.__module__}.system"
    array = np.ones(2, np.float32)
    command = text(shell) + b"\x85R"
    return {
        "system by reduce": (pickle.dumps(Call(os.system, shell)), system),
        "system by reduce, protocol 0": (pickle.dumps(Call(os.system, shell), 0), system),
        "nested": (pickle.dumps({"m": {"w": array, "x": Call(os.system, shell)}}), system),
        "popen": (
            pickle.dumps({"m": Call(subprocess.Popen, ["touch", str(marker)])}),
            "subprocess.Popen",
        ),
        "eval": (pickle.dumps(Call(eval, f"open({str(marker)!r}, 'w')")), "builtins.eval"),
        "getattr": (pickle.dumps(Call(getattr, array, "tofile")), "builtins.getattr"),
        "a class by GLOBAL": (
            module_of(b"cpathlib\nPath\n" + text(str(marker)) + b"\x85R"),
            "pathlib.Path",
        ),
        "a dotted name": (
            module_of(text("numpy") + text("core.os.system") + b"\x93" + command),
            "numpy.core.os.system",
        ),
        "a function of numpy": (
            module_of(b"cnumpy\nsave\n" + text(str(marker)) + b"\x85R"),
            "numpy.save",
        ),
        "a module by dill": (
            module_of(b"cdill._dill\n_import_module\n" + text("os") + b"\x85R"),
            "'os'",
        ),
        "an attribute by dill": (
            module_of(
                b"cdill._dill\n_get_attr\ncdill._dill\n_import_module\n"
                + text("numpy.core.multiarray")
                + b"\x85R"
                + text("fromfile")
                + b"\x86R"
            ),
            "numpy.core.multiarray.fromfile",
        ),
        "an object": (pickle.dumps({"m": {"w": Custom()}}), "Custom"),
        "an instance, protocol 0": (b"(S'" + shell.encode() + b"'\nios\nsystem\n.", "STRING"),
        "INST": (b"\x80\x02(ios\nsystem\n.", "os.system"),
        "a class and NEWOBJ": (module_of(b"cnumpy\nndarray\n)\x81"), "NEWOBJ"),
        "a persistent id": (b"\x80\x02" + text("x") + b"Q.", "BINPERSID"),
        "a registered extension": (b"\x80\x02\x82\x01.", "EXT1"),
        "a call of a container": (module_of(b"}" + command), "does not create arrays"),
        "a call of a module": (
            module_of(b"cdill._dill\n_import_module\n" + text("numpy") + b"\x85R" + command),
            "does not create arrays",
        ),
        "state of a container": (b"\x80\x03}}b.", "state"),
        "objects in an array": (
            pickle.dumps({"m": {"w": np.array([Custom()], object)}}),
            "dtype 'O8'",
        ),
        "structures in an array": (pickle.dumps({"m": {"w": np.zeros(1, "f4,i4")}}), "dtype 'V8'"),
        "text in an array": (pickle.dumps({"m": {"w": np.array(["a"])}}), "dtype 'U1'"),
        "a list": (pickle.dumps({"m": {"w": [1.0]}}), "EMPTY_LIST"),
        "a number": (pickle.dumps({"m": {"w": 1.0}}), "not an array"),
        "an array too deep": (pickle.dumps({"m": {"n": {"w": array}}}), "not an array"),
        "an empty array's shell": (module_of(EMPTY), "not an array"),
    }


@pytest.mark.parametrize("kind", list(hostile(Path("x"))))
def test_nothing_hostile_runs(kind: str, write: Write, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    content, naming = hostile(marker)[kind]
    with pytest.raises(UserError) as refusal:
        read_pickled_arrays(write(content))
    assert naming in str(refusal.value)
    assert "F0_haiku.npz" in str(refusal.value)
    assert not marker.exists()


@pytest.mark.parametrize("kind", list(ENDLESS))
def test_what_would_never_end_ends(kind: str, write: Write) -> None:
    content, message = ENDLESS[kind]
    path = write(content)
    began = time.monotonic()
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=message) as error:
            read_pickled_arrays(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert time.monotonic() - began < 10  # tracemalloc is slow
    assert peak < 10**6 + 200 * len(content)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("kind", list(BOMBS))
def test_what_is_declared_takes_no_memory(kind: str, write: Write) -> None:
    content, message = BOMBS[kind]
    path = write(content)
    tracemalloc.start()
    try:
        if message is None:  # a harmless way to write an empty dict
            assert read_pickled_arrays(path) == {}
        else:
            with pytest.raises(UserError, match=message):
                read_pickled_arrays(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10**6 + 200 * len(content)


def test_every_truncation_is_said(write: Write) -> None:
    whole = pickle.dumps({"m": {"w": np.ones(3, np.float32)}}, 4)
    for length in range(len(whole)):
        with pytest.raises(UserError, match=r"damaged|refused"):
            read_pickled_arrays(write(whole[:length]))


def test_every_changed_byte_gives_arrays_or_a_message(write: Write) -> None:
    rng = np.random.default_rng(0)
    whole = bytearray(BY_DILL)
    for place in range(len(whole)):
        changed = whole.copy()
        changed[place] = rng.integers(256)
        try:
            arrays = read_pickled_arrays(write(bytes(changed)))
        except UserError:
            continue
        assert all(isinstance(array, np.ndarray) for array in arrays.values())


def test_an_absent_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.npz"):
        read_pickled_arrays(tmp_path / "absent.npz")
