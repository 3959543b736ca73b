"""Arguments of `simulate` and `resume`, checked at the door: what is wrong with one is an InputError of one line."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..arrays import is_number
from ..errors import InputError


def whole(name: str, value: Any, least: int = 0) -> int:
    """A whole number of at least `least`, of Python's or NumPy's. InputError: anything else, True among it."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or number < least:
        raise InputError(f"{name} = {value!r}: must be a whole number, at least {least}")
    return number


def check_run_arguments(
    max_time: float | None,
    threads: int | None,
    callback: Callable[..., Any] | None,
    record: Any = None,
    **flags: bool | None,
) -> None:
    """InputError: no seconds, no number of threads, no function, no table; a flag that is neither True nor False."""
    if threads is not None:
        whole("threads", threads, 1)
    if max_time is not None and not (_endless(max_time) or (is_number(max_time) and max_time >= 0)):
        raise InputError(f"max_time = {max_time!r}: must be a number of seconds, at least 0")
    for name, flag in flags.items():
        if not isinstance(flag, bool | np.bool_ | None):
            raise InputError(f"{name} = {flag!r}: must be True or False")
    if callback is not None and not callable(callback):
        raise InputError(f"callback = {callback!r}: must be a function of the ensemble and a row of the trace")
    if record is not None and not isinstance(record, Mapping):
        raise InputError(f"record = {record!r}: must be a table of keys")


def _endless(seconds: Any) -> bool:
    return isinstance(seconds, float) and seconds == math.inf


def ends(answer: Any) -> bool:
    """Whether a callback's answer ends the run. InputError: one that is no answer, such as a number."""
    if not isinstance(answer, bool | np.bool_ | None):
        raise InputError(f"callback: gave {answer!r}, must be True to end the run, and False or None to go on")
    return bool(answer)


def check_columns(names: Any) -> None:
    """InputError: what cannot name columns of a trace, in which every name is an array of the run file."""
    if not isinstance(names, tuple | list):
        raise InputError(f"measures: columns = {names!r}: must be a tuple of names")
    for name in names:
        if not isinstance(name, str) or not name.isprintable() or name in ("", ".") or name[0] == "@" or "/" in name:
            raise InputError(f"measures: {name!r}: must be a name of printable characters, not '.', without '/' or '@'")
    if len(set(names)) < len(names):
        raise InputError(f"measures: columns = {names!r}: must name each only once")
