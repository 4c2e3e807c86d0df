"""What options the command line of a tool has, for tests that go through all of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, get_args, get_origin, get_type_hints

import typer


def numeric_options(commands: typer.Typer, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every option of every command that takes a number, as the words before it and its name."""
    for group in commands.registered_groups:
        assert group.typer_instance is not None and isinstance(group.name, str)
        yield from numeric_options(group.typer_instance, (*path, group.name))
    for command in commands.registered_commands:
        assert command.callback is not None
        name = command.name or command.callback.__name__.replace("_", "-")
        for parameter, hint in get_type_hints(command.callback, include_extras=True).items():
            kind, *details = get_args(hint) if get_origin(hint) is Annotated else (hint,)
            if {int, float} & {kind, *get_args(kind)}:
                given = [text for text in details[0].param_decls or () if text.startswith("--")]
                yield (*path, name), given[0] if given else f"--{parameter.replace('_', '-')}"
