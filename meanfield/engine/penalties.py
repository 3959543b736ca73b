"""Penalties of a particle, p(θ) = inputs‖u‖² + outputs‖w‖² + quartic‖θ‖⁴ + path‖u‖‖w‖, and the steps they make.

The two ℓ2 terms are part of every move. The others are taken after it, each by what its own flow does: ‖θ‖⁴ exactly,
ds/dt = −8s² for s = ‖θ‖²; the path norm, whose kink is where a layer is zero, proximally, so that neurons die for good.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba.extending import register_jitable


class Coefficients(NamedTuple):
    """Of p(θ) = inputs‖u‖² + outputs‖w‖² + quartic‖θ‖⁴ + path‖u‖‖w‖, or of λp."""

    inputs: float
    outputs: float
    quartic: float
    path: float

    def times(self, reg: float) -> Coefficients:
        """Of λp."""
        return Coefficients(*(reg * one for one in self))


PLAIN = Coefficients(1.0, 1.0, 0.0, 0.0)  # ‖θ‖²


@register_jitable
def squares(theta: Any, g: Any, d: Any, of_u: Any, of_w: Any) -> None:
    """of_u, of_w (GROUP,) ← ‖u‖² and ‖w‖² of the group's particles, float64."""
    of_u[:] = 0
    of_w[:] = 0
    for k in range(theta.shape[1]):
        own = of_u if k < d else of_w
        for lane in range(theta.shape[2]):
            own[lane] += np.float64(theta[g, k, lane]) * np.float64(theta[g, k, lane])


@register_jitable
def beyond(of_u: Any, of_w: Any, penalty: Any) -> Any:
    """quartic‖θ‖⁴ + path‖u‖‖w‖ of a particle, from ‖u‖² and ‖w‖²."""
    value, both = 0.0, of_u + of_w
    if penalty.quartic > 0:
        value += penalty.quartic * both * both
    if penalty.path > 0:
        value += penalty.path * np.sqrt(of_u) * np.sqrt(of_w)
    return value


@register_jitable
def slopes(of_u: Any, of_w: Any, penalty: Any) -> Any:
    """(a, b) with ∇p = (a u, b w), from ‖u‖² and ‖w‖²; of the path norm's subgradients at 0 the one that is 0."""
    by_u = by_w = 0.0
    if penalty.quartic > 0:
        by_u = by_w = 4 * penalty.quartic * (of_u + of_w)
    if penalty.path > 0 and of_u > 0:
        by_u += penalty.path * np.sqrt(of_w / of_u)
    if penalty.path > 0 and of_w > 0:
        by_w += penalty.path * np.sqrt(of_u / of_w)
    return 2 * penalty.inputs + by_u, 2 * penalty.outputs + by_w


@register_jitable
def shrink_group(theta: Any, g: Any, d: Any, quartic: Any, path: Any) -> None:
    """A step of ‖θ‖⁴ and of ‖u‖‖w‖ for one group, of the lengths `quartic` and `path` (for u, for w).

    u ← u/√(1 + 8 quartic ‖θ‖²), which is exact where both layers have one length, then ‖u‖ ← max(0, ‖u‖ − path ‖w‖);
    w likewise.
    """
    group = theta.shape[2]
    of_u, of_w = np.empty(group), np.empty(group)
    squares(theta, g, d, of_u, of_w)
    for lane in range(group):
        both = of_u[lane] + of_w[lane]
        by_u, by_w = 1 / np.sqrt(1 + 8 * quartic[0] * both), 1 / np.sqrt(1 + 8 * quartic[1] * both)
        a, b = by_u * np.sqrt(of_u[lane]), by_w * np.sqrt(of_w[lane])
        of_u[lane] = by_u * max(0.0, 1 - path[0] * b / a) if a > 0 else 0.0
        of_w[lane] = by_w * max(0.0, 1 - path[1] * a / b) if b > 0 else 0.0
    for k in range(theta.shape[1]):
        factor = of_u if k < d else of_w
        for lane in range(group):
            theta[g, k, lane] = factor[lane] * theta[g, k, lane]
