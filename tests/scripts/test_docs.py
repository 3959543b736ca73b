"""The documentation holds what it says: examples run, links lead somewhere, every name is in the reference."""

import importlib
import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from meanfield.dynamics import DYNAMICS
from meanfield.losses import LOSSES
from meanfield.simulation import template
from meanfield.simulation.measures import MEASURES

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS))
import generated  # noqa: E402
import sessions  # noqa: E402

PAGES = sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts)
README = ROOT / "README.md"
TOP = [README, ROOT / "CONTRIBUTING.md"]
INDENTED = re.compile(r"^ {4}(?:mpi(?:run|exec) -n \d+ |\.venv/bin/)?(meanfield (?:[^\n]*\\\n)*[^\n]*)$", re.MULTILINE)
LINK = re.compile(r"(?<!\\)\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"^ {4}.*$|`[^`\n]+`", re.MULTILINE)
FORMULA = re.compile(r"\$\$(?P<block>.+?)\$\$|\$(?P<inline>[^$]+)\$", re.DOTALL)
NAME = re.compile(r"`(meanfield(?:\.\w+)+)`")
FILE = re.compile(r"`((?:scripts|tests|docs|data|meanfield|kernels)/[\w./*-]+)`")


SLOW = [DOCS / "gallery.md", DOCS / "howto" / "variants.md"]  # every figure of the first is drawn in a test of its own


def named(pages, slow=()):
    return [
        pytest.param(page, id=str(page.relative_to(ROOT)), marks=[pytest.mark.slow] if page in slow else [])
        for page in pages
    ]


def outside_code(text):
    """A page without its fenced blocks, in which brackets are no links."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def with_examples(pages):
    """Those that have Python or commands in fences."""
    return [page for page in pages if any(b.language != "toml" for b in sessions.blocks(page.read_text("utf-8")))]


@pytest.mark.parametrize("page", named(with_examples([README, *PAGES]), SLOW))
def test_examples_run(page, tmp_path):
    """A reader who types a page's examples in order, in a fresh folder, meets no error, and edits no table of ours.

    Pages that show outputs run as they are; elsewhere commands are made short, which the site never shows.
    """
    tables = [dict(table) for table in (DYNAMICS, LOSSES, MEASURES)]
    text = page.read_text(encoding="utf-8")
    session = sessions.Session(str(page), tmp_path, small=not sessions.shows(text))
    for block in sessions.blocks(text):
        session.run(block)
    assert tables == [DYNAMICS, LOSSES, MEASURES]


def test_an_example_that_fails_is_seen(tmp_path):
    """A wrong command and a wrong assertion both end the session, and the page's line is told."""
    for text in ("```console\nmeanfield run --set run.stepz=3\n```\n", "\n\n```python\nassert 1 == 2\n```\n"):
        (block,) = sessions.blocks(text)
        with pytest.raises((RuntimeError, AssertionError)) as failed:
            sessions.Session("page", tmp_path).run(block)
        places = [f"{Path(one.path).name}:{one.lineno + 1}" for one in failed.traceback]
        assert "page:2:" in str(failed.value) or "page:4" in places


@pytest.mark.parametrize("page", named([*TOP, *PAGES]))
def test_commands_shown_are_valid(page):
    """Commands outside fences, which are not run, parse: command, options, and the keys that --set names."""
    found = [
        arguments
        for line in INDENTED.findall(outside_code(page.read_text("utf-8")))
        for arguments in sessions.commands(line)
    ]
    for arguments in found:
        sessions.check(arguments)
    assert found or page != README


@pytest.mark.parametrize("page", named([*TOP, *PAGES]))
def test_configurations_shown_are_valid(page):
    """Every TOML block is a configuration."""
    from meanfield.simulation.config import check_config

    for block in sessions.blocks(page.read_text(encoding="utf-8")):
        if block.language == "toml":
            check_config(tomllib.loads(block.code), f"{page.name}:{block.line}")


def test_formulas_become_mathml():
    """Each on every page; primes and norms are set as TeX sets them, and what is no TeX is named."""
    pytest.importorskip("docutils")
    from formulas import mathml

    count = 0
    for page in PAGES:
        for found in FORMULA.finditer(CODE.sub("", outside_code(page.read_text(encoding="utf-8")))):
            block = found["block"] is not None
            assert mathml(found["block"] if block else found["inline"], block=block).startswith("<math")
            count += 1
    assert count > 100
    assert "′" in mathml("L'")
    assert mathml(r"\lVert u \rVert").count('<mo stretchy="false">‖</mo>') == 2
    assert mathml(r"\lvert x \rvert - |x|").count('<mo lspace="0" rspace="0" stretchy="false">|</mo>') == 4
    with pytest.raises(ValueError, match=r"unknown\{x\}: .*unknown"):
        mathml(r"\unknown{x}")


@pytest.mark.parametrize("page", named([*TOP, *PAGES]))
def test_links_and_files_resolve(page):
    """Links to pages, headings, figures and tables lead to something that is there; so do file names in code font."""
    text = outside_code(page.read_text(encoding="utf-8"))
    lost = []
    for link in LINK.findall(FORMULA.sub("", CODE.sub("", text))):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, heading = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (heading and heading not in headings(target)):
            lost.append(link)
    lost += [name for name in FILE.findall(text) if not any(ROOT.glob(name.rstrip("./")))]
    assert lost == []


def test_parts_taken_from_the_readme_are_there():
    """The headings between which a page includes the README exist, in that order."""
    text, count = README.read_text(encoding="utf-8"), 0
    for page in PAGES:
        marks = re.findall(r':(?:start-after|end-before): "(.*)"', page.read_text(encoding="utf-8"))
        for start, end in zip(marks[::2], marks[1::2], strict=True):
            assert -1 < text.find(f"\n{start}\n") < text.find(f"\n{end}\n")
            count += 1
    assert count == 2


def headings(page):
    """The anchors of a page's headings, as they are made of their words."""
    found = re.findall(r"^#+ (.*)$", outside_code(page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.strip().lower()).replace(" ", "-") for one in found}


def test_the_sites_pages_are_reached():
    """Every page is in a table of contents."""
    listed = set()
    for page in PAGES:
        for toctree in re.findall(r"```\{toctree\}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            for entry in (line for line in toctree.splitlines() if line and not line.startswith(":")):
                matches = page.parent.glob(f"{entry}.md")
                listed |= {one.resolve() for one in matches}
    assert {page.resolve() for page in PAGES} - listed <= {DOCS / "index.md"}


@pytest.mark.parametrize("page", named([*TOP, *PAGES]))
def test_python_names_exist(page):
    """Every dotted name of the package that a page mentions can be imported: a formula's place cannot go stale."""
    for name in NAME.findall(page.read_text(encoding="utf-8")):
        assert resolved(name) is not None, name


def resolved(name):
    """The object of a dotted name, None where there is none."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part, None)
            if found is None:
                break
        if found is not None:
            return found
    return None


def test_names_that_do_not_exist_are_seen():
    """The check above tells a misspelt module, function or method from a right one."""
    assert resolved("meanfield.dynamics.step_size.pull_bound")
    for wrong in ("meanfield.dynamix", "meanfield.dynamics.safetey", "meanfield.dynamics.Field.pul_bound"):
        assert resolved(wrong) is None


def test_every_public_name_is_in_the_reference():
    """Of the engine, its parts and the kernels; every module has its place too."""
    pages = "".join(generated.expand(page.read_text("utf-8")) for page in sorted((DOCS / "reference").glob("*.md")))
    parts = ("exact", "plots", "kernels", "estimators", "diagnostics", "losses", "dynamics", "convert")
    for module in ("meanfield", *(f"meanfield.{part}" for part in parts)):
        names = set(generated.public_names(module))
        assert names
        assert names >= ({"Problem", "simulate", "certify"} if module == "meanfield" else set())
        missing = [name for name in names if not re.search(rf"[: `]{re.escape(module)}\.{name}[`\n]", pages)]
        assert missing == []
    for path in [*(ROOT / "meanfield").glob("*.py"), *(ROOT / "kernels").glob("*.py")]:
        name = "meanfield." + ("kernels." if path.parent.name == "kernels" else "") + path.stem
        assert path.stem.startswith("__") or f".. automodule:: {name}\n" in pages


def test_docstrings_become_lists_and_prose():
    """Of every name of the package itself: parameters as terms, examples as they are, and nothing taken for markup."""
    pytest.importorskip("docutils")
    from docstrings import as_rst
    from docutils import nodes
    from docutils.core import publish_doctree

    import meanfield

    trees = {}
    for name in generated.public_names("meanfield"):
        text = inspect.getdoc(getattr(meanfield, name)) or ""
        trees[name] = publish_doctree(as_rst(text), settings_overrides={"report_level": 5, "syntax_highlight": "none"})
    for name, tree in trees.items():
        assert [one.astext() for one in tree.findall(nodes.system_message)] == [], name
        assert "----" not in tree.astext(), name
    terms = [one.astext() for one in trees["Problem"].findall(nodes.term)]
    assert {"X", "X_test, y_test", "InputError"} <= set(terms)
    assert next(one.astext() for one in trees["Problem"].findall(nodes.literal_block)).startswith(">>> from meanfield")


def test_no_name_is_described_twice():
    """What a page of the reference shows of a module, the page of all modules leaves to it."""
    pages = [page.read_text("utf-8") for page in sorted((DOCS / "reference").glob("*.md"))]
    shown = re.findall(r"^<!-- interface: (\S+) -->$", "\n".join(pages), re.MULTILINE)
    assert "meanfield.estimators" in shown
    expanded = "".join(map(generated.expand, pages))
    assert [name for name in shown if f".. automodule:: {name}\n   :members:" in expanded] == []


def test_every_configuration_key_has_its_words(monkeypatch):
    """The table has exactly the models' keys, with their defaults; a key without words, or words alone, are errors."""
    from meanfield.simulation.config import Config

    table = generated.configuration_keys()
    for section, field in Config.model_fields.items():
        rows = table.partition(f"## `[{section}]`")[2].partition("\n## ")[0]
        shown = re.findall(r"^\| `(\w+)` \|", rows, re.MULTILINE)
        assert shown == list(field.annotation.model_fields)
    assert "| `m` | `16384` |" in table

    words = template.meanings()
    for changed in ({**words, "objective": {"regg": "λ"}}, {**words, "unknown": {}}):
        monkeypatch.setattr(template, "meanings", lambda changed=changed: changed)
        with pytest.raises(ValueError, match=r"objective: .*reg, regg|no section unknown"):
            generated.configuration_keys()


def test_the_words_name_every_measure_and_source():
    """What the models do not spell out as a choice is spelt out in the words."""
    from meanfield.simulation.config import GENERATORS, SKLEARN
    from meanfield.simulation.config import MEASURES as NAMES

    words = template.meanings()
    assert [name for name in NAMES if name not in words["record"]["measures"]] == []
    assert [name for name in (*GENERATORS, *SKLEARN) if name not in words["data"]["source"]] == []


def test_every_command_is_in_the_reference():
    """With all its options."""
    from meanfield.cli import _COMMANDS

    page = generated.commands()
    assert re.findall(r"^## meanfield (\w+)$", page, re.MULTILINE) == list(_COMMANDS)
    assert "--max-time" in page
    assert "--margin-optimum" in page


@pytest.mark.slow
def test_the_site_builds_without_warnings_and_needs_no_network(tmp_path):
    """Sphinx with warnings as errors; no page loads a script, style, font or image from elsewhere."""
    for needed in ("sphinx", "furo", "myst_parser"):
        pytest.importorskip(needed)
    command = [sys.executable, "-m", "sphinx", "-E", "-W", "--keep-going", "-q", "-b", "html", "-d", tmp_path / "trees"]
    done = subprocess.run([*command, DOCS, tmp_path / "html"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    pages = list((tmp_path / "html").rglob("*.html"))
    assert len(pages) > len(PAGES)
    loads = re.compile(r"<(?:script|img|link)\b[^>]*(?:src|href)=\"(?:https?:)?//[^\"]*\"|@import|url\(\"?https?:")
    assert [found[0] for page in pages for found in loads.finditer(page.read_text(encoding="utf-8"))] == []
    first = (tmp_path / "html" / "tutorials" / "first-figure.html").read_text(encoding="utf-8")
    assert "<!-- output -->" not in first
    assert "ReLU NTK" in first
    assert "xor-convergence.png" in first
    mathematics = (tmp_path / "html" / "mathematics.html").read_text(encoding="utf-8")
    assert "<math" in mathematics
    assert "$" not in re.sub("<script.*?</script>", "", mathematics, flags=re.DOTALL)
    assert 'href="reference/modules.html#meanfield.exact' not in mathematics
    assert 'href="reference/modules.html#meanfield.dynamics.step_size.safety"' in mathematics
