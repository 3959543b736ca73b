"""A figure is written whole or not at all."""

import pytest
from matplotlib.figure import Figure

from meanfield import plots


def test_a_figure_that_fails_half_way_leaves_the_one_before(tmp_path, monkeypatch):
    """Its bytes, and nothing beside it."""
    path = plots.save(Figure(), tmp_path / "a.png", "a figure")
    before = path.read_bytes()

    def fails(figure, file, **options):
        with open(file, "wb") as out:
            out.write(b"half")
        raise RuntimeError("stopped")

    monkeypatch.setattr(Figure, "savefig", fails)
    with pytest.raises(RuntimeError, match="stopped"):
        plots.save(Figure(), path, "a figure")
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["a.png"]
