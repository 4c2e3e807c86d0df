"""A plug-in for pytest that writes how long each test that passed took, for `covering`."""

import json
import os
from collections import defaultdict
from pathlib import Path


class Timings:
    """Sums what setting up, running and tearing down took; a test that failed in any of them is left out."""

    def __init__(self):
        self.seconds = defaultdict(float)
        self.failed = set()

    def pytest_runtest_logreport(self, report):
        """After each phase of each test."""
        self.seconds[report.nodeid] += report.duration
        if report.failed or report.skipped:
            self.failed.add(report.nodeid)

    def pytest_sessionfinish(self, session):
        """Once, in the process that has all reports."""
        if not hasattr(session.config, "workerinput"):
            passed = {test: spent for test, spent in self.seconds.items() if test not in self.failed}
            Path(os.environ["PICO_TIMINGS"]).write_text(json.dumps(passed))


def pytest_configure(config):
    """Take part."""
    config.pluginmanager.register(Timings())
