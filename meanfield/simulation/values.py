"""What a value of a configuration may be, with the words that say so: numbers, schedules, names, durations."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, Field, PlainValidator

from ..arrays import is_number
from ..errors import InputError, did_you_mean
from ..formula import is_formula, read_formula
from ..runtime.durations import parse_duration
from ..schedules import OwnSchedule, Schedule


def number_or_schedule(positive: bool = False, auto: bool = False, own: bool = False) -> PlainValidator:
    words = "a number or a schedule {shape, start, end, steps}" + (', or "auto"' if auto else "")
    bound = "positive, and no denormal number" if positive else "at least 0, and no denormal number"

    def check(value: Any) -> float | str | Schedule:
        if auto and value == "auto":
            return "auto"
        if isinstance(value, bool) or not isinstance(value, int | float | Mapping | Schedule):
            raise ValueError(f"must be {words}")
        if isinstance(value, int | float) and not abs(value) <= sys.float_info.max:
            raise ValueError("must be finite")
        if own and isinstance(value, Mapping) and value.keys() == {"shape"} and is_qualified(str(value["shape"])):
            return OwnSchedule(str(value["shape"]))
        schedule = Schedule.of(value)
        if any(end < sys.float_info.min and (positive or end != 0) for end in (schedule.start, schedule.end)):
            raise ValueError(f"must be {bound}")
        return schedule.end if isinstance(value, int | float) else schedule

    return PlainValidator(check)


def pair(words: str) -> PlainValidator:
    """Two numbers of at least 0, not both 0."""

    def check(value: Any) -> list[float]:
        numbers = list(value) if isinstance(value, list | tuple) else []
        if len(numbers) != 2 or not all(is_number(one) and one >= 0 for one in numbers) or not any(numbers):
            raise ValueError(f"must be two finite numbers, {words}, at least 0 and not both 0")
        return [float(one) for one in numbers]

    return PlainValidator(check)


def count_or(words: str, accept: Callable[[str], bool]) -> PlainValidator:
    """An integer of at least 1, or a text that `accept` says is valid."""

    def check(value: Any) -> int | str:
        is_count = isinstance(value, int) and not isinstance(value, bool) and 1 <= value < 2**63
        if not is_count and not (isinstance(value, str) and accept(value)):
            raise ValueError(f"must be an integer of at least 1, or {words}")
        return value

    return PlainValidator(check)


def known(names: Sequence[str]) -> PlainValidator:
    """A list of some of these names."""

    def check(value: Any) -> list[str]:
        if not isinstance(value, list):
            raise ValueError(f"must be a list of some of {', '.join(names)}")
        for one in value:
            if one not in names:
                raise ValueError(f"{one!r} must be one of {', '.join(names)}{did_you_mean(one, names)}")
        if len(set(value)) < len(value):
            raise ValueError("must name each only once")
        return list(value)

    return PlainValidator(check)


_QUALIFIED = re.compile(r"(?:[^\W\d]\w*|<locals>|<lambda>)(?:\.(?:[^\W\d]\w*|<locals>|<lambda>))+")


def is_qualified(name: str) -> bool:
    """Whether this names a class as `module.QualName`: the user's own, which a run file can name and not make."""
    return _QUALIFIED.fullmatch(name) is not None


def short_name(name: str) -> str:
    """A name of ours as it is, a qualified one without its module."""
    return name.rpartition(".")[2] if is_qualified(name) else name


def one_of_or_qualified(names: Sequence[str], formula: bool = False) -> AfterValidator:
    """One of our names, or the qualified name of the user's own class, or where it is allowed a formula."""

    def check(value: str) -> str:
        if formula and is_formula(value):
            read_formula(value)
        elif value not in names and not is_qualified(value):
            raise ValueError(f"must be one of {', '.join(names)}{did_you_mean(value, names)}")
        return value

    return AfterValidator(check)


def one_of_or_formula(names: Sequence[str]) -> AfterValidator:
    """One of our names, or a formula."""

    def check(value: str) -> str:
        if is_formula(value):
            read_formula(value)
        elif value not in names:
            raise ValueError(f"must be one of {', '.join(names)}, or a formula of z{did_you_mean(value, names)}")
        return value

    return AfterValidator(check)


def listed(names: Sequence[str]) -> Any:
    """The choice as the schema, and so the documentation, shows it."""
    return Field(json_schema_extra={"enum": list(names)})


def steps_or_auto() -> PlainValidator:
    def check(value: Any) -> str | list[int]:
        if value == "auto":
            return "auto"
        if not isinstance(value, list) or any(type(k) is not int or not 0 <= k < 2**63 for k in value):
            raise ValueError('must be "auto" or a list of steps, whole numbers from 0 on')
        if any(a >= b for a, b in itertools.pairwise(value)):
            raise ValueError("must grow from step to step")
        return list(value)

    return PlainValidator(check)


def is_duration(text: str) -> bool:
    try:
        return parse_duration(text) > 0
    except InputError:
        return False


Count = Annotated[int, Field(strict=True, ge=1, lt=2**63)]
CountOrZero = Annotated[int, Field(strict=True, ge=0, lt=2**63)]
Number = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(strict=True, ge=0, lt=1)]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**64)]
Flag = Annotated[bool, Field(strict=True)]
Text = Annotated[str, Field(strict=True, min_length=1)]
