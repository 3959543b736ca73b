"""What a user gives to `simulate` and `resume` is checked at the door: one line, and no run that was not meant."""

import math

import numpy as np
import pytest

from meanfield import Ensemble, Problem, resume, simulate
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
        ({"threads": 0}, "threads = 0: must be a whole number, at least 1"),
        ({"threads": 2.5}, "threads = 2.5: must be a whole number, at least 1"),
        ({"callback": 3}, "callback = 3: must be a function"),
        ({"record": ["gap"]}, r"record = \['gap'\]: must be a table"),
        ({"out": "a\0b"}, "a path has no NUL character"),
        ({"out": "x" * 238}, "the name has 238 bytes; must have at most 237"),
        ({"out": "é" * 130}, "the name has 260 bytes; must have at most 237"),
        ({"out": "x" * 256 + "/run.h5"}, "the folder .* does not exist"),
        ({"measures": {"a": lambda ensemble: "x"}}, "measure a: gave 'x', must be a number"),
        ({"measures": {"a": lambda ensemble: ensemble.w}}, "measure a: gave array"),
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


def test_whole_numbers_of_numpy_and_names_of_any_language_are_good(tmp_path):
    path = tmp_path / ("x" * 237)
    result = simulate(
        PROBLEM, Ensemble.sphere(64, 2), steps=np.int64(3), record_every=1, out=path, measures={"größe 5": zero}
    )
    assert result.trace["größe 5"].tolist() == [0.0] * 4
    assert resume(path, more=np.int32(2), measures={"größe 5": zero}).trace["step"].tolist() == [*range(6)]
