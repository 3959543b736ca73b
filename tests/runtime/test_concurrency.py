"""Laws of many at once: threads, forks and worker processes of the user's own change no bit, and nothing hangs.

Every case is a process of its own with a time limit, so that a hang or a crash fails here and harms nothing else.
"""

import os
import re
import subprocess
import sys

import pytest

from meanfield.errors import InputError
from meanfield.runtime.threads import default_threads

LIMIT = 120  # seconds, in which the process may also have to compile
VARIABLES = ("MEANFIELD_NUM_THREADS", "NUMBA_NUM_THREADS", "OMP_NUM_THREADS")

COMMON = '''
import hashlib, os, sys, threading
import numpy as np
from meanfield import Ensemble, Langevin, Problem, simulate
from meanfield.runtime.threads import default_threads

def run(seed, threads=None, m=3000, steps=15):
    """A digest of all that a run of three blocks with noise and an automatic step ends with."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((40, 6))
    problem = Problem(X, np.sign(X[:, 0]), reg=1e-2, temperature=1e-3)
    start = Ensemble.sphere(m, 6, seed=seed)
    result = simulate(problem, start, Langevin(), steps=steps, record_every=3, threads=threads)
    digest = hashlib.sha256(result.ensemble.theta.tobytes())
    for name, column in result.trace.items():
        if name != "seconds":
            digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()

def helpers():
    """Live threads of the engine's in this process."""
    return sum(one.name.startswith("meanfield") for one in threading.enumerate())

def child(seed):
    return run(seed), default_threads(), helpers()
'''


def check(code, folder, limit=LIMIT):
    """Run a script in a process of its own; it must end well, and say nothing of a crash, within the limit."""
    script = folder / "case.py"
    script.write_text(COMMON + code)
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=limit, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "good", done.stdout


def test_threads_beyond_the_cores_change_no_bit(tmp_path):
    """1, 2 and 8 threads: state and trace."""
    check(
        """
alone = run(0, threads=1)
assert run(0, threads=2) == alone and run(0, threads=8) == alone and run(0) == alone
assert run(1, threads=1) != alone
print("good")
""",
        tmp_path,
    )


def test_two_threads_of_the_user_may_simulate_at_once(tmp_path):
    """At the same time, each with helping threads of its own: the bits of runs one after the other."""
    check(
        """
from concurrent.futures import ThreadPoolExecutor
after_each_other = [run(seed, threads=2, steps=200) for seed in range(2)]
for _ in range(3):
    gate = threading.Barrier(2)
    def together(seed):
        gate.wait()
        return run(seed, threads=2, steps=200)
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(together, range(2))) == after_each_other
print("good")
""",
        tmp_path,
    )


def test_two_threads_may_share_a_problem_and_an_ensemble(tmp_path):
    """Inputs are read, never written: four runs of the same objects at once are the same run."""
    check(
        """
from concurrent.futures import ThreadPoolExecutor
X = np.random.default_rng(0).standard_normal((40, 6))
problem, start = Problem(X, np.sign(X[:, 0]), temperature=1e-3), Ensemble.sphere(3000, 6)
before = start.theta.copy()
def end(_):
    return simulate(problem, start, steps=60, threads=2).ensemble.theta
alone = end(0)
with ThreadPoolExecutor(4) as pool:
    assert all(np.array_equal(theta, alone) for theta in pool.map(end, range(4)))
assert np.array_equal(start.theta, before)
print("good")
""",
        tmp_path,
    )


@pytest.mark.parametrize("method", ["fork", "spawn", pytest.param("forkserver", marks=pytest.mark.slow)])
def test_children_of_multiprocessing_run_with_one_thread(tmp_path, method):
    """After the parent has run with several threads: the same bits, no helping threads, and the parent still works."""
    check(
        f"""
import multiprocessing
if __name__ == "__main__":
    alone = [run(seed, threads=2) for seed in range(3)]
    with multiprocessing.get_context({method!r}).Pool(2) as pool:
        results = pool.map_async(child, range(3)).get(60)
    assert [digest for digest, _, _ in results] == alone
    assert all(threads == 1 for _, threads, _ in results), results
    assert all(count == 0 for _, _, count in results), results
    assert [run(seed, threads=2) for seed in range(3)] == alone
    print("good")
""",
        tmp_path,
    )


def test_workers_of_joblib_run_with_one_thread(tmp_path):
    """loky's processes: the same bits, one thread each where as many workers as cores are asked for."""
    pytest.importorskip("joblib")
    check(
        """
import joblib
if __name__ == "__main__":
    alone = [run(seed) for seed in range(3)]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    workers = joblib.Parallel(n_jobs=max(2, cores), timeout=60)
    results = workers(joblib.delayed(child)(seed) for seed in range(3))
    assert [digest for digest, _, _ in results] == alone
    assert all(threads == 1 and count == 0 for _, threads, count in results), results
    print("good")
""",
        tmp_path,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_a_fork_leaves_both_sides_working(tmp_path):
    """A bare fork between two steps of one field: its helping threads are gone in the child, which starts its own."""
    check(
        """
from meanfield.dynamics import Field
X = np.random.default_rng(0).standard_normal((40, 6))
problem = Problem(X, np.sign(X[:, 0]), temperature=1e-3)
ensemble, whole = Ensemble.sphere(3000, 6), Ensemble.sphere(3000, 6)

def go(field, ensemble, steps):
    moments = field.predict(ensemble)
    for _ in range(steps):
        moments = Langevin().step(field, ensemble, moments)

go(Field(problem, whole.dtype, 1), whole, 20)
field = Field(problem, ensemble.dtype, 2)
go(field, ensemble, 10)
assert helpers() == 1
pid = os.fork()
go(field, ensemble, 10)
same = np.array_equal(ensemble.theta, whole.theta)
if pid == 0:
    os._exit(0 if same and run(0, threads=2) == run(0, threads=1) else 3)
_, status = os.waitpid(pid, 0)
assert same and os.waitstatus_to_exitcode(status) == 0
assert run(0, threads=2) == run(0, threads=1)
print("good")
""",
        tmp_path,
    )


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"OMP_NUM_THREADS": "1"}, 1),
        ({"NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "64"}, 1),
        ({"MEANFIELD_NUM_THREADS": "3", "OMP_NUM_THREADS": "1"}, 3),
        ({"OMP_NUM_THREADS": "4,2"}, None),
        ({"OMP_NUM_THREADS": "0"}, None),
        ({}, None),
    ],
)
def test_the_number_of_threads_follows_the_environment(monkeypatch, settings, expected):
    """The engine's own variable as it is, others no further than the cores; what is no number has no say."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert default_threads() == (cores if expected is None else expected)


@pytest.mark.parametrize("value", ["abc", "0", "-1", "2.5", "4,2", "²"])
def test_a_number_of_threads_of_our_own_that_is_none_is_refused(monkeypatch, value):
    """Ours is not passed over in silence, as those of others are."""
    monkeypatch.setenv("MEANFIELD_NUM_THREADS", value)
    with pytest.raises(InputError, match=f"MEANFIELD_NUM_THREADS = '{re.escape(value)}': must be a whole number"):
        default_threads()
    monkeypatch.setenv("MEANFIELD_NUM_THREADS", " ")
    assert default_threads() >= 1


def test_the_threads_of_the_blas_do_not_reach_the_bits():
    """With so many examples that its sums are shared out: time, particles and trace with ==, explicit and implicit."""
    program = """
import numpy as np
from meanfield import Ensemble, Implicit, Langevin, Problem, simulate
rng = np.random.default_rng(0)
X = rng.standard_normal((20_000, 6))  # so many that a sum by np.dot is seen here to differ
problem = Problem(X, np.sign(X[:, 0] * X[:, 1]))
for dynamics, steps in ((Langevin(), 9), (Implicit(), 2)):
    result = simulate(problem, Ensemble.sphere(64, 6), dynamics, steps=steps, record_every=1, threads=2)
    columns = [column.tolist() for column in result.trace.values()]
    print(result.ensemble.time.hex(), result.ensemble.theta.tobytes().hex(), columns)
"""
    told = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "OPENBLAS_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for threads in "12"
    ]
    assert told[0] == told[1]
