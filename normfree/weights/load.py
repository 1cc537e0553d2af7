"""Put the weights of a file into a model: all of them, or none and a list of what does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from normfree.errors import UserError


def load_state_dict(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Copy a state dict into a model, once it is known to fit as a whole.

    Args:
        model: changed in place.
        state: parameter name → value.
        source: what to call the state in a message.

    Raises:
        UserError: names that are missing or unexpected, or shapes that differ; the model is left
            as it was.

    Example:
        >>> load_state_dict(nn.Linear(2, 1), {"weight": nn.Linear(2, 3).weight}, "a file")
        Traceback (most recent call last):
        normfree.errors.UserError: a file does not fit Linear: missing bias; wrong shape weight ...
    """
    own = model.state_dict()
    wrong = [
        f"{name} (file {_shape(state[name])}, model {_shape(own[name])})"
        for name in own.keys() & state.keys()
        if state[name].shape != own[name].shape
    ]
    problems = {
        "missing": sorted(own.keys() - state.keys()),
        "unexpected": sorted(state.keys() - own.keys()),
        "wrong shape": sorted(wrong),
    }
    if any(problems.values()):
        listed = [f"{kind} {_abridged(names)}" for kind, names in problems.items() if names]
        raise UserError(f"{source} does not fit {type(model).__name__}: " + "; ".join(listed))
    model.load_state_dict(state)


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load a ``.safetensors`` file into a model.

    Args:
        model: changed in place.
        path: of the file.

    Raises:
        UserError: the file is absent, damaged or of another model.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no weights at {path}: expected a .safetensors file")
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"cannot read weights from {path}: {error}") from error
    load_state_dict(model, state, str(path))


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "scalar"


def _abridged(names: list[str], limit: int = 8) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
