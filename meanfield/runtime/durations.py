"""Durations as people write them and read them."""

from __future__ import annotations

import re

from ..errors import InputError

_SECONDS = {"d": 86400.0, "h": 3600.0, "min": 60.0, "s": 1.0}
_WRITTEN = re.compile(r"(?:([\d.]+)d)?(?:([\d.]+)h)?(?:([\d.]+)m(?:in)?)?(?:([\d.]+)s)?")


def parse_duration(text: str) -> float:
    """Seconds in "30s", "10min", "2h", "1h30m", "1.5h" or "2d"; InputError unless positive and with units."""
    written = _WRITTEN.fullmatch(text.strip().lower())
    parts = written.groups() if written else ()
    try:
        seconds = sum(float(part) * unit for part, unit in zip(parts, _SECONDS.values(), strict=False) if part)
    except ValueError:
        seconds = 0.0
    if not 0.0 < seconds < 1e12:
        raise InputError(f'{text!r}: must be a duration such as "30s", "10min", "2h" or "1h30m"')
    return seconds


def format_duration(seconds: float) -> str:
    """Such as "42 s", "7 min" (from two minutes on), "3.5 h" or "2 d"; nothing below zero."""
    for unit in ("d", "h"):
        count = seconds / _SECONDS[unit]
        if count >= 1:
            return f"{count:.0f} {unit}" if count >= 10 else f"{count:.1f} {unit}".replace(".0 ", " ")
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{max(seconds, 0.0):.0f} s"
