"""What an address on the Hub is; the client is imported when one is opened."""

from __future__ import annotations

from pico_analyze.stores.base import ReadOptions, Store
from pico_analyze.stores.spec import StoreSpec

SCHEME = "hf://"


def _recognises(location: str) -> bool:
    return location.startswith(SCHEME)


def _open(location: str, options: ReadOptions) -> Store:
    from pico_analyze.stores.hub.opening import open_hub

    return open_hub(location, options)


HUB = StoreSpec(
    name="hub",
    title="a run on the Hub",
    sign=f"{SCHEME}org/name (the Hub)",
    recognises=_recognises,
    open=_open,
    remote=True,
    order=10,
    install="pip install huggingface_hub",
)
