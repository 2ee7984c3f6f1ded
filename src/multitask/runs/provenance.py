"""Where a number comes from besides the code: commit, versions, machine. Imports no torch."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = (
    "torch",
    "numpy",
    "scipy",
    "torchjd",
    "metaworld",
    "mujoco",
    "gymnasium",
    "scikit-learn",
    "pillow",
)


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that compute."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            # From the metadata, without importing the package.
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


# Environment variables that select instructions or algorithms and so may change last bits.
NUMERIC = (
    *(
        "ATEN_CPU_CAPABILITY",
        "DNNL_MAX_CPU_ISA",
        "ONEDNN_MAX_CPU_ISA",
        "ONEDNN_DEFAULT_FPMATH_MODE",
    ),
    *("MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "MKL_DEBUG_CPU_TYPE", "OPENBLAS_CORETYPE"),
    *("NPY_DISABLE_CPU_FEATURES", "NPY_ENABLE_CPU_FEATURES", "CUBLAS_WORKSPACE_CONFIG"),
    *("NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "CUDA_LAUNCH_BLOCKING"),
)


def numeric_settings() -> dict[str, str]:
    """Returns the variables of NUMERIC that the environment sets."""
    return {name: os.environ[name] for name in NUMERIC if name in os.environ}


def machine() -> dict[str, Any]:
    """Describes processor and system, without the host name."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = (line.partition(":") for line in cpuinfo.read_text(encoding="utf-8").splitlines())
        model = next(
            (value.strip() for key, _, value in lines if key.strip() == "model name"), model
        )
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def commit() -> str:
    """Returns the checkout's commit, or "unknown" outside git.

    "+changes" follows if the tree differs from the commit.
    """
    try:
        # The time limit covers a checkout on a file system that hangs.
        run = {"cwd": ROOT, "capture_output": True, "text": True, "check": True, "timeout": 20}
        head = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], **run).stdout.strip()  # type: ignore[call-overload]
        dirty = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"], **run
        ).stdout.strip()  # type: ignore[call-overload]
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return head + ("+changes" if dirty else "")
