"""Reads files that other people or damaged disks may have written.

Files are regular and of bounded size. YAML and JSON are read without what their parsers accept too
easily: repeated keys, and numbers that are not finite.
"""

import json
import math
import os
import re
import stat
import zlib
from collections.abc import Hashable
from pathlib import Path
from typing import Any, BinaryIO, NoReturn
from zipfile import BadZipFile

import yaml

from system.errors import UserError

# Bytes of a document; the largest real one holds a few megabytes.
MOST_TEXT = 64 * 2**20
# Values of a document: YAML's references to references multiply without bound.
MOST_VALUES = 1_000_000
# Levels of lists and mappings.
DEEPEST = 60


def open_plain(path: Path) -> BinaryIO:
    """Opens a regular file for reading.

    Raises:
        OSError: It is a pipe, a device or a folder.
    """
    # A plain `open` of a named pipe would wait forever for a writer.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(0, "not a regular file", str(path))
    return os.fdopen(descriptor, "rb")


def read_bytes(path: Path, most: int) -> bytes:
    """Reads a regular file of at most `most` bytes.

    Raises:
        OSError: The file is longer; a long file is not read.
    """
    with open_plain(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise OSError(0, f"too long: {size:,} bytes, {most:,} at most", str(path))
        # The file may still grow: one byte more shows it.
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(0, f"too long: more than {most:,} bytes", str(path))
    return content


def reason(error: OSError) -> str:
    """Returns what went wrong, without the number and path that an OSError repeats."""
    return error.strerror or str(error) or type(error).__name__


def read_text(path: Path, remedy: str) -> str:
    """Reads a UTF-8 text file.

    Raises:
        UserError: The file is missing, unreadable or not UTF-8; the message ends with `remedy`.
    """
    try:
        content = read_bytes(path, MOST_TEXT)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; {remedy}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({reason(error)}); {remedy}") from None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line, column = place(content[: error.start].decode("utf-8"), error.start)
        raise UserError(f"{path}, line {line}, column {column}: not UTF-8; {remedy}") from None


def place(text: str, at: int) -> tuple[int, int]:
    """Returns the line and column, both from 1, of the character at index `at` of a text."""
    before = text[:at]
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


def parse_json(text: str, name: str, remedy: str) -> Any:
    """Parses a JSON document.

    Raises:
        UserError: The message names line and column, or the key that is given twice.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content: dict[str, Any] = {}
        for key, value in pairs:
            if key in content:
                raise UserError(f"{name}: the key {key!r} is given twice; {remedy}")
            content[key] = value
        return content

    def refuse(constant: str) -> NoReturn:
        raise UserError(f"{name}: {constant} is no number of JSON; {remedy}")

    try:
        content = json.loads(text, object_pairs_hook=once, parse_constant=refuse)
    except json.JSONDecodeError as error:
        at = f"line {error.lineno}, column {error.colno}"
        raise UserError(f"{name}, {at}: no JSON ({error.msg}); {remedy}") from None
    except UserError:
        raise
    # The document is nested too deeply, or holds integers of thousands of digits.
    except (RecursionError, ValueError) as error:
        raise UserError(f"{name}: no sound JSON ({error}); {remedy}") from None
    check_values(content, name, remedy)
    return content


def read_json(path: Path, remedy: str) -> Any:
    """Reads a JSON document from a file and checks it with `parse_json`."""
    return parse_json(read_text(path, remedy), str(path), remedy)


class _Loader(yaml.SafeLoader):
    """Loads plain values only, and refuses repeated keys, of which PyYAML keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            # Merged mappings of merged mappings grow without bound while they are read.
            if key_node.tag == "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(
                    None, None, "write out what << merges", key_node.start_mark
                )
            key = self.construct_object(key_node, deep=True)  # type: ignore[no-untyped-call]
            if key is None:
                raise yaml.constructor.ConstructorError(
                    None, None, "a key is empty", key_node.start_mark
                )
            if isinstance(key, Hashable):
                if key in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key!r} is given twice", key_node.start_mark
                    )
                seen.add(key)
        return super().construct_mapping(node, deep=deep)

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        # YAML reads 010 as 8 and 1:30 as 90.
        if re.fullmatch(r"[-+]?(0[0-9].*|0[xb].*|.*[:_].*)", node.value):
            raise yaml.constructor.ConstructorError(
                None, None, f"{node.value} is no decimal number", node.start_mark
            )
        kind = self.construct_yaml_int if node.tag.endswith("int") else self.construct_yaml_float
        return kind(node)  # type: ignore[no-any-return,no-untyped-call]

    yaml_constructors = {  # noqa: RUF012
        **yaml.SafeLoader.yaml_constructors,
        **dict.fromkeys(("tag:yaml.org,2002:int", "tag:yaml.org,2002:float"), construct_number),
    }


def parse_yaml(text: str, name: str, remedy: str) -> Any:
    """Parses a YAML document.

    Raises:
        UserError: The message names line and column.
    """
    try:
        content = yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise UserError(f"{name}{at}: no sound YAML ({error.problem}); {remedy}") from None
    # The text has a character that YAML does not admit.
    except yaml.reader.ReaderError as error:
        line, column = place(text, error.position)
        at = f"line {line}, column {column}"
        raise UserError(f"{name}, {at}: no sound YAML ({error.reason}); {remedy}") from None
    except RecursionError:
        raise UserError(f"{name}: nested too deeply; {remedy}") from None
    # A scalar is impossible, such as a date in month 13. PyYAML raises almost any exception for a
    # scalar with the tag of another type, such as `!!bool x`.
    except Exception as error:
        words = f"{type(error).__name__}: {error}"
        raise UserError(f"{name}: no sound YAML ({words:.150}); {remedy}") from None
    check_values(content, name, remedy)
    return content


def read_yaml(path: Path, remedy: str) -> Any:
    """Reads a YAML document from a file and checks it with `parse_yaml`."""
    return parse_yaml(read_text(path, remedy), str(path), remedy)


def check_values(content: Any, name: str, remedy: str) -> None:
    """Raises a UserError that names the first value that no sound document holds.

    Numbers must be finite and integers fit into 64 bits; keys must be text; nothing may be nested
    or repeated by references without bound.
    """
    # A list of waiting values instead of recursion, so that no nesting exhausts the stack.
    waiting: list[tuple[Any, tuple[str, ...]]] = [(content, ())]
    count = 0
    while waiting:
        value, keys = waiting.pop()
        count += 1
        fault = "nested too deeply" if len(keys) > DEEPEST else _fault(value)
        if count > MOST_VALUES:
            fault = f"more than {MOST_VALUES:,} values"
        if fault:
            at = ".".join(keys) or "top level"
            raise UserError(f"{name}, {at}: {fault}; {remedy}")
        if isinstance(value, dict):
            waiting += [(value[key], (*keys, str(key))) for key in reversed(value)]
        elif isinstance(value, list):
            waiting += [
                (item, (*keys, str(index))) for index, item in reversed([*enumerate(value)])
            ]


def _fault(value: Any) -> str:
    if isinstance(value, dict):
        odd = next((key for key in value if not isinstance(key, str)), None)
        return "" if odd is None else f"the key {odd!r:.80} is no text"
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} is no finite number"
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        # 0.30103 is log10(2); str() refuses to convert huge integers.
        digits = value.bit_length() * 30103 // 100000 + 1
        return f"an integer of about {digits} digits does not fit into 64 bits"
    if value is not None and not isinstance(value, dict | list | str | int | float):
        return f"a value of type {type(value).__name__}; put text into quotes"
    return ""


def read_arrays(path: Path, remedy: str) -> dict[str, Any]:
    """Reads the NumPy arrays of an .npz file.

    Raises:
        UserError: The file is missing or damaged; the message ends with `remedy`.
    """
    import numpy as np

    try:
        with open_plain(path) as file, np.load(file) as arrays:
            return dict(arrays)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; {remedy}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({reason(error)}); {remedy}") from None
    # Damage shows as one of these, wherever it lies in the archive.
    except (ValueError, EOFError, KeyError, RuntimeError, BadZipFile, zlib.error) as error:
        raise UserError(f"{path} is damaged ({error}); {remedy}") from None
