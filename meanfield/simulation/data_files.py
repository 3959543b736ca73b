"""What a configuration says of data in a file: which file, and which of its columns are what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import PlainValidator

from ..datasets.endings import FILES, TABLES, TEXT, ending
from ..errors import did_you_mean


def _column(value: Any) -> str | int:
    if not isinstance(value, str | int) or isinstance(value, bool) or value == "":
        raise ValueError("must be the name of a column, or its place from 0 on")
    return value


def _columns(value: Any) -> list[str | int]:
    return [_column(one) for one in (value if isinstance(value, list) else [value])]


def _flag_or_columns(value: Any) -> bool | list[str | int]:
    return value if isinstance(value, bool) else _columns(value)


def _character(value: Any) -> str:
    if not isinstance(value, str) or len(value) != 1 or value in '"\r\n':
        raise ValueError('must be one character, such as ";", "\\t" or " "')
    return value


Column = Annotated[str | int, PlainValidator(_column)]
Columns = Annotated[list[str | int], PlainValidator(_columns)]
FlagOrColumns = Annotated[bool | list[str | int], PlainValidator(_flag_or_columns)]
Character = Annotated[str, PlainValidator(_character)]

_ONLY: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = (
    (TABLES, {"label": None, "drop": [], "one_hot": False}),
    (TEXT, {"header": None, "delimiter": None}),
    (FILES, {"missing": "refuse"}),
)


def check_source(source: str, known: Sequence[str]) -> str:
    """A source that is one of these names, or a file of a kind that is read; ValueError for another."""
    if source in known or ending(source):
        return source
    raise ValueError(
        f"must be one of {', '.join(known)}, or a path ending {' '.join(FILES)}{did_you_mean(source, known)}"
    )


def check_columns(section: Any) -> None:
    """ValueError: a setting that the section's source has no use for."""
    for endings, settings in _ONLY:
        for name, default in settings.items():
            value = getattr(section, name)
            if value != default and ending(section.source) not in endings:
                raise ValueError(f"{name} = {value!r}: only for a source that ends in one of {' '.join(endings)}")
