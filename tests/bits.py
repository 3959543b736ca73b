"""Digests of short runs, which must be the same on every machine; and of what need not be.

    python tests/bits.py [--cases xor,teacher]   # digests of these runs (all of them), one JSON object
    python tests/bits.py --controls              # of results that NumPy, BLAS and libm give, and who gave them
    python tests/bits.py --compare [BITS.json]   # a line for each run that has other digests than the committed ones
    python tests/bits.py --hostile               # the environment in which these three are as old as can be, for `env`
    python tests/bits.py --write                 # commit the digests of this process

A run's digests are of its parts (data, state, the memory of the automatic step, each column of the trace), so that a
difference names the part that has it. `test_same_bits.py` compares, `scripts/bits-aarch64` on another processor.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
COMMITTED = Path(__file__).resolve().with_suffix(".json")
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

XOR = {"source": "xor", "n": 96, "d": 20, "n_test": 200}
TEACHER = {"source": "teacher", "n": 120, "d": 7, "hidden": 4, "n_test": 150, "seed": 5}


def run(steps: int, every: int) -> dict[str, int]:
    return {"steps": steps, "record_every": every, "checkpoint_every": steps}


def gap(every: int) -> dict[str, Any]:
    """Bound, gap and test error every so many steps."""
    return {"gap": True, "gap_every": every, "test_every": every}


def falling(shape: str, start: float, end: float, steps: int) -> dict[str, Any]:
    return {"shape": shape, "start": start, "end": end, "steps": steps}


LANGEVIN = {"method": "langevin"}

# Name -> configuration, as in a TOML file; what it leaves out has its default (logistic loss, implicit steps at
# τ = 0, automatic step size, float32). `source = "arrays"`: see `arrays`.
CASES: dict[str, dict[str, Any]] = {
    "xor": {
        "data": XOR,
        "objective": {"reg": 1e-3},
        "ensemble": {"m": 2100},
        "dynamics": LANGEVIN,
        "run": run(60, 5),
        "record": gap(20),
    },
    "xor_float64_batches": {
        "data": {**XOR, "seed": 3, "d": 5},
        "objective": {"reg": 2e-3},
        "ensemble": {"m": 700, "dtype": "float64"},
        "dynamics": {"batch": 24},
        "run": run(80, 10),
        "record": gap(40),
    },
    "xor_noise": {
        "data": {**XOR, "n": 300, "d": 3, "bias": True},
        "objective": {"reg": falling("cosine", 3e-2, 1e-3, 50), "temperature": falling("c_over_log_t", 1e-2, 0, 0)},
        "ensemble": {"m": 1500, "seed": 9},
        "dynamics": {"step_size": falling("linear", 2.0, 0.5, 40)},
        "run": run(60, 10),
    },
    "xor_exchange": {
        "data": XOR,
        "objective": {"reg": 5e-3, "temperature": 1e-4},
        "ensemble": {"m": 900},
        "dynamics": {"method": "birth_death", "exchange_rate": 3.0},
        "run": run(50, 5),
    },
    "teacher_flow": {
        "data": {**TEACHER, "standardize": True, "bias": True},
        "objective": {"reg": falling("linear", 2e-2, 1e-4, 60)},
        "ensemble": {"m": 1100, "init": "gaussian", "scale": 0.7},
        "dynamics": {"method": "gradient_flow", "step_size": falling("cosine", 3.0, 0.3, 60)},
        "run": run(80, 10),
        "record": gap(40),
    },
    "teacher_regression": {
        "data": {**TEACHER, "task": "regression", "standardize": True},
        "objective": {"loss": "squared", "reg": 1e-3},
        "ensemble": {"m": 800, "dtype": "float64"},
        "dynamics": LANGEVIN,
        "run": run(100, 10),
        "record": gap(50),
    },
    "teacher_exchange": {
        "data": {**TEACHER, "d": 70},
        "objective": {"loss": "cross_entropy", "reg": 1e-2},
        "ensemble": {"m": 1030, "dtype": "float64", "init": "gaussian"},
        "dynamics": {"method": "birth_death", "exchange_rate": 8.0},
        "run": run(40, 5),
        "record": gap(20),
    },
    "parity_rebirth": {
        "data": {"source": "parity", "n": 128, "d": 9, "k": 3, "n_test": 0},
        "objective": {"reg": falling("geometric", 1e-2, 1e-4, 50), "temperature": falling("linear", 1e-3, 0, 30)},
        "ensemble": {"m": 3000},
        "dynamics": {"method": "perturbed_flow", "rebirth_rate": 0.02},
        "run": run(70, 10),
        "record": gap(70),
    },
    "xor_implicit": {
        "data": XOR,
        "objective": {"reg": 1e-3},
        "ensemble": {"m": 2100},
        "run": run(30, 5),
        "record": gap(15),
    },
    "teacher_implicit": {
        "data": {**TEACHER, "task": "regression", "bias": True},
        "objective": {"loss": "squared", "reg": 1e-3},
        "ensemble": {"m": 800, "dtype": "float64"},
        "dynamics": {"method": "implicit", "cooled_at": 24},
        "run": run(30, 5),
        "record": {"test_every": 15},
    },
    "digits_implicit": {
        "data": {"source": "sklearn:digits", "test_fraction": 0.97, "standardize": True, "bias": True},
        "objective": {"loss": "cross_entropy", "reg": 1e-3},
        "ensemble": {"m": 200},
        "run": run(4, 2),
        "record": {"test_every": 4000},
    },
    "implicit_noise": {
        "data": TEACHER,
        "objective": {"reg": 1e-2, "temperature": 1e-3},
        "ensemble": {"m": 700},
        "dynamics": {"method": "implicit"},
        "run": run(20, 5),
        "record": {"test_every": 15},
    },
    "line": {
        "data": {"source": "line", "n": 40, "n_test": 60},
        "objective": {"loss": "squared", "reg": 1e-3, "temperature": falling("geometric", 1e-2, 1e-6, 90)},
        "ensemble": {"m": 333, "dtype": "float64", "seed": 2**63},
        "dynamics": {"step_size": 0.25},
        "run": run(120, 20),
    },
    "plane": {
        "data": {"source": "line", "n": 30},
        "objective": {"loss": "squared", "reg": 1e-3},
        "ensemble": {"m": 128},
        "run": run(40, 20),
        "record": gap(20),
    },
    "digits": {
        "data": {"source": "sklearn:digits", "test_fraction": 0.96, "standardize": True, "bias": True},
        "objective": {"loss": "cross_entropy", "reg": 1e-3},
        "ensemble": {"m": 400},
        "dynamics": LANGEVIN,
        "run": run(40, 10),
        "record": {"test_every": 20},
    },
    "breast_cancer": {
        "data": {"source": "sklearn:breast_cancer", "test_fraction": 0.4, "standardize": True, "seed": 1},
        "objective": {"reg": 1e-3},
        "ensemble": {"m": 600, "dtype": "float64"},
        "dynamics": {"method": "perturbed_flow", "rebirth_rate": 0.05, "batch": 100},
        "run": run(60, 10),
        "record": gap(30),
    },
    "diabetes": {
        "data": {"source": "sklearn:diabetes", "standardize": True, "bias": True},
        "objective": {"loss": "squared", "reg": 1.0},
        "ensemble": {"m": 500},
        "dynamics": {"step_size": falling("geometric", 1e-3, 1e-4, 50)},
        "run": run(60, 10),
        "record": gap(30),
    },
    "two_outputs": {
        "data": {"source": "arrays"},
        "objective": {"loss": "squared", "reg": 1e-3},
        "ensemble": {"m": 1400},
        "dynamics": LANGEVIN,
        "run": run(60, 10),
        "record": gap(30),
    },
    "three_classes": {
        "data": {"source": "arrays"},
        "objective": {"loss": "cross_entropy", "reg": 1e-3},
        "ensemble": {"m": 1200, "dtype": "float64"},
        "dynamics": {"method": "gradient_flow"},
        "run": run(50, 10),
        "record": gap(25),
    },
    "tanh": {
        "data": {**TEACHER, "standardize": True, "bias": True},
        "objective": {"reg": 1e-3, "temperature": 1e-4},
        "neuron": {"activation": "tanh"},
        "ensemble": {"m": 1100},
        "dynamics": {"method": "birth_death", "exchange_rate": 3.0},
        "run": run(60, 10),
        "record": {"test_every": 20},
    },
    "kinetic": {
        "data": {**TEACHER, "standardize": True, "bias": True},
        "objective": {"reg": 1e-3, "temperature": 1e-4, "output_scale": 2.0},
        "penalty": {"output": 3.0, "quartic": 0.1},
        "ensemble": {"m": 1100},
        "dynamics": {"method": "kinetic_langevin", "friction": 0.5, "rates": [0.5, 1.0]},
        "run": run(40, 10),
        "record": {"test_every": 20},
    },
    "penalties": {
        "data": TEACHER,
        "objective": {"reg": 1e-3},
        "penalty": {"input": 0.5, "quartic": 0.2, "path": 1.0},
        "ensemble": {"m": 700, "dtype": "float64", "symmetric": True},
        "dynamics": {"method": "gradient_flow", "rates": [1.0, 0.5]},
        "run": run(40, 10),
        "record": {"test_every": 20},
    },
    "bounded": {
        "data": TEACHER,
        "objective": {"reg": 1e-2, "temperature": 1e-4, "output_scale": 5.0},
        "neuron": {"activation": "tanh", "output": "tanh"},
        "ensemble": {"m": 1100, "init": "signs"},
        "dynamics": {"method": "langevin", "tail_index": 1.6, "noise": [1.0, 0.5]},
        "run": run(40, 10),
        "record": {"test_every": 20},
    },
    "own_neuron": {
        "data": {"source": "arrays"},
        "objective": {"loss": "squared", "reg": 1e-3},
        "neuron": {"activation": "bits.bump", "derivative": "bits.bump_slope"},
        "ensemble": {"m": 700, "dtype": "float64"},
        "dynamics": LANGEVIN,
        "run": run(60, 10),
        "record": {"test_every": 20},
    },
}


def bump(z: float) -> float:
    """An activation of one's own, of operations that are exact everywhere."""
    return z / (1.0 + z * z)


def bump_slope(z: float) -> float:
    return (1.0 - z * z) / ((1.0 + z * z) * (1.0 + z * z))


def arrays(loss: str) -> tuple[np.ndarray, np.ndarray]:
    """X (50, 4) and two targets or one of three classes, for a run made in Python: exact everywhere."""
    i = np.arange(50)[:, None]
    X = ((i + 3) * (2 * np.arange(4) + 5) * 37 % 129 - 64) / 64
    if loss == "cross_entropy":
        return X, np.minimum(1.5 * (X[:, 0] + 1), 2).astype(np.int64)
    return X, np.column_stack([np.abs(X[:, 0]) - X[:, 1], X[:, 2] * X[:, 3]])


def prepared(name: str) -> Any:
    """The run of that name at step 0."""
    from meanfield.dynamics import DYNAMICS
    from meanfield.ensemble import Ensemble
    from meanfield.neuron import Neuron
    from meanfield.problem import Problem
    from meanfield.simulation.config import check_config
    from meanfield.simulation.new_run import new_run_from_config, new_run_from_objects

    case = CASES[name]
    config = check_config(case, name)
    if config.data.source != "arrays":
        return new_run_from_config(config)
    neuron = "relu" if config.neuron.activation == "relu" else Neuron(bump, bump_slope)
    objective = {"loss": config.objective.loss, "reg": config.objective.reg}
    problem = Problem(*arrays(config.objective.loss), **objective, neuron=neuron)
    wanted, dynamics = config.ensemble, DYNAMICS[config.dynamics.method]()
    ensemble = Ensemble.sphere(wanted.m, problem.d, problem.outputs, dtype=wanted.dtype)
    return new_run_from_objects(
        problem, ensemble, dynamics, run=case["run"], record=case["record"], anneal=neuron == "relu"
    )


def followed(name: str) -> Any:
    """The same run at its end."""
    from meanfield.simulation.loop import run_to_end

    run = prepared(name)
    run_to_end(run, None)
    return run


def short(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def array_bytes(values: np.ndarray | None) -> bytes:
    """Shape, type and little-endian bytes in C order, every NaN the same NaN."""
    if values is None:
        return b"none"
    kind = values.dtype.newbyteorder("<")
    values = np.array(values, kind, order="C")
    if kind.kind == "f":
        values[np.isnan(values)] = np.nan
    return f"{values.shape} {kind.str} ".encode() + values.tobytes()


def digest(run: Any) -> dict[str, Any]:
    """16 hex digits a part: `data`, `state` (particles, step, time), `memory`, and each column of `trace`."""
    data, ensemble = run.dataset, run.ensemble
    memory = json.dumps({name: float(ensemble.memory[name]).hex() for name in sorted(ensemble.memory)})
    clock = f"{int(ensemble.step)} {float(ensemble.time).hex()}"
    return {
        "data": short(*map(array_bytes, (data.X, data.y, data.X_test, data.y_test))),
        "state": short(array_bytes(ensemble.w), array_bytes(ensemble.u), clock.encode()),
        "memory": short(memory.encode()),
        "trace": {name: short(array_bytes(run.trace[name])) for name in sorted(run.trace)},
    }


# ---------------------------------------------------------------------------------------------------------------------
# what a run computes a few times only, here many times: a library's last bit differs once in hundreds of values


def schedules() -> dict[str, np.ndarray]:
    from meanfield.schedules import SHAPES, Schedule

    made = {shape: Schedule(shape, 3.7e-4 if shape == "constant" else 0.3, 3.7e-4, 7000) for shape in SHAPES}
    return {shape: np.array([schedule(k) for k in range(7000)]) for shape, schedule in made.items()}


def moves() -> dict[str, np.ndarray]:
    """The coefficients of a step, for 4000 step sizes from 2⁻²⁰ to 2⁵."""
    from meanfield.dynamics import Langevin, PerturbedFlow

    etas = [(1 + k % 97 / 97) * 2.0 ** (k % 25 - 20) for k in range(4000)]
    kinds = {"langevin": Langevin(), "perturbed_flow": PerturbedFlow(rebirth_rate=0.7)}
    return {name: np.array([one.move(eta, 1.7, 1e-3) for eta in etas]) for name, one in kinds.items()}


def losses() -> dict[str, np.ndarray]:
    """Value, residual and curvature of each loss at 3000 predictions from 2⁻²⁰ to 2¹⁰, of both signs."""
    from meanfield.losses import get_loss

    k, found = np.arange(3000), {}
    f = np.stack([(1 + k * c % 89 / 89) * 2.0 ** (k * c % 31 - 20) * (1 - 2 * (k % 2)) for c in (1, 7, 11)], axis=1)
    for name, y in (("logistic", 2 * (k // 2 % 2) - 1), ("squared", f[::-1]), ("cross_entropy", k % 3)):
        loss = get_loss(name)
        targets, _ = loss.encode(y, where="y")
        at = f[:, : loss.outputs(targets)]
        each = [loss.value(at[i : i + 10], targets[i : i + 10]) for i in range(0, 3000, 10)]
        found[name] = np.concatenate([each, *(of(at, targets).ravel() for of in (loss.residual, loss.curvature))])
    return found


def starts() -> dict[str, np.ndarray]:
    """The λ above which no neuron pays, and the first step's size, on twelve draws of two generators."""
    from meanfield.simulation.config import check_config
    from meanfield.simulation.new_run import new_run_from_config

    found = {}
    for source in ("xor", "teacher"):
        runs = []
        for seed in range(12):
            data = {"source": source, "n": 50, "d": 3 + seed, "n_test": 0, "seed": seed}
            config = {"data": data, "ensemble": {"m": 64, "dtype": "float64"}, "dynamics": LANGEVIN, "run": run(1, 1)}
            runs.append(new_run_from_config(check_config(config, source)))
        found[source] = np.array([[one.problem.critical_reg(), *first_step(one)] for one in runs])
    return found


def first_step(run: Any) -> list[float]:
    from meanfield.simulation.loop import run_to_end

    run_to_end(run, None)
    return [run.ensemble.memory[name] for name in sorted(run.ensemble.memory)]


VALUES = {"schedules": schedules, "moves": moves, "losses": losses, "starts": starts}
NAMES = [*CASES, *VALUES]


def digest_of(name: str) -> dict[str, Any]:
    """Of the run of that name, or of the values."""
    if name in CASES:
        return digest(followed(name))
    return {part: short(array_bytes(values)) for part, values in VALUES[name]().items()}


def digests(names: list[str]) -> dict[str, Any]:
    return {name: digest_of(name) for name in names}


def committed() -> dict[str, Any]:
    """{"bits": the number of these bits, "cases": name -> digests}."""
    return json.loads(COMMITTED.read_text())


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """Which parts of a run have other digests, as "data", "memory", "trace.objective"."""

    def flat(parts: dict[str, Any]) -> dict[str, str]:
        columns = {f"trace.{name}": value for name, value in parts.get("trace", {}).items()}
        return {**{name: value for name, value in parts.items() if name != "trace"}, **columns}

    one, other = flat(found), flat(expected)
    return [name for name in sorted(one.keys() | other.keys()) if one.get(name) != other.get(name)]


# ---------------------------------------------------------------------------------------------------------------------
# what may differ between environments, and the environment in which it does


def controls() -> dict[str, dict[str, str]]:
    """What gives results here ("by"), and digests of some, for each of NumPy's loops, the BLAS and libm."""
    import threadpoolctl

    x = (np.arange(10_000) - 5_000) / 256
    i, j = np.indices((200, 200))
    A = (i * 7919 + j * 104729 + i * j % 101) % 10007 / 10007
    blas = sorted(
        {pool.get("architecture", "?") for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"}
    )
    return {
        "numpy": {
            "by": " ".join(numpy_features()),
            "exp": short(array_bytes(np.exp(x))),
            "log": short(array_bytes(np.log(np.abs(x) + 0.5))),
        },
        "blas": {
            "by": " ".join(blas),
            "gemm": short(array_bytes(A @ A)),
            "eigvalsh": short(array_bytes(np.linalg.eigvalsh(A + A.T))),
        },
        "libm": {
            "by": " ".join([*platform.libc_ver(), os.environ.get("GLIBC_TUNABLES", "")]),
            "exp": short(array_bytes(np.array([math.exp(v) for v in x]))),
            "log1p": short(array_bytes(np.array([math.log1p(v) for v in np.abs(x)]))),
            "cos": short(array_bytes(np.array([math.cos(v) for v in x]))),
        },
    }


def numpy_features() -> list[str]:
    """The processor's features beyond the baseline that NumPy uses in this process."""
    try:
        from numpy._core import _multiarray_umath as umath
    except ImportError:  # NumPy 1
        from numpy.core import _multiarray_umath as umath
    return [name for name in umath.__cpu_dispatch__ if umath.__cpu_features__.get(name)]


def hostile() -> dict[str, str]:
    """Variables with which the bundled OpenBLAS takes its oldest kernel, NumPy none beyond its baseline, and glibc's
    libm neither FMA nor AVX2."""
    arm = platform.machine() in ("aarch64", "arm64")
    without = [f"-{name}{usable}" for name in ("AVX2", "FMA", "FMA4", "AVX512F") for usable in ("", "_Usable")]
    variables = {"OPENBLAS_CORETYPE": "ARMV8" if arm else "Prescott"}
    if numpy_features():
        variables["NPY_DISABLE_CPU_FEATURES"] = " ".join(numpy_features())
    if not arm:
        variables["GLIBC_TUNABLES"] = "glibc.cpu.hwcaps=" + ",".join(without)
    return variables


# ---------------------------------------------------------------------------------------------------------------------


def write() -> None:
    from meanfield.storage.versions import BITS

    COMMITTED.write_text(json.dumps({"bits": BITS, "cases": digests(NAMES)}, indent=1) + "\n")


def compare(path: Path, names: list[str]) -> int:
    """Say of each run whether its digests are those in the file; exit status."""
    expected, status = json.loads(path.read_text())["cases"], 0
    for name in names:
        other = differences(digest_of(name), expected[name])
        print(f"{name:<22}{'differs: ' + ', '.join(other) if other else 'equal'}", flush=True)
        status = 1 if other else status
    return status


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", default=",".join(NAMES), help="names, with commas between them")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--compare", nargs="?", const=COMMITTED, type=Path, metavar="BITS.json")
    for name in ("controls", "hostile", "write"):
        what.add_argument(f"--{name}", action="store_true")
    asked = parser.parse_args()
    names = asked.cases.split(",")
    if unknown := [name for name in names if name not in NAMES]:
        parser.error(f"--cases: {', '.join(unknown)}: must be among {', '.join(NAMES)}")
    if asked.compare:
        return compare(asked.compare, names)
    if asked.write:
        write()
    elif asked.hostile:
        print("\n".join(f"{name}={value}" for name, value in hostile().items()))
    else:
        print(json.dumps(controls() if asked.controls else digests(names), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
