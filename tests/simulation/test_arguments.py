"""What a user gives to `simulate` and `resume` is checked at the door: one line, and no run that was not meant."""

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from meanfield import Ensemble, Langevin, Problem, load, resume, simulate
from meanfield.errors import InputError
from meanfield.simulation.measures import Measure

PROBLEM = Problem(np.eye(2), [1, -1])


def zero(ensemble):
    return 0.0


def columns(*names):
    return [Measure(names, lambda scene: (0.0,) * len(names))]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"steps": "10"}, "steps = '10': must be a whole number, at least 0"),
        ({"steps": True}, "steps = True: must be a whole number"),
        ({"steps": 2.0}, "steps = 2.0: must be a whole number"),
        ({"steps": -1}, "steps = -1: must be a whole number, at least 0"),
        ({"record_every": [1, 10]}, r"run.record_every = \[1, 10\]: must be an integer"),
        ({"record_every": True}, "run.record_every = true: must be an integer"),
        ({"max_time": "2h"}, "max_time = '2h': must be a number of seconds"),
        ({"max_time": math.nan}, "max_time = nan: must be a number of seconds"),
        ({"max_time": True}, "max_time = True: must be a number of seconds"),
        ({"max_time": 10**400}, "max_time = 10+: must be a number of seconds"),
        ({"threads": 0}, "threads = 0: must be a whole number, at least 1"),
        ({"threads": 2.5}, "threads = 2.5: must be a whole number, at least 1"),
        ({"callback": 3}, "callback = 3: must be a function"),
        ({"record": ["gap"]}, r"record = \['gap'\]: must be a table"),
        ({"out": "a\0b"}, "a path has no NUL character"),
        *[({"out": out}, "must be a path") for out in (5, True, b"x.h5", ["x.h5"])],
        ({"out": "x" * 238}, "the name has 238 bytes; must have at most 237"),
        ({"out": "é" * 130}, "the name has 260 bytes; must have at most 237"),
        ({"out": "x" * 256 + "/run.h5"}, "the folder .* does not exist"),
        ({"max_time": [1.0]}, r"max_time = \[1.0\]: must be a number of seconds"),
        *[({name: "no"}, f"{name} = 'no': must be True or False") for name in ("force", "anneal", "final_gap")],
        *[
            ({"measures": {name: zero}}, "must be a name of printable")
            for name in ("", ".", "a/b", "@a", "a\0", 5, None)
        ],
        ({"measures": {"\udce9": zero}}, "must be a name of printable"),
        ({"measures": columns("")}, "must be a name of printable"),
        ({"measures": columns("a", "a")}, "must name each only once"),
        ({"measures": [Measure("ab", lambda scene: (0.0, 0.0))]}, "columns = 'ab': must be a tuple"),
    ],
)
def test_what_is_no_argument_is_refused_in_one_line_and_leaves_nothing(tmp_path, monkeypatch, settings, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=words) as caught:
        simulate(PROBLEM, Ensemble.sphere(64, 2), **{"steps": 3, "out": "run.h5", **settings})
    assert str(caught.value).isprintable()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "settings",
    [
        {"more": "3"},
        {"more": True},
        {"more": -1},
        {"until": 2.5},
        {"max_time": "1h"},
        {"threads": "2"},
        {"callback": 1},
    ],
)
def test_going_on_is_as_strict(tmp_path, settings):
    path = tmp_path / "run.h5"
    simulate(PROBLEM, Ensemble.sphere(64, 2), steps=3, out=path)
    with pytest.raises(InputError, match=f"^{next(iter(settings))} = .*: must be"):
        resume(path, **settings)


NO_NUMBERS = ["5", b"5", np.str_("5"), np.array("5"), None, 1j, np.complex128(1), [1], np.ones((1, 1)), 10**400]


@pytest.mark.parametrize("given", NO_NUMBERS, ids=lambda given: repr(given)[:20])
def test_what_an_own_function_gives_is_a_number_or_named(given):
    """Of measures, alone or several at once, and of a temperature: text of digits, too, is none."""
    problem = Problem(np.eye(2), [1, -1], temperature=lambda k: given)
    for settings, name in (
        ({"measures": {"a": lambda ensemble: given}}, "measure a is"),
        ({"measures": [Measure(("a", "b"), lambda scene: (0.0, given))]}, "measure b is"),
        ({"problem": problem, "dynamics": Langevin()}, "<lambda> at step 0 is"),
    ):
        with pytest.raises(InputError, match=f"{name} .*: must be a number$") as caught:
            simulate(**{"problem": PROBLEM, "ensemble": Ensemble.sphere(64, 2), "steps": 1, **settings})
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("given", ["57", np.zeros(2), 5.0, None, {0.0, 1.0}, (0.0,)], ids=repr)
def test_numbers_of_several_columns_come_in_a_tuple(given):
    """Also where a text has as many digits as there are columns."""
    with pytest.raises(InputError, match=r"measure a, b: gave .*, must be a tuple of as many numbers as columns"):
        simulate(PROBLEM, Ensemble.sphere(64, 2), steps=1, measures=[Measure(("a", "b"), lambda scene: given)])


@pytest.mark.parametrize("given", [0.5, np.float32(0.5), np.array(0.5), Fraction(1, 2), Decimal("0.5"), math.nan])
def test_numbers_of_any_kind_are_measures(given):
    result = simulate(PROBLEM, Ensemble.sphere(64, 2), steps=1, measures={"a": lambda ensemble: given})
    assert result.trace["a"].tolist() == pytest.approx([float(given)] * 2, nan_ok=True)


@pytest.mark.parametrize(
    "answer", [math.nan, 0.0, 1, "no", [], np.ones(2), True, np.bool_(True), False, np.bool_(False), None], ids=repr
)
def test_a_callback_answers_true_false_or_nothing(answer):
    """A number, such as the objective that was not compared with anything, would end the run at its first row."""

    def run():
        return simulate(PROBLEM, Ensemble.sphere(64, 2), steps=20, callback=lambda ensemble, row: answer)

    if answer is None or isinstance(answer, bool | np.bool_):
        assert run().stopped == ("callback" if answer else "done")
    else:
        with pytest.raises(InputError, match=r"callback: gave .*, must be True to end the run, and False or None"):
            run()


@pytest.mark.parametrize("path", [5, True, None, 0.5])
def test_a_number_is_no_path(path):
    """Least of all that of a file which the program has open."""
    for read in (load, lambda path: resume(path, more=1)):
        with pytest.raises(InputError, match=f"^{path}: ") as caught:
            read(path)
        assert str(caught.value).isprintable()


def test_whole_numbers_of_numpy_and_names_of_any_language_are_good(tmp_path):
    path = tmp_path / ("x" * 237)
    result = simulate(
        PROBLEM, Ensemble.sphere(64, 2), steps=np.int64(3), record_every=1, out=path, measures={"größe 5": zero}
    )
    assert result.trace["größe 5"].tolist() == [0.0] * 4
    assert resume(path, more=np.int32(2), measures={"größe 5": zero}).trace["step"].tolist() == [*range(6)]
