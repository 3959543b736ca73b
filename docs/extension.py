"""What the site adds to Sphinx: examples that are run, generated parts, docstrings as prose, names that are links."""

from __future__ import annotations

import itertools
import re
import tempfile
from pathlib import Path
from typing import Any

import generated
import sessions
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

_NAME = re.compile(r"meanfield(\.\w+)+")
_LITERAL = re.compile(r"`([^`\n]+)`")
_ACTIVE = re.compile(r"([*|\\]|(?<=\w)_(?!\w)|^[+.:=~^#\"'-](?=\s|[+.:=~^#\"'-]{2}))", re.MULTILINE)


def as_prose(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Docstrings are prose with mathematics in Unicode, and no reStructuredText: indented parts are shown as they are,
    single backticks are code, and whatever else would be markup is text."""
    if "".join(lines).startswith("Alias for field number"):  # what a NamedTuple says of itself
        lines[:] = []
    if any(lines):
        parts = re.split(r"\n\s*\n", "\n".join(lines).strip("\n"))
        lines[:] = [*"\n\n".join(map(_part, parts)).split("\n"), ""]


def _part(part: str) -> str:
    """A paragraph: runs of indented rows are shown as they are, list items keep their dash."""
    done = []
    for indented, run in itertools.groupby(part.split("\n"), lambda row: row.startswith("    ")):
        rows = list(run)
        if indented:
            done.append("::\n\n" + "\n".join(rows))
        elif rows[0].startswith("- "):
            items = [" ".join(item.split()) for item in re.split(r"^- ", "\n".join(rows), flags=re.MULTILINE)[1:]]
            done.append("\n".join("- " + _inline(item) for item in items))
        else:
            done.append(_inline("\n".join(row.strip() for row in rows)))
    return "\n\n".join(done)


def _inline(text: str) -> str:
    kept: list[str] = []

    def keep(found: re.Match[str]) -> str:
        kept.append(f"``{found[1]}``")
        return f"\0{len(kept) - 1}\0"

    text = re.sub("``([^`]+)``", keep, text)
    text = _ACTIVE.sub(r"\\\1", _LITERAL.sub(keep, text)).replace("`", "\\`")
    return re.sub("\0(\\d+)\0(?=(\\w?))", lambda found: kept[int(found[1])] + ("\\ " if found[2] else ""), text)


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


def run_examples(app: Sphinx, docname: str, source: list[str]) -> None:
    """Execute a page's examples, in a folder of their own, and generate what is generated."""
    figures = Path(app.srcdir) / "_build" / "figures" / docname
    with tempfile.TemporaryDirectory() as folder:
        source[0] = sessions.expand(source[0], docname, Path(folder), figures, f"/_build/figures/{docname}")
    shown = re.sub(r"^```console$", "```sh", source[0], flags=re.MULTILINE)  # commands have no prompt to tell them by
    source[0] = generated.expand(shown)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("source-read", run_examples)
    app.connect("autodoc-process-docstring", as_prose)
    app.add_transform(LinkNames)
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": True}
