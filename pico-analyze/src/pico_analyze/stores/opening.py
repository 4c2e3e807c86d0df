"""Which kind of run a path or address is, and where runs are found when none is named."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pico_analyze.errors import NotARunError, nearest
from pico_analyze.stores.base import Store
from pico_schema import layout

RUNS = Path("runs")
"""Where runs are looked for when none is named."""


@dataclass(frozen=True)
class ReadOptions:
    """How remote runs are read; picklable, so that workers open a run as their parent did."""

    offline: bool = False
    """Read from the local cache only."""
    cache_dir: Path | None = None
    """Where blocks of remote files are kept; by default under the user's cache directory."""
    cache_gb: float = 20.0
    """Bound of that cache, in GiB."""


def is_address(text: str) -> bool:
    """Whether this is an address on the Hub rather than a path."""
    return text.startswith("hf://")


def open_store(location: str | Path, options: ReadOptions | None = None) -> Store:
    """Open the run at a path or ``hf://`` address; what kind it is is found out.

    Raises:
        NotARunError: there is nothing there, or nothing of a known kind; the message says what was looked for.
        DataError: it is a run, and damaged.
    """
    text = str(location)
    if is_address(text):
        from pico_analyze.stores.hub.store import open_hub

        return open_hub(text, options or ReadOptions())
    path = Path(location)
    if not path.exists():
        known = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise NotARunError(f"{path}: there is no such path{nearest(path.name, known)}")
    if (path / layout.RUN_MANIFEST).is_file():
        from pico_analyze.stores.local import LocalStore

        return LocalStore(path)
    from pico_analyze.stores.pico_v1.store import PicoV1Store, is_pico_v1

    if is_pico_v1(path):
        return PicoV1Store(path)
    from pico_analyze.stores.transformers.store import TransformersStore, is_transformers_model

    if is_transformers_model(path):
        return TransformersStore(path)
    raise NotARunError(
        f"{path}: not a run: looked for {layout.RUN_MANIFEST} (Pico), checkpoints/step_<N>/ (Pico 1.0), and "
        f"config.json with *.safetensors (transformers){_inside(path)}"
    )


def _inside(path: Path) -> str:
    """A hint where the run may be instead: a parent of this directory, or directories in it."""
    for parent in path.resolve().parents:
        if (parent / layout.RUN_MANIFEST).is_file():
            return f"; it lies inside the run {parent}: name that"
    runs = [entry.relative_to(path).as_posix() for entry in (*local_runs(path), *local_runs(path / RUNS))]
    return f"; it contains the runs {', '.join(runs[:5])}: name one" if runs else ""


def local_runs(root: Path = RUNS) -> list[Path]:
    """Directories under `root` that hold a run of Pico or of Pico 1.0, newest first."""
    if not root.is_dir():
        return []
    found = [entry for entry in root.iterdir() if entry.is_dir() and _changed(entry) is not None]
    return sorted(found, key=lambda entry: (-(_changed(entry) or 0.0), entry.name))


def _changed(path: Path) -> float | None:
    """When a run last changed (its index, or its checkpoints), or None if this is no run."""
    for name in (layout.RUN_MANIFEST, "training_config.yaml"):
        if (path / name).is_file():
            newest = (path / layout.CHECKPOINTS) if name != layout.RUN_MANIFEST else path / name
            return (newest if newest.exists() else path).stat().st_mtime
    return None


def newest_run(root: Path = RUNS) -> Path:
    """The run under `root` that changed last.

    Raises:
        NotARunError: there is none.
    """
    runs = local_runs(root)
    if not runs:
        raise NotARunError(
            f"no run under {root.resolve()}: name one (a path or hf://org/name@branch), or make one with "
            "`pico-train run`"
        )
    return runs[0]
