"""The claim on trained widths: what it computes is what training leaves, and its images can be a user's own file."""

import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import claim_margin  # noqa: E402
import claim_margin_limit  # noqa: E402
import claim_width as claim  # noqa: E402
import claims  # noqa: E402

from meanfield.studies.study import Study  # noqa: E402


def test_a_committed_cell_comes_out_again():
    """A network that separates, to the last digits; `margin` is 0, not negative, where one does not."""
    rows = Study("width_teacher", None, claims.RESULTS).read()
    row = next(row for row in rows if row["m"] == 32 and row["margin"] > 0)
    found = claim.teacher_cell(**{name: row[name] for name in ("n", "d", "seed", "m", "reg", "steps")})
    assert {name: row[name] for name in found} == pytest.approx(found, rel=1e-9)
    assert min(row["margin"] for row in rows) == 0
    assert all(row["train_error"] > 0 for row in rows if row["margin"] == 0)


def test_a_file_of_images_takes_the_place_of_the_digits(tmp_path, monkeypatch, capsys):
    """Named as Keras names MNIST's arrays; table and figure are called after the file."""
    rng = np.random.default_rng(0)
    y = np.arange(240) % 3
    x = (rng.integers(0, 100, (240, 4, 4)) + 100 * (np.arange(4) == y[:, None, None])).astype(np.uint8)
    np.savez(tmp_path / "small.npz", x_train=x[:210], y_train=y[:210], x_test=x[210:], y_test=y[210:])
    short = claim.trained
    monkeypatch.setattr(claim, "trained", lambda problem, m, seed, steps: short(problem, m, seed, 2))
    monkeypatch.setattr(claims.Study, "run", in_process)
    command = ["x", "images", "--data", str(tmp_path / "small.npz"), "--folder", str(tmp_path / "out"), "--quiet"]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as ended:
        claims.main("doc", {"images": claim.images}, data=claim.DIGITS)
    assert ended.value.code == 0
    assert (tmp_path / "out" / "width_small.pdf").exists()
    assert "separated" in capsys.readouterr().out


def in_process(study, configurations, *_):
    """A study's rows, without a file."""
    return [{**one, **study.cell(**one)} for one in configurations]


def test_gains_are_of_a_trial_and_not_of_their_means():
    """Two trials far apart that both gain 1: the error of the gain is 0."""
    rows = [{"m": 2**k, "seed": s, "margin": 100 * s + k} for s in (0, 1) for k in (0, 1)]
    assert [list(one) for one in claim.doublings(rows)] == [[1], [0]]


def test_what_training_left_is_neither_refitted_nor_kept():
    """The best and the mean of the starts, each of its own width, though a narrower network had more."""
    rows = [
        {"seed": 0, "m": m, "trained_margin": x, "margin": 1.0} for m, x in ((1, 0.4), (1, 0.8), (2, 0.2), (2, 0.4))
    ]
    found = claim_margin.as_trained(rows, [0], [1, 2], {0: 2.0})
    np.testing.assert_allclose(found, [[[0.4, 0.2]], [[0.3, 0.15]]])


def test_the_margin_of_the_minimum_follows_the_law_where_its_logarithm_is_long():
    """At λ = 1e-16, on the line, where only estimates are left: γ/γ* within 3e-5 of what the dual solution says."""
    (limit,) = Study("margin_line_limit", None, claims.RESULTS).read()[:1]
    row = claim_margin_limit.cell("line", 12, 2, 0, 1e-16)
    assert row["gap"] < 1e-6 < row["proven_gap"]
    assert row["margin"] / limit["margin"] == pytest.approx(float(claim_margin.predicted(1e-16, limit)), abs=3e-5)
