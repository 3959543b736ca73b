"""Laws of `meanfield report`: one page that holds the run, needs nothing else, and obeys nothing in the run's file."""

import base64
import copy
import html.parser
import os
import re
import shutil
import subprocess
import tomllib

import numpy as np
import pytest
from PIL import Image

from meanfield import Ensemble, Problem, load, report, simulate
from meanfield.cli import main
from meanfield.errors import printable
from meanfield.report import html as page_of
from meanfield.report import settable
from meanfield.simulation.loop import run_to_end
from meanfield.simulation.new_run import new_run_from_config
from meanfield.simulation.toml import load_config, parse_config
from meanfield.studies.comparison import kernel_baseline

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SMALL = ("ensemble.m=256", "data.n=40", "data.d=6", "data.n_test=64", "run.steps=40", "run.record_every=10")


def small(*overrides):
    run = new_run_from_config(load_config(None, [*SMALL, *overrides]))
    run_to_end(run, None)
    return run


@pytest.fixture(scope="module")
def run():
    return small("record.gap=true")


@pytest.fixture(scope="module")
def page(run):
    return page_of(run, "a.h5", seconds=0.5)


@pytest.fixture
def few_figures(monkeypatch):
    """For laws that are about something else."""
    monkeypatch.setattr(report, "_PANELS", report._PANELS[:1])
    monkeypatch.setattr(report, "apart", lambda run, size: [])
    monkeypatch.setattr(report, "_FUNCTIONS", ())


class Reader(html.parser.HTMLParser):
    """Tags with their attributes, and the text of every element."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.path = [], {}, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.path.append(tag)

    def handle_endtag(self, tag):
        assert self.path.pop() == tag

    def handle_data(self, data):
        if self.path:
            self.text.setdefault(self.path[-1], []).append(data)


def test_the_page_is_whole_and_needs_nothing_else(page):
    """Every element is closed, every source is in the page, and its policy forbids scripts and connections."""
    found = Reader(page)
    assert found.path == []
    assert {tag for tag, _ in found.tags}.isdisjoint({"script", "link", "iframe", "object", "embed", "form", "base"})
    links = [value for _, attributes in found.tags for name, value in attributes.items() if name in ("src", "href")]
    assert len(links) > 8
    assert all(link.startswith(("data:image/svg+xml;base64,", "#figure")) for link in links)
    assert not re.search(r"url\(|@import|https?://", re.sub(r"base64,[^\"]*", "", page))
    (policy,) = [a["content"] for t, a in found.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")


@pytest.mark.usefixtures("few_figures")
def test_the_title_says_what_the_run_is(run):
    """The data, the network and how it was trained; below it the file, its date and the run it began from."""
    text = Reader(page_of(run, "a.h5", seconds=0, written="2024-02-29 12:00")).text
    assert text["h1"] == ["xor, n = 40, d = 6: 256 relu neurons, logistic loss, implicit"]
    assert text["p"][0] == "a.h5; finished at step 40 of 40; last written 2024-02-29 12:00"
    grown = copy.copy(run)
    grown.attributes = {**run.attributes, "parent": "b.h5, step 3"}
    assert Reader(page_of(grown, "a.h5", seconds=0)).text["p"][0].endswith("; begun from b.h5, step 3")


@pytest.mark.usefixtures("few_figures")
def test_the_kernel_stands_beside_the_network(run, page, monkeypatch):
    """Its errors are those of `meanfield ntk`; where it would take long, the network stands alone."""
    cells = Reader(page).text["td"]
    wanted = kernel_baseline(run.problem)
    for name, value in (("training error", wanted.train_error), ("test error", wanted.test_error)):
        assert cells[cells.index(name) + 2] == f"{value:.6g}"
    monkeypatch.setattr(report, "_LARGEST_KERNEL", 39)
    assert "th" not in Reader(page_of(run, "a.h5", seconds=0)).text


def test_every_figure_is_a_link_to_itself_enlarged(page):
    """By CSS alone: the figure that the address names fills the window, and has a way back."""
    tags = Reader(page).tags
    figures = [attributes["id"] for tag, attributes in tags if tag == "figure"]
    links = [attributes["href"] for tag, attributes in tags if tag == "a"]
    assert len(figures) > 8
    assert links == [one for figure in figures for one in (f"#{figure}", "#figures")]
    assert "figure:target" in page


def test_figures_hold_no_reference_to_elsewhere(page):
    """No image or font is fetched from within an SVG, and its text is outlines."""
    for data in re.findall(r"base64,([^\"]*)", page):
        svg = base64.b64decode(data).decode()
        assert not re.search(r"<script|<foreignObject|href=\"(?!#|data:image/png)", svg)
        assert "<text" not in svg


def test_the_page_holds_the_configuration_and_the_measures(run, page):
    """The configuration is one that `run` takes, and gives the same run; the objective is that of the state."""
    text = Reader(page).text
    config = next(one for one in text["pre"] if "[objective]" in one)
    assert parse_config(config, "page") == run.config
    cells = text["td"]
    assert cells[cells.index("objective L") + 1] == f"{run.problem.objective(run.ensemble).value:.6g}"
    assert any("estimate" in one or "proven" in one for one in cells)
    assert run.dataset.sha256 in page


def test_a_recipe_leaves_out_sizes_that_come_with_the_data(tmp_path):
    """`meanfield run` takes the configuration as it stands on the page, for data from a file too."""
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "data.npz", X=rng.standard_normal((30, 3)), y=np.sign(rng.standard_normal(30)))
    run = new_run_from_config(
        load_config(None, [f"data.source={tmp_path / 'data.npz'}", "ensemble.m=64", "run.steps=5"])
    )
    text = settable(run)
    assert "n" not in tomllib.loads(text)["data"]
    (tmp_path / "again.toml").write_text(text)
    again = new_run_from_config(load_config(tmp_path / "again.toml"))
    assert again.config == run.config


def test_a_recipe_counts_a_bias_once(tmp_path):
    """The run adds it to the features that the configuration asks for; the file counts it among them."""
    for source in ("xor", "line"):
        overrides = [f"data.source={source}", "data.bias=true", "data.n=12", "ensemble.m=64", "run.steps=5"]
        run = new_run_from_config(load_config(None, overrides))
        (tmp_path / "again.toml").write_text(settable(run))
        again = new_run_from_config(load_config(tmp_path / "again.toml"))
        assert again.config == run.config
        assert again.dataset.sha256 == run.dataset.sha256


@pytest.mark.usefixtures("few_figures")
@pytest.mark.parametrize("name", ["a\u202eb.h5", os.fsdecode(b"\xe9.h5"), "a\u2028b.h5"])
def test_names_that_hide_or_are_no_text_are_shown_escaped(name):
    """Signs that turn the direction of what follows, break lines or are no Unicode, in the name and the configuration;
    the page can be written."""
    run = small()
    run.config = run.config.model_copy(update={"data": run.config.data.model_copy(update={"source": name + ".npz"})})
    page = page_of(run, name, seconds=0)
    assert page.encode()
    assert all(sign.isprintable() or sign == "\n" for sign in page)
    assert Reader(page).text["p"][0].startswith(printable(name))
    assert f'source = "{printable(name)}.npz"' in page.replace("&quot;", '"')


HOSTILE = '<script>document.title="taken"</script>"><img src=x onerror=alert(1)>&amp;'


def test_what_comes_from_the_file_is_inert(tmp_path):
    """Markup in the configuration, in attributes of the file, in class names and in its name comes out as text."""
    run = small()
    run.config = run.config.model_copy(
        update={"data": run.config.data.model_copy(update={"source": HOSTILE + ".npz", "label": HOSTILE})}
    )
    run.attributes["parent"] = HOSTILE
    page = page_of(run, HOSTILE, seconds=0)
    found = Reader(page)
    assert {tag for tag, _ in found.tags}.isdisjoint({"script"})
    assert all("onerror" not in attributes for _, attributes in found.tags)
    assert sum(tag == "img" for tag, _ in found.tags) == page.count("<figure ")
    assert HOSTILE in found.text["h1"][0]
    assert HOSTILE in found.text["p"][0]
    assert any(HOSTILE in one for one in found.text["td"])
    (tmp_path / "a.html").write_text(page)
    if CHROMIUM:
        dom = browse(tmp_path / "a.html", tmp_path, "--dump-dom")
        assert "<title>taken" not in dom


@pytest.mark.usefixtures("few_figures")
def test_runs_made_in_python_and_at_temperature_have_a_page(tmp_path):
    """Arrays cannot be made again from a configuration: the page says where they are. At τ > 0 the bound is on F."""
    rng = np.random.default_rng(0)
    problem = Problem(rng.standard_normal((20, 2)), rng.standard_normal(20), loss="squared", reg=0.1, temperature=0.05)
    simulate(problem, Ensemble.sphere(256, 2), steps=10, record_every=5, out=tmp_path / "a.h5")
    page = page_of(load(tmp_path / "a.h5"), "a.h5")
    assert "made in Python" in page
    assert "lower bound (estimate) of min F_τ" in page


def call(*args):
    with pytest.raises(SystemExit) as ended:
        main([str(one) for one in args])
    return ended.value.code


@pytest.mark.usefixtures("few_figures")
def test_the_command_writes_beside_the_run_or_where_it_is_told(run, tmp_path, capsys):
    """RUN.html by default; another ending, or a place that cannot be written, is refused in one line."""
    run.save(tmp_path / "a.h5")
    assert call("report", tmp_path / "a.h5", "--seconds", "0") == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "a.html")
    assert (tmp_path / "a.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert call("report", tmp_path / "a.h5", "-o", tmp_path / "a.pdf") == 2
    assert call("report", tmp_path / "a.h5", "--seconds", "0", "-o", tmp_path / "a.h5" / "b.html") == 2
    assert capsys.readouterr().err.count("\n") == 2


# ---- in a browser ----------------------------------------------------------------------------------------------------


def browse(path, folder, *options):
    """Run headless Chromium without a network on a page; its stdout."""
    command = [
        CHROMIUM,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--no-first-run",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--user-data-dir={folder / 'profile'}",
        *options,
        f"file://{path}",
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=180).stdout


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_the_page_fits_phone_and_desktop_in_both_schemes(page, tmp_path, width, scheme):
    """Nothing is wider than the window; the ground is dark or light as asked for, and the figures are as well."""
    (tmp_path / "a.html").write_text(page, encoding="utf-8")
    shot = tmp_path / "a.png"
    browse(
        tmp_path / "a.html",
        tmp_path,
        f"--window-size={width},5200",
        f"--screenshot={shot}",
        f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}",
    )
    image = Image.open(shot).convert("RGB")
    assert image.width == width
    ground = image.getpixel((3, 3))
    assert max(ground) < 60 if scheme == "dark" else min(ground) > 240
    pixels = np.asarray(image)
    margin = pixels[:, -10:].reshape(-1, 3).astype(int)
    assert (np.abs(margin - np.array(ground)).max(axis=1) < 8).all()  # what overflows would stand in the margin
    white = (pixels > 250).all(axis=2).mean()
    assert white < 0.02 if scheme == "dark" else white > 0.15
