"""Measure and draw what changes inside a language model while it learns.

    import pico_analyze
    frame = pico_analyze.compute("cka", "runs/demo")
    frame.pivot_table(index="step", columns=["site", "layer"], values="value")

    from pico_analyze.metrics import cka
    cka(X, Y)

The rooms, from top to bottom; none imports one above it: `cli` (the command line) · `api`, `api_models` and
`api_figures` (the functions here) · `reports` (what a page needs) · `output` (text, pictures and pages) · `models`
(running them) · `engine` (from questions to rows) and `auditing` (what is wrong with a run) · `questions` (what is
asked) · `statistics` (of values and series) · `components` (which matrices a model has), `metrics` (which numbers a
matrix has) and `probes` (which numbers say what a model does) · `stores` (where runs are kept) · `table` (rows) and
`matrices` · `registry`, `parameters`, `errors`, `version`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from pico_analyze.version import __version__

if TYPE_CHECKING:
    from pico_analyze import metrics
    from pico_analyze.api import audit, compute, dynamics, open_run, read_rows, study, summarise
    from pico_analyze.api_figures import figure, findings, plot, report
    from pico_analyze.api_models import behave, capture, convert
else:  # hidden from type checkers, for which a module with __getattr__ has every name

    def __getattr__(name: str) -> object:
        """Imported when asked for: `import pico_analyze` stays cheap."""
        if name not in __all__:
            from pico_analyze.errors import nearest

            raise AttributeError(f"module 'pico_analyze' has no attribute {name!r}{nearest(name, __all__)}")
        if name == "metrics":
            return import_module("pico_analyze.metrics")
        module = next((room for room, names in _ROOMS.items() if name in names), "api")
        found = getattr(import_module(f"pico_analyze.{module}"), name)
        globals()[name] = found
        return found


_ROOMS = {"api_models": ("behave", "capture", "convert"), "api_figures": ("figure", "findings", "plot", "report")}

__all__ = [
    "__version__",
    "audit",
    "behave",
    "capture",
    "compute",
    "convert",
    "dynamics",
    "figure",
    "findings",
    "metrics",
    "open_run",
    "plot",
    "read_rows",
    "report",
    "study",
    "summarise",
]


def __dir__() -> list[str]:
    return sorted(__all__)
