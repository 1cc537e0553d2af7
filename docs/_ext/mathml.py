"""Equations as MathML, which browsers render themselves, without a script or a network."""

from __future__ import annotations

from html import escape

from docutils import nodes
from docutils.utils.math import MathError, latex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

logger = logging.getLogger(__name__)


def mathml(text: str, node: nodes.Node, display: bool) -> str:
    """An equation in TeX as a ``<math>`` element."""
    try:
        return latex2mathml.tex2mathml(text, as_block=display)
    except MathError as error:
        logger.warning("%s: %s", error, text, location=node)
        return f"<code>{escape(text)}</code>"


def inline(self: HTML5Translator, node: nodes.math) -> None:
    """An equation in a line of text."""
    self.body.append(mathml(node.astext(), node, False))
    raise nodes.SkipNode


def block(self: HTML5Translator, node: nodes.math_block) -> None:
    r"""An equation on lines of its own; ``&`` and ``\\`` align them."""
    text = node.astext().strip()
    if r"\\" in text and r"\begin" not in text:
        text = rf"\begin{{aligned}}{text}\end{{aligned}}"
    equation = mathml(text, node, True)
    kind = "math aligned" if "aligned" in text else "math"
    self.body.append(self.starttag(node, "div", CLASS=kind) + equation + "</div>\n")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer under the name ``mathml``."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
