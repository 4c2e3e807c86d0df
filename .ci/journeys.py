"""Two journeys through the house, traced: which rooms and files they enter.

    .venv/bin/python .ci/journeys.py

*train*: eight text files become one weight update. *analyze*: one tensor becomes a dot in a picture. A file counts as
entered when one of its functions is called, in whatever thread (what is called to import it does not count); a room is
a folder.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import os
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from importlib.metadata import entry_points
from pathlib import Path

PACKAGES = ("pico_schema", "pico_train", "pico_analyze")
TRAIN = """
name: journey
model: {d_model: 16, n_layers: 1, n_heads: 2, n_kv_heads: 1, d_ff: 32, vocab_size: 512}
data: {source: text, paths: [texts], tokenizer: "train:512", seq_len: 32, val_rows: 4, val_fraction: 0.2}
training: {max_steps: 1, batch_size: 2, schedule: {warmup_steps: 0}}
"""


def trace(command: str, *words: str) -> Counter[str]:
    """Run a command in this process; files of ours whose functions were called, and how often."""
    entered: Counter[str] = Counter()

    def note(frame: object, event: str, argument: object) -> None:  # noqa: ARG001 - as sys.setprofile calls it
        if event == "call":
            code = frame.f_code  # type: ignore[attr-defined]
            if code.co_flags & inspect.CO_OPTIMIZED and _ours(code.co_filename) and not _importing(frame):
                entered[code.co_filename] += 1

    (point,) = entry_points(group="console_scripts", name=command)
    main, sys.argv = point.load(), [command, *words]
    threading.setprofile(note)
    sys.setprofile(note)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
            main()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
    return Counter({place: n for path, n in entered.items() if (place := _ours(path)) is not None})


def _importing(frame: object) -> bool:
    """Whether this call is part of importing a module: what a file does to be there is no journey."""
    while frame is not None:
        code = frame.f_code  # type: ignore[attr-defined]
        if code.co_name in ("<module>", "_find_and_load") and code.co_filename != __file__:
            return not code.co_filename.endswith("/bin/pico-train")
        frame = frame.f_back  # type: ignore[attr-defined]
    return False


def _ours(path: str) -> str | None:
    parts = Path(path).parts
    for package in PACKAGES:
        if package in parts and "site-packages" not in parts[: parts.index(package)]:
            return "/".join(parts[parts.index(package) :])
    return None


def report(title: str, entered: Counter[str]) -> None:
    """Print what a journey entered, room by room."""
    rooms: dict[str, list[str]] = {}
    for place in sorted(entered):
        rooms.setdefault(str(Path(place).parent), []).append(Path(place).stem)
    print(f"{title}: {len(rooms)} rooms, {len(entered)} files")
    for room, files in rooms.items():
        print(f"  {room:32} {' '.join(files)}")


def _texts(folder: Path) -> None:
    folder.mkdir()
    for number in range(8):
        words = " ".join(f"word{(number * 7 + i) % 50} tells of word{i % 13}." for i in range(400))
        (folder / f"{number}.txt").write_text(words)


def main() -> None:
    """Trace both journeys, each in a process of its own."""
    if len(sys.argv) > 1:
        journey, *words = sys.argv[1:]
        report(journey, trace(f"pico-{journey}", *words))
        return
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        _texts(root / "texts")
        (root / "journey.yaml").write_text(TRAIN)
        here = [sys.executable, str(Path(__file__).resolve())]
        environment = os.environ | {"PICO_CACHE": str(root / "cache")}
        one = ["compute", "norm", "runs/journey", "--site", "attn.v", "--steps", "last", "--layers", "0"]
        for words in (["train", "run", "journey.yaml"], ["analyze", *one]):
            subprocess.run([*here, *words], cwd=root, env=environment, check=True)


if __name__ == "__main__":
    main()
