"""A run as one HTML page: it needs no network, no script and no other file.

Whatever comes from the run file is escaped, figures are images (in which a browser runs no script), and the page's own
policy forbids scripts and connections besides.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from html import escape
from typing import Any

from . import plots
from .diagnostics.basic import error_on_test_set, normalized_margin
from .errors import InputError, printable
from .optimality.certificate import certify
from .optimality.free_energy_gap import certify_free_energy
from .plots.figures import apart
from .simulation.output import quoted
from .simulation.run import Run
from .simulation.toml import to_toml
from .simulation.values import is_qualified, short_name
from .studies.comparison import Baseline, is_cheap, kernel_baseline, ntk_of

_CSS = """
:root { color-scheme: light dark; --ground: #fff; --text: #1a1a1a; --quiet: #5c5c5c; --line: #ddd; --box: #f6f6f6; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #16181b; --text: #e4e4e4; --quiet: #a0a0a0; --line: #383c42; --box: #202328; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1160px; padding: 1rem; background: var(--ground); color: var(--text);
       font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: .5rem 0 0; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
p { margin: .4rem 0; max-width: 46rem; } .quiet { color: var(--quiet); }
table { border-collapse: collapse; width: 100%; max-width: 46rem; font-variant-numeric: tabular-nums; }
td, th { padding: .3rem .5rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; text-align: left; }
td:not(:first-child), th:not(:first-child) { text-align: right; padding-right: 0; padding-left: .75rem;
                                             min-width: 6rem; overflow-wrap: break-word; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 330px), 1fr)); gap: 1rem; }
figure { margin: 0; min-width: 0; }
figure img { display: block; width: 100%; height: auto; background: #fff; border-radius: 6px; padding: 6px;
             border: 1px solid var(--line); }
figcaption { color: var(--quiet); font-size: .875rem; padding: .3rem .1rem; }
figure a { color: inherit; } figure .back { display: none; }
figure:target { position: fixed; inset: 0; z-index: 1; overflow: auto; padding: 1rem; background: var(--ground); }
figure:target img { width: max(min(96vw, 120vh), 40rem); margin: 0 auto; }
figure:target .back { display: inline; }
@media (prefers-color-scheme: dark) { figure img { filter: invert(.9) hue-rotate(180deg); border-color: #bbb; } }
pre { background: var(--box); padding: .75rem; border-radius: 6px; white-space: pre-wrap; font-size: .8125rem; }
@media print {
  :root { color-scheme: light; --ground: #fff; --text: #000; --quiet: #444; --line: #bbb; --box: #fff; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  .figures { grid-template-columns: repeat(3, 1fr); } figure, tr { break-inside: avoid; } h2 { break-after: avoid; }
  figure:target { position: static; padding: 0; } figure:target img { width: 100%; }
  figure img { filter: none; } figure:target .back { display: none; }
}
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_SIZE = (3.5, 2.7)  # inches: a column of a desktop's page, the whole width of a phone's
_PANELS = (
    ("plot_objective", "Objective, its parts, and the lower bound where it was recorded."),
    ("plot_gap", "Relative gap between the objective and the lower bound, an estimate."),
    ("plot_margin", "Normalized margin."),
    ("plot_errors", "Training and test error."),
    ("plot_schedules", "Step size, regularization and temperature in force."),
    ("plot_drift", "Root mean square of the drift over the particles."),
    ("plot_free_energy", "Free energy."),
    ("plot_particles", "Particles: colour and marker by the sign of w (or its largest output), area by mass."),
    ("plot_balance", "Output against input weights; stationary particles lie on the diagonal."),
    ("plot_potential", "The potential over a circle of directions; at a minimum (τ = 0) particles sit where it is 1."),
    ("plot_margins", "Margins of the examples, or errors of a regression."),
)
_FUNCTIONS = (
    "The function over a plane through the first test example, or along a line: the network.",
    "The same, colours on the same scale: the neural tangent kernel, ridge regression.",
)
_LARGEST_KERNEL = 2000  # examples up to which the kernel is fitted beside the network


def html(run: Run, name: str, *, seconds: float = 3.0, written: str = "") -> str:
    """The page of a run kept under the file name `name`; `seconds` to spend on the certificate, 0 for none.

    `written`: the date of the file, as it is to be shown.
    """
    sections = [
        f"<h1>{_escaped(_title(run))}</h1>",
        f'<p class="quiet">{_escaped(_standing(run, name, written))}</p>',
        "<h2>Measures</h2>",
        _measures(run),
        "<h2>Certificate</h2>",
        _certificate(run, seconds),
        '<h2 id="figures">Figures</h2>',
        f'<div class="figures">{"".join(_figures(run))}</div>',
        "<h2>How to make it again</h2>",
        _recipe(run, name),
        f"<pre>{_settings(run)}</pre>",
        "<h2>Made with</h2>",
        _table([(key.replace("_", " "), value) for key, value in run.attributes.items()]),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_escaped(f'{_title(run)} – {name}')}</title><style>{_CSS}</style></head>\n<body>\n"
        + "\n".join(sections)
        + "\n</body></html>\n"
    )


def _title(run: Run) -> str:
    """What the run is."""
    config, problem = run.config, run.problem
    return (
        f"{config.data.source}, n = {problem.n}, d = {problem.d}: {run.ensemble.m} {short_name(config.neuron.words)} "
        f"neurons, {short_name(config.objective.loss).replace('_', '-')} loss, "
        f"{short_name(config.dynamics.method).replace('_', ' ')}"
    )


def _standing(run: Run, name: str, written: str) -> str:
    """Where the run is kept, how far it is, and what it came from."""
    step, steps = run.ensemble.step, run.config.run.steps
    parts = [
        name,
        f"{'finished' if step >= steps else 'unfinished'} at step {step} of {steps}",
        f"last written {written}" if written else "",
        f"begun from {run.attributes['parent']}" if "parent" in run.attributes else "",
    ]
    return "; ".join(filter(None, parts))


def _settings(run: Run) -> str:
    return "\n".join(map(_escaped, settable(run).split("\n")))


def _escaped(text: str) -> str:
    """One line of text as it stands in the page: without markup, and without signs that hide or turn what follows."""
    return escape(printable(text))


def _table(rows: Iterable[tuple[Any, ...]], head: tuple[str, ...] = ()) -> str:
    def line(cells: tuple[Any, ...], tag: str) -> str:
        return f"<tr>{''.join(f'<{tag}>{_escaped(_text(cell))}</{tag}>' for cell in cells)}</tr>"

    return f"<table>{line(head, 'th') if head else ''}{''.join(line(row, 'td') for row in rows)}</table>"


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and value != value):
        return "–"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _measures(run: Run) -> str:
    """Of the state as it is, not of the last row; and what the kernel has of it, where that is cheap."""
    problem, ensemble = run.problem, run.ensemble
    moments, k = plots.moments_of(run), run.ensemble.step
    value, risk, penalty = problem.evaluate(moments.f, moments.penalty, problem.reg(k))
    kind = "error" if problem.classes is not None else "mean squared error"
    kernel = _kernel(run)
    rows: list[tuple[str, Any, Any]] = [
        ("step", k, ""),
        ("regularization λ", problem.reg(k), ""),
        ("temperature τ", problem.temperature(k), ""),
        ("objective L", value, ""),
        ("risk R", risk, ""),
        ("penalty λ∫‖θ‖²dρ", penalty, ""),
        ("normalized margin", normalized_margin(problem, moments), ""),
        (f"training {kind}", problem.loss.error(moments.f, problem.targets), kernel.train_error if kernel else ""),
        (f"test {kind}", error_on_test_set(problem, ensemble), kernel.test_error if kernel else ""),
        ("wall-clock seconds up to the last row", run.recorder.seconds, kernel.seconds if kernel else ""),
    ]
    if kernel is None:
        return _table(row[:2] for row in rows)
    note = f"{kernel.kernel}, the kernel of the same neuron at initialization: {kernel.method}."
    return _table(rows, ("", "network", kernel.kernel)) + f'<p class="quiet">{_escaped(note)}</p>'


def _kernel(run: Run) -> Baseline | None:
    """The kernel on the same data, where that takes seconds at most."""
    if run.problem.n > _LARGEST_KERNEL or not is_cheap(ntk_of(run.problem.neuron)[0]):
        return None
    try:
        return kernel_baseline(run.problem)
    except InputError:  # such as a single class
        return None


def _certificate(run: Run, seconds: float) -> str:
    if seconds == 0:
        return '<p class="quiet">None was asked for.</p>'
    try:
        if run.problem.temperature(run.ensemble.step) > 0:
            return _free_energy(run)
        found = certify(run.problem, run.ensemble, seconds=seconds)
    except InputError as error:
        return f'<p class="quiet">None: {_escaped(str(error))}</p>'
    kind = " (proven)" if found.rigorous else " (estimate)"
    rows: list[tuple[str, Any]] = [
        ("objective L", found.primal),
        (f"lower bound{kind} of min L over all infinite-width networks", found.lower_bound),
        (f"relative gap{kind}", f"{100 * found.relative_gap:.3g} %"),
    ]
    if not found.rigorous and found.proven_bound is not None:
        rows.append(("proven lower bound of min L", found.proven_bound))
    meaning = (
        "The bound is proven."
        if found.rigorous
        else "The bound is an estimate: it rests on the highest pull that a search found, not on a proof that there "
        "is none higher."
    )
    return _table(rows) + f'<p class="quiet">{meaning} Method: {_escaped(found.method)}, {found.seconds:.1f} s.</p>'


def _free_energy(run: Run) -> str:
    found = certify_free_energy(run.problem, run.ensemble)
    rows = [
        ("lower bound (estimate) of min F_τ", found.lower_bound),
        ("standard error", found.standard_error),
        ("free-energy gap of the Gibbs measure of its residual", found.gap),
        ("Gibbs consistency ‖f(a) − f‖ / ‖f‖", found.consistency),
    ]
    how = f"An estimate at temperature {found.temperature:.3g}. Method: {_escaped(found.method)}."
    return _table(rows) + f'<p class="quiet">{how}</p>'


def _figures(run: Run) -> Iterable[str]:
    """The panels that have something to show, each a link to itself at the size of the window."""
    panels = [(plots.single(getattr(plots, name), run, _SIZE), caption) for name, caption in _PANELS]
    drawn = [*panels, *zip(apart(run, _SIZE), _FUNCTIONS, strict=True)]
    shown = [(figure, caption) for figure, caption in drawn if figure.axes[0].has_data()]
    for k, (figure, caption) in enumerate(shown, 1):
        image = io.BytesIO()
        plots.save_image(figure, image)
        data = base64.b64encode(image.getvalue()).decode()
        yield (
            f'<figure id="figure-{k}"><a href="#figure-{k}"><img alt="{_escaped(caption)}" '
            f'src="data:image/svg+xml;base64,{data}"></a><figcaption>{_escaped(caption)} '
            '<a class="back" href="#figures">Back to the page</a></figcaption></figure>'
        )


def settable(run: Run) -> str:
    """The run's configuration as TOML that `meanfield run` takes: it refuses sizes beside a file that brings them, and
    adds a bias to the features itself."""
    brought = {
        "data": ("n", "d", "n_test") if run.config.data.external else (),
        "ensemble": ("m",) if run.config.ensemble.external else (),
    }
    lines, section = [], ""
    data = run.config.data
    plain = run.config.model_copy(update={"data": data.model_copy(update={"d": data.d - data.bias})})
    for line in to_toml(plain).rstrip("\n").split("\n"):
        section = line.strip("[]") if line.startswith("[") else section
        if line.partition(" = ")[0] not in brought.get(section, ()):
            lines.append(line)
    return "\n".join(lines) + "\n"


def _recipe(run: Run, name: str) -> str:
    """How to make the same run again."""
    config, shown, file = run.config, _escaped(repr(name)), _escaped(quoted(name))
    looks = f"<pre>meanfield report {file}\nmeanfield certify {file}\nmeanfield plot {file}</pre>"
    if config.data.source == "arrays" or config.ensemble.init == "given":
        own = [
            f"{key}=…"
            for key, value in (
                ("dynamics", config.dynamics.method),
                ("loss", config.objective.loss),
                ("neuron", config.neuron.activation),
            )
            if is_qualified(value)
        ]
        needed = "".join(f", {argument}" for argument in own)
        command = f"meanfield resume {file} --more 1000"
        go_on = f"meanfield.resume({shown}, more=1000{needed})" if own else command
        return (
            "<p>The run was made in Python, from arrays that are kept in its file alone. "
            f"<code>meanfield.load({shown}{needed})</code> has them as <code>.problem</code>; going on: "
            f"<code>{go_on}</code>.</p>"
            f'<p class="quiet">SHA-256 of the data: {_escaped(run.dataset.sha256)}</p>{looks}'
        )
    return (
        f"<pre>meanfield run config.toml --out {file}</pre>"
        "<p>where <code>config.toml</code> holds the configuration below; with the versions below it gives the same "
        "bits. This page, the certificate and the figures are made by</p>"
        f"{looks}"
        f'<p class="quiet">SHA-256 of the data: {_escaped(run.dataset.sha256)}</p>'
    )
