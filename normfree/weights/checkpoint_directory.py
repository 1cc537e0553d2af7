"""The directory of a checkpoint: tensors as ``.safetensors``, the rest as JSON, and checksums.

====================================  ============================================================
``state.json``                        step, configuration, card, and all values that are no tensors
``shard-00000-of-00002.safetensors``  the tensors that one rank wrote, whole or some of their rows
``XXH128SUMS``                        as ``xxh128sum -c`` reads it; written last
====================================  ============================================================

A tensor in ``state`` is ``{"$tensor": NAME}``; ``tensors`` says which rows of it are in which file.
Nothing here can name code, and nothing is read before all checksums agree. They are to notice
damage, and to take little from the steps that go on meanwhile: XXH3 with 128 bits takes a sixteenth
of the time of SHA-256. Neither says who wrote a file.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any, NoReturn

import torch
import xxhash
from torch import Tensor

from normfree.errors import UserError, one_line
from normfree.weights.safetensors_file import read_safetensors
from normfree.weights.unpickle import Refused, check, shown

#: What makes a checksum, used as those of :mod:`hashlib`.
checksum = xxhash.xxh3_128

STATE = "state.json"
SUMS = "XXH128SUMS"
#: Key of the only member of what stands for a tensor, and for a dictionary with numbers as keys.
TENSOR, NUMBERED = "$tensor", "$numbered"

_SUMS = re.compile(rb"(?:[0-9a-f]{32}  [A-Za-z0-9][A-Za-z0-9._-]*\n)+")
_LARGEST = 32 << 20  # bytes of JSON: enough for the names of a million classes


def read_checkpoint_directory(path: Path, *, verified: bool = False) -> dict[str, Any]:
    """The content of a checkpoint, with whole tensors on the CPU.

    Args:
        path: of the directory.
        verified: whether its checksums were compared already.

    Raises:
        UserError: it is damaged, or was crafted.
    """
    try:
        files = _listed(path) if verified else verify(path)
        return _content(path, files)
    except Refused as reason:
        raise UserError(f"{path} is damaged: {reason}") from None
    except (OSError, RecursionError, ValueError) as error:  # a UserError of a file in it, too
        raise UserError(f"{path} is damaged: {one_line(error)}") from None


def verify(path: Path, *, part: int = 0, parts: int = 1) -> list[str]:
    """Compare the files of a checkpoint with their checksums.

    Args:
        path: of the directory.
        part: which share of the files to read, from 0.
        parts: number of shares.

    Returns:
        The names of all files but ``XXH128SUMS``.

    Raises:
        Refused: says which file differs, is absent, or should not be there.
    """
    sums = read_sums(path)
    names = _listed(path)
    absent, unknown = sums.keys() - {*names}, {*names} - sums.keys()
    check(not absent, f"{', '.join(sorted(absent)[:3])} is missing")
    check(not unknown, f"{shown(min(unknown, default=''))} does not belong to it")
    for name in names[part::parts]:
        with (path / name).open("rb") as file:
            found = hashlib.file_digest(file, checksum).hexdigest()
        check(found == sums[name], f"{name} does not match its checksum")
    return names


def read_sums(path: Path) -> dict[str, str]:
    """Name → XXH128 of the files of a checkpoint.

    Raises:
        Refused: the list is absent or damaged.
    """
    try:
        text = _small(path / SUMS)
    except OSError:
        raise Refused(f"it has no {SUMS}, so it was not written to its end") from None
    check(_SUMS.fullmatch(text), f"{SUMS} is damaged")
    sums = {line[34:].decode(): line[:32].decode() for line in text.splitlines()}
    check(text == sums_text(sums), f"{SUMS} is damaged")
    return sums


def sums_text(sums: Mapping[str, str]) -> bytes:
    r"""The inverse of :func:`read_sums`.

    >>> sums_text({"b": "2" * 4, "a": "1" * 4})
    b'1111  a\n2222  b\n'
    """
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())).encode()


def _listed(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir() if entry.name != SUMS)


def _content(path: Path, files: Iterable[str]) -> dict[str, Any]:
    content = parse_state(_small(path / STATE))
    shards = {name: read_safetensors(path / name)[0] for name in files if name != STATE}
    described = content.pop("tensors", None)
    check(isinstance(described, dict), f"{STATE} does not say where tensors are")
    tensors = {name: _whole(name, said, shards) for name, said in described.items()}
    return {name: _filled(value, tensors) for name, value in content.items()}


def _small(path: Path) -> bytes:
    check(path.stat().st_size <= _LARGEST, f"{path.name} has more than {_LARGEST:,} bytes")
    return path.read_bytes()


def parse_state(text: bytes) -> dict[str, Any]:
    """All of a checkpoint that is no tensor.

    Raises:
        Refused: it is no JSON object.
    """
    try:
        content = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise Refused(f"{STATE} is not valid JSON") from None
    check(isinstance(content, dict), f"{STATE} is not a JSON object")
    return dict(content)


def _no_number(text: str) -> NoReturn:
    raise ValueError(text)


def _whole(name: str, said: object, shards: Mapping[str, Mapping[str, Tensor]]) -> Tensor:
    """A tensor, from its rows in one file or several."""
    match said:
        case {"shape": [*shape], "rows": [*rows]} if rows:
            pass
        case _:
            raise Refused(f"{shown(name)} is described in an unknown way")
    parts: dict[str, tuple[int, Tensor]] = {}
    for row in rows:
        match row:
            case [str(file), int(start)] if name in shards.get(file, ()) and file not in parts:
                parts[file] = start, shards[file][name]
            case _:
                raise Refused(f"{shown(name)} is not where {STATE} says")
    ordered = sorted(parts.values(), key=lambda part: part[0])
    tensors = [tensor for _, tensor in ordered]
    whole = tensors[0]
    if len(tensors) > 1:
        alike = all(x.ndim > 0 and _row(x) == _row(whole) for x in tensors)
        check(alike, f"the rows of {shown(name)} are of several kinds")
        whole = torch.cat(tensors)
    starts = accumulate((len(x) for x in tensors[:-1]), initial=0)
    complete = [start for start, _ in ordered] == list(starts) and list(whole.shape) == shape
    check(complete, f"rows of {shown(name)} are missing")
    return whole


def _row(tensor: Tensor) -> tuple[torch.dtype, torch.Size]:
    return tensor.dtype, tensor.shape[1:]


def _filled(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Values with tensors where their names are."""
    if isinstance(value, list):
        return [_filled(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    match value:
        case {"$tensor": str(name)} if len(value) == 1:
            check(name in tensors, f"it lacks the tensor {shown(name)}")
            return tensors[name]
        case {"$numbered": dict(inner)} if len(value) == 1:
            check(all(map(_is_number, inner)), "a number in it is none")
            return {int(key): _filled(item, tensors) for key, item in inner.items()}
    return {key: _filled(item, tensors) for key, item in value.items()}


def _is_number(text: str) -> bool:
    return re.fullmatch(r"0|[1-9][0-9]{0,17}", text) is not None
