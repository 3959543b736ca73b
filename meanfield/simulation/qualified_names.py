"""The user's own dynamics, losses and neurons in a configuration: named by `module.QualName`.

A run file can name such a class, or the functions of a neuron, and hold its parameters, the fields of the object; it
cannot make the object, which is given again by hand and compared with what the file says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np

from ..dynamics import DYNAMICS, Dynamics
from ..engine.engine import Move
from ..errors import InputError, RunFileError
from ..losses import LOSSES as OUR_LOSSES
from ..losses import Loss
from ..neuron import Neuron, get_neuron, qualified
from ..schedules import OwnSchedule, Schedule
from . import config as configuration
from .values import is_qualified

_OPTIONAL = {"parameters", "derivative", "output"}  # keys that the user's own may have


@dataclass(frozen=True)
class UnknownDynamics(Dynamics):
    """In the place of a dynamics that a run file names and cannot make: such a run can be looked at, not gone on with.

    Parameters
    ----------
    method : str
        The qualified name of the class.
    """

    method: str = ""

    name = "unknown"

    def move(self, eta: float, reg: float, temperature: float) -> Move:
        raise InputError(f"dynamics {self.method}: was not given")


def qualified_name(thing: object) -> str:
    """`module.QualName` of an object's class."""
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


def dynamics_table(dynamics: Dynamics) -> dict[str, Any]:
    """The configuration's section [dynamics] of a dynamics, ours or the user's own.

    InputError: no dynamics, or a field that a run file cannot keep.
    """
    if not isinstance(dynamics, Dynamics):
        raise InputError(f"dynamics = {dynamics!r}: must be an object of meanfield.dynamics.Dynamics, or of a subclass")
    name = getattr(dynamics, "name", "")
    if name in configuration.METHODS and type(dynamics) is DYNAMICS[name]:
        return dynamics.section()
    shared = {field.name: getattr(dynamics, field.name) for field in fields(Dynamics)}
    return {"method": qualified_name(dynamics), **shared, "parameters": _parameters(dynamics, shared, "dynamics")}


def loss_table(loss: Loss) -> dict[str, Any]:
    """The keys of [objective] that say which loss it is. InputError: a field that a run file cannot keep."""
    name = loss.name
    if name in configuration.LOSSES and type(loss) is type(OUR_LOSSES[name]):
        return {"loss": name}
    return {"loss": qualified_name(loss), "parameters": _parameters(loss, {"name": name}, "loss")}


def neuron_table(neuron: Neuron) -> dict[str, Any]:
    """The configuration's section [neuron] of a neuron, ours or the user's own."""
    output = {"output": neuron.output.formula or neuron.output.name} if neuron.output else {}
    if neuron.is_built_in or neuron.formula:
        return {"activation": neuron.formula or neuron.name, **output}
    return {"activation": qualified(neuron.activation), "derivative": qualified(neuron.derivative), **output}


def _parameters(thing: Any, but: Mapping[str, Any], what: str) -> dict[str, Any] | None:
    """The other fields of a dataclass, or public attributes of another object, as plain values; None without any."""
    names = [field.name for field in fields(thing)] if is_dataclass(thing) else sorted(vars(thing))
    values = {name: getattr(thing, name) for name in names if name not in but and not name.startswith("_")}
    return {name: _plain(value, f"{what}.{name}") for name, value in values.items() if value is not None} or None


def _plain(value: Any, where: str) -> Any:
    """A value as TOML has it."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Schedule):
        return value.as_table()
    if isinstance(value, list | tuple):
        return [_plain(entry, where) for entry in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(entry, where) for key, entry in value.items()}
    raise InputError(
        f"{where} = {value!r}: a run cannot keep it; "
        "a field must be a number, text, a schedule, or a list or table of such"
    )


def dynamics_of(section: configuration.Dynamics, dynamics: Dynamics | None = None, where: str = "") -> Dynamics:
    """The dynamics of a configuration's section: the object given, if it is the one named there, else made from it.

    `UnknownDynamics` where the user's own is named and not given. RunFileError: another one is given.
    """
    if dynamics is not None:
        _check_same(section, dynamics_table(dynamics), where, "dynamics")
        return dynamics
    if is_qualified(section.method):
        return UnknownDynamics(section.step_size, section.batch, section.method)
    return DYNAMICS[section.method].of(section)


def loss_of(section: configuration.Objective, loss: Loss | None = None, where: str = "") -> Loss | str:
    """The loss of a configuration's section: the object given, if it is the one named there, else the name of ours.

    RunFileError: another one is given, or the user's own is named and none is given.
    """
    if loss is not None:
        _check_same(section, loss_table(loss), where, "objective")
        return loss
    if is_qualified(section.loss):
        raise RunFileError(
            f"{where}: its loss is {section.loss}, an object of a Python program; "
            "give it there: load(path, loss=…), resume(path, loss=…)"
        )
    return section.loss


def neuron_of(section: configuration.Neuron, neuron: Neuron | None = None, where: str = "") -> Neuron | str | None:
    """The neuron of a configuration's section: the object given, if it is the one named there; None if it is ours.

    RunFileError: another one is given, or the user's own is named and none is given.
    """
    if neuron is not None:
        _check_same(section, neuron_table(get_neuron(neuron)), where, "neuron")
        return neuron
    if is_qualified(section.activation):
        raise RunFileError(
            f"{where}: its neuron is {section.activation}, an object of a Python program; "
            "give it there: load(path, neuron=…), resume(path, neuron=…)"
        )
    return None


def temperature_of(
    section: configuration.Objective, temperature: Callable[[int], float] | None = None, where: str = ""
) -> Any:
    """The temperature of a configuration's section: the function given, if it is the one named there, else as it says.

    RunFileError: another one is given, or the user's own is named and none is given.
    """
    said = section.temperature
    if temperature is not None:
        given = OwnSchedule.of_function(temperature)
        if not isinstance(said, OwnSchedule) or said != given:
            raise RunFileError(f"{where}: objective.temperature is {_shown(said)}; the function given is {given.shape}")
        return given
    if isinstance(said, OwnSchedule):
        raise RunFileError(
            f"{where}: its temperature is {said.shape}, a function of a Python program; "
            "give it there: load(path, temperature=…), resume(path, temperature=…)"
        )
    return said


def check_known(dynamics: Dynamics, where: str) -> None:
    """RunFileError: a dynamics that is named in the file and was not given."""
    if isinstance(dynamics, UnknownDynamics):
        raise RunFileError(
            f"{where}: its dynamics is {dynamics.method}, an object of a Python program; "
            "give it there to go on: resume(path, dynamics=…)"
        )


def _check_same(section: Any, given: Mapping[str, Any], where: str, name: str) -> None:
    """RunFileError, naming the first difference, unless a section says what an object given says."""
    unsaid = type(section).model_fields.keys() & _OPTIONAL - given.keys()
    for key, value in {**given, **dict.fromkeys(unsaid)}.items():
        kept = getattr(section, key)
        if _comparable(kept) != _comparable(value):
            raise RunFileError(f"{where}: {name}.{key} is {_shown(kept)}; the object given has {_shown(value)}")


def _comparable(value: Any) -> Any:
    """A constant schedule and its number are the same, and so are a tuple and its list."""
    if isinstance(value, tuple):
        return list(value)
    return Schedule.of(value) if isinstance(value, float | int) and not isinstance(value, bool) else value


def _shown(value: Any) -> str:
    if isinstance(value, OwnSchedule):
        return value.shape
    if isinstance(value, Schedule):
        return repr(value.end if value.shape == "constant" else value.as_table())
    return value if isinstance(value, str) else "none" if value is None else repr(value)
