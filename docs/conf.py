"""Sphinx configuration of the site."""

import sys
from pathlib import Path

import normfree

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "normfree"
author = "the normfree authors"
release = normfree.__version__
extensions = [
    "mathml",
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
html_math_renderer = "mathml"
html_theme = "pydata_sphinx_theme"  # shows the contents of a page from 1200 pixels on
html_title = "normfree"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_sidebars = {page: [] for page in ("install", "tutorial", "changes", "citing")}  # no section
html_context = {"default_mode": "auto"}
html_theme_options = {
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
copybutton_prompt_text = "$ "
exclude_patterns = ["_build", "_ext"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_custom_sections = [("Shape", "params_style"), "Source", "Differs from", "Initialisation"]
napoleon_use_ivar = True
