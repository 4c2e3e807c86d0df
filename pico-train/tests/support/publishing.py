"""Settings with small time limits and waits, so that tests are short."""

from __future__ import annotations

from pico_train.config import PublishConfig

REPO = "tester/model"
QUICK = PublishConfig(
    repo=REPO, timeout=2.0, retry_wait=0.05, retry_wait_max=0.2, slowest_upload=1.0, commits_per_hour=100_000
)
