"""meanfield: infinite-width two-layer ReLU networks as ensembles of particles.

    from meanfield import Problem, Ensemble, Langevin, simulate, resume, load

Names are imported on first use, so that `import meanfield` costs nothing.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "Problem": "problem",
    "Ensemble": "ensemble",
    "Langevin": "dynamics",
    "GradientFlow": "dynamics",
    "PerturbedFlow": "dynamics",
    "BirthDeath": "dynamics",
    "Schedule": "schedules",
    "simulate": "simulate",
    "resume": "simulate",
    "load": "run",
    "certify": "certificate",
    "InputError": "errors",
    "RunFileError": "errors",
    "DivergenceError": "errors",
}

__all__ = [*_HOME, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)


class _Package(ModuleType):
    """Keeps `meanfield.simulate` the function: importing the module of that name would otherwise put itself there."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
