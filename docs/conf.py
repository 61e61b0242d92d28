"""How Sphinx builds the documentation: `make docs`."""

from visir import __version__

project = "visir"
release = version = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
autodoc_typehints = "description"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
exclude_patterns = ["_build", "tables"]
html_theme = "furo"
html_title = f"visir {__version__}"
