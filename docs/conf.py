"""Sphinx configuration of the site."""

import normfree

project = "normfree"
author = "the normfree authors"
release = normfree.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
]
html_theme = "furo"
html_title = "normfree"
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_custom_sections = [("Shape", "params_style"), "Source", "Differs from", "Initialisation"]
napoleon_use_ivar = True
