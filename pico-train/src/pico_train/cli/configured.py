"""What names a run's configuration on the command line, and how to say it again."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pico_train.cli import completion

if TYPE_CHECKING:
    from pico_train.config import RunConfig

File = Annotated[Path | None, typer.Argument(help="YAML over the preset; its key `preset` may name one.")]
Preset = Annotated[
    str | None,
    typer.Option(
        help="Layer below everything; see `pico-train presets`. [default: demo]", autocompletion=completion.presets
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="One setting, such as training.max_steps=100; repeatable.",
        autocompletion=completion.settings,
    ),
]
Name = Annotated[str | None, typer.Option(help="Name of the run: its directory, and its branch on the Hub.")]
Out = Annotated[str | None, typer.Option(help="Directory in which the run's directory is made. [default: runs]")]
Text = Annotated[
    list[str] | None,
    typer.Option(
        "--text",
        help="Train on this: a folder, file or glob of text; repeatable. Names the run, unless --name does.",
    ),
]


@dataclass(frozen=True)
class Words:
    """What the user wrote, to say it again."""

    file: Path | None
    preset: str | None
    assignments: Sequence[str]
    text: Sequence[str]
    out: str | None

    def again(self, name: str, **changed: object) -> str:
        """The command under a name of its own, with other values of some settings; for a shell.

        Args:
            name: Of the run.
            changed: ``section__field=value``.
        """
        keys = {key.replace("__", "."): value for key, value in changed.items()}
        kept = [one for one in self.assignments if one.partition("=")[0].strip() not in keys]
        words = ["pico-train", "run", *([str(self.file)] if self.file else [])]
        for option, value in (("--preset", self.preset), ("--out", self.out)):
            words += [option, value] if value is not None else []
        for option, values in (("--text", self.text), ("--set", kept)):
            words += [word for value in values for word in (option, value)]
        words += ["--name", name]
        words += [word for key, value in keys.items() for word in ("--set", f"{key}={value}")]
        return shlex.join(words)


def load(
    file: Path | None,
    preset: str | None,
    assignments: list[str] | None,
    name: str | None,
    out: str | None,
    text: Sequence[str] = (),
) -> RunConfig:
    """The configuration that the words of a command mean.

    Raises:
        ConfigError: as `layers.load_config`; or `--text` meets another source.
    """
    from pico_train.config import layers
    from pico_train.errors import UsageError

    chosen = list(assignments or ())
    if text:
        if any(one.partition("=")[0].strip() in ("data.source", "data.paths", "data.repo") for one in chosen):
            raise UsageError("--text and --set data.… both say what is trained on: give one of them")
        chosen += ["data.source=text", f"data.paths={json.dumps(list(text))}"]  # JSON is YAML
        if name is None and file is None and not any(one.startswith("name=") for one in chosen):
            last = Path(text[0].rstrip("/")).stem
            name = re.sub(r"[^A-Za-z0-9_-]+", "-", last).strip("-") or "text"
    return layers.load_config(file, preset=preset, set=chosen, name=name, out=out)
