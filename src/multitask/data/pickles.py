"""Reads the pickles of CIFAR-100 without Python's unpickler: no byte of a file can call anything.

Python's own reader, even with a list of permitted names, lets a file hand NumPy's constructors any
state (and thereby a pointer), and reserves gigabytes for a number of nine bytes. This one follows
the format's opcodes, as `pickletools` parses them, for what these files are made of: dictionaries,
lists and tuples of numbers and strings, and arrays of integers. The three names that real files ask
for stand for three small functions here.
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

MOST_BYTES = 400 * 2**20  # the largest real file, `train`, has 155,246,000
MOST_OPCODES = 3_000_000  # `train` has 200,000; one written by Python 3 perhaps five times that


class _Array:
    """An array while its file is read: `content` comes with the opcode BUILD."""

    content: NDArray[Any] | None = None


class _Type:
    """An array's type while its file is read: a code such as "u1", then perhaps its byte order."""

    def __init__(self, code: str) -> None:
        self.code = code
        self.order = "="


class _Mark:
    """Where the items of a list, tuple or dictionary begin on the stack."""


MARK = _Mark()
CODES = {f"{kind}{size}" for kind in "ui" for size in (1, 2, 4, 8)}


def _new_array(*_: Any) -> _Array:
    """Stands for numpy's `_reconstruct`: an array without shape, type or content."""
    return _Array()


def _new_type(code: Any, *_: Any) -> _Type:
    """Stands for `numpy.dtype`."""
    name = code.decode("ascii") if isinstance(code, bytes) else code
    if name not in CODES:
        raise ValueError(f"it holds an array of type {name!r:.40}")
    return _Type(name)


def _encoded(text: Any, encoding: Any) -> bytes:
    """Stands for `_codecs.encode`, by which Python 3 writes bytes for Python 2."""
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
    """The state of a type: (version, byte order, None, None, None, -1, -1, 0)."""
    order = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]
    if order not in ("|", "<", ">", "=") or state[2:5] != (None, None, None):
        raise ValueError("it holds an array of a composed type")
    made.order = order


def _set_array(made: _Array, state: tuple[Any, ...]) -> None:
    """The state of an array: (version, shape, type, whether columns come first, bytes)."""
    _, shape, kind, columns_first, content = state
    if not (isinstance(shape, tuple) and isinstance(kind, _Type) and isinstance(content, bytes)):
        raise ValueError("it holds an array of another form")
    if not 1 <= len(shape) <= 2 or not all(type(n) is int and 0 <= n < 2**40 for n in shape):
        raise ValueError(f"it holds an array of shape {shape!r:.60}")
    dtype = np.dtype(f"{kind.order}{kind.code}")
    if math.prod(shape) * dtype.itemsize != len(content):
        raise ValueError(f"it holds {len(content)} bytes for an array of shape {shape!r:.60}")
    flat = np.frombuffer(content, dtype)
    made.content = flat.reshape(shape, order="F" if columns_first is True else "C")


class _Machine:
    """The stack and memory that a pickle's opcodes work on."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memory: dict[int, Any] = {}

    def to_mark(self) -> list[Any]:
        """Take what lies above the last mark, and the mark."""
        for index in range(len(self.stack) - 1, -1, -1):
            if self.stack[index] is MARK:
                items = self.stack[index + 1 :]
                del self.stack[index:]
                return items
        raise ValueError("it closes what it never opened")

    def take(self, kind: type) -> Any:
        """Take the topmost value, which must be of a kind."""
        value = self.stack.pop()
        if type(value) is not kind:
            raise ValueError(f"it holds a {type(value).__name__} where a {kind.__name__} belongs")
        return value

    def top(self, kind: type) -> Any:
        """Look at the topmost value, which must be of a kind."""
        self.stack.append(self.take(kind))
        return self.stack[-1]

    def set_items(self, items: list[Any]) -> None:
        """Put keys and values in turn into the dictionary on top."""
        if len(items) % 2:
            raise ValueError("it holds a key without a value")
        self.top(dict).update(zip(items[::2], items[1::2], strict=True))

    def push_global(self, name: str) -> None:
        """Push what a name stands for; ValueError for all but NAMES."""
        if name not in NAMES:
            raise ValueError(f"it asks for {name.replace(' ', '.'):.80}")
        self.stack.append(NAMES[name])

    def reduce(self) -> None:
        """Call the function on the stack, one of NAMES, with the tuple above it."""
        arguments = self.take(tuple)
        function = self.stack.pop()
        if not any(function is known for known in NAMES.values()):
            raise ValueError("it calls what is no function")
        self.stack.append(function(*arguments))

    def build(self) -> None:
        """Give the array or type on the stack the state above it."""
        state = self.take(tuple)
        made = self.stack[-1]
        if isinstance(made, _Array):
            _set_array(made, state)
        elif isinstance(made, _Type):
            _set_type(made, state)
        else:
            raise ValueError("it gives a state to what has none")


def _python2(text: str) -> bytes:
    return text.encode("latin-1")  # `pickletools` decodes Python 2's strings so


def _step(machine: _Machine, opcode: str, argument: Any) -> None:
    """One opcode; ValueError for those that no file of numbers and strings needs."""
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
    """What a pickle holds; any exception if it is damaged or holds more than arrays of integers,
    lists, tuples, dictionaries, numbers and strings.

    Strings of Python 2 come as bytes. Arrays are found as values of the outermost dictionary."""
    machine = _Machine()
    for count, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        if count >= MOST_OPCODES:
            raise ValueError(f"it has more than {MOST_OPCODES:,} parts")
        if opcode.name == "STOP":
            break
        _step(machine, opcode.name, argument)
    (found,) = machine.stack
    if not isinstance(found, dict):
        return found
    return {
        key: value.content if isinstance(value, _Array) else value for key, value in found.items()
    }


def read_pickle(path: Path, remedy: str = "put the original file there") -> dict[bytes, Any]:
    """The dictionary in a CIFAR file; UserError that ends with the remedy."""
    try:
        content = read_bytes(path, MOST_BYTES)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; {remedy}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({reason(error)}); {remedy}") from None
    try:
        found = loads(content)
    except Exception as error:  # a damaged pickle raises nearly anything
        words = f"{type(error).__name__}: {error}"
        raise UserError(f"{path} is no CIFAR-100 file ({words:.150}); {remedy}") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} holds a {type(found).__name__}, not a dictionary; {remedy}")
    return found
