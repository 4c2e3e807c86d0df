"""``python -m pico_train.reference DIR``: now `pico_train.cli.reference`."""

import sys
from pathlib import Path

from pico_train.cli.reference import write

if __name__ == "__main__":
    write(Path(sys.argv[1]))
