"""The parts of the reference that are written from the code: configuration keys, commands, the Python interface."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
from typing import Any

_ELSEWHERE = ("meanfield.exact", "meanfield.estimators", "meanfield.convert")  # modules whose members have a page
_COMMENT = re.compile(r"^<!-- (configuration keys|commands|interface|modules)(?:: (.*?))? -->$", re.MULTILINE)


def expand(text: str) -> str:
    """The page with generated parts in the place of their comments."""
    makers = {
        "configuration keys": configuration_keys,
        "commands": commands,
        "interface": interface,
        "modules": modules,
    }
    return _COMMENT.sub(lambda found: makers[found[1]](*([found[2]] if found[2] else [])), text)


def configuration_keys() -> str:
    """A table a section: key, default, what is valid, meaning. ValueError: keys and words do not match."""
    from meanfield.simulation.config import Config
    from meanfield.simulation.template import meanings, valid

    words, parts = meanings(), []
    for name, section in Config.model_fields.items():
        fields = section.annotation.model_fields
        if different := set(fields) ^ set(words.get(name, {})):
            raise ValueError(
                f"configuration-keys.toml: {name}: {', '.join(sorted(different))}: no such key, or no words"
            )
        rows = [
            f"| `{key}` | {_default(field.default)} | {_cell(words[name][key], valid(name, key))} |"
            for key, field in fields.items()
        ]
        parts.append("\n".join([f"## `[{name}]`", "", "| key | default | meaning |", "|---|---|---|", *rows]))
    if lost := set(words) - set(Config.model_fields):
        raise ValueError(f"configuration-keys.toml: there is no section {', '.join(sorted(lost))}")
    return "\n\n".join(parts)


def _default(value: Any) -> str:
    if value is None:
        return "–"
    if hasattr(value, "model_dump"):
        return "`{}`"
    return (
        "`"
        + (str(value).lower() if isinstance(value, bool) else f'"{value}"' if isinstance(value, str) else repr(value))
        + "`"
    )


def _cell(meaning: str, valid: str) -> str:
    return (f"{meaning} ({valid})" if valid else meaning).replace("|", "\\|").replace("\n", " ")


def commands() -> str:
    """The help of every command, as it prints it."""
    import click

    from meanfield.cli import group

    context = click.Context(group, info_name="meanfield")
    parts = []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        inner = click.Context(command, info_name=name, parent=context, max_content_width=100, terminal_width=100)
        parts.append(f"## meanfield {name}\n\n```text\n{command.get_help(inner).strip()}\n```")
    return "\n\n".join(parts)


def public_names(module: str) -> list[str]:
    """The names that a module announces, or what it makes itself."""
    held = importlib.import_module(module)
    own = [name for name, thing in vars(held).items() if getattr(thing, "__module__", "") == module]
    return [name for name in getattr(held, "__all__", own) if not name.startswith("_")]


def interface(module: str) -> str:
    """autodoc's directives for every class and function that a module announces; its constants by name."""
    held, lines, constants = importlib.import_module(module), [], []
    for name in public_names(module):
        thing = getattr(held, name)
        if inspect.isclass(thing):
            lines += [f".. autoclass:: {module}.{name}", "   :members:", "   :undoc-members:", ""]
        elif callable(thing):
            lines += [f".. autofunction:: {module}.{name}"]
            lines += (
                ["   :no-index:"] if f"{module}.{name}" in sys.modules else []
            )  # a module has the name, and the link
            lines += [""]
        else:
            constants.append(f"`{module}.{name}`")
    page = "```{eval-rst}\n" + "\n".join(lines) + "\n```"
    return page + (f"\n\nConstants: {', '.join(constants)}." if constants else "")


def module_names(package: str) -> list[str]:
    """The modules of a package and of its folders, but for the command line, figures and, from outside, kernels."""
    held = importlib.import_module(package)
    names = [found.name for found in pkgutil.walk_packages(held.__path__, f"{package}.")]
    apart = ("meanfield.cli", "meanfield.plots", "meanfield.kernels")
    return [name for name in names if not any((name + ".").startswith(f"{one}.") for one in apart if one != package)]


def modules(package: str) -> str:
    """autodoc's directives for every module of a package; of a folder only what it is for.

    The members of some modules are on pages before it.
    """
    parts = []
    for name in module_names(package):
        lines = [f".. automodule:: {name}"]
        if not hasattr(importlib.import_module(name), "__path__") and name not in _ELSEWHERE:
            lines.append("   :members:")
        parts.append(f"## {name.removeprefix('meanfield.')}\n\n```{{eval-rst}}\n" + "\n".join(lines) + "\n```")
    return "\n\n".join(parts)
