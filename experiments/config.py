"""The one check of a config: what schema.yaml does not know, or misses, is named in one line."""

from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

from multitask.runs.errors import UserError

SCHEMA = Path(__file__).resolve().parents[1] / "config" / "schema.yaml"


def check(config: dict[str, Any]) -> None:
    """Raise UserError that names the first key (in the order of the file) at odds with
    config/schema.yaml.
    """
    validator = Draft202012Validator(yaml.safe_load(SCHEMA.read_text(encoding="utf-8")))
    # An unknown key comes before a missing one: a typo causes both, and the typo is what there is
    # to mend.
    errors = sorted(validator.iter_errors(config), key=lambda error: error.validator == "required")
    if errors:
        place = ".".join(str(key) for key in errors[0].absolute_path) or "top level"
        raise UserError(
            f"config, {place}: {errors[0].message}; config/schema.yaml describes every key"
        )
