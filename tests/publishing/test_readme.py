"""The README's tables are copies of published files, and its paths exist."""

import re

import pandas as pd
import pytest

from publishing import readme, runtimes


def test_blocks_are_replaced_and_the_rest_is_kept(tmp_path):
    (tmp_path / "table.md").write_text("| a |\n|---|\n| 1 |\n")
    text = "before\n<!-- begin table.md -->\nold\n<!-- end table.md -->\nafter\n"
    new = readme.filled(text, tmp_path)
    assert (
        new
        == "before\n<!-- begin table.md -->\n| a |\n|---|\n| 1 |\n<!-- end table.md -->\nafter\n"
    )
    assert readme.filled(new, tmp_path) == new


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.md"):
        readme.filled("<!-- begin nowhere.md -->\n<!-- end nowhere.md -->\n", tmp_path)


@pytest.mark.parametrize("page", readme.PAGES)
def test_pages_hold_what_is_published(page):
    text = (readme.ROOT / page).read_text(encoding="utf-8")
    assert len(readme.BLOCK.findall(text)) >= 2
    assert readme.filled(text) == text
    for path in re.findall(r"\]\(((?!http)[^)#]+)\)", text):
        assert ((readme.ROOT / page).parent / path).exists(), path


def test_a_page_that_differs_is_named(tmp_path, monkeypatch, capsys):
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "table.md").write_text("new\n")
    block = "<!-- begin table.md -->\n{}\n<!-- end table.md -->\n"
    (tmp_path / "README.md").write_text(block.format("new"))
    (tmp_path / "benchmarks/README.md").write_text(block.format("old"))
    monkeypatch.setattr(readme, "ROOT", tmp_path)
    assert readme.main(["--check"]) == 1
    assert capsys.readouterr().err.startswith("benchmarks/README.md differs")
    assert readme.main([]) == 0
    assert readme.main(["--check"]) == 0


def test_runtimes_sum_the_jobs_of_each_rule(tmp_path):
    files = {"train/a.tsv": (10.0, 50.0), "train/b.tsv": (20.0, 40.0), "figure_1.tsv": (1.0, 60.0)}
    for name, (seconds, memory) in files.items():
        path = tmp_path / "benchmarks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"s\tmax_rss\n{seconds}\t{memory}\n")
    table = runtimes.runtimes(tmp_path)
    assert table.to_dict("list") == {
        "rule": ["train", "figure_1"],
        "jobs": [2, 1],
        "core_seconds": [30.0, 1.0],
        "longest": [20.0, 1.0],
        "memory": [50.0, 60.0],
    }
    runtimes.main(tmp_path)
    assert "31" in (tmp_path / "runtimes.md").read_text()
    assert pd.read_csv(tmp_path / "runtimes.csv").rule.tolist() == ["train", "figure_1"]


def test_runtimes_without_a_run_say_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="run the pipeline first"):
        runtimes.runtimes(tmp_path)
