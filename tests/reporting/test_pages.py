"""Pages of the report: captions beside pictures and above tables."""

import base64
from types import SimpleNamespace

import jinja2
import pytest
from docutils.utils import SystemMessage

from reporting import pages

SNAKEMAKE = SimpleNamespace(config={"scale": "tiny", "experiments": {}}, wildcards=None)


def caption(tmp_path, text):
    path = tmp_path / "caption.rst"
    path.write_text(text, "utf-8")
    return pages.caption(path, SNAKEMAKE)


def test_captions_are_filled_in_and_rendered(tmp_path):
    found = caption(tmp_path, '**Figure 1.** ``a < b`` at {{ snakemake.config["scale"] }}, 95 %.')
    assert "<strong>Figure 1.</strong>" in found
    assert "a &lt; b" in found
    assert "at tiny, 95 %." in found


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('{{ snakemake.config["experiments"]["gone"]["tasks"] }}', jinja2.UndefinedError),
        ("**not closed", SystemMessage),
        (".. include:: /etc/hostname", SystemMessage),
    ],
)
def test_a_faulty_caption_stops_the_rule(tmp_path, text, error):
    with pytest.raises(error):
        caption(tmp_path, text)


def test_a_page_holds_the_picture_and_its_caption(tmp_path):
    png = tmp_path / "figure.png"
    png.write_bytes(bytes(range(256)))
    page = pages.picture(png, "figure <1>", "<p>words</p>")
    assert "<title>figure &lt;1&gt;</title>" in page
    assert "<figcaption><p>words</p></figcaption>" in page
    encoded = page.partition("base64,")[2].partition('"')[0]
    assert base64.b64decode(encoded) == png.read_bytes()


def test_a_tables_caption_is_below_its_title():
    page = pages.table("<html><h1>Table 4</h1><table></table></html>", "<p>words</p>")
    assert page.index("Table 4") < page.index("words") < page.index("<table>")
    with pytest.raises(ValueError, match="no title"):
        pages.table("<table></table>", "<p>words</p>")
