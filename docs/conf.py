"""Settings of the site that `make docs` builds from these pages: Sphinx, MyST for Markdown, the theme furo."""

from importlib.metadata import version as version_of

project = "Tailforge"
author = "The Tailforge authors"
version = release = version_of("tailforge")

extensions = ["myst_parser", "sphinx_copybutton"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["benchmarks/*.json"]
nitpicky = True

# Headings down to the fourth level get the anchors that GitHub gives them, so that links work in both places.
myst_heading_anchors = 4

html_theme = "furo"
html_title = "Tailforge"
html_show_sourcelink = False
pygments_style = "friendly"
