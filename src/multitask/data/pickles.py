"""Reads the pickles of CIFAR-100 without Python's unpickler: no file can call any function.

Python's own reader, even with a list of permitted names, lets a file pass any state (and so a
pointer) to NumPy's constructors, and reserves gigabytes for a number of nine bytes. This reader
follows the opcodes that `pickletools` parses, and supports what CIFAR's files contain:
dictionaries, lists and tuples of numbers and strings, and arrays of integers. Three small functions
here replace the three names that real files refer to.
"""

import math
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multitask.runs.errors import UserError
from system.reading import read_bytes, reason

# The largest real file, `train`, has 155,246,000 bytes.
MOST_BYTES = 400 * 2**20
# `train` has 200,000 opcodes; a file written by Python 3 has about five times as many.
MOST_OPCODES = 1_200_000


class _Array:
    """An array while its file is read; the opcode BUILD sets its `content`."""

    content: NDArray[Any] | None = None


class _Type:
    """An array's type while its file is read: a code such as "u1", later its byte order."""

    def __init__(self, code: str) -> None:
        self.code = code
        self.order = "="


class _Mark:
    """The start of the items of a list, tuple or dictionary on the stack."""


MARK = _Mark()
CODES = {f"{kind}{size}" for kind in "ui" for size in (1, 2, 4, 8)}


def _new_array(*_: Any) -> _Array:
    """Replaces numpy's `_reconstruct`: an array without shape, type or content."""
    return _Array()


def _new_type(code: Any, *_: Any) -> _Type:
    """Replaces `numpy.dtype`."""
    name = code.decode("ascii") if isinstance(code, bytes) else code
    # Only texts are looked up: the hash of a deeply nested tuple exhausts the stack.
    if not isinstance(name, str) or name not in CODES:
        raise ValueError(f"it holds an array of type {name!r:.40}")
    return _Type(name)


def _encoded(text: Any, encoding: Any) -> bytes:
    """Replaces `_codecs.encode`, with which Python 3 writes bytes for Python 2."""
    if encoding not in ("latin1", b"latin1") or not isinstance(text, str):
        raise ValueError("it encodes something else than latin1")
    return text.encode("latin-1")


NAMES: dict[str, Callable[..., Any]] = {
    "numpy.core.multiarray _reconstruct": _new_array,
    "numpy._core.multiarray _reconstruct": _new_array,
    "numpy ndarray": _Array,
    "numpy dtype": _new_type,
    "_codecs encode": _encoded,
}


def _set_type(made: _Type, state: tuple[Any, ...]) -> None:
    """Sets the state of a type: (version, byte order, None, None, None, -1, -1, 0)."""
    # Python 2 wrote strings as bytes.
    order = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]
    if order not in ("|", "<", ">", "=") or state[2:5] != (None, None, None):
        raise ValueError("it holds an array of a composed type")
    made.order = order


def _set_array(made: _Array, state: tuple[Any, ...]) -> None:
    """Sets the state of an array: (version, shape, type, whether columns come first, bytes)."""
    _, shape, kind, columns_first, content = state
    if not (isinstance(shape, tuple) and isinstance(kind, _Type) and isinstance(content, bytes)):
        raise ValueError("it holds an array of another form")
    if not 1 <= len(shape) <= 2 or not all(type(n) is int and 0 <= n < 2**40 for n in shape):
        raise ValueError(f"it holds an array of shape {shape!r:.60}")
    dtype = np.dtype(f"{kind.order}{kind.code}")
    # Compared before anything of the announced size is made.
    if math.prod(shape) * dtype.itemsize != len(content):
        raise ValueError(f"it holds {len(content)} bytes for an array of shape {shape!r:.60}")
    # A view of the file's bytes: no second copy of the images.
    flat = np.frombuffer(content, dtype)
    made.content = flat.reshape(shape, order="F" if columns_first is True else "C")


class _Machine:
    """The stack and memory that a pickle's opcodes work on."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memory: dict[int, Any] = {}

    def to_mark(self) -> list[Any]:
        """Removes and returns the items above the last mark, and removes the mark."""
        # From the top: lists and dictionaries may be nested.
        for index in range(len(self.stack) - 1, -1, -1):
            if self.stack[index] is MARK:
                items = self.stack[index + 1 :]
                del self.stack[index:]
                return items
        raise ValueError("it closes what it never opened")

    def take(self, kind: type) -> Any:
        """Removes and returns the topmost value, which must be of the given type."""
        value = self.stack.pop()
        if type(value) is not kind:
            raise ValueError(f"it holds a {type(value).__name__} where a {kind.__name__} belongs")
        return value

    def top(self, kind: type) -> Any:
        """Returns the topmost value, which must be of the given type."""
        self.stack.append(self.take(kind))
        return self.stack[-1]

    def set_items(self, items: list[Any]) -> None:
        """Adds alternating keys and values to the dictionary on top."""
        if len(items) % 2:
            raise ValueError("it holds a key without a value")
        if not all(isinstance(key, str | bytes) for key in items[::2]):
            raise ValueError("it holds a key that is no text")
        self.top(dict).update(zip(items[::2], items[1::2], strict=True))

    def push_global(self, name: str) -> None:
        """Pushes the replacement of a name.

        Raises:
            ValueError: The name is not in NAMES.
        """
        if name not in NAMES:
            raise ValueError(f"it asks for {name.replace(' ', '.'):.80}")
        self.stack.append(NAMES[name])

    def reduce(self) -> None:
        """Calls the function on the stack, one of NAMES, with the tuple above it."""
        arguments = self.take(tuple)
        function = self.stack.pop()
        # By identity: a value from the file may compare equal to anything.
        if not any(function is known for known in NAMES.values()):
            raise ValueError("it calls what is no function")
        self.stack.append(function(*arguments))

    def build(self) -> None:
        """Gives the array or type on the stack the state above it."""
        state = self.take(tuple)
        made = self.stack[-1]
        if isinstance(made, _Array):
            _set_array(made, state)
        elif isinstance(made, _Type):
            _set_type(made, state)
        else:
            raise ValueError("it gives a state to what has none")


def _python2(text: str) -> bytes:
    # `pickletools` decodes Python 2's strings as Latin-1.
    return text.encode("latin-1")


# One case for each opcode that a file of numbers and strings needs.
def _step(machine: _Machine, opcode: str, argument: Any) -> None:  # noqa: C901
    """Executes one opcode.

    Raises:
        ValueError: No file of numbers and strings needs this opcode.
    """
    stack, memory = machine.stack, machine.memory
    match opcode:
        case "PROTO" | "FRAME":
            pass
        case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINUNICODE" | "SHORT_BINUNICODE":
            stack.append(argument)
        case "BINUNICODE8" | "BINBYTES" | "SHORT_BINBYTES" | "BINBYTES8" | "BINFLOAT":
            stack.append(argument)
        case "BINSTRING" | "SHORT_BINSTRING":
            stack.append(_python2(argument))
        case "NONE" | "NEWTRUE" | "NEWFALSE":
            stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[opcode])
        case "EMPTY_DICT" | "EMPTY_LIST" | "EMPTY_TUPLE":
            stack.append({"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}[opcode]())
        case "MARK":
            stack.append(MARK)
        case "TUPLE":
            stack.append(tuple(machine.to_mark()))
        case "TUPLE1" | "TUPLE2" | "TUPLE3":
            count = int(opcode[-1])
            # A slice from the end would silently take fewer.
            if len(stack) < count:
                raise ValueError("it takes more than there is")
            stack[-count:] = [tuple(stack[-count:])]
        case "APPEND":
            value = stack.pop()
            machine.top(list).append(value)
        case "APPENDS":
            values = machine.to_mark()
            machine.top(list).extend(values)
        case "SETITEM":
            value = stack.pop()
            machine.set_items([stack.pop(), value])
        case "SETITEMS":
            machine.set_items(machine.to_mark())
        case "BINPUT" | "LONG_BINPUT":
            memory[argument] = stack[-1]
        case "MEMOIZE":
            memory[len(memory)] = stack[-1]
        case "BINGET" | "LONG_BINGET":
            stack.append(memory[argument])
        case "GLOBAL":
            machine.push_global(argument)
        case "STACK_GLOBAL":
            name = machine.take(str)
            machine.push_global(f"{machine.take(str)} {name}")
        case "REDUCE":
            machine.reduce()
        case "BUILD":
            machine.build()
        case _:
            raise ValueError(f"it uses the opcode {opcode}")


def loads(content: bytes) -> Any:
    """Returns what a pickle holds; strings of Python 2 become bytes.

    Arrays are supported as values of the outermost dictionary.

    Raises:
        Exception: Any exception, if the pickle is damaged or holds more than arrays of integers,
            lists, tuples, dictionaries, numbers and strings.
    """
    machine = _Machine()
    for count, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        if count >= MOST_OPCODES:
            raise ValueError(f"it has more than {MOST_OPCODES:,} parts")
        if opcode.name == "STOP":
            break
        _step(machine, opcode.name, argument)
    # A sound pickle leaves exactly one value on the stack.
    (found,) = machine.stack
    if not isinstance(found, dict):
        return found
    return {
        key: value.content if isinstance(value, _Array) else value for key, value in found.items()
    }


def read_pickle(path: Path, remedy: str = "put the original file there") -> dict[bytes, Any]:
    """Reads the dictionary in a CIFAR file.

    Raises:
        UserError: The file is missing or damaged; the message ends with `remedy`.
    """
    try:
        content = read_bytes(path, MOST_BYTES)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; {remedy}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({reason(error)}); {remedy}") from None
    try:
        found = loads(content)
    # A damaged pickle may raise almost any exception.
    except Exception as error:
        words = f"{type(error).__name__}: {error}"
        raise UserError(f"{path} is no CIFAR-100 file ({words:.150}); {remedy}") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} holds a {type(found).__name__}, not a dictionary; {remedy}")
    return found
