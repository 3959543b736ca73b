"""Particles against the infinite-width limit: laws of the claim's cells, its committed numbers, proven small gaps."""

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes

from meanfield import Ensemble, PerturbedFlow, Problem, exact, simulate
from meanfield.optimality.certificate import certify
from meanfield.optimality.sphere_ascent import pull

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import claim_infinite_width as claim  # noqa: E402


def committed(study, **configuration):
    """The results in data/results/infinite_width_STUDY.csv of the cell with this configuration."""
    with open(ROOT / "data" / "results" / f"infinite_width_{study}.csv", encoding="utf-8") as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        wanted = {name: str(value) for name, value in configuration.items()}
        (row,) = (row for row in rows if wanted.items() <= row.items())
    return {name: float(value) for name, value in row.items() if name not in (*configuration, "seconds")}


@pytest.mark.parametrize(
    ("study", "cell", "configuration"),
    [
        ("relaxation", claim.relaxation_cell, {"n": 8, "temperature": 0.03, "m": 1000, "seed": 0}),
        pytest.param(
            "averages",
            claim.average_cell,
            {"n": 8, "temperature": 0.1, "m": 10_000, "step_size": 0.8, "span": 60, "seed": 1},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_committed_numbers_come_again(study, cell, configuration):
    """The particles' side is the same bits everywhere; the limit's solves its equations to 1e-7, so that distances of
    1e-3 and more from it agree to a thousandth."""
    expected = committed(study, **configuration)
    found = cell(**configuration)
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert value == pytest.approx(expected[name], rel=1e-3, abs=1e-6), name


@pytest.mark.parametrize(("n", "temperature"), [(8, 3e-3), (8, 1e-1), (12, 3e-2)])
def test_the_virial_gives_the_second_moment_of_the_gibbs_measure(n, temperature):
    """Held against ∫‖θ‖² from E|u|² = dτ/(2λ) E[1/q] and E|w|² = E[|u|² ‖G‖²]/4λ² + τ/2λ, node by node."""
    problem = claim.plane(n, temperature)
    found, (f, objective, _, min_q) = exact.gibbs(problem), claim.reference(n, temperature)
    q = 1 - (pull(problem.X, found.a, found.nodes) / (2 * claim.REG)) ** 2
    u_squared = 2 * temperature / (2 * claim.REG) / q
    second = found.weights @ (u_squared * (2 - q)) + temperature / (2 * claim.REG)
    expected = problem.loss.value(f, problem.targets) + claim.REG * second
    np.testing.assert_allclose(objective, expected, rtol=1e-9)
    assert min_q > 0


@pytest.mark.slow
def test_the_error_of_a_snapshot_falls_like_the_root_of_the_width():
    """m 100 → 10⁴: predictions 10 times as close, to 30 %; D(a) ≤ F* ≤ F[a] at every state, closing in like 1/m."""
    few, many = ([claim.snapshot_cell(8, 0.1, m, seed, 6) for seed in range(4)] for m in (100, 10_000))
    root = [np.sqrt(np.mean([row["predictions"] ** 2 for row in rows])) for rows in (few, many)]
    assert 7 < root[0] / root[1] < 13
    assert min(row["least"] for row in few + many) >= 0
    below = [np.mean([row["below"] for row in rows]) for rows in (few, many)]
    assert 25 < below[0] / below[1] < 160


@pytest.mark.slow
def test_time_averages_have_a_bias_like_one_over_the_width():
    """m 8 → 32 at η = 0.4: the mean objective is above the limit, four times less far, to within the error."""
    rows = [[claim.average_cell(8, 0.1, m, 0.4, 100, seed)["objective"] for seed in range(4)] for m in (8, 32)]
    few, many = (np.array(one) for one in rows)
    error = np.hypot(few.std(ddof=1), 4 * many.std(ddof=1)) / 2
    assert few.mean() > 5 * few.std(ddof=1) / 2
    assert abs(few.mean() - 4 * many.mean()) < 3.5 * error + 4e-4 * 4  # the bias of the step size does not fall with m
    assert many.mean() < 0.5 * few.mean()


@pytest.mark.slow
def test_the_bias_of_the_step_size_is_linear():
    """m 1000, where it outweighs 1/m: the virial, zero without it, is twice as far off at η = 1.6 as at 0.8."""
    coarse, fine = (
        np.array([claim.average_cell(8, 0.1, 1000, eta, 100, seed)["virial"] for seed in range(4)])
        for eta in (1.6, 0.8)
    )
    assert fine.mean() > 2 * fine.std(ddof=1) / 2
    assert 1.3 < coarse.mean() / fine.mean() < 3


def test_without_a_minimizer_mass_gathers_in_few_particles():
    """The paper's data in d = 8 at τ = 0.01: the heaviest hundredth gains; in the plane it keeps its share."""
    claim_times, claim.TIMES = claim.TIMES, (10, 80)
    try:
        plane, paper = (claim.boundary_cell(data, 1e-2, 2000, 2.0, 0) for data in ("plane", "xor"))
    finally:
        claim.TIMES = claim_times
    assert paper["hundredth_80"] > 1.5 * paper["hundredth_10"]
    assert abs(plane["hundredth_80"] / plane["hundredth_10"] - 1) < 0.5
    assert plane["q_80"] > 0 > paper["q_80"]


def small_cases():
    rng = np.random.default_rng(0)
    cancer, diabetes = load_breast_cancer(), load_diabetes()

    def standardized(A):
        return (A - A.mean(axis=0)) / A.std(axis=0)

    for d in (2, 3):
        yield f"random, d {d}", rng.standard_normal((500, d)), np.where(rng.random(500) < 0.5, -1, 1), "logistic"
    for d in (2, 3):
        yield f"breast cancer, d {d}", standardized(cancer.data[:500, :d]), cancer.target[:500], "logistic"
    yield "diabetes, d 2", standardized(diabetes.data[:, [2, 8]]), standardized(diabetes.target), "squared"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "X", "y", "loss"), [pytest.param(*one, id=one[0]) for one in small_cases()])
def test_converged_runs_in_small_dimension_are_proven_within_a_thousandth(name, X, y, loss):
    """n up to 500, λ = 10⁻³: particles alone, no solver's neurons; the gap is proven by enumeration."""
    problem = Problem(X, y, loss=loss, reg=1e-3)
    run = simulate(
        problem,
        Ensemble.sphere(1024, problem.d, seed=1),
        PerturbedFlow(rebirth_rate=1e-4),
        steps=10_000,
        record_every=10_000,
        anneal=False,
    )
    found = certify(problem, run.ensemble)
    print(f"{name}: proven relative gap {found.relative_gap:.2e}")
    assert found.rigorous
    assert -1e-12 <= found.relative_gap <= 1e-3
