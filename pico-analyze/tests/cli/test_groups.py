"""Options that go together: on the command line as options of their own, in the command as one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from pico_analyze.cli.groups import with_groups

Depth = Annotated[int, typer.Option("--depth", min=0, help="How deep.")]
Loud = Annotated[bool, typer.Option("--loud/--quiet", help="How loud.")]


@dataclass(frozen=True)
class Sounding:
    depth: Depth = 3
    loud: Loud = False


def sound(place: str, first: bool = False, *, how: Sounding, last: int = 1) -> None:
    """Find out how deep it is."""
    typer.echo(f"{place} {first} {how} {last}")


def _run(*words: str) -> tuple[int, str]:
    app = typer.Typer()
    app.command()(with_groups(sound))
    done = CliRunner().invoke(app, list(words))
    return done.exit_code, done.output


def test_the_fields_of_a_group_are_options_and_reach_the_command_as_one_value() -> None:
    assert _run("here") == (0, "here False Sounding(depth=3, loud=False) 1\n")
    code, printed = _run("here", "--loud", "--depth", "7", "--first", "--last", "2")
    assert (code, printed) == (0, "here True Sounding(depth=7, loud=True) 2\n")


def test_the_options_stand_in_the_place_of_the_group() -> None:
    code, text = _run("--help")
    assert code == 0
    assert "Find out how deep it is." in text
    assert "--how" not in text
    places = [text.index(option) for option in ("--first", "--depth", "--loud", "--last")]
    assert places == sorted(places)


def test_bounds_of_an_option_in_a_group_hold() -> None:
    code, text = _run("here", "--depth", "-1")
    assert code == 2
    assert "--depth" in text


def test_an_option_that_stands_twice_is_refused() -> None:
    def twice(depth: Depth = 1, *, how: Sounding) -> None: ...

    with pytest.raises(ValueError, match="twice"):
        with_groups(twice)
