"""The one place where a config is read and checked: what is wrong is named in one line."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, ValidationError, validators

from system.errors import UserError
from system.reading import check_values, parse_json, read_yaml

SCHEMA = Path(__file__).resolve().parents[1] / "config" / "schema.yaml"
DESCRIBED = "config/schema.yaml describes every key"
SCALES = "the scales are in config/*.yaml"
# What jobs get as JSON leaves out: which runs there are, and the blocks of other experiments.
LEFT_OUT = ("methods", "seeds", "tuning", "seeds_per_job", "theory")

# Largest values that a machine could hold or finish; every other integer: MOST. Beyond them a run
# ends in the allocator's words, or in the kernel's killing the process.
MOST = 1_000_000_000
LARGEST = {
    **dict.fromkeys(("torch_threads", "workers"), 1_024),
    **dict.fromkeys(("train_examples", "test_examples", "validation_examples"), 2_000_000),
    **dict.fromkeys(("batch_size", "batch_per_task"), 1_000_000),
    **dict.fromkeys(("width", "widths", "filters", "units"), 16_384),
    **dict.fromkeys(("height", "image_side"), 8_192),
    **dict.fromkeys(("layers", "blocks"), 1_000),
    **dict.fromkeys(("epochs", "collections", "horizon", "stored_points"), 10_000_000),
    **dict.fromkeys(("instances", "trajectories", "lipschitz_instances"), 100_000_000),
    **dict.fromkeys(("classes", "seeds_per_job", "high_dimensions"), 100_000),
    "seeds": 2**63 - 1,
    "data_seed": 2**63 - 1,
    "seed": 2**63 - 1,
}

# 1.0 is an integer for JSON Schema, and a float for range() and torch.
_TYPES = Draft202012Validator.TYPE_CHECKER.redefine(
    "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
)
_Validator = validators.extend(Draft202012Validator, type_checker=_TYPES)


@cache
def _validator() -> Any:
    return _Validator(read_yaml(SCHEMA, "restore it from the repository"))


def read(text: str) -> dict[str, Any]:
    """A config from a YAML file's path or from JSON text (how Snakemake passes a job's part of it).

    UserError names file, line and column, or the key, of what is wrong."""
    if text.lstrip().startswith("{"):
        content = parse_json(text, "--config", "give a YAML file or sound JSON")
        check(content, part=True)
        return content
    content = read_yaml(Path(text), SCALES)
    if not isinstance(content, dict):
        raise UserError(f"config file {text} holds no mapping; compare it with config/quick.yaml")
    check(content)
    return content


def check(config: dict[str, Any], *, part: bool = False) -> None:
    """Raise UserError that names the first key (in the order of the file) at odds with
    config/schema.yaml.

    `part`: the config holds what one job reads; what LEFT_OUT names and other experiments' blocks
    may be missing.
    """
    check_values(config, "config", DESCRIBED)
    errors = [
        error for error in _validator().iter_errors(config) if not (part and _may_miss(error))
    ]
    # An unknown key comes before a missing one: a typo causes both, and the typo is what there is
    # to mend.
    errors.sort(key=lambda error: error.validator == "required")
    if errors:
        where = ".".join(str(key) for key in errors[0].absolute_path) or "top level"
        raise UserError(f"config, {where}: {_short(errors[0].message)}; {DESCRIBED}")
    for place, value in _leaves(config):
        key = next(part for part in reversed(place) if not part.isdigit())
        if isinstance(value, str) and not value.isprintable():
            raise UserError(
                f"config, {'.'.join(place)}: {value!r:.60} holds a line break or a control "
                f"character; write it in one line"
            )
        most = LARGEST.get(key, MOST)
        if isinstance(value, int) and value > most:
            raise UserError(f"config, {'.'.join(place)}: {value} is too large; {most:,} at most")


def _may_miss(error: ValidationError) -> bool:
    """Whether a required key is missing that the part of a config for one job need not have."""
    if error.validator != "required":
        return False
    missing = [key for key in error.validator_value if key not in error.instance]
    named = next(key for key in missing if error.message.startswith(repr(key)))
    return named in LEFT_OUT or list(error.absolute_path) == ["experiments"]


def _short(text: str) -> str:
    return text if len(text) < 200 else f"{text[:120]} … {text[-60:]}"


def _leaves(content: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value that is neither a mapping nor a list, with the keys that lead to it."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _leaves(value, (*place, key))
    elif isinstance(content, list):
        for index, value in enumerate(content):
            yield from _leaves(value, (*place, str(index)))
    else:
        yield place, content
