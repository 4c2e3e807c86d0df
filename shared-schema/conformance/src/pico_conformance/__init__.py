"""Development-only tools of Pico's conformance suite: a Hugging Face Hub on loopback, and its pytest fixtures.

Standard library and the `git` binary only. Nothing here is published or imported by the packages themselves.
"""

from pico_conformance.answers import HubError
from pico_conformance.faults import Fault
from pico_conformance.hub import Hub
from pico_conformance.requestlog import Request, RequestLog

__all__ = ["Fault", "Hub", "HubError", "Request", "RequestLog"]
