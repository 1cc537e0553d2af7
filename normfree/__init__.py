"""Image recognition without normalization layers, in PyTorch."""

from normfree.errors import BadImageError, UserError
from normfree.factory import create_model
from normfree.models import fold, list_models

__all__ = ["BadImageError", "UserError", "create_model", "fold", "list_models"]
__version__ = "0.1.0"
