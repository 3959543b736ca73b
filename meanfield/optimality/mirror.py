"""Positively homogeneous neurons as relu neurons on mirrored examples, so that what is known of relu's pull holds.

φ(cz) = cφ(z) for all c > 0 leaves φ(z) = p relu(z) + q relu(−z), p = φ(1) and q = φ(−1). As relu(−u·x) = relu(u·(−x)),

    G_a(u) = Σ_i a_i φ(u·x_i) = Σ_i (p a_i) relu(u·x_i) + Σ_i (q a_i) relu(u·(−x_i)):

the pull of relu neurons at the 2n examples (X, −X) under the dual point (pa, qa). Whatever bounds it there for every
unit u, an ascent from below or a proof from above, bounds ‖G_a‖ itself. The rest needs homogeneity alone. The least of
λ(‖w‖² + ‖u‖²) over the (w, u) that make the same w φ(u·x) is 2λ‖w‖‖u‖, so the variation norm is the penalty. And the
supremum in the dual bound of any φ, −R*(a) − sup_u (‖G_a(u)‖²/4λ − λ‖u‖²) (`linearized_gap`), is 0 where ‖G_a‖ ≤ 2λ on
the unit sphere, since the bracket is ‖u‖² times its value there, and ∞ elsewhere. So −R*(a) ≤ min L if ‖G_a‖ ≤ 2λ, as
for relu; nowhere is the sign of p or q used.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Mirror(NamedTuple):
    """φ(1) and φ(−1) of a positively homogeneous φ; of relu 1 and 0, for which nothing is mirrored."""

    right: float
    left: float

    @property
    def spread(self) -> float:
        """At least what multiplies Σ ‖a_i‖‖x_i‖ where ‖G_a‖ is bounded by it, the rounding of q a_i included."""
        return abs(self.right) + 2 * abs(self.left)

    def features(self, z: np.ndarray) -> np.ndarray:
        """φ(z)."""
        if self == RELU:
            return np.maximum(z, 0.0)
        return self.right * np.maximum(z, 0.0) + self.left * np.maximum(-z, 0.0)

    def examples(self, X: np.ndarray) -> np.ndarray:
        """The (n, d), or (2n, d), at which relu neurons pull."""
        return X if self == RELU else np.concatenate([X, -X])

    def point(self, a: np.ndarray) -> np.ndarray:
        """The dual point (n, C), or (2n, C), there."""
        return a if self == RELU else np.concatenate([self.right * a, self.left * a])


RELU = Mirror(1.0, 0.0)
