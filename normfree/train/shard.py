"""What one rank writes of a checkpoint: a ``.safetensors`` file, hashed while it is written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from normfree.train.store import Writable
from normfree.weights.checkpoint_directory import checksum

_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def write_shard(file: Writable, tensors: Mapping[str, Tensor]) -> str:
    """Write tensors of the host, without a copy of any of them; returns the checksum of the file.

    ``safetensors.torch.save_file`` makes the same file, but only at a path, and it would have to be
    read again for its checksum.

    >>> import io
    >>> from safetensors.torch import load
    >>> file = io.BytesIO()
    >>> digest = write_shard(file, {"w": torch.ones(2), "step": torch.tensor(3)})
    >>> digest == checksum(file.getvalue()).hexdigest(), load(file.getvalue())["w"]
    (True, tensor([1., 1.]))
    """
    header, end = {}, 0
    ordered = sorted(tensors.items(), key=lambda item: -item[1].element_size())  # all aligned
    for name, tensor in ordered:
        begin, end = end, end + tensor.nbytes
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    digest = checksum()
    parts: Iterator[bytes | memoryview] = chain(
        (len(text).to_bytes(8, "little"), text), (_bytes(x) for _, x in ordered)
    )
    for part in parts:
        file.write(part)
        digest.update(part)
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> memoryview:
    flat: Any = tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
    return memoryview(flat)
