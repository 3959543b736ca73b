"""Proofs in files: what is kept is proven once more, by us and by others, and whatever is altered proves no lie."""

import itertools
import os

import h5py
import mpmath
import numpy as np
import pytest
from own_losses import Huber

from meanfield import Ensemble, InputError, Problem, RunFileError, certify, exact
from meanfield.losses import Squared
from meanfield.optimality.duality import dual_bound
from meanfield.optimality.proof_check import covers_sphere
from meanfield.optimality.proof_file import save_proof, verify_proof
from meanfield.optimality.rows import effective_rows
from meanfield.storage import hdf5


def case(seed, loss="logistic", n=6, d=4, outputs=1):
    """A small problem and an ensemble with a gap to it; at d = 4 its proof is by signs."""
    rng = np.random.default_rng(seed)
    y = rng.standard_normal((n, outputs)) if loss == "squared" else np.arange(n) % max(2, outputs)
    problem = Problem(rng.standard_normal((n, d)), y, loss=loss, reg=2e-2)
    return problem, Ensemble.sphere(64, d, problem.outputs, seed=seed)


def by_signs(monkeypatch, problem, ensemble, **wanted):
    """A certificate whose proof is by signs even where cones would do."""
    monkeypatch.setattr("meanfield.optimality.proof.bound_on_sphere", lambda *_, **__: None)
    found = certify(problem, ensemble, effort=0.05, method="proven", keep=True, **wanted)
    assert found.leaves
    return found


def kept(monkeypatch, path, problem, ensemble):
    found = by_signs(monkeypatch, problem, ensemble)
    save_proof(path, problem, ensemble, found)
    return found


KINDS = [("logistic", 1), ("squared", 1), ("squared", 2), ("cross_entropy", 2), ("cross_entropy", 3)]


@pytest.mark.parametrize(("loss", "outputs"), KINDS)
@pytest.mark.parametrize("signs", [True, False])
def test_a_proof_that_was_kept_holds(monkeypatch, tmp_path, loss, outputs, signs):
    """With the certificate's bound; by cones nothing but the dual point is kept."""
    path, (problem, ensemble) = tmp_path / "proof.h5", case(1, loss, 8, 3, outputs)
    if signs:
        found = kept(monkeypatch, path, problem, ensemble)
    else:
        found = certify(problem, ensemble, effort=0.05, keep=True)
        save_proof(path, problem, ensemble, found)
    assert bool(found.leaves) == signs == ("leaves" in hdf5.read(path))
    checked = verify_proof(path)
    assert (checked.holds, checked.reason) == (True, "")
    assert 0 < found.lower_bound * (1 - 2e-9) <= checked.claim <= found.lower_bound
    assert checked.lower_bound >= checked.claim
    assert checked.lower_bound <= exact.optimum(problem).value
    assert (checked.primal, checked.step) == (found.primal, ensemble.step)
    assert checked.is_of(problem, ensemble)
    assert not checked.is_of(problem, Ensemble.sphere(64, 3, problem.outputs, seed=2))
    assert not checked.is_of(problem.with_schedules(reg=0.03), ensemble)


# ---- an independent check, in 40 digits ------------------------------------------------------------------------------


def forms(unit, weight, signs, side):
    """The entries of v, and G (C rows), as linear forms in g = (u, h), by the words of the module; mpmath matrices."""
    n, d = len(unit), unit[0].cols
    mixed = [i for i in range(n) if signs[i] == 0]
    size = d + len(mixed)

    def form(i, of_u, of_h):
        row = mpmath.zeros(1, size)
        row[0, :d] = of_u * unit[i]
        if signs[i] == 0:
            row[0, d + mixed.index(i)] += of_h
        return row

    p = [form(i, int(signs[i] > 0), 1) if signs[i] >= 0 else mpmath.zeros(1, size) for i in range(n)]
    q = [form(i, -1, 1) if signs[i] <= 0 else mpmath.zeros(1, size) for i in range(n)]
    up, down = weight
    G = sum((up[i].T * p[i] + down[i].T * q[i] for i in range(n)), mpmath.zeros(up[0].cols, size))
    v = [p[i] for i in mixed] + [q[i] for i in mixed]
    v += [p[i] for i in range(n) if signs[i] > 0] + [q[i] for i in range(n) if signs[i] < 0]
    if side:
        total = mpmath.sqrt(sum(mpmath.norm(one) ** 2 for one in (*up, *down)))
        v.append(side * G / total)
    return v, G, mixed


def semidefinite(A, n, d):
    """Whether gᵀA g ≥ 0 wherever ‖h‖² ≤ n‖u‖², as holds for unit rows: A ⪰ μ (n‖u‖² − ‖h‖²) for some μ ≥ 0."""
    for mu in (0, *(mpmath.mpf(10) ** -k for k in range(18, 10, -1))):
        shifted = A.copy()
        for j in range(A.rows):
            shifted[j, j] += mu if j >= d else -mu * n
        if mpmath.eigsy(shifted, eigvals_only=True)[0] >= 0:
            return True
    return False


def in_digits(path, norm):
    """Assert, from the file alone and the definitions, that ‖G_a‖ ≤ norm over the sphere; X and a in mpmath."""
    with h5py.File(path) as file:
        X, a, sides, signs, M = (
            file[name][()] for name in ("problem/X", "dual", "leaves/side", "leaves/signs", "leaves/M")
        )
    rows = effective_rows(X / np.linalg.norm(X, axis=1).max(), a)
    facing = np.sign(np.sum(rows.X @ rows.basis * X, axis=1))  # order and orientation; the numbers are our own
    n, d = X.shape
    longest = max(mpmath.norm(mpmath.matrix(x)) for x in X.tolist())
    unit, up, down = [], [], []
    for x, weight, side in zip(X.tolist(), a.tolist(), facing, strict=True):
        x, length = mpmath.matrix(x).T, mpmath.norm(mpmath.matrix(x))
        unit.append(x * int(side) / length)
        weight, nothing = mpmath.matrix(weight).T * length / longest, mpmath.zeros(1, len(weight))
        up.append(weight if side > 0 else nothing)
        down.append(weight if side < 0 else nothing)
    t, start = (mpmath.mpf(norm) / longest) ** 2, 0
    for side, known in zip(sides.tolist(), signs.tolist(), strict=True):
        v, G, mixed = forms(unit, (up, down), known, side)
        A = -G.T * G
        for j in range(d):
            A[j, j] += t
        for i, j in zip(*np.tril_indices(len(v)), strict=True):
            entry = mpmath.mpf(float(M[start]))
            start += 1
            assert entry >= 0 or (i == j + len(mixed) and j < len(mixed)), "M is negative where v_i v_j may be positive"
            A -= (1 if i == j else 2) * entry * (v[i].T * v[j] + v[j].T * v[i]) / 2
        assert semidefinite(A, n, d)
    assert start == len(M)
    for side in sorted(set(sides.tolist())):
        cells = signs[sides == side]
        for pattern in itertools.product((1, -1), repeat=n):
            assert np.any(np.all((cells == 0) | (cells == pattern), axis=1))
    assert sorted(set(sides.tolist())) == ([-1, 1] if a.shape[1] == 1 else [0])


def conjugate(loss, a, targets):
    """R*(a) in mpmath for a (n, C) of mpmath numbers in its domain."""
    n = len(a)
    if loss == "squared":
        return sum(n * x**2 / 2 + x * y for row, t in zip(a, targets, strict=True) for x, y in zip(row, t, strict=True))
    if loss == "logistic":
        p = [-n * row[0] * t for row, t in zip(a, targets, strict=True)]
        law = [(one, 1 - one) for one in p]
    else:
        law = [[n * x + (c == t) for c, x in enumerate(row)] for row, t in zip(a, targets, strict=True)]
    assert all(0 <= x <= 1 for row in law for x in row)
    return sum(x * mpmath.log(x) for row in law for x in row if x > 0) / n


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("loss", "outputs"), KINDS[:4])
@pytest.mark.parametrize(("n", "d"), [(6, 3), (4, 4), (5, 2)])
def test_what_is_proven_is_proven_in_forty_digits(monkeypatch, tmp_path, loss, outputs, n, d, seed):
    """Matrices by eigenvalues, cover by all patterns of signs, and −R*(s a) at a feasible s, at least the bound."""
    path, (problem, ensemble) = tmp_path / "proof.h5", case(seed, loss, n, d, outputs)
    found = kept(monkeypatch, path, problem, ensemble)
    with mpmath.workdps(40):
        in_digits(path, found.max_norm)
        dual = hdf5.read(path)["dual"]
        a, off = [[mpmath.mpf(x) for x in row] for row in dual.tolist()], mpmath.mpf(0)
        if loss == "cross_entropy":  # rows sum to zero but for rounding: what that moves ‖G‖ by is added to it
            for row, x, t in zip(a, problem.X.tolist(), problem.targets.tolist(), strict=True):
                off += abs(sum(row)) * mpmath.norm(mpmath.matrix(x))
                row[t] -= sum(row)
        highest = 2 * mpmath.mpf(problem.reg.end) / (found.max_norm + off)
        _, s = dual_bound(problem.loss, problem.targets, dual, found.max_norm, problem.reg.end)
        s = min(mpmath.mpf(s), highest)
        value = -conjugate(loss, [[s * x for x in row] for row in a], problem.targets.tolist())
        assert value >= found.lower_bound
        assert value <= found.lower_bound * (1 + mpmath.mpf(10) ** -9)


# ---- what was altered ------------------------------------------------------------------------------------------------


def written(tmp_path, tree, **changes):
    """The tree with other values, by paths with __ for /, as a file with checksums of its own."""
    tree = {name: dict(one) if isinstance(one, dict) else one for name, one in tree.items()}
    for name, value in changes.items():
        *groups, leaf = name.split("__")
        place = tree[groups[0]] if groups else tree
        place[leaf] = value(place[leaf]) if callable(value) else value
    hdf5.write(tmp_path / "altered.h5", tree)
    return tmp_path / "altered.h5"


@pytest.fixture
def tree(monkeypatch, tmp_path):
    problem, ensemble = case(0, n=8)
    kept(monkeypatch, tmp_path / "proof.h5", problem, ensemble)
    found = hdf5.read(tmp_path / "proof.h5")
    assert len(found["leaves"]["side"]) > 2
    return found


def entry(k, by):
    """Add to entry k of an array."""

    def change(array):
        array = array.copy()
        array.flat[k] += by
        return array

    return change


def sizes_of(leaves):
    """N of each matrix, for C = 1."""
    return [len(one) + int(np.sum(one == 0)) + 1 for one in leaves["signs"]]


def diagonals(tree):
    """1 where M holds an entry of a diagonal, else 0."""
    return np.concatenate([np.eye(size)[np.tril_indices(size)] for size in sizes_of(tree["leaves"])])


def only(tree, chosen):
    """These of the leaves."""
    leaves = tree["leaves"]
    ends = np.cumsum([0] + [size * (size + 1) // 2 for size in sizes_of(leaves)])
    M = np.concatenate([leaves["M"][ends[k] : ends[k + 1]] for k in chosen])
    return {"side": leaves["side"][chosen], "signs": leaves["signs"][chosen], "M": M}


def test_a_claim_that_was_raised_is_found_out(tmp_path, tree):
    claim = tree["claim"]["lower_bound"]
    checked = verify_proof(written(tmp_path, tree, claim__lower_bound=claim * (1 + 1e-3)))
    assert not checked.holds
    assert "claims" in checked.reason
    assert checked.lower_bound >= claim


@pytest.mark.parametrize(
    "change",
    [
        {"leaves__M": entry(0, 0.1)},
        {"leaves__M": lambda M: 1e300 * (M + 1)},
        {"problem__reg": lambda reg: reg * 0.999},
        {"problem__X": lambda X: X * 1.001},
        {"problem__X": entry(0, 1.0)},
        {"dual": entry(0, 1e-2)},
        {"dual": lambda a: -a},
        {"problem__targets": lambda t: -t},
        {"leaves__side": np.abs},
        {"leaves__signs": lambda signs: np.abs(signs)},
        {"problem__loss": "Squared()", "problem__targets": lambda t: t[:, None]},
    ],
)
def test_other_numbers_do_not_support_the_claim(tmp_path, tree, change):
    """Of the matrices, the dual point, the problem, the cells: the file is in order, and proves less."""
    assert verify_proof(written(tmp_path, tree)).holds
    try:
        checked = verify_proof(written(tmp_path, tree, **change))
    except RunFileError:
        return
    assert not checked.holds
    assert checked.lower_bound < checked.claim
    assert checked.reason


def test_no_leaf_can_be_left_out(tmp_path, tree):
    """Nor all of one side of G."""
    side = tree["leaves"]["side"]
    assert verify_proof(written(tmp_path, tree, leaves=only(tree, np.arange(len(side))[::-1]))).holds
    fewer = [np.delete(np.arange(len(side)), cell) for cell in range(len(side))]
    for chosen in (*fewer, np.flatnonzero(side > 0), np.flatnonzero(side < 0)):
        checked = verify_proof(written(tmp_path, tree, leaves=only(tree, chosen)))
        assert not checked.holds
        assert checked.lower_bound == 0
        assert "sphere" in checked.reason or "sides" in checked.reason


def test_what_is_not_part_of_the_proof_may_be_anything(tmp_path, tree):
    """Where the check begins, and what is stated: they decide nothing."""
    d = tree["problem"]["X"].shape[1]
    checked = verify_proof(written(tmp_path, tree, start=np.eye(d)[1], claim__primal=5.0))
    assert checked.holds
    assert checked.primal == 5.0


@pytest.mark.parametrize("seed", range(40))
def test_whatever_a_file_says_no_bound_is_above_the_minimum(tmp_path, tree, seed):
    """Of the problem that it states: random changes of all parts, small and large, never prove a lie."""
    rng = np.random.default_rng(seed)
    size = 10.0 ** rng.uniform(-6, 1)
    changes = {
        "leaves__M": lambda M: (
            M + size * np.abs(M).max() * rng.choice([rng.standard_normal(M.shape), -diagonals(tree)])
        ),
        "dual": lambda a: a + size * np.abs(a).max() * rng.standard_normal(a.shape),
        "problem__X": lambda X: X + size * rng.standard_normal(X.shape),
        "problem__reg": lambda reg: float(reg * rng.uniform(0.5, 2)),
        "leaves__signs": lambda s: s * rng.choice(np.array([-1, 1], np.int8), size=s.shape),
    }
    chosen = rng.choice(list(changes), size=rng.integers(1, 4), replace=False)
    try:
        checked = verify_proof(written(tmp_path, tree, **{name: changes[name] for name in chosen}))
    except RunFileError:
        return
    assert checked.lower_bound <= exact.optimum(checked.problem, effort=0.05).value


@pytest.mark.parametrize("scale", [1e-170, 1e-200])
def test_numbers_whose_squares_vanish_prove_nothing(tmp_path, tree, scale):
    """A dual point of no length that float64 can see would pull nothing, and s a be as good as without λ."""
    tree = {name: one for name, one in tree.items() if name != "leaves"}
    for change in ({"dual": lambda a: a * scale}, {"problem__X": lambda X: X * scale, "problem__reg": 1e-305}):
        with pytest.raises(RunFileError, match=r"must be between|too small"):
            verify_proof(written(tmp_path, tree, **change))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"leaves__M": lambda M: M[:-1]}, "entries of M"),
        ({"leaves__M": entry(3, np.nan)}, "M"),
        ({"leaves__signs": lambda signs: 2 * signs}, "signs"),
        ({"leaves__side": lambda side: side[1:]}, "signs"),
        ({"leaves__side": lambda side: side.astype(float)}, "side"),
        ({"dual": lambda a: a[1:]}, "dual"),
        ({"dual": entry(0, np.inf)}, "dual"),
        ({"dual": "text"}, "dual"),
        ({"problem__X": lambda X: X[0]}, "X"),
        ({"problem__X": entry(0, np.nan)}, "X"),
        ({"problem__reg": -1.0}, "reg"),
        ({"problem__reg": "small"}, "reg"),
        ({"problem__targets": lambda t: 2 * t}, "targets"),
        ({"problem__loss": "Hinge()"}, "Hinge"),
        ({"claim__lower_bound": np.nan}, "lower_bound"),
        ({"problem": {}}, "X"),
        ({"claim": 3}, "claim is no group"),
        *[({name: np.zeros(3)}, f"{name} is no group") for name in ("problem", "claim", "leaves")],
        ({"@attrs": {"format": "meanfield run", "format_version": 2}}, "not a meanfield proof"),
        ({"@attrs": {"format": "meanfield proof", "format_version": 2}}, "format"),
    ],
)
def test_what_is_no_proof_is_refused_in_one_line(tmp_path, tree, change, words):
    with pytest.raises(RunFileError, match=words) as refused:
        verify_proof(written(tmp_path, tree, **change))
    assert "\n" not in str(refused.value)


def test_a_damaged_file_is_refused(tmp_path, tree):
    """Cut off anywhere, or with any byte changed."""
    path, rng = tmp_path / "proof.h5", np.random.default_rng(0)
    whole = path.read_bytes()
    for length in (0, 100, 600, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(RunFileError):
            verify_proof(path)
    for k in rng.integers(len(whole), size=40):
        path.write_bytes(whole[:k] + bytes([whole[k] ^ 1 << int(rng.integers(8))]) + whole[k + 1 :])
        with pytest.raises(RunFileError):
            verify_proof(path)


# ---- covers, and what is not kept ------------------------------------------------------------------------------------


def tree_of_cuts(rng, n, cuts):
    """Leaves (k, n) of a random tree."""
    leaves = [np.zeros(n, np.int8)]
    for _ in range(cuts):
        whole = leaves.pop(int(rng.integers(len(leaves))))
        free = np.flatnonzero(whole == 0)
        halves = [whole.copy(), whole.copy()] if len(free) else [whole]
        if len(free):
            row = rng.choice(free)
            halves[0][row], halves[1][row] = 1, -1
        leaves += halves
    return np.array(leaves)[rng.permutation(len(leaves))]


def test_a_tree_covers_the_sphere_and_nothing_less_does():
    rng = np.random.default_rng(0)
    patterns = np.array(list(itertools.product((1, -1), repeat=6)))

    def covered(cells):
        return all(np.any(np.all((cells == 0) | (cells == pattern), axis=1)) for pattern in patterns)

    for _ in range(200):
        leaves = tree_of_cuts(rng, 6, int(rng.integers(1, 20)))
        assert covers_sphere(leaves)
        assert covered(leaves)
        assert not covers_sphere(np.delete(leaves, rng.integers(len(leaves)), axis=0))
        turned = leaves.copy()
        turned[rng.integers(len(leaves)), rng.integers(6)] *= -1
        assert covered(turned) or not covers_sphere(turned)
    deep = np.tril(np.ones((1501, 1500), np.int8))
    deep[np.arange(1500), np.arange(1500)] = -1
    deep = np.vstack([deep[:1500], np.ones((1, 1500), np.int8)])
    assert covers_sphere(deep)


def test_only_proofs_are_kept(tmp_path):
    rng = np.random.default_rng(0)
    problem = Problem(np.sign(rng.standard_normal((60, 20))), np.arange(60) % 2, reg=5e-3)
    ensemble = Ensemble.sphere(64, 20)
    with pytest.raises(InputError, match="estimate has no proof"):
        save_proof(tmp_path / "a.h5", problem, ensemble, certify(problem, ensemble, effort=0.01, keep=True))
    with pytest.raises(InputError, match="keep=True"):
        save_proof(tmp_path / "a.h5", problem, ensemble, certify(problem, ensemble, effort=0.01, method="proven"))
    assert os.listdir(tmp_path) == []


def test_nothing_but_a_proof_is_replaced(tmp_path):
    problem, ensemble = Problem([[1.0]], [1.0], loss="squared", reg=0.25), Ensemble.sphere(8, 1)
    found = certify(problem, ensemble, keep=True)
    (tmp_path / "notes.txt").write_text("mine")
    hdf5.write(tmp_path / "run.h5", {"@attrs": {"format": "meanfield run"}})
    for name in ("notes.txt", "run.h5"):
        before = (tmp_path / name).read_bytes()
        with pytest.raises(InputError, match="no proof"):
            save_proof(tmp_path / name, problem, ensemble, found)
        assert (tmp_path / name).read_bytes() == before
    with pytest.raises(InputError, match="no folder"):
        save_proof(tmp_path / "none" / "a.h5", problem, ensemble, found)
    for _ in range(2):
        save_proof(tmp_path / "a.h5", problem, ensemble, found)
    assert verify_proof(tmp_path / "a.h5").holds


def test_a_loss_of_ones_own_is_given_again(tmp_path):
    problem, ensemble = Problem([[1.0, 0.0], [0.0, 2.0]], [1.0, 2.0], loss=Huber(0.5), reg=1e-2), Ensemble.sphere(8, 2)
    save_proof(tmp_path / "a.h5", problem, ensemble, certify(problem, ensemble, keep=True))
    assert verify_proof(tmp_path / "a.h5", loss=Huber(0.5)).holds
    for other in (None, Huber(0.6), Squared()):
        with pytest.raises(RunFileError, match="Huber"):
            verify_proof(tmp_path / "a.h5", loss=other)
