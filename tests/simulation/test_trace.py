"""Laws of the trace: which rows there are, and that its columns always have one length."""

import math

import numpy as np
import pytest

from meanfield.dynamics import Field, Implicit, Langevin
from meanfield.ensemble import Ensemble
from meanfield.problem import Problem
from meanfield.schedules import Schedule
from meanfield.simulation.config import check_config
from meanfield.simulation.loop import run_to_end
from meanfield.simulation.new_run import new_run_from_config
from meanfield.simulation.trace import (
    Trace,
    affordable_gap_every,
    affordable_test_every,
    occasional_gap,
    occasional_test_error,
)

TESTED = [occasional_test_error(1)]


@pytest.fixture
def scene():
    """(field, ensemble, moments) of a tiny problem with a test set."""
    problem = Problem(np.eye(3), [1, -1, 1], X_test=np.eye(3), y_test=[1, 1, 1])
    ensemble = Ensemble.sphere(10, 3)
    field = Field(problem, ensemble.dtype)
    return field, ensemble, field.predict(ensemble)


def feed(trace, scene, steps):
    field, ensemble, moments = scene
    for step in steps:
        ensemble.step = step
        trace.record(field, ensemble, moments, float(step))
    return trace


def test_rows_exist_at_zero_and_multiples_once_each(scene):
    """However often and at whatever steps it is asked to record."""
    trace = feed(Trace(4, [occasional_test_error(8)]), scene, [0, 0, 1, 2, 4, 4, 7, 8, 9, 8, 12])
    assert trace.columns["step"].tolist() == [0, 4, 8, 12]
    assert trace.columns["step"].dtype == np.int64
    assert np.isfinite(trace.columns["test_error"]).tolist() == [True, False, True, False]
    assert trace.timing["seconds"].tolist() == [0, 4, 8, 12]
    assert trace.seconds == 12


def test_a_trace_goes_on_from_its_columns(scene):
    """Stored and begun again at any row it is the same trace, and the row it ends with is not repeated."""
    whole = feed(Trace(2, [occasional_test_error(2)]), scene, range(11))
    for cut in (0, 5, 6):
        part = feed(Trace(2, [occasional_test_error(2)]), scene, range(cut + 1))
        rest = feed(Trace(2, [occasional_test_error(2)], None, part.columns, part.timing), scene, range(cut, 11))
        assert list(rest.columns) == list(whole.columns)
        for name, column in whole.columns.items():
            assert np.array_equal(rest.columns[name], column, equal_nan=True)


def test_columns_that_come_or_go_are_nan_elsewhere(scene):
    """A measure added later has no earlier values, one no longer given no later ones; one length for all."""
    first = feed(Trace(1, TESTED, {"a": lambda ensemble: 1.0}), scene, [0, 1])
    later = feed(Trace(1, TESTED, {"b": lambda ensemble: 2.0}, first.columns, first.timing), scene, [2])
    assert np.array_equal(later.columns["a"], [1, 1, math.nan], equal_nan=True)
    assert np.array_equal(later.columns["b"], [math.nan, math.nan, 2], equal_nan=True)
    assert {len(column) for column in later.columns.values()} == {3}


def test_a_measure_that_fails_leaves_no_half_row(scene):
    """Its own exception passes, and the columns stay of one length."""
    trace = feed(Trace(1, TESTED), scene, [0])
    trace.measures["broken"] = lambda ensemble: 1 / 0
    with pytest.raises(ZeroDivisionError):
        feed(trace, scene, [1])
    assert {len(column) for column in trace.columns.values()} == {1}
    assert len(trace.timing["seconds"]) == 1


def test_last_values_are_the_last():
    """Of a column, as many as there are; empty traces have none."""
    trace = Trace(1, TESTED, None, {"step": np.arange(5), "risk": np.arange(5.0)}, {"seconds": np.arange(5.0)})
    assert trace.last_values("risk", 3) == [2, 3, 4]
    assert trace.last_values("risk", 9) == [0, 1, 2, 3, 4]
    assert trace.last == {"step": 4, "risk": 4}
    empty = Trace(1, TESTED)
    assert (empty.last, empty.last_values("risk", 3), empty.seconds, empty.columns) == ({}, [], 0.0, {})


@pytest.mark.parametrize(
    "dynamics", [Langevin(), Langevin(batch=32), Implicit()], ids=["langevin", "batch", "implicit"]
)
@pytest.mark.parametrize("n", [10, 160, 10_000])
@pytest.mark.parametrize("n_test", [0, 1, 4096, 10**6])
@pytest.mark.parametrize("every", [1, 20, 1000])
def test_testing_costs_at_most_a_twentieth(dynamics, n, n_test, every):
    """The smallest multiple of record_every for which it does; a test is half of an explicit step, for its examples."""
    step, test = dynamics.cost(1024, n, 20), 0.5 * Langevin().cost(1024, n_test, 20)
    chosen = affordable_test_every(step, 1024, n_test, 20, every)
    assert chosen % every == 0
    assert chosen >= every
    assert test <= 0.05 * step * chosen * (1 + 1e-8)
    assert chosen == every or test > 0.05 * step * (chosen - every) * (1 - 1e-8)


@pytest.mark.parametrize(
    "dynamics", [Langevin(), Langevin(batch=32), Implicit()], ids=["langevin", "batch", "implicit"]
)
@pytest.mark.parametrize("record_every", [1, 20, 7])
@pytest.mark.parametrize("m", [100, 16384, 10**7])
def test_the_gap_is_taken_as_often_as_a_share_of_the_run_allows(dynamics, m, record_every):
    """At rows of the trace, more rarely the less a step costs or the more outputs there are; at every row if cheap."""

    def chosen(m, outputs=1, steps=10**9):
        return affordable_gap_every(dynamics.cost(m, 160, 20, outputs), 160, 20, outputs, record_every, steps)

    assert chosen(m) % record_every == 0
    assert chosen(m) >= chosen(2 * m)
    assert chosen(m, outputs=10) >= chosen(m)
    assert chosen(m, steps=100) <= 100
    if m == 10**7 and dynamics.batch is None:
        assert chosen(m) <= max(20, record_every)


def test_a_default_run_that_is_to_stop_by_its_gap_stops_early():
    """Implicit steps are dear and few, so that their gap is worth taking often."""
    tables = {
        "data": {"n": 80, "d": 10, "n_test": 0},
        "ensemble": {"m": 1024},
        "record": {"gap": True},
        "run": {"stop_when": {"relative_gap": 1e-3}},
    }
    result = run_to_end(new_run_from_config(check_config(tables, "test")), None)
    assert (result.stopped, result.ensemble.step < 120) == ("relative_gap", True)
    assert len(result.trace["step"]) <= 7


def test_the_gap_is_not_a_number_while_there_is_noise():
    """Its bound is one of L at temperature 0: no value before the schedule has come to rest there."""
    problem = Problem(np.eye(3), [1, -1, 1], temperature=Schedule("linear", 1e-2, 0.0, 4))
    ensemble = Ensemble.sphere(10, 3)
    field = Field(problem, ensemble.dtype)
    trace = feed(Trace(2, [occasional_gap(2)]), (field, ensemble, field.predict(ensemble)), [0, 2, 4, 6])
    for name in ("lower_bound", "relative_gap"):
        assert np.isfinite(trace.columns[name]).tolist() == [False, False, True, True]


def test_a_view_of_the_rows_so_far_stays_what_it_is_and_columns_are_the_callers_own(scene):
    trace = feed(Trace(1), scene, range(3))
    view, column = trace.views["objective"], trace.columns["objective"]
    before = view.tolist()
    feed(trace, scene, range(3, 200))
    assert view.tolist() == before
    assert trace.columns["step"].tolist() == [*range(200)]
    assert trace.columns["step"].dtype == np.int64
    assert trace.columns["objective"].tolist()[:3] == before
    column[:] = trace.columns["objective"][0] + 1
    trace.columns["objective"][:] = 7.0
    assert view.tolist() == before
