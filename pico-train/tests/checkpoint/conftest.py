import pytest
import tiny


@pytest.fixture(scope="session")
def text(tmp_path_factory):
    """The text that the training runs learn from; what is prepared of it is kept for the session."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PICO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield tiny.write_text(tmp_path_factory.mktemp("text"))
