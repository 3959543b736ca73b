"""The neural tangent kernel, closed-form for relu, and what is learned with it: matrices in, predictions out.

May import: of the engine nothing but runtime. Names are imported on first use.
"""
# ruff: noqa: F401

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOME = {
    "estimators": ("NTKClassifier", "NTKRegressor"),
    "feature_learning": ("RecursiveFeatureMachine",),
    "feature_learning_estimators": ("RFMClassifier", "RFMRegressor"),
    "finite_width": ("RandomFeatures", "empirical_ntk"),
    "flow": ("GradientFlow",),
    "gram": ("ReluKernel", "relu_nngp", "relu_ntk"),
    "interpolation": ("Interpolation",),
    "iterative": ("IterativeRidge",),
    "iterative_path": ("IterativePath",),
    "logistic": ("Logistic", "logistic_path"),
    "neuron_kernel": ("NeuronKernel", "neuron_nngp", "neuron_ntk"),
    "lower_bound": ("margin_cap", "margin_cap_limit", "paper_data", "split_exact", "split_predictor", "split_sampled"),
    "nystrom": ("NystromRidge",),
    "rounds": ("ConjugateGradients",),
    "select": ("Selection", "best"),
    "solve": ("Ridge", "RidgePath", "class_targets", "margins", "reg_path"),
    "streamed": ("StreamedGram",),
    "streamed_centres": ("StreamedCentres",),
    "svm": ("SVM",),
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}
__all__ = sorted(_MODULE)

if TYPE_CHECKING:  # the same, for type checkers
    from .estimators import NTKClassifier, NTKRegressor
    from .feature_learning import RecursiveFeatureMachine
    from .feature_learning_estimators import RFMClassifier, RFMRegressor
    from .finite_width import RandomFeatures, empirical_ntk
    from .flow import GradientFlow
    from .gram import ReluKernel, relu_nngp, relu_ntk
    from .interpolation import Interpolation
    from .iterative import IterativeRidge
    from .iterative_path import IterativePath
    from .logistic import Logistic, logistic_path
    from .lower_bound import margin_cap, margin_cap_limit, paper_data, split_exact, split_predictor, split_sampled
    from .neuron_kernel import NeuronKernel, neuron_nngp, neuron_ntk
    from .nystrom import NystromRidge
    from .rounds import ConjugateGradients
    from .select import Selection, best
    from .solve import Ridge, RidgePath, class_targets, margins, reg_path
    from .streamed import StreamedGram
    from .streamed_centres import StreamedCentres
    from .svm import SVM


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_MODULE[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
