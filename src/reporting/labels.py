"""The methods' names in words and their colors, from `labels.csv`. It imports no matplotlib."""

import csv
from pathlib import Path

# Okabe and Ito's palette, gray, and colors dark enough to be told apart from these. The plain sum
# is blue and PCGrad vermilion in every figure.
PALETTE = {
    "black": "#000000", "orange": "#E69F00", "sky": "#56B4E9", "green": "#009E73",
    "yellow": "#F0E442", "blue": "#0072B2", "vermilion": "#D55E00", "purple": "#CC79A7",
    "gray": "#7F7F7F", "wine": "#882255", "olive": "#999933", "indigo": "#332288",
    "brown": "#8C564B", "pink": "#F781BF",
}  # fmt: skip
GRAY = PALETTE["gray"]
with Path(__file__).with_suffix(".csv").open(encoding="utf-8", newline="") as _file:
    _ROWS = list(csv.DictReader(_file))
LABELS = {row["name"]: row["label"] for row in _ROWS}
# Methods that only tables show need no color.
COLORS = {row["name"]: PALETTE[row["color"]] for row in _ROWS if row["color"]}

# {suffix of a method's name: how the row differs from the method}.
ENDINGS = {
    "_tuned": "tuned",
    "_float32": "float32",
    "_bfloat16": "bfloat16",
    "_v2": "version 2 rewards",
}


def seeds_text(count: int) -> str:
    """A number of seeds in words: "1 seed", "5 seeds"."""
    return f"{count} {'seed' if count == 1 else 'seeds'}"


def label(method: str) -> str:
    """The method's name in words, with the meaning of a suffix in ENDINGS."""
    for ending, words in ENDINGS.items():
        if method.endswith(ending) and method not in LABELS:
            return f"{label(method.removesuffix(ending))}, {words}"
    return LABELS.get(method, method.replace("_", " "))
