"""Laws of what a simulation gives back: it says what the last state is, is drawn as a run, and travels."""

import copy
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
from helpers import assert_same
from matplotlib.figure import Figure
from small_run import SETTINGS, example, largest_u, start

from meanfield import InputError, load, plots, resume, simulate

MODULES = (
    "simulation.loop",
    "simulation.measures",
    "simulation.result",
    "simulation.run",
    "simulation.trace",
    "convert",
    "plots.comparison",
    "plots.figures",
    "plots.functions",
    "plots.overlay",
    "plots.particles",
    "plots.traces",
)
LEFT = dict.fromkeys(("lower_bound", "relative_gap"))  # at a run's end there is more work for these than in a row
RECORDED = {"record_every": 5, "anneal": False, "gap": True, "record": {"snapshots": 2, "measures_every": 10}}


def small(steps=10, **settings):
    problem = example(temperature=0.0)
    return simulate(problem, start(m=200), steps=steps, **{**RECORDED, "measures": ["margins"], **settings})


def in_another_process(seed):
    """A process pool's task: a result, whose functions cannot travel."""
    return simulate(example(), start(m=64), steps=seed, measures={"one": lambda ensemble: 1.0})


@pytest.mark.parametrize("steps", [10, 13])
def test_the_final_row_is_that_of_the_last_state(steps):
    """If it has a row, that row with whatever is seldom taken; else the row that a run with it would have.

    But for the bound: at the end of a run there is more work for it than in a row, unless it is left out.
    """
    final, gap = small(steps, final_gap=False).final, small(steps).final
    often = small(steps, record_every=1, test_every=1, gap_every=1, record={"snapshots": 2, "measures_every": 1})
    assert final == {name: column[-1] for name, column in often.trace.items()}
    assert list(final) == list(gap) == list(often.trace)
    assert [name for name in final if final[name] != gap[name]] in ([], ["lower_bound", "relative_gap"])
    assert gap["relative_gap"] == pytest.approx(1 - gap["lower_bound"] / gap["objective"])
    assert final["step"] == steps


@pytest.mark.parametrize("steps", [0, 10, 13])
def test_the_trace_ends_with_the_last_state(tmp_path, steps):
    """Measured once, in whatever row the run has none for; the run's trace and its file have rows by the contract."""
    result = small(steps, out=tmp_path / "run.h5")
    assert result.trace["step"].tolist() == [*range(0, steps, 5), steps]
    ends = {name: column[-1] for name, column in result.trace.items()}
    assert [
        name for name in ends.keys() - LEFT if not np.array_equal(ends[name], result.final[name], equal_nan=True)
    ] == []
    assert result.trace["objective"][-1] == pytest.approx(result.problem.objective(result.ensemble).value, rel=1e-12)
    assert {column.dtype.str for name, column in result.trace.items() if name != "step"} == {"<f8"}
    assert result.trace["step"].dtype == np.int64
    for run in (result.run, load(tmp_path / "run.h5")):
        assert run.trace["step"].tolist() == list(range(0, steps + 1, 5))
    assert resume(tmp_path / "run.h5", until=17).trace["step"].tolist() == [0, 5, 10, 15, 17]


def test_a_measure_that_came_late_is_in_the_last_row(tmp_path):
    """It has no column before."""
    small(10, out=tmp_path / "run.h5")
    result = resume(tmp_path / "run.h5", until=12, measures={"largest_u": largest_u})
    assert result.trace["largest_u"].tolist()[-1] == largest_u(result.ensemble)
    assert np.isnan(result.trace["largest_u"][:-1]).all()
    assert len(result.trace["largest_u"]) == 4


def test_final_adds_no_row_and_takes_functions_too():
    """Asked for twice it is one."""
    result = simulate(example(), start(m=64), steps=7, **SETTINGS)
    before = {name: column.copy() for name, column in result.trace.items()}
    assert result.final is result.final
    assert result.final["largest_u"] == largest_u(result.ensemble)
    assert [name for name in before if not np.array_equal(before[name], result.trace[name], equal_nan=True)] == []


def test_a_result_is_its_run():
    """Every part is the run's own."""
    result = small()
    for name in ("config", "problem", "ensemble", "dynamics"):
        assert getattr(result, name) is getattr(result.run, name)
    assert [s.step for s in result.snapshots] == [0, 10]
    assert result.trace.keys() == result.run.trace.keys()


def test_every_panel_takes_a_result():
    """As it does a run."""
    result = small()
    for name in plots.__all__:
        if name.startswith("plot_") and name not in ("plot_comparison", "plot_overlay", "plot_sweep"):
            ax = Figure().subplots()
            assert getattr(plots, name)(result, ax) is ax
    assert isinstance(result.plot("objective"), Figure)
    (ax,) = small(13).plot("objective").axes
    assert ax.lines[0].get_xdata().tolist() == [0, 5, 10, 13]
    with pytest.raises(InputError, match="there are convergence"):
        result.plot("objektive")


@pytest.mark.parametrize("travel", [copy.deepcopy, copy.copy, lambda thing: pickle.loads(pickle.dumps(thing))])
def test_results_runs_traces_and_snapshots_travel(tmp_path, travel):
    """Copied or pickled: the same state, trace, snapshots and last row."""
    result = small(out=tmp_path / "run.h5")
    final = result.final
    there = travel(result)
    assert_same(there, result)
    assert (there.stopped, there.saved, there.final) == ("done", True, final)
    for run in (travel(result.run), travel(load(tmp_path / "run.h5"))):
        assert_same(run, result)
        assert run.config == result.config
        assert run.measure() | LEFT == final | LEFT
    trace = travel(result.run.recorder)
    assert trace.last == result.run.recorder.last
    snapshot = travel(result.snapshots[1])
    assert np.array_equal(snapshot.u, result.snapshots[1].u)
    assert len(there.plot().axes) == 4


def test_a_copy_is_independent():
    """What is done to a deep copy leaves the original as it is."""
    result = small()
    before, other = result.ensemble.copy(), copy.deepcopy(result)
    other.run.end_at(more=5)
    from meanfield.simulation.loop import run_to_end

    run_to_end(other.run, None)
    assert (other.ensemble.step, result.ensemble.step) == (15, 10)
    assert np.array_equal(before.u, result.ensemble.u)
    assert result.trace["step"][-1] == 10


def test_results_come_back_from_process_pools():
    """With functions that no pickle holds: their columns come, and they stay."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        there = pool.submit(in_another_process, 4).result()
    assert_same(there.run, in_another_process(4).run)
    assert there.run.trace["one"].tolist() == [1.0]
    assert np.isnan(there.trace["one"][-1])
    assert np.isnan(there.final["one"])
