"""What was freed stays with the process, and costs no page faults when it is used again."""

import subprocess
import sys

import pytest

CODE = """
import ctypes, resource, torch
if WITHOUT_HUGE_PAGES:
    ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE
from pico_train.training.allocator import keep_freed_memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

kept = keep_freed_memory() if KEEP else None
before = resident()
block = torch.ones(64 * 2**20 // 4)
del block
held = resident() - before
for _ in range(20):  # small blocks that lie between large ones keep the first few from being used again
    block = torch.ones(64 * 2**20 // 4)
    del block
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    block = torch.ones(64 * 2**20 // 4)
    del block
print(kept, held // 2**20, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults)
"""


def run(keep, without_huge_pages):
    code = CODE.replace("KEEP", str(keep)).replace("WITHOUT_HUGE_PAGES", str(without_huge_pages))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    kept, held, faults = done.stdout.split()
    return kept, int(held), int(faults)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the C library of Linux")
@pytest.mark.parametrize("without_huge_pages", [False, True])
def test_freed_memory_is_kept_and_reused(without_huge_pages):
    kept, held, faults = run(True, without_huge_pages)
    if kept == "False":
        pytest.skip("another C library than glibc")
    assert 60 <= held <= 130  # MiB: what was freed, and not more than it
    _, held, plain_faults = run(False, without_huge_pages)
    assert held < 30 and faults < plain_faults / 2  # handed out anew each time, page by page or in huge pages


def test_elsewhere_nothing_changes(monkeypatch):
    from pico_train.training import allocator

    monkeypatch.setattr(allocator.sys, "platform", "darwin")
    assert allocator.keep_freed_memory() is False
