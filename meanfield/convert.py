"""Traces for other tools, pandas, xarray and ArviZ, and networks for PyTorch and ONNX, each imported when asked for.

None is needed by anything else here. A run is what `load` or `simulate` gives, or the path of a run file.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .ensemble import Ensemble
from .errors import InputError
from .simulation.run import Run, load
from .storage.atomic import replace_whole

if TYPE_CHECKING:
    from .simulation.result import Result

_LARGEST_MODEL = 2**31  # bytes, of a message of Protocol Buffers


def to_pandas(run: Run | Result | str | Path) -> Any:
    """The trace of a run as a pandas DataFrame.

    Parameters
    ----------
    run : Run, Result, str or Path
        What `load` or `simulate` gave, or the path of a run file.

    Returns
    -------
    pandas.DataFrame
        A row a recorded step (its index, int64), a column a measure, float64, NaN where it was not taken.

    Raises
    ------
    InputError
        pandas is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield import Ensemble, Problem, convert, simulate
    >>> result = simulate(Problem(np.eye(2), [1, -1]), Ensemble.sphere(64, 2), steps=4, record_every=2)
    >>> convert.to_pandas(result).index.tolist()
    [0, 2, 4]
    """
    pandas = _imported("pandas", "to_pandas")
    trace = _opened(run).trace
    index = pandas.Index(trace.get("step", np.empty(0, np.int64)), name="step")
    return pandas.DataFrame({name: column for name, column in trace.items() if name != "step"}, index=index)


def to_xarray(runs: Sequence[Run | Result | str | Path]) -> Any:
    """The traces of several runs as one xarray Dataset.

    Parameters
    ----------
    runs : sequence of Run, Result, str or Path
        At least one.

    Returns
    -------
    xarray.Dataset
        Each measure (run, step), and the seed of the particles by run. Steps are those of any of the runs in order,
        NaN where a run has no such row or does not take the measure.

    Raises
    ------
    InputError
        No runs, or xarray is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield import Ensemble, Problem, convert, simulate
    >>> problem = Problem(np.eye(2), [1, -1])
    >>> runs = [simulate(problem, Ensemble.sphere(64, 2, seed=seed), steps=4, record_every=2) for seed in (0, 1)]
    >>> convert.to_xarray(runs)["objective"].shape
    (2, 3)
    """
    xarray = _imported("xarray", "to_xarray")
    opened = _several(runs)
    steps = np.unique(np.concatenate([run.trace.get("step", np.empty(0, np.int64)) for run in opened]))
    return _dataset(xarray, opened, steps, {"run": np.arange(len(opened)), "step": steps})


def to_inference_data(runs: Sequence[Run | Result | str | Path], *, first: int = 0) -> Any:
    """The traces of several runs as ArviZ's InferenceData, for R̂ and effective sample sizes across independent seeds.

    Particles of one ensemble interact, and are no chains; a run is one.

    Parameters
    ----------
    runs : sequence of Run, Result, str or Path
        At least one, each with a seed of its own.
    first : int
        Rows that all runs have from this step on are draws.

    Returns
    -------
    arviz.InferenceData
        Measures that are finite in every such row, in the group posterior.

    Raises
    ------
    InputError
        No runs, no common row, seeds that are not all different, or ArviZ is not installed (below 1.0, with xarray).

    Examples
    --------
    >>> from meanfield import convert
    >>> data = convert.to_inference_data(runs, first=2)  # doctest: +SKIP
    """
    xarray, arviz = _imported("xarray", "to_inference_data"), _imported("arviz", "to_inference_data")
    if not hasattr(arviz, "InferenceData"):
        raise InputError('to_inference_data needs arviz below 1.0: pip install "arviz<1"')
    opened = _several(runs)
    seeds = [run.ensemble.seed for run in opened]
    if len(set(seeds)) < len(seeds):
        raise InputError(f"runs with seeds {seeds}: must differ; equal ones are one chain twice")
    steps = opened[0].trace.get("step", np.empty(0, np.int64))
    for run in opened[1:]:
        steps = np.intersect1d(steps, run.trace.get("step", ()))
    steps = steps[steps >= first]
    if not len(steps):
        raise InputError(f"runs: have no recorded step in common from step {first} on")
    whole = _dataset(xarray, opened, steps, {"chain": np.arange(len(opened)), "draw": steps})
    return arviz.InferenceData(posterior=whole[[name for name in whole if np.isfinite(whole[name]).all()]])


def to_torch(ensemble: Ensemble) -> Any:
    """An ensemble as a module of PyTorch: Linear, ReLU, Linear without biases, of weights U = u and A = wᵀ/m (C, m).

    Its λ∫‖θ‖² dρ is λ (‖U‖²/m + m ‖A‖²).

    Parameters
    ----------
    ensemble : Ensemble
        Of relu neurons.

    Returns
    -------
    torch.nn.Sequential
        On the CPU, of the ensemble's dtype, sharing nothing with it; f(x) of shape (n, C).

    Raises
    ------
    InputError
        PyTorch is not installed.

    Examples
    --------
    >>> from meanfield import Ensemble, convert
    >>> convert.to_torch(Ensemble.sphere(64, 2))[0].weight.shape  # doctest: +SKIP
    torch.Size([64, 2])
    """
    torch = _imported("torch", "to_torch")
    layers = []
    for weight in (ensemble.u, ensemble.w.T / ensemble.m):
        layer = torch.nn.Linear(*weight.shape[::-1], bias=False, device="meta")  # where nothing is drawn
        layer.weight = torch.nn.Parameter(torch.tensor(weight))
        layers.append(layer)
    return torch.nn.Sequential(layers[0], torch.nn.ReLU(), layers[1])


def from_torch(module: Any, *, seed: int = 0) -> Ensemble:
    """The ensemble that a module such as that of `to_torch` stands for: w = m Aᵀ, u = U.

    Parameters
    ----------
    module : torch.nn.Sequential
        Linear, ReLU, Linear, both without bias, of float32 or float64.
    seed : int
        Of the ensemble's noise, as that of `Ensemble.from_arrays`.

    Returns
    -------
    Ensemble
        At step 0.

    Raises
    ------
    InputError
        Another module, weights that are not finite, or PyTorch is not installed.

    Examples
    --------
    >>> from meanfield import Ensemble, convert
    >>> convert.from_torch(convert.to_torch(Ensemble.sphere(64, 2)))  # doctest: +SKIP
    Ensemble(m=64, d=2, outputs=1, dtype=float32, step=0)
    """
    nn = _imported("torch", "from_torch").nn
    layers = list(module) if isinstance(module, nn.Sequential) else []
    kinds = (nn.Linear, nn.ReLU, nn.Linear)
    if len(layers) != 3 or not all(map(isinstance, layers, kinds)) or any(one.bias is not None for one in layers[::2]):
        raise InputError("module: must be Sequential(Linear, ReLU, Linear), both linear layers without bias")
    u, a = (layer.weight.detach().cpu().numpy() for layer in layers[::2])
    return Ensemble.from_arrays(len(u) * a.T, u, seed=seed)


def to_onnx(network: Ensemble | Run | Result | str | Path, path: str | Path) -> Path:
    """Write a network as a model in ONNX, which most runtimes of networks read: MatMul, Relu, MatMul.

    Parameters
    ----------
    network : Ensemble, Run, Result, str or Path
        An ensemble of relu neurons; or what `load` or `simulate` gave, or the path of a run file.
    path : str or Path
        The model's file, such as "model.onnx"; what is there is replaced.

    Returns
    -------
    Path
        That file. Its input `x` is (n, d), its output `f` (n, C), of the ensemble's dtype, for any n.

    Raises
    ------
    InputError
        Other neurons than relu, more weights than the 2 GiB that such a file holds, or ONNX is not installed.
    OSError
        The file cannot be written.

    Examples
    --------
    >>> from meanfield import Ensemble, convert
    >>> convert.to_onnx(Ensemble.sphere(64, 2), "model.onnx")  # doctest: +SKIP
    PosixPath('model.onnx')
    """
    onnx = _imported("onnx", "to_onnx")
    ensemble, scale = (network, 1.0) if isinstance(network, Ensemble) else _relu_network(_opened(network))
    weights = {"U": ensemble.u.T, "A": (scale / ensemble.m * ensemble.w).astype(ensemble.dtype)}
    if sum(weight.nbytes for weight in weights.values()) >= _LARGEST_MODEL:
        raise InputError(
            f"to_onnx: a model of {ensemble.m} particles has more than the 2 GiB that a file of ONNX holds"
        )
    helper, kind = onnx.helper, onnx.helper.np_dtype_to_tensor_dtype(ensemble.dtype)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "U"], ["z"]),
            helper.make_node("Relu", ["z"], ["h"]),
            helper.make_node("MatMul", ["h", "A"], ["f"]),
        ],
        "meanfield",
        [helper.make_tensor_value_info("x", kind, ["n", ensemble.d])],
        [helper.make_tensor_value_info("f", kind, ["n", ensemble.outputs])],
        [onnx.numpy_helper.from_array(np.ascontiguousarray(weight), name) for name, weight in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)  # of 2020
    onnx.checker.check_model(model)
    content = model.SerializeToString(deterministic=True)

    def write(temporary: Path) -> None:
        temporary.write_bytes(content)

    replace_whole(path, write)
    return Path(path)


def _relu_network(run: Run | Result) -> tuple[Ensemble, float]:
    """The run's particles, and the factor α of its output."""
    run.problem.neuron.require_relu("to_onnx")
    return run.ensemble, run.problem.output_scale


def _dataset(xarray: Any, runs: Sequence[Run | Result], steps: np.ndarray, coordinates: Mapping[str, Any]) -> Any:
    """Each measure of any of the runs as an array (runs, steps), dimensions as the coordinates name them."""
    across, along = coordinates
    traces = [run.trace for run in runs]
    names = dict.fromkeys(name for trace in traces for name in trace if name != "step")
    filled = {name: np.full((len(runs), len(steps)), np.nan) for name in names}
    for i, trace in enumerate(traces):
        of_trace, of_steps = np.intersect1d(trace.get("step", ()), steps, return_indices=True)[1:]
        for name in trace.keys() & names.keys():
            filled[name][i, of_steps] = trace[name][of_trace]
    seeds = np.array([run.ensemble.seed for run in runs], np.uint64)
    return xarray.Dataset(
        {name: ((across, along), values) for name, values in filled.items()},
        coords={**coordinates, "seed": (across, seeds)},
    )


def _several(runs: Sequence[Run | Result | str | Path]) -> list[Run | Result]:
    if isinstance(runs, str | Path) or not isinstance(runs, Sequence) or not runs:
        raise InputError("runs: must be a list of runs, at least one")
    return [_opened(run) for run in runs]


def _opened(run: Run | Result | str | Path) -> Run | Result:
    return load(run) if isinstance(run, str | Path) else run


def _imported(library: str, user: str) -> Any:
    try:
        return importlib.import_module(library)
    except ImportError:
        raise InputError(f"{user} needs {library}, which is not installed: pip install {library}") from None
