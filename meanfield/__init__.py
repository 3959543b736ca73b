"""meanfield: infinite-width two-layer ReLU networks as ensembles of particles.

    from meanfield import Problem, Ensemble, Langevin, simulate, resume, load

Names, and the modules `exact`, `kernels`, `diagnostics`, `plots`, `convert`, `estimators` and `study`, are imported
on first use, so that `import meanfield` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "Problem": "problem",
    "Ensemble": "ensemble",
    "Neuron": "neuron",
    "Penalty": "penalty",
    "Langevin": "dynamics",
    "GradientFlow": "dynamics",
    "PerturbedFlow": "dynamics",
    "BirthDeath": "dynamics",
    "Implicit": "dynamics",
    "KineticLangevin": "dynamics",
    "Schedule": "schedules",
    "simulate": "simulation.loop",
    "resume": "simulation.loop",
    "load": "simulation.run",
    "Result": "simulation.result",
    "Run": "simulation.run",
    "Measure": "simulation.measures",
    "certify": "optimality.certificate",
    "InputError": "errors",
    "RunFileError": "errors",
    "DivergenceError": "errors",
    "RunWarning": "errors",
}
_MODULES = {
    "exact": "exact",
    "kernels": "kernels",
    "diagnostics": "diagnostics",
    "plots": "plots",
    "convert": "convert",
    "estimators": "estimators",
    "study": "studies.study",
}

__all__ = [*_HOME, *_MODULES, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f".{_MODULES[name]}", __name__)
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
