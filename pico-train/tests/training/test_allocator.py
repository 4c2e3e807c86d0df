"""What was freed stays with the process, and costs no page faults when it is used again."""

import subprocess
import sys

import pytest

CODE = """
import resource, torch
from pico_train.training.allocator import keep_freed_memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

kept = keep_freed_memory() if KEEP else None
before = resident()
block = torch.ones(64 * 2**20 // 4)
del block
held = resident() - before
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    block = torch.ones(64 * 2**20 // 4)
    del block
print(kept, held // 2**20, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults)
"""


def run(keep):
    done = subprocess.run(
        [sys.executable, "-c", CODE.replace("KEEP", str(keep))], capture_output=True, text=True, check=True
    )
    kept, held, faults = done.stdout.split()
    return kept, int(held), int(faults)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the C library of Linux")
def test_freed_memory_is_kept_and_reused():
    kept, held, faults = run(True)
    if kept == "False":
        pytest.skip("another C library than glibc")
    assert 60 <= held <= 130  # MiB: what was freed, and not more than it
    assert faults < 1000
    _, held, plain_faults = run(False)
    assert held < 30 and plain_faults > faults  # handed out anew each time


def test_elsewhere_nothing_changes(monkeypatch):
    from pico_train.training import allocator

    monkeypatch.setattr(allocator.sys, "platform", "darwin")
    assert allocator.keep_freed_memory() is False
