"""Whatever configuration `run` accepts, it makes a file that every other command accepts."""

import contextlib

import pytest
from faults import in_process
from hypothesis import given, settings
from hypothesis import strategies as st

from meanfield import load
from meanfield.simulation.config import MEASURES, METHODS, NEURONS

KEYS = {
    "data.source": ["'xor'", "'line'", "'parity'", "'teacher'", "'own.csv'", "'own.npz'"],
    "data.n": ["1", "2", "30"],
    "data.d": ["1", "2", "3", "5"],
    "data.n_test": ["0", "1", "7"],
    "data.test_fraction": ["0.0", "0.4"],
    "data.bias": ["true", "false"],
    "data.standardize": ["true", "false"],
    "data.task": ["'regression'", "'classification'"],
    "data.seed": ["3"],
    "objective.loss": ["'logistic'", "'squared'", "'cross_entropy'"],
    "objective.reg": [
        "1e-2",
        "10.0",
        "{shape='geometric', start=0.1, end=0.01, steps=5}",
        "{shape='constant', end=0.02}",
        "{shape='c_over_log_t', start=0.1, end=0.1, steps=1}",
        "{shape='cosine', start=0.1, end=0.3, steps=100}",
    ],
    "objective.temperature": ["0.0", "1e-3", "{shape='linear', start=0.1, end=0.0, steps=4}"],
    "neuron.activation": [f"'{name}'" for name in NEURONS],
    "ensemble.m": ["1", "3", "64", "300"],
    "ensemble.init": ["'gaussian'", "'sphere'"],
    "ensemble.scale": ["1e-9", "3.0"],
    "ensemble.seed": ["18446744073709551615", "9223372036854775808", "7"],
    "ensemble.dtype": ["'float64'", "'float32'"],
    "dynamics.method": [f"'{name}'" for name in METHODS],
    "dynamics.step_size": ["'auto'", "0.1", "{shape='linear', start=0.2, end=0.1, steps=3}"],
    "dynamics.batch": ["1", "2"],
    "dynamics.cooled_at": ["0", "100"],
    "dynamics.births": ["0", "3"],
    "run.steps": ["0", "1", "7"],
    "run.record_every": ["1", "3", "20"],
    "run.checkpoint_every": ["2", "'1s'"],
    "run.stop_when": ["{objective_change=1.0}", "{relative_gap=0.9}"],
    "record.gap": ["true"],
    "record.test_every": ["2"],
    "record.measures": [f"['{name}']" for name in MEASURES],
    "record.measures_every": ["1", "2"],
    "record.alignment_dims": ["1", "9"],
    "record.snapshots": ["1", "3"],
    "record.snapshot_particles": ["'all'", "1", "5"],
    "record.snapshot_spacing": ["'log'", "'linear'"],
    "record.snapshot_steps": ["[]", "[0, 2]", "[5, 100]"],
}


def overrides():
    """Some of the keys, mostly few, each with one of its values."""
    one = st.sampled_from(sorted(KEYS)).flatmap(lambda key: st.tuples(st.just(key), st.sampled_from(KEYS[key])))
    return st.lists(one, min_size=1, max_size=9, unique_by=lambda pair: pair[0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where to run, with data of a user's own."""
    import numpy as np

    place = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((12, 3)), np.arange(12) % 2
    np.savez(place / "own.npz", X=X, y=y, X_test=X[:4], y_test=y[:4])
    rows = [",".join(map(str, [*x, label])) for x, label in zip(X.tolist(), y.tolist(), strict=True)]
    (place / "own.csv").write_text("\n".join(["a,b,c,y", *rows, ""]))
    return place


def check_opens(pairs, folder):
    """Run 7 steps as asked; then load, and all commands, whose refusals are of what is asked of them at most."""
    path = folder / "run.h5"
    small = {"data.n": "30", "data.d": "3", "data.n_test": "7", "ensemble.m": "64", "run.steps": "7"}
    asked = {**small, **dict(pairs)}
    if "own" in asked.get("data.source", ""):
        asked = {key: value for key, value in asked.items() if key not in ("data.n", "data.d", "data.n_test")}
    words = [word for key, value in asked.items() for word in ("--set", f"{key}={value}")]
    with contextlib.chdir(folder):
        status, _, err = in_process("run", *words, "--out", path, "--force", "--quiet", "--no-gap")
        assert "Traceback" not in err
        if status != 0:
            assert status in (1, 2), (asked, err)  # it diverged, or is refused
            assert "not a whole run" not in err, (asked, err)  # but not on saving it, when it has begun
            assert "not one run's parts" not in err, (asked, err)
            return False
        run = load(path)
        commands = [
            ["info", path],
            ["resume", path, "--more", 2, "--quiet", "--no-gap"],
            ["report", path, "--seconds", 0],
        ]
        commands.append(["plot", path, "--only", "convergence,schedules"])
        if run.config.neuron.activation == "relu":
            commands.append(["certify", path, "--effort", "0.01", "--quiet"])
        for command in commands:
            status, _, err = in_process(*command)
            assert status == 0 or "left the range" in err, (asked, command[0], err)
        load(path)
    return True


@pytest.mark.parametrize("source", ["line", "xor", "parity"])
def test_a_bias_beside_generated_data_can_be_read_again(folder, source):
    pairs = [("data.source", f"'{source}'"), ("data.bias", "true"), ("objective.loss", "'squared'")]
    pairs += [("data.d", "2")] if source == "line" else []
    assert check_opens(pairs, folder)


def test_the_largest_seed_can_be_read_again(folder):
    assert check_opens([("ensemble.seed", str(2**64 - 1))], folder)


def test_an_example_alone_can_be_reported_on(folder):
    """Of one class, so that there is no kernel to draw beside the network."""
    assert check_opens([("data.n", "1"), ("data.seed", "3")], folder)


@settings(max_examples=3, deadline=None, derandomize=True, database=None)
@given(pairs=overrides())
def test_what_run_accepts_every_command_accepts(folder, pairs):
    check_opens(pairs, folder)


@pytest.mark.slow
@settings(max_examples=400, deadline=None, derandomize=True, database=None)
@given(pairs=overrides())
def test_what_run_accepts_every_command_accepts_of_many(folder, pairs):
    check_opens(pairs, folder)
