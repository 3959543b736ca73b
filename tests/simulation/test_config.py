"""Laws of the configuration: it round-trips, its defaults become explicit, and every failure is one helpful line."""

import subprocess
import sys
import tomllib

import pytest

from meanfield.datasets import generators
from meanfield.dynamics import DYNAMICS
from meanfield.errors import InputError
from meanfield.losses import LOSSES
from meanfield.schedules import Schedule
from meanfield.simulation.config import GENERATORS, METHODS, Config, default_annealing
from meanfield.simulation.config import LOSSES as LOSS_NAMES
from meanfield.simulation.toml import load_config, parse_config, to_toml

CONTRACT = """
[data]
source = "xor"
n = 160
d = 20
n_test = 4096
seed = 0
[objective]
loss = "logistic"
reg = 5e-3
temperature = 0.0
[ensemble]
m = 16384
init = "sphere"
scale = 1.0
seed = 0
dtype = "float32"
[dynamics]
method = "langevin"
step_size = "auto"
[run]
steps = 4000
record_every = 20
checkpoint_every = 500
"""

UNUSUAL = """
[data]
source = "tab\\tq\\"uote\\\\ ünï𝄞\\u007f.csv"
label = "y"
header = false
delimiter = "\\t"
drop = [0, "a b"]
one_hot = ["c", -1]
missing = "mean"
standardize = true
[objective]
loss = "squared"
reg = {start = 1e-2, end = 1e-5, steps = 700}
temperature = {shape = "c_over_log_t", start = 0.1, end = 0.0}
[ensemble]
seed = 18446744073709551615
init = "start.npz"
[dynamics]
step_size = 1
batch = 8
[run]
checkpoint_every = "1h30m"
stop_when = {objective_change = 1e-22}
[record]
test_every = 7
"""


def failure(call, *args):
    """The message of the InputError, which must be one line."""
    with pytest.raises(InputError) as caught:
        call(*args)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def test_the_defaults_are_those_of_the_contract():
    """No file, an empty file and the documented block are the same configuration."""
    assert load_config(None) == Config() == parse_config("", "x")
    written = tomllib.loads(to_toml(Config()))
    own = {"dynamics": {"method": "implicit", "cooled_at": 240}, "run": {"steps": 240}}
    for section, table in tomllib.loads(CONTRACT).items():
        assert (table | own.get(section, {})).items() <= written[section].items()


@pytest.mark.parametrize(
    ("overrides", "method", "steps"),
    [
        ([], "implicit", 240),
        (["dynamics.births=0"], "implicit", 240),
        (["dynamics.method=langevin"], "langevin", 4000),
        (["dynamics.batch=8"], "langevin", 4000),
        (["dynamics.step_size=0.5"], "langevin", 4000),
        (["objective.temperature=1e-3"], "langevin", 4000),
        (["objective.temperature={shape='linear',start=1e-3,end=0.0,steps=9}", "run.steps=10"], "langevin", 10),
    ],
)
def test_a_run_that_names_no_method_has_one_that_can_do_what_it_asks(overrides, method, steps):
    """Implicit steps at a constant λ, or explicit ones where there is a temperature, a batch or a step size."""
    config = load_config(None, overrides)
    assert (config.dynamics.method, config.run.steps) == (method, steps)
    assert config.dynamics.cooled_at == (steps if method == "implicit" else None)
    constant = config.resolved(lambda: 0.5).objective.reg.shape == "constant"
    assert constant == (method == "implicit")


@pytest.mark.parametrize("text", ["", CONTRACT, UNUSUAL])
def test_configurations_survive_being_written(text):
    """parse(to_toml(c)) == c, before and after resolving, and writing again gives the same text."""
    config = parse_config(text, "x")
    for c in (config, config.resolved(lambda: 0.08), config.with_sizes(n=3, d=4, n_test=5, m=6)):
        assert parse_config(to_toml(c), "x") == c
        assert to_toml(parse_config(to_toml(c), "x")) == to_toml(c)


def test_an_unequal_configuration_is_unequal():
    """The comparison behind the round trip sees every table."""
    for override in (
        "data.n=1",
        "objective.reg=1.0",
        "ensemble.seed=1",
        "dynamics.batch=1",
        "run.steps=1",
        "record.test_every=3",
        "run.stop_when.objective_change=0.1",
    ):
        assert load_config(None, [override]) != Config()


def test_resolving_writes_the_defaults_out():
    """λ becomes the annealing, other numbers constants, "auto" stays; resolving twice changes nothing."""
    config = load_config(None, ["run.steps=1000", "objective.reg=1e-4", "dynamics.step_size=2", "run.record_every=7"])
    resolved = config.resolved(lambda: 0.08)
    assert resolved.objective.reg == Schedule("geometric", 0.02, 1e-4, 700)
    assert resolved.objective.temperature == Schedule.of(0.0)
    assert resolved.dynamics.step_size == Schedule.of(2.0)
    assert resolved.resolved(lambda: 0.08) == resolved
    assert resolved.run == config.run
    assert load_config(None).resolved(lambda: 0.08).dynamics.step_size == "auto"


def test_annealing_never_rises():
    """A λ above the start of the annealing is constant."""
    assert default_annealing(0.5, 100, 0.08) == Schedule.of(0.5)
    assert default_annealing(0.02, 100, 0.08) == Schedule.of(0.02)


def test_a_file_and_overrides_are_layered(tmp_path):
    """Overrides win over the file, the file over the defaults; values are TOML, else text."""
    path = tmp_path / "run.toml"
    path.write_bytes(b"\xef\xbb\xbf[data]\nn = 5\nd = 6\n[objective]\nreg = {start = 0.1, end = 0.01, steps = 5}\n")
    config = load_config(
        path, ["data.n = 7", "data.source=parity", "objective.reg.end=0.02", "run.stop_when.objective_change=1"]
    )
    assert (config.data.n, config.data.d, config.data.source) == (7, 6, "parity")
    assert config.objective.reg == Schedule("geometric", 0.1, 0.02, 5)
    assert config.run.stop_when.objective_change == 1.0


def test_an_override_may_write_a_whole_number_with_an_exponent():
    """For counts and numbers alike, with the file that the number written out gives; no fraction passes for a count."""
    short = load_config(None, ["ensemble.m=1e3", "run.steps=1.5e2", "ensemble.scale=1e1", "objective.reg=1e0"])
    long = load_config(None, ["ensemble.m=1000", "run.steps=150", "ensemble.scale=10.0", "objective.reg=1.0"])
    assert (short.ensemble.m, short.run.steps, short.dynamics.cooled_at) == (1000, 150, 150)
    assert to_toml(short) == to_toml(long)
    for wrong in ("ensemble.m=1e-3", "ensemble.m=1.5", "ensemble.m=1e30", "run.steps=inf"):
        with pytest.raises(InputError, match="must be an integer"):
            load_config(None, [wrong])


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.nn=3", "data.nn: unknown key; did you mean data.n?"),
        ("data.steps=3", "data.steps: unknown key; did you mean run.steps?"),
        ("data.zzzzzz=3", "data.zzzzzz: unknown key; known are source, n, d"),
        ("run.stop_when.objectiv_change=3", "did you mean run.stop_when.objective_change?"),
        ("datta.n=3", "datta: unknown key; did you mean data?"),
        ("data.n=x", "data.n = 'x': must be an integer"),
        ("data.n='160'", "data.n = '160': must be an integer"),
        ("data.n=160.0", "data.n = 160.0: must be an integer"),
        ("data.n=true", "data.n = true: must be an integer"),
        ("data.n=0", "data.n = 0: must be at least 1"),
        ("data.d=0", "data.d = 0: must be at least 1"),
        ("data.d=1", "data.d = 1: source 'xor' needs at least 2"),
        ("data.seed=4294967296", "data.seed = 4294967296: must be less than 4294967296"),
        ("data.margin=nan", "data.margin = nan: must be finite"),
        ("data.label=y", "data.label = 'y': only for a source that ends in one of .csv .tsv .txt"),
        ("data.drop=[1]", "data.drop = [1]: only for a source that ends in one of .csv .tsv .txt"),
        ("data.header=true", "data.header = True: only for a source that ends in one of .csv .tsv .txt"),
        ("data.missing=mean", "data.missing = 'mean': only for a source that ends in one of .csv"),
        ("data.missing=fill", "data.missing = 'fill': must be one of 'refuse', 'drop' or 'mean'"),
        ("data.drop=[1.5]", "data.drop = [1.5]: must be the name of a column, or its place from 0 on"),
        ("data.one_hot=['']", "data.one_hot = ['']: must be the name of a column"),
        ("data.label=true", "data.label = true: must be the name of a column"),
        ("data.delimiter=tab", "data.delimiter = 'tab': must be one character"),
        ("data.test_fraction=1.0", "must be less than 1"),
        ("data.source=xro", "data.source = 'xro': must be one of xor, teacher"),
        ("data.source=xro", "did you mean xor?"),
        ("ensemble.m=0", "ensemble.m = 0: must be at least 1"),
        ("ensemble.m=-5", "ensemble.m = -5: must be at least 1"),
        ("ensemble.scale=0", "ensemble.scale = 0: must be more than 0"),
        ("ensemble.scale=true", "ensemble.scale = true: must be a number"),
        ("ensemble.seed=18446744073709551616", "must be less than 18446744073709551616"),
        ("ensemble.init=spher", "did you mean sphere?"),
        ("ensemble.dtype=float16", "must be one of 'float32' or 'float64'; did you mean float"),
        ("objective.loss=logistik", "did you mean logistic?"),
        ("objective.reg=-1", "objective.reg = -1: must be at least 0"),
        ("objective.reg=inf", "objective.reg = inf: must be finite"),
        ("objective.reg=" + "9" * 400, "must be finite"),
        ("objective.reg=big", "must be a number or a schedule"),
        ("objective.reg={start=0.1, end=-0.1, steps=3}", "must be at least 0"),
        ("objective.reg={start=0.1, end=0.01}", "needs steps"),
        ("objective.temperature=-1e-9", "must be at least 0"),
        ("objective.temperature=true", "must be a number or a schedule"),
        ("dynamics.step_size=fast", 'or "auto"'),
        ("dynamics.batch=0", "dynamics.batch = 0: must be at least 1"),
        ("dynamics.rebirth_rate=-1", "must be at least 0"),
        ("run.steps=-1", "run.steps = -1: must be at least 0"),
        ("run.record_every=0", "run.record_every = 0: must be at least 1"),
        ("run.checkpoint_every=ten", "run.checkpoint_every = 'ten': must be an integer of at least 1, or a duration"),
        ("run.checkpoint_every=true", "must be an integer of at least 1, or a duration"),
        ("run.stop_when=3", "run.stop_when = 3: must be a table"),
        ("record.test_every=0", 'record.test_every = 0: must be an integer of at least 1, or "auto"'),
        ("run.stop_when.relative_gap=0.01", "run.stop_when.relative_gap = 0.01: needs record.gap = true"),
        ("record.gap=1", "record.gap = 1: must be true or false"),
        ("data.n.x=3", "data.n = {'x': 3}: must be an integer"),
        ("data.n=0x" + "f" * 9999, "must be"),
        ("objective.reg={end=0x" + "f" * 9999 + "}", "objective.reg"),
        ("data.n", "must be section.key=value"),
        ("n=3", "must be section.key=value"),
        ("data..n=3", "must be section.key=value"),
    ],
)
def test_a_bad_setting_is_named_with_what_would_be_valid(override, words):
    """Every kind of wrong key and value, as an override."""
    message = failure(load_config, None, [override])
    assert words in message
    assert message.startswith("overrides")


def test_the_file_is_blamed_for_what_the_file_says(tmp_path):
    """The message starts with the file, or with the overrides by their name, whichever set the value."""
    path = tmp_path / "run.toml"
    path.write_text("[data]\nn = 0\n")
    assert failure(load_config, path, ["data.d=3"]).startswith(f"{path}: data.n = 0: must be at least 1")
    assert failure(load_config, path, ["data.n=-3"]).startswith("overrides: data.n = -3")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[data\nn = 1", "line 1"),
        (b"[data]\nn = \n", "line 2"),
        (b"[data]\nn = 1\nn = 2\n", "line 3"),
        (b'[data]\nsource = "\xff"\n', "line 2: not UTF-8"),
        (b'[data]\nn = """abc\n\n', "not valid TOML"),
        (b"x = " + b"[" * 100_000, "nested too deeply"),
        (b"[data]\nn = " + b"9" * 5000, "not valid TOML"),
        (b"# " + b"x" * 2**20, "more than 1 MiB"),
        (b"data = 3", "data = 3: must be a table"),
        (b'[data]\n"n\\nm" = 3', "unknown key"),
    ],
)
def test_a_file_that_is_not_a_configuration_says_where(tmp_path, content, words):
    """Syntax, encoding, size, nesting: the file and the line."""
    path = tmp_path / "run.toml"
    path.write_bytes(content)
    message = failure(load_config, path)
    assert words in message
    assert message.startswith(str(path))


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    """And a path that no system accepts."""
    assert "No such file" in failure(load_config, tmp_path / "no.toml")
    assert "directory" in failure(load_config, tmp_path)
    assert "cannot be read" in failure(load_config, "a\0b")


def test_a_setting_inside_a_value_is_refused(tmp_path):
    """`data.n.x` where the file says n = 1."""
    path = tmp_path / "run.toml"
    path.write_text("[data]\nn = 1\n")
    assert "n = 1 is not a table" in failure(load_config, path, ["data.n.x=3"])


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data.source=a.csv", "data.n=5"], "data.n = 5: must not be set, as it comes from data.source = 'a.csv'"),
        (["data.source=sklearn:digits", "data.d=5"], "data.d = 5: must not be set"),
        (["data.source=a.h5", "data.n_test=5"], "data.n_test = 5: must not be set"),
        (["ensemble.init=w.npz", "ensemble.m=5"], "ensemble.m = 5: must not be set, as it comes from ensemble.init"),
    ],
)
def test_sizes_that_a_file_decides_cannot_be_set(overrides, words):
    """At the door only: the text kept in a run file has them filled in."""
    assert words in failure(load_config, None, overrides)
    filled = load_config(None, overrides[:1]).with_sizes(n=3, d=4, n_test=5, m=6)
    assert parse_config(to_toml(filled), "x").data.n == 3


def test_the_line_has_two_features():
    """Filled in when absent, refused when something else."""
    assert load_config(None, ["data.source=line"]).data.d == 2
    assert "exactly 2 features" in failure(load_config, None, ["data.source=line", "data.d=3"])
    assert "k = 30: must be at most data.d" in failure(load_config, None, ["data.source=parity", "data.k=30"])


def test_config_and_the_modules_it_speaks_of_agree():
    """The names of losses and generators here are those there."""
    assert set(GENERATORS) == set(generators.GENERATORS)
    assert set(LOSS_NAMES) == set(LOSSES)
    assert set(METHODS) == set(DYNAMICS)
    for name in LOSSES:
        assert load_config(None, [f"objective.loss={name}"]).objective.loss == name


def test_reading_a_configuration_imports_nothing_heavy():
    """So that a mistake in it is reported at once."""
    code = (
        "import sys, meanfield.simulation.config; "
        "print([m for m in ('scipy', 'sklearn', 'h5py', 'numba', 'matplotlib') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
