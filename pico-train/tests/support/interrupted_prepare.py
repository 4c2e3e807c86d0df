"""Run as a program: prepare a corpus, with points to fall back to every few kilobytes, and die where it is told to.

usage: interrupted_prepare.py TEXT OUT WORKERS (killed-after-N-saves | none) [largest file in bytes]
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from pico_train.data.prepare import tokenize
from pico_train.data.prepare.inputs import text_inputs
from pico_train.data.prepare.journal import Journal
from pico_train.data.prepare.pipeline import prepare
from pico_train.data.prepare.recipe import Recipe
from pico_train.data.prepare.records import TextLayout
from pico_train.errors import PicoTrainError
from support.corpora import SEQ_LEN

if __name__ == "__main__":
    text, out, workers, saves = sys.argv[1:5]
    tokenize.COMMIT_EVERY = 4096
    if len(sys.argv) > 5:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[5]), resource.RLIM_INFINITY))
    left = int(saves) if saves != "none" else -1
    save = Journal.save

    def save_and_die(journal: Journal) -> None:
        global left
        save(journal)
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    Journal.save = save_and_die  # type: ignore[method-assign]
    recipe = Recipe(tokenizer="train:300", seq_len=SEQ_LEN, rows_per_shard=100, val_fraction=0.1)
    try:
        prepare(text_inputs([text], [], TextLayout()), recipe, Path(out), workers=int(workers))
    except PicoTrainError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
