"""What a run is asked to do, read from TOML and checked at the door; the only reader of TOML.

Every failure is an InputError of one line that names the file, the key and its value, and says what would be valid.
"""

from __future__ import annotations

import difflib
import itertools
import json
import re
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError, field_validator, model_validator

from ..errors import InputError
from ..schedules import Schedule

FILE_ENDINGS = (".csv", ".npz", ".h5")
GENERATORS = ("xor", "teacher", "parity", "line")
GIVEN = ("arrays", "given")  # data and particles of a run made in Python: found in its run file alone
SKLEARN = ("sklearn:digits", "sklearn:breast_cancer", "sklearn:diabetes")
MEASURES = (
    "free_energy",
    "margins",
    "calibration",
    "stationarity",
    "noise_floor",
    "effective_neurons",
    "alignment",
    "transport",
    "kernel_movement",
)
_LARGEST_FILE = 2**20
_UNIT_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_DURATION = re.compile(r"(?:([\d.]+)d)?(?:([\d.]+)h)?(?:([\d.]+)m(?:in)?)?(?:([\d.]+)s)?")


def default_annealing(reg: float, steps: int, critical: float) -> Schedule:
    """λ falls geometrically to `reg` over 70 % of the run, from a quarter of the λ above which no neuron pays.

    There few directions pay, and the ensemble finds all of them; as λ falls it follows the optimum. (A run at a small
    fixed λ instead fits the data with whatever neurons are near.) Constant if reg lies above that start.
    """
    start = critical / 4
    return Schedule.of(reg) if reg >= start else Schedule("geometric", start, reg, round(0.7 * steps))


def parse_duration(text: str) -> float:
    """Seconds in "30s", "10min", "2h", "1h30m", "1.5h" or "2d"; InputError unless positive and with units."""
    found = _DURATION.fullmatch(text.strip().lower())
    parts = found.groups() if found else ()
    try:
        seconds = sum(float(part) * unit for part, unit in zip(parts, _UNIT_SECONDS.values(), strict=False) if part)
    except ValueError:
        seconds = 0.0
    if not 0.0 < seconds < 1e12:
        raise InputError(f'{text!r}: must be a duration such as "30s", "10min", "2h" or "1h30m"')
    return seconds


def _number_or_schedule(positive: bool, auto: bool = False) -> PlainValidator:
    words = "a number or a schedule {shape, start, end, steps}" + (', or "auto"' if auto else "")
    bound, least = ("positive, and no denormal number", sys.float_info.min) if positive else ("at least 0", 0.0)

    def check(value: Any) -> float | str | Schedule:
        if auto and value == "auto":
            return "auto"
        if isinstance(value, bool) or not isinstance(value, int | float | Mapping | Schedule):
            raise ValueError(f"must be {words}")
        if isinstance(value, int | float) and not abs(value) <= sys.float_info.max:
            raise ValueError("must be finite")
        schedule = Schedule.of(value)
        if min(schedule.start, schedule.end) < least:
            raise ValueError(f"must be {bound}")
        return schedule.end if isinstance(value, int | float) else schedule

    return PlainValidator(check)


def _count_or(words: str, accept: Callable[[str], bool]) -> PlainValidator:
    """An integer of at least 1, or a text that `accept` says is valid."""

    def check(value: Any) -> int | str:
        is_count = isinstance(value, int) and not isinstance(value, bool) and 1 <= value < 2**63
        if not is_count and not (isinstance(value, str) and accept(value)):
            raise ValueError(f"must be an integer of at least 1, or {words}")
        return value

    return PlainValidator(check)


def _known(names: Sequence[str]) -> PlainValidator:
    """A list of some of these names."""

    def check(value: Any) -> list[str]:
        if not isinstance(value, list):
            raise ValueError(f"must be a list of some of {', '.join(names)}")
        for one in value:
            if one not in names:
                raise ValueError(f"{one!r} must be one of {', '.join(names)}{_did_you_mean(one, names)}")
        if len(set(value)) < len(value):
            raise ValueError("must name each only once")
        return list(value)

    return PlainValidator(check)


def _steps_or_auto() -> PlainValidator:
    def check(value: Any) -> str | list[int]:
        if value == "auto":
            return "auto"
        if not isinstance(value, list) or any(type(k) is not int or not 0 <= k < 2**63 for k in value):
            raise ValueError('must be "auto" or a list of steps, whole numbers from 0 on')
        if any(a >= b for a, b in itertools.pairwise(value)):
            raise ValueError("must grow from step to step")
        return list(value)

    return PlainValidator(check)


def _is_duration(text: str) -> bool:
    try:
        return parse_duration(text) > 0
    except InputError:
        return False


Count = Annotated[int, Field(strict=True, ge=1, lt=2**63)]
CountOrZero = Annotated[int, Field(strict=True, ge=0, lt=2**63)]
Number = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(strict=True, ge=0, lt=1)]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**64)]
Flag = Annotated[bool, Field(strict=True)]
Text = Annotated[str, Field(strict=True, min_length=1)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Data(Section):
    """Where the examples come from; n, d and n_test are those of the file where there is one."""

    source: Text = "xor"
    n: Count = 160
    d: Count = 20
    n_test: CountOrZero = 4096
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**32)] = 0
    label: Text | None = None
    test_fraction: Fraction = 0.25
    standardize: Flag = False
    bias: Flag = False
    task: Literal["classification", "regression"] = "classification"
    hidden: Count = 6
    margin: Number = 0.1
    k: Count = 2

    @field_validator("source")
    @classmethod
    def _known_source(cls, source: str) -> str:
        if source in (*GENERATORS, *SKLEARN, "arrays") or source.endswith(FILE_ENDINGS):
            return source
        known = (*GENERATORS, *SKLEARN)
        raise ValueError(
            f"must be one of {', '.join(known)}, or a path ending {' '.join(FILE_ENDINGS)}"
            f"{_did_you_mean(source, known)}"
        )

    @model_validator(mode="before")
    @classmethod
    def _line_is_flat(cls, table: Any) -> Any:
        return {"d": 2, **table} if isinstance(table, Mapping) and table.get("source") == "line" else table

    @model_validator(mode="after")
    def _fits(self) -> Data:
        if self.source == "xor" and self.d < 2:
            raise ValueError(f"d = {self.d}: source 'xor' needs at least 2")
        if self.source == "line" and self.d != 2:
            raise ValueError(f"d = {self.d}: source 'line' has exactly 2 features, x and the constant 1")
        if self.source == "parity" and self.k > self.d:
            raise ValueError(f"k = {self.k}: must be at most data.d, which is {self.d}")
        if self.label is not None and not self.source.endswith(".csv"):
            raise ValueError(f"label = {self.label!r}: only a .csv source has a label column")
        return self

    @property
    def external(self) -> bool:
        """Whether n, d and n_test come with the source instead of being chosen."""
        return self.source not in GENERATORS


class Objective(Section):
    """A number for `reg` is the final λ of the default annealing."""

    loss: Literal["logistic", "squared", "cross_entropy"] = "logistic"
    reg: Annotated[float | Schedule, _number_or_schedule(positive=True)] = 5e-3
    temperature: Annotated[float | Schedule, _number_or_schedule(positive=False)] = 0.0


class Particles(Section):
    """The initial ensemble; m is that of the file where `init` is one."""

    m: Count = 16384
    init: Text = "sphere"
    scale: Positive = 1.0
    seed: Seed = 0
    dtype: Literal["float32", "float64"] = "float32"

    @field_validator("init")
    @classmethod
    def _known_init(cls, init: str) -> str:
        if init in ("sphere", "gaussian", "given") or init.endswith((".npz", ".h5")):
            return init
        raise ValueError(
            f"must be one of sphere, gaussian, or a path ending .npz .h5{_did_you_mean(init, ('sphere', 'gaussian'))}"
        )

    @property
    def external(self) -> bool:
        return self.init not in ("sphere", "gaussian")


class Dynamics(Section):
    """`rebirth_rate` is σ of perturbed_flow, `exchange_rate` that of birth_death; batch None is the whole data."""

    method: Literal["langevin", "gradient_flow", "perturbed_flow", "birth_death"] = "langevin"
    step_size: Annotated[float | str | Schedule, _number_or_schedule(positive=True, auto=True)] = "auto"
    rebirth_rate: Number = 1e-4
    exchange_rate: Number = 1.0
    batch: Count | None = None


class StopWhen(Section):
    """Stop early, with λ and τ at rest, once the relative change of the objective over ten rows or the recorded
    relative gap falls to the bound; None never does."""

    objective_change: Positive | None = None
    relative_gap: Positive | None = None


class Run(Section):
    steps: CountOrZero = 4000
    record_every: Count = 20
    checkpoint_every: Annotated[int | str, _count_or('a duration such as "10min"', _is_duration)] = 500
    stop_when: StopWhen = StopWhen()


_CountOrAuto = Annotated[int | str, _count_or('"auto"', "auto".__eq__)]


class Record(Section):
    """What the trace holds beside the measures of every row, and how often: "auto" keeps the cost small."""

    test_every: _CountOrAuto = "auto"
    gap: Flag = False
    gap_every: _CountOrAuto = "auto"
    measures: Annotated[list[str], _known(MEASURES)] = []
    measures_every: _CountOrAuto = "auto"
    alignment_dims: Count = 2
    snapshots: CountOrZero = 0
    snapshot_particles: Annotated[int | str, _count_or('"all"', "all".__eq__)] = 4096
    snapshot_spacing: Literal["linear", "log"] = "linear"
    snapshot_steps: Annotated[str | list[int], _steps_or_auto()] = "auto"

    @model_validator(mode="after")
    def _snapshots_are_counted(self) -> Record:
        if not isinstance(self.snapshot_steps, str) and self.snapshots not in (0, len(self.snapshot_steps)):
            raise ValueError(
                f"snapshots = {self.snapshots}: snapshot_steps lists {len(self.snapshot_steps)}; give one of the two"
            )
        return self


class Config(Section):
    """One run, as the TOML file's six tables."""

    data: Data = Data()
    objective: Objective = Objective()
    ensemble: Particles = Particles()
    dynamics: Dynamics = Dynamics()
    run: Run = Run()
    record: Record = Record()

    @model_validator(mode="after")
    def _gap_is_defined(self) -> Config:
        needed = self.run.stop_when.relative_gap
        if needed is not None and not self.record.gap:
            raise ValueError(f"run.stop_when.relative_gap = {needed!r}: needs record.gap = true")
        if self.record.gap and Schedule.of(self.objective.temperature).end > 0:
            raise ValueError("record.gap = true: bounds L at temperature 0; objective.temperature must be or end at 0")
        return self

    def resolved(self, critical: float) -> Config:
        """The same run with whatever a default decides written out: λ, τ and a numeric step size as schedules.

        critical: the λ above which no neuron pays (`Problem.critical_reg`).
        """
        reg, step_size = self.objective.reg, self.dynamics.step_size
        if not isinstance(reg, Schedule):
            reg = default_annealing(reg, self.run.steps, critical)
        if not isinstance(step_size, str):
            step_size = Schedule.of(step_size)
        temperature = Schedule.of(self.objective.temperature)
        return self.model_copy(
            update={
                "objective": self.objective.model_copy(update={"reg": reg, "temperature": temperature}),
                "dynamics": self.dynamics.model_copy(update={"step_size": step_size}),
            }
        )

    def with_sizes(self, *, n: int, d: int, n_test: int, m: int) -> Config:
        """The same run with the sizes that its files turned out to have."""
        return self.model_copy(
            update={
                "data": self.data.model_copy(update={"n": n, "d": d, "n_test": n_test}),
                "ensemble": self.ensemble.model_copy(update={"m": m}),
            }
        )


def load_config(path: str | Path | None, overrides: Sequence[str] = ()) -> Config:
    """The configuration in the file at `path` (None: all defaults), then each override "section.key=value".

    An override's value is read as TOML, and as plain text if it is none. Raises InputError for whatever is wrong, and
    for sizes set beside a source file that brings its own.
    """
    where = str(path) if path is not None else "defaults"
    tables = _tables(_read(path), where) if path is not None else {}
    overridden = [_override(tables, override) for override in overrides]

    def blame(key: str) -> str:
        return (
            "--set"
            if any(key == o or key.startswith(o + ".") or o.startswith(key + ".") for o in overridden)
            else where
        )

    config = _validated(tables, blame)
    for key, value in (("data.source", config.data.source), ("ensemble.init", config.ensemble.init)):
        if value in GIVEN:
            raise InputError(f"{blame(key)}: {key} = {value!r}: only in the run files of runs made in Python")
    for section, keys in ((config.data, ("n", "d", "n_test")), (config.ensemble, ("m",))):
        name = "data" if section is config.data else "ensemble"
        for key in keys:
            if section.external and key in section.model_fields_set:
                origin = (
                    f"data.source = {config.data.source!r}"
                    if name == "data"
                    else f"ensemble.init = {config.ensemble.init!r}"
                )
                raise InputError(
                    f"{blame(f'{name}.{key}')}: {name}.{key} = {getattr(section, key)}: "
                    f"must not be set, as it comes from {origin}"
                )
    return config


def parse_config(text: str, where: str) -> Config:
    """The configuration in TOML text, as `to_toml` writes it; `where` names its origin in messages."""
    return check_config(_tables(text, where), where)


def check_config(tables: Mapping[str, Any], where: str) -> Config:
    """The configuration in tables such as those of a TOML file; `where` names their origin in messages."""
    return _validated(tables, lambda key: where)


def to_toml(config: Config) -> str:
    """Complete TOML text in a fixed order, with `parse_config(to_toml(c), ...) == c`; only None is left out."""
    sections = []
    for name in Config.model_fields:
        section = getattr(config, name)
        lines = [
            f"{key} = {_toml(getattr(section, key))}"
            for key in type(section).model_fields
            if getattr(section, key) is not None
        ]
        sections.append("\n".join([f"[{name}]", *lines]) + "\n")
    return "\n".join(sections)


def tables(config: Config) -> dict[str, Any]:
    """The same as nested tables of plain values."""
    return tomllib.loads(to_toml(config))


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    table = value.as_table() if isinstance(value, Schedule) else value.model_dump(exclude_none=True)
    return "{" + ", ".join(f"{key} = {_toml(entry)}" for key, entry in table.items()) + "}"


def _read(path: str | Path) -> str:
    try:
        with open(path, "rb") as file:
            content = file.read(_LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path}: cannot be read: {reason}") from None
    if len(content) > _LARGEST_FILE:
        raise InputError(f"{path}: more than 1 MiB: must be a TOML configuration")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InputError(f"{path}: line {line}: not UTF-8 text: must be a TOML configuration") from None


def _tables(text: str, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise InputError(f"{where}: not valid TOML: nested too deeply") from None
    except ValueError as error:
        last = text.rstrip().count("\n") + 1
        reason = str(error).replace("at end of document", f"at line {last}, the end")
        raise InputError(f"{where}: not valid TOML: {reason}") from None


def _override(tables: dict[str, Any], override: str) -> str:
    """Apply "a.b=v" to `tables`; returns the key."""
    key, equals, text = override.partition("=")
    *parents, last = parts = [part.strip() for part in key.split(".")]
    if not equals or not all(parts) or len(parts) < 2:
        raise InputError(f"--set {override!r}: must be section.key=value, such as data.n=320")
    try:
        parsed = tomllib.loads(f"v = {text}")
        value = parsed["v"] if len(parsed) == 1 else text
    except (ValueError, RecursionError):
        value = text.strip()
    table = tables
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise InputError(f"--set {override!r}: {parent} = {table!r} is not a table")
    table[last] = value
    return ".".join(parts)


def _validated(tables: Mapping[str, Any], blame: Callable[[str], str]) -> Config:
    try:
        return Config.model_validate(tables)
    except ValidationError as errors:
        error = errors.errors(include_url=False)[0]
    key = ".".join(map(str, error["loc"]))
    if not key and error["type"] == "value_error":  # a check across sections begins with the key it is about
        reason = str(error["ctx"]["error"])
        raise InputError(f"{blame(reason.split()[0])}: {reason}")
    raise InputError(f"{blame(key)}: {_explained(key, error)}")


def _explained(key: str, error: Any) -> str:
    """One of pydantic's errors in our words: the key, its value, and what would be valid."""
    if error["type"] == "extra_forbidden":
        return f"{key}: unknown key; {_nearest_key(key)}"
    ctx = error.get("ctx", {})
    if error["type"] == "value_error" and key in Config.model_fields:
        return f"{key}.{ctx['error']}"  # a check across the keys of one section names its key itself
    requirement = {
        "greater_than_equal": "at least {ge}",
        "greater_than": "more than {gt}",
        "less_than": "less than {lt}",
        "int_type": "an integer",
        "int_from_float": "an integer",
        "float_type": "a number",
        "finite_number": "finite",
        "string_type": "text in quotes",
        "string_too_short": "not empty",
        "bool_type": "true or false",
        "list_type": "a list of texts",
        "model_type": "a table",
        "string_unicode": "valid Unicode",
        "literal_error": "one of {expected}",
    }.get(error["type"])
    value = error["input"]
    reason = f"must be {requirement.format(**ctx)}" if requirement else str(ctx.get("error", error["msg"]))
    if error["type"] == "literal_error":
        reason += _did_you_mean(value, re.findall(r"'([^']*)'", ctx["expected"]))
    return f"{key} = {_shown(value)}: {reason}"


def _shown(value: Any) -> str:
    try:
        text = str(value).lower() if isinstance(value, bool) else repr(value)
    except ValueError:
        return "(a number of thousands of digits)"
    return text if len(text) <= 80 else text[:77] + "..."


def _nearest_key(key: str) -> str:
    *parents, last = key.split(".")
    sections = {name: list(type(getattr(Config(), name)).model_fields) for name in Config.model_fields}
    if parents == ["run", "stop_when"]:
        siblings = list(StopWhen.model_fields)
    else:
        siblings = sections.get(".".join(parents), []) if parents else list(sections)
    near = difflib.get_close_matches(last, siblings, n=1)
    elsewhere = [f"{name}.{last}" for name, keys in sections.items() if last in keys]
    if near or elsewhere:
        return f"did you mean {'.'.join([*parents, near[0]]) if near else elsewhere[0]}?"
    return f"known are {', '.join(siblings)}"


def _did_you_mean(value: Any, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(value, known, n=1) if isinstance(value, str) else []
    return f"; did you mean {near[0]}?" if near else ""
