"""Formulas: TeX on a page becomes MathML in the site, which a browser shows without a script or the network."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx

_LIKE_TEX = {  # close to their neighbours, no taller than a letter, and a thin space between a function and its letter
    "<mo>'</mo>": '<mo lspace="0" rspace="0">′</mo>',
    r"<mo[^>]*>/</mo>": '<mo lspace="0" rspace="0" stretchy="false">/</mo>',
    r'<mo(?: class="mathopen")?>([‖⟨⟩])</mo>': r'<mo stretchy="false">\1</mo>',
    r"<mo[^>]*>\|</mo>": '<mo lspace="0" rspace="0" stretchy="false">|</mo>',
    r"<mo>&ApplyFunction;</mo>(?=\s*<m(?!o))": '<mspace width="0.1667em"/>',
}


def mathml(formula: str, *, block: bool = False) -> str:
    """A formula as a `<math>` element. ValueError: it is not TeX that can be read."""
    try:
        found = tex2mathml(formula, as_block=block)
    except MathError as error:
        raise ValueError(f"{' '.join(formula.split())}: {error}") from None
    for what, shown in _LIKE_TEX.items():
        found = re.sub(what, shown, found)
    return found


def visit_inline(self: Any, node: nodes.math) -> None:
    self.body.append(mathml(node.astext()))
    raise nodes.SkipNode


def visit_block(self: Any, node: nodes.math_block) -> None:
    self.body.append(f'<div class="formula">{mathml(node.astext(), block=True)}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """As Sphinx's renderer of formulas, which settings choose as "mathml"."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
