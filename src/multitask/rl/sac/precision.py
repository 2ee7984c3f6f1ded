"""The precision of the networks' products: what a config asks for, and what runs."""

import sys
from typing import Any

import torch

from multitask.rl.sac.methods import METHODS, Method, settings_of_row
from multitask.runs.devices import choose_device, has_bfloat16_units

FLOAT32, BFLOAT16 = "float32", "bfloat16"


def choose_precision(asked: str, method: Method, device: torch.device) -> tuple[str, str]:
    """Returns the precision that runs, and the reason if it is not the one asked for ("")."""
    # Checked first: it holds on every device.
    if asked == BFLOAT16 and method.cosreg:
        return FLOAT32, "CosReg's second derivatives are taken in float32"
    if asked == BFLOAT16 and not has_bfloat16_units(device):
        return FLOAT32, f"this {device.type} has no units for bfloat16"
    return asked, ""


def precision_of(settings: dict[str, Any], method: str) -> str:
    """Returns the precision of a run of this method's row, for run.json.

    If it is not the precision asked for, one line on stderr gives the reason.
    """
    asked = settings_of_row(method, settings)["precision"]
    row = METHODS.get(method, Method())
    runs, reason = choose_precision(asked, row, choose_device(settings["device"]))
    if reason:
        print(f"precision: {asked} asked for, {runs} runs: {reason}", file=sys.stderr)
    return runs
