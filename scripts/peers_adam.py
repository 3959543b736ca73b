#!/usr/bin/env python3
"""Adam in PyTorch on a network's objective: how soon it comes to a goal. The peer of scripts/bench_minimum.py.

    python peers_adam.py TASK.npz --limit 60 --threads 2

TASK.npz holds X (n, d), y (n,) or (n, C), particles U (m, d) and w (m, C), `loss`, `reg` and `goal`. It minimizes

    L = R(f) + reg (1/m) Σ_j (|u_j|² + |w_j|²),    f_i = (1/m) Σ_j w_j relu(u_j·x_i)

in float32 by torch.optim.Adam (fused, its own betas and eps) at each learning rate. What it descends is m L, so that
gradients do not shrink with m towards Adam's eps. Seconds count from the first step, after steps on a copy that warm
up; L is what the step's own forward pass gives. A rate is given up at the limit, and where another has been faster; the
best is run again, --repeats times in all. Prints one JSON object: {"seconds": rate -> [...], null where not reached}.
"""

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np

RATES = (0.3, 0.1, 0.03, 0.01, 0.003)  # most often the first is the fastest, and limits the others


def risk(torch: Any, loss: str, y: Any) -> Callable[[Any], Any]:
    """R as a function of f (n, C)."""
    functional = torch.nn.functional
    if loss == "logistic":
        return lambda f: functional.softplus(-y * f[:, 0]).mean()
    if loss == "cross_entropy":
        return lambda f: functional.cross_entropy(f, y)
    target = y.reshape(len(y), -1)
    return lambda f: 0.5 * ((f - target) ** 2).sum(1).mean()


def tensors(torch: Any, task: dict[str, np.ndarray]) -> tuple[Any, Any]:
    """X and y; classes are int64, all else float32."""
    whole = str(task["loss"]) == "cross_entropy"
    y = torch.from_numpy(task["y"].astype(np.int64 if whole else np.float32))
    return torch.from_numpy(task["X"].astype(np.float32)), y


def descent(torch: Any, task: dict[str, np.ndarray], rate: float) -> Callable[[], float]:
    """A step of Adam that returns the L from which it started."""
    X, y = tensors(torch, task)
    U, w = (torch.tensor(task[name].astype(np.float32), requires_grad=True) for name in ("U", "w"))
    m, reg, R = len(U), float(task["reg"]), risk(torch, str(task["loss"]), y)
    adam = torch.optim.Adam([U, w], lr=rate, fused=True)

    def step() -> float:
        adam.zero_grad()
        L = R(torch.relu(X @ U.T) @ w / m) + reg * ((U**2).sum() + (w**2).sum()) / m
        (m * L).backward()
        adam.step()
        return L.item()

    return step


def seconds_to(goal: float, step: Callable[[], float], limit: float) -> float | None:
    """From the first step until a step starts at L ≤ goal; None at the limit or where L is no number."""
    begun = time.perf_counter()
    while (now := time.perf_counter() - begun) < limit:
        objective = step()
        if objective <= goal:
            return now
        if not np.isfinite(objective):
            return None
    return None


def race(torch: Any, task: dict[str, np.ndarray], limit: float, repeats: int) -> dict[float, list[float | None]]:
    """Rate -> seconds of each run."""
    goal, best = float(task["goal"]), limit
    found: dict[float, list[float | None]] = {}
    for rate in RATES:
        warm = descent(torch, task, rate)
        for _ in range(3):
            warm()
        seconds = seconds_to(goal, descent(torch, task, rate), best)
        found[rate] = [seconds]
        best = best if seconds is None else min(best, seconds)
    for rate, runs in found.items():
        if runs[0] is not None and runs[0] == best:
            runs += [seconds_to(goal, descent(torch, task, rate), limit) for _ in range(repeats - 1)]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task")
    parser.add_argument("--limit", type=float, default=60.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    import torch

    torch.set_num_threads(options.threads)
    with np.load(options.task) as held:
        task = dict(held)
    print(json.dumps({"seconds": race(torch, task, options.limit, options.repeats)}))


if __name__ == "__main__":
    main()
