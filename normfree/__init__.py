"""Image recognition without normalization layers, in PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normfree.lazy import lazy

if TYPE_CHECKING:
    from normfree.conversion import convert
    from normfree.errors import BadImageError, UserError
    from normfree.factory import create_model
    from normfree.inference.load import load
    from normfree.inference.predictor import Predictor
    from normfree.models import list_models
    from normfree.models.folding import fold

__all__ = [
    "BadImageError",
    "Predictor",
    "UserError",
    "convert",
    "create_model",
    "fold",
    "list_models",
    "load",
]
__version__ = "0.1.0"

__getattr__ = lazy(
    __name__,
    {
        "conversion": "convert",
        "errors": "BadImageError UserError",
        "factory": "create_model",
        "inference": "Predictor load",
        "models": "fold list_models",
    },
)
