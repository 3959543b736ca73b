"""Figures of runs. The only importer of matplotlib.

Each panel is a function `plot_x(run, ax=None, **options) -> Axes`, for notebooks and for the files of `write`; a run is
what `load` or `simulate` gives.

May import: all above but the command line.
"""

from ..errors import InputError

try:
    import matplotlib  # noqa: F401
except ValueError as error:  # what MPLBACKEND says
    raise InputError(f"MPLBACKEND: {error}") from None

from .comparison import plot_comparison, write_comparison
from .figures import FIGURES, PANELS, convergence, dashboard, decision, figure, plot_facts, single, write
from .functions import moments_of, plot_balance, plot_margins, plot_potential
from .overlay import differing, overlay, plot_overlay
from .particles import animate, particles, plot_particles
from .plane import Cloud, Plane, clouds, informative_plane
from .slices import plot_decision
from .style import BLUE, GREEN, GREY, ORANGE, RED, STYLE, fit, save, save_image
from .sweep import plot_sweep, write_sweep
from .traces import (
    plot_drift,
    plot_errors,
    plot_free_energy,
    plot_gap,
    plot_margin,
    plot_objective,
    plot_schedules,
    plot_steps,
    recorded,
)

__all__ = [
    "BLUE",
    "FIGURES",
    "GREEN",
    "GREY",
    "ORANGE",
    "PANELS",
    "RED",
    "STYLE",
    "Cloud",
    "Plane",
    "animate",
    "clouds",
    "convergence",
    "dashboard",
    "decision",
    "differing",
    "figure",
    "fit",
    "informative_plane",
    "moments_of",
    "overlay",
    "particles",
    "plot_balance",
    "plot_comparison",
    "plot_decision",
    "plot_drift",
    "plot_errors",
    "plot_facts",
    "plot_free_energy",
    "plot_gap",
    "plot_margin",
    "plot_margins",
    "plot_objective",
    "plot_overlay",
    "plot_particles",
    "plot_potential",
    "plot_schedules",
    "plot_steps",
    "plot_sweep",
    "recorded",
    "save",
    "save_image",
    "single",
    "write",
    "write_comparison",
    "write_sweep",
]
