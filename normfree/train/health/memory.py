"""What to say when memory is not enough: how much there is, and which settings take less."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from normfree.errors import UserError, one_line
from normfree.train.health.disk import size
from normfree.train.recipe import Recipe
from normfree.train.resolve import Resolved

_CPU = re.compile(r"can't allocate memory|not enough memory|std::bad_alloc|Cannot allocate memory")
_ASKED = re.compile(r"tried to allocate ([\d.]+ ?[KMGT]?i?B(?:ytes)?)", re.I)


@contextmanager
def enough_memory(resolved: Resolved, world: int = 1) -> Iterator[None]:
    """Turn a lack of memory into an error for a person, with numbers and what helps.

    Args:
        resolved: the configuration.
        world: number of ranks.

    Raises:
        UserError: memory was not enough.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        side, device = resolved.train_size, torch.device(resolved.device)
        images = math.ceil(resolved.recipe.batch.size / resolved.recipe.batch.accumulate / world)
        said = ", ".join([*_asked(error), *_numbers(device)])
        raise UserError(
            f"out of memory on {device} with {images} images of {side} × {side} pixels at a time "
            f"({said}). {lighter(resolved.recipe, world)}. Checkpoints stay"
        ) from error


def lighter(recipe: Recipe, world: int = 1) -> str:
    """What takes less memory, as it is typed.

    >>> from normfree.train.components import Batch, Data, Network
    >>> data, model = Data(source="digits"), Network(name="nfnet_f0")
    >>> print(lighter(Recipe(data=data, model=model, batch=Batch(size=128))))
    The same batch in less memory: --accumulate 2, --precision bfloat16,
    --activation-checkpointing; a smaller batch: --batch-size 64
    """
    batch, halves = recipe.batch, []
    if 2 * batch.accumulate * world <= batch.size:
        halves.append(f"--accumulate {2 * batch.accumulate}")
    if recipe.compute.autocast is None:
        halves.append("--precision bfloat16")
    if not recipe.model.activation_checkpointing:
        halves.append("--activation-checkpointing")
    if world > 1 and recipe.ranks.kind == "ddp":
        halves.append("--parallel fsdp")
    half = max(batch.size // 2, 1)
    if not halves:
        return f"A smaller batch takes less: --batch-size {half}"
    same = ", ".join(halves)
    return f"The same batch in less memory: {same}; a smaller batch: --batch-size {half}"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory was not enough, on a GPU or on the host.

    >>> is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ..."))
    True
    >>> is_out_of_memory(RuntimeError("size mismatch"))
    False
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and _CPU.search(str(error)) is not None


def _asked(error: BaseException) -> list[str]:
    """What was asked for, if the error tells."""
    found = _ASKED.search(one_line(error))
    return [f"asked for {found[1]}"] if found else []


def _numbers(device: torch.device) -> list[str]:
    """What is used, and what there is."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return [
            f"{size(torch.cuda.max_memory_allocated(device))} allocated at most",
            f"{size(torch.cuda.memory_reserved(device))} reserved",
            f"{size(free)} of {size(total)} free",
        ]
    said = []
    with suppress(OSError, LookupError, ValueError):  # Linux tells, others do not
        process = dict(line.split(":", 1) for line in _lines("/proc/self/status"))
        machine = dict(line.split(":", 1) for line in _lines("/proc/meminfo"))
        said.append(f"{_kilobytes(process['VmHWM'])} used at most")
        left, whole = (_kilobytes(machine[name]) for name in ("MemAvailable", "MemTotal"))
        said.append(f"{left} of {whole} free")
    return said


def _lines(path: str) -> list[str]:
    return [line for line in Path(path).read_text().splitlines() if ":" in line]


def _kilobytes(text: str) -> str:
    return size(1024 * int(text.split(maxsplit=1)[0]))
