"""Draw the residual block of an NFNet: ``python docs/figures/block.py``.

Writes ``docs/_static/block.svg``, after figures 5 and 6 of the paper and the authors' code.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

BRANCH = [
    ("γ · GELU,  × β", "#e8eef6"),
    ("conv 1×1,  w → w/2", "#cfe0f3"),
    ("γ · GELU", "#e8eef6"),
    ("conv 3×3,  groups of 128", "#cfe0f3"),
    ("γ · GELU", "#e8eef6"),
    ("conv 3×3,  groups of 128", "#cfe0f3"),
    ("γ · GELU", "#e8eef6"),
    ("conv 1×1,  w/2 → w", "#cfe0f3"),
    ("squeeze-and-excite:  × 2σ(…)", "#f6e3cc"),
    ("× α,  × SkipInit gain", "#e2f0d9"),
]
STEP, WIDTH = 0.62, 2.7


def box(axis: Axes, x: float, y: float, text: str, color: str, width: float = WIDTH) -> None:
    """A labeled box with its center at (x, y)."""
    patch = mpl.patches.FancyBboxPatch(
        (x - width / 2, y - 0.18), width, 0.36, "round,pad=0.02", fc=color, ec="#35506e", lw=0.8
    )
    axis.add_patch(patch)
    axis.text(x, y, text, ha="center", va="center", fontsize=8)


def arrow(axis: Axes, *points: tuple[float, float]) -> None:
    """A line through points that ends in an arrow."""
    axis.plot(*zip(*points, strict=True), color="#35506e", lw=0.9, solid_capstyle="butt")
    axis.annotate("", points[-1], points[-2], arrowprops={"arrowstyle": "->", "color": "#35506e"})


def block(axis: Axes, x: float, title: str, transition: bool) -> None:
    """One block, from its input at the top to its output at the bottom."""
    top, side = 0.0, x + 2.35
    axis.text(x + 0.6, top + 0.95, title, ha="center", fontsize=10, weight="bold")
    axis.text(x, top + 0.5, "input", ha="center", fontsize=8)
    arrow(axis, (x, top + 0.42), (x, top - STEP + 0.24))
    for place, (text, color) in enumerate(BRANCH, start=1):
        y = top - STEP * place
        if transition:
            text = (
                text.replace("3×3,  groups of 128", "3×3 / 2,  groups of 128")
                if place == 4
                else text
            )
            text = text.replace("w → w/2", "in → w/2")
        box(axis, x, y, text, color)
        arrow(axis, (x, y - 0.2), (x, y - STEP + 0.22))
    end = top - STEP * (len(BRANCH) + 1)
    axis.text(x, end, "+", ha="center", va="center", fontsize=13)
    arrow(axis, (x, end - 0.14), (x, end - 0.5))
    axis.text(x, end - 0.72, "output", ha="center", fontsize=8)
    if transition:  # the shortcut starts after the activation, so that the variance is reset
        after = top - STEP * 1.5
        box(axis, side, after - 1.0, "average 2×2", "#e8eef6", 1.5)
        box(axis, side, after - 1.0 - STEP, "conv 1×1", "#cfe0f3", 1.5)
        arrow(axis, (x, after), (side, after), (side, after - 0.8))
        arrow(axis, (side, after - 1.2), (side, after - 0.8 - STEP))
        arrow(axis, (side, after - 1.2 - STEP), (side, end), (x + 0.15, end))
    else:
        arrow(axis, (x, top + 0.2), (side - 0.4, top + 0.2), (side - 0.4, end), (x + 0.15, end))


def main() -> None:
    """Write the figure."""
    mpl.rcParams.update({"svg.hashsalt": "block", "svg.fonttype": "none"})
    figure, axis = plt.subplots(figsize=(7.4, 6.2))
    block(axis, 0, "first block of a stage", transition=True)
    block(axis, 5.6, "other blocks", transition=False)
    axis.set(xlim=(-1.7, 8.3), ylim=(-7.8, 1.3))
    axis.set_aspect("equal")
    axis.axis("off")
    figure.tight_layout()
    path = Path(__file__).parents[1] / "_static" / "block.svg"
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
