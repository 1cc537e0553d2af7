"""Reports of finished runs."""

from normfree.report.curves import plot_curves

__all__ = ["plot_curves"]
