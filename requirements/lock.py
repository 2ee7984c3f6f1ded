"""Write the lock files of this folder from pyproject.toml and constraints.txt (`make lock`).

uv finds every file that the index offers for the pinned versions, on every system, with its sha256.
"""

import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEAD = (
    "# Written by `make lock`: the versions of constraints.txt with the sha256 of every file "
    "that the\n# index offers for them. pip takes no other (--require-hashes).\n"
)
# torch's default build, on Linux with the CUDA libraries that it pins.
TORCH = ("torch==", "nvidia-", "cuda-", "triton==")


def compiled(*arguments: str) -> list[str]:
    """Requirements with their hashes, one text each."""
    command = ["uv", "pip", "compile", "-q", "--generate-hashes", "--no-annotate", "--no-header"]
    command += ["--universal", "--python-version", "3.11.5", *arguments]
    try:
        done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    # uv itself has said on stderr what is wrong.
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        sys.exit(f"error: uv fails ({error!s:.60}); put it on the path (pip install uv)")
    return re.split(r"\n(?=\S)", done.stdout.strip())


def write(name: str, blocks: list[str], words: str = "") -> None:
    """One file of this folder."""
    path = ROOT / "requirements" / name
    path.write_text(HEAD + words + "\n".join(blocks) + "\n", encoding="utf-8")


def main() -> None:
    """Write all of them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pinned = ("-c", "constraints.txt", "pyproject.toml")
    found = compiled("--extra=reproduce", "--extra=test", *pinned)
    write("torch.txt", [block for block in found if block.startswith(TORCH)])
    write("locked.txt", [block for block in found if not block.startswith(TORCH)])
    others = set(project["optional-dependencies"]) - {"reproduce", "test", "bench"}
    for name in sorted(others):  # what they need besides
        more = compiled("--extra=reproduce", "--extra=test", f"--extra={name}", *pinned)
        words = f"# Extra {name}, installed after locked.txt.\n"
        write(f"{name}.txt", [block for block in more if block not in found], words)
    first = "# What builds the checkout and packages that come as source; installed first.\n"
    write("build.txt", [block for block in found if block.startswith("setuptools==")], first)
    words = (
        "# What `make bench` compares with besides; installed without its dependencies: it asks "
        "for a\n# torchvision that nothing here uses.\n"
    )
    with tempfile.NamedTemporaryFile("w", suffix=".in") as file:
        file.write("LibMTL==1.1.5\n")
        file.flush()
        write("bench.txt", compiled("--no-deps", file.name), words)


if __name__ == "__main__":
    main()
