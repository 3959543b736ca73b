"""The benchmarks: project and peers do the same work, and what is printed follows from what was timed."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from meanfield import Ensemble, Langevin, Problem, simulate

SCRIPTS = Path(__file__).parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))

import bench_step  # noqa: E402
import peers_step  # noqa: E402


def run(script, *arguments):
    return subprocess.run(
        [sys.executable, SCRIPTS / script, *map(str, arguments)], capture_output=True, text=True, timeout=120
    )


def our_particles(task, steps, seed=0):
    """(U, w) after some of the project's steps, at the peers' constants."""
    loss = "logistic" if task.w.shape[1] == 1 else "cross_entropy"
    problem = Problem(task.X, task.y, loss=loss, reg=peers_step.REG, temperature=task.tau)
    start = Ensemble.from_arrays(task.w, task.U, seed=seed)
    moved = simulate(problem, start, Langevin(step_size=peers_step.ETA), steps=steps, record_every=100).ensemble
    return moved.u, moved.w


@pytest.mark.parametrize("outputs", [1, 3])
def test_without_noise_the_numpy_peer_and_the_project_take_the_same_step(outputs):
    """To first order in η: the project decays by e^{−2λη}, the peer by 1 − 2λη, (2λη)²/2 = 1.25e-7 of a weight less."""
    task = peers_step.make_task(200, 30, 4, outputs, "float64")
    task.tau, task.w = 0.0, 30 * task.w  # large enough that the gradient moves every weight
    step, state = peers_step.PEERS["numpy-tiled"](task)
    step()
    for mine, theirs, before in zip(our_particles(task, 1), state(), (task.U, task.w), strict=True):
        decayed = (1 - 2 * peers_step.REG * peers_step.ETA) * before
        assert np.abs(theirs - decayed).max() > 1e-3  # it is the gradient that is compared
        assert np.abs(mine - theirs).max() < 2e-7 * np.abs(before).max() + 2.5e-4 * np.abs(theirs - decayed).max()


@pytest.mark.parametrize("outputs", [1, 3])
def test_the_numpy_peer_and_the_project_add_noise_of_the_same_variance(outputs):
    """From zero, where no gradient acts on u, one step spreads every weight by 2ητ; 5 standard errors."""
    task = peers_step.make_task(20000, 8, 3, outputs, "float64")
    task.U[:], task.w[:] = 0, 0
    step, state = peers_step.PEERS["numpy-tiled"](task)
    step()
    for particles in (state(), our_particles(task, 1)):
        for weights in particles:
            variance = np.mean(weights**2) / (2 * peers_step.ETA * peers_step.TAU)
            assert abs(variance - 1) < 5 * math.sqrt(2 / weights.size) + 1e-3  # e^{−4λη} takes 5e-4 of ours


def test_tiles_cover_all_particles_once():
    """A peer whose tiles do not divide m takes the same step as with one tile."""
    task = peers_step.make_task(peers_step.TILE + 5, 12, 3, 1, "float64")
    task.tau = 0.0
    step, state = peers_step.PEERS["numpy-tiled"](task)
    step()
    U, w = our_particles(task, 1)
    assert np.abs(state()[0] - U).max() < 1e-5
    assert np.abs(state()[1] - w).max() < 1e-5
    assert np.abs(state()[0] - task.U).max(axis=1).min() > 0


def test_operations_are_counted_once():
    """4mnd for one output; with C outputs the two products with w and the one for w's gradient as well."""
    assert peers_step.useful_flops(10, 20, 30) == 4 * 10 * 20 * 30
    assert peers_step.useful_flops(10, 20, 30, 7) == 4 * 10 * 20 * 30 + 6 * 10 * 20 * 7


@pytest.mark.parametrize("text", ["64,8", "64,8,0", "64,8,2,3,4", "64,8,2:float16", "64,8,2,x", "normals,4:float64"])
def test_a_row_that_means_nothing_is_refused(text):
    """One line that says what a row looks like, and no timing of something else."""
    with pytest.raises(bench_step.argparse.ArgumentTypeError, match="must be m,n,d"):
        bench_step.Row.of(text)


@pytest.mark.slow
def test_the_step_benchmark_prints_what_it_timed(tmp_path):
    """Every row is there; ratios, rates and fractions follow from the milliseconds; a missing peer is called so."""
    file, missing = tmp_path / "bench.json", "jax" if not _imports("jax") else None
    rows = ["2048,16,3", "2048,16,3,2", "2048,16,3:float64", "2048,16,3:threads", "normals,4096", "2048,16,3:tanh"]
    done = run(
        "bench_step.py",
        "--rows",
        *rows,
        "--peers",
        "numpy-tiled",
        "jax",
        "--reps",
        2,
        "--turn",
        0.005,
        "--product",
        64,
        "--json",
        file,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text())["rows"]
    assert list(found) == rows
    for label, results in found.items():
        assert f"\n{label}" in done.stdout
        timed = {r["name"]: r for r in results if "missing" not in r}
        for r in timed.values():
            assert r["ms_min"] <= r["ms"] == pytest.approx(np.median(r["ms_turns"]))
            assert f"{r['name']:20s} {r['ms']:10.3f}" in done.stdout
        ours = timed["meanfield"]
        if label == rows[0]:
            peers = [r["ms"] for name, r in timed.items() if name != "meanfield"]
            assert ours["faster_than_peers"] == pytest.approx(min(peers) / ours["ms"])
            assert ours["gflops"] == pytest.approx(4 * 2048 * 16 * 3 / ours["ms"] / 1e6)
            assert ours["of_product"] == pytest.approx(ours["gflops"] / ours["product_gflops"])
            assert [r["name"] for r in results if "missing" in r] == ([missing] if missing else [])
        if label == rows[3]:
            assert set(timed) == {"meanfield", "meanfield 1 thread"}
            assert timed["meanfield 1 thread"]["threads"] == 1
        if label == rows[4]:
            assert ours["ns_each"] == pytest.approx(1e6 * ours["ms"] / 4096)
        if label == rows[5]:
            assert set(timed) == {"meanfield", "meanfield tanh"}
            assert f"meanfield tanh takes {timed['meanfield tanh']['ms'] / ours['ms']:.2f} times as long" in done.stdout


@pytest.mark.slow
def test_the_profile_lists_the_parts_and_their_sum():
    """Five parts, their sum, the whole."""
    row = bench_step.Row.of("2048,16,3")
    text, ms = bench_step.profile(row, 1)
    parts = ("forward", "masked product", "noise", "update", "reduction")
    assert ms["sum of parts"] == pytest.approx(sum(ms[name] for name in parts))
    assert all(f"\n{name:16s} {value:10.3f}" in text for name, value in ms.items())
    assert set(ms) == {*parts, "sum of parts", "whole step"}


@pytest.mark.slow
def test_the_parts_of_the_profile_do_what_the_step_does():
    """On one block, gradient and then update with noise off give the particles of an advance without noise."""
    from meanfield.dynamics import exponential_move
    from meanfield.engine.engine import Engine

    m, n, d = 1024, 16, 3
    calls, moved = bench_step.profile_calls(m, n, d)
    calls["masked product"]()
    calls["update"]()
    task = peers_step.make_task(m, n, d)
    particles = Ensemble.from_arrays(task.w, task.U).particles
    residual = np.where(np.arange(n)[:, None] % 2, 0.5, -0.5) / n
    move = exponential_move(peers_step.ETA, peers_step.REG, 0.0)
    Engine(task.X, 1, "float32", 1).advance(particles, residual, move, 0, 0)
    assert np.array_equal(moved, particles.theta)


def test_scaling_prints_time_and_memory_a_particle(tmp_path):
    """A line for each m; nanoseconds a particle follow from milliseconds; what must be held is state and bits."""
    file = tmp_path / "scaling.json"
    done = run(
        "bench_scaling.py",
        "--m",
        2048,
        "--n",
        16,
        "--d",
        3,
        "--threads",
        1,
        "--reps",
        1,
        "--turn",
        0.005,
        "--json",
        file,
    )
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(file.read_text())
    assert row["ns_per_particle"]["1"] == pytest.approx(1e6 * row["ms"]["1"] / 2048)
    assert row["bytes_needed"] == 4 * 4 + 2
    assert len(done.stdout.splitlines()) == 2


def test_the_huge_run_states_its_peak(tmp_path):
    """On a small ensemble: a step, a record, a checkpoint, and nothing left behind."""
    done = run("bench_scaling.py", "--huge", 2048, "--n", 16, "--d", 3, "--threads", 1, "--folder", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "peak" in done.stdout
    assert "checkpoint" in done.stdout
    assert not list(tmp_path.iterdir())


def _imports(name):
    return subprocess.run([sys.executable, "-c", f"import {name}"], capture_output=True).returncode == 0
