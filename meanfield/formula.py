"""An activation as a line of text, such as "tanh(z) + 0.1*z": read by its grammar, never evaluated as Python.

May import: the errors. What is read is a tree of tuples. The grammar has numbers, the variable z, + − * /, whole powers
up to 8, parentheses, and the functions below of one argument; all else is refused.
"""

from __future__ import annotations

import ast
from typing import Any

from .errors import InputError, did_you_mean

FUNCTIONS = ("relu", "abs", "tanh", "erf", "logistic", "softplus", "gauss", "sin", "cos")
Tree = tuple[Any, ...]  # ("z",), ("number", c), ("power", tree, k), ("add", tree, tree), …, ("tanh", tree)

_OPERATORS = {ast.Add: "add", ast.Sub: "subtract", ast.Mult: "multiply", ast.Div: "divide"}
_LONGEST, _HIGHEST = 200, 8


def is_formula(text: str) -> bool:
    """Whether a text is meant as a formula: z, or more than a name, with or without dots.

    Examples
    --------
    >>> from meanfield.formula import is_formula
    >>> [is_formula(one) for one in ("tanh", "mine.swish", "tanh(z)", "z")]
    [False, False, True, True]
    """
    return text.strip() == "z" or not all(part.isidentifier() for part in text.split("."))


def read_formula(text: str) -> Tree:
    """The tree of a formula in z.

    Parameters
    ----------
    text : str
        At most 200 characters.

    Returns
    -------
    tuple
        Nested: ("add", ("tanh", ("z",)), ("number", 1.0)).

    Raises
    ------
    InputError
        In one line, what in it is not understood.

    Examples
    --------
    >>> from meanfield.formula import read_formula
    >>> read_formula("tanh(z)**2 - 1")
    ('subtract', ('power', ('tanh', ('z',)), 2), ('number', 1.0))
    """
    if len(text) > _LONGEST:
        raise InputError(f"formula of {len(text)} characters: at most {_LONGEST} are read")
    try:
        return _read(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise InputError(f"formula {text!r}: is not understood") from None
    except _Refused as refused:
        raise InputError(f"formula {text!r}: {refused}") from None


class _Refused(Exception):
    """What of a formula is not in the grammar."""


def _read(node: ast.AST) -> Tree:
    if isinstance(node, ast.Name) and node.id == "z":
        return ("z",)
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return ("number", _number(node.value))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return ("multiply", ("number", -1.0), _read(node.operand))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        k = node.right.value if isinstance(node.right, ast.Constant) else None
        if type(k) is not int or not 1 <= k <= _HIGHEST:
            raise _Refused(f"{ast.unparse(node)!r}: powers must be whole numbers from 1 to {_HIGHEST}")
        return ("power", _read(node.left), k)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return (_OPERATORS[type(node.op)], _read(node.left), _read(node.right))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) == 1 and not node.keywords:
        name = node.func.id
        if name not in FUNCTIONS:
            raise _Refused(f"{name!r} must be one of {', '.join(FUNCTIONS)}{did_you_mean(name, FUNCTIONS)}")
        return (name, _read(node.args[0]))
    raise _Refused(f"{ast.unparse(node)[:40]!r} must be a number, z, an operation, or a function of one argument")


def _number(value: float) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = float("inf")
    if not abs(number) < 1e100:
        raise _Refused("numbers must be below 1e100")
    return number
