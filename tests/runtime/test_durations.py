"""Laws of durations: what is read adds up, what is no duration is refused, what is written reads back."""

import pytest

from meanfield.errors import InputError
from meanfield.runtime.durations import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("10min", 600),
        ("10m", 600),
        ("2h", 7200),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("1d2h3min4s", 93784),
        (" 2H ", 7200),
    ],
)
def test_durations_add_up(text, seconds):
    """Days, hours, minutes, seconds."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "10", "0s", "h", "-1h", "1h 30m", "30m1h", "1..5h", ".s", "1e3s", "inf h", "9" * 400 + "h"]
)
def test_what_is_no_duration_is_refused(text):
    """Without units, empty, zero, negative, out of order, not a number."""
    with pytest.raises(InputError, match="must be a duration"):
        parse_duration(text)


def test_durations_are_written_in_the_largest_unit_that_fits():
    """Seconds below two minutes, minutes, hours, days, with a decimal below ten; a clock that went back shows 0 s."""
    seconds = (-3, 5, 119, 600, 5400, 10800, 200000, 2e8)
    written = ["0 s", "5 s", "119 s", "10 min", "1.5 h", "3 h", "2.3 d", "2315 d"]
    assert [format_duration(s) for s in seconds] == written


@pytest.mark.parametrize("seconds", [1.0, 59.6, 119.4, 121.0, 3599.0, 3600.0, 86399.0, 1e6])
def test_what_is_written_reads_back(seconds):
    """To the precision of what is shown: a few percent."""
    assert parse_duration(format_duration(seconds).replace(" ", "")) == pytest.approx(seconds, rel=0.05)
