"""Laws of the conversions: what other tools are given is the trace itself; one that is missing is named."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from meanfield import Ensemble, InputError, Problem, convert, load, simulate
from meanfield.convert import from_torch, to_inference_data, to_onnx, to_pandas, to_torch, to_xarray


def result(seed=0, steps=12, every=4, **settings):
    rng = np.random.default_rng(1)
    X = rng.standard_normal((20, 3))
    problem = Problem(X, np.sign(X[:, 0]), X_test=X[:5], y_test=np.sign(X[:5, 0]), temperature=1e-3)
    return simulate(problem, Ensemble.sphere(64, 3, seed=seed), steps=steps, record_every=every, **settings)


def test_a_frame_is_the_trace(tmp_path):
    """Steps as the index, every other column with ==; a result, a loaded run and a path give the same."""
    pandas = pytest.importorskip("pandas")
    done = result(out=tmp_path / "run.h5", test_every=8)
    frame = to_pandas(done)
    assert frame.index.name == "step"
    assert frame.index.tolist() == [0, 4, 8, 12]
    assert list(frame.columns) == [name for name in done.trace if name != "step"]
    for name in frame.columns:
        assert np.array_equal(frame[name].to_numpy(), done.trace[name], equal_nan=True)
    assert frame["test_error"].isna().tolist() == [False, True, False, True]
    for other in (load(tmp_path / "run.h5"), tmp_path / "run.h5", str(tmp_path / "run.h5")):
        pandas.testing.assert_frame_equal(to_pandas(other), frame, check_exact=True)


def test_runs_that_differ_meet_in_one_data_set():
    """Steps and measures of any of them; NaN, and nothing else, where a run has none."""
    pytest.importorskip("xarray")
    one, two = result(seed=5), result(seed=6, every=3, measures={"count": lambda ensemble: ensemble.m})
    data = to_xarray([one, two])
    assert data["step"].values.tolist() == [0, 3, 4, 6, 8, 9, 12]
    assert data["seed"].values.tolist() == [5, 6]
    assert set(data) == set(two.trace) - {"step"}
    for i, run in enumerate((one, two)):
        for name in run.trace.keys() - {"step"}:
            row = data[name].sel(run=i, step=run.trace["step"])
            assert np.array_equal(row.values, run.trace[name], equal_nan=True)
    assert np.isnan(data["objective"].sel(run=0, step=[3, 6, 9])).all()
    assert np.isnan(data["count"].sel(run=0)).all()
    assert np.isfinite(data["objective"]).sum() == 4 + 5


def test_runs_are_chains_of_their_common_rows():
    """From the step asked for on; measures with holes are left out; R̂ is that of the traces."""
    arviz = pytest.importorskip("arviz")
    runs = [result(seed=seed, steps=240, test_every=8) for seed in range(3)]
    posterior = to_inference_data(runs, first=80).posterior
    assert posterior.sizes == {"chain": 3, "draw": 41}
    assert posterior["draw"].values.tolist() == list(range(80, 241, 4))
    assert np.array_equal(posterior["objective"].values[2], runs[2].trace["objective"][20:])
    assert "test_error" not in posterior
    rhat = arviz.rhat(to_inference_data(runs, first=80), var_names=["drift"])["drift"]
    assert rhat == arviz.rhat(np.array([run.trace["drift"][20:] for run in runs]))


@pytest.mark.parametrize(
    ("runs", "first", "words"),
    [
        ([], 0, "at least one"),
        ("run.h5", 0, "a list of runs"),
        ([1, 1], 0, "must differ"),
        ([1, 2], 99, "step 99"),
    ],
)
def test_what_cannot_be_chains_is_refused(runs, first, words):
    """InputError of one line."""
    pytest.importorskip("arviz")
    given = runs if isinstance(runs, str) else [result(seed=seed) for seed in runs]
    with pytest.raises(InputError, match=words):
        to_inference_data(given, first=first)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("m", "outputs"), [(64, 1), (100, 3)])
def test_a_module_is_the_same_network_and_leads_back(m, outputs, dtype):
    """Its predictions and its penalty are the ensemble's but for rounding, as are the particles on the way back."""
    torch = pytest.importorskip("torch")
    ensemble, X = Ensemble.sphere(m, 5, outputs, seed=3, dtype=dtype), np.random.default_rng(0).standard_normal((7, 5))
    drawn = torch.random.get_rng_state()
    module = to_torch(ensemble)
    assert torch.equal(torch.random.get_rng_state(), drawn)
    close = {"rtol": 1e-5 if dtype == "float32" else 1e-13, "atol": 1e-6 if dtype == "float32" else 1e-14}
    f = module(torch.tensor(X, dtype=getattr(torch, dtype))).detach().numpy()
    assert f.dtype == dtype
    np.testing.assert_allclose(f.reshape(7, -1), ensemble.predict(X).reshape(7, -1), **close)
    U, A = (layer.weight.detach().numpy() for layer in (module[0], module[2]))
    second = float((U**2).sum() / m + m * (A**2).sum())
    assert second == pytest.approx(float((ensemble.w**2).sum() + (ensemble.u**2).sum()) / m, rel=1e-5)
    back = from_torch(module, seed=3)
    assert (back.dtype, back.m, back.outputs, back.seed, back.step) == (dtype, m, outputs, 3, 0)
    assert np.array_equal(back.u, ensemble.u)
    np.testing.assert_allclose(back.w, ensemble.w, rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("m", "outputs"), [(64, 1), (100, 3)])
def test_a_model_in_onnx_is_the_same_network(m, outputs, dtype, tmp_path):
    """ONNX's own evaluator gives the ensemble's predictions but for rounding, for any number of inputs."""
    onnx = pytest.importorskip("onnx")
    from onnx.reference import ReferenceEvaluator

    ensemble = Ensemble.sphere(m, 5, outputs, seed=3, dtype=dtype)
    path = to_onnx(ensemble, tmp_path / "a.onnx")
    assert [node.op_type for node in onnx.load(path).graph.node] == ["MatMul", "Relu", "MatMul"]
    for n in (1, 7):
        X = np.random.default_rng(n).standard_normal((n, 5)).astype(dtype)
        (f,) = ReferenceEvaluator(str(path)).run(None, {"x": X})
        assert (f.shape, f.dtype) == ((n, outputs), dtype)
        np.testing.assert_allclose(
            f, ensemble.predict(X).reshape(n, -1), rtol=0, atol=1e-6 if dtype == "float32" else 1e-14
        )
    first = path.read_bytes()
    assert to_onnx(ensemble, path).read_bytes() == first


def test_a_run_in_onnx_has_its_output_scale(tmp_path, monkeypatch):
    """The model of a run, or of its file, is the problem's network; other neurons and 2 GiB are refused."""
    pytest.importorskip("onnx")
    from onnx.reference import ReferenceEvaluator

    X = np.random.default_rng(0).standard_normal((20, 3))
    ensemble = Ensemble.sphere(64, 3, seed=1, dtype="float64")
    done = simulate(Problem(X, np.sign(X[:, 0]), output_scale=10.0), ensemble, steps=2, out=tmp_path / "a.h5")
    for run in (done, tmp_path / "a.h5"):
        (f,) = ReferenceEvaluator(str(to_onnx(run, tmp_path / "a.onnx"))).run(None, {"x": X})
        np.testing.assert_allclose(f[:, 0], done.problem.predict(done.ensemble), rtol=0, atol=1e-12)
    with pytest.raises(InputError, match="relu neurons only, not 'tanh'"):
        to_onnx(simulate(Problem(X, np.sign(X[:, 0]), neuron="tanh"), ensemble, steps=0), tmp_path / "a.onnx")
    monkeypatch.setattr(convert, "_LARGEST_MODEL", 100)
    with pytest.raises(InputError, match="2 GiB"):
        to_onnx(ensemble, tmp_path / "a.onnx")


def test_a_module_of_another_kind_is_refused():
    """InputError of one line that says which would do."""
    nn = pytest.importorskip("torch").nn
    first, last = nn.Linear(2, 3, bias=False), nn.Linear(3, 1, bias=False)
    for wrong in (
        first,
        nn.Sequential(first, last),
        nn.Sequential(first, nn.Tanh(), last),
        nn.Sequential(first, nn.ReLU(), nn.Linear(3, 1)),
        nn.Sequential(nn.ReLU(), first, last),
    ):
        with pytest.raises(InputError, match=r"must be Sequential\(Linear, ReLU, Linear\)"):
            from_torch(wrong)


@pytest.mark.parametrize(
    ("convert", "library"),
    [
        (lambda done: to_torch(done.ensemble), "torch"),
        (from_torch, "torch"),
        (lambda done: to_onnx(done, "a.onnx"), "onnx"),
        (to_pandas, "pandas"),
        (to_xarray, "xarray"),
        (to_inference_data, "xarray"),
    ],
)
def test_a_library_that_is_missing_is_named(monkeypatch, convert, library):
    """InputError with the command that installs it."""
    for name in ("pandas", "xarray", "arviz", "torch", "onnx"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=f"pip install {library}"):
        convert([result()] if convert in (to_xarray, to_inference_data) else result())


def test_the_training_shown_to_those_who_come_from_pytorch_is_the_same_in_both():
    """The page's own code: predictions agree to 10⁻⁴, and training has moved them by far more."""
    pytest.importorskip("torch")
    page = (Path(__file__).resolve().parents[1] / "docs/howto/pytorch.md").read_text(encoding="utf-8")
    names = {}
    exec(re.search(r"^```py\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[1], names)
    assert names["difference"] < 1e-4
    assert np.abs(names["start"].predict(names["X"]) - names["ours"].ensemble.predict(names["X"])).max() > 0.05
