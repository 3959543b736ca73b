"""The order of the house, as data: who may import whom, and what is imported when."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "meanfield"
ORDER = [  # a folder, or a module beside them, imports only what stands before it
    "errors",
    "shown",
    "arrays",
    "runtime",
    "engine",
    "schedules",
    "losses",
    "formula",
    "neuron",
    "penalty",
    "layers",
    "ensemble",
    "problem",
    "storage",
    "datasets",
    "dynamics",
    "optimality",
    "diagnostics",
    "simulation",
    "kernels",
    "studies",
    "exact",
    "convert",
    "estimators",
    "plots",
    "report",
    "cli",
    "__main__",
]
ONLY = {  # who may import what is heavy, or is another's business
    "h5py": {"storage", "datasets"},
    "matplotlib": {"plots"},
    "meanfield.kernels": {"studies"},
    "tomllib": {"simulation"},
}
LONGEST, USUAL = 37, 17  # lines of a function without its docstring
LAZY = ("numba", "scipy", "sklearn", "h5py", "matplotlib", "pydantic", "numpy")


def sources():
    """(module's dotted name, path) of every file of the package, the kernels included."""
    for folder, prefix in ((PACKAGE, "meanfield"), (ROOT / "kernels", "meanfield.kernels")):
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            if prefix == "meanfield" and parts[0] == "kernels":
                continue  # the link, where rglob follows it
            yield ".".join([prefix, *parts]).removesuffix(".__init__"), path


def imports(name, path):
    """Absolute dotted names of all that a file imports, at the top or inside functions."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = parts[: len(parts) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def room(dotted):
    """The part of the house that meanfield.room.… belongs to; None outside, "" for the package itself."""
    parts = dotted.split(".")
    return None if parts[0] != "meanfield" else parts[1] if len(parts) > 1 else ""


ENGINE = [(name, path) for name, path in sources() if not name.startswith("meanfield.kernels")]
KERNELS = [(name, path) for name, path in sources() if name.startswith("meanfield.kernels")]


def test_the_house_is_seen_whole():
    """The walk finds both folders, and every module has its place in the order."""
    assert len(ENGINE) > 15
    assert len(KERNELS) > 5
    assert {room(name) for name, _ in ENGINE} - {""} <= set(ORDER)


@pytest.mark.parametrize(("name", "path"), [pytest.param(*one, id=one[0]) for one in ENGINE if room(one[0])])
def test_a_module_imports_only_what_stands_before_it(name, path):
    """Within the engine; a package such as cli may import within itself."""
    assert room(name) in ORDER, f"{name} has no place in the order yet"
    allowed = {"", *ORDER[: ORDER.index(room(name)) + (1 if "." in name.partition(".")[2] else 0)]}
    if path.name == "__init__.py":
        allowed.add(room(name))
    for imported in imports(name, path):
        place = room(imported)
        if place in ("__version__", "__path__"):
            continue
        assert place is None or place in allowed, f"{name} imports {imported}"


def test_the_package_itself_imports_nothing_of_its_own():
    """`import meanfield` loads no module of the engine; names come on first use."""
    assert not [one for one in imports("meanfield", PACKAGE / "__init__.py") if room(one)]


def test_only_one_module_imports_what_is_its_business():
    """h5py, matplotlib, TOML and the kernels each have one door."""
    strangers = [
        f"{name} imports {imported}"
        for name, path in ENGINE
        for imported in imports(name, path)
        for what, who in ONLY.items()
        if (imported == what or imported.startswith(what + ".")) and room(name) not in who
    ]
    assert strangers == []


@pytest.mark.parametrize(("name", "path"), [pytest.param(*one, id=one[0]) for one in KERNELS])
def test_kernels_import_nothing_of_the_engine_but_its_runtime(name, path):
    """Matrices in, predictions out: of the engine only how a process computes."""
    for imported in imports(name, path):
        assert room(imported) in (None, "kernels", "runtime"), f"{name} imports {imported}"
        assert imported.split(".")[0] not in ("kernels", "matplotlib"), f"{name} imports {imported}"


@pytest.mark.parametrize("module", ["meanfield", "meanfield.cli", "meanfield.kernels"])
def test_importing_is_cheap(module):
    """Neither the package nor its command line pulls in what takes long to load before it is needed."""
    code = f"import sys, {module}; print(*(name for name in {LAZY} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_run_loads_no_more_of_scipy_than_it_needs():
    """scipy.stats, optimize and spatial would double what the start of every process takes."""
    slow = ("scipy.stats", "scipy.optimize", "scipy.spatial", "sklearn", "matplotlib")
    code = f"import sys, meanfield.simulation.loop; print(*(name for name in {slow} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_public_names_all_exist():
    """Everything that `meanfield` and `meanfield.kernels` announce can be imported; `simulate` is the function."""
    code = (
        "import meanfield, meanfield.kernels as k;"
        "[getattr(meanfield, n) for n in meanfield.__all__]; [getattr(k, n) for n in k.__all__];"
        "assert callable(meanfield.simulate)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def functions():
    """(dotted name, definition, its statements without the docstring) of every function of the package."""
    for name, path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{name}.{node.name}", node, node.body[1:] if ast.get_docstring(node) else node.body


def test_every_function_fits_on_a_screen():
    """Without its docstring at most 37 lines, nine of ten at most 17; modules stay below 500."""
    lines = {name: body[-1].end_lineno - body[0].lineno + 1 for name, _, body in functions() if body}
    assert {name: count for name, count in lines.items() if count > LONGEST} == {}
    assert sorted(lines.values())[len(lines) * 9 // 10] <= USUAL
    assert [name for name, path in sources() if path.read_text(encoding="utf-8").count("\n") >= 500] == []


def test_no_function_takes_more_than_eight_positional_parameters():
    """Settings that travel together are a named tuple."""
    counts = {
        name: sum(argument.arg not in ("self", "cls") for argument in (*node.args.posonlyargs, *node.args.args))
        for name, node, _ in functions()
    }
    assert {name: count for name, count in counts.items() if count > 8} == {}


def test_no_loss_is_asked_for_its_name():
    """What depends on the loss is a method of it; its name is for messages and files."""
    asked = [
        f"{name}:{node.lineno}"
        for name, path in ENGINE
        if room(name) != "losses"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Compare) and "loss.name" in ast.unparse(node)
    ]
    assert asked == []
