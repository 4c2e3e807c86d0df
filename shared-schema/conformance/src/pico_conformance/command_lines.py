"""Command lines as documents write them: split into words, and checked against the commands there are, without running.

Of the shell no more is understood than documents use: comments, quotes, continued lines, ``&&``.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import typer

ROOT = Path(__file__).parents[4]
"""The repository."""
ELSEWHERE = {"git", "cd", "dask", "hf"}
"""Commands of others, of which nothing is checked."""
_PLACEHOLDER = re.compile(r"…|^section\.|^\[|\[[A-Z-]|\b[A-Z]{2,}\b|=[A-Z]$|^[A-Z]$|@step-N")
"""Words that stand for what a person would write: RUN, N, [FILE.yaml], ORG/NAME, …"""


def commands(script: str) -> list[list[str]]:
    """The words of each command of a script, in order.

    Raises:
        ValueError: it uses more of the shell than is understood here.
    """
    found = []
    for line in script.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;<>()")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, "&&"]:
            if word == "&&":
                found += [words] if words else []
                words = []
            elif set(word) <= set("&|;<>()") or "$" in word:
                raise ValueError(f"{word!r} in {line!r}: more of a shell than a document should need")
            else:
                words.append(word)
    return found


def check(words: list[str]) -> None:
    """See that a command line means something: command, options, values, settings, packages, targets of make.

    Raises:
        ValueError: it does not; the message says what is wrong.
    """
    match words:
        case ["pico-train" | "pico-analyze" as tool, *rest]:
            check_tool(tool, rest)
        case ["torchrun", *rest] if "-m" in rest:
            _check_python(rest[rest.index("-m") :])
        case ["python", *rest]:
            _check_python(rest)
        case ["pip", "install", *names]:
            for name in names:
                check_package(name)
        case ["make", *targets]:
            _check_targets(targets)
        case [command, *_] if command in ELSEWHERE:
            pass
        case _:
            raise ValueError(f"nothing is known of {' '.join(words)!r}")


def _check_python(words: list[str]) -> None:
    match words:
        case ["-m", "pico_train", *rest]:
            check_tool("pico-train", rest)
        case ["-m", module, *_]:
            if importlib.util.find_spec(module) is None:
                raise ValueError(f"there is no module {module}")
        case [script, *_]:
            if not any((ROOT / package / script).is_file() for package in ("pico-train", "pico-analyze")):
                raise ValueError(f"there is no {script}")


def _check_targets(targets: list[str]) -> None:
    known = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    for target in targets:
        if target not in known:
            raise ValueError(f"make has no target {target}")


def check_mention(text: str) -> None:
    """See that a command, option or setting that a sentence mentions exists; a whole command line is checked as such.

    Raises:
        ValueError: it does not.
    """
    [words] = commands(text.partition(" > ")[0])
    if not any(_PLACEHOLDER.search(word) for word in words) and not _is_bare(words):
        if words[0] == "--set":
            check_settings([word for word in words if word != "--set"])
        else:
            check(words)
        return
    known, rest = {"--set"}, words
    if words[0] != "--set":
        command, rest = _walk(words[0], words[1:])
        known |= {option for param in command.params for option in param.opts}
    for word in rest:
        name = word.strip("[]")
        if name.startswith("-") and name not in known:
            raise ValueError(f"there is no option {name}")
        key = name.partition("=")[0]
        if "=" in name and "." in key and key not in {*_settings(), "a.b", "section.field"}:
            raise ValueError(f"there is no setting {key}")


def _is_bare(words: list[str]) -> bool:
    """Whether only a command is named, as in «`pico-train publish` does it»."""
    return words[0] != "--set" and not _walk(words[0], words[1:])[1]


def _settings() -> set[str]:
    from pico_train.config import describe

    return set(describe.fields())


def check_package(requirement: str) -> None:
    """See that a package and its extras are this repository's.

    Raises:
        ValueError: they are not.
    """
    match = re.fullmatch(r"([a-z-]+)(?:\[([a-z,]+)\])?", requirement)
    for project in ROOT.glob("*/pyproject.toml"):
        known = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
        if match and known["name"] == match[1]:
            missing = set((match[2] or "").split(",")) - {""} - set(known.get("optional-dependencies", {}))
            if missing:
                raise ValueError(f"{match[1]} has no extra {', '.join(sorted(missing))}")
            return
    raise ValueError(f"{requirement} is no package of this repository")


def check_tool(tool: str, words: list[str]) -> None:
    """See that a tool accepts a command line: it is parsed as the tool does, and nothing is run.

    Raises:
        ValueError: it does not.
    """
    command, rest = _walk(tool, words)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            parsed = command.make_context(command.name, rest)
    except typer.Exit:  # --help and --version
        return
    except Exception as error:  # of click, or of the copy of it that typer brings
        if not hasattr(error, "format_message"):
            raise
        raise ValueError(f"{tool} {' '.join(words)}: {error.format_message()}") from None
    if tool == "pico-train":
        _check_settings(parsed)


def check_settings(assignments: list[str], preset: str | None = None) -> None:
    """See that settings are accepted, over a preset.

    Raises:
        ValueError: they are not.
    """
    from pico_train import load_config
    from pico_train.errors import ConfigError

    try:
        load_config(preset=preset, set=assignments)
    except ConfigError as error:
        raise ValueError(str(error)) from None


def _check_settings(parsed: Any) -> None:
    params = parsed.params
    if params.get("file") is None and ("assignments" in params or "preset" in params):
        check_settings(list(params.get("assignments") or ()), params.get("preset"))


def _walk(tool: str, words: list[str]) -> tuple[Any, list[str]]:
    """The command that words name, and the words that are its own."""
    command: Any = typer.main.get_command(_train() if tool == "pico-train" else _analyze())
    rest = list(words)
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        if rest[0] not in command.commands:
            raise ValueError(f"{tool} has no command {rest[0]}")
        command, rest = command.commands[rest[0]], rest[1:]
    return command, rest


def _train() -> Any:
    from pico_train.cli.app import app

    return app


def _analyze() -> Any:
    from pico_analyze.cli.app import app

    return app
