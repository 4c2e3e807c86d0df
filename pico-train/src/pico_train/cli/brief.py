"""Lists of commands in which no line is cut off."""

from __future__ import annotations

import re
from typing import Any

from typer.core import TyperGroup


class Brief(TyperGroup):
    """Commands, each with what its help says before a colon; click's own list cuts sentences at a width of 80."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The list of commands."""
        found = [(name, self.commands[name].help or "") for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, re.split(r"[:;.](?=\s|$)", " ".join(text.split()))[0]) for name, text in found])
