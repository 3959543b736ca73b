"""What the site adds to Sphinx: examples that are run, generated parts, docstrings read, names that are links."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import docstrings
import generated
import sessions
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

_NAME = re.compile(r"meanfield(\.\w+)+")


class LinkNames(SphinxTransform):
    """A dotted name of this package in code font leads to its place in the reference."""

    default_priority = 400

    def apply(self, **options: Any) -> None:
        for literal in list(self.document.findall(nodes.literal)):
            text = literal.astext().removesuffix("()")
            inside = isinstance(literal.parent, nodes.reference | addnodes.pending_xref | nodes.title)
            if inside or not _NAME.fullmatch(text):
                continue
            link = addnodes.pending_xref(
                "", refdomain="py", reftype="obj", reftarget=text, refwarn=False, refdoc=self.env.docname
            )
            literal.replace_self(link)
            link += literal


def as_they_are(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Docstrings, which are no reStructuredText, in that language; nothing of what a NamedTuple says of itself."""
    text = "\n".join(lines).strip("\n")
    lines[:] = (
        [*docstrings.as_rst(text).split("\n"), ""] if text and not text.startswith("Alias for field number") else []
    )


def run_examples(app: Sphinx, docname: str, source: list[str]) -> None:
    """Execute a page's examples, in a folder of their own, and generate what is generated."""
    figures = Path(app.srcdir) / "_build" / "figures" / docname
    with tempfile.TemporaryDirectory() as folder:
        source[0] = sessions.expand(source[0], docname, Path(folder), figures, f"/_build/figures/{docname}")
    shown = re.sub(r"^```console$", "```sh", source[0], flags=re.MULTILINE)  # commands have no prompt to tell them by
    source[0] = generated.expand(shown)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("source-read", run_examples)
    app.connect("autodoc-process-docstring", as_they_are)
    app.add_transform(LinkNames)
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": True}
