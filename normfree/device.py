"""Where to compute."""

from __future__ import annotations

import torch

from normfree.errors import UserError


def find_device(name: str) -> str:
    """The device of a ``--device``, after a try that it is there.

    Args:
        name: ``cpu``, ``cuda``, ``cuda:1``, …; ``auto`` is an accelerator if there is one.

    Raises:
        UserError: nothing can be computed there.

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
