"""The site: every link leads somewhere, every formula and figure is there, it reads without the
network, and in a narrow window. The checks in a browser need Chromium."""

import re
import shutil
from html.parser import HTMLParser

import pytest

pytest.importorskip("sphinx", reason="the docs extra is not installed")
pytest.importorskip("myst_nb", reason="the docs extra is not installed")
pytest.importorskip("latex2mathml", reason="the docs extra is not installed")

from publishing import site

pytestmark = pytest.mark.long

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
WIDTHS = (1280, 400)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The site, built from the published results."""
    return site.build(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def pages(built):
    return sorted(p for p in built.rglob("*.html") if "_static" not in p.parts)


class Links(HTMLParser):
    """The targets of links and pictures, the ids, and the classes of a page."""

    def __init__(self, text):
        super().__init__()
        self.links, self.ids, self.remote = [], set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.ids |= {found["id"]} if found.get("id") else set()
        for key in ("href", "src"):
            value = found.get(key)
            if not value:
                continue
            if value.startswith(("http:", "https:", "//")):
                # A link to follow is no dependency; a script, style or picture would be one.
                self.remote += (
                    [value] if tag in ("script", "img") or found.get("rel") == "stylesheet" else []
                )
            elif not value.startswith(("mailto:", "data:", "javascript:")):
                self.links.append(value)


def test_every_internal_link_and_picture_exists_and_nothing_needs_the_network(pages):
    parsed = {page: Links(page.read_text(encoding="utf-8")) for page in pages}
    broken = []
    for page, found in parsed.items():
        assert found.remote == [], page
        for link in found.links:
            path, _, anchor = link.partition("#")
            target = (page.parent / path.partition("?")[0]).resolve() if path else page
            there = target.is_file() and (
                not anchor or target not in parsed or anchor in parsed[target].ids
            )
            broken += [] if there else [(page.name, link)]
    assert broken == []


def test_there_is_a_page_for_every_figure_and_table_and_it_says_how_to_make_it(built):
    scales = site.findings.read((site.ROOT / "results/published").glob("*"))
    for name in site.outputs(scales):
        text = (built / "results" / f"{name}.html").read_text(encoding="utf-8")
        words = re.sub(r"<[^>]+>", "", text)
        assert "snakemake --cores all --configfile" in words, name
        assert "sha256" in text, name
    # Captions name settings that the config leaves at their defaults.
    words = (built / "results" / "figure_4.html").read_text(encoding="utf-8")
    assert "PCGrad on reach-v3 and button-press-topdown-v3" in " ".join(words.split())


def test_formulas_are_mathml_and_no_raw_tex_is_left(pages):
    text = "".join(page.read_text(encoding="utf-8") for page in pages)
    assert text.count("<math") > 3
    words = re.sub(
        r"<(script|style|pre|code).*?</\1>|<annotation.*?</annotation>", "", text, flags=re.S
    )
    assert not re.search(r"\\(frac|nabla|theta|mathrm|sum)\b", words)


def test_the_ledger_has_every_claim_with_its_verdict(built):
    scales = site.findings.read((site.ROOT / "results/published").glob("*"))
    text = (built / "results" / "ledger.html").read_text(encoding="utf-8")
    assert text.count("<tr data-verdict=") == len(site.findings.ledger(scales))


# ------------------------------------------------------------------ in a browser


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine")
    with api.sync_playwright() as play:
        started = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.mark.parametrize("width", WIDTHS)
def test_no_page_overflows_or_complains(browser, pages, width):
    tab = browser.new_page(viewport={"width": width, "height": 900})
    faults = []
    tab.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
    tab.on("pageerror", lambda error: faults.append(str(error)))
    for page in pages:
        if page.name in ("genindex.html", "py-modindex.html") or "_modules" in page.parts:
            continue
        tab.goto(page.as_uri())
        found = tab.evaluate(
            """() => ({wide: document.documentElement.scrollWidth - window.innerWidth,
            broken: [...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src),
            flat: [...document.querySelectorAll('math')].filter(m =>
                m.offsetParent !== null && m.getBoundingClientRect().height === 0).length})"""
        )
        faults += [
            f"{page.name}: {key} {value}"
            for key, value in found.items()
            if value and (key != "wide" or value > 0)
        ]
    tab.close()
    assert faults == []


def test_search_finds_pcgrad_and_the_ledger_filters(browser, built):
    tab = browser.new_page()
    tab.goto((built / "search.html").as_uri() + "?q=PCGrad")
    tab.wait_for_selector("#search-results li", timeout=20_000)
    assert tab.locator("#search-results li").count() > 3
    tab.goto((built / "results" / "ledger.html").as_uri())
    rows = tab.locator("tr[data-verdict]")
    tab.click('button[data-verdict="replicated"]')
    shown = [
        rows.nth(k).get_attribute("data-verdict")
        for k in range(rows.count())
        if rows.nth(k).is_visible()
    ]
    assert set(shown) == {"replicated"}
    tab.close()


def test_a_reader_reaches_the_number_behind_a_sentence_in_two_clicks(browser, built):
    tab = browser.new_page()
    tab.goto((built / "index.html").as_uri())
    tab.locator("article >> text=Findings").first.click()
    tab.locator('article a[href*="table_4"]').first.click()
    assert "table_4" in tab.url
    assert "95.4" in tab.inner_text("article")
    tab.close()
