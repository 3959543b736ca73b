"""Numbers go out of hand: a run ends in one line that names it, or every number it reports is finite and true."""

import numpy as np
import pytest

from meanfield import Ensemble, Problem, load, simulate
from meanfield.dynamics import DYNAMICS, Langevin
from meanfield.errors import DivergenceError, InputError
from meanfield.simulation import toml
from meanfield.simulation.loop import resume

RNG = np.random.default_rng(0)
X = RNG.standard_normal((20, 4))
Y = np.sign(X[:, 0])
REPORTED = ("objective", "risk", "penalty", "train_error", "reg", "temperature", "time", "drift")


def outcome(path, problem, ensemble, dynamics=None):
    """Run 12 steps; the error, or None after everything reported has been checked."""
    try:
        result = simulate(problem(), ensemble, dynamics, steps=12, record_every=3, checkpoint_every=2, out=path)
    except (InputError, DivergenceError) as error:
        assert "\n" not in str(error)  # noqa: PT017
        if path.exists():  # then what was saved before is whole and finite
            kept = load(path)
            assert np.isfinite(kept.ensemble.theta).all()
            assert np.isfinite(kept.trace["objective"]).all()
        return error
    for name in REPORTED:
        assert np.isfinite(result.trace[name]).all(), name
    assert np.isfinite(result.ensemble.theta).all()
    assert result.trace["objective"][-1] == result_objective(path)
    return None


def result_objective(path):
    """The objective of the state in the file, computed anew."""
    run = load(path)
    return run.problem.objective(run.ensemble).value


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", ["logistic", "squared"])
@pytest.mark.parametrize("factor", [1e300, 1e160, 1e38, 1e30, 1e15, 1e-15, 1e-30, 1e-42, 1e-160, 1e-310])
def test_huge_and_denormal_features_are_handled_or_refused(tmp_path, factor, loss, dtype):
    """Beyond 1e15 they are refused by name; tiny ones, down to denormals, are a problem like any other."""
    start = Ensemble.sphere(200, 4, dtype=dtype)
    error = outcome(tmp_path / "run.h5", lambda: Problem(X * factor, Y, loss=loss), start)
    assert (error is not None) == (factor > 1) or factor == 1e15
    if factor > 1e15:
        assert isinstance(error, InputError)
        assert "rescale" in str(error)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("factor", [1e300, 1e30, 1e-30, 1e-310])
def test_huge_and_denormal_targets_are_handled_or_refused(tmp_path, factor):
    error = outcome(tmp_path / "run.h5", lambda: Problem(X, Y * factor, loss="squared"), Ensemble.sphere(200, 4))
    assert (error is not None) == (factor > 1)


def test_denormal_regularization_is_refused():
    """1/λ would overflow."""
    with pytest.raises(InputError, match="reg = 5e-324: must be positive, and no denormal number"):
        Problem(X, Y, reg=5e-324)
    with pytest.raises(InputError, match=r"objective\.reg.*at least 0, and no denormal number"):
        toml.load_config(None, ["objective.reg=1e-310"])


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("dynamics", [None, Langevin()], ids=["default", "langevin"])
@pytest.mark.parametrize(
    ("name", "value", "diverges"),
    [
        ("reg", 1e-300, False),
        ("reg", 1e-30, False),
        ("reg", 1e30, False),
        ("reg", 1e300, False),
        ("temperature", 1e-30, False),
        ("temperature", 1e30, True),
        ("temperature", 1e300, True),
    ],
)
def test_extreme_settings_are_handled_or_stop_the_run(tmp_path, name, value, diverges, dynamics, dtype):
    """Where λ is all but zero, a fit of the masses may leave the range of finite numbers; explicit steps may not."""
    start = Ensemble.sphere(200, 4, dtype=dtype)
    error = outcome(tmp_path / "run.h5", lambda: Problem(X, Y, **{name: value}), start, dynamics)
    if (name, value, dynamics) == ("reg", 1e-300, None):
        assert error is None or isinstance(error, DivergenceError)
        return
    assert isinstance(error, DivergenceError) == diverges
    if diverges:
        assert "step 1:" in str(error)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [name for name in DYNAMICS if name != "perturbed_flow"])
def test_divergence_names_step_quantity_and_a_way_out_and_spares_the_file(tmp_path, name, dtype):
    """A step size of 1e20, whatever the dynamics; the squared loss, which has no bound on its residual."""
    path = tmp_path / "run.h5"
    error = outcome(
        path,
        lambda: Problem(X, Y, loss="squared"),
        Ensemble.sphere(200, 4, dtype=dtype),
        DYNAMICS[name](step_size=1e20),
    )
    assert isinstance(error, DivergenceError)
    step = int(str(error).split("step ")[1].split(":")[0])
    for word in ("predictions", f"the last checkpoint, of step {(step - 1) // 2 * 2}, is intact", "smaller step"):
        assert word in str(error)
    assert load(path).ensemble.step == (step - 1) // 2 * 2  # checkpoints are taken every other step


def test_a_diverged_run_goes_on_from_its_checkpoint_to_the_same_end(tmp_path):
    """Going on is deterministic: it diverges at the same step, and the file is still the checkpoint."""
    path = tmp_path / "run.h5"
    first = outcome(path, lambda: Problem(X, Y, loss="squared"), Ensemble.sphere(200, 4), Langevin(step_size=1e20))
    before = path.read_bytes()
    with pytest.raises(DivergenceError) as second:
        resume(path)
    assert str(second.value) == str(first)
    assert path.read_bytes() == before


def spoil(ensemble):
    """A measure, or a callback, that does what it must not."""
    if ensemble.step >= 4:
        with ensemble.particles.writing() as theta:
            theta[0, 1, 2] = np.nan
    return 0.0


@pytest.mark.parametrize("steps", [4, 12])
@pytest.mark.parametrize("way", ["measures", "callback"])
def test_particles_that_a_measure_or_a_callback_spoilt_are_not_saved(tmp_path, way, steps):
    """Neither at a checkpoint nor at the last step: the run ends in words, and what was good stays, to be resumed."""
    path = tmp_path / "run.h5"
    own = (
        {"measures": {"spoilt": spoil}}
        if way == "measures"
        else {"callback": lambda ensemble, row: bool(spoil(ensemble))}
    )
    settings = {"record_every": 1, "checkpoint_every": 2, "anneal": False, "out": path}
    with pytest.raises(DivergenceError, match=r"step 4: particles .* not all finite.*of step 2, is intact") as caught:
        simulate(Problem(X, Y), Ensemble.sphere(200, 4), Langevin(), steps=steps, **settings, **own)
    assert "\n" not in str(caught.value)
    assert load(path).ensemble.step == 2
    whole = simulate(Problem(X, Y), Ensemble.sphere(200, 4), Langevin(), steps=6, record_every=1, anneal=False)
    assert np.array_equal(resume(path, until=6).ensemble.theta, whole.ensemble.theta)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["run.h5", "run.h5.prev"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda ensemble: setattr(ensemble, "time", np.nan), "its time is nan"),
        (lambda ensemble: setattr(ensemble, "seed", 5), "says ensemble.seed = 0, but holds 5"),
        (lambda ensemble: ensemble.memory.update(step_size=np.inf), "its step_size is inf"),
    ],
)
def test_a_state_that_could_not_be_read_again_is_not_saved(tmp_path, change, words):
    """Of whatever `load` would refuse a callback may leave behind."""
    path = tmp_path / "run.h5"

    def callback(ensemble, row):
        if ensemble.step == 4:
            change(ensemble)

    with pytest.raises(InputError, match=f"step 4: .*{words}.*; the last checkpoint, of step 2, is intact"):
        simulate(
            Problem(X, Y),
            Ensemble.sphere(200, 4),
            steps=9,
            checkpoint_every=2,
            record_every=2,
            out=path,
            callback=callback,
        )
    assert load(path).ensemble.step == 2


def test_what_is_said_of_a_checkpoint_and_of_the_step_size_is_so():
    """No file: no checkpoint is intact; an automatic step size: it is not what to try."""
    for dynamics, tried in ((Langevin(step_size=1e20), True), (Langevin(), False)):
        with pytest.raises(DivergenceError) as caught:
            simulate(Problem(X, Y, loss="squared", temperature=1e300), Ensemble.sphere(200, 4), dynamics, steps=9)
        assert "intact" not in str(caught.value)
        assert ('step_size = "auto"' in str(caught.value)) == tried
        assert "lower the temperature" in str(caught.value)


def test_a_run_that_diverges_at_once_has_no_checkpoint_that_is_intact(tmp_path):
    """At the first step, before anything was written; and over a file of another run."""
    path = tmp_path / "run.h5"
    start = Ensemble.from_arrays(np.full((64, 1), 1e30), np.full((64, 4), 1e30), dtype="float32")
    for _ in range(2):
        with pytest.raises(DivergenceError, match=r"^step 0: ((?!intact).)*$"):
            simulate(Problem(X, Y), start, steps=9, out=path, force=True)
        simulate(Problem(X, Y), Ensemble.sphere(200, 4), steps=2, out=path, force=True)
