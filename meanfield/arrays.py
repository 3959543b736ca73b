"""A user's arrays at the door: numbers that are there and finite, labels that are there. A refusal names the place."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np

from .errors import InputError

LARGEST_VALUE = 1e15
LARGEST_LABEL = 256  # characters; NumPy gives every label the room of the longest
_NARROW = (np.dtype(np.uint8), np.dtype(np.float32))
MISSING = frozenset(
    ["", "?", "NA", "N/A", "n/a", "#N/A", "#NA", "<NA>", "NaN", "nan", "-NaN", "-nan", "NULL", "null", "None", "NaT"]
)


def inputs(X: Any, where: str, *, gaps: bool = False) -> np.ndarray:
    """X (n, d), C-contiguous, not empty, finite and at most 1e15 in size; with `gaps`, NaN may be in it.

    Parameters
    ----------
    X : array (n, d) of numbers
        Also a DataFrame, or a list of rows; all but uint8 and float32 become float64.
    where : str
        Its name in messages.
    gaps : bool
        Whether NaN stands for a value that is missing.

    Returns
    -------
    ndarray (n, d); uint8, float32 or float64

    Raises
    ------
    InputError
        Another shape, masked, sparse or complex values, dates, text, and values that cannot be used, with their place.

    Examples
    --------
    >>> from meanfield.arrays import inputs
    >>> inputs([[1, 2], [3, True]], "X")
    array([[1., 2.],
           [3., 1.]])
    >>> inputs([[1, 2], [3, float("nan")]], "X")
    Traceback (most recent call last):
    ...
    meanfield.errors.InputError: X[1, 1] is nan: must be finite
    """
    values = numbers(X, where, narrow=True)
    if values.ndim != 2 or values.size == 0:
        raise InputError(f"{where} has shape {values.shape}: must be (n, d), and not empty")
    refuse_unusable(np.where(np.isnan(values), values.dtype.type(0), values) if gaps else values, where)
    return values


def refuse_other_columns(X: Any, X_test: Any) -> None:
    """InputError for a test set whose columns have other names than the training set's, or another order.

    Parameters
    ----------
    X, X_test : array or DataFrame
        As a user has them; arrays have no names.

    Raises
    ------
    InputError
        The first column that differs.

    Examples
    --------
    >>> from meanfield.arrays import refuse_other_columns
    >>> refuse_other_columns([[1, 2]], [[3, 4]])
    """
    names, others = (getattr(one, "columns", None) for one in (X, X_test))
    if names is None or others is None:
        return
    for j, (name, other) in enumerate(zip(names, others, strict=False)):
        if name != other:
            raise InputError(f"X_test: column {j} is {_shown(other)}: must be {_shown(name)}, as in X")


def numbers(values: Any, where: str, *, narrow: bool = False) -> np.ndarray:
    """Numbers of any shape, C-contiguous, which may be NaN or infinite: float64, but for what may stay `narrow`.

    Parameters
    ----------
    values : array of numbers
        Also objects that are numbers, as pandas has them.
    where : str
        Its name in messages.
    narrow : bool
        Whether uint8 and float32 stay what they are.

    Returns
    -------
    ndarray

    Raises
    ------
    InputError
        What is not numbers.

    Examples
    --------
    >>> from meanfield.arrays import numbers
    >>> numbers([1, 2], "X")
    array([1., 2.])
    >>> numbers([1j], "X")
    Traceback (most recent call last):
    ...
    meanfield.errors.InputError: X has dtype complex128: must be numbers
    """
    given = _plain(values, where)
    if given.dtype.kind == "O":
        given = _unboxed(given, where)
    if given.dtype.kind not in "biuf":
        raise InputError(f"{where} has dtype {given.dtype}: must be numbers")
    return np.ascontiguousarray(given, dtype=given.dtype if narrow and given.dtype in _NARROW else np.float64)


def is_number(value: Any) -> bool:
    """Whether it is a finite real number, of Python's, NumPy's or another's, and no truth.

    Parameters
    ----------
    value : object
        Any.

    Returns
    -------
    bool

    Examples
    --------
    >>> from meanfield.arrays import is_number
    >>> [is_number(value) for value in (0.5, 2, True, "2", float("nan"), 10**400)]
    [True, True, False, False, False, False]
    """
    with suppress(OverflowError):  # of whole numbers that no float holds
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    return False


def number(value: Any, where: str) -> float:
    """What a function of the user's own gave where one number is wanted; it may be NaN or infinite.

    Parameters
    ----------
    value : number
        Of Python's, NumPy's or another's; also an array of no dimension.
    where : str
        Its name in messages.

    Returns
    -------
    float

    Raises
    ------
    InputError
        Text, also of digits, complex numbers, nothing, arrays, and what no float holds.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.arrays import number
    >>> number(np.float32(0.5), "what f gave")
    0.5
    >>> number("0.5", "what f gave")
    Traceback (most recent call last):
    ...
    meanfield.errors.InputError: what f gave is '0.5': must be a number
    """
    given = _plain(value, where)
    one = given.item() if given.ndim == 0 else value
    with suppress(OverflowError):  # of whole numbers that no float holds
        if isinstance(one, Real | Decimal):
            return float(one)
    raise InputError(f"{where} is {_shown(value)}: must be a number")


def labels(y: Any, where: str) -> np.ndarray:
    """Labels or targets as a plain array: text as str, objects as the text or the numbers that they are.

    Parameters
    ----------
    y : array (n,) or (n, C)
        Numbers or text, also those of a pandas Series of any dtype.
    where : str
        Its name in messages.

    Returns
    -------
    ndarray
        As `y` was, but for text and objects.

    Raises
    ------
    InputError
        Masked or sparse values; objects that are neither all text nor all numbers; a text above 256 characters; a text
        that stands for a missing value, such as "NA", "nan" or nothing at all.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.arrays import labels
    >>> labels(np.array(["cat", "dog"], dtype=object), "y").dtype.kind
    'U'
    >>> labels(["cat", "NA", "NA"], "y")
    Traceback (most recent call last):
    ...
    meanfield.errors.InputError: y[1] is 'NA', a missing value (2 in all): must be a label; leave such examples out
    """
    if isinstance(y, Recorded):
        return np.asarray(y)
    given = _plain(y, where)
    if given.dtype.kind in "OT":
        items = given.ravel().tolist()
        text = any(isinstance(one, str | bytes) for one in items)
        given = _texts(items, where).reshape(given.shape) if text else _unboxed(given, where)
    if given.dtype.kind == "S":
        given = np.char.decode(given, "utf-8", "replace")
    if given.dtype.kind == "U":
        _refuse_missing(given, where)
    return given


class Recorded(np.ndarray):
    """Labels of a dataset, which were checked when it was made: a run goes on with the classes that it began with.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.arrays import Recorded, labels
    >>> labels(np.array(["NA", "EU"]).view(Recorded), "y")
    array(['NA', 'EU'], dtype='<U2')
    """


def plain(value: Any) -> Any:
    """NumPy's scalars, also those in tables and lists, as the numbers, texts and truths of Python that they are.

    Parameters
    ----------
    value : object
        Any; what holds no such scalar is given back as it is.

    Returns
    -------
    object

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.arrays import plain
    >>> plain({"steps": np.int64(3), "measures": [np.str_("margins")]})
    {'steps': 3, 'measures': ['margins']}
    """
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {key: plain(one) for key, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list) else value


def refuse_unusable(values: np.ndarray, name: str | Callable[[tuple[int, ...]], str]) -> None:
    """InputError at the first value that is not finite or larger than LARGEST_VALUE; `name` says of what, or of where.

    Parameters
    ----------
    values : ndarray
        Numbers.
    name : str or callable
        The array's name, or what makes one of a place.

    Raises
    ------
    InputError
        Such a value.

    Examples
    --------
    >>> import numpy as np
    >>> from meanfield.arrays import refuse_unusable
    >>> refuse_unusable(np.array([0.0, 1e15]), "X")
    """
    if values.size == 0 or -LARGEST_VALUE <= values.min() <= values.max() <= LARGEST_VALUE:  # NaN is not, and no copy
        return
    bad = ~(np.abs(values) <= LARGEST_VALUE)
    if bad.any():
        place = tuple(int(i) for i in np.argwhere(bad)[0])
        value = values[place]
        cure = "rescale the data to at most 1e15" if np.isfinite(value) else "must be finite"
        raise InputError(f"{at(name, place)} is {value}: {cure}")


def refuse_long_labels(texts: Sequence[Any] | np.ndarray, where: str) -> None:
    """InputError for a label above LARGEST_LABEL characters.

    Parameters
    ----------
    texts : sequence of str
        The labels.
    where : str
        Their name in messages.

    Raises
    ------
    InputError
        Such a label.

    Examples
    --------
    >>> from meanfield.arrays import refuse_long_labels
    >>> refuse_long_labels(["cat"], "y")
    """
    if max(map(len, texts), default=0) > LARGEST_LABEL:
        raise InputError(f"{where}: a label is longer than {LARGEST_LABEL} characters")


def at(name: str | Callable[[tuple[int, ...]], str], place: tuple[int, ...]) -> str:
    """What a message calls a place in an array: name[i, j], or what `name` makes of it.

    Parameters
    ----------
    name : str or callable
        The array's name, or what makes one of a place.
    place : tuple of int
        The indices.

    Returns
    -------
    str

    Examples
    --------
    >>> from meanfield.arrays import at
    >>> at("X", (3, 1))
    'X[3, 1]'
    """
    return f"{name}[{', '.join(map(str, place))}]" if isinstance(name, str) else name(place)


def _plain(values: Any, where: str) -> np.ndarray:
    """As NumPy has it; InputError for what NumPy would change on the way, or cannot take."""
    if np.ma.is_masked(values):
        raise InputError(f"{where} holds masked values: must be filled, or left out")
    if hasattr(values, "toarray"):
        raise InputError(f"{where} is sparse: must be dense, as .toarray() makes it")
    try:
        return np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"{where} is no array: {(str(error).splitlines() or ['it cannot be read'])[0]}") from None


def _unboxed(values: np.ndarray, where: str) -> np.ndarray:
    """An array of objects as the numbers that they are: whole ones as int64."""
    for place, value in np.ndenumerate(values):
        if not isinstance(value, Real | np.bool_ | Decimal):
            raise InputError(f"{at(where, place)} is {_shown(value)}: must be a number")
    given = np.array(values.tolist())
    try:
        return given if given.dtype.kind in "biuf" else given.astype(np.float64)
    except OverflowError:
        raise InputError(f"{where}: holds numbers beyond 1e15: rescale the data") from None


def _texts(items: Sequence[Any], where: str) -> np.ndarray:
    for i, one in enumerate(items):
        if not isinstance(one, str | bytes):
            raise InputError(f"{where}[{i}] is {_shown(one)}: must be text, as other labels are, and not missing")
    refuse_long_labels(items, where)
    return np.array([one.decode("utf-8", "replace") if isinstance(one, bytes) else one for one in items])


def _shown(value: Any) -> str:
    return repr(value.item() if isinstance(value, np.generic) else value)[:60]


def _refuse_missing(texts: np.ndarray, where: str) -> None:
    missing = np.isin(np.char.strip(texts), list(MISSING))
    if missing.any():
        place = tuple(int(i) for i in np.argwhere(missing)[0])
        count = int(missing.sum())
        raise InputError(
            f"{at(where, place)} is {str(texts[place])!r}, a missing value ({count} in all): must be a label; "
            "leave such examples out"
        )
