"""The article: typeset from files, of the length that ReScience C asks for, no number typed."""

import json
import re
import shutil
from pathlib import Path

import pytest

pytest.importorskip("typst", reason="typst is not installed")

import typst

from publishing import article, front
from reporting import findings

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[2]
LAPTOP = ROOT / "results" / "published" / "laptop"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp("article")
    article.write([LAPTOP], out)
    return out


def pages(pdf):
    return len(re.findall(rb"/Type\s*/Page\b(?!s)", pdf))


def test_it_has_8_to_14_pages(written):
    assert 8 <= pages((written / "article.pdf").read_bytes()) <= 14


def test_it_holds_the_verdicts_and_a_sentence_for_every_claim_that_failed(written):
    data = json.loads((written / "article.json").read_text(encoding="utf-8"))
    claims = findings.ledger(findings.read([LAPTOP]))
    # The paper's claims and ours are counted apart.
    for word, number in findings.count(claims).items():
        counts = re.findall(rf"(\d+) {word}(?= at|[,.])", data["verdicts"])
        assert sum(map(int, counts)) == number, word
    lost = claims[claims["verdict"] == "not replicated"]
    assert len(data["failed"]) == len(lost)
    assert len(data["open"]) == (claims["verdict"] == "not tested at this scale").sum()


def test_the_prose_of_the_template_states_no_result():
    """Numbers of results come from article.json; the template may name constants of the method."""
    text = (ROOT / "report" / "article.typ").read_text(encoding="utf-8")
    prose = re.sub(r"#(set|show|let|figure|align|block|text|v|for|if)\b[^\n]*", "", text)
    prose = re.sub(r"\w+: ?[\d.]+(mm|pt|em|%|fr)?", "", prose)
    numbers = set(re.findall(r"(?<![\w.])\d+(?:\.\d+)?%?", prose))
    allowed = {"2020", "2", "95%", "10", "3", "50", "1", "8", "100", "0"}  # the method's constants
    assert numbers <= allowed


def test_the_front_page_has_the_counts_and_ten_headline_numbers():
    text = front.front(LAPTOP)
    results = findings.read([LAPTOP])
    for word, number in findings.count(findings.ledger(results)).items():
        assert (f"* - {word}\n     - {number}" in text) == (number > 0)
    shown = findings.headlines(results)
    assert len(shown) == 10
    assert all(claim in text.replace("\\", "") for claim in shown["claim"])


def test_a_folder_without_a_ledger_is_refused_in_one_line(tmp_path, capsys):
    assert article.main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: no claims.csv in")


def test_every_table_has_a_narrow_latex_form(tmp_path):
    shutil.copytree(LAPTOP / "tables", tmp_path / "laptop" / "tables")
    shutil.copy(LAPTOP / "claims.csv", tmp_path / "laptop")
    front.narrow_tables(tmp_path / "laptop")
    text = (tmp_path / "laptop/tables/narrow/table_4.tex").read_text(encoding="utf-8")
    assert r"\label{tab:table_4}" in text
    assert r"\caption{MultiMNIST (the paper's Table 4)" in text
    widths = {line.count(" & ") for line in text.splitlines() if line.endswith(r"\\")}
    assert widths == {4}  # method, left, right, paper, seeds
    assert text.isascii()  # pdflatex reads it


def test_a_wide_table_is_shown_in_parts_with_every_compared_quantity():
    one = findings.Results(LAPTOP)
    parts = article.tables_of(one, "table_precision")
    assert len(parts) > 1
    assert all(len(part["header"]) <= article.WIDEST + 3 for part in parts)
    shown = [name for part in parts for name in part["header"][1:-2]]
    compared = one.table("table_precision").query("method.str.contains(' - ')")
    # Costs are compared by no difference.
    assert len(shown) == len(set(zip(compared["task"], compared["metric"], strict=True)))
    assert len(set(shown)) == len(shown)


def test_an_article_that_typst_cannot_tag_is_written_without_tags(monkeypatch, tmp_path):
    calls = []

    def fails_to_tag(template, *, output, pdf_tags=True):
        calls.append(pdf_tags)
        if pdf_tags:
            raise typst.TypstError("internal error: parent group")
        output.write_bytes(b"%PDF")

    monkeypatch.setattr(typst, "compile", fails_to_tag)
    article.write([ROOT / "results" / "published" / "quick"], tmp_path)
    assert calls == [True, False]
    assert (tmp_path / "article.pdf").read_bytes() == b"%PDF"
