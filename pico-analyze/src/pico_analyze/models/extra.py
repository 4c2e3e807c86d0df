"""What is said where the extra that runs models is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pico_analyze.errors import PluginError


@contextmanager
def extra(name: str = "torch") -> Iterator[None]:
    """A block that imports what an extra brings: what runs models, or what reads the curvature of their loss.

    Raises:
        PluginError: something of it is not installed.
    """
    try:
        yield
    except ImportError as error:
        what = "running models" if name == "torch" else name
        raise PluginError(f"{what} needs {error.name or error}: pip install 'pico-analyze[{name}]'") from None
