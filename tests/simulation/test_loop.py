"""Laws of a run: interrupted equals uninterrupted with ==, and whatever stops it costs nothing that was saved."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import fields

import numpy as np
import pytest
from helpers import assert_same
from small_run import SETTINGS, example, largest_u, start

from meanfield.diagnostics import drift_norm, normalized_margin
from meanfield.dynamics import DYNAMICS, Field, Implicit, Langevin
from meanfield.ensemble import Ensemble
from meanfield.errors import DivergenceError, InputError
from meanfield.optimality.certificate import certify
from meanfield.problem import Problem
from meanfield.schedules import Schedule
from meanfield.simulation.loop import resume, simulate
from meanfield.simulation.run import load

K = 23  # where runs are cut: no multiple of record_every (5), checkpoint_every (7) or a schedule's length


def variants():
    """Every dynamics with every setting that changes its course: automatic and scheduled steps, minibatches."""
    step_size = {"start": 0.5, "end": 0.05, "steps": 41, "shape": "linear"}
    for name, kind in DYNAMICS.items():
        rates = {one.name: 0.5 for one in fields(kind) if one.name.endswith("_rate")}
        yield pytest.param(kind(**rates), id=name)
        batch = {} if name == "implicit" else {"batch": 16}  # which needs all examples
        yield pytest.param(
            kind(step_size=step_size, **batch, **rates), id=f"{name}-{'batch' if batch else 'scheduled'}"
        )


@pytest.mark.parametrize("outputs", [1, 10])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("dynamics", list(variants()))
def test_interrupted_equals_uninterrupted(tmp_path, dynamics, dtype, outputs):
    """To 2k equals to k, then to 2k: state and trace with ==, one thread before the cut and two after."""
    problem, ensemble = example(outputs), start(outputs, dtype=dtype)
    whole = simulate(problem, ensemble, dynamics, steps=2 * K, threads=2, **SETTINGS)
    path = tmp_path / "run.h5"
    part = simulate(problem, ensemble, dynamics, steps=K, threads=1, out=path, **SETTINGS)
    assert (part.stopped, part.saved, part.ensemble.step) == ("done", True, K)
    kept = load(path)
    assert_same(kept, part)
    rest = resume(path, until=2 * K, threads=2, measures=SETTINGS["measures"])
    assert_same(rest, whole)
    assert_same(load(path), whole)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("dynamics", [Langevin(), Implicit(cooled_at=9)], ids=["langevin", "implicit"])
def test_a_run_may_be_cut_anywhere_and_often(tmp_path, dynamics, dtype):
    """One step at a time, with every cut through the file, is still the same run."""
    problem, ensemble, path = example(temperature=0.0), start(dtype=dtype), tmp_path / "run.h5"
    whole = simulate(problem, ensemble, dynamics, steps=12, gap=True, gap_every=5, threads=1, **SETTINGS)
    assert np.isfinite(whole.trace["relative_gap"]).all()
    simulate(problem, ensemble, dynamics, steps=0, out=path, gap=True, gap_every=5, **SETTINGS)
    for _ in range(12):
        last = resume(path, more=1, measures=SETTINGS["measures"])
    assert_same(last, whole)


def test_another_process_goes_on_with_the_same_bits(tmp_path):
    """Resumed by a process of its own."""
    problem, ensemble, path = example(), start(), tmp_path / "run.h5"
    settings = {**SETTINGS, "measures": None}
    whole = simulate(problem, ensemble, steps=2 * K, **settings)
    simulate(problem, ensemble, steps=K, out=path, **settings)
    code = f"from meanfield import resume; resume({str(path)!r}, until={2 * K})"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert_same(load(path), whole)


def test_rows_exist_at_multiples_of_record_every_only(tmp_path):
    """And at step 0; neither the end nor a stop adds one to the run or its file; a resumed run repeats none."""
    path = tmp_path / "run.h5"
    first = simulate(example(), start(), steps=13, out=path, **SETTINGS)
    assert first.run.trace["step"].tolist() == [0, 5, 10]
    assert first.run.trace["step"].dtype == np.int64
    assert resume(path, until=20).trace["step"].tolist() == [0, 5, 10, 15, 20]
    assert resume(path, more=1).run.trace["step"].tolist() == [0, 5, 10, 15, 20]
    assert {len(column) for column in load(path).trace.values()} == {5}


def test_what_a_row_says_is_true_of_the_state(tmp_path):
    """The last row against measures taken from the ensemble anew; test error only where it was due."""
    problem = example()
    result = simulate(problem, start(dtype="float64"), steps=20, test_every=10, **SETTINGS)
    row = {name: column[-1] for name, column in result.trace.items()}
    ensemble, field = result.ensemble, Field(problem, np.dtype("float64"))
    moments = field.predict(ensemble)
    value, risk, penalty = problem.objective(ensemble)
    assert (row["objective"], row["risk"], row["penalty"]) == (value, risk, penalty)
    assert (row["step"], row["time"]) == (20, ensemble.time)
    assert (row["reg"], row["temperature"]) == (problem.reg(20), problem.temperature(20))
    assert row["margin"] == normalized_margin(problem, moments)
    assert row["margin"] == (problem.targets * ensemble.predict(problem.X)).min() / moments.second
    assert row["train_error"] == np.mean(np.sign(ensemble.predict(problem.X)) != problem.targets)
    assert row["drift"] == drift_norm(field, ensemble, moments)
    assert row["largest_u"] == largest_u(ensemble)
    wrong = np.mean(np.sign(ensemble.predict(problem.X_test)) != problem.y_test)
    assert row["test_error"] == wrong
    assert np.isnan(result.trace["test_error"]).tolist() == [False, True, False, True, False]


def test_a_run_ends_once_its_gap_is_small(tmp_path):
    """At the first row within the bound at which λ is at rest; the gap is at least that of certify."""
    problem = example(reg=Schedule("geometric", 0.1, 0.02, 100), temperature=0.0)
    result = simulate(
        problem,
        start(),
        steps=5000,
        record_every=10,
        gap=True,
        gap_every=20,
        out=tmp_path / "run.h5",
        stop_when={"relative_gap": 0.0125},
    )
    gap, step = result.trace["relative_gap"], result.trace["step"]
    assert (result.stopped, result.ensemble.step) == ("relative_gap", step[-1])
    assert 100 <= step[-1] < 5000
    assert 0 <= gap[-1] <= 0.0125
    resting = (step >= 100) & np.isfinite(gap)
    assert (gap[resting][:-1] > 0.0125).all()
    assert certify(problem, result.ensemble, effort=0.2).relative_gap <= gap[-1] + 1e-9
    assert load(tmp_path / "run.h5").config.record.gap_every == 20


def test_the_input_is_not_modified():
    """Neither particles nor counters nor memory of the ensemble given, nor does the result share them."""
    ensemble = start()
    before = ensemble.copy()
    result = simulate(example(), ensemble, steps=3, **SETTINGS)
    assert np.array_equal(ensemble.theta, before.theta)
    assert (ensemble.step, ensemble.time, ensemble.memory) == (0, 0.0, {})
    assert not np.shares_memory(result.ensemble.theta, ensemble.theta)
    assert not np.array_equal(result.ensemble.theta, ensemble.theta)


@pytest.mark.parametrize("name", DYNAMICS)
def test_watching_changes_nothing(tmp_path, name):
    """How often rows and checkpoints are taken has no influence on the particles, minibatches or not."""
    for batch in (None, 16)[: 1 if name == "implicit" else 2]:
        dynamics = DYNAMICS[name](batch=batch)
        often = simulate(
            example(),
            start(),
            dynamics,
            steps=12,
            record_every=1,
            checkpoint_every=1,
            out=tmp_path / f"{batch}.h5",
            anneal=False,
        )
        seldom = simulate(example(), start(), dynamics, steps=12, record_every=100, anneal=False)
        assert np.array_equal(often.ensemble.theta, seldom.ensemble.theta)
        assert often.ensemble.memory == seldom.ensemble.memory


def test_a_callback_sees_every_row_and_stops_the_run(tmp_path):
    """It is given the ensemble at the row's step; True ends the run, saved, and it can be resumed."""
    seen, path = [], tmp_path / "run.h5"

    def callback(ensemble, row):
        assert ensemble.step == row["step"]
        seen.append(row["step"])
        return row["step"] >= 10

    result = simulate(example(), start(), steps=40, out=path, callback=callback, **SETTINGS)
    assert (result.stopped, seen, result.ensemble.step) == ("callback", [0, 5, 10], 10)
    whole = simulate(example(), start(), steps=40, **SETTINGS)
    assert_same(resume(path, measures=SETTINGS["measures"]), whole)


def test_no_time_means_no_step(tmp_path):
    """max_time = 0 stops at once, with a file from which the run can go on."""
    path = tmp_path / "run.h5"
    result = simulate(example(), start(), steps=10, out=path, max_time=0, **SETTINGS)
    assert (result.stopped, result.ensemble.step) == ("max_time", 0)
    assert_same(resume(path, measures=SETTINGS["measures"]), simulate(example(), start(), steps=10, **SETTINGS))


def test_divergence_names_the_step_and_spares_the_checkpoint(tmp_path):
    """DivergenceError; the file holds the last checkpoint, all finite, and no temporary file is left."""
    path = tmp_path / "run.h5"
    problem = Problem(np.eye(3) * 30, [1.0, -2.0, 3.0], loss="squared", reg=1e-3)
    ensemble = Ensemble.gaussian(100, 3, seed=1)
    with pytest.raises(DivergenceError, match=r"step \d+") as caught:
        simulate(problem, ensemble, Langevin(step_size=1.0), steps=200, record_every=1, checkpoint_every=1, out=path)
    step = int(str(caught.value).split("step ")[1].split(":")[0])
    kept = load(path)
    assert kept.ensemble.step == step - 1
    assert np.isfinite(kept.ensemble.theta).all()
    assert np.isfinite(kept.trace["objective"]).all()
    assert {entry.name for entry in tmp_path.iterdir()} <= {"run.h5", "run.h5.prev", "run.h5.lock"}


def test_user_measures_keep_their_columns(tmp_path):
    """A measure not given again is NaN from there on; one that is new is NaN before; a taken name is refused."""
    path = tmp_path / "run.h5"
    simulate(example(), start(), steps=10, out=path, record_every=5, measures={"largest_u": largest_u})
    trace = resume(path, more=10, measures={"count": lambda ensemble: ensemble.m}).trace
    assert np.isnan(trace["largest_u"]).tolist() == [False, False, False, True, True]
    assert np.isnan(trace["count"]).tolist() == [True, True, True, False, False]
    with pytest.raises(InputError, match="risk"):
        simulate(example(), start(), steps=1, measures={"risk": largest_u})


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"steps": -1}, "steps"),
        ({"record_every": 0}, "record_every"),
        ({"checkpoint_every": "soon"}, "checkpoint_every"),
        ({"out": "/nonexistent/folder/run.h5"}, "folder"),
    ],
)
def test_bad_arguments_are_named(arguments, named):
    """InputError, in one line, before anything is computed."""
    with pytest.raises(InputError, match=named) as caught:
        simulate(example(), start(), **arguments)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_resumed_is_named(tmp_path):
    """An end that lies behind, both ends at once, an output that exists."""
    path = tmp_path / "run.h5"
    simulate(example(), start(), steps=10, out=path)
    for arguments, named in (
        ({"until": 5}, "5"),
        ({"until": 20, "more": 5}, "until and more"),
        ({"more": -1}, "more = -1"),
    ):
        with pytest.raises(InputError, match=named):
            resume(path, **arguments)
    with pytest.raises(InputError, match="force"):
        simulate(example(), start(), steps=10, out=path)
    assert load(path).ensemble.step == 10


CHILD = """
import sys
sys.path.insert(0, {tests!r})
import time
import warnings
from meanfield import RunWarning, simulate
from small_run import example, start
def slow(ensemble):
    time.sleep(0.01)
    return 0.0
with warnings.catch_warnings(record=True) as caught:
    try:
        result = simulate(example(), start(), steps=100_000, record_every=1, checkpoint_every=50, out={path!r},
                          anneal=False, measures={{"slow": slow}})
    except KeyboardInterrupt as interrupt:
        result = interrupt.result
told = [str(one.message).split(" at ")[0] for one in caught if issubclass(one.category, RunWarning)]
print(result.stopped, result.ensemble.step, result.saved, "|".join(told))
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_saves_and_ends_the_run(tmp_path, name):
    """The step at hand is finished and checkpointed; going on from there equals never having stopped. Who did not ask
    for the end is told."""
    path = tmp_path / "run.h5"
    code = CHILD.format(tests=os.path.dirname(os.path.dirname(__file__)), path=str(path))
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 60
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert path.exists()
        time.sleep(0.3)
        child.send_signal(getattr(signal, name))
        out, _ = child.communicate(timeout=30)
    finally:
        child.kill()
    stopped, step, saved, *told = out.split()
    assert (stopped, saved, child.returncode) == (name, "True", 0)
    assert told == ([] if name == "SIGINT" else [name, "ended", "the", "run"])
    kept = load(path)
    assert kept.ensemble.step == int(step) > 0
    whole = simulate(example(), start(), steps=int(step), record_every=1, anneal=False)
    assert np.array_equal(kept.ensemble.theta, whole.ensemble.theta)


def test_a_second_signal_ends_at_once():
    """The first puts the handler that was there back, and so does the end of the run."""
    before = signal.getsignal(signal.SIGINT)

    def twice(ensemble, row):
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):
            if signal.getsignal(signal.SIGINT) is before:
                break
            time.sleep(0.001)
        assert signal.getsignal(signal.SIGINT) is before

    with pytest.raises(KeyboardInterrupt, match="at step 0 of 10"):
        simulate(example(), start(), steps=10, callback=twice, **SETTINGS)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_folder_that_vanishes_is_told_and_outlived(tmp_path, capfd):
    """Checkpoints fail in words, the run goes on to its end, and `saved` says that the file does not hold it."""
    folder = tmp_path / "folder"
    folder.mkdir()

    def remove(ensemble, row):
        if row["step"] == 5:
            for entry in folder.iterdir():
                entry.unlink()
            folder.rmdir()

    result = simulate(example(), start(), steps=20, out=folder / "run.h5", callback=remove, **SETTINGS)
    assert (result.stopped, result.saved, result.ensemble.step) == ("done", False, 20)
    assert "checkpoint failed" in capfd.readouterr().err
    assert_same(result, simulate(example(), start(), steps=20, **SETTINGS))


FULL = """
import sys
sys.path.insert(0, {tests!r})
import resource, signal
from meanfield import simulate
from small_run import SETTINGS, example, start
def fill_the_disk(ensemble, row):
    if row["step"] in (10, 20):
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096 if row["step"] == 10 else {after}, resource.RLIM_INFINITY))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
result = simulate(example(), start(), steps=30, out={path!r}, callback=fill_the_disk, **SETTINGS)
print(result.stopped, result.ensemble.step, result.saved)
"""


@pytest.mark.parametrize("mended", [False, True])
def test_a_full_disk_is_told_and_outlived(tmp_path, mended):
    """Writes cut short: the generation before stays good; once there is room again the end is saved."""
    path = tmp_path / "run.h5"
    code = FULL.format(
        tests=os.path.dirname(os.path.dirname(__file__)), path=str(path), after="1 << 40" if mended else "4096"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["done", "30", str(mended)]
    assert "checkpoint failed" in done.stderr
    whole = simulate(example(), start(), steps=30 if mended else 7, **SETTINGS)
    assert_same(load(path), whole)
