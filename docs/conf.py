"""Sphinx settings. The site needs no network: formulas are MathML, and the theme brings its own fonts and styles."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

import meanfield  # noqa: E402

project = "meanfield"
version = release = meanfield.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "extension", "formulas"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
myst_enable_extensions = ["dollarmath"]
html_math_renderer = "mathml"
suppress_warnings = ["ref.python"]  # two classes of one name in a signature, which has only the name
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
html_theme = "furo"
html_title = f"meanfield {release}"
html_static_path = ["style"]
html_css_files = ["pages.css"]
html_show_sphinx = html_show_copyright = False
smartquotes = False  # a prime is no apostrophe
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}
pygments_style, pygments_dark_style = "friendly", "monokai"
