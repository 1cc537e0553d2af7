"""Device selection."""

from __future__ import annotations

import torch

from normfree.errors import UserError


def find_device(name: str) -> str:
    """Resolve ``--device`` and check that the device works.

    Args:
        name: ``cpu``, ``cuda``, ``cuda:1``, …; ``auto`` selects an accelerator if there is one.

    Raises:
        UserError: the device is not available.

    >>> find_device("cpu")
    'cpu'
    """
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return "cpu" if accelerator is None else accelerator.type
    try:
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"cannot compute on --device {name}: {reason}; try cpu or auto") from error
    return name
