"""What the commands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError, printable


def print_json(values: Mapping[str, Any]) -> None:
    """One JSON object; null where a number was not computed or is not finite."""
    print(json.dumps({name: _plain(value) for name, value in values.items()}))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def result_keys(run: Any, out: Path | None, threads: int | None = None, final: Any = None) -> dict[str, Any]:
    """The keys of `run` and `resume --json`, computed from the state; `final`: the run's `FinalGap`, if it has one."""
    from .. import diagnostics
    from ..dynamics import Field
    from ..simulation.trace import occasional_gap

    ensemble, problem = run.ensemble, run.problem
    field = Field(problem, ensemble.dtype, threads)
    moments = field.engine.predict(ensemble.particles, keep=False)
    value, risk, penalty = problem.evaluate(moments.f, moments.penalty, problem.reg(ensemble.step))
    gap: tuple[Any, ...] = (None, None)
    if final is not None:
        gap = final.lower_bound, final.relative_gap
    elif run.config.record.gap:
        gap = occasional_gap(1).take(field, ensemble, moments)
    return {
        "step": ensemble.step,
        "time": ensemble.time,
        "objective": value,
        "risk": risk,
        "penalty": penalty,
        "margin": diagnostics.normalized_margin(problem, moments),
        "train_error": problem.loss.error(moments.f, problem.targets),
        "test_error": diagnostics.error_on_test_set(problem, ensemble, threads),
        "lower_bound": gap[0],
        "relative_gap": gap[1],
        "seconds": run.recorder.seconds,
        "out": None if out is None else str(out),
    }


def check_rows(run: Any, path: Path) -> None:
    """InputError for a run that has not yet recorded anything to be drawn."""
    if not run.trace:
        raise InputError(f"{path}: has no rows of trace yet; resume it first")


def network_table(run: Any, keys: Mapping[str, Any], baseline: Any = None, gap: str = "relative gap (estimate)") -> str:
    """The measures of a run, with the kernel's beside them if there are any."""
    classes = run.problem.classes is not None
    unit = "" if classes else " (mean square)"
    rows = [
        (f"objective L at λ = {run.problem.reg(run.ensemble.step):.3g}", number(keys["objective"]), ""),
        ("  risk R", number(keys["risk"]), ""),
        ("  penalty λ∫‖θ‖²dρ", number(keys["penalty"]), ""),
        *([(gap, percent(keys["relative_gap"]), "")] if percent(keys["relative_gap"]) else []),
        ("normalized margin", number(keys["margin"]), ""),
        (f"train error{unit}", rate(keys["train_error"], classes), baseline and rate(baseline.train_error, classes)),
        (f"test error{unit}", rate(keys["test_error"], classes), baseline and rate(baseline.test_error, classes)),
    ]
    if baseline:
        rows.append(("seconds", f"{keys['seconds']:.2g}", f"{baseline.seconds:.2g}"))
    head = (f"step {keys['step']}, {keys['seconds']:.0f} s", "network", baseline.kernel if baseline else "")
    return table([head, *[(name, network, kernel or "") for name, network, kernel in rows]])


def table(rows: Iterable[tuple[str, ...]]) -> str:
    """Columns aligned, the first to the left, a rule under the head; whatever a cell holds stands in its line."""
    rows = [tuple(map(printable, row)) for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    return "\n".join([lines[0].rstrip(), "-" * len(lines[0].rstrip()), *(line.rstrip() for line in lines[1:])])


def shown_path(path: Any) -> str:
    """A path, which may hold anything, for a terminal."""
    return printable(str(path))


def percent(value: float | None) -> str:
    """Three digits; empty for what was not computed."""
    return "" if value is None or not math.isfinite(value) else f"{100 * value:.3g} %"


def mebibytes(count: int) -> str:
    return f"{count / 2**20:.3g} MiB" if count < 2**30 else f"{count / 2**30:.3g} GiB"


def number(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.6g}"


def rate(value: float | None, classes: bool) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    return f"{100 * value:.2f} %" if classes else f"{value:.4g}"
