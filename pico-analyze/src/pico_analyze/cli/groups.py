"""Options that go together, as one parameter of a command.

A group is a dataclass whose fields are options as typer takes them, such as `options.Reading`. A command has a
parameter of that class; on the command line stand the fields, in the place of the parameter.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import is_dataclass
from typing import Any


def with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """The command as typer needs it: with the options of its groups in their places.

    Raises:
        ValueError: an option stands twice, in two groups or in one and the command.
    """
    options: list[inspect.Parameter] = []
    groups: dict[str, type] = {}
    fields: dict[str, list[str]] = {}
    for name, parameter in _parameters(command).items():
        if isinstance(group := parameter.annotation, type) and is_dataclass(group):
            found = _parameters(group)
            groups[name], fields[name] = group, list(found)
            options += found.values()
        else:
            options.append(parameter)
    names = [option.name for option in options]
    if len(set(names)) < len(names):
        raise ValueError(f"{command.__name__}: options twice among {names}")

    def called(**given: Any) -> None:
        made = {name: group(**{field: given.pop(field) for field in fields[name]}) for name, group in groups.items()}
        command(**given, **made)

    called.__name__, called.__doc__, called.__module__ = command.__name__, command.__doc__, command.__module__
    called.__annotations__ = {option.name: option.annotation for option in options}
    called.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    return called


def _parameters(of: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Parameters of a function or class, all by name, so that those without a default may follow the others."""
    found = inspect.signature(of, eval_str=True).parameters
    return {name: one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for name, one in found.items()}
