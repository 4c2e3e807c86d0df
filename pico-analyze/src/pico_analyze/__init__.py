"""Measure and draw what changes inside a language model while it learns.

    import pico_analyze
    frame = pico_analyze.compute("cka", "runs/demo")
    frame.pivot_table(index="step", columns=["site", "layer"], values="value")

`question` (what is asked) · `plan`, `view` (what that means for a run) · `execution`, `sharing` (doing it) ·
`table`, `rows` (what comes out) · `plots`, `report`, `listing`, `pages`, `summary` (for people) · `stores` (where runs
are kept) · `components`, `metrics`, `dynamics`, `uncertainty` (what is computed) · `study`, `config` (a whole study as
a file) · `pipeline` (the way from questions to a table) · `api` (what Python programs call) · `cli`.
"""

from pico_analyze.version import __version__

__all__ = ["__version__", "compute", "open_run", "read_rows", "run_study", "summarise"]


def __getattr__(name: str) -> object:
    """The functions of `api`, imported when they are asked for: `import pico_analyze` stays cheap."""
    if name in __all__:
        from pico_analyze import api

        return getattr(api, name)
    raise AttributeError(f"module 'pico_analyze' has no attribute {name!r}")
