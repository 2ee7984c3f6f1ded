"""Reads, checks and completes a config, and reports the first fault in one line.

    python -m experiments.config config/quick.yaml     # prints every setting with its source

A scale's file in `config/` lists the methods and seeds of each experiment, and the settings that
differ from the paper's. The paper's settings are the defaults in `experiments/<name>/settings.py`,
which also define the allowed values.
"""

import contextlib
import difflib
import importlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonschema import Draft202012Validator, validators

from multitask.runs.sources import method_names
from multitask.settings import Supervised
from system import command
from system.errors import UserError
from system.reading import check_values, parse_json, read_yaml
from system.settings import Block, defaults, described, given, notes, rows, schema, unread

FOLDER = Path(__file__).resolve().parent
DESCRIBED = "`make config` prints and describes every key"
SCALES = "correct it, or name a scale of config/*.yaml"
RUNS = ("methods", "seeds", "seeds_of", "tuning")  # they select runs and are no settings of a run
THEORY = "theory"

# Largest allowed numbers, MOST for keys that are not listed. With larger values a run would end in
# an error of the allocator, or be killed by the kernel.
MOST = 1_000_000_000
# Smallest allowed positive number: float32 would take a much smaller one for 0.
LEAST = 1e-30
LARGEST = {
    **dict.fromkeys(("torch_threads", "workers"), 1_024),
    **dict.fromkeys(("train_examples", "test_examples", "validation_examples"), 2_000_000),
    **dict.fromkeys(("batch_size", "batch_per_task"), 1_000_000),
    **dict.fromkeys(("width", "widths", "filters", "units"), 16_384),
    **dict.fromkeys(("height", "image_side"), 8_192),
    **dict.fromkeys(("layers", "blocks"), 1_000),
    **dict.fromkeys(("epochs", "collections", "horizon", "stored_points"), 10_000_000),
    **dict.fromkeys(("instances", "trajectories"), 100_000_000),
    **dict.fromkeys(("classes", "seeds_per_job", "high_dimensions"), 100_000),
    "seeds": 10**18 - 1,  # what the option --seeds takes
    "data_seed": 2**63 - 1,
    "seed": 2**63 - 1,
}


@dataclass(frozen=True, kw_only=True)
class Globals(Block):
    """What concerns every experiment."""

    scale: str = described(
        "First folder below results/; printed in every caption and table footer.",
        # results/published holds what is published, a folder for each scale.
        pattern="^(?!published$)[a-z][a-z0-9_]{0,39}$",
    )
    data_root: str = given(
        "data", "", "Folder of the data sets; the environment variable PCGRAD_DATA wins over it."
    )
    torch_threads: int = given(
        1,
        "",
        "Threads of one job; recorded with the run, because it changes the last bits.",
        least=1,
    )
    device: Literal["cpu", "cuda", "auto"] = given(
        "cpu", "", "Where training runs; auto takes a GPU when there is one."
    )
    seeds_per_job: int = given(1, "", "Seeds that one job trains one after the other.", least=1)


@dataclass(frozen=True, kw_only=True)
class Tuning(Block):
    """Rows `<method>_tuned`: one grid and one budget for every method.

    Every method is trained at every combination of the listed values, on train without a held-out
    share. The values with the best validation accuracy at the last epoch, averaged over tasks, then
    train on all of it."""

    methods: tuple[str, ...] = described(
        "Methods that get a tuned row; none trains no grid.", shortest=0
    )
    seeds: tuple[int, ...] = described("Seeds of every point of the grid.", least=0)
    validation_share: float = described(
        "Share of the training examples held out at every point.", above=0, below=0.5
    )
    epochs: int = described("Passes over the training examples at every point.", least=1)
    learning_rate: tuple[float, ...] = described("Step sizes tried.", above=0)
    weight_decay: tuple[float, ...] = described("Factors of the L2 penalty tried.", least=0)


@cache
def declared() -> dict[str, type[Block]]:
    """{folder of `experiments/`: its class of settings}, including the theory's."""
    names = sorted(path.parent.name for path in FOLDER.glob("*/settings.py"))
    modules = {name: importlib.import_module(f"experiments.{name}.settings") for name in names}
    return {name: module.Settings for name, module in modules.items()}


def trains(experiment: str) -> bool:
    """Whether an experiment trains methods; the landscape and the theory do not."""
    return (FOLDER / experiment / "task.py").is_file()


@cache
def _validator() -> Any:
    # JSON Schema accepts 1.0 as an integer, but range() and torch do not.
    types = Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    )
    blocks = {name: _block(name) for name in declared() if name != THEORY}
    # `schema` makes a JSON Schema from the types and limits of the settings.
    whole = schema(Globals)
    whole["properties"] |= {
        "experiments": {"type": "object", "additionalProperties": False, "properties": blocks},
        THEORY: schema(declared()[THEORY]),
    }
    return validators.extend(Draft202012Validator, type_checker=types)(whole)


def _block(experiment: str) -> dict[str, Any]:
    """The schema of one experiment: its settings and, if it trains, the keys that select runs."""
    cls = declared()[experiment]
    block = schema(cls)
    if trains(experiment):
        names = method_names(experiment)
        # A METHODS that is computed at run time has no names in the source: any text passes here.
        row: dict[str, Any] = {"enum": list(names)} if names else {"type": "string"}
        methods = {"type": "array", "uniqueItems": True, "items": row}
        seed = {"type": "integer", "minimum": 0}
        seeds = {"type": "array", "items": seed, "minItems": 1, "uniqueItems": True}
        others = {"type": "object", "propertyNames": row, "additionalProperties": seeds}
        block["properties"] |= {"methods": methods, "seeds": seeds, "seeds_of": others}
        if issubclass(cls, Supervised):
            tuning = schema(Tuning)
            tuning["properties"]["methods"] = methods
            block["properties"]["tuning"] = tuning
    return block


def read(text: str) -> dict[str, Any]:
    """Read a config, check it and fill in the paper's settings.

    The text is the path of a scale's YAML file, or JSON with the part that one job reads.

    Raises:
        UserError: The config is not valid. The message names line and column, or the key.
    """
    if text.lstrip().startswith("{"):
        content = parse_json(text, "--config", "give a YAML file or sound JSON")
        check(content, part=True)
        return complete(content)
    if not text.isprintable():
        raise UserError(f"{text!r:.60} is neither a file nor JSON; {SCALES}")
    content = read_yaml(Path(text), SCALES)
    if not isinstance(content, dict):
        raise UserError(f"config file {text} holds no mapping; compare it with config/quick.yaml")
    check(content)
    return complete(content)


def complete(config: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in the paper's settings where the config has none."""
    blocks = {
        name: {**defaults(declared().get(name, Block)), **block}
        for name, block in config.get("experiments", {}).items()
    }
    shared = {one.name: one.default for one in fields(Globals) if one.default is not MISSING}
    return {**shared, **config, "experiments": blocks}


def settings_of(config: Mapping[str, Any], experiment: str, method: str = "") -> dict[str, Any]:
    """The settings that one run reads: the globals and those of its experiment.

    Settings that the method does not read are left out; without a method, those that some method
    does not read.

    Raises:
        UserError: The config lacks the experiment or a global setting.
    """
    blocks = config.get("experiments", {})
    if experiment not in blocks:
        known = ", ".join(sorted(blocks)) or "none"
        raise UserError(f"config has no block experiments.{experiment}; it has {known}")
    missing = [key for key in notes(Globals) if key not in config]
    if missing:
        raise UserError(f"config has no {', '.join(missing)}; {DESCRIBED}")
    block = {key: value for key, value in blocks[experiment].items() if key not in RUNS}
    # A setting that the method does not read must not change the identity of its runs.
    ignored = unread(declared().get(experiment, Block), block, method)
    # How seeds are spread over jobs changes no number.
    shared = {key: config[key] for key in notes(Globals) if key != "seeds_per_job"}
    # A folder named ~ would be made otherwise.
    shared["data_root"] = os.path.expanduser(shared["data_root"])
    if shared["data_root"].startswith("~"):
        raise UserError(f"config, data_root: {shared['data_root']!r:.60} is the home of nobody")
    return {**shared, **{key: block[key] for key in block if key not in ignored}}


def check(config: Mapping[str, Any], *, part: bool = False) -> None:
    """Check the config against the schema and the largest allowed values.

    A `part` holds only what one job reads: methods, seeds and theory may be missing.

    Raises:
        UserError: A key is not valid. The message names the first one in the order of the file.
    """
    check_values(config, "config", DESCRIBED)
    # Report a misspelt key before a missing one, because the first causes the second.
    errors = [*_validator().iter_errors(config)]
    if errors:
        where = ".".join(str(key) for key in errors[0].absolute_path) or "top level"
        raise UserError(f"config, {where}: {_short(_words(errors[0]))}; {DESCRIBED}")
    if not part:
        _require(config)
    for place, value in _leaves(config):
        # An item of a list has the limit of the list's key.
        key = next(part for part in reversed(place) if not part.isdigit())
        at = f"config, {'.'.join(place)}"
        if isinstance(value, str) and not (value and value.isprintable()):
            odd = "is empty or holds a line break or a control character; write it in one line"
            raise UserError(f"{at}: {value!r:.60} {odd}")
        most = LARGEST.get(key, MOST)
        if isinstance(value, int | float) and value > most:
            raise UserError(f"{at}: {value} is too large; {most:,} at most")
        if isinstance(value, float) and 0 < value < LEAST:
            raise UserError(f"{at}: {value} is too small; {LEAST} at least")


def _require(config: Mapping[str, Any]) -> None:
    """Raise UserError for the first missing key without which a scale cannot run."""

    def need(place: str, holder: Mapping[str, Any], keys: Iterable[str]) -> None:
        for key in keys:
            if key not in holder:
                raise UserError(f"config, {place}: {key!r} is missing; {DESCRIBED}")

    need("top level", config, ("scale", "experiments", THEORY))
    need(THEORY, config[THEORY], notes(declared()[THEORY]))
    for name, block in config["experiments"].items():
        place = f"experiments.{name}"
        need(place, block, ("methods", "seeds") if trains(name) else ())
        if "tuning" in block:
            need(f"{place}.tuning", block["tuning"], notes(Tuning))
        for method in set(block.get("seeds_of", ())) - rows(block).keys():
            raise UserError(f"config, {place}.seeds_of: {method!r} is no row; add it to methods")


def _words(error: Any) -> str:
    """The message of a schema's error, with what was probably meant."""
    if error.validator == "anyOf":
        # A choice between a name and a list: what the value is meant to be says more.
        error = error.context[-1 if isinstance(error.instance, list) else 0]
    if error.validator == "additionalProperties":
        known = error.schema["properties"]
        odd = next(key for key in error.instance if key not in known)
        return f"there is no key {odd!r}{_near(odd, known)}"
    if error.validator == "enum":
        return f"{error.message}{_near(error.instance, error.validator_value)}"
    if error.validator_value in ("integer", "number") and isinstance(error.instance, str):
        # YAML takes 1e-3, which has no point, for text.
        with contextlib.suppress(ValueError, OverflowError):
            number = float(error.instance)
            whole = error.validator_value == "integer" and number == int(number)
            plain = yaml.safe_dump(int(number) if whole else number).split()[0]
            return f"{error.instance!r} is text; write {plain} without quotes"
    return str(error.message)


def _near(text: Any, known: Iterable[Any]) -> str:
    near = difflib.get_close_matches(str(text), map(str, known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _short(text: str) -> str:
    return text if len(text) < 200 else f"{text[:120]} … {text[-60:]}"


def _leaves(content: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every value that is neither a mapping nor a list, with the keys that lead to it."""
    if isinstance(content, Mapping):
        for key, value in content.items():
            yield from _leaves(value, (*place, key))
    elif isinstance(content, list):
        for index, value in enumerate(content):
            yield from _leaves(value, (*place, str(index)))
    else:
        yield place, content


def printed(config: Mapping[str, Any]) -> str:
    """Format a complete config as YAML, with the meaning and source of every setting."""
    lines = _lines(Globals, config, "")
    lines.append("experiments:")
    for name, block in config["experiments"].items():
        cls = declared()[name]
        lines += ["", f"  {name}:  # {(cls.__doc__ or '').partition(chr(10))[0]}"]
        lines += [_line(key, block[key], "", "    ") for key in RUNS if key in block]
        lines += _lines(cls, block, "    ")
    if THEORY in config:
        lines += ["", f"{THEORY}:", *_lines(declared()[THEORY], config[THEORY], "  ")]
    return "\n".join([*lines, ""])


def _lines(cls: type[Block], values: Mapping[str, Any], indent: str) -> list[str]:
    lines = []
    for name, note in notes(cls).items():
        comment = "; ".join(filter(None, (note["text"].rstrip("."), note.get("source"))))
        lines += [_line(name, values[name], comment, indent)] if name in values else []
    return lines


def _line(key: str, value: Any, comment: str, indent: str) -> str:
    # Flow style prints "{key: value}"; the slice below drops the braces.
    text = yaml.safe_dump({key: value}, default_flow_style=True, width=10**6, sort_keys=False)
    return f"{indent}{text.strip()[1:-1]}" + (f"  # {comment}" if comment else "")


def main(arguments: Sequence[str]) -> None:
    """Print the complete configuration of a scale."""
    if len(arguments) != 1:
        what = "prints the complete configuration of a scale"
        raise UserError(f"python -m experiments.config FILE {what}")
    print(printed(read(arguments[0])), end="")


if __name__ == "__main__":
    command.leave(lambda: main(sys.argv[1:]))
