"""The iterative solver against the dense one, and its parts against theirs."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse.linalg import eigsh
from sklearn.exceptions import ConvergenceWarning

from meanfield.kernels import (
    ConjugateGradients,
    Interpolation,
    IterativePath,
    IterativeRidge,
    NeuronKernel,
    NystromRidge,
    ReluKernel,
    Ridge,
    StreamedCentres,
    StreamedGram,
    class_targets,
    paper_data,
    preconditioner,
    relu_ntk,
    rounds,
)
from meanfield.kernels.conjugate_gradients import advance, begin
from meanfield.kernels.partial_cholesky import partial_cholesky
from meanfield.kernels.preconditioner import LowRankPlus

BESIDE = Path(sys.executable).parent / "mpiexec"  # where the wheel of MPICH puts it
FEW = ConjugateGradients(rank=2, tolerance=1e-15, max_iterations=1)
MPIEXEC = str(BESIDE) if BESIDE.exists() else shutil.which("mpiexec")


def cloud(n, d, seed=0):
    """Points, a tenth of them duplicates of others and a tenth within 1e-9 of others, one zero."""
    rng = np.random.default_rng(seed)
    X, tenth = rng.normal(size=(n, d)), n // 10
    X[tenth : 2 * tenth] = X[:tenth]
    X[2 * tenth : 3 * tenth] = X[:tenth] + 1e-9 * rng.normal(size=(tenth, d))
    X[-1] = 0
    return X


def targets(X):
    """Four outputs: a smooth one, signs, three classes' worth of dependent ones, and nothing."""
    signs = np.sign(X[:, 0] * X[:, 1])
    return np.stack([np.sin(X[:, 0]) + X[:, 1], signs, -2 * signs, 0 * signs], axis=1)


def away(found, dense, X, Z, kernel):
    """The largest relative difference of predictions at Z, over outputs."""
    K = kernel.gram(Z, X)
    a, b = found.predict(K), dense.predict(K)
    lengths = np.linalg.norm(b, axis=0)
    return (np.linalg.norm(a - b, axis=0) / np.where(lengths > 0, lengths, 1)).max()


@pytest.mark.parametrize("n", [1, 255, 256, 700])
def test_products_and_columns_are_the_matrix(n):
    """K V of both kinds of kernel, one vector, several, many, and columns; float32 products err by 1e-7 trace K."""
    X, rng = np.random.default_rng(n).normal(size=(n, 5)), np.random.default_rng(1)
    for kernel in (ReluKernel(3, 1.2, 0.8), NeuronKernel("erf")):
        K, gram = kernel.gram(X), StreamedGram(X, kernel)
        for V in (rng.normal(size=n), rng.normal(size=(n, 3)), rng.normal(size=(n, 70))):
            np.testing.assert_allclose(gram.dot(V), K @ V, atol=1e-13 * np.trace(K))
            np.testing.assert_allclose(gram.dot(V, products="float32"), K @ V, atol=1e-7 * np.trace(K))
        which = np.array([n - 1, 0, n // 2])
        np.testing.assert_allclose(gram.columns(which), K[:, which], atol=1e-13 * K.max())
        np.testing.assert_allclose(gram.diagonal(), np.diag(K), rtol=1e-14)


def test_products_have_the_same_bits_for_any_number_of_threads_and_bands(monkeypatch):
    """1 or 3 threads; and the order of addition is that of the bands, so that other bands round otherwise."""
    from meanfield.kernels import streamed

    X, V = cloud(2000, 6), np.random.default_rng(0).normal(size=(2000, 2))
    one, three = (StreamedGram(X, threads=threads).dot(V) for threads in (1, 3))
    assert np.array_equal(one, three)
    monkeypatch.setattr(streamed, "BANDS", 3)
    other = StreamedGram(X).dot(V)
    np.testing.assert_allclose(other, one, atol=1e-10)
    assert not np.array_equal(other, one)


def test_the_partial_factor_is_a_cholesky_factor():
    """Pivots' rows are reproduced, the rest is positive semidefinite with the diagonal it is said to have.

    It is near the best of its rank, and stops where duplicates leave nothing.
    """
    X = cloud(300, 4)
    gram, K = StreamedGram(X), relu_ntk(X)
    part = partial_cholesky(gram, 80, seed=3)
    left = K - part.factor @ part.factor.T
    assert len(set(part.pivots)) == 80
    np.testing.assert_allclose(left[part.pivots], 0, atol=1e-12)
    np.testing.assert_allclose(np.diag(left), part.rest, atol=1e-11)
    assert np.linalg.eigvalsh(left)[0] > -1e-10
    best = np.linalg.eigvalsh(K)[:-80].sum()
    assert best <= part.rest.sum() < 3 * best
    assert np.array_equal(part.pivots, partial_cholesky(gram, 80, seed=3).pivots)
    assert partial_cholesky(gram, 300, enough=part.rest.sum()).rest.sum() <= part.rest.sum()
    doubled = StreamedGram(np.tile(X[150:250], (3, 1)))
    assert len(partial_cholesky(doubled, 300).pivots) <= 100


def test_the_roots_are_those_of_the_matrix():
    """M^{½} squared is F Fᵀ + shift I, and M^{−½} is its inverse, over twelve orders of magnitude."""
    rng = np.random.default_rng(0)
    F, V = rng.normal(size=(50, 8)) * np.logspace(0, -6, 8), rng.normal(size=(50, 3))
    M = F @ F.T + 1e-6 * np.eye(50)
    low = LowRankPlus(np.asfortranarray(F), 1e-6)
    np.testing.assert_allclose(low.root(low.root(V)), M @ V, atol=1e-12)
    np.testing.assert_allclose(low.root(low.inverse_root(V)), V, atol=1e-10)


def test_eigenvectors_above_a_gap_are_made_sharp(monkeypatch):
    """D has a gap after 1 + d eigenvalues: those are K's to 1 %, and 15 to 60 % too low as the columns tell them.

    That saves a third of the iterations. Where there is no gap nothing is multiplied.
    """
    X, y = paper_data(2500, 60)
    gram = StreamedGram(X)
    true = eigsh(relu_ntk(X), 62, return_eigenvectors=False)[::-1]
    assert true[60] > 3 * true[61]
    sharp = preconditioner.preconditioner(gram, 1e-3, 100)
    np.testing.assert_allclose(sharp.eigenvalues[:61], true[:61], rtol=0.01)
    steps = []
    for gap in (preconditioner.GAP, np.inf):
        monkeypatch.setattr(preconditioner, "GAP", gap)
        steps.append(IterativeRidge(1e-3, ConjugateGradients(rank=100, tolerance=1e-5)).fit(gram, y).iterations)
    assert (preconditioner.preconditioner(gram, 1e-3, 100).eigenvalues[1:61] < 0.85 * true[1:61]).all()
    assert steps[0] < 0.67 * steps[1]
    monkeypatch.undo()
    monkeypatch.setattr(preconditioner, "_sharpened", None)
    preconditioner.preconditioner(StreamedGram(cloud(500, 3)), 1e-3, 60)


def test_block_conjugate_gradients_end_in_as_many_steps_as_there_are_eigenvalues():
    """Three right-hand sides, two of them dependent and one zero besides; residuals of the recursion are true."""
    rng = np.random.default_rng(1)
    V = np.linalg.qr(rng.normal(size=(40, 40)))[0]
    A = V * np.repeat([1.0, 5.0, 30.0, 100.0], 10) @ V.T
    B = rng.normal(size=(40, 1)) * np.array([1.0, -2.0, 0.0]) + np.eye(40, 3) * np.array([0.0, 0.0, 1.0])
    B = np.column_stack([B, np.zeros(40)])
    state = begin(B)
    for _ in range(4):
        state = advance(lambda P: A @ P, state)
        np.testing.assert_allclose(state.residual, B - A @ state.x, atol=1e-10)
    np.testing.assert_allclose(A @ state.x, B, atol=1e-9)


@pytest.mark.parametrize("products", ["float64", "float32"])
@pytest.mark.parametrize("reg", [1.0, 1e-3, 1e-6])
def test_predictions_are_those_of_the_dense_solve(reg, products):
    """To 1e-6 relative in every output, with duplicates, near duplicates, a zero point; at a rank far below n."""
    X, Z, kernel = cloud(700, 5), cloud(150, 5, seed=1), ReluKernel()
    found = IterativeRidge(reg, ConjugateGradients(rank=150, products=products)).fit(StreamedGram(X), targets(X))
    assert found.converged
    assert found.iterations > 2
    dense = Ridge(reg).fit(kernel.gram(X), targets(X))
    assert away(found, dense, X, Z, kernel) < 1e-6
    np.testing.assert_allclose(found.fitted, kernel.gram(X) @ found.coef, atol=1e-9)
    left = targets(X) - kernel.gram(X) @ found.coef - reg * found.coef
    lengths = np.linalg.norm(targets(X), axis=0)
    assert found.residual == pytest.approx((np.linalg.norm(left, axis=0)[:3] / lengths[:3]).max(), rel=0.02)
    assert not found.coef[:, 3].any()


@pytest.mark.parametrize("kernel", [ReluKernel(4, 1.1, 0.7), NeuronKernel("erf")])
def test_interpolation_is_the_dense_one(kernel):
    """reg 0: the same predictions to 1e-6, with agreeing duplicates too, where K is singular."""
    rng = np.random.default_rng(2)
    X, Z = rng.normal(size=(400, 12)), rng.normal(size=(100, 12))
    X[200:260] = X[:60]
    _, y = class_targets((X[:, :3]).argmax(axis=1))
    found = IterativeRidge(0, ConjugateGradients(rank=100)).fit(StreamedGram(X, kernel), y)
    assert found.converged
    assert away(found, Interpolation().fit(kernel.gram(X), y), X, Z, kernel) < 1e-6


def test_what_does_not_converge_says_so():
    """Duplicates with different targets have no interpolant; few iterations are few: a warning, and `converged`."""
    X, y = np.tile(cloud(100, 4), (2, 1)), np.repeat([1.0, -1.0], 100)
    with pytest.warns(ConvergenceWarning, match="equal points"):
        found = IterativeRidge(0, ConjugateGradients(max_iterations=50)).fit(StreamedGram(X), y)
    assert not found.converged
    assert found.residual > 0.5
    X = cloud(600, 5)
    few = ConjugateGradients(rank=20, max_iterations=4)
    with pytest.warns(ConvergenceWarning, match="after 4 iterations at rank 20"):
        found = IterativeRidge(1e-4, few).fit(StreamedGram(X), X[:, 0] ** 2)
    left = X[:, 0] ** 2 - relu_ntk(X) @ found.coef - 1e-4 * found.coef
    assert found.residual == pytest.approx(np.linalg.norm(left) / np.linalg.norm(X[:, 0] ** 2), rel=1e-6)
    assert 1e-8 < found.residual < 1


def noisy(n=300):
    X, rng = np.random.default_rng(20).normal(size=(n, 5)), np.random.default_rng(21)
    return X, np.stack([np.abs(X[:, 0]) + 0.3 * rng.normal(size=n), X[:, 1] * X[:, 2]], axis=1)


def exact_score(K, y, w, reg):
    """Generalized cross-validation of rows repeated w times, a part of one being left out whole, by an inverse."""
    root = np.sqrt(w)[:, None]
    unexplained = reg * np.linalg.inv(root * K * root.T + reg * np.eye(len(K)))
    left = w.sum() - np.minimum(w, 1) @ (1 - np.diag(unexplained))
    return w.sum() * ((unexplained @ (root * y)) ** 2).sum(axis=0).mean() / left**2


def test_the_score_of_a_path_errs_by_what_it_says():
    """Of 30 independent scores the deviations from the exact ones have the root mean square of their standard errors.

    A mean square of 30 is between 0.4 and 1.9 in all but 1 of 500 cases. A weight of 2 is an example twice.
    """
    X, y = noisy()
    K, w, deviations = relu_ntk(X), np.repeat([2.0, 0.5, 1.0], [60, 60, 180]), []
    for reg in (30.0, 1.0, 1e-2):
        exact = exact_score(K, y, w, reg)
        for seed in range(10):
            path = IterativePath([reg], ConjugateGradients(rank=100, seed=seed)).fit(StreamedGram(X), y, w)
            deviations.append((path.scores[0] - exact) / path.errors[0])
            assert path.errors[0] < 0.03 * exact
    assert 0.4 < np.square(deviations).mean() < 1.9


def test_the_choice_of_a_path_is_that_with_the_matrix():
    """By exact scores on the same path, which ends where they are twice the lowest; there all n directions are fitted
    where the noise is less."""
    X, y = noisy()
    K, path = relu_ntk(X), IterativePath().fit(StreamedGram(X), y)
    exact = np.array([exact_score(K, y, np.ones(300), reg) for reg in path.regs])
    assert path.reg == path.regs[exact.argmin()]
    assert path.freedom[-1] == pytest.approx(300, rel=1e-3)
    noise = IterativePath().fit(StreamedGram(X[:, :2]), np.random.default_rng(23).normal(size=300))
    assert noise.scores[-1] > 2 * noise.scores.min()
    assert len(noise.regs) < 10 == len(path.regs)


@pytest.mark.parametrize("products", ["float64", "float32"])
@pytest.mark.parametrize("reg", [1.0, 1e-3])
def test_the_ridge_on_centres_is_the_least_of_its_objective(reg, products):
    """Predictions of the normal equations to 1e-6, three outputs; norm and fitted are f's; equal centres do no harm."""
    X, Z, kernel = cloud(900, 5), cloud(100, 5, seed=1), ReluKernel()
    y, some = targets(X), StreamedCentres(X, 200, seed=2)
    found = NystromRidge(reg, ConjugateGradients(products=products)).fit(some, y)
    assert found.converged
    assert 2 < found.iterations < 80
    assert 100 < len(some.centres) < 200
    K, K_MM = kernel.gram(X, some.centres), kernel.gram(some.centres)
    np.testing.assert_allclose(some.factor @ some.factor.T, K_MM, atol=1e-12)
    stacked = np.vstack([K, np.sqrt(reg) * some.factor.T])
    coef = np.linalg.lstsq(stacked, np.vstack([y, np.zeros((len(K_MM), 4))]))[0]
    expected, predicted = (kernel.gram(Z, some.centres) @ c for c in (coef, found.coef))
    assert (np.linalg.norm(predicted - expected, axis=0) <= 1e-6 * np.linalg.norm(expected, axis=0)).all()
    np.testing.assert_allclose(found.fitted, K @ found.coef, atol=1e-10)
    assert found.norm == pytest.approx(np.sqrt(np.sum(found.coef * (K_MM @ found.coef))), rel=1e-6)


def test_all_points_as_centres_are_the_ridge_and_fewer_come_near_it():
    """The distance of predictions from the whole ridge's falls with M, to the tolerance at M = n."""
    X, Z, kernel = cloud(600, 4), cloud(100, 4, seed=1), ReluKernel()
    y = np.sin(X[:, 0]) * X[:, 1]
    whole = Ridge(0.1).fit(kernel.gram(X), y).predict(kernel.gram(Z, X))
    errors = []
    for M in (60, 240, 600):
        some = StreamedCentres(X, M)
        found = NystromRidge(0.1).fit(some, y).predict(kernel.gram(Z, some.centres))
        errors.append(np.linalg.norm(found - whole) / np.linalg.norm(whole))
    assert errors[0] > 1.5 * errors[1] > 1e4 * errors[2]
    assert errors[2] < 1e-6


@pytest.mark.parametrize("X", [np.ones((1, 3)), np.ones((4, 1)), np.zeros((3, 2)), np.ones((5, 4))])
def test_degenerate_inputs_give_finite_answers(X):
    """One point, one feature, zeros: the dense ridge's predictions, more outputs than points too."""
    K = relu_ntk(X)
    for y in (np.ones(len(X)), np.ones((len(X), 7)) * np.arange(7)):
        found = IterativeRidge(0.1).fit(StreamedGram(X), y)
        np.testing.assert_allclose(found.predict(K), Ridge(0.1).fit(K, y).predict(K), atol=1e-7)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda gram: IterativeRidge(-1), "reg"),
        (lambda gram: ConjugateGradients(rank=-1), "rank"),
        (lambda gram: ConjugateGradients(tolerance=0), "tolerance"),
        (lambda gram: ConjugateGradients(products="half"), "products"),
        (lambda gram: ConjugateGradients(max_iterations=0), "max_iterations"),
        (lambda gram: ConjugateGradients(save_every=-1), "save_every"),
        (lambda gram: IterativeRidge().fit(gram, np.ones(3)), "y has shape"),
        (lambda gram: IterativeRidge().fit(gram, np.full(2, np.nan)), "NaN"),
        (lambda gram: gram.dot(np.ones(3)), "V has shape"),
        (lambda gram: NystromRidge(0), "reg"),
        (lambda gram: IterativePath([0.0]), "reg"),
        (lambda gram: IterativePath(probes=1), "probes"),
        (lambda gram: IterativePath(method=FEW).fit(StreamedGram(cloud(99, 3)), np.arange(99)), "max_iterations = 1:"),
        (lambda gram: StreamedCentres(np.eye(2), 3), "centres = 3: expected a whole number from 1 to the 2 points"),
        (lambda gram: StreamedCentres(np.zeros((2, 2)), 2), "zero at every centre"),
        (lambda gram: NystromRidge().fit(StreamedCentres(np.eye(2), 1), np.ones(3)), "y has shape"),
    ],
)
def test_bad_input_is_named(action, message):
    with pytest.raises(ValueError, match=message):
        action(StreamedGram(np.eye(2)))


SOLVE = """
import sys, time
import numpy as np
from meanfield.kernels import ConjugateGradients, IterativeRidge, StreamedGram, rounds
written = rounds.save_solve
def slowly(*arguments):
    written(*arguments)
    print("saved", flush=True)
    time.sleep(0.05)
rounds.save_solve = slowly
X, y = np.load(sys.argv[1])["X"], np.load(sys.argv[1])["y"]
method = ConjugateGradients(rank=40, products="float32", out=sys.argv[2], save_every=0.0)
IterativeRidge(1e-3, method).fit(StreamedGram(X), y)
"""


def test_a_killed_solve_goes_on_to_the_same_bits(tmp_path):
    """SIGKILL after seven saved steps; the rest is done here: coefficients and iterations are those of one go."""
    X = cloud(500, 5)
    y, out = targets(X)[:, :2], tmp_path / "solve.npz"
    np.savez(tmp_path / "data.npz", X=X, y=y)
    line = [sys.executable, "-c", SOLVE, str(tmp_path / "data.npz"), str(out)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
        for _ in range(7):
            assert process.stdout.readline() == "saved\n"
        process.kill()
    method = ConjugateGradients(rank=40, products="float32")
    whole = IterativeRidge(1e-3, method).fit(StreamedGram(X), y)
    with np.load(out) as kept:
        assert 7 <= kept["iterations"] < whole.iterations
    steps = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounds, "advance", lambda *arguments: steps.append(0) or advance(*arguments))
        rest = IterativeRidge(1e-3, replace(method, out=out)).fit(StreamedGram(X), y)
    assert np.array_equal(rest.coef, whole.coef)
    assert rest.iterations == whole.iterations > len(steps) > 0


def test_a_file_is_refused_that_is_damaged_or_of_another_solve(tmp_path):
    """By hash, by data and by settings; more iterations and another tolerance are no other solve."""
    X, out = cloud(300, 5), tmp_path / "solve.npz"
    method = ConjugateGradients(rank=30, out=out, tolerance=1e-3)
    first = IterativeRidge(1e-2, method).fit(StreamedGram(X), X[:, 0])
    for reg, points, y in ((1e-3, X, X[:, 0]), (1e-2, 2 * X, X[:, 0]), (1e-2, X, X[:, 1])):
        with pytest.raises(ValueError, match="other data or settings"):
            IterativeRidge(reg, method).fit(StreamedGram(points), y)
    further = IterativeRidge(1e-2, replace(method, tolerance=1e-9)).fit(StreamedGram(X), X[:, 0])
    assert further.residual <= 1e-9 < first.residual
    assert further.iterations > first.iterations
    whole, half = out.read_bytes(), out.stat().st_size // 2
    for damaged in (
        whole[:-100],
        whole.replace(b"residual", b"residuum"),
        b"",
        whole[:half] + bytes([whole[half] ^ 1]) + whole[half + 1 :],
    ):
        out.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"solve\.npz: damaged"):
            IterativeRidge(1e-2, method).fit(StreamedGram(X), X[:, 0])


def test_progress_tells_residual_and_time_left(capsys):
    """A line on stderr, nothing on stdout; nothing at all unless asked for."""
    X = cloud(300, 5)
    IterativeRidge(1e-2, ConjugateGradients(rank=30)).fit(StreamedGram(X), X[:, 0])
    assert "solve" not in capsys.readouterr().err
    IterativeRidge(1e-2, ConjugateGradients(rank=30, progress=True)).fit(StreamedGram(X), X[:, 0])
    out, error = capsys.readouterr()
    assert out == ""
    assert "solve: iteration 1, residual " in error


RANKS = """
import sys
import numpy as np
from meanfield.kernels import ConjugateGradients, IterativeRidge, NystromRidge, StreamedCentres, StreamedGram
from meanfield.runtime.communicator import world
X, y = np.load(sys.argv[1])["X"], np.load(sys.argv[1])["y"]
gram = StreamedGram(X, ranks=world(), threads=1)
ridge = IterativeRidge(1e-2, ConjugateGradients(rank=60, products="float32")).fit(gram, y)
try:
    IterativeRidge(1e-2, ConjugateGradients(out=sys.argv[1])).fit(gram, y)
except ValueError as error:
    refused = "damaged" in str(error)
some = NystromRidge(1e-2).fit(StreamedCentres(X, 100, ranks=world(), threads=1), y)
np.savez(f"{sys.argv[2]}-{world().rank}.npz", coef=ridge.coef, norm=ridge.norm, refused=refused, some=some.coef)
"""


@pytest.mark.slow
@pytest.mark.skipif(MPIEXEC is None, reason="no mpiexec")
def test_any_number_of_ranks_finds_the_same_bits(tmp_path):
    """Two ranks and this process: coefficients, on every rank; what one cannot do fails on all."""
    pytest.importorskip("mpi4py")
    X = cloud(900, 5)
    y = targets(X)[:, :2]
    np.savez(tmp_path / "data.npz", X=X, y=y)
    line = [MPIEXEC, "-n", "2", sys.executable, "-c", RANKS, str(tmp_path / "data.npz"), str(tmp_path / "rank")]
    subprocess.run(line, check=True, timeout=120)
    alone = IterativeRidge(1e-2, ConjugateGradients(rank=60, products="float32")).fit(StreamedGram(X), y)
    for rank in range(2):
        with np.load(tmp_path / f"rank-{rank}.npz") as found:
            assert np.array_equal(found["coef"], alone.coef)
            assert found["norm"] == alone.norm
            assert np.array_equal(found["some"], NystromRidge(1e-2).fit(StreamedCentres(X, 100), y).coef)
            assert found["refused"]
