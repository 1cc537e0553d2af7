"""Image recognition without normalization layers, in PyTorch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from normfree.errors import BadImageError, UserError
    from normfree.factory import create_model
    from normfree.inference.load import load
    from normfree.inference.predictor import Predictor
    from normfree.models import list_models
    from normfree.models.fold import fold

__all__ = [
    "BadImageError",
    "Predictor",
    "UserError",
    "create_model",
    "fold",
    "list_models",
    "load",
]
__version__ = "0.1.0"

_HOME = {
    "BadImageError": "errors",
    "Predictor": "inference",
    "UserError": "errors",
    "create_model": "factory",
    "fold": "models",
    "list_models": "models",
    "load": "inference",
}


def __getattr__(name: str) -> Any:
    """Import torch when a name that needs it is used, so that ``normfree --help`` is quick."""
    if name not in _HOME:
        raise AttributeError(f"module 'normfree' has no attribute {name!r}")
    return getattr(import_module(f"normfree.{_HOME[name]}"), name)
