"""What a shell completes: presets, runs under ./runs, dotted settings. Nothing heavy is imported for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def presets(incomplete: str) -> list[str]:
    """Names of presets that begin so."""
    from importlib.resources import files

    found = (entry.name for entry in files("pico_train.config.presets").iterdir())
    names = sorted(name.removesuffix(".yaml") for name in found if name.endswith(".yaml") and name != "family.yaml")
    return [name for name in names if name.startswith(incomplete)]


def settings(incomplete: str) -> list[tuple[str, str]]:
    """Dotted names of settings that begin so, ready for a value, with their help: a section at a time."""
    if "=" in incomplete:
        return []
    from pico_train.config import describe

    depth, found = incomplete.count("."), dict[str, str]()
    for path, text in describe.fields().items():
        if path.startswith(incomplete):
            parts = path.split(".")
            whole = len(parts) == depth + 1
            shown = path + "=" if whole else ".".join(parts[: depth + 1]) + "."
            found.setdefault(shown, text if whole else "settings")
    return list(found.items())


def runs(incomplete: str) -> Iterator[str]:
    """Runs under ./runs whose names begin so; after an ``@``, the steps of their checkpoints."""
    name, at, step = incomplete.partition("@")
    root = Path("runs")
    if at:
        for path in sorted((root / name / "checkpoints").glob("step-*/manifest.json")):
            number = path.parent.name.removeprefix("step-").lstrip("0") or "0"
            if number.startswith(step):
                yield f"{name}@{number}"
        return
    for path in sorted(root.glob("*/run.json")):
        if path.parent.name.startswith(name):
            yield path.parent.name
