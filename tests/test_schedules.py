"""Laws of the schedules: ends, shapes, and that a longer run changes nothing before."""

import copy
import itertools
import math
import pickle
from fractions import Fraction

import pytest

from meanfield.errors import InputError
from meanfield.schedules import SHAPES, Schedule

CHANGING = [s for s in SHAPES if s not in ("constant", "c_over_log_t")]


@pytest.mark.parametrize("shape", CHANGING)
def test_a_schedule_goes_from_start_to_end_and_stays(shape):
    """Exactly `end` from `steps` on, `start` (to a rounding) at 0, monotone between."""
    schedule = Schedule(shape, 2.0, 0.5, 100)
    values = [schedule(k) for k in range(201)]
    assert values[0] == pytest.approx(2.0, rel=1e-15)
    assert set(values[100:]) == {0.5}
    assert all(a > b for a, b in itertools.pairwise(values[:101]))
    assert schedule(10**18) == 0.5


@pytest.mark.parametrize("shape", CHANGING)
def test_the_end_is_reached_to_the_last_bit(shape):
    """At k = steps the value is `end` itself, not the formula's rounding of it; also for a schedule of no length."""
    for steps in (0, 3, 7):
        for end in (0.1, 0.7, 1e-5, 3e7):
            assert Schedule(shape, 0.3, end, steps)(steps) == end


@pytest.mark.parametrize("shape", CHANGING)
def test_falling_and_rising_mirror_each_other(shape):
    """Swapping the ends reverses the values in time."""
    down, up = Schedule(shape, 2.0, 0.5, 40), Schedule(shape, 0.5, 2.0, 40)
    for k in range(1, 40):
        assert up(k) == pytest.approx(down(40 - k), rel=1e-14)


def test_the_midpoint_is_the_mean_of_the_shape():
    """Halfway: the arithmetic mean (linear, cosine), the geometric mean (geometric)."""
    assert Schedule("linear", 1.0, 4.0, 10)(5) == 2.5
    assert Schedule("cosine", 1.0, 4.0, 10)(5) == pytest.approx(2.5, rel=1e-15)
    assert Schedule("geometric", 1.0, 4.0, 10)(5) == pytest.approx(2.0, rel=1e-15)


def test_the_cosine_is_flat_at_both_ends_and_the_others_are_not():
    """The first and last of 1000 steps move less than 1e-5 of the way."""
    cosine = Schedule("cosine", 1.0, 0.0, 1000)
    assert 0 < cosine(0) - cosine(1) < 1e-5
    assert 0 < cosine(999) - cosine(1000) < 1e-5
    assert Schedule("linear", 1.0, 0.0, 1000)(1) == pytest.approx(0.999)


def test_the_linear_schedule_is_linear():
    """Within two roundings of the rational value."""
    schedule = Schedule("linear", 3.0, 1.0, 7)
    for k in range(8):
        assert schedule(k) == pytest.approx(float(3 - 2 * Fraction(k, 7)), rel=4e-16)


def test_the_logarithmic_annealing_times_the_logarithm_is_constant():
    """τ_k log(e + k) = start until the floor, which holds for ever; `steps` has no influence."""
    schedule = Schedule("c_over_log_t", 0.3, 0.05, 10)
    assert schedule(0) == pytest.approx(0.3, rel=1e-15)
    for k in (1, 10, 11, 300):
        assert schedule(k) * math.log(math.e + k) == pytest.approx(0.3, rel=1e-14)
        assert schedule(k) == Schedule("c_over_log_t", 0.3, 0.05, 0)(k)
    assert schedule(math.ceil(math.exp(0.3 / 0.05))) == 0.05
    assert schedule(10**9) == 0.05


def test_numbers_and_tables_become_schedules():
    """A number is constant; a table's shape is geometric between positive ends and else linear."""
    assert Schedule.of(0.5) == Schedule("constant", 0.5, 0.5, 0)
    assert Schedule.of(1)(7) == 1.0
    assert Schedule.of({"start": 1, "end": 0.1, "steps": 5}).shape == "geometric"
    assert Schedule.of({"start": 1, "end": 0, "steps": 5}).shape == "linear"
    assert Schedule.of({"end": 0.1}) == Schedule.of(0.1)
    schedule = Schedule("cosine", 1.0, 0.1, 5)
    assert Schedule.of(schedule) is schedule
    assert Schedule.of(schedule.as_table()) == schedule


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"start": 1.0, "end": 0.0, "steps": 5, "shape": "geometric"}, "geometric schedule needs both positive"),
        ({"start": 1.0, "end": 0.1}, "needs steps"),
        ({"steps": 3}, "needs start and end"),
        ({"start": 1.0, "ende": 0.1, "steps": 5}, "ende: unknown key; did you mean end"),
        ({"start": 1.0, "end": 0.1, "steps": 5, "shape": "cosin"}, "did you mean cosine"),
        ({"start": 1.0, "end": 0.1, "steps": 5.0}, "steps = 5.0: must be an integer"),
        ({"start": 1.0, "end": 0.1, "steps": True}, "steps = True: must be an integer"),
        ({"start": 1.0, "end": 0.1, "steps": -1}, "at least 0"),
        ({"start": 1.0, "end": float("nan"), "steps": 1}, "end = nan: must be a finite number"),
        ({"start": "a", "end": 0.1, "steps": 1}, "start = 'a': must be a finite number"),
        ({"start": 1.0, "end": 0.1, "shape": "constant"}, "constant schedule needs them equal"),
        (float("inf"), "finite"),
        (10**400, "finite"),
        (True, "must be a number or a table"),
        ("x", "must be a number"),
    ],
)
def test_bad_schedules_are_refused_by_name(value, words):
    """One line naming the key."""
    with pytest.raises(InputError, match=words) as caught:
        Schedule.of(value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
@pytest.mark.parametrize("shape", CHANGING)
def test_a_schedule_can_be_copied_and_pickled(shape, again):
    """And is then the same schedule."""
    schedule = Schedule(shape, 2.0, 0.5, 100)
    assert again(schedule) == schedule
    assert again(schedule)(37) == schedule(37)
