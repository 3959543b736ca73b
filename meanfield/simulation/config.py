"""What a run is asked to do, as tables that are checked once.

Every failure is an InputError of one line that names where it was said, the key and its value, and what would be valid.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from ..arrays import plain
from ..errors import InputError, did_you_mean, nearest, ours
from ..schedules import OwnSchedule, Schedule
from .data_files import Character, Column, Columns, FlagOrColumns, check_columns, check_source
from .values import (
    Count,
    CountOrZero,
    Flag,
    Fraction,
    Number,
    Positive,
    Seed,
    Text,
    count_or,
    is_duration,
    known,
    listed,
    number_or_schedule,
    one_of_or_formula,
    one_of_or_qualified,
    pair,
    steps_or_auto,
)

GENERATORS = (
    "xor",
    "teacher",
    "parity",
    "parity_normal",
    "line",
    "single_index",
    "multi_index",
    "two_gaussians",
    "two_moons",
    "spirals",
)
GIVEN = ("arrays", "given")  # data and particles of a run made in Python: found in its run file alone
LAWS = ("sphere", "gaussian", "signs")  # of initial particles: methods of Ensemble
LOSSES = ("logistic", "squared", "cross_entropy")
NEURONS = ("relu", "leaky_relu", "tanh", "erf", "softplus", "gelu", "relu2", "sine", "quadratic")
METHODS = ("langevin", "gradient_flow", "perturbed_flow", "birth_death", "kinetic_langevin", "implicit")
SKLEARN = ("sklearn:digits", "sklearn:breast_cancer", "sklearn:diabetes")
ALL_AT_ONCE = ("implicit",)  # methods under which λ is not lowered from above
DEFAULT_STEPS = {"implicit": 240}  # of a run that names no number
EXPLICIT_STEPS = 4000  # of the other methods
_EXPLICIT: dict[str, dict[str, Any]] = {  # what implicit steps know one value of only
    "objective": {"output_scale": 1},
    "penalty": {"input": 1, "output": 1, "quartic": 0, "path": 0},
    "neuron": {"activation": "relu", "output": None},
    "dynamics": {
        "batch": None,
        "step_size": "auto",
        "rates": [1, 1],
        "noise": [1, 1],
        "label_noise": 0,
        "tail_index": 2,
    },
}
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


def default_annealing(reg: float, steps: int, critical: float) -> Schedule:
    """λ falls geometrically to `reg` over 70 % of the run, from a quarter of the λ above which no neuron pays.

    There few directions pay, and the ensemble finds all of them; as λ falls it follows the optimum. (A run at a small
    fixed λ instead fits the data with whatever neurons are near.) Constant if reg lies above that start.
    """
    start = critical / 4
    return Schedule.of(reg) if reg >= start else Schedule("geometric", start, reg, round(0.7 * steps))


def default_method(tables: Mapping[str, Any]) -> str:
    """The method of a run that names none, from its sections: implicit, unless it asks for what only explicit steps do.

    That is a temperature, λ = 0, and whatever stands in `_EXPLICIT` with another value than its default.
    """
    hot = any(end != 0 for end in _ends(_section(tables, "objective").get("temperature", 0.0)))
    free = any(end == 0 for end in _ends(_section(tables, "objective").get("reg", 1.0)))
    other = any(
        _section(tables, section).get(key, usual) != usual
        for section, keys in _EXPLICIT.items()
        for key, usual in keys.items()
    )
    return "langevin" if hot or free or other else "implicit"


def _ends(value: Any) -> list[Any]:
    """Both ends of what is a number, a table or a schedule."""
    if isinstance(value, OwnSchedule):
        return [1.0]  # whatever it is, it is some temperature
    if isinstance(value, Schedule):
        return [value.start, value.end]
    if not isinstance(value, Mapping):
        return [value]
    return [value.get(one, value.get(other, 0.0)) for one, other in (("start", "end"), ("end", "start"))]


def _section(tables: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = tables.get(name)
    return table if isinstance(table, Mapping) else {}


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Data(Section):
    """Where the examples come from; n, d and n_test are those of the file where there is one."""

    source: Text = "xor"
    n: Count = 160
    d: Count = 20
    n_test: CountOrZero = 4096
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**32)] = 0
    label: Column | None = None
    header: Flag | None = None
    delimiter: Character | None = None
    drop: Columns = []
    one_hot: FlagOrColumns = False
    missing: Literal["refuse", "drop", "mean"] = "refuse"
    test_fraction: Fraction = 0.25
    standardize: Flag = False
    bias: Flag = False
    task: Literal["classification", "regression"] = "classification"
    hidden: Count = 6
    margin: Number = 0.1
    k: Count = 2
    link: Annotated[Text, one_of_or_qualified(NEURONS, formula=True), listed(NEURONS)] = "z**2 - 1"
    noise: Number = 0.0
    separation: Number = 2.0

    @field_validator("source")
    @classmethod
    def _known_source(cls, source: str) -> str:
        return source if source == "arrays" else check_source(source, (*GENERATORS, *SKLEARN))

    @model_validator(mode="before")
    @classmethod
    def _line_is_flat(cls, table: Any) -> Any:
        return {"d": 2, **table} if isinstance(table, Mapping) and table.get("source") == "line" else table

    @model_validator(mode="after")
    def _fits(self) -> Data:
        if self.source in ("xor", "two_moons", "spirals") and self.d < 2:
            raise ValueError(f"d = {self.d}: source {self.source!r} needs at least 2")
        if self.source == "line" and self.d not in (2, 2 + self.bias):  # a run file counts the bias among the features
            raise ValueError(f"d = {self.d}: source 'line' has exactly 2 features, x and the constant 1")
        if self.source in ("parity", "parity_normal", "multi_index") and self.k > self.d:
            raise ValueError(f"k = {self.k}: must be at most data.d, which is {self.d}")
        check_columns(self)
        return self

    @property
    def external(self) -> bool:
        """Whether n, d and n_test come with the source instead of being chosen."""
        return self.source not in GENERATORS


Parameters = dict[str, Any] | None  # the fields of an object of the user's own, plain values


class Objective(Section):
    """A number for `reg` is the final λ of the default annealing. A loss of the user's own has `parameters`."""

    loss: Annotated[Text, one_of_or_qualified(LOSSES), listed(LOSSES)] = "logistic"
    reg: Annotated[float | Schedule, number_or_schedule()] = 5e-3
    temperature: Annotated[float | Schedule, number_or_schedule(own=True)] = 0.0
    output_scale: Annotated[float, Field(strict=True, ge=1e-15, le=1e15)] = 1.0
    parameters: Parameters = None


class Penalty(Section):
    """p(θ) = input‖u‖² + output‖w‖² + quartic‖θ‖⁴ + path‖u‖‖w‖ in λ∫p dρ."""

    input: Number = 1.0
    output: Number = 1.0
    quartic: Number = 0.0
    path: Number = 0.0


class Neuron(Section):
    """Φ(θ; x) = w φ(u·x), or ψ(w) φ(u·x). One of the user's own is a formula, or named by its two functions."""

    activation: Annotated[Text, one_of_or_qualified(NEURONS, formula=True), listed(NEURONS)] = "relu"
    output: Annotated[Text, one_of_or_formula(NEURONS)] | None = None
    derivative: Text | None = None

    @property
    def is_relu(self) -> bool:
        """Whether it is w relu(u·x), which implicit steps, annealing and recorded bounds know."""
        return self.activation == "relu" and self.output is None

    @property
    def words(self) -> str:
        """What messages call it."""
        return self.activation if self.output is None else f"{self.activation}, output {self.output}"


class Particles(Section):
    """The initial ensemble; m is that of the file where `init` is one."""

    m: Count = 16384
    init: Text = "sphere"
    scale: Positive = 1.0
    symmetric: Flag = False
    seed: Seed = 0
    dtype: Literal["float32", "float64"] = "float32"

    @field_validator("init")
    @classmethod
    def _known_init(cls, init: str) -> str:
        if init in (*LAWS, "given") or init.endswith((".npz", ".h5")):
            return init
        raise ValueError(f"must be one of {', '.join(LAWS)}, or a path ending .npz .h5{did_you_mean(init, LAWS)}")

    @model_validator(mode="after")
    def _pairs_are_drawn(self) -> Particles:
        if self.symmetric and (self.external or self.m % 2):
            raise ValueError("symmetric = true: needs init = 'sphere', 'gaussian' or 'signs', and an even m")
        return self

    @property
    def external(self) -> bool:
        return self.init not in LAWS


class Dynamics(Section):
    """`rebirth_rate` is σ of perturbed_flow, `exchange_rate` that of birth_death, `friction` γ of
    kinetic_langevin; batch None is the whole data.

    cooled_at, births, fit_masses and whiten are implicit's. A dynamics of the user's own has its further fields as
    `parameters`. Which method a run has where none is named: `default_method`.
    """

    method: Annotated[Text, one_of_or_qualified(METHODS), listed(METHODS)] = "implicit"
    step_size: Annotated[float | str | Schedule, number_or_schedule(positive=True, auto=True)] = "auto"
    rebirth_rate: Number = 1e-4
    exchange_rate: Number = 1.0
    friction: Number = 1.0
    batch: Count | None = None
    rates: Annotated[list[float], pair("of u and of w")] = [1.0, 1.0]
    noise: Annotated[list[float], pair("of u and of w")] = [1.0, 1.0]
    label_noise: Number = 0.0
    tail_index: Annotated[float, Field(strict=True, ge=1, le=2)] = 2.0
    cooled_at: CountOrZero | None = None
    births: CountOrZero = 64
    fit_masses: Flag = True
    whiten: Flag = True
    parameters: Parameters = None


class StopWhen(Section):
    """Stop early, with λ and τ at rest, once the relative change of the objective over ten rows or the recorded
    relative gap falls to the bound; None never does."""

    objective_change: Positive | None = None
    relative_gap: Positive | None = None


class Run(Section):
    steps: CountOrZero = DEFAULT_STEPS["implicit"]
    record_every: Count = 20
    checkpoint_every: Annotated[int | str, count_or('a duration such as "10min"', is_duration)] = 500
    stop_when: StopWhen = StopWhen()


_CountOrAuto = Annotated[int | str, count_or('"auto"', "auto".__eq__)]


class Record(Section):
    """What the trace holds beside the measures of every row, and how often: "auto" keeps the cost small."""

    test_every: _CountOrAuto = "auto"
    gap: Flag = False
    gap_every: _CountOrAuto = "auto"
    measures: Annotated[list[str], known(MEASURES)] = []
    measures_every: _CountOrAuto = "auto"
    alignment_dims: Count = 2
    snapshots: CountOrZero = 0
    snapshot_particles: Annotated[int | str, count_or('"all"', "all".__eq__)] = 4096
    snapshot_spacing: Literal["linear", "log"] = "linear"
    snapshot_steps: Annotated[str | list[int], steps_or_auto()] = "auto"

    @model_validator(mode="after")
    def _snapshots_are_counted(self) -> Record:
        if not isinstance(self.snapshot_steps, str) and self.snapshots not in (0, len(self.snapshot_steps)):
            raise ValueError(
                f"snapshots = {self.snapshots}: snapshot_steps lists {len(self.snapshot_steps)}; give one of the two"
            )
        return self


class Config(Section):
    """One run, as the TOML file's eight tables."""

    data: Data = Data()
    objective: Objective = Objective()
    penalty: Penalty = Penalty()
    neuron: Neuron = Neuron()
    ensemble: Particles = Particles()
    dynamics: Dynamics = Dynamics()
    run: Run = Run()
    record: Record = Record()

    @model_validator(mode="before")
    @classmethod
    def _method_is_decided(cls, tables: Any) -> Any:
        """With the method, where none is named, and the numbers of steps that go with it."""
        if not isinstance(tables, Mapping) or any(
            isinstance(tables.get(name), Section) for name in ("dynamics", "run")
        ):
            return tables
        if any(not isinstance(tables.get(name, {}), Mapping) for name in ("dynamics", "run")):
            return tables
        dynamics, run = dict(_section(tables, "dynamics")), dict(_section(tables, "run"))
        method = dynamics.setdefault("method", default_method(tables))
        run.setdefault("steps", DEFAULT_STEPS.get(method, EXPLICIT_STEPS) if isinstance(method, str) else 0)
        if method == "implicit" and isinstance(run["steps"], int) and run["steps"] >= 0:
            dynamics.setdefault("cooled_at", run["steps"])
        return {**tables, "dynamics": dynamics, "run": run}

    @model_validator(mode="after")
    def _gap_is_defined(self) -> Config:
        needed = self.run.stop_when.relative_gap
        if needed is not None and not self.record.gap:
            raise ValueError(f"run.stop_when.relative_gap = {needed!r}: needs record.gap = true")
        if self.record.gap and _ends(self.objective.temperature)[-1] > 0:
            raise ValueError("record.gap = true: bounds L at temperature 0; objective.temperature must be or end at 0")
        return self

    @model_validator(mode="after")
    def _neuron_is_known_to_all(self) -> Config:
        words = self.neuron.words
        if not self.neuron.is_relu and self.dynamics.method == "implicit":
            raise ValueError(
                f"dynamics.method = 'implicit': moves relu neurons only, not {words!r}; "
                "must be langevin, gradient_flow, perturbed_flow, birth_death or kinetic_langevin"
            )
        if not self.neuron.is_relu and self.record.gap:
            raise ValueError(f"record.gap = true: bounds are known for relu neurons only, not {words!r}")
        return self

    @property
    def is_plain(self) -> bool:
        """Whether λ > 0, the penalty ‖θ‖² and no output scale: what implicit steps and bounds know."""
        objective = self.objective
        return min(_ends(objective.reg)) > 0 and self.penalty == Penalty() and objective.output_scale == 1

    @model_validator(mode="after")
    def _objective_is_known_to_all(self) -> Config:
        needs = "needs reg > 0, the penalty ‖θ‖² and output_scale = 1"
        if not self.is_plain and self.dynamics.method == "implicit":
            explicit = "must be langevin, gradient_flow, perturbed_flow, birth_death or kinetic_langevin"
            raise ValueError(f"dynamics.method = 'implicit': {needs}; {explicit}")
        if not self.is_plain and self.record.gap:
            raise ValueError(f"record.gap = true: {needs}")
        return self

    def resolved(self, critical: Callable[[], float]) -> Config:
        """The same run with whatever a default decides written out: λ, τ and a numeric step size as schedules.

        critical: gives the λ above which no neuron pays (`Problem.critical_reg`), which takes a moment; it is asked
        for only where λ is a number.
        """
        reg, step_size = self.objective.reg, self.dynamics.step_size
        if not isinstance(reg, Schedule):
            known = self.neuron.is_relu and self.is_plain and self.dynamics.rates == [1, 1]
            anneals = known and self.dynamics.method not in ALL_AT_ONCE
            reg = default_annealing(reg, self.run.steps, critical()) if anneals else Schedule.of(reg)
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


def check_config(tables: Mapping[str, Any], where: str | Callable[[str], str]) -> Config:
    """The configuration in tables such as those of a TOML file; `where` names their origin, or that of a key.

    InputError: an unknown key, or a value that is not valid.
    """
    blame = where if callable(where) else lambda key: where
    return _validated(plain(tables), blame)


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
        reason += did_you_mean(value, re.findall(r"'([^']*)'", ctx["expected"]))
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
    places = [f"{name}.{ours(last)}" for name, keys in sections.items() if ours(last) in keys]
    if ours(last) in siblings or not places:
        places = [".".join([*parents, near]) for near in [nearest(last, siblings)] if near]
    return f"did you mean {' or '.join(places)}?" if places else f"known are {', '.join(siblings)}"
