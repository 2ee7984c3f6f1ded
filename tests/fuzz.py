"""Fuzzers of the readers: whatever bytes a file holds, it is read or refused in one line.

    python -m tests.fuzz --inputs 20000 --page tests/README.md

Each kind runs in a process of its own, so that a crash is seen and counted; an input survives if
its reader returns or raises a UserError of one line, within SECONDS and MEGABYTES. The page's table
is written from what was counted. `tests/test_fuzz.py` runs a few inputs of each kind.
"""

import argparse
import functools
import hashlib
import io
import json
import multiprocessing
import pickle
import pickletools
import random
import resource
import struct
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from multitask.data import celeba, cifar100, scenes
from multitask.data.idx import read_idx
from multitask.data.pickles import read_pickle
from multitask.runs.checkpoint import Session
from system.errors import UserError
from system.reading import parse_json, parse_yaml
from system.results import read_run
from system.writing import write_text

SECONDS, MEGABYTES = 5.0, 1024  # of one input
BEGIN, END = "<!-- begin fuzz -->\n", "<!-- end fuzz -->"

Make = Callable[[random.Random, Path], None]
Read = Callable[[Path], Any]


def mutated(draw: random.Random, content: bytes) -> bytes:
    """Some bytes flipped, overwritten, cut out, repeated or inserted."""
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 4, 16))):
        at = draw.randrange(len(data) + 1)
        end = min(len(data), at + draw.choice((1, 2, 4, 8, 64)))
        kind = draw.randrange(6)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            data[at:end] = draw.choice((b"\xff", b"\0", b"\x7f", b"\x80")) * (end - at)
        elif kind == 2:
            del data[at:end]
        elif kind == 3:
            data[at:at] = data[at:end] * draw.choice((1, 2, 1000))
        elif kind == 4:
            data[at:at] = draw.randbytes(draw.choice((1, 2, 4, 8)))
        else:
            del data[at:]
    return bytes(data)


# --- idx: shape (3, 4, 5)

SHAPE = (3, 4, 5)
VALUES = torch.arange(60, dtype=torch.uint8).reshape(SHAPE)


def idx_bytes() -> bytes:
    return bytes([0, 0, 8, 3]) + struct.pack(">3I", *SHAPE) + VALUES.numpy().tobytes()


def make_idx(draw: random.Random, folder: Path) -> None:
    """An idx file whose header, values or gzip stream are wrong."""
    content = idx_bytes()
    kind = draw.randrange(5)
    if kind == 0:
        sizes = [draw.choice((0, 1, 3, 2**31, 2**32 - 1)) for _ in range(draw.randrange(5))]
        head = bytes([0, 0, draw.choice((8, 9, 14)), len(sizes)])
        content = head + struct.pack(f">{len(sizes)}I", *sizes) + content[16:]
    elif kind < 3:
        content = mutated(draw, content)
    if draw.random() < 0.3:  # a stream that unpacks to far more than it is long
        content += bytes(draw.choice((1, 1, 10**5, 10**6, 10**6, 10**7)))
    packed = zlib.compress(content, wbits=31) if draw.random() < 0.6 else content
    if kind == 3:
        packed = mutated(draw, packed)
    (folder / "x.gz").write_bytes(packed)
    (folder / "x").write_bytes(content[:1000])


def read_idx_files(folder: Path) -> None:
    sha256 = hashlib.sha256(idx_bytes()).hexdigest()
    read_idx(folder / draw_name(folder), SHAPE, sha256)


def draw_name(folder: Path) -> str:
    """The packed file of two inputs in three."""
    return "x" if (folder / "x.gz").stat().st_size % 3 == 0 else "x.gz"


# --- npy: a depth of 4 x 6

DEPTH = np.random.default_rng(0).random((4, 6, 1)).astype(np.float32)
TYPES = ("<f4", ">f8", "<f2", "|u1", "<i8", "|b1", "<c8", "|O", "<U3", "|V8", "<M8[s]", "<f16")
TYPES = (*TYPES, "|S9", "<m8", "[('a', '<f4')]", "('<f4', (2, 2))", "longdouble", "f", "", "\\0")
SHAPES = ("(4, 6, 1)", "(4, 6)", "(-4, 6, 1)", "(10**9, 6, 1)", "(4, 6, 99999999999)", "()")
SHAPES = (*SHAPES, "[4, 6, 1]", "(4.0, 6, 1)", "(True, 6, 1)", "(4, 6, 1", "((((" * 50, "None")
EXTREMES = (np.nan, np.inf, -np.inf, 1e300, -1e300, 1e39, -1.0, 0.0, 5e-324)


def make_npy(draw: random.Random, folder: Path) -> None:
    """An .npy file whose header or values are wrong."""
    if draw.random() < 0.5:
        kind = draw.choice(TYPES)
        kind = repr(kind) if draw.random() < 0.9 else kind
        head = f"{{'descr': {kind}, 'fortran_order': {draw.choice(('True', 'False', '1', 'x'))}, "
        head += f"'shape': {draw.choice(SHAPES)}, {draw.choice(('', '', 'a: 1', '-' * 9000))}}}"
        head = head[: draw.choice((len(head), draw.randrange(len(head))))].ljust(100) + "\n"
        version = draw.choice(((1, 0), (2, 0), (3, 0), (9, 9)))
        size = "<H" if version == (1, 0) else "<I"
        length = draw.choice((len(head), len(head), 0, 2**16 - 1))
        content = b"\x93NUMPY" + bytes(version) + struct.pack(size, length) + head.encode()
        content += draw.randbytes(draw.choice((96, 192, 95, 0)))
    else:
        values = DEPTH.astype(draw.choice(("<f4", ">f8", "<f2", "<i4")))
        if values.dtype.kind == "f":
            with np.errstate(over="ignore"):
                values.flat[draw.randrange(24)] = draw.choice(EXTREMES)
        file = io.BytesIO()
        np.save(file, values)
        content = file.getvalue()
        if draw.random() < 0.7:
            content = mutated(draw, content)
    (folder / "0.npy").write_bytes(content)


def read_npy(folder: Path) -> None:
    found = scenes._read(folder / "0.npy", (4, 6, 1))
    scenes._check(folder / "0.npy", "depth", found, 13)


# --- pickle


@functools.cache
def pickles() -> tuple[bytes, ...]:
    """Small sound files of CIFAR-100's form, by every protocol."""
    fine = np.arange(100)
    data = np.zeros((100, 3072), np.uint8)
    content = {b"data": data, b"fine_labels": fine.tolist(), b"coarse_labels": (fine // 5).tolist()}
    short = {b"data": data[:1, :9], b"list": [1, (2, b"x"), {b"k": None}], b"labels": fine}
    return tuple(pickle.dumps(one, protocol) for one in (content, short) for protocol in range(6))


def make_pickle_bytes(draw: random.Random, folder: Path) -> None:
    """A sound file with some bytes changed."""
    (folder / "train").write_bytes(mutated(draw, draw.choice(pickles())))


NAMES = ("numpy dtype", "numpy ndarray", "numpy.core.multiarray _reconstruct", "_codecs encode")
NAMES = (*NAMES, "os system", "builtins eval", "numpy.core.multiarray scalar", "numpy frombuffer")
STATES: tuple[Any, ...] = (
    (3, "|", None, None, None, -1, -1, 0),
    (2, "<", None, ("a",), 5, 2**31 - 1),
    (3, "<", None, ("a", "b"), {"a": ("u1", 0)}, 8, 1, 27),
    (4, "<", ("u1", (10**9,)), None, None, 8, 1, 0, {"metadata": ()}),
    (1, (3,), None, False, b"abc"),
    (1, (2**40, 2**40), None, True, b""),
    (1, (-1,), None, False, b"abc"),
)


def make_pickle_structure(draw: random.Random, folder: Path) -> None:
    """Opcodes at random, with names and states that hurt Python's and NumPy's own readers."""
    parts = [b"\x80" + bytes([draw.randrange(6)]), b"}"]
    for _ in range(draw.randrange(1, 30)):
        kind = draw.randrange(8)
        if kind == 0:
            parts.append(f"c{draw.choice(NAMES).replace(' ', chr(10))}\n".encode())
        elif kind == 1:
            value: Any = draw.choice((*STATES, ("u1", 0, 1), (b"b",), (0,), b"data", 7, -1, [1]))
            parts.append(pickle.dumps(value, draw.randrange(2, 5))[2:-1])
        elif kind == 2:
            parts.append(draw.choice((b"R", b"b", b"Rb", b"\x85", b"\x86", b"\x87", b"s", b"u")))
        elif kind == 3:
            size = draw.choice((0, 5, 2**31 - 1, 2**32 - 1))
            parts.append(draw.choice(b"BTXrj").to_bytes(1, "big") + struct.pack("<I", size))
        elif kind == 4:
            parts.append(draw.choice((b"\x8e", b"\x96", b"\x95", b"\x8d")) + draw.randbytes(8))
        elif kind == 5:
            parts.append(b"(" * draw.choice((1, 2, 3000)))
        elif kind == 6:
            code = draw.choice(pickletools.opcodes).code.encode("latin-1")
            parts.append(code + draw.randbytes(draw.randrange(3)))
        else:
            parts.append(draw.choice((b"0", b"2", b"1", b"h\0", b"q\0", b"N", b"]", b")", b"t")))
    (folder / "train").write_bytes(b"".join(parts) + draw.choice((b".", b"s.", b"u.", b"")))


def read_pickles(folder: Path) -> None:
    read_pickle(folder / "train")
    cifar100.read_images(folder / "train", None)


# --- image lists and images

LISTED = [f"{number:06d}.jpg" for number in range(1, 4)]


@functools.cache
def list_texts() -> tuple[bytes, bytes]:
    rows = [f"{name} " + " ".join(["1", "-1"] * 20) for name in LISTED]
    names = " ".join(celeba.ATTRIBUTES)
    partition = [f"{name} {code}" for code, name in enumerate(LISTED)]
    return "\n".join(["3", names, *rows, ""]).encode(), "\n".join([*partition, ""]).encode()


@functools.cache
def pictures() -> tuple[bytes, ...]:
    """Pictures of the right size in every format that Pillow writes, and one of another size."""
    found = []
    cells = np.random.default_rng(0).integers(0, 256, (218, 178, 3), dtype=np.uint8)
    for kind in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "SGI", "IM", "DDS", "ICO"):
        for size in ((178, 218), (13, 13)):
            file = io.BytesIO()
            try:
                Image.fromarray(cells).resize(size).save(file, kind)
            except (OSError, ValueError, KeyError):
                continue
            found.append(file.getvalue())
    return tuple(found)


def huge_png(draw: random.Random) -> bytes:
    """A short PNG that announces a picture of any size."""
    sizes = [draw.choice((0, 178, 13_000, 2**31 - 1, 2**32 - 1)) for _ in range(2)]
    head = b"IHDR" + struct.pack(
        ">2I5B", *sizes, draw.choice((1, 8, 16)), draw.choice((0, 2, 3)), 0, 0, 0
    )
    parts = [b"\x89PNG\r\n\x1a\n", struct.pack(">I", 13), head, struct.pack(">I", zlib.crc32(head))]
    body = b"IDAT" + zlib.compress(bytes(100_000))
    parts += [struct.pack(">I", len(body) - 4), body, struct.pack(">I", zlib.crc32(body))]
    return b"".join(parts)


def make_images(draw: random.Random, folder: Path) -> None:
    """Lists with changed bytes or names that lead elsewhere; pictures of any format and damage."""
    attributes, partition = list_texts()
    if draw.random() < 0.5:
        attributes = mutated(draw, attributes)
    if draw.random() < 0.5:
        partition = mutated(draw, partition)
    if draw.random() < 0.3:
        odd = draw.choice((b"../x", b"/etc/passwd", b"a/b", b".", b"\xff", b"-", b"x" * 300, b"\0"))
        attributes = attributes.replace(b"000002.jpg", odd)
        partition = partition.replace(b"000002.jpg", odd)
    (folder / "list_attr_celeba.txt").write_bytes(attributes)
    (folder / "list_eval_partition.txt").write_bytes(partition)
    (folder / "img_align_celeba").mkdir(exist_ok=True)
    for name in LISTED:
        content = draw.choice(pictures()) if draw.random() < 0.4 else pictures()[0]
        content = huge_png(draw) if draw.random() < 0.1 else content
        if draw.random() < 0.3:
            content = mutated(draw, content)
        (folder / "img_align_celeba" / name).write_bytes(content)


def read_images(folder: Path) -> None:
    celeba.read.cache_clear()
    faults = []
    for name in LISTED:  # each picture, whatever the lists say
        try:
            celeba.read_image(folder / "img_align_celeba" / name, 16)
        except UserError as error:
            faults.append(error)
    celeba.read(folder, 16, (0, 0, 0), 0, published=False)
    if faults:
        raise faults[0]


# --- texts, results, checkpoints

TEXT = Path(__file__).with_name("tiny.yaml").read_bytes()[:3000]


def make_text(draw: random.Random, folder: Path) -> None:
    """A config with changed bytes, as YAML and as JSON."""
    (folder / "c.yaml").write_bytes(mutated(draw, TEXT))
    content = json.dumps({"a": [1, 2.5, "x", None, {"b": -1}], "c": "é"}).encode()
    (folder / "c.json").write_bytes(mutated(draw, content))


def read_texts(folder: Path) -> None:
    faults = []
    for name, parse in (("c.yaml", parse_yaml), ("c.json", parse_json)):
        try:
            parse((folder / name).read_bytes().decode("utf-8", "replace"), name, "mend it")
        except UserError as error:
            faults.append(error)
    if faults:
        raise faults[0]


def make_result(draw: random.Random, folder: Path) -> None:
    """A run of two files, one of them changed."""
    rows = "".join(f"0,{step},left,test_accuracy,{step / 7!r}\n" for step in range(20))
    content = f"seed,step,task,metric,value\n{rows}".encode()
    metrics = {"sha256": hashlib.sha256(content).hexdigest(), "rows": 20, "seeds": [0]}
    info = {"experiment": "e", "method": "m", "scale": "s", "seeds": [0], "data": {}}
    info |= {"seconds": {"0": 1.5}, "metrics": metrics}
    files = {"metrics.csv": content, "run.json": json.dumps(info).encode()}
    damaged = draw.choice(sorted(files))
    files[damaged] = mutated(draw, files[damaged])
    for name, one in files.items():
        (folder / name).write_bytes(one)


def read_result(folder: Path) -> None:
    read_run(folder / "metrics.csv")


STATE = {"weights": torch.arange(50.0), "rows": [(1, "a", "loss", 0.5)], "epoch": 3}


def make_checkpoint(draw: random.Random, folder: Path) -> None:
    """A checkpoint with changed bytes."""
    path = folder / "c.pt"
    Session(path, {"seed": 0}).save(STATE)
    path.write_bytes(mutated(draw, path.read_bytes()))


def read_checkpoint(folder: Path) -> None:
    Session(folder / "c.pt", {"seed": 0}).load(like={**STATE, "rows": []})


KINDS: dict[str, tuple[Make, Read]] = {
    "idx": (make_idx, read_idx_files),
    "npy": (make_npy, read_npy),
    "pickle, bytes": (make_pickle_bytes, read_pickles),
    "pickle, structure": (make_pickle_structure, read_pickles),
    "image lists and images": (make_images, read_images),
    "YAML and JSON": (make_text, read_texts),
    "metrics.csv and run.json": (make_result, read_result),
    "checkpoint": (make_checkpoint, read_checkpoint),
}


def trial(kind: str, number: int, folder: Path) -> str:
    """Make and read one input; "read", "refused", or what is wrong."""
    make, read = KINDS[kind]
    make(random.Random(f"{kind} {number}"), folder)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()  # a busy machine counts for nothing; waiting is seen by `run`
    try:
        read(folder)
        found = "read"
    except UserError as error:
        found = "refused" if str(error).isprintable() else f"several lines: {error!r}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    seconds = time.process_time() - began
    if seconds > SECONDS or grown > MEGABYTES:
        return f"took {seconds:.1f} s and {grown:.0f} MB"
    return found


def work(kind: str, numbers: Sequence[int], pipe: Any) -> None:
    """A process's life: send each input's number before it is read, then what came of it."""
    with tempfile.TemporaryDirectory() as folder:
        for number in numbers:
            pipe.send((number, None))
            pipe.send((number, trial(kind, number, Path(folder))))


def run(kind: str, inputs: int, method: str = "fork") -> dict[str, Any]:
    """All inputs of a kind; a process that crashes is replaced, and its input counted."""
    counts = {"read": 0, "refused": 0}
    faults: list[str] = []
    first, began = 0, time.monotonic()
    while first < inputs:
        ours, theirs = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.get_context(method).Process(
            target=work, args=(kind, range(first, inputs), theirs)
        )
        process.start()
        theirs.close()
        try:
            while True:
                if not ours.poll(120 * SECONDS):  # hangs; the start imports torch on a busy machine
                    process.kill()
                first, found = ours.recv()
                if found in counts:
                    counts[found] += 1
                elif found is not None:
                    faults.append(f"{kind} {first}: {found}")
        except EOFError:
            process.join()
        if process.exitcode:
            faults.append(f"{kind} {first}: the process ended with {process.exitcode}")
        first += 1
    return {
        "kind": kind,
        "tried": inputs,
        "survived": inputs - len(faults),
        **counts,
        "faults": faults,
        "seconds": round(time.monotonic() - began),
    }


def table(results: Sequence[dict[str, Any]], old: str = "") -> str:
    """The page's block; kinds that were not run keep their lines of the `old` one."""
    lines = {line.split(" | ")[0].strip("| "): line for line in old.splitlines()[2:]}
    for one in results:
        numbers = " | ".join(f"{one[key]:,}" for key in ("tried", "survived", "read", "refused"))
        lines[one["kind"]] = f"| {one['kind']} | {numbers} |"
    head = ["| kind of file | tried | survived | of them read | refused |", "|---|--:|--:|--:|--:|"]
    return "\n".join([*head, *(lines[kind] for kind in KINDS if kind in lines)]) + "\n"


def main() -> int:
    """Run all kinds, print what failed, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1000)
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--jobs", type=int, default=2, help="kinds at once")
    parser.add_argument("--page", type=Path, help="page whose table is written anew")
    args = parser.parse_args()
    with ThreadPoolExecutor(args.jobs) as pool:
        waiting = [pool.submit(run, kind, args.inputs, "spawn") for kind in args.kinds]
        results = []
        for one in waiting:
            results.append(one.result())
            print({**results[-1], "faults": results[-1]["faults"][:5]}, flush=True)
    if args.page:
        before, rest = args.page.read_text(encoding="utf-8").split(BEGIN)
        old, _, after = rest.partition(END)
        write_text(args.page, before + BEGIN + table(results, old) + END + after)
    return int(any(one["faults"] for one in results))


if __name__ == "__main__":
    sys.exit(main())
