"""Chooses the device of a run."""

import torch

from multitask.runs.errors import UserError


def choose_device(name: str) -> torch.device:
    """Returns the device of a config: "cpu", "cuda", or "auto" for a GPU if there is one."""
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "device: cuda, but torch finds no GPU; set device to cpu or auto in the config"
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def has_bfloat16_units(device: torch.device) -> bool:
    """Tells whether a device multiplies in bfloat16 natively; emulation is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # The names of the units on x86 (AMX, AVX-512) and Arm.
    found = torch.cpu.get_capabilities()
    return any(found.get(unit, False) for unit in ("amx_bf16", "avx512_bf16", "bf16"))
