"""Inputs take as little room in a file as they can, and no bit of them is another."""

import h5py
import numpy as np
import pytest
from faults import ensemble

from meanfield import Problem, load, simulate
from meanfield.simulation.salvage import salvage
from meanfield.storage.narrowing import narrowed, widened

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
    wide = widened(narrow)
    assert wide["X"].dtype == np.float64
    assert np.array_equal(wide["X"].view(np.int64), X.view(np.int64))


def test_one_value_among_millions_is_seen():
    X = np.zeros((3, 10**6))
    X[2, -1] = 0.1
    assert narrowed({"X": X})["X"].dtype == np.float64


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64, bool])
def test_a_run_keeps_its_inputs_as_they_came(tmp_path, dtype):
    """As wide in the file as in the hands of the user; loaded they are the same numbers."""
    X = (np.random.default_rng(0).random((20, 5)) * 2).astype(dtype)
    problem = Problem(X, np.sign(X[:, 0] - 0.5))
    simulate(problem, ensemble(), steps=2, out=tmp_path / "run.h5")
    with h5py.File(tmp_path / "run.h5") as file:
        assert file["data/X"].dtype == (np.uint8 if dtype is bool else dtype)
    loaded = load(tmp_path / "run.h5").problem.X
    assert loaded.dtype == np.float64
    assert np.array_equal(loaded, X)


def test_a_run_begun_anew_from_a_damaged_one_has_them_wide_again(tmp_path):
    problem = Problem(np.eye(5, dtype=np.uint8), [1, -1, 1, -1, 1])
    simulate(problem, ensemble(), steps=2, out=tmp_path / "run.h5")
    with open(tmp_path / "run.h5", "ab") as file:
        file.write(b"what does not belong here")
    run, lost = salvage(tmp_path / "run.h5", tmp_path / "new.h5")
    assert lost == []
    assert np.array_equal(run.problem.X, problem.X)
