"""Docstrings in reStructuredText: numpydoc's sections as lists, the rest as prose with mathematics in Unicode."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from textwrap import dedent, indent

_SECTION = re.compile(r"^([A-Z]\w+)\n---+$", re.MULTILINE)
_LISTS = ("Parameters", "Attributes", "Returns", "Yields", "Raises", "Warns")
_LITERAL = re.compile(r"`([^`\n]+)`")
_ACTIVE = re.compile(  # of which a backslash makes text; the last is the number of a list
    r"([*|\\]|(?<=\w)_(?!\w)|^[+.:=~^#\"'-](?=\s|[+.:=~^#\"'-]{2})|^[A-Za-z](?=[.)](?:\s|$)))", re.MULTILINE
)


def as_rst(text: str) -> str:
    """A docstring: single backticks are code, indented parts are shown as they are, and what else would be markup is
    text."""
    first, *rest = _SECTION.split(text)
    done = [_prose(first)]
    for title, body in zip(rest[::2], rest[1::2], strict=True):
        done += [f".. rubric:: {title}", _list(body) if title in _LISTS else _prose(body)]
    return "\n\n".join(done)


def _list(body: str) -> str:
    """Names with their types, and below each what it is."""
    done = []
    for head, told in _entries(body.strip("\n")):
        name, colon, kind = head.partition(" : ")
        term = f"``{name}`` : {_inline(kind)}" if colon else _inline(head)
        done.append(term + "\n" + indent(_prose(told) or "..", "    "))
    return "\n\n".join(done)


def _entries(body: str) -> Iterator[tuple[str, str]]:
    """(head, what is indented below it)."""
    for found in re.finditer(r"^(\S.*)((?:\n(?:[ ].*)?)*)", body, re.MULTILINE):
        yield found[1], dedent(found[2])


def _prose(text: str) -> str:
    return "\n\n".join(_part(part) for part in re.split(r"\n\s*\n", text.strip("\n")) if part)


def _part(part: str) -> str:
    """A paragraph: an example and runs of indented rows are shown as they are, list items keep their dash."""
    if part.startswith(">>> "):
        return ".. code-block:: pycon\n\n" + indent(part, "    ")
    done = []
    for indented, run in itertools.groupby(part.split("\n"), lambda row: row.startswith("    ")):
        rows = list(run)
        if indented:
            done.append("::\n\n" + "\n".join(rows))
        elif rows[0].startswith("- "):
            items = [" ".join(item.split()) for item in re.split(r"^- ", "\n".join(rows), flags=re.MULTILINE)[1:]]
            done.append("\n".join("- " + _inline(item) for item in items))
        else:
            done.append(_inline("\n".join(row.strip() for row in rows)))
    return "\n\n".join(done)


def _inline(text: str) -> str:
    kept: list[str] = []

    def keep(found: re.Match[str]) -> str:
        kept.append(f"``{found[1]}``")
        return f"\0{len(kept) - 1}\0"

    text = re.sub("``([^`]+)``", keep, text)
    text = _ACTIVE.sub(r"\\\1", _LITERAL.sub(keep, text)).replace("`", "\\`")
    return re.sub("\0(\\d+)\0(?=(\\w?))", lambda found: kept[int(found[1])] + ("\\ " if found[2] else ""), text)
