"""Train families of small language models and keep rich checkpoints of how they learn.

The command line is ``pico-train``. From Python: `load_config` resolves a configuration and `train` trains it, `presets`
lists the presets, `load_decoder` gives the model of any checkpoint. They are imported when they are first used, so that
importing this package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pico_train.version import __version__

if TYPE_CHECKING:
    from pico_train.config.layers import load_config, presets
    from pico_train.loading import load_decoder
    from pico_train.run import train

__all__ = ["__version__", "load_config", "load_decoder", "presets", "train"]

_WHERE = {
    "load_config": "pico_train.config.layers",
    "load_decoder": "pico_train.loading",
    "presets": "pico_train.config.layers",
    "train": "pico_train.run",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        from difflib import get_close_matches

        near = get_close_matches(name, __all__, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}" if near else ""
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}")
    value = globals()[name] = getattr(import_module(_WHERE[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
