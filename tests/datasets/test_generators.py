"""Laws of the index models, of two Gaussians, of moons and of spirals."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import norm

from meanfield.datasets.load import load_dataset
from meanfield.errors import InputError
from meanfield.simulation.loop import run_to_end
from meanfield.simulation.new_run import new_run_from_config
from meanfield.simulation.toml import load_config

SOURCES = ("single_index", "multi_index", "two_gaussians", "two_moons", "spirals")


def load(source, **fields):
    section = load_config(None, [f"data.source={source}"]).data
    return load_dataset(SimpleNamespace(**{**dict(section), "n": 4000, "d": 5, "n_test": 50, **fields}))


@pytest.mark.parametrize("source", SOURCES)
def test_a_longer_set_begins_with_the_shorter_and_streams_are_independent(source):
    """Training and test set have no example in common, nor do two seeds; classes are ±1, about equally many."""
    longer, shorter, other = load(source, noise=0.1), load(source, n=70, noise=0.1), load(source, n=70, seed=1)
    np.testing.assert_array_equal(longer.X[:70], shorter.X)
    np.testing.assert_array_equal(longer.y[:70], shorter.y)
    for apart in (longer.X_test, other.X):
        assert not set(apart[:, 0]) & set(longer.X[:, 0])
    assert set(longer.y) == {-1, 1}
    if source not in ("single_index", "multi_index"):
        assert abs(longer.y.mean()) < 5 / math.sqrt(4000)


def test_an_index_model_depends_on_its_hidden_directions_alone():
    """y = φ(x₁), and y = φ(x₁) φ(x₂) φ(x₃), on standard normal inputs; the class is its sign."""
    single, several = load("single_index", task="regression"), load("multi_index", task="regression", k=3, link="z")
    np.testing.assert_allclose(single.y, single.X[:, 0] ** 2 - 1, rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(several.y, several.X[:, :3].prod(axis=1), rtol=1e-14)
    np.testing.assert_allclose(single.X.T @ single.X / 4000, np.eye(5), atol=5 * math.sqrt(2 / 4000))
    np.testing.assert_array_equal(load("single_index").y, np.where(single.y > 0, 1, -1))
    assert load("single_index", task="regression", link="tanh").y[0] == pytest.approx(math.tanh(single.X[0, 0]))


def test_noise_has_the_deviation_asked_for_and_is_independent_of_inputs():
    quiet, noisy = (load("single_index", task="regression", noise=noise) for noise in (0.0, 0.3))
    np.testing.assert_array_equal(quiet.X, noisy.X)
    xi = (noisy.y - quiet.y) / 0.3
    assert abs(xi.mean()) < 5 / math.sqrt(4000)
    assert xi.std() == pytest.approx(1, abs=5 / math.sqrt(8000))
    assert np.abs(xi @ noisy.X / 4000).max() < 5 / math.sqrt(4000)


@pytest.mark.parametrize("separation", [1.0, 3.0])
def test_two_gaussians_have_their_least_error(separation):
    """That of sign x₁ is Φ(−s/2), within five standard errors; the other coordinates tell nothing."""
    data = load("two_gaussians", separation=separation)
    least = norm.cdf(-separation / 2)
    error = np.mean(np.sign(data.X[:, 0]) != data.y)
    assert error == pytest.approx(least, abs=5 * math.sqrt(least * (1 - least) / 4000))
    assert np.abs(data.y @ data.X[:, 1:] / 4000).max() < 5 / math.sqrt(4000)


def test_moons_and_arms_lie_where_they_should():
    """Half circles of radius 1 about (0, 0) and (1, ½); arms whose angle is 3π r, the one the other turned by half."""
    data = load("two_moons")
    above, below = data.X[data.y > 0], data.X[data.y < 0]
    np.testing.assert_allclose(np.hypot(*above[:, :2].T), 1, rtol=1e-14)
    np.testing.assert_allclose(np.hypot(below[:, 0] - 1, below[:, 1] - 0.5), 1, rtol=1e-14)
    assert above[:, 1].min() >= 0
    assert below[:, 1].max() <= 0.5
    assert abs(above[:, 0].mean()) < 5 / math.sqrt(2 * len(above))
    data = load("spirals")
    arm = data.y[:, None] * data.X[:, :2]
    r = np.hypot(*arm.T)
    np.testing.assert_allclose(arm[:, 0], r * np.cos(3 * math.pi * r), atol=1e-13)
    np.testing.assert_allclose(arm[:, 1], r * np.sin(3 * math.pi * r), atol=1e-13)
    assert abs(r.mean() - 0.5) < 5 / math.sqrt(12 * 4000)


def test_the_overlap_with_hidden_directions_is_recorded():
    """k/d at a uniform start, within five standard deviations; near 1 once they are found."""
    sizes = ["data.n=300", "data.d=6", "data.n_test=0", "ensemble.m=512", "run.steps=40", "run.record_every=40"]
    index = ["data.source=multi_index", "data.link=z", "data.task=regression", "objective.loss=squared"]
    measure = ['record.measures=["alignment"]', "record.alignment_dims=2", "objective.reg=1e-2"]
    trace = run_to_end(new_run_from_config(load_config(None, [*sizes, *index, *measure])), None).trace
    assert trace["alignment"][0] == pytest.approx(2 / 6, abs=5 * math.sqrt(2 * 2 * 4 / 8) / (6 * math.sqrt(512)))
    assert trace["alignment"][-1] > 0.9


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["data.source=two_moons", "data.d=1"], "data.d = 1: source 'two_moons' needs at least 2"),
        (["data.source=multi_index", "data.k=30"], "data.k = 30: must be at most data.d, which is 20"),
        (["data.source=single_index", "data.link=sinh(z)"], "sinh"),
        (["data.source=single_index", "data.link=hinge"], "data.link"),
        (["data.noise=-1"], "data.noise = -1"),
    ],
)
def test_settings_that_cannot_be_are_named(settings, words):
    with pytest.raises(InputError) as refused:
        load_config(None, settings)
    assert words in str(refused.value)
