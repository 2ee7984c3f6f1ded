"""The idx format of MNIST, plain or gzipped.

Layout (big endian): two zero bytes, a type code (0x08: unsigned byte), the number of dimensions D,
D sizes as uint32, then the values. MNIST's magic numbers follow from it: 0x00000801 for labels (D =
1), 0x00000803 for images (D = 3).
"""

import hashlib
import math
import struct
import zlib
from pathlib import Path

import torch
from torch import Tensor

from multitask.runs.errors import UserError
from system.reading import open_plain, reason

UNSIGNED_BYTE = 0x08
# For zlib: a gzip header, and the largest window.
GZIP = 31
# Bytes of a gzip header, which may hold a file name and a comment.
MOST_HEADER = 2**16


def read_idx(path: Path, shape: tuple[int, ...], sha256: str) -> Tensor:
    """Reads the uint8 tensor in an idx file, gzipped if its name ends in .gz.

    Args:
        path: The file.
        shape: Shape that the tensor must have.
        sha256: Digest of the unpacked content, the same for the plain and the gzipped file.

    Raises:
        UserError: The file is truncated or has another format, shape or content; the message names
            the file and the remedy.
    """
    remedy = "delete it and run again to download it, or put the original file there"
    header = 4 + 4 * len(shape)
    most = header + math.prod(shape)
    try:
        # One byte more than expected shows that the file is too long.
        content = read_most(path, most + 1)
    except (EOFError, zlib.error) as error:
        raise UserError(f"{path} is truncated or no gzip file ({error}); {remedy}") from None
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({reason(error)}); make it readable, or {remedy}"
        ) from None
    # Checked from the outside in: format, sizes, length, content.
    magic = bytes([0, 0, UNSIGNED_BYTE, len(shape)])
    if content[:4] != magic:
        found = content[:4].hex() or "nothing"
        raise UserError(
            f"{path} is no idx file of {len(shape)} dimensions: "
            f"magic {found}, not {magic.hex()}; {remedy}"
        )
    sizes = struct.unpack(f">{len(shape)}I", content[4:header]) if len(content) >= header else ()
    if sizes != shape:
        raise UserError(
            f"{path} holds an array of {sizes or 'unknown'} values, not {shape}; {remedy}"
        )
    if len(content) != most:
        found = "more" if len(content) > most else str(len(content) - header)
        raise UserError(
            f"{path} is truncated or too long: {found} values, not {math.prod(shape)}; {remedy}"
        )
    if hashlib.sha256(content).hexdigest() != sha256:
        raise UserError(
            f"{path} differs from the published file (sha256 of the unpacked content); {remedy}"
        )
    # A copy: tensors over immutable bytes would not be safe to write to.
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=header).reshape(shape)


def read_most(path: Path, most: int) -> bytes:
    """Reads at most `most` bytes of the unpacked content of a regular file.

    The limit matters, because a gzip file of some kilobytes may unpack to any length.
    """
    with open_plain(path) as file:
        if path.suffix != ".gz":
            return file.read(most)
        # Deflate lengthens what it cannot compress by less than a thousandth. Without this limit
        # a file could go on with zeros, or with empty streams, for terabytes.
        packed = file.read(most + most // 1000 + MOST_HEADER)
    # Only the first stream counts; GzipFile would go through all that follow.
    reader = zlib.decompressobj(wbits=GZIP)
    content = reader.decompress(packed, most)
    if not reader.eof and len(content) < most:
        raise EOFError("the stream has no end")
    return content
