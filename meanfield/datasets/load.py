"""Where a configuration's data come from: generators, scikit-learn's toy sets, the user's files."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..engine import exact_math
from ..errors import InputError
from .dataset import Dataset, checked_dataset, filled, split, standardized, with_bias
from .files import from_file
from .generators import GENERATORS, generated


def load_dataset(section: Any) -> Dataset:
    """The dataset that a configuration's data section asks for.

    Generated sets are independent streams of the seed for training and test, and the first n examples of a longer set
    are the set of n (except for "line", which is evenly spaced). Other sources without a test set lose `test_fraction`
    of their examples to one, chosen by the seed.

    Parameters
    ----------
    section : object
        With the attributes of the configuration's section [data]: `source`, one of the generators ("xor": the paper's
        distribution D, arXiv 1810.05369; "teacher", "parity", "parity_normal", "line", "single_index", "multi_index",
        "two_gaussians", "two_moons", "spirals"), "sklearn:digits", "sklearn:breast_cancer", "sklearn:diabetes", or a
        path ending in .csv, .npz or .h5; `seed`, `standardize`, `bias`; and what the source needs of `n`, `d`,
        `n_test`, `k`, `hidden`, `task`, `margin`, `link`, `noise`, `separation`, `label`, `test_fraction`.

    Returns
    -------
    Dataset
        Checked.

    Raises
    ------
    InputError
        Whatever cannot be used: sizes, a file that cannot be read, values that are not finite.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> from meanfield.datasets.load import load_dataset
    >>> section = SimpleNamespace(source="xor", n=6, d=4, n_test=2, seed=0, standardize=False, bias=True)
    >>> dataset = load_dataset(section)
    >>> dataset.X.shape, dataset.X_test.shape, sorted(set(dataset.y.tolist()))
    ((6, 5), (2, 5), [-1, 1])
    >>> bool((abs(dataset.X[:, 0]) - abs(dataset.X[:, 1]) == dataset.y).all())
    True
    """
    if section.source in GENERATORS:
        dataset = Dataset(*generated(section), section.source)
    elif section.source.startswith("sklearn:"):
        dataset = split(_from_sklearn(section.source.removeprefix("sklearn:")), section)
    else:
        dataset = filled(split(from_file(section), section, by_class=True))
    if section.standardize:
        dataset = standardized(dataset)
    return with_bias(dataset) if section.bias else dataset


def _from_sklearn(name: str) -> Dataset:
    from sklearn import datasets  # type: ignore[import-untyped]

    loaders = {
        "digits": datasets.load_digits,
        "breast_cancer": datasets.load_breast_cancer,
        "diabetes": _diabetes,
    }
    if name not in loaders:
        raise InputError(
            f"data.source = 'sklearn:{name}': must be one of {', '.join(f'sklearn:{known}' for known in loaders)}"
        )
    bunch = loaders[name]()
    names = tuple(map(str, bunch.feature_names))
    return checked_dataset(bunch.data, bunch.target, where=f"sklearn:{name}", feature_names=names)


def _diabetes() -> Any:
    """The set as scikit-learn scales it, columns of mean 0 and norm 1, from its raw numbers.

    These have at most four decimals, but not the same last bits in every version, and scikit-learn scales them by sums
    of NumPy's, whose order depends on the machine.
    """
    from sklearn.datasets import load_diabetes

    bunch = load_diabetes(scaled=False)
    raw = np.rint(bunch.data * 1e4) / 1e4
    centred = raw - exact_math.column_sums(raw) / len(raw)
    bunch.data = centred / np.sqrt(exact_math.column_sums(centred * centred))
    return bunch
