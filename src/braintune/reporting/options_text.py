"""What options mean: read from the model that checks them and from its docstring."""

import inspect
import re
from typing import Any

from pydantic import BaseModel

_ENTRY = re.compile(r"^    (\w+): (.*?)(?=^    \w+: |\Z)", re.MULTILINE | re.DOTALL)
_LIMITS = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}
_KINDS = {
    "integer": "whole number",
    "number": "number",
    "boolean": "yes or no",
    "string": "text",
    "null": "nothing",
}


def option_rows(options: type[BaseModel]) -> list[dict[str, Any]]:
    """Each option, its default, what it takes, and its meaning, the model's own first.

    Example:
        >>> from braintune.adapters.low_rank import LowRankOptions
        >>> row = option_rows(LowRankOptions)[0]
        >>> row["option"], row["default"], row["takes"], row["meaning"]
        ('rank', 4, 'whole number > 0', 'Rank r of the update.')
    """
    meanings, schema = _meanings(options), options.model_json_schema()
    defaults = options().model_dump(mode="json")
    order = [key for model in options.__mro__ for key in inspect.get_annotations(model)]
    return [
        {
            "option": key,
            "default": defaults[key],
            "takes": _takes(schema["properties"][key]),
            "meaning": meanings.get(key, ""),
        }
        for key in sorted(options.model_fields, key=order.index)
    ]


def _meanings(options: type[BaseModel]) -> dict[str, str]:
    """The entries under "Attributes:" in the docstrings of a model and of what it inherits."""
    found: dict[str, str] = {}
    for model in reversed(options.__mro__):
        text = inspect.cleandoc(model.__dict__.get("__doc__") or "")
        for key, meaning in _ENTRY.findall(text.partition("Attributes:\n")[2]):
            found[key] = " ".join(meaning.split()).replace("``", "")
    return found


def _takes(schema: dict[str, Any]) -> str:
    """In words, what a JSON schema allows."""
    if "anyOf" in schema:
        return " or ".join(_takes(part) for part in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(str(value) for value in schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    if "prefixItems" in schema:
        return f"[{', '.join(_takes(item) for item in schema['prefixItems'])}]"
    if "items" in schema:
        return f"list of {_takes(schema['items'])}"
    kind = _KINDS.get(schema.get("type", ""), "anything")
    limits = [f"{sign} {schema[key]}" for key, sign in _LIMITS.items() if key in schema]
    return " ".join([kind, ", ".join(limits)]).strip()
