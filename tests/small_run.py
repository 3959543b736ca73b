"""A small run with every schedule running, for the tests of the loop and for the processes that they break."""

import numpy as np

from meanfield.ensemble import Ensemble
from meanfield.problem import Problem

SCHEDULES = {
    "reg": {"start": 0.1, "end": 0.01, "steps": 31, "shape": "geometric"},
    "temperature": {"start": 0.02, "end": 0.0, "steps": 37, "shape": "cosine"},
}


def example(outputs=1, n=40, d=6, seed=0, **settings):
    """Logistic for one output, cross-entropy for several; a small test set; every schedule running."""
    rng = np.random.default_rng(seed)
    X, X_test = rng.standard_normal((n, d)), rng.standard_normal((11, d))
    if outputs == 1:
        y, y_test, loss = np.sign(X[:, 0]), np.sign(X_test[:, 0]), "logistic"
    else:
        y, y_test, loss = np.arange(n) % outputs, np.arange(11) % outputs, "cross_entropy"
    return Problem(X, y, X_test=X_test, y_test=y_test, loss=loss, **{**SCHEDULES, **settings})


def start(outputs=1, m=1500, dtype="float32"):
    return Ensemble.sphere(m, 6, outputs, seed=5, dtype=dtype)


def largest_u(ensemble):
    return np.abs(ensemble.u).max()


SETTINGS = {"record_every": 5, "checkpoint_every": 7, "measures": {"largest_u": largest_u}, "anneal": False}
