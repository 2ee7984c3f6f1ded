"""The table of the theory: every form's verdict, from the checks' JSON."""

import json
from pathlib import Path

import pandas as pd

from experiments.theory.table_theory import write


def report(statement, *rows):
    found = []
    for name, verdict, margin, example in rows:
        found.append(
            {
                "name": name,
                "source": "Theorem 1",
                "statement": f"what {name} says",
                "reading": "",
                "verdict": verdict,
                "decided_by": ["proof", "z3"],
                "sentence": "Because.",
                "smallest_margin": margin,
                "counterexample": {"says": example} if example else None,
            }
        )
    names = {"statement": statement, "scale": "tiny", "settings": {"seed": 0}}
    return {**names, "versions": {"sympy": "1"}, "judgements": found}


def test_every_form_is_a_line_with_its_margin_and_counterexample(tmp_path):
    one = report(
        "theorem1",
        ("theorem1", "false as stated", None, "‖g‖ ↔ x_1 | √2"),
        ("theorem1_value", "holds in this reading", None, ""),
    )
    two = report("theorem2", ("theorem2", "false as stated", -0.1234, "ℓ ≥ ξL"))
    paths = []
    for part in (one, two):
        paths.append(tmp_path / f"{part['statement']}.json")
        paths[-1].write_text(json.dumps(part))
    out = {kind: str(tmp_path / f"table.{kind}") for kind in ("csv", "md", "tex", "html")}
    write(*(str(path) for path in paths), **out)
    table = pd.read_csv(out["csv"])
    assert table["name"].tolist() == ["theorem1", "theorem1_value", "theorem2"]
    assert table["smallest_margin"].tolist()[2] == -0.1234
    markdown, latex, page = (
        Path(out[kind]).read_text(encoding="utf-8") for kind in ("md", "tex", "html")
    )
    assert "−0.12" in markdown
    assert "proof · z3" in markdown
    assert r"x_1 \| √2" in markdown
    assert "scale: tiny" in markdown
    assert latex.isascii()
    assert page.count("<tr") == 4
    assert "- settings: seed 0" in markdown
    two["settings"] = {"seed": 1}
    paths[1].write_text(json.dumps(two))
    write(*(str(path) for path in paths), **out)
    assert "- settings of theorem2: seed 1" in Path(out["md"]).read_text(encoding="utf-8")
