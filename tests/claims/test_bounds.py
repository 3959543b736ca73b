"""Claims 4 and 8: cells computed anew equal the committed rows, and the laws that their tables rest on."""

import csv
import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from meanfield.datasets.generators import teacher_units
from meanfield.datasets.load import load_dataset
from meanfield.simulation.config import Data

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def scripts():
    """(claim_bounds, claim_deep)"""
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        yield importlib.import_module("claim_bounds"), importlib.import_module("claim_deep")
    finally:
        sys.path.remove(str(ROOT / "scripts"))


def committed(name, **wanted):
    """The row of a study's file with these values, as numbers where they are."""
    with open(ROOT / "data" / "results" / f"{name}.csv", encoding="utf-8") as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        (row,) = [row for row in rows if all(row[key] == str(value) for key, value in wanted.items())]
    return {key: float(value) for key, value in row.items() if key not in ("task", "source", "dynamics")}


def test_margins_on_the_paper_s_data_are_the_committed_ones(scripts):
    """γ_ℓ1 to the tolerance of its linear program, γ_ℓ2 to that of the SVM."""
    bounds, _ = scripts
    here = {"d": 8, "n": 16, "seed": 0}
    row = committed("bounds_network", **here)
    assert bounds.network_cell(**here)["margin"] == pytest.approx(row["margin"], rel=1e-2)
    row, found = committed("bounds_kernel", **here), bounds.kernel_cell(**here)
    for key, value in found.items():
        assert value == pytest.approx(row[key], rel=1e-4, abs=1e-3)


@pytest.mark.slow
def test_a_teacher_s_cell_is_the_committed_one(scripts):
    """The network's margin and the kernel's to 1 %; test errors to what a few points of 4000 make."""
    bounds, _ = scripts
    here = {"task": "classification", "n": 20, "seed": 0, "reg": 1e-8, "m": 1024, "steps": 4000, "dynamics": "langevin"}
    row, found = committed("bounds_classification", **{**here, "reg": "1e-08"}), bounds.teacher_cell(**here)
    for key in ("complexity", "kernel_complexity", "risk"):
        assert found[key] == pytest.approx(row[key], rel=1e-2)
    for key in ("error", "kernel_error"):
        assert found[key] == pytest.approx(row[key], abs=5e-3)


def test_a_network_that_misses_an_example_has_no_margin(scripts):
    """After two steps: its complexity is infinite, and its test error counts all the same."""
    bounds, _ = scripts
    found = bounds.teacher_cell("classification", n=100, seed=0, reg=1e-8, m=8, steps=2, dynamics="langevin")
    assert np.isinf(found["complexity"])
    assert 0.2 < found["error"] < 0.8


def test_kernel_margins_of_deep_networks_are_the_committed_ones(scripts):
    """One small cell of the deep claim."""
    _, deep = scripts
    here = {"source": "xor", "depth": 3, "n": 60, "d": 10, "seed": 0}
    row, found = committed("deep_kernel", **here), deep.kernel_cell(**here)
    for key, value in found.items():
        assert value == pytest.approx(row[key], rel=1e-4, abs=1e-3)


def test_the_network_s_margin_is_at_least_that_of_four_neurons_and_of_its_features(scripts):
    """γ_ℓ1 ≥ 1/4 whatever n and d; and γ_ℓ1 ≥ γ_ℓ2 of the same features, for ‖·‖₁ ≤ ‖·‖₂ under a probability."""
    bounds, _ = scripts
    for d, n in ((4, 10), (8, 30)):
        network, kernel = bounds.network_cell(d, n, 5), bounds.kernel_cell(d, n, 5)
        assert network["upper"] >= 0.25
        assert network["margin"] >= max(0.25 * (1 - 5e-3), kernel["margin_sphere"])


def test_the_kernel_s_features_on_the_sphere_are_averaged_by_a_probability(scripts):
    """E relu(u·x) relu(u·x') over the unit sphere, by sampling, is the closed form over d."""
    bounds, _ = scripts
    rng = np.random.default_rng(0)
    X, u = rng.standard_normal((4, 6)), rng.standard_normal((200_000, 6))
    phi = np.maximum(X @ (u / np.linalg.norm(u, axis=1, keepdims=True)).T, 0)
    np.testing.assert_allclose(phi @ phi.T / phi.shape[1], bounds.SPHERE.gram(X) / 6, rtol=0.03)


def test_the_teacher_of_the_script_is_that_of_the_data(scripts):
    """Its weights give the labels, so that its ∫‖θ‖² bounds the least objective over λ."""
    bounds, _ = scripts
    data = load_dataset(Data(source="teacher", task="regression", n=30, d=20, n_test=1, seed=3))
    u, w = teacher_units(3, 20, 6)
    np.testing.assert_allclose(np.maximum(data.X @ u.T, 0) @ w, data.y, rtol=1e-12, atol=1e-12)
    assert bounds.teacher_size(3) == pytest.approx(2 * np.sum(np.abs(w) * np.sqrt(np.sum(u**2, axis=1))))
