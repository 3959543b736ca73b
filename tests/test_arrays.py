"""What a user's arrays become at the door, whatever they come in; and what is refused there, in one line."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from meanfield import Ensemble, Implicit, KineticLangevin, Langevin, Problem, simulate
from meanfield.datasets.dataset import Dataset, checked_dataset
from meanfield.errors import InputError
from meanfield.simulation.config import check_config
from meanfield.simulation.run import problem_of

X = np.random.default_rng(0).standard_normal((6, 2))
TEXT, WHOLE = ["a", "b", "b"] * 2, [3, 7, 7] * 2


def refusal(act):
    """The message, one line."""
    with pytest.raises(InputError) as caught:
        act()
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize(
    "y",
    [
        TEXT,
        np.array(TEXT, dtype=object),
        np.array(TEXT, dtype="S1"),
        np.array(TEXT, dtype=np.dtypes.StringDType()),
        np.array(TEXT)[:, None],
        pd.Series(TEXT),
        pd.Series(TEXT, dtype=object),
        pd.Series(TEXT, dtype="string"),
        pd.Series(TEXT, dtype="category"),
        pd.DataFrame({"y": TEXT}),
        WHOLE,
        np.array(WHOLE, dtype=object),
        np.array(WHOLE, dtype=float)[:, None],
        pd.Series(WHOLE, dtype="Int64"),
        pd.Series(WHOLE, dtype="category"),
        [False, True, True] * 2,
        pd.Series([False, True, True] * 2, dtype="boolean"),
    ],
    ids=lambda y: f"{type(y).__name__}-{getattr(y, 'dtype', '')}",
)
def test_labels_come_in_many_types(y):
    """Two classes in any of them are -1 and +1, in a Problem and in a Dataset."""
    for problem in (Problem(X, y), Problem(X, checked_dataset(X, y).y)):
        assert problem.targets.tolist() == [-1.0, 1.0, 1.0] * 2


@pytest.mark.parametrize(
    "X",
    [
        pd.DataFrame({"a": [1, 2], "b": [0.5, 3.0]}),
        pd.DataFrame({"a": [1, 2], "b": [0.5, 3.0]}, dtype="Float64"),
        pd.DataFrame({"a": [1, 2], "b": [0.5, 3.0]}, dtype=object),
        np.ma.array([[1, 0.5], [2, 3.0]], mask=False),
    ],
    ids=["plain", "nullable", "objects", "no mask"],
)
def test_inputs_come_in_many_types(X):
    """The numbers that they are."""
    assert Problem(X, [0, 1]).X.tolist() == [[1.0, 0.5], [2.0, 3.0]]


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (["a", "NA"] * 3, "y[1] is 'NA', a missing value (3 in all)"),
        (np.array(["a", np.nan] * 3), "y[1] is 'nan', a missing value"),
        (["a", "b", " "] * 2, "y[2] is ' ', a missing value (2 in all)"),
        (np.array(["a", None] * 3).astype(str), "y[1] is 'None', a missing value"),
        (pd.Series(["a", "b", None] * 2), "y[2] is nan: must be text"),
        (pd.Series(["a", "b", pd.NA] * 2, dtype="string"), "y[2] is <NA>: must be text"),
        (pd.Series([0, 1, None] * 2, dtype="Int64"), "y[2] is"),
        (np.array(["a", 1] * 3, dtype=object), "y[1] is 1: must be text"),
        ([0, 1, np.nan] * 2, "y[2] is nan: must be finite"),
        (np.ma.masked_equal([0, 1, -999] * 2, -999), "y holds masked values"),
        (scipy.sparse.csr_array([[0, 1]]), "y is sparse"),
        (np.zeros(6, "M8[s]"), "y has dtype datetime64[s]"),
        (np.zeros(6) + 1j, "y has dtype complex128"),
        ([[0], [1, 2]], "y is no array"),
        (np.array([10**400] * 6), "y: holds numbers beyond 1e15"),
        (np.array(["k" * 300] * 6, dtype=object), "longer than 256 characters"),
    ],
)
@pytest.mark.parametrize("loss", ["logistic", "cross_entropy"])
def test_a_missing_label_is_no_class(y, words, loss):
    """Nor is anything else that is no label."""
    assert words in refusal(lambda: Problem(X, y, loss=loss))


def test_a_run_goes_on_with_the_classes_it_began_with():
    """Also where a label of that name would be refused today: its data are in its file."""
    y = np.array(["NA", "EU", "EU"] * 2)
    config = check_config({}, "here")
    problem = problem_of(config, Dataset(X, y, X, y, "recorded"))
    assert problem.classes.tolist() == ["EU", "NA"]
    assert type(problem.y) is type(problem.y_test) is np.ndarray
    assert "a missing value" in refusal(lambda: Problem(X, y))


@pytest.mark.parametrize(
    ("X", "words"),
    [
        (np.ma.masked_equal([[1.0, -999], [2, 3]], -999), "X holds masked values"),
        (scipy.sparse.csr_matrix(np.eye(2)), "X is sparse: must be dense, as .toarray() makes it"),
        (scipy.sparse.coo_array(np.eye(2)), "X is sparse"),
        (np.eye(2) + 1j, "X has dtype complex128: must be numbers"),
        (np.zeros((2, 2), "M8[s]"), "X has dtype datetime64[s]: must be numbers"),
        (pd.DataFrame({"a": pd.to_datetime(["2020-01-01"] * 2), "b": [1.0, 2]}), "X[0, 0] is Timestamp("),
        (pd.DataFrame({"a": [1, 2], "sex": ["f", "m"]}), "X[0, 1] is 'f': must be a number"),
        (pd.DataFrame({"a": [1, None]}, dtype="Float64"), "X[1, 0] is"),
        ([["a"], ["b"]], "X has dtype <U1: must be numbers"),
        ([[1, 2], [3]], "X is no array"),
        ([1, 2], "X has shape (2,): must be (n, d)"),
        ([[1], [np.inf]], "X[1, 0] is inf: must be finite"),
        ([[1], [1e16]], "X[1, 0] is 1e+16: rescale"),
    ],
)
def test_what_is_no_matrix_of_numbers_is_refused(X, words):
    """Instead of what NumPy would make of it: the values under a mask, the real parts, the nanoseconds."""
    assert words in refusal(lambda: Problem(X, [0, 1]))


@pytest.mark.parametrize("given", ["X_test", "y_test"])
def test_half_a_test_set_is_refused(given):
    """Test labels without inputs were left out without a word."""
    other = {"X_test": "y_test", "y_test": "X_test"}[given]
    half = {given: X if given == "X_test" else WHOLE}
    assert f"{other} is missing" in refusal(lambda: Problem(X, WHOLE, **half))


def test_a_test_set_has_the_columns_of_the_training_set():
    """By name, where both have names: another order would be another problem."""
    frame, y = pd.DataFrame(X, columns=["a", "b"]), WHOLE
    message = refusal(lambda: Problem(frame, y, X_test=frame[["b", "a"]], y_test=y))
    assert message == "X_test: column 0 is 'b': must be 'a', as in X"
    for other in (frame, X):
        np.testing.assert_array_equal(Problem(frame, y, X_test=other, y_test=y).X_test, X)


@pytest.mark.parametrize("number", [np.float32(0.25), np.float64(0.25), np.float16(0.25)])
@pytest.mark.parametrize("count", [np.int64(2), np.int32(2), np.uint8(2)])
def test_numpys_scalars_are_numbers(number, count):
    """Anywhere a number of Python's is, with the same run."""
    schedule = {"start": number, "end": number / 2, "steps": count, "shape": np.str_("linear")}

    def run(number, count, schedule):
        problem = Problem(X, WHOLE, reg=number, temperature=schedule)
        law = Langevin(step_size=number, batch=count)
        settings = {"steps": count, "record_every": count, "checkpoint_every": count, "test_every": count}
        return simulate(problem, Ensemble.sphere(64, 2), law, final_gap=False, **settings)

    plain = {"start": 0.25, "end": 0.125, "steps": 2, "shape": "linear"}
    np.testing.assert_array_equal(run(number, count, schedule).ensemble.u, run(0.25, 2, plain).ensemble.u)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e16, 1e300])
def test_predict_refuses_what_it_has_no_answer_for(value):
    """No neuron is active at NaN, which would give 0.0; a row out of range would spoil the scale of all."""
    ensemble = Ensemble.sphere(64, 2)
    assert "X[1, 0] is" in refusal(lambda: ensemble.predict([[1.0, 2.0], [value, 0.0]]))
    alone, beside = ensemble.predict([[1.0, 2.0]]), ensemble.predict([[1.0, 2.0], [1e15, 0.0]])
    assert alone[0] == beside[0]


NUMBERS = {
    "penalty.input": lambda value: Problem(X, [1, 2] * 3, penalty={"input": value}),
    "output_scale": lambda value: Problem(X, [1, 2] * 3, output_scale=value),
    "scale": lambda value: Ensemble.sphere(64, 2, scale=value),
    "noise": lambda value: Langevin(noise=(value, 1.0)),
    "label_noise": lambda value: Langevin(label_noise=value),
    "tail_index": lambda value: Langevin(tail_index=value),
    "batch": lambda value: Langevin(batch=value),
    "friction": lambda value: KineticLangevin(friction=value),
    "births": lambda value: Implicit(births=value),
    "cooled_at": lambda value: Implicit(cooled_at=value),
}


@pytest.mark.parametrize("value", ["2", True, 10**400, float("nan"), [1.0], np.ones(2), 1j], ids=lambda v: repr(v)[:9])
@pytest.mark.parametrize("name", NUMBERS)
def test_a_setting_that_is_no_number_is_named(name, value):
    assert refusal(lambda: NUMBERS[name](value)).startswith(f"{name} = ")
