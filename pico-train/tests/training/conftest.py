"""Training runs here use the small run and the launcher that the checkpoint tests have."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "checkpoint"))


@pytest.fixture(scope="session")
def text(tmp_path_factory):
    """The text that the training runs learn from; what is prepared of it is kept for the session."""
    import tiny

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PICO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield tiny.write_text(tmp_path_factory.mktemp("text"))
