"""What the worker hears of the process that started it: what it is told, and that it is gone."""

from __future__ import annotations

import os
import threading
import time
from typing import TextIO


class Orders:
    """What the parent says while the worker runs: `wake` (something new is sealed), `finish` (end when all is done)."""

    def __init__(self, stream: TextIO) -> None:
        self.finish = threading.Event()
        self._wake = threading.Event()
        self._parent = os.getppid()
        threading.Thread(target=self._listen, args=(stream,), daemon=True).start()
        threading.Thread(target=self._watch_parent, daemon=True).start()

    def _listen(self, stream: TextIO) -> None:
        for line in stream:
            if line.strip() == "finish":
                self.finish.set()
            self._wake.set()
        os._exit(0)  # the parent closed the pipe, or died

    def _watch_parent(self) -> None:
        while os.getppid() == self._parent:
            time.sleep(0.5)
        os._exit(0)  # a process forked from the parent may still hold the pipe open

    def wait(self, seconds: float) -> None:
        """Sleep until woken or for so long."""
        self._wake.wait(seconds)
        self._wake.clear()
