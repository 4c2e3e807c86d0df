"""The reference pages, made from the code: every setting, every command. ``python -m pico_train.cli.reference DIR``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pico_train.config import describe, layers


def configuration() -> str:
    """Every setting with its default, what it accepts, and its help, as Markdown."""
    config = layers.load_config()
    lines = [
        "# Settings",
        "",
        "Made from the code by `make docs`. Defaults are those of the preset `demo`. Set any of them with",
        "`--set section.field=value`, or in a YAML file.",
    ]
    section = None
    for path, text in describe.fields().items():
        head = path.rpartition(".")[0] or "run"
        if head != section:
            section = head
            lines += ["", f"## {head}", "", "| setting | default | accepts | meaning |", "|---|---|---|---|"]
        value: Any = config
        for part in path.split("."):
            value = getattr(value, part)
        shown = value.model_dump(mode="json") if hasattr(value, "model_dump") else value
        cells = [f"`{path}`", f"`{_plain(shown)}`", _escape(describe.choices(path)), _escape(text)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _plain(value: Any) -> str:
    return "null" if value is None else str(value).replace("|", "\\|")


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def commands() -> str:
    """Every command with its arguments and options, as Markdown."""
    import typer.main

    from pico_train.cli.app import app

    lines = ["# Commands", "", "Made from the code by `make docs`."]
    root: Any = typer.main.get_command(app)
    for path, command in _leaves(root, "pico-train"):
        lines += ["", f"## {path}", "", " ".join((command.help or "").split()), ""]
        lines += ["| argument or option | meaning |", "|---|---|"]
        for parameter in command.params:
            shown = ", ".join([*parameter.opts, *parameter.secondary_opts])
            name = (parameter.metavar or parameter.name.upper()) if parameter.param_type_name == "argument" else shown
            lines.append(f"| `{name}` | {_escape(' '.join((getattr(parameter, 'help', None) or '').split()))} |")
    return "\n".join(lines) + "\n"


def _leaves(command: Any, path: str) -> list[tuple[str, Any]]:
    children = getattr(command, "commands", None)
    if not children:
        return [(path, command)]
    return [leaf for name, child in children.items() for leaf in _leaves(child, f"{path} {name}")]


PAGES = {"configuration.md": configuration, "commands.md": commands}


def write(directory: Path) -> None:
    """Write all pages into a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (directory / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
