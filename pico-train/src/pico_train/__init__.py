"""Train families of small language models and keep rich checkpoints of how they learn.

The command line is ``pico-train``; from Python, `config.layers.load_config` resolves a configuration and `run.train`
trains it.
"""

from pico_train.version import __version__

__all__ = ["__version__"]
