"""Losses ℓ(y, f): value, derivatives, conjugate, labels and margins, behind one class that a user may extend.

May import: the errors, what arrays may be, and the engine's arithmetic. `check_loss` puts any loss through all of its
laws.
"""

from __future__ import annotations

from typing import Any

from ..errors import InputError, did_you_mean
from .base import ROUNDING, Loss
from .check import check_loss
from .cross_entropy import CrossEntropy
from .kinds import MulticlassLoss, RegressionLoss, TwoClassLoss
from .logistic import Logistic
from .squared import Squared

LOSSES: dict[str, Loss] = {loss.name: loss for loss in (Logistic(), Squared(), CrossEntropy())}


def get_loss(loss: Any) -> Loss:
    """The loss of that name, or the Loss object itself.

    Parameters
    ----------
    loss : str or Loss
        "logistic", "squared", "cross_entropy", or an object of a subclass of `Loss`.

    Returns
    -------
    Loss

    Raises
    ------
    InputError
        Neither a known name (the nearest is suggested) nor such an object, or one without a name.

    Examples
    --------
    >>> from meanfield.losses import get_loss
    >>> get_loss("squared")
    Squared()
    """
    if isinstance(loss, Loss):
        if not isinstance(getattr(loss, "name", None), str):
            raise InputError(f"loss {type(loss).__qualname__}: needs a class attribute `name`, a string")
        return loss
    if not isinstance(loss, str):
        raise InputError(f"loss = {loss!r}: must be one of {', '.join(LOSSES)}, or an object of a subclass of Loss")
    if loss not in LOSSES:
        hint = did_you_mean(loss, LOSSES)
        raise InputError(f"loss {loss!r} is unknown: must be one of {', '.join(LOSSES)}{hint}")
    return LOSSES[loss]


__all__ = [
    "LOSSES",
    "ROUNDING",
    "CrossEntropy",
    "Logistic",
    "Loss",
    "MulticlassLoss",
    "RegressionLoss",
    "Squared",
    "TwoClassLoss",
    "check_loss",
    "get_loss",
]
