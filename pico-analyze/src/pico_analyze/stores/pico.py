"""What Pico's own runs and checkpoints on disk are recognised by."""

from __future__ import annotations

from pathlib import Path

from pico_analyze.stores.base import ReadOptions
from pico_analyze.stores.local import LocalStore
from pico_analyze.stores.revisions import RevisionStore, sealed_directories
from pico_analyze.stores.spec import StoreSpec
from pico_schema import layout


def _recognises(location: str) -> bool:
    path = Path(location)
    return (path / layout.RUN_MANIFEST).is_file() or bool(sealed_directories(path))


def _open(location: str, _options: ReadOptions) -> LocalStore:
    path = Path(location)
    directories = sealed_directories(path)
    return RevisionStore(path, directories) if directories else LocalStore(path)


def _changed(path: Path) -> float | None:
    index = path / layout.RUN_MANIFEST
    return index.stat().st_mtime if index.is_file() else None


def _checkpoint(path: Path) -> tuple[Path, int] | None:
    run, step = path.parent.parent, layout.parse_step_dir(path.name)
    inside = path.parent.name == layout.CHECKPOINTS and (run / layout.RUN_MANIFEST).is_file()
    return (run, step) if inside and step is not None else None


PICO = StoreSpec(
    name=LocalStore.kind,
    title="a run of Pico",
    sign=f"{layout.RUN_MANIFEST} (Pico)",
    recognises=_recognises,
    open=_open,
    changed=_changed,
    checkpoint=_checkpoint,
    thread_safe=True,
    order=0,
)
