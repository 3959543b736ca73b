"""From bad starts: what each is, what plain flow can never do from it and rebirth can, and the committed numbers."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import claim_starts as claim  # noqa: E402
import claims  # noqa: E402

from meanfield import GradientFlow  # noqa: E402
from meanfield.studies.study import Study  # noqa: E402


def rows(name, folder=claims.RESULTS, **wanted):
    return claim.select(Study(name, None, folder).read(), **wanted)


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """The folder in which the script, run small as a user would, has left its tables."""
    folder = tmp_path_factory.mktemp("starts")
    command = [sys.executable, ROOT / "scripts" / "claim_starts.py", "--quick", "--quiet", "--folder", folder]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert "| d | start | dynamics |" in ended.stdout
    return folder


@pytest.mark.slow
def test_the_small_run_leaves_its_tables_and_figures(quick):
    """Every start under every dynamics, and a figure of each part."""
    found = {(row["start"], row["dynamics"]) for row in rows("starts_steps_quick", quick)}
    assert found == {(start, dynamics) for start in claim.STARTS for dynamics in claim.DYNAMICS}
    assert {path.name for path in quick.glob("*.png")} == {"starts_steps_quick.png", "starts_bias_quick.png"}


@pytest.mark.slow
def test_from_two_points_plain_flow_keeps_two_neurons_and_the_others_do_not(quick):
    """Equal particles move equally, to the last bit; what noise or rebirth has moved apart stays apart."""
    for row in rows("starts_steps_quick", quick, start="points"):
        assert row["distinct"] == 2 if row["dynamics"] == "flow" else row["distinct"] > 2, row["dynamics"]


@pytest.mark.slow
def test_on_symmetric_data_the_wrong_plane_holds_plain_flow_at_log_2(quick):
    """Each z has both labels equally often, so no function of z has a risk below log 2; rebirth and noise go below."""
    for row in rows("starts_steps_quick", quick, start="plane, symmetric"):
        objective = (1 + row["cooled"]) * row["lower_bound"]
        if row["dynamics"] == "flow":
            assert objective > np.log(2) - 1e-12
            assert row["informative"] < 1e-3
        elif row["dynamics"] in ("rebirth 1e-2", "noise"):
            assert objective < 0.5 * np.log(2)


def test_symmetric_data_hold_every_corner_with_every_draw_of_the_noise():
    """Turning (x₁, x₂) by a quarter gives the same set with the labels changed."""
    problem = claim.symmetric_problem(6, 1)
    X, y = problem.X, problem.targets
    turned = np.hstack([-X[:, 1:2], X[:, :1], X[:, 2:]])

    def as_set(X, y):
        return sorted(map(tuple, np.hstack([X, y[:, None]]) + 0.0))

    assert as_set(turned, -y) == as_set(X, y)
    assert len(X) == 24


def test_starts_are_what_they_are_called():
    """The property that each is there for, particle by particle."""
    m, d = 512, 6
    drawn = {name: claim.particles(name, m, d, 3) for name in claim.STARTS}
    w, u = ({name: getattr(one, part) for name, one in drawn.items()} for part in ("w", "u"))
    assert (w["positive"] > 0).all()
    assert (w["heavy"][:, 0] > 1.9 * np.linalg.norm(u["heavy"], axis=1)).all()
    assert len(np.unique(u["direction"], axis=0)) == 1
    assert len(np.unique(w["direction"])) == m
    assert len(np.unique(np.hstack([w["points"], u["points"]]), axis=0)) == 2
    assert (u["half"][:, 0] > 0).all()
    assert (u["cone"][:, 0] > 0.99 * np.linalg.norm(u["cone"], axis=1)).all()
    assert not u["plane"][:, :2].any()
    assert u["plane"][:, 2:].all()
    assert (w["sphere"] < 0).any()


def test_outputs_heavier_than_inputs_keep_their_sign_under_the_flow():
    """(w² − ‖u‖²) e^{4λt} is constant along the flow: a step errs by O(η²), a run to t = 8 by O(η)."""
    problem, _ = claim.problem_and_bound(False, 5, 0)
    start, worst = claim.particles("heavy", 64, 5, 0), []
    for eta in (0.02, 0.01):
        ended = claim.run(problem, start, GradientFlow(eta), round(8 / eta)).ensemble
        kept = (ended.w[:, 0] ** 2 - np.sum(ended.u**2, axis=1)) * np.exp(4 * claim.REG * ended.time)
        assert (ended.w > 0).all()
        worst.append(np.abs(kept - 0.75).max())
    assert worst[0] < 0.02
    assert worst[0] / worst[1] == pytest.approx(2, rel=0.1)


def test_a_committed_cell_comes_out_again():
    """d = 5: the bound to twice the tolerance by which its search ends, so the excess; the steps to within a row."""
    (row,) = rows("starts_steps", start="points", dynamics="rebirth 1e-3", d=5, seed=0)
    found = claim.start_cell(**{name: row[name] for name in ("start", "dynamics", "d", "seed", "m", "steps")})
    assert found["lower_bound"] == pytest.approx(row["lower_bound"], rel=2e-5)
    assert found["cooled"] == pytest.approx(row["cooled"], abs=4e-5)
    assert found["steps_0.1"] == pytest.approx(row["steps_0.1"], abs=10)
    assert found["distinct"] == row["distinct"]


def test_committed_runs_leave_bad_starts_by_rebirth_or_noise_only():
    """From points, cone, and on symmetric data plain flow ends 50 % above; σ = 10⁻³ and noise come within 10 %."""
    found = rows("starts_steps")
    assert len(found) == 2 * 4 * len(claim.STARTS) * len(claim.DYNAMICS)
    for row in found:
        assert 0 <= 1 - row["lower_bound"] / row["minimum"] <= 1e-5
        if row["start"] in ("points", "cone", "plane, symmetric") and row["dynamics"] == "flow":
            assert row["cooled"] > 0.5
        elif row["dynamics"] in ("rebirth 1e-3", "noise"):
            assert row["steps_0.1"] > 0, row


def test_committed_biases_grow_with_the_rate():
    """The mean excess at σ = 10⁻³ and 10⁻² is above that of plain flow, the second at least five times the first."""
    found = rows("starts_bias")
    for m in {row["m"] for row in found}:
        still, some, much = (
            np.mean([row["mean"] for row in claim.select(found, m=m, rate=rate)]) for rate in (0.0, 1e-3, 1e-2)
        )
        assert still < some < much / 5


def test_committed_crossings_need_large_steps():
    """Without them no output changes its sign, up to η = 0.2, and then plain flow stays at twice the minimum."""
    found = rows("starts_crossing")
    assert any(row["negative"] for row in found if row["step_size"] == 0.8)
    for row in found:
        if row["step_size"] <= 0.2:
            assert row["negative"] == 0
            assert row["excess"] > 1
