"""Configurations as TOML, read and written; the only reader of TOML."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..schedules import OwnSchedule, Schedule
from .config import GIVEN, Config, check_config
from .values import is_qualified

_LARGEST_FILE = 2**20  # bytes of a configuration
_BARE = re.compile(r"[A-Za-z0-9_-]+")  # keys that need no quotes


def load_config(path: str | Path | None, overrides: Sequence[str] = (), *, named: str = "overrides") -> Config:
    """The configuration in the file at `path` (None: all defaults), then each override "section.key=value".

    An override's value is read as TOML, and as plain text if it is none. `named` is what messages call the overrides.
    Raises InputError for whatever is wrong, and for sizes set beside a source file that brings its own.
    """
    where = str(path) if path is not None else "defaults"
    tables = read_toml(_read(path), where) if path is not None else {}
    overridden = [_override(tables, override, named) for override in overrides]

    def blame(key: str) -> str:
        over = any(key == o or key.startswith(o + ".") or o.startswith(key + ".") for o in overridden)
        return named if over else where

    config = check_config(tables, blame)
    _check_made_from_text(config, blame)
    _check_sizes(config, blame)
    return config


def read_tables(path: str | Path | None, overrides: Sequence[str] = (), *, named: str = "overrides") -> dict[str, Any]:
    """The tables in the file at `path` (None: empty), with the overrides: what a user has set, and no defaults."""
    tables = read_toml(_read(path), str(path)) if path is not None else {}
    for override in overrides:
        _override(tables, override, named)
    return tables


def _check_made_from_text(config: Config, blame: Callable[[str], str]) -> None:
    """InputError: data, particles, a loss, a neuron or a dynamics that text alone cannot make."""
    said = {
        "data.source": config.data.source if config.data.source in GIVEN else None,
        "ensemble.init": config.ensemble.init if config.ensemble.init in GIVEN else None,
        "objective.loss": config.objective.loss if is_qualified(config.objective.loss) else None,
        "objective.parameters": config.objective.parameters,
        "objective.temperature": _own_name(config.objective.temperature),
        "neuron.activation": config.neuron.activation if is_qualified(config.neuron.activation) else None,
        "neuron.derivative": config.neuron.derivative,
        "dynamics.method": config.dynamics.method if is_qualified(config.dynamics.method) else None,
        "dynamics.parameters": config.dynamics.parameters,
    }
    for key, value in said.items():
        if value is not None:
            raise InputError(f"{blame(key)}: {key} = {value!r}: only in the run files of runs made in Python")


def _own_name(value: Any) -> str | None:
    return value.shape if isinstance(value, OwnSchedule) else None


def _check_sizes(config: Config, blame: Callable[[str], str]) -> None:
    """InputError: a size that was set, though it comes with a file."""
    brought: dict[str, str] = {}  # key -> what it comes from
    if config.data.external:
        brought |= dict.fromkeys(("data.n", "data.d", "data.n_test"), f"data.source = {config.data.source!r}")
    if config.ensemble.external:
        brought["ensemble.m"] = f"ensemble.init = {config.ensemble.init!r}"
    for key, origin in brought.items():
        section, name = getattr(config, key.partition(".")[0]), key.partition(".")[2]
        if name in section.model_fields_set:
            raise InputError(
                f"{blame(key)}: {key} = {getattr(section, name)}: must not be set, as it comes from {origin}"
            )


def parse_config(text: str, where: str) -> Config:
    """The configuration in TOML text, as `to_toml` writes it; `where` names its origin in messages."""
    return check_config(read_toml(text, where), where)


def to_toml(config: Config) -> str:
    """Complete TOML text in a fixed order, with `parse_config(to_toml(c), ...) == c`; only None is left out."""
    sections = []
    for name in Config.model_fields:
        section = getattr(config, name)
        lines = [
            f"{key} = {toml_value(getattr(section, key))}"
            for key in type(section).model_fields
            if getattr(section, key) is not None
        ]
        sections.append("\n".join([f"[{name}]", *lines]) + "\n")
    return "\n".join(sections)


def tables_text(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Tables of a configuration as TOML."""
    return "\n".join(
        "\n".join([f"[{name}]", *(f"{_key(key)} = {toml_value(value)}" for key, value in section.items()), ""])
        for name, section in tables.items()
    )


def tables(config: Config) -> dict[str, Any]:
    """The same as nested tables of plain values."""
    return tomllib.loads(to_toml(config))


def toml_value(value: Any) -> str:
    """A value of a configuration as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    if isinstance(value, Schedule):
        value = value.as_table()
    table = value if isinstance(value, Mapping) else value.model_dump(exclude_none=True)
    return "{" + ", ".join(f"{_key(key)} = {toml_value(entry)}" for key, entry in table.items()) + "}"


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else json.dumps(name, ensure_ascii=False)


def _read(path: str | Path) -> str:
    try:
        with open(path, "rb") as file:
            content = file.read(_LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path}: cannot be read: {reason}") from None
    if len(content) > _LARGEST_FILE:
        raise InputError(f"{path}: more than 1 MiB: must be a TOML configuration")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InputError(f"{path}: line {line}: not UTF-8 text: must be a TOML configuration") from None


def read_toml(text: str, where: str) -> dict[str, Any]:
    """The tables of TOML text; `where` names its origin. InputError: it is none."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise InputError(f"{where}: not valid TOML: nested too deeply") from None
    except ValueError as error:
        last = text.rstrip().count("\n") + 1
        reason = str(error).replace("at end of document", f"at line {last}, the end")
        raise InputError(f"{where}: not valid TOML: {reason}") from None


def _whole(value: Any, text: str) -> Any:
    """A whole number that was written with an exponent, such as 1e3, as the integer that it is."""
    short = isinstance(value, float) and "e" in text.lower() and value.is_integer() and abs(value) < 2**63
    return int(value) if short else value


def read_override(override: str, named: str) -> tuple[str, Any]:
    """The key and the value of "a.b=v", read as TOML, and as plain text if it is none. InputError: no such text."""
    key, equals, text = override.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not equals or not all(parts) or len(parts) < 2:
        raise InputError(f"{named} {override!r}: must be section.key=value, such as data.n=320")
    try:
        parsed = tomllib.loads(f"v = {text}")
        value = _whole(parsed["v"], text) if len(parsed) == 1 else text
    except (ValueError, RecursionError):
        value = text.strip()
    return ".".join(parts), value


def as_override(key: str, value: Any) -> str:
    """The text that `read_override` reads back."""
    return f"{key}={toml_value(value)}"


def _override(tables: dict[str, Any], override: str, named: str) -> str:
    """Apply "a.b=v" to `tables`; returns the key."""
    key, value = read_override(override, named)
    *parents, last = key.split(".")
    table = tables
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise InputError(f"{named} {override!r}: {parent} = {table!r} is not a table")
    table[last] = value
    return key
