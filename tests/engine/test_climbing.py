"""Ascents side by side are what each would be alone: the slow twin's, in every bit."""

import naive
import numpy as np
import pytest

from meanfield.engine.climbing import GROUP, Hill, climb_all
from meanfield.runtime.threads import Workers


def climbed(hill, U, care, threads=1):
    """Where the ascents end, how high, after how many passes."""
    U, values, passes = U.copy(), np.zeros(len(U)), np.zeros(len(U), np.int64)
    Workers(threads).run(climb_all, -(-len(U) // GROUP), (hill, U, values, passes, care), 0)
    return U, values, passes


def example(outputs, n=9, d=3):
    """Halves of small integers, so that squares are exact; one input is zero, one start has no pull."""
    rng = np.random.default_rng(outputs)
    X, a = rng.integers(-4, 5, (n, d)) / 2.0, rng.standard_normal((n, outputs))
    X[3], X[:, 0] = 0.0, np.abs(X[:, 0])
    U = rng.standard_normal((GROUP + 7, d))
    U[5] = [-1.0, 0.0, 0.0]
    return Hill(X, np.sum(X * X, axis=1), a), U / np.linalg.norm(U, axis=1)[:, None]


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("care", [(0, 4), (1, 1), (12, 4)])
def test_ascents_are_those_of_the_slow_twin(outputs, care):
    """The same bits, heights and numbers of passes, of a full group of starts and one that is not."""
    hill, U = example(outputs)
    ends, values, passes = climbed(hill, U, care)
    for s in range(len(U)):
        u, value, spent = naive.climb(hill.X, hill.a, U[s], *care)
        assert (ends[s].tolist(), values[s], passes[s]) == (u.tolist(), value, spent), s
    assert len(set(passes.tolist())) > 1 or care[0] < 2  # starts end at different times


def test_company_changes_no_bit():
    """In another order, alone, or by two threads."""
    hill, U = example(1)
    order = np.random.default_rng(0).permutation(len(U))
    whole = climbed(hill, U, (12, 4))
    for one, other in zip(climbed(hill, U[order], (12, 4), threads=2), whole, strict=True):
        assert np.array_equal(one, other[order])
    alone = [climbed(hill, U[s : s + 1], (12, 4)) for s in range(4)]
    for k, found in enumerate(whole):
        assert np.array_equal(np.concatenate([one[k] for one in alone]), found[:4])
