"""Pages of Snakemake's report: a picture or a table with its caption beside it."""

import base64
import html
from pathlib import Path
from typing import Any

import docutils.core
import jinja2

_STYLE = (
    "body{font:14px sans-serif;margin:1em}"
    "figure{display:flex;flex-wrap:wrap;gap:1.5em;margin:0}"
    "img{flex:3 1 30em;min-width:0;max-width:100%;object-fit:contain;align-self:flex-start}"
    "figcaption{flex:1 1 18em;max-width:40em}"
)


def caption(template: Path, snakemake: Any) -> str:
    """Fill in a caption as Snakemake's report does, and render it as HTML.

    Args:
        template: RST with Jinja's fields, which read `snakemake`.
        snakemake: Has `config` and `wildcards`.
    """
    text = jinja2.Template(template.read_text("utf-8"), undefined=jinja2.StrictUndefined).render(
        snakemake=snakemake
    )
    # Errors in the RST stop the rule instead of being printed inside the page.
    options = {"halt_level": 2, "report_level": 5, "file_insertion_enabled": False}
    parts = docutils.core.publish_parts(text, writer="html5", settings_overrides=options)
    return str(parts["fragment"])


def picture(png: Path, title: str, beside: str) -> str:
    """One self-contained page: the picture, and its caption (HTML) to its right or below."""
    content = base64.b64encode(png.read_bytes()).decode("ascii")
    name = html.escape(title)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{name}</title><style>{_STYLE}</style><figure>"
        f'<img alt="{name}" src="data:image/png;base64,{content}">'
        f"<figcaption>{beside}</figcaption></figure></html>\n"
    )


def table(page: str, above: str) -> str:
    """A table's page with its caption (HTML) below the title."""
    head, title, rest = page.partition("</h1>")
    if not title:
        raise ValueError("a table's page has no title")
    return f'{head}{title}<div style="max-width:60em">{above}</div>{rest}'
