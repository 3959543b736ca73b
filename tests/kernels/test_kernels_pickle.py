"""What is learned with the kernel can be copied, kept and sent to other processes: the copy predicts the same bits."""

import copy
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

from meanfield import kernels
from meanfield.kernels import (
    SVM,
    ConjugateGradients,
    GradientFlow,
    Interpolation,
    IterativePath,
    IterativeRidge,
    Logistic,
    NeuronKernel,
    NTKClassifier,
    NTKRegressor,
    NystromRidge,
    RandomFeatures,
    RecursiveFeatureMachine,
    ReluKernel,
    RFMClassifier,
    RFMRegressor,
    Ridge,
    RidgePath,
    StreamedCentres,
    StreamedGram,
    best,
    relu_ntk,
)

RNG = np.random.default_rng(0)
X, Z = RNG.normal(size=(30, 4)), RNG.normal(size=(9, 4))
Y = np.where(RNG.normal(size=30) + X[:, 0] > 0, 1.0, -1.0)
K, K_TEST = relu_ntk(X), relu_ntk(Z, X)
FITTED = {
    "ConjugateGradients": lambda: ConjugateGradients(rank=9),
    "GradientFlow": lambda: GradientFlow(2.0).fit(K, Y),
    "Interpolation": lambda: Interpolation().fit(K, Y),
    "IterativeRidge": lambda: IterativeRidge(0.1).fit(StreamedGram(X), Y),
    "Logistic": lambda: Logistic(0.1).fit(K, Y),
    "NTKClassifier": lambda: NTKClassifier(method="svm", reg=0.3).fit(X, Y),
    "NeuronKernel": lambda: NeuronKernel("tanh", 1.2),
    "NTKRegressor": lambda: NTKRegressor(depth=3).fit(X, Y),
    "NystromRidge": lambda: NystromRidge(0.1).fit(StreamedCentres(X, 12), Y),
    "RFMClassifier": lambda: RFMClassifier(iterations=1).fit(X, Y),
    "RFMRegressor": lambda: RFMRegressor(iterations=1).fit(X, Y),
    "RandomFeatures": lambda: RandomFeatures(50).fit(X, Y),
    "RecursiveFeatureMachine": lambda: RecursiveFeatureMachine(iterations=1).fit(X, Y),
    "Ridge": lambda: Ridge(0.1).fit(K, Y),
    "IterativePath": lambda: IterativePath([0.1, 1.0]).fit(StreamedGram(X), Y),
    "RidgePath": lambda: RidgePath([0.1, 1.0]).fit(K, Y),
    "SVM": lambda: SVM(0.3).fit(K, Y),
    "Selection": lambda: best("ridge", K, Y),
    "ReluKernel": lambda: ReluKernel(3, 1.2),
    "StreamedCentres": lambda: StreamedCentres(X, 12),
    "StreamedGram": lambda: StreamedGram(X),
}
POINTS = {"NTKClassifier", "NTKRegressor", "RandomFeatures", "RecursiveFeatureMachine", "RFMClassifier", "RFMRegressor"}
# whose inputs are points, not rows of a kernel


def predictions(name, fitted):
    if name in ("ReluKernel", "NeuronKernel"):
        return fitted.gram(X)
    if name == "StreamedGram":
        return fitted.dot(K_TEST.T)
    if name == "StreamedCentres":
        return fitted.dot(K_TEST[:, : len(fitted.centres)].T)
    if name == "ConjugateGradients":
        return IterativeRidge(0.1, fitted).fit(StreamedGram(X), Y).coef
    if name == "IterativePath":
        return fitted.freedom
    predictor = fitted.predictor if name == "Selection" else fitted
    return predictor.predict(Z if name in POINTS else K_TEST[:, : len(predictor.coef)])


def through_pickle(value):
    return pickle.loads(pickle.dumps(value))


def test_every_public_class_is_here():
    """A class that is added to the package needs its line above."""
    public = {name for name in kernels.__all__ if isinstance(getattr(kernels, name), type)}
    assert public == set(FITTED)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, through_pickle])
@pytest.mark.parametrize("name", FITTED)
def test_a_copy_predicts_the_same(name, duplicate):
    """The very bits; and what a deep copy is made to forget, the original still knows."""
    fitted = FITTED[name]()
    expected = predictions(name, fitted)
    again = duplicate(fitted)
    assert type(again) is type(fitted)
    assert np.array_equal(predictions(name, again), expected)
    if duplicate is not copy.copy:
        for value in vars(again).values():
            if isinstance(value, np.ndarray) and value.flags.writeable:
                value[...] = 0
        assert np.array_equal(predictions(name, fitted), expected)


def test_all_can_be_sent_to_another_process():
    """As arguments and as results of a spawned worker process, fitted already."""
    fitted = {name: make() for name, make in FITTED.items()}
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        there = pool.map(predictions, fitted, fitted.values())
        returned = pool.map(copy.copy, fitted.values())
        for name, values, again in zip(fitted, there, returned, strict=True):
            assert np.allclose(values, predictions(name, fitted[name]), rtol=1e-12), name
            assert np.array_equal(predictions(name, again), predictions(name, fitted[name])), name
