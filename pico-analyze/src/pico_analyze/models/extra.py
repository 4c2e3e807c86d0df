"""What is said where the extra that runs models is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pico_analyze.errors import PluginError


@contextmanager
def extra() -> Iterator[None]:
    """A block that imports what runs models.

    Raises:
        PluginError: torch or transformers is not installed.
    """
    try:
        yield
    except ImportError as error:
        raise PluginError(f"running models needs {error.name or error}: pip install 'pico-analyze[torch]'") from None
