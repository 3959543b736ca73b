"""What a small objective proves about the margin: the margin theorem of arXiv 1810.05369, with constants.

The paper states that a 2-approximate minimizer has the normalized margin γ*/8 if λ ≤ (γ*)^{r/a}/(n^c (l−1)^c), for a
constant c that is large enough. Derived here, so that it can be checked, for the logistic loss and cross-entropy with K
rivals of each class (1, or l − 1), from L[ρ] = R(f) + λS, S = ∫‖θ‖² dρ, and any γ ≤ γ* that some network has:

- From above. That network, scaled to S = s, has margins of at least γs, so that min L ≤ log(1 + K e^{−γs}) + λs ≤
  K e^{−γs} + λs, at s = ℓ/γ with ℓ = log(Kγ/λ) > 0:  min L ≤ U = λ(1 + ℓ)/γ.
- From below. If q = min_i margin_i, that example alone gives L ≥ log(1 + e^{−q})/n, so q ≥ −log(e^{nL} − 1), which is
  positive for nL < log 2; and S ≤ L/λ. Together γ(ρ) = q/S ≥ −λ log(e^{nL} − 1)/L, which falls as L rises.

With L[ρ] ≤ β min L ≤ βU and x = nβU = nβK(1 + ℓ)e^{−ℓ} < log 2 therefore

    γ(ρ) ≥ γ · −log(e^x − 1) / (β(1 + ℓ)),

which tends to γ/β as λ → 0. It rises with γ, and falls as λ, β or n rise. That it is at least κγ for all λ below some
λ₀: d/dℓ of −log(e^x − 1) is x e^x/(e^x − 1) · ℓ/(1 + ℓ) ≥ ℓ/(1 + ℓ), so −log(e^x − 1) − κβ(1 + ℓ) rises from where ℓ ≥
κβ/(1 − κβ) on, and ℓ₀ is its only zero there.
"""

from __future__ import annotations

import math

_SLACK = 1e-9  # relative: far more than the roundings of these formulas and of a margin that was computed
_LARGEST = 700.0  # ℓ at which e^−ℓ is still a number


def guaranteed_margin(margin: float, reg: float, n: int, factor: float = 1.0, rivals: int = 1) -> float:
    """The least normalized margin that any network can have whose L is at most `factor` times the minimum.

    Parameters
    ----------
    margin : float
        γ, a normalized margin that some network has on these examples; the larger, the better.
    reg : float
        λ > 0.
    n : int
        The number of examples.
    factor : float
        β ≥ 1.
    rivals : int
        K: how many classes compete with the right one.

    Returns
    -------
    float
        At least 0, which stands for nothing: the margin may then be negative.

    Examples
    --------
    The approach to γ/β is slow, like 1/log(1/λ).

    >>> from meanfield.optimality.margin_guarantee import guaranteed_margin
    >>> [round(8 * guaranteed_margin(1 / 8, reg, n=160), 3) for reg in (5e-3, 1e-6, 1e-12, 1e-100)]
    [0.0, 0.323, 0.648, 0.95]
    """
    depth = math.log(rivals * margin / reg) if margin > 0 else 0.0
    if depth <= 0 or not math.isfinite(factor):
        return 0.0
    least = _least(depth, n * factor * rivals)
    return max(0.0, margin * least / (factor * (1 + depth))) * (1 - _SLACK)


def weak_reg(
    margin: float, n: int, factor: float = 2.0, rivals: int = 1, share: float = 1 / 8, upper: float | None = None
) -> float:
    """λ₀: at every λ ≤ λ₀ a network with L ≤ `factor` · min L has at least `share` of the largest normalized margin.

    Parameters
    ----------
    margin : float
        A normalized margin that some network has on these examples.
    n : int
        The number of examples.
    factor : float
        β ≥ 1.
    rivals : int
        K: how many classes compete with the right one.
    share : float
        κ, the paper's ⅛ by default.
    upper : float, optional
        At least the largest margin γ*; by default `margin` is γ*.

    Returns
    -------
    float
        0 where no λ is known to be small enough.

    Examples
    --------
    On the paper's data γ* = ⅛: with n = 160 examples λ = 1.4·10⁻⁶ is small enough for γ ≥ γ*/8.

    >>> from meanfield.optimality.margin_guarantee import weak_reg
    >>> f"{weak_reg(1 / 8, n=160):.1e}"
    '1.4e-06'
    """
    wanted = share * factor * (1.0 if upper is None else upper / margin if margin > 0 else math.inf) * (1 + _SLACK)
    if wanted >= 1:
        return 0.0
    low, high = max(1.0, wanted / (1 - wanted)), _LARGEST
    if _least(high, n * factor * rivals) < wanted * (1 + high):
        return 0.0
    for _ in range(100):
        middle = 0.5 * (low + high)
        enough = _least(middle, n * factor * rivals) >= wanted * (1 + middle)
        low, high = (low, middle) if enough else (middle, high)
    return rivals * margin * math.exp(-high)


def _least(depth: float, count: float) -> float:
    """−log(e^x − 1) at x = count · (1 + ℓ)e^{−ℓ}: the least margin that so small an objective leaves; 0 where none."""
    x = count * (1 + depth) * math.exp(-depth) * (1 + _SLACK)
    return -math.log(math.expm1(x)) if x < math.log(2) else 0.0


__all__ = ["guaranteed_margin", "weak_reg"]
