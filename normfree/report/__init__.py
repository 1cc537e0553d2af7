"""What a finished run looks like."""

from normfree.report.curves import plot_curves

__all__ = ["plot_curves"]
