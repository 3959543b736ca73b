"""What a number says of an ensemble at one place; nothing here moves or keeps it.

May import: what is minimized, the engine, dynamics.
"""

from .basic import (
    all_finite,
    basic_measures,
    calibration_error,
    calibration_on_test_set,
    drift_norm,
    error_on_test_set,
    margin_quantiles,
    normalized_margin,
    stationarity,
)
from .entropy import Entropy, entropy, free_energy
from .neurons import (
    DirectionHistogram,
    KernelMovement,
    alignment,
    effective_neurons,
    kernel_movement,
    leading_directions,
    mass_by_direction,
    tangent_kernel,
)
from .sliced_wasserstein import SlicedDistance, noise_floor, sliced_distance

__all__ = [
    "DirectionHistogram",
    "Entropy",
    "KernelMovement",
    "SlicedDistance",
    "alignment",
    "all_finite",
    "basic_measures",
    "calibration_error",
    "calibration_on_test_set",
    "drift_norm",
    "effective_neurons",
    "entropy",
    "error_on_test_set",
    "free_energy",
    "kernel_movement",
    "leading_directions",
    "margin_quantiles",
    "mass_by_direction",
    "noise_floor",
    "normalized_margin",
    "sliced_distance",
    "stationarity",
    "tangent_kernel",
]
