"""All benchmarks of pico-train, one after the other; what they printed last is in BENCHMARKS.md."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main() -> int:
    """Run each in a process of its own; stop at the first failure."""
    for path in sorted(HERE.glob("*_*.py")):
        print(f"\n$ python benchmarks/{path.name}", flush=True)
        done = subprocess.run([sys.executable, str(path)], check=False)
        if done.returncode:
            return done.returncode
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
