"""The reference pages, made from the code: commands, metrics, components, probes, the table's columns, a study's keys.

``python -m pico_analyze.cli.reference DIR`` writes them; a test checks that those in `docs/` are current.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pico_analyze.components.spec import COMPONENTS, ComponentSpec
from pico_analyze.errors import PluginError
from pico_analyze.matrices.rounding import MARGIN
from pico_analyze.metrics.spec import METRICS, MetricSpec
from pico_analyze.output import metric_pages, probe_pages
from pico_analyze.probes.distributions import POSITIONS
from pico_analyze.probes.spec import PROBES
from pico_analyze.questions.study_schema import Measurement, Named, Probing, Section, StudyConfig, Telling
from pico_analyze.table.columns import COLUMNS, CORE, KEY

_MADE = "Made from the code by `make docs`."

_RANK = (
    "**Numerical rank.** Whatever counts directions (condition number, effective and stable rank, PER, participation "
    "ratio, RankMe, power laws, overlap of subspaces, canonical correlations) counts singular values that are more "
    "than rounding of the type the data was stored in, which its file says; values that a model computed in bfloat16 "
    "and that were kept as float32 are known by their digits. With u the unit roundoff (2⁻⁸ of bfloat16, 2⁻¹¹ of "
    "float16, 2⁻²⁴ of float32, 2⁻⁵³ of float64) and r, c the largest norms of a row and of a column before centring, "
    f"they are rounding up to ({MARGIN:g} + √max(N, P)·min(1, 2⁻²⁴/u))·u·(r + c)/√3; of a product of two stored "
    "matrices the rounding of each, times the norm of the other, is added up. `rank`, `tolerance` and `stored` stand "
    'in `extra` of each row. In Python, `activations(X, stored="bfloat16")` says it of an array.'
)
_NOTATION = (
    "**Formulas** are of the default parameters. X, Y: matrices of N rows (samples) and P columns (features), already "
    "centred where the metric centres; xᵢ a row, or an entry where there are M of them in all; s₁ ≥ s₂ ≥ … singular "
    "values, m = min(N, P) of them, r the numerical rank; ρ canonical correlations; h canonical variates; θ a "
    "threshold; g gradients of n parts of b rows each."
)
_CENTRING = (
    "**Centring.** Spectra of activations are those of their covariance over samples: `centre=auto` subtracts the mean "
    "over rows from activations, and from nothing else. RankMe alone is not centred, as published."
)

_LETTERS = (
    "**Formulas** are of the default parameters. ⟨…⟩ is the mean over rows. A row has the tokens x₀, x₁, … of which a "
    "model reads the first T, and one more that is only predicted; i is one of N rows, where a formula takes several "
    "together. pₙ(v): what the model gives token v once n tokens, x₀ … xₙ₋₁, were read; ℓₙ = −ln pₙ(xₙ); x̂ₙ the v of "
    "the largest pₙ(v). V: size of the vocabulary. Primes: at the target, which is another step or another run. **1**: "
    f"1 where what is in braces holds, else 0. P: evenly spaced positions, {POSITIONS} of a row where it has as many. "
    "Logarithms are natural, and 0 ln 0 = 0."
)
_LETTERS_OF_PROBES = (
    "**Letters of single probes.** `induction` and `attention`: A(t, j) the attention of position t on position j, "
    "counted from 0; vⱼ the value of a head at position j of the first copy, W_O the head's output projection, g the "
    "scale of the final norm, W_U the unembedding, whose row of token v is (W_U)ᵥ; [c]₊ the larger of c and 0, "
    "c̄ⱼ the mean of cⱼᵤ over u; rⱼ is 1/L where nothing is raised. `token_losses`: q counted frequencies; k the length "
    "of a continuation; ℓᵥ,ₛ the mean loss of token v at step s, to which aᵥ, bᵥ, μᵥ and wᵥ are fitted. `logit_lens`: "
    "hₙ the residual stream after the block at the last token read. `curvature` and `llc`: w all d weights, 𝓛(w) the "
    "mean loss of all rows; u random, m iterations and M vectors; 𝓛_cs the mean loss of the batch at draw s of chain "
    "c, of C chains with D draws each."
)


def commands() -> str:
    """Every command with its arguments and options."""
    import typer.main

    from pico_analyze.cli.app import app

    lines = ["# Commands", "", _MADE]
    root: Any = typer.main.get_command(app)
    for name, command in root.commands.items():
        lines += ["", f"## pico-analyze {name}", "", " ".join((command.help or "").split()), ""]
        lines += ["| argument or option | meaning |", "|---|---|"]
        for parameter in command.params:
            shown = ", ".join([*parameter.opts, *parameter.secondary_opts])
            if parameter.param_type_name == "argument":
                shown = parameter.metavar or parameter.name.upper()
            lines.append(f"| `{shown}` | {_cell(getattr(parameter, 'help', None) or '')} |")
    return "\n".join(lines) + "\n"


def _cell(text: object) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")


def _own(specs: Any) -> list[Any]:
    """The specs of this package; those of plug-ins have pages of their own."""
    kept = []
    for spec in specs:
        if not isinstance(spec, PluginError):
            function = spec.fn if isinstance(spec, MetricSpec) else spec.build
            if function.__module__.startswith("pico_analyze."):
                kept.append(spec)
    return kept


def metrics() -> str:
    """The page of every metric."""
    return _pages(
        "Metrics", [metric_pages.metric_record(spec) for spec in _own(METRICS.each())], _NOTATION, _RANK, _CENTRING
    )


def components() -> str:
    """The page of every component."""
    specs: list[ComponentSpec] = _own(COMPONENTS.each())
    return _pages("Components", [metric_pages.component_record(spec) for spec in specs])


def probes() -> str:
    """The page of every probe."""
    lines = ["# Probes", "", _MADE, "", _LETTERS, "", _LETTERS_OF_PROBES]
    for spec in PROBES.values():
        one = probe_pages.record(spec)
        lines += ["", f"## {one['name']}", "", _cell(one["definition"]), ""]
        named = {"needs": "needs", "cost": "cost", "arrays": "kept at each step", "reference": "reference"}
        lines += [f"- {title}: {_cell(one[key])}" for key, title in named.items() if one[key]]
        lines += [f"- parameter `{p['name']}`: {_cell(metric_pages.param_text(p))}" for p in one["params"]]
        for metric in one["metrics"]:
            lines += ["", f"### {metric['name']}", "", _cell(metric["definition"]), "", *_formula(metric)]
            lines += [f"- range: {_cell(metric['range'])}", f"- a row for each: {metric['rows']}"]
    return "\n".join(lines) + "\n"


def _pages(title: str, records: list[dict[str, Any]], *common: str) -> str:
    lines = [f"# {title}", "", _MADE, *(line for text in common for line in ("", text))]
    for record in records:
        lines += ["", f"## {record['name']}", "", _cell(record["definition"]), ""]
        lines += _formula(record)
        for key in ("kind", "range", "best", "cost", "reference", "data", "heads"):
            value = record.get(key)
            if value not in (None, "", []):
                lines.append(f"- {metric_pages.TITLES[key]}: {_cell(metric_pages.cell(value))}")
        if record.get("same_width"):
            lines.append("- both matrices need the same number of columns")
        lines += [
            f"- parameter `{param['name']}`: {_cell(metric_pages.param_text(param))}" for param in record["params"]
        ]
    return "\n".join(lines) + "\n"


def _formula(record: Mapping[str, Any]) -> list[str]:
    return ["$$", record["formula"], "$$", ""] if record.get("formula") else []


def table() -> str:
    """The columns of the table."""
    lines = ["# The table", "", _MADE, ""]
    lines += [f"The first {len(CORE)} columns are in every tidy table of Pico. A row is identified by", ""]
    lines += [", ".join(f"`{name}`" for name in KEY) + ".", "", "| column | meaning |", "|---|---|"]
    lines += [f"| `{name}` | {_cell(text)} |" for name, text in COLUMNS.items()]
    return "\n".join(lines) + "\n"


def study() -> str:
    """The keys of a study file."""
    lines = ["# A study file", "", _MADE]
    parts: Mapping[str, type[Section]] = {
        "the study": StudyConfig,
        "each of `measurements`": Measurement,
        "a metric or component with parameters": Named,
        "`probes`": Probing,
        "`transition`": Telling,
    }
    for title, model in parts.items():
        lines += ["", f"## Keys of {title}", "", "| key | default | meaning |", "|---|---|---|"]
        for name, field in model.model_fields.items():
            default = "needed" if field.is_required() else f"`{_plain(field.default)}`"
            lines.append(f"| `{name}` | {default} | {_cell(field.description or '')} |")
    return "\n".join(lines) + "\n"


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_plain(item) for item in value)}]"
    if isinstance(value, Named):
        return value.name
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


PAGES = {
    "commands.md": commands,
    "metrics.md": metrics,
    "components.md": components,
    "probes.md": probes,
    "table.md": table,
    "study.md": study,
}


def write(directory: Path) -> None:
    """Write all pages into a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (directory / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
