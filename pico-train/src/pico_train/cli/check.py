"""The command `check`: does a rule hold that a run's settings rest on?"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pico_train.cli.brief import Brief
from pico_train.cli.console import As, Format, print_table, progress_line

if TYPE_CHECKING:
    from pico_train.training.coordinates import Coordinates

app = typer.Typer(cls=Brief, help="Check a rule that settings rest on.", no_args_is_help=True)

MOST_WIDTH, MOST_STEPS = 16_384, 1000


@app.callback()
def _root() -> None:
    pass


@app.command("mup")
def mup(
    file: Annotated[Path | None, typer.Argument(help="YAML over the preset, as of `run`.")] = None,
    preset: Annotated[str | None, typer.Option(help="Layer below everything. [default: demo]")] = None,
    assignments: Annotated[list[str] | None, typer.Option("--set", help="One setting; repeatable.")] = None,
    widths: Annotated[
        str | None,
        typer.Option(help="Widths to compare, with commas; the first is the base. [default: four from 32 on]"),
    ] = None,
    steps: Annotated[int, typer.Option(min=1, max=MOST_STEPS, help="Updates.")] = 4,
    picture: Annotated[Path, typer.Option(help="Where to draw.")] = Path("mup-check.png"),
    output: As = Format.table,
) -> None:
    """The coordinate check: under μP an update changes activations by as much at every width, without it by more."""
    chosen = None if widths is None else _widths(widths)
    from pico_train.config import layers
    from pico_train.errors import StorageError
    from pico_train.training.coordinates import FLAT, check_coordinates, default_widths

    if not picture.parent.is_dir():
        raise StorageError(f"{picture}: there is no directory {picture.parent}; choose another place with --picture")
    config = layers.load_config(file, preset=preset, set=assignments or ())
    found = check_coordinates(config, chosen or default_widths(config), steps=steps, say=progress_line())
    try:
        drawn = draw(found, picture)
    except OSError as error:
        raise StorageError(f"{picture}: cannot be written ({error.strerror}); choose another with --picture") from None
    rows = [
        {"site": site, "mup": round(found.exponent("mup", site), 2), "none": round(found.exponent("none", site), 2)}
        for site in found.sites
    ]
    flat = found.is_flat("mup")
    if output is Format.json:
        typer.echo(json.dumps({"flat": flat, "picture": str(picture) if drawn else None, "exponents": rows}, indent=1))
    else:
        print_table(rows)
        typer.echo(f"exponents of d_model in the change after {steps} steps; between -{FLAT} and {FLAT} is flat")
        typer.echo(f"mup is {'flat' if flat else 'not flat'}, none is {'flat too' if found.is_flat('none') else 'not'}")
        typer.echo(f"picture {picture}" if drawn else "no picture: pip install 'pico-train[plots]' draws one")
    if not flat:
        raise typer.Exit(1)


def _widths(text: str) -> list[int]:
    parts = text.split(",")
    if not all(re.fullmatch(r"\s*[0-9]{1,6}\s*", part) for part in parts):
        raise typer.BadParameter(f"--widths {text!r}: write whole numbers with commas, such as 64,128,256")
    found = [int(part) for part in parts]
    if len(found) < 2 or found != sorted(set(found)) or found[0] < 2 or found[-1] > MOST_WIDTH:
        raise typer.BadParameter(f"--widths {text!r}: two or more, ascending, from 2 to {MOST_WIDTH}")
    return found


def draw(found: Coordinates, path: Path) -> bool:
    """Draw the change of each activation against the width, a line per step, with the rule above and without it below.

    Returns:
        Whether there is a picture: not, where matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        return False
    sites, steps = found.sites, sorted({change.step for change in found.changes})
    figure = Figure(figsize=(2.1 * len(sites) + 0.8, 4.8), layout="constrained")
    axes: Any = figure.subplots(2, len(sites), sharex=True, sharey="col")
    shown = steps if len(steps) <= 6 else [steps[round(i * (len(steps) - 1) / 5)] for i in range(6)]
    for row, rule in enumerate(("mup", "none")):
        for column, site in enumerate(sites):
            axis = axes[row][column]
            for rank, step in enumerate(shown):
                line = [c for c in found.changes if (c.rule, c.site, c.step) == (rule, site, step)]
                shade = 0.85 - 0.7 * (rank + 1) / len(shown)
                label = f"step {step}" if (row, column) == (0, 0) else None
                axis.plot([c.width for c in line], [c.size for c in line], "o-", ms=3, c=str(shade), label=label)
            axis.set_xscale("log", base=2)
            axis.set_yscale("log", base=2)
            exponent = found.exponent(rule, site)  # type: ignore[arg-type]
            axis.set_title(f"{site}: {exponent:+.2f}" if row == 0 else f"{exponent:+.2f}", fontsize=9)
            axis.tick_params(labelsize=7)
            axis.grid(alpha=0.3)
        axes[row][0].set_ylabel(f"{rule}: change (rms)", fontsize=9)
    figure.supxlabel("d_model (the number is the exponent of it)", fontsize=9)
    figure.legend(loc="outside upper center", ncols=len(shown), fontsize=8, frameon=False)
    figure.savefig(path, dpi=130)
    return True
