"""Batch-normalized networks rewritten as normalizer-free ones."""

from normfree.conversion.network import Converted, convert
from normfree.conversion.report import Change, Left, Report

__all__ = ["Change", "Converted", "Left", "Report", "convert"]
