"""A live page for a test: serves two steps, and a third one once a line comes on standard input."""

from __future__ import annotations

import sys

from pages import grid

from pico_analyze.output.report.document import Shown
from pico_analyze.output.report.live import LiveServer
from pico_analyze.reports import document_of

if __name__ == "__main__":
    rows = grid(4, 2, 2, 2)
    server = LiveServer("127.0.0.1", 0)
    server.publish(document_of([Shown(rows[rows["step"] < rows["step"].max()])]))
    sys.stdout.write(server.address + "\n")
    sys.stdout.flush()
    sys.stdin.readline()
    server.publish(document_of([Shown(rows)]))
    sys.stdin.readline()
    server.close()
