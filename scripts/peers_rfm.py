#!/usr/bin/env python3
"""The kernel that learns its metric beside xRFM, whose kernels, gradients and outer products are its authors' own.

    python scripts/peers_rfm.py PEER             PEER is the Python of an environment that has xRFM:

    python3 -m venv peer && peer/bin/pip install torch --index-url https://download.pytorch.org/whl/cpu
    peer/bin/pip install xrfm

Both fit the same data, two outputs, in double precision, for five steps. The peer's loop is written here, around
`LaplaceKernel` of `xrfm.rfm_src.kernels` (exponent 1 is Laplace, 2 is Gaussian, exp(−(r/L)^p)) and torch's solver; the
scale of M is set by our rule in both, since `xrfm.RFM` divides M by its largest entry. Printed are the largest
differences of M (of its trace) and of the predictions at new points (of the largest).
"""

import json
import subprocess
import sys
from typing import Any

import numpy as np

N, D, NEW, STEPS, REG, BANDWIDTH = 300, 12, 100, 5, 1e-3, 1.3
EXPONENTS = {"laplace": 1, "gaussian": 2}
Fit = tuple[np.ndarray, np.ndarray]  # M (d, d) and predictions (NEW, 2)


def data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """X (N, D) uneven in its scales, two targets (N, 2), new points."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N + NEW, D)) * np.linspace(0.5, 2, D)
    y = np.stack([X[:, 0] * X[:, 1], np.abs(X[:, 2]) + 0.1 * rng.normal(size=N + NEW)], axis=1)
    return X[:N], y[:N], X[N:]


def ours(kernel: str) -> Fit:
    from meanfield.kernels import RecursiveFeatureMachine, Ridge

    X, y, Z = data()
    machine = RecursiveFeatureMachine(kernel, solver=Ridge(REG), bandwidth=BANDWIDTH, iterations=STEPS).fit(X, y)
    return machine.M, machine.predict(Z)


def peer(kernel: str) -> Fit:
    import torch
    from xrfm.rfm_src.kernels import LaplaceKernel

    p = EXPONENTS[kernel]
    law = LaplaceKernel(bandwidth=BANDWIDTH * p ** (1 / p), exponent=p)
    X, y, Z = (torch.from_numpy(array) for array in data())
    centred = X - X.mean(axis=0)
    S, M = 2 * centred.T @ centred / N, torch.eye(D, dtype=torch.float64)
    for step in range(STEPS + 1):
        M = M / (M * S).sum()
        squares, vectors = torch.linalg.eigh(M)
        root = vectors @ torch.diag(squares.clamp(min=0).sqrt()) @ vectors.T
        K = law.get_kernel_matrix(X, X, root)
        coef = torch.linalg.solve(K + REG * torch.eye(N, dtype=torch.float64), y)
        if step < STEPS:
            M = law.get_agop(X, X, coef.T.contiguous(), root)
    return M.numpy(), (law.get_kernel_matrix(Z, X, root) @ coef).numpy()


def main(python: str) -> None:
    for kernel in EXPONENTS:
        done = subprocess.run([python, __file__, "--peer", kernel], capture_output=True, text=True, check=True)
        theirs: Any = [np.array(part) for part in json.loads(done.stdout)]
        M, f = ours(kernel)
        differences = np.abs(M - theirs[0]).max() / np.trace(M), np.abs(f - theirs[1]).max() / np.abs(f).max()
        print(f"{kernel}: M {differences[0]:.1e}, predictions {differences[1]:.1e}")


if __name__ == "__main__":
    if sys.argv[1] == "--peer":
        print(json.dumps([part.tolist() for part in peer(sys.argv[2])]))
    else:
        main(sys.argv[1])
