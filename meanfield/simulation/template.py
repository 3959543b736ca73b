"""A configuration to start from: every key with what it means and its default, commented out."""

from __future__ import annotations

import re
import textwrap
from functools import cache
from importlib.resources import files
from typing import Any

from .config import Config
from .toml import read_toml, toml_value

_OF_RUN_FILES = ("objective.parameters", "neuron.derivative", "dynamics.parameters")  # text alone cannot set them
_WIDTH = 100
_HEAD = "A configuration of meanfield. Keys that are commented out have the value shown, or none where it is …"


@cache
def meanings() -> dict[str, dict[str, str]]:
    """Section -> key -> what it means, for every key of the configuration."""
    words = files(__package__).joinpath("configuration-keys.toml").read_text(encoding="utf-8")
    return read_toml(words, "configuration-keys.toml")


def valid(section: str, key: str) -> str:
    """What the configuration itself says is valid, as far as that is a choice or a bound."""
    schema = _properties(section).get(key, {})
    if "enum" in schema:
        return "one of " + ", ".join(f"`{one}`" for one in schema["enum"])
    kind = {"integer": "integer", "number": "number", "boolean": "true or false"}.get(str(schema.get("type")), "")
    bounds = {"minimum": "≥", "exclusiveMinimum": ">", "exclusiveMaximum": "<", "maximum": "≤"}
    limits = [f"{sign} {schema[name]:g}" for name, sign in bounds.items() if name in schema and schema[name] < 2**32]
    return " ".join([kind, ", ".join(limits)]).strip() if kind else ""


@cache
def _properties(section: str) -> dict[str, Any]:
    model = type(getattr(Config(), section))
    return model.model_json_schema(by_alias=False, mode="serialization")["properties"]


def template() -> str:
    """TOML in which each section has all keys that a file may set; it means what an empty file does."""
    parts = [_comment(_HEAD)]
    for section in Config.model_fields:
        model = type(getattr(Config(), section))
        keys = [key for key in model.model_fields if f"{section}.{key}" not in _OF_RUN_FILES]
        parts.append("\n\n".join([f"[{section}]", *(_entry(section, key) for key in keys)]))
    return "\n\n\n".join(parts) + "\n"


def _entry(section: str, key: str) -> str:
    default, choice = getattr(getattr(Config(), section), key), valid(section, key)
    words = meanings()[section][key] + (f" ({choice})" if choice else "")
    value = "…" if default is None else toml_value(default)
    return f"{_comment(words)}\n#{key} = {value}"


def _comment(words: str) -> str:
    """Words of the documentation as a comment: code marks, links and asides that are only a link are the page's."""
    link = r"\[([^\]]*)\]\([^)]*\)"
    plain = re.sub(link, r"\1", re.sub(rf" \({link}\)", "", words)).replace("`", "")
    return textwrap.fill(plain, _WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
