"""The slow, obvious twin of the engine: float64, one particle or one formula at a time, no cleverness.

Particles are w (m, C) and u (m, d); inputs X (n, d); residuals r (n, C). Everything fast is held against this.
"""

import math

import numpy as np

RELU = (lambda z: np.maximum(z, 0)), (lambda z: (z > 0).astype(float))  # φ and φ'


def predict(w, u, X, neuron=RELU):
    """f (n, C) = (1/m) Σ_j w_j φ(u_j·x_i)."""
    w, u, X = (np.asarray(a, np.float64) for a in (w, u, X))
    f = np.zeros((len(X), w.shape[1]))
    for w_j, u_j in zip(w, u, strict=True):
        f += np.outer(neuron[0](X @ u_j), w_j)
    return f / len(w)


def second(w, u):
    """∫‖θ‖² dρ."""
    return (np.sum(np.asarray(w, np.float64) ** 2) + np.sum(np.asarray(u, np.float64) ** 2)) / len(w)


def pull(w, u, X, r, neuron=RELU):
    """∇⟨r, Φ(θ_j)⟩ for every particle: (m, C) by w and (m, d) by u."""
    w, u, X, r = (np.asarray(a, np.float64) for a in (w, u, X, r))
    by_w, by_u = np.zeros_like(w), np.zeros_like(u)
    for j in range(len(w)):
        phi, slope = (function(X @ u[j]) for function in neuron)
        by_w[j] = r.T @ phi
        by_u[j] = X.T @ (slope * (r @ w[j]))
    return by_w, by_u


def near_kink(u, X, within):
    """(m,) bool: particles for which |u·x| ≤ within·‖u‖‖x‖ for some x, where rounding may decide the activation."""
    u, X = np.asarray(u, np.float64), np.asarray(X, np.float64)
    sizes = np.linalg.norm(u, axis=1)[:, None] * np.linalg.norm(X, axis=1)
    return (np.abs(u @ X.T) <= within * sizes).any(axis=1)


def drift(w, u, X, r, reg, neuron=RELU):
    """∇L'(θ_j) = ∇⟨r, Φ⟩ + 2λθ_j, by w and by u."""
    by_w, by_u = pull(w, u, X, r, neuron)
    return by_w + 2 * reg * np.asarray(w, np.float64), by_u + 2 * reg * np.asarray(u, np.float64)


def potentials(w, u, X, r, reg, neuron=RELU):
    """L'(θ_j) = ⟨r, Φ(θ_j)⟩ + λ‖θ_j‖² (m,)."""
    w, u = np.asarray(w, np.float64), np.asarray(u, np.float64)
    values = []
    for w_j, u_j in zip(w, u, strict=True):
        phi = np.outer(neuron[0](X @ u_j), w_j)
        values.append(np.sum(r * phi) + reg * (w_j @ w_j + u_j @ u_j))
    return np.array(values)


def step(w, u, X, r, eta, reg, temperature=0.0, xi=None, neuron=RELU):
    """One step of the exponential scheme; xi (m, d + C) are the normals, those of u first."""
    by_w, by_u = pull(w, u, X, r, neuron)
    decay = math.exp(-2 * reg * eta)
    slide = (1 - decay) / (2 * reg)
    spread = math.sqrt(temperature * (1 - math.exp(-4 * reg * eta)) / (2 * reg))
    if xi is None:
        xi = np.zeros((len(w), u.shape[1] + w.shape[1]))
    d = u.shape[1]
    return decay * w - slide * by_w + spread * xi[:, d:], decay * u - slide * by_u + spread * xi[:, :d]


def in_turn(terms):
    """The sum from zero, rounded after each term."""
    total = 0.0
    for term in terms:
        total = total + term
    return total


def pulled(X, a, u):
    """(X u, G_a(u)/‖G_a(u)‖, ‖G_a(u)‖), sums in turn."""
    z = [in_turn(X[i] * u) for i in range(len(X))]
    G = in_turn(a[i] * z[i] for i in range(len(X)) if z[i] > 0) + np.zeros(a.shape[1])
    size = np.sqrt(in_turn(G * G))
    return z, G / size if size > 0 else G, size


def climb(X, a, u, rounds, sweeps):
    """The ascent of ‖G_a‖ from u, a unit vector (engine/climbing.py): (where it ends, the height, passes over X)."""
    n = range(len(X))
    z, v, best = pulled(X, a, u)
    alpha, passes, idle = [float(z[i] > 0) for i in n], 1, 0
    for _ in range(rounds):
        b = [in_turn(a[i] * v) for i in n]
        p = in_turn(b[i] * X[i] for i in n if b[i] > 0 and z[i] > 0) + np.zeros(len(u))
        for i in n:
            p = p + b[i] * alpha[i] * X[i] if b[i] < 0 else p
        passes += 3
        for _ in range(sweeps):
            moved = 0.0
            for i in n:
                square = X[i] @ X[i]
                if b[i] < 0 and square > 0:
                    share = min(1.0, max(0.0, alpha[i] - in_turn(X[i] * p) / (b[i] * square)))
                    change, alpha[i] = b[i] * (share - alpha[i]), share
                    p, moved = p + change * X[i], moved + change * change * square
            passes += 1
            if moved <= 1e-24 * in_turn(p * p):
                break
        if not p.any():
            break
        at = p / np.sqrt(in_turn(p * p))
        z, v, height = pulled(X, a, at)
        idle = idle + 1 if height <= best * (1 + 1e-9) else 0
        u, best = (at, height) if height > best else (u, best)
        if idle == 2:
            break
    return u, best, passes


def risk(f, y, loss):
    """R(f) = (1/n) Σ ℓ(y_i, f_i); y are ±1, numbers (n, C), or classes 0 … C − 1."""
    total = 0.0
    for f_i, y_i in zip(f, y, strict=True):
        if loss == "logistic":
            total += math.log(1 + math.exp(-y_i * f_i[0]))
        elif loss == "squared":
            total += 0.5 * np.sum((f_i - y_i) ** 2)
        else:
            total += math.log(np.sum(np.exp(f_i))) - f_i[y_i]
    return total / len(f)


def objective(w, u, X, y, loss, reg):
    """L[ρ] = R(f_ρ) + λ ∫‖θ‖² dρ."""
    return risk(predict(w, u, X), y, loss) + reg * second(w, u)


def philox4x32(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Philox4x32-10 (Salmon et al. 2011) in Python's integers: four 32-bit words of a counter and a key."""
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        a, b = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (b >> 32) ^ c1 ^ k0, b & 0xFFFFFFFF, (a >> 32) ^ c3 ^ k1, a & 0xFFFFFFFF
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c0, c1, c2, c3
