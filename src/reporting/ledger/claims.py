"""Judges every claim of `experiments/claims.yaml` by the result files and writes `claims.csv`."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from reporting import render, reported
from reporting.ledger.evidence import KINDS, Material, gather
from reporting.ledger.verdicts import NOT_TESTED, VERDICTS, agreement, verdict
from reporting.runs import describe_data, footer, read_runs
from reporting.statistics import NAN, holm
from system.reading import read_json

# Columns of the ledger that are copied from the claim.
COPIED = ("id", "source", "claim", "quantity", "direction", "smallest_effect")
REQUIRED = {*COPIED, "scales", "seeds", "test"}
COLUMNS = [
    "id", "source", "claim", "verdict", "reason", "effect", "ci_low", "ci_high", "seeds", "p",
    "p_holm", "ours", "ours_low", "ours_high", "paper", "agrees", *COPIED[3:], "scale",
]  # fmt: skip


def read_ledger(path: str | Path) -> list[dict[str, Any]]:
    """Read the claims and check that each has exactly the known keys.

    Raises:
        ValueError: The file holds no list of claims, or a claim has a missing or unknown key, a
            repeated id, or an unknown direction or kind of test. The message names the claim.
    """
    try:
        claims = yaml.safe_load(Path(path).read_text(encoding="utf-8"))["claims"]
    except (OSError, yaml.YAMLError, TypeError, KeyError) as error:
        raise ValueError(f"{path} holds no list of claims ({error!r:.80})") from None
    seen: set[str] = set()
    for claim in claims:
        # A claim without an id can only be located by a claim read before it.
        name = claim.get("id", f"after {max(seen, default='the beginning')}")
        # A misspelt key would otherwise switch off a condition of its claim in silence.
        missing, unknown = REQUIRED - set(claim), set(claim) - REQUIRED - {"reported"}
        if missing or unknown:
            wrong = [f"lacks {key}" for key in sorted(missing)]
            wrong += [f"has {key}" for key in sorted(unknown)]
            raise ValueError(f"{path}: claim {name} {', '.join(wrong)}")
        if name in seen:
            raise ValueError(f"{path}: claim {name} occurs twice")
        kind, way = claim["test"].get("kind"), claim["direction"]
        if way not in ("higher", "lower", "equal") or kind not in KINDS:
            raise ValueError(f"{path}: claim {name} has an unknown direction or kind of test")
        seen.add(name)
    return list(claims)


def ledger(claims: Sequence[Mapping[str, Any]], material: Material, scale: str) -> pd.DataFrame:
    """Judge the claims: one line per claim with the columns COLUMNS.

    The p-values are Holm-corrected over the claims of the same figure or table.
    """
    evidence = [gather(claim, material) for claim in claims]
    p_values = [NAN if found.effect is None else found.effect.p for found in evidence]
    # A figure or a table is one family of hypotheses.
    corrected = [NAN] * len(claims)
    for source in {claim["source"] for claim in claims}:
        family = [index for index, claim in enumerate(claims) if claim["source"] == source]
        for index, p in zip(family, holm([p_values[index] for index in family]), strict=True):
            corrected[index] = p
    lines: list[dict[str, Any]] = []
    for claim, found, p, p_holm in zip(claims, evidence, p_values, corrected, strict=True):
        word, reason = verdict(claim, found, scale, p_holm)
        effect, ours, paper = found.effect, found.ours, paper_number(claim)
        lines.append(
            {
                **{key: claim[key] for key in COPIED},
                "verdict": word,
                "reason": reason,
                "scale": scale,
                "p": p,
                "p_holm": p_holm,
                "paper": paper,
                "seeds": 0 if effect is None else effect.seeds,
                "agrees": agreement(ours, paper),
            }
        )
        # Without evidence these columns stay nan.
        if effect is not None:
            lines[-1] |= {"effect": effect.center, "ci_low": effect.low, "ci_high": effect.high}
        if ours is not None:
            lines[-1] |= {"ours": ours.center, "ours_low": ours.low, "ours_high": ours.high}
    return pd.DataFrame(lines, columns=COLUMNS)


def paper_number(claim: Mapping[str, Any]) -> float:
    """The paper's number for a claim in our unit; nan if the paper gives none."""
    if "reported" not in claim:
        return NAN
    # `scale` converts the paper's unit; the other keys locate the number.
    keys = dict(claim["reported"])
    return float(keys.pop("scale", 1)) * reported.number(**keys)


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The ledger as printed: one row per claim, with rounded numbers and intervals."""
    significant = render.significant
    rows = [
        {
            "source": line["source"],
            "claim": line["claim"],
            "verdict": f"**{line['verdict']}**",
            "why": line["reason"],
            "effect [95%]": significant(line["effect"], line["ci_low"], line["ci_high"]),
            "seeds": str(line["seeds"] or render.DASH),
            "ours [95%]": significant(line["ours"], line["ours_low"], line["ours_high"], 4),
            "paper": render.DASH if math.isnan(line["paper"]) else f"{line['paper']:g}",
            "paper in our interval": line["agrees"] or render.DASH,
        }
        for line in table.to_dict("records")
    ]
    return pd.DataFrame(rows)


def text(table: pd.DataFrame, scale: str, below: Sequence[str]) -> str:
    """The ledger in Markdown: the tested claims, then the untested ones with the reason."""
    # A claim can be "not tested" although it has an effect (stand-in data); its row stays above.
    idle = (table["verdict"] == NOT_TESTED) & table["effect"].isna()
    rest = table[idle][["source", "claim", "reason"]].rename(columns={"reason": "why"})
    parts = [f"# Claims at scale {scale}", count(table)]
    if not idle.all():
        parts.append(render.markdown(shown(table[~idle]), below))
    if idle.any():
        parts += ["## Not tested at this scale", render.markdown(rest, ())]
    return "\n\n".join(parts)


def is_ours(claims: pd.DataFrame) -> "pd.Series[bool]":
    """Whether each claim is ours: of an experiment of ours, or a repair of a theorem."""
    return claims["source"].str.startswith("Ours") | claims["claim"].str.startswith("ours:")


def count(table: pd.DataFrame) -> str:
    """One line with the number of claims of every verdict that occurs, of the paper and of ours."""
    parts = []
    for whose, mine in (("the paper's claims", ~is_ours(table)), ("ours", is_ours(table))):
        numbers = table[mine]["verdict"].value_counts()
        words = " · ".join(f"{word}: {numbers[word]}" for word in VERDICTS if word in numbers)
        parts += [f"{whose}: {words}"] if words else []
    return "; ".join(parts)


def write(
    ledger_path: str,
    runs: Sequence[str],
    landscape: str,
    proofs: Sequence[str],
    gallery: str,
    scale: str,
    *,
    csv: str,
    md: str,
    html: str | None = None,
) -> None:
    """Judge every claim and write the ledger as CSV, Markdown and, for the report, HTML."""

    def content(path: str) -> Any:
        return read_json(Path(path), "make it again")

    statements = {Path(path).stem: content(path) for path in proofs}
    # The landscape and the gallery are deterministic and have one file each.
    material = Material(read_runs(runs), content(landscape), statements, content(gallery))
    table = ledger(read_ledger(ledger_path), material, scale)
    below = notes(material, scale)
    render.write_csv(table, csv)
    render.write_text(text(table, scale, below), md)
    if html is not None:
        title = f"Claims at scale {scale}"
        # The HTML table shows plain text: drop Markdown's bold marks.
        plain = shown(table).replace(r"\*\*", "", regex=True)
        render.write_text(render.page(title, plain, [count(table), *below]), html)


def notes(material: Material, scale: str) -> list[str]:
    """The lines below the ledger: how to read it, the scale, and every experiment's footer."""
    below = [
        "effect: positive on the claimed side; ours, paper: the level with PCGrad where two "
        "methods are compared; rules and tests: experiments/claims.yaml",
        f"scale: {scale}",
    ]
    if "reached_joint_optimum" in material.landscape:
        reached = material.landscape["reached_joint_optimum"]
        below.append(
            "Figure 1, starts from which the joint optimum is reached: " + describe_data(reached)
        )
    # The first line of an experiment's footer is the scale, which is printed once above.
    for experiment in sorted({info["experiment"] for info in material.runs.infos}):
        below += [
            f"{experiment}: {line}" for line in footer(material.runs.of(experiment).infos)[1:]
        ]
    return below
