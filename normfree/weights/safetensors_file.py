"""``.safetensors`` files: the JSON header is checked before any tensor data is read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from normfree.atomic import write_atomic
from normfree.errors import UserError
from normfree.weights.unpickle import Refused, check, shown

_MAX_HEADER = 32 * 2**20
_MAX_TENSORS = 200_000
_BYTES = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2"), 1),
}


def looks_like_safetensors(head: bytes, size: int) -> bool:
    """Whether a file of this size begins with a header length and an opening brace."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") + 8 <= size


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors and metadata of a file.

    Raises:
        UserError: the file is damaged.
    """
    try:
        metadata, names = _read_header(path)
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in names}, metadata
    except Refused as reason:
        raise UserError(f"{path} is damaged or not a .safetensors file: {reason}") from None
    except MemoryError:
        raise
    except Exception as error:  # the library's exceptions are not documented
        said = " ".join(str(error).split())[:200]
        raise UserError(f"{path} is damaged or not a .safetensors file: {said}") from None


def write_safetensors(path: Path, state: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors and metadata atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = {name: value.cpu().contiguous() for name, value in state.items()}
    write_atomic(path, save(weights, metadata))


def _read_header(path: Path) -> tuple[dict[str, str], list[str]]:
    """Read metadata and tensor names, and check that the header matches the file."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        check(length <= _MAX_HEADER, f"its header has more than {_MAX_HEADER:,} bytes")
        text = file.read(length)
    check(len(text) == length, "its header is truncated")
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        raise Refused("its header is not valid JSON") from None
    check(isinstance(header, dict), "its header is not a JSON object")
    metadata = header.pop("__metadata__", {})
    texts = isinstance(metadata, dict) and all(isinstance(v, str) for v in metadata.values())
    check(texts, "its metadata is not text")
    check(len(header) <= _MAX_TENSORS, f"it has more than {_MAX_TENSORS:,} tensors")
    end = 0
    for name, begin, stop in sorted(_ranges(header), key=lambda found: found[1:]):
        check(begin == end, f"the data of {shown(name)} overlaps other data or leaves a gap")
        end = stop
    check(8 + length + end == path.stat().st_size, "it has more or less data than it declares")
    return metadata, list(header)


def _ranges(header: Mapping[str, Any]) -> list[tuple[str, int, int]]:
    """The byte range of each tensor."""
    found = []
    for name, said in header.items():
        match said:
            case {"dtype": str(dtype), "shape": [*sides], "data_offsets": [int(begin), int(end)]}:
                possible = all(type(side) is int and 0 <= side < 2**40 for side in sides)
                check(possible and len(sides) <= 16, f"{shown(name)} has an invalid shape")
                check(dtype in _BYTES, f"{shown(name)} has the unknown dtype {shown(dtype)}")
                size = math.prod(sides) * _BYTES[dtype]
                check(0 <= begin <= end, f"{shown(name)} has an invalid position")
                check(size == end - begin, f"the data of {shown(name)} does not match its shape")
                found.append((name, begin, end))
            case _:
                raise Refused(f"{shown(name)} is described in an unknown way")
    return found
