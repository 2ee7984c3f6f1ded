"""Sphinx's settings for the site; `python -m publishing.site` copies this folder, adds the pages of
results and builds it.
"""

import re
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert

project = "PCGrad, replicated"
author = "The PCGrad replication authors"
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "myst_nb"]
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # notebooks come executed, from the pipeline
nb_render_markdown_format = "myst"  # formulas in the outputs of cells too
nb_mime_priority_overrides = [("html", "text/latex", 0)]
html_theme = "pydata_sphinx_theme"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["ledger.js"]
html_title = "PCGrad"
html_show_sourcelink = False
html_copy_source = False
html_math_renderer = "mathml"
html_context = {"default_mode": "light"}
html_theme_options = {"show_prev_next": False, "navigation_with_keys": False, "show_toc_level": 2}
autodoc_typehints = "description"
autodoc_member_order = "bysource"
suppress_warnings = ["myst.xref_missing", "mystnb.unknown_mime_type", "myst.header"]
exclude_patterns = ["howto/commands.md", "howto/contributing.md", "_files"]


def _inline(self: Any, node: nodes.Node) -> None:
    self.body.append(convert(node.astext(), display="inline"))
    raise nodes.SkipNode


def _block(self: Any, node: nodes.Node) -> None:
    self.body.append(f'<div class="math">{convert(node.astext(), display="block")}</div>')
    raise nodes.SkipNode


def _indent_arguments(
    _app: Any, _what: str, _name: str, _object: Any, _options: Any, lines: list[str]
) -> None:
    """Indent the continuation lines of `Args:`, which a formatter may have moved to the margin."""
    inside = False
    for number, line in enumerate(lines):
        if line and not line.startswith(" "):
            inside = line.strip() in ("Args:", "Raises:")
        elif inside and line.strip() and not re.match(r" {4}[*\w, ]+: ", line):
            lines[number] = " " * 8 + line.strip()
        # |w| is an absolute value, not a substitution.
        lines[number] = re.sub(r"(?<![\w`|])\|(\w+)\|(?![\w`|])", r"\\|\1\\|", lines[number])


def setup(app: Any) -> None:
    """Write formulas as MathML, which browsers show without scripts and without the network."""
    app.connect("autodoc-process-docstring", _indent_arguments, priority=400)  # before napoleon
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
