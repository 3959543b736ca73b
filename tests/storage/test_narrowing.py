"""Inputs take as little room in a file as they can, and no bit of them is another."""

import subprocess
import sys

import h5py
import numpy as np
import pytest
from faults import ensemble
from helpers import assert_same

from meanfield import Langevin, Problem, load, simulate
from meanfield.simulation.salvage import salvage
from meanfield.storage.narrowing import narrowed

KINDS = [
    (np.uint8, [[0.0, 1.0], [7.0, 255.0]]),
    (np.float32, [[0.0, -1.0], [7.0, 0.5]]),
    (np.float32, [[0.0, 256.0]]),
    (np.float32, [[np.float32(0.1), np.float32(1e-40)]]),
    (np.float32, [[0.0, -0.0]]),  # its sign is a bit
    (np.float64, [[0.1, 1.0]]),
    (np.float64, [[1e300, 1.0]]),
    (np.float64, [[1e-300, 1.0]]),
    (np.float64, [[2**24 + 1.0, 1.0]]),
]


@pytest.mark.parametrize(("dtype", "values"), KINDS)
def test_every_bit_comes_back_from_the_narrowest_type_that_keeps_it(dtype, values):
    X = np.float64(values)
    narrow = narrowed({"X": X, "X_test": np.eye(2), "y": np.zeros(2)})
    assert [narrow[name].dtype for name in narrow] == [dtype, np.uint8, np.float64]
    assert np.array_equal(narrow["X"].astype(np.float64).view(np.int64), X.view(np.int64))


def test_one_value_among_millions_is_seen():
    X = np.zeros((3, 10**6))
    X[2, -1] = 0.1
    assert narrowed({"X": X})["X"].dtype == np.float64


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64, bool])
def test_a_run_keeps_its_inputs_as_they_came(tmp_path, dtype):
    """As wide in memory and in the file as in the hands of the user; `X` is the same numbers in float64."""
    X = (np.random.default_rng(0).random((20, 5)) * 2).astype(dtype)
    kept = np.float64 if dtype is bool else dtype
    problem = Problem(X, np.sign(X[:, 0] - 0.5), X_test=X[:3], y_test=[1, -1, 1])
    simulate(problem, ensemble(), steps=2, out=tmp_path / "run.h5")
    with h5py.File(tmp_path / "run.h5") as file:
        assert file["data/X"].dtype == (np.uint8 if dtype is bool else dtype)
    loaded = load(tmp_path / "run.h5").problem
    assert problem.inputs.dtype == problem.test_inputs.dtype == kept
    assert loaded.inputs.dtype == (np.uint8 if dtype is bool else dtype)
    assert loaded.X.dtype == loaded.X_test.dtype == np.float64
    assert np.array_equal(loaded.X, X)
    assert np.array_equal(loaded.X_test, X[:3])


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_narrow_inputs_are_the_same_run(tmp_path, dtype):
    """The same bits, the same digest of the data, and the same file but for the hour, as from float64."""
    X = (np.random.default_rng(0).random((40, 5)) * 9).astype(dtype)
    runs = []
    for inputs in (X, X.astype(np.float64)):
        problem = Problem(inputs, np.sign(X[:, 0] - 4), X_test=inputs[:9], y_test=np.sign(X[:9, 0] - 4))
        runs.append(
            simulate(problem, ensemble(), Langevin(), steps=4, record_every=1, out=tmp_path / "run.h5", force=True)
        )
    narrow, wide = runs
    assert narrow.run.dataset.sha256 == wide.run.dataset.sha256
    assert_same(narrow, wide)


def test_a_run_begun_anew_from_a_damaged_one_has_them_still(tmp_path):
    problem = Problem(np.eye(5, dtype=np.uint8), [1, -1, 1, -1, 1])
    simulate(problem, ensemble(), steps=2, out=tmp_path / "run.h5")
    with open(tmp_path / "run.h5", "ab") as file:
        file.write(b"what does not belong here")
    run, lost = salvage(tmp_path / "run.h5", tmp_path / "new.h5")
    assert lost == []
    assert np.array_equal(run.problem.X, problem.X)


GROWTH = """
import re, sys
from pathlib import Path
import numpy as np
from meanfield import Ensemble, Langevin, Problem, resume, simulate
def memory(name):
    return 1024 * int(re.search(name + ":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
def run(n, d=2048):
    X = np.full((n, d), 3, sys.argv[1])
    X[:, ::7] = 200
    X[::2] //= 2
    problem = Problem(X, np.arange(n) % 3, loss="cross_entropy", reg=1e-3, X_test=X[:99], y_test=np.arange(99) % 3)
    simulate(problem, Ensemble.sphere(32, d, outputs=3), Langevin(), steps=1, out=sys.argv[2], force=True)
    del X, problem
    resume(sys.argv[2], more=1)
run(512)
Path("/proc/self/clear_refs").write_text("5")  # the peak of compiling is forgotten
before = memory("VmRSS")
run(8192)
print((memory("VmHWM") - before) / (8192 * 2048))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the memory")
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_run_never_holds_its_inputs_in_float64(tmp_path, dtype):
    """Beside the inputs as they came there are their two packings in float32, and no third thing of their size."""
    command = [sys.executable, "-c", GROWTH, np.dtype(dtype).name, tmp_path / "run.h5"]
    grown = float(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    assert np.dtype(dtype).itemsize + 7.5 < grown < np.dtype(dtype).itemsize + 9.5
