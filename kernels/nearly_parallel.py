"""Dual activations as a double integral, for vectors so nearly parallel that their series in the cosine is long.

With p and ξ independent N(0, 1), u = ap and v = b(cp + sξ), s = √(1 − c²):

    E φ(u) φ(v) = E[ φ(ap) T(p) ],    T(p) = E[ φ(b(cp + sξ)) | p ]

T is smooth but for layers of width s/c about the kinks of φ. Both integrals are cut where φ is cut, the outer one also
through these layers, and taken by Gauss's rules, twice: the orders 16 and 12 must agree. Where no kink is in reach and
φ is one polynomial or two, the inner one is a single rule of Gauss and Hermite.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..runtime.compiling import compiled
from .pieces import Pieces, both_at

REACH = 9.5  # the normal law has 2e-21 beyond
WIDTH = 1.0  # of outer panels at most; inner ones are twice as wide
LAYER = (-9.0, -6.0, -4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0, 6.0, 9.0)  # cuts about a kink, in units of the layer's width


class Rule(NamedTuple):
    """Gauss's nodes and weights on (−1, 1), and those for the standard normal law."""

    nodes: np.ndarray
    weights: np.ndarray
    normal_nodes: np.ndarray
    normal_weights: np.ndarray


def rule(order: int) -> Rule:
    """Of `order` nodes on a panel, and twice as many for the normal law."""
    normal, weights = np.polynomial.hermite_e.hermegauss(2 * order)
    return Rule(*np.polynomial.legendre.leggauss(order), normal, weights / math.sqrt(2 * math.pi))


FINE, COARSE = rule(16), rule(12)


@compiled
def integrate_pair(a: float, b: float, c: float, z: float, pieces: Pieces, rule: Rule) -> tuple[float, float]:
    """E φ(u) φ(v) and E φ'(u) φ'(v) by one rule, for a ≥ b and z = (1 − |c|)/2, c not 0."""
    s, count = 2 * math.sqrt(z * (1 - z)), rule.nodes.size
    cuts = _outer_cuts(a, b * c, s / abs(c), pieces)
    inner = np.empty(pieces.edges.size + int(2 * REACH / WIDTH) + 2)
    work, p, phi, bend = np.empty((3, 2 * count)), np.empty(count), np.empty(count), np.empty(count)
    value = slope = 0.0
    for panel in range(cuts.size - 1):
        middle, half = 0.5 * (cuts[panel] + cuts[panel + 1]), 0.5 * (cuts[panel + 1] - cuts[panel])
        for j in range(count):
            p[j] = middle + half * rule.nodes[j]
        both_at(pieces, _piece(pieces.edges, a * middle), a * p, phi, bend)
        for j in range(count):
            weight = half * rule.weights[j] * math.exp(-0.5 * p[j] * p[j]) / math.sqrt(2 * math.pi)
            smooth, smooth_bend = _smoothed(b * c * p[j], b * s, pieces, rule, inner, work)
            value += weight * phi[j] * smooth
            slope += weight * bend[j] * smooth_bend
    return value, slope


@compiled
def _outer_cuts(a: float, bc: float, layer: float, pieces: Pieces) -> np.ndarray:
    """Ascending cuts of (−REACH, REACH): where φ(ap) is cut, through the layers of T, and at most WIDTH apart."""
    edges, kinks = pieces.edges, pieces.kinks
    cuts = np.empty(edges.size + kinks.size * len(LAYER) + int(2 * REACH / WIDTH) + 2)
    count = 0
    for k in range(int(2 * REACH / WIDTH) + 1):
        cuts[count] = min(-REACH + k * WIDTH, REACH)
        count += 1
    cuts[count] = REACH
    count += 1
    for edge in edges:
        if abs(edge) < REACH * a:
            cuts[count] = edge / a
            count += 1
    for kink in kinks:
        for place in LAYER:
            p = kink / bc + place * layer
            if abs(p) < REACH:
                cuts[count] = p
                count += 1
    return np.sort(cuts[:count])


@compiled
def _piece(edges: np.ndarray, z: float) -> int:
    i: int = np.searchsorted(edges, z) - 1  # type: ignore[assignment]
    return min(max(i, 0), edges.size - 2)


@compiled
def _smoothed(
    mean: float, spread: float, pieces: Pieces, rule: Rule, cuts: np.ndarray, work: np.ndarray
) -> tuple[float, float]:
    """E φ(mean + spread ξ) and E φ'(mean + spread ξ); cuts and work are work space."""
    edges = pieces.edges
    first, last = _piece(edges, mean - REACH * spread), _piece(edges, mean + REACH * spread)
    if first == last or (last - first == 1 and not (pieces.kinks == edges[last]).any()):
        at, phi, bend = work[0], work[1], work[2]
        for j in range(at.size):
            at[j] = mean + spread * rule.normal_nodes[j]
        split = min(max(np.searchsorted(at, edges[last]), 0), at.size) if first < last else 0
        both_at(pieces, first, at[:split], phi[:split], bend[:split])
        both_at(pieces, last, at[split:], phi[split:], bend[split:])
        return (rule.normal_weights * phi).sum(), (rule.normal_weights * bend).sum()
    count = 0
    for k in range(int(REACH / WIDTH) + 1):
        cuts[count] = -REACH + 2 * k * WIDTH
        count += 1
    cuts[count] = REACH
    count += 1
    for i in range(first + 1, last + 1):
        cuts[count] = (edges[i] - mean) / spread
        count += 1
    return _over_panels(mean, spread, np.sort(cuts[:count]), pieces, rule, work)


@compiled
def _over_panels(
    mean: float, spread: float, cuts: np.ndarray, pieces: Pieces, rule: Rule, work: np.ndarray
) -> tuple[float, float]:
    """The same over panels of ξ."""
    count = rule.nodes.size
    at, phi, bend = work[0, :count], work[1, :count], work[2, :count]
    value = slope = 0.0
    for panel in range(cuts.size - 1):
        middle, half = 0.5 * (cuts[panel] + cuts[panel + 1]), 0.5 * (cuts[panel + 1] - cuts[panel])
        for j in range(count):
            at[j] = mean + spread * (middle + half * rule.nodes[j])
        both_at(pieces, _piece(pieces.edges, mean + spread * middle), at, phi, bend)
        for j in range(count):
            xi = middle + half * rule.nodes[j]
            weight = half * rule.weights[j] * math.exp(-0.5 * xi * xi) / math.sqrt(2 * math.pi)
            value += weight * phi[j]
            slope += weight * bend[j]
    return value, slope
