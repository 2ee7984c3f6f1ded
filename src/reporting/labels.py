"""The methods' names in words and their colors. This module imports no matplotlib."""

LABELS = {
    "adam": "Adam",
    "adam_pcgrad": "Adam + PCGrad",
    "single_task": "Single task",
    "sum": "Sum of losses",
    "uncertainty": "Uncertainty weights",
    "mgda": "MGDA (Sener & Koltun)",
    "cagrad": "CAGrad",
    "nash_mtl": "Nash-MTL",
    "upgrad": "UPGrad",
    "pcgrad": "PCGrad",
    "one_fc": "1-fc, sum of losses",
    "all_fc": "All-fc, sum of losses",
    "independent": "Independent",
    "cross_stitch": "Cross-stitch, all-fc",
    "routing": "Routing, all-fc + WPL",
    "routing_pcgrad": "Routing, all-fc + WPL + PCGrad",
    "all_fc_pcgrad": "PCGrad, all-fc",
    "direction_only": "PCGrad, direction only",
    "magnitude_only": "PCGrad, magnitude only",
    "sum_pcgrad_length": "Sum of losses at PCGrad's length",
    "one_fc_mod5": "1-fc, labels mod 5",
    "all_fc_mod5": "All-fc, labels mod 5",
    "pcgrad_mod5": "PCGrad, labels mod 5",
    "sac": "SAC",
    "sac_pcgrad": "SAC + PCGrad",
    "sac_pcgrad_fixed": "SAC + PCGrad, fixed order",
    "multihead_sac": "Multi-head SAC",
    "multihead_sac_pcgrad": "Multi-head SAC + PCGrad",
    "gradnorm": "SAC + GradNorm",
    "cosreg": "SAC + CosReg",
    "sac_reward_normalized": "SAC, rewards normalized",
    "sac_pcgrad_reward_normalized": "SAC + PCGrad, rewards normalized",
    "sac_weight_decay": "SAC, weight decay",
    "fixed_goal": "SAC, fixed goal",
    "varied_goals": "SAC, varied goals",
    "mtan_equal": "MTAN",
    "mtan_equal_pcgrad": "MTAN + PCGrad",
    "cross_stitch_equal": "Cross-Stitch",
    "cross_stitch_equal_pcgrad": "Cross-Stitch + PCGrad",
    "multimnist": "MultiMNIST",
    "cifar100": "CIFAR-100",
    "ucmerced": "UC Merced",
    "camvid": "CamVid",
    "task_1": "Task 1",
    "task_2": "Task 2",
    "reported": "Paper",
}

# Okabe and Ito's palette. The plain sum is blue and PCGrad vermilion in every figure.
_BLACK, _ORANGE, _SKY, _GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
_YELLOW, _BLUE, _VERMILION, _PURPLE, GRAY = "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#7F7F7F"

# Further colors, dark enough to be told apart from Okabe and Ito's.
_WINE, _OLIVE, _INDIGO = "#882255", "#999933", "#332288"
_BROWN, _PINK = "#8C564B", "#F781BF"

# Methods that only tables show need no color.
COLORS = {
    "adam": _BLUE,
    "adam_pcgrad": _VERMILION,
    "single_task": _BLACK,
    "sum": _BLUE,
    "uncertainty": _SKY,
    "mgda": _GREEN,
    "cagrad": _PURPLE,
    "nash_mtl": _YELLOW,
    "upgrad": GRAY,
    "pcgrad": _VERMILION,
    "direction_only": _ORANGE,
    "magnitude_only": _PURPLE,
    "sac": _BLUE,
    "sac_pcgrad": _VERMILION,
    "sac_pcgrad_fixed": _BLACK,
    "multihead_sac": _SKY,
    "multihead_sac_pcgrad": _WINE,
    "independent": _BLACK,
    "gradnorm": _GREEN,
    "cosreg": _OLIVE,
    "sac_reward_normalized": _INDIGO,
    "sac_pcgrad_reward_normalized": _PINK,
    "sac_weight_decay": _BROWN,
    "fixed_goal": _BLUE,
    "varied_goals": _ORANGE,
    "task_1": _GREEN,
    "task_2": _PURPLE,
    "reported": GRAY,
}

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
