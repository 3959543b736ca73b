"""Shown: how an object says what it is, as a few lines of text and as a table in a notebook, computing nothing."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from html import escape
from typing import Any, ClassVar

from .errors import printable

_WIDTH = 88  # columns of the text
_BOUND = "\xa0"  # stands for a blank at which no line ends


class Shown:
    """An object with facts to show: the attributes that its class names in `SHOWN`, or what its `_facts` says.

    What is None or NaN is left out, and of an array its shape is shown.

    Examples
    --------
    >>> from meanfield.shown import Shown
    >>> class Neighbours(Shown):
    ...     SHOWN = ("k", "distance", "weights")
    ...     k, distance, weights = 5, 1 / 3, None
    >>> Neighbours()
    Neighbours(k=5, distance=0.333333)
    >>> Neighbours()._repr_html_()
    '<table><caption>Neighbours</caption><tr><th>k</th><td>5</td></tr><tr><th>distance</th><td>0.333333</td></tr></table>'
    """

    SHOWN: ClassVar[tuple[str, ...]] = ()

    def _facts(self) -> Mapping[str, Any]:
        """Name -> value of what is shown, in that order."""
        return {name: getattr(self, name) for name in self.SHOWN}

    def _shown(self) -> dict[str, str]:
        return {
            name: printable(_words(value))
            for name, value in self._facts().items()
            if value is not None and not (isinstance(value, float) and math.isnan(value))
        }

    def __repr__(self) -> str:
        facts = ", ".join(f"{name}={words}".replace(" ", _BOUND) for name, words in self._shown().items())
        text = textwrap.fill(
            f"{type(self).__name__}({facts})",
            _WIDTH,
            subsequent_indent="    ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        return text.replace(_BOUND, " ")

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        rows = "".join(
            f"<tr><th>{escape(name)}</th><td>{escape(words)}</td></tr>" for name, words in self._shown().items()
        )
        return f"<table><caption>{escape(type(self).__name__)}</caption>{rows}</table>"


def _words(value: Any) -> str:
    """A value in few words: a number's six digits, an array's shape, the name of what has one."""
    if isinstance(value, float):
        return f"{value:.6g}"
    shape = getattr(value, "shape", ())
    if isinstance(shape, tuple) and shape:
        return f"array {shape}"
    return str(getattr(value, "name", value))
