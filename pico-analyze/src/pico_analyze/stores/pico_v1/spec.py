"""What a run of Pico 1.0 is recognised by; how it is read is imported when one is opened."""

from __future__ import annotations

from pathlib import Path

from pico_analyze.stores.base import ReadOptions, Store
from pico_analyze.stores.pico_v1.names import CONFIG, STEP
from pico_analyze.stores.spec import StoreSpec
from pico_schema import layout


def _recognises(location: str) -> bool:
    """Whether a directory has checkpoints named as Pico 1.0 names them."""
    root = Path(location) / layout.CHECKPOINTS
    return root.is_dir() and any(STEP.fullmatch(entry.name) and entry.is_dir() for entry in root.iterdir())


def _open(location: str, _options: ReadOptions) -> Store:
    from pico_analyze.stores.pico_v1.store import PicoV1Store

    return PicoV1Store(Path(location))


def _changed(path: Path) -> float | None:
    if not (path / CONFIG).is_file():
        return None
    checkpoints = path / layout.CHECKPOINTS
    return (checkpoints if checkpoints.exists() else path).stat().st_mtime


def _checkpoint(path: Path) -> tuple[Path, int] | None:
    match = STEP.fullmatch(path.name)
    return (path.parent.parent, int(match[1])) if match and path.parent.name == layout.CHECKPOINTS else None


PICO_V1 = StoreSpec(
    name="pico-v1",
    title="a run of Pico 1.0",
    sign="checkpoints/step_<N>/ (Pico 1.0)",
    recognises=_recognises,
    open=_open,
    changed=_changed,
    checkpoint=_checkpoint,
    order=20,
    install="pip install 'pico-analyze[torch]'",
)
