"""What can go wrong, in words that one line can carry."""

from __future__ import annotations

from collections.abc import Iterable

_LONGEST = 4000  # characters of a message
_OURS = {  # what other programs call it, and we
    **dict.fromkeys(("lambda", "lam", "lambda_", "l2", "weight_decay", "decay", "regularization"), "reg"),
    **dict.fromkeys(("lr", "learning_rate", "eta", "dt", "stepsize"), "step_size"),
    **dict.fromkeys(("epochs", "n_epochs", "iterations", "iters", "n_iter", "max_iter", "max_steps"), "steps"),
    **dict.fromkeys(("width", "n_neurons", "num_particles", "particles", "hidden_size", "hidden_units"), "m"),
    **dict.fromkeys(("tau", "noise_level"), "temperature"),
    **dict.fromkeys(("samples", "n_samples", "n_train", "train_size"), "n"),
    **dict.fromkeys(("dim", "dims", "dimension", "n_features", "input_dim"), "d"),
    **dict.fromkeys(("batch_size", "minibatch", "minibatch_size"), "batch"),
    **dict.fromkeys(("random_state", "random_seed", "rng"), "seed"),
    **dict.fromkeys(("optimizer", "optimiser", "algorithm", "solver", "integrator"), "method"),
    **dict.fromkeys(("test_size", "test_split", "val_fraction", "validation_split"), "test_fraction"),
    **dict.fromkeys(("target", "label_column", "y"), "label"),
    **dict.fromkeys(("normalize", "scale_features", "standard_scaler"), "standardize"),
    **dict.fromkeys(("intercept", "fit_intercept", "add_bias"), "bias"),
    **dict.fromkeys(("precision", "float_type"), "dtype"),
    **dict.fromkeys(("nonlinearity", "phi"), "activation"),
    **dict.fromkeys(("mse", "l2_loss", "square", "quadratic_loss", "regression"), "squared"),
    **dict.fromkeys(("bce", "log_loss", "logit", "binary_crossentropy", "binary_cross_entropy"), "logistic"),
    **dict.fromkeys(("ce", "softmax", "categorical_crossentropy", "multinomial", "nll"), "cross_entropy"),
    **dict.fromkeys(("gd", "gradient_descent"), "gradient_flow"),
    **dict.fromkeys(("sgld", "noisy_gd", "noisy_gradient_descent"), "langevin"),
    **dict.fromkeys(("normal", "randn"), "gaussian"),
    **dict.fromkeys(("single", "float", "f32"), "float32"),
    **dict.fromkeys(("double", "f64"), "float64"),
    **dict.fromkeys(("train", "training", "fit", "simulate"), "run"),
    **dict.fromkeys(("continue", "restart"), "resume"),
    **dict.fromkeys(("show", "status", "inspect"), "info"),
    **dict.fromkeys(("overwrite", "clobber"), "force"),
    **dict.fromkeys(("silent", "no_progress"), "quiet"),
    **dict.fromkeys(("jobs", "n_jobs", "workers", "n_threads", "cores"), "threads"),
    **dict.fromkeys(("timeout", "time_limit", "walltime"), "max-time"),
}


def printable(text: str) -> str:
    """What may hold anything, as one line that does nothing to a terminal: the rest escaped."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def ours(name: str) -> str:
    """Our name of what other programs call `name`; the same where it is none of theirs.

    Examples
    --------
    >>> from meanfield.errors import ours
    >>> ours("weight_decay"), ours("reg")
    ('reg', 'reg')
    """
    return _OURS.get(name.lower().replace("-", "_"), name)


def nearest(value: object, known: Iterable[str]) -> str:
    """The known name that `value`, a text, was probably meant to be, by meaning or letters; empty if none is near."""
    import difflib

    if not isinstance(value, str):
        return ""
    known = list(known)
    same = [one for one in known if one == ours(value) or one.lower() == value.lower()]
    return next(iter(same or difflib.get_close_matches(value, known, n=1)), "")


def did_you_mean(value: object, known: Iterable[str], otherwise: str = "") -> str:
    """What a message ends with: "; did you mean NAME?" where a known name is near, else "; " and `otherwise`."""
    name = nearest(value, known)
    hint = f"did you mean {name}?" if name else otherwise
    return f"; {hint}" if hint else ""


class InputError(ValueError):
    """Something the user gave is wrong; the message is one line naming what, and what would be right.

    What it quotes may hold anything: it is shown `printable`, and cut where it is longer than 4000 characters.

    Parameters
    ----------
    message : str
        The line.

    Examples
    --------
    >>> from meanfield import Ensemble, InputError
    >>> try:
    ...     Ensemble.sphere(0, 2)
    ... except InputError as error:
    ...     print(error)
    m = 0: must be a whole number, at least 1
    """

    def __str__(self) -> str:
        return printable(super().__str__()[:_LONGEST])


class RunFileError(InputError):
    """A run file is missing, damaged, foreign, locked or of another format.

    Parameters
    ----------
    message : str
        One line.

    Examples
    --------
    >>> import meanfield
    >>> try:
    ...     meanfield.load("absent.h5")
    ... except meanfield.RunFileError as error:
    ...     print(error)
    absent.h5: there is no such file
    """


class RunWarning(UserWarning):
    """A run ended as it hardly was meant to; the message is one line naming what, and what to try.

    Parameters
    ----------
    message : str
        The line.

    Examples
    --------
    Steps that are too large by far, and still end at finite numbers.

    >>> import warnings
    >>> from meanfield import Ensemble, GradientFlow, Problem, RunWarning, simulate
    >>> problem = Problem([[1.0]], [1.0], loss="squared", reg=0.1)
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     _ = simulate(problem, Ensemble.sphere(64, 1, scale=3.0), GradientFlow(step_size=11.0), steps=2)
    >>> caught[0].category is RunWarning, str(caught[0].message).split(" is")[0]
    (True, 'step 2: the objective')
    """


class DivergenceError(ArithmeticError):
    """The simulation left the finite numbers; the message names the step and the quantity.

    Parameters
    ----------
    message : str
        One line.

    Examples
    --------
    Steps that are far too large.

    >>> from meanfield import DivergenceError, Ensemble, GradientFlow, Problem, simulate
    >>> problem = Problem([[1.0]], [1.0], loss="squared", reg=0.1)
    >>> try:
    ...     simulate(problem, Ensemble.sphere(64, 1, scale=100.0), GradientFlow(step_size=1e3), steps=50)
    ... except DivergenceError as error:
    ...     print(str(error).split(";")[0])
    step 2: predictions or ∫‖θ‖² dρ left the range of finite numbers
    """
