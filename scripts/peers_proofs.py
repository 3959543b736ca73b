#!/usr/bin/env python3
"""Other people's bounds and networks for problems of this project. The peers of `scripts/claim_proofs.py others`.

    python peers_proofs.py relaxation|scnn|adelie|crown TASK.npz

TASK.npz holds X (n, d), y (n, C), `reg` and a dual point a (n, C). With f(x) = Σ_j w_j relu(u_j·x)

    L = (1/n) Σ_i ℓ(y_i, f(x_i)) + reg Σ_j (‖w_j‖² + ‖u_j‖²),    ℓ = ½‖f − y‖² or log(1 + exp(−y f)),

and since a balanced neuron of output v = |w| u costs 2 reg ‖v‖, peers that penalize λ Σ ‖v_j‖ are given λ = 2 reg.

relaxation: the semidefinite relaxation of training by Prakhya, Birdal and Yurtsever (arXiv 2410.22311), squared loss,
    written here from their paper: with α = relu(Xu), β = relu(−Xu) and Λ for E[(α, β, u, v)(α, β, u, v)ᵀ] they minimize
    ½‖Λ_αv − Y‖² + (B/2) tr Λ_(u,v) over Λ ⪰ 0 whose part in (α, β) is nonnegative, α_i β_i = 0, α − β = Xu. That is n L
    for B = 2 n reg. Here β = α − Xu is put in, which changes nothing but gives Clarabel an interior. {"value": of L}
scnn: the augmented Lagrangian of scnn (arXiv 2202.01331) on the cones of 500 random gates, squared loss. Its loss is
    (1/2n) Σ (f − y)², its penalty λ Σ ‖v‖, which `unitize_data` would measure in other units: it is off. {"u", "w"}
adelie: its group lasso with the cones of 500 random gates as linear constraints, logistic loss; penalty λ Σ ‖v‖ too.
crown: bounds on G_a(u) = Σ_i a_i relu(u·x_i) over the unit ball by auto_LiRPA's CROWN with optimized slopes (α-CROWN),
    as a network of one hidden layer, in double precision. {"value": of max |G_a|}

All print one JSON object, with `took`, the processor's seconds without imports. They fit into one environment (Python
3.11, November 2026): auto_LiRPA 0.3 asks for torch < 1.13, for which there is no wheel, and works with 1.13.1.

    python3.11 -m venv peers && peers/bin/pip install "torch==1.13.1" "numpy<1.26" cvxpy adelie scikit-learn tqdm \\
        appdirs pyyaml packaging opt_einsum && peers/bin/pip install --no-deps auto_LiRPA==0.3 pyscnn linalg_backends
"""

import argparse
import importlib
import json
import time
from typing import Any

import numpy as np

GATES = 500
MODULES = {"relaxation": "cvxpy", "scnn": "scnn.optimize", "adelie": "adelie", "crown": "auto_LiRPA"}
Task = dict[str, Any]


def relaxation(task: Task) -> dict[str, Any]:
    """In inputs and targets of size 1, which is the same problem: L(X, y, reg) = s² L(X/r, y/s, reg/(r s))."""
    import cvxpy as cp

    r, s = np.linalg.norm(task["X"], axis=1).max(), np.sqrt(np.mean(task["y"] ** 2))
    X, y, reg = task["X"] / r, task["y"] / s, task["reg"] / (r * s)
    (n, d), C = X.shape, y.shape[1]
    moments = cp.Variable((d + n + C, d + n + C), PSD=True)  # of (u, α, v)
    W = np.block([[np.zeros((n, d)), np.eye(n)], [-X, np.eye(n)]])  # (α, β) = W (u, α)
    Z, f = W @ moments[: d + n, : d + n] @ W.T, moments[d : d + n, d + n :]
    L = cp.sum_squares(f - y) / (2 * n) + reg * (cp.trace(moments[:d, :d]) + cp.trace(moments[d + n :, d + n :]))
    problem = cp.Problem(cp.Minimize(L), [cp.upper_tri(Z) >= 0, cp.diag(Z) >= 0, cp.diag(Z[:n, n:]) == 0])
    problem.solve(solver=cp.CLARABEL)
    return {"value": s**2 * problem.value, "status": problem.status}


def gates(task: Task) -> np.ndarray:
    """(d, GATES) directions, normal."""
    return np.random.default_rng(0).standard_normal((task["X"].shape[1], GATES))


def scnn(task: Task) -> dict[str, Any]:
    from scnn.metrics import Metrics
    from scnn.models import ConvexReLU
    from scnn.optimize import optimize_model
    from scnn.regularizers import NeuronGL1
    from scnn.solvers import AL

    model = ConvexReLU(gates(task))
    network, _ = optimize_model(
        model,
        AL(model),
        Metrics(),
        task["X"],
        task["y"][:, 0],
        regularizer=NeuronGL1(2 * task["reg"]),
        unitize_data=False,
        dtype="float64",
    )
    u, w = network.get_parameters()[:2]
    return {"u": u.tolist(), "w": w.T.tolist()}


def adelie(task: Task) -> dict[str, Any]:
    import adelie as ad

    X, (n, d), most = np.asfortranarray(task["X"]), task["X"].shape, 2 * task["reg"]
    masks = np.asfortranarray(np.unique(X @ gates(task) >= 0, axis=1))
    sides = [np.ascontiguousarray(np.where(mask, -1.0, 1.0)[:, None] * X) for mask in masks.T] * 2
    bounds = {"lower": np.full(n, -np.inf), "upper": np.zeros(n)}
    state = ad.grpnet(
        ad.matrix.convex_relu(X, masks),
        ad.glm.binomial(y=0.5 + 0.5 * task["y"][:, 0]),
        constraints=[ad.constraint.linear(side, **bounds) for side in sides],
        groups=d * np.arange(len(sides)),
        penalty=np.ones(len(sides)),
        lmda_path=most * np.geomspace(20, 1, 10),
        intercept=False,
        early_exit=False,
        adev_tol=1.0,
        progress_bar=False,
    )
    u = state.betas[-1].toarray().reshape(len(sides), d)
    return {"u": u.tolist(), "w": np.repeat([[1.0], [-1.0]], masks.shape[1], axis=0).tolist()}


def crown(task: Task) -> dict[str, Any]:
    import torch
    from auto_LiRPA import BoundedModule, BoundedTensor, PerturbationLpNorm

    torch.set_default_dtype(torch.float64)
    (n, d), linear = task["X"].shape, torch.nn.Linear
    network = torch.nn.Sequential(linear(d, n, bias=False), torch.nn.ReLU(), linear(n, 1, bias=False))
    network[0].weight.data, network[2].weight.data = torch.tensor(task["X"]), torch.tensor(task["a"].T)
    middle = torch.zeros(1, d)
    ball = BoundedTensor(middle, PerturbationLpNorm(norm=2, eps=1.0))
    low, high = BoundedModule(network, middle).compute_bounds(x=(ball,), method="CROWN-Optimized")
    return {"value": max(high.item(), -low.item())}


def main() -> None:
    peers = {"relaxation": relaxation, "scnn": scnn, "adelie": adelie, "crown": crown}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=peers)
    parser.add_argument("task")
    options = parser.parse_args()
    with np.load(options.task) as held:
        task = {name: held[name] if held[name].ndim else held[name].item() for name in held}
    importlib.import_module(MODULES[options.peer])
    begun = time.process_time()
    print(json.dumps({**peers[options.peer](task), "took": time.process_time() - begun}))


if __name__ == "__main__":
    main()
