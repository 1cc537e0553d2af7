"""Networks to deploy: files that run without this package, and say how they are to be fed."""

from normfree.export.files import SUFFIXES, export_model, open_exported
from normfree.export.int8 import quantize_onnx

__all__ = ["SUFFIXES", "export_model", "open_exported", "quantize_onnx"]
