"""Typed settings: a frozen dataclass declares each key's type, bounds, default and source.

The check of config files, `make config` and the code all read this declaration. A subclass may give
an inherited setting another default and source; its meaning and bounds stay.
"""

import inspect
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Literal, Self, cast

from system.errors import UserError

# Names of JSON Schema for the bounds that a declaration may give.
BOUNDS = {
    "least": "minimum",
    "most": "maximum",
    "above": "exclusiveMinimum",
    "below": "exclusiveMaximum",
    "step": "multipleOf",
}
LENGTHS = {"shortest": "minItems", "longest": "maxItems"}
TUNED = "_tuned"  # suffix of a method that is trained with tuned values
PLAIN = {int: "integer", float: "number", str: "string", bool: "boolean"}


def described(text: str, **limits: Any) -> Any:
    """Declares a setting without a default, by meaning and limits, for a base class.

    Args:
        text: What the setting does, in one sentence.
        limits: `least`, `most`, `above`, `below`, `step` for a number or the numbers of a list;
            `shortest`, `longest` for a list; `methods`: names of the only methods that read it;
            `only`: (key, value) of another setting, without which the setting is not read.
    """
    return field(metadata={"text": text, **limits})


def given(default: Any, source: str = "", text: str = "", **limits: Any) -> Any:
    """Declares a setting with the paper's value and its source ("not given" if there is none).

    Args:
        default: The value at the scale of the paper.
        source: Section, table, appendix or base code that gives it.
        text: What the setting does; an inherited setting has its text already.
        limits: As for `described`.
    """
    metadata = {"source": source, **({"text": text} if text else {}), **limits}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Block:
    """Base of the settings of one block of a config."""

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Takes the settings of this class out of a larger mapping.

        Raises:
            UserError: A setting is missing and has no default.
        """
        known = {one.name: one for one in fields(cls)}
        missing = [
            name for name, one in known.items() if name not in values and one.default is MISSING
        ]
        if missing:
            raise UserError(f"config has no {', '.join(missing)}; `make config` prints every key")
        # Keys of other blocks are ignored: the mapping holds a whole config.
        return cls(**{name: values[name] for name in known if name in values})


def notes(cls: type[Block]) -> dict[str, dict[str, Any]]:
    """Returns {setting: its text, source and limits}, including those of base classes."""
    found: dict[str, dict[str, Any]] = {}
    for base in reversed(cls.__mro__):
        for name, one in getattr(base, "__dataclass_fields__", {}).items():
            # A class also lists its bases' fields; only those that it declares itself may override.
            if name in inspect.get_annotations(base):
                found[name] = {**found.get(name, {}), **one.metadata}
    return found


def defaults(cls: type[Block]) -> dict[str, Any]:
    """Returns {setting: default} as a YAML file holds them.

    Raises:
        TypeError: A setting has no default.
    """
    values = {one.name: one.default for one in fields(cls)}
    # The paper's values must be complete; a base class alone is no block of a config.
    without = [name for name, value in values.items() if value is MISSING]
    if without:
        raise TypeError(f"{cls.__module__}: no default for {', '.join(without)}")
    return {name: _listed(value) for name, value in values.items()}


def _listed(value: Any) -> Any:
    return [_listed(one) for one in value] if isinstance(value, tuple) else value


def unread(cls: type[Block], values: Mapping[str, Any], method: str) -> set[str]:
    """Returns the settings that a run of `method` does not read.

    Its numbers cannot depend on them.
    """
    found = set()
    for name, note in notes(cls).items():
        key, wanted = note.get("only", ("", None))
        if method not in note.get("methods", (method,)) or (key and values[key] != wanted):
            found.add(name)
    return found


def schema(cls: type[Block]) -> dict[str, Any]:
    """Returns the JSON Schema of a mapping that holds some of the settings and nothing else."""
    hints = typing.get_type_hints(cls)
    properties = {
        name: {"description": note["text"], **_schema_of(hints[name], note)}
        for name, note in notes(cls).items()
    }
    return {
        "type": "object",
        "description": cls.__doc__,
        "additionalProperties": False,
        "properties": properties,
    }


def _schema_of(hint: Any, note: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the schema of one type; `note` holds the limits of numbers and lists."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_schema_of(one, note) for one in arguments]}
    if origin is tuple:
        listed: dict[str, Any] = {"type": "array", "items": _schema_of(arguments[0], note)}
        # A tuple of fixed length, such as the widths of five stages.
        if arguments[-1] is not ...:
            return listed | {"minItems": len(arguments), "maxItems": len(arguments)}
        lengths = {LENGTHS[key]: note[key] for key in LENGTHS if key in note}
        return listed | {"minItems": 1, "uniqueItems": True} | lengths
    kind = PLAIN[cast(type, hint)]
    limits = {BOUNDS[key]: note[key] for key in BOUNDS if key in note}
    pattern = {"pattern": note["pattern"]} if "pattern" in note else {}
    return {"type": kind, **(limits if kind in ("integer", "number") else {}), **pattern}


def rows(block: Mapping[str, Any]) -> dict[str, list[int]]:
    """Takes a config's block of an experiment; returns the seeds of every row that it asks for.

    Rows are its methods, and those that it tunes once more with the ending TUNED.
    """
    tuned = block.get("tuning", {}).get("methods", ())
    names = [*block.get("methods", ()), *(f"{method}{TUNED}" for method in tuned)]
    others = block.get("seeds_of", {})
    return {name: list(others.get(name, block.get("seeds", ()))) for name in names}
