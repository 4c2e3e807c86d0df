"""Checkpoints of Pico away from their run: a directory or several, downloaded revisions, huggingface_hub's cache.

The root of a published revision is the checkpoint, with `run.json` beside it; a directory that was copied out of a run
has no `run.json`, and its manifest says which run it is of.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pico_analyze.errors import DataError
from pico_analyze.stores.checked_file import read_small
from pico_analyze.stores.hub_cache import SNAPSHOTS, cached_repository, repository_of
from pico_analyze.stores.local import LocalStore
from pico_schema import CheckpointManifest, RunManifest, SchemaError, documents, layout


def sealed_directories(path: Path) -> list[Path]:
    """The directories at a path that are checkpoints of Pico, apart from those of a run: itself, those that lie in it,
    or those in the `snapshots` of a cache."""
    if (path / layout.MANIFEST).is_file():
        return [path]
    if (path.parent / layout.RUN_MANIFEST).is_file():
        return []  # of a run, which tells more
    folder = cached_repository(path)
    inside = path if folder is None else folder / SNAPSHOTS
    try:
        found = sorted(inside.iterdir())
    except OSError:
        return []
    return [entry for entry in found if not entry.name.startswith(".") and (entry / layout.MANIFEST).is_file()]


class RevisionStore(LocalStore):
    """Checkpoints of one run, each in a directory of its own.

    Raises:
        DataError: a manifest is damaged, they are of several runs, or two of them are of one step.
    """

    def __init__(self, path: Path, directories: list[Path]) -> None:
        self.path, self.location = path, str(path)
        manifests = [(_manifest(directory), directory) for directory in directories]
        runs = {manifest.run_id: manifest.run_name for manifest, _ in manifests}
        if len(runs) > 1:
            named = ", ".join(sorted(runs.values())[:5])
            raise DataError(f"{path}: checkpoints of {len(runs)} runs are in it ({named}): name the directory of one")
        self._places: dict[int, Path] = {}
        for manifest, directory in manifests:
            other = self._places.setdefault(manifest.step, directory)
            if other != directory and _content(other / layout.MANIFEST) != _content(directory / layout.MANIFEST):
                raise DataError(
                    f"{path}: step {manifest.step} is there twice, in {other.name} and {directory.name}, and they "
                    "differ: name the directory of one"
                )
        self.manifest = self._run_manifest(max(manifests, key=lambda item: item[0].step)[0])
        self.run = self.manifest.name

    def _run_manifest(self, newest: CheckpointManifest) -> RunManifest:
        """What the newest revision says of its run, reduced to the checkpoints that are here."""
        where = self._root / layout.RUN_MANIFEST
        if not where.is_file():
            return RunManifest(
                id=newest.run_id,
                name=newest.run_name,
                created=newest.created,
                producer=newest.producer,
                seed=newest.seed,
                model=newest.model,
                data=newest.data,
                config={},
            )
        try:
            run = documents.parse(_content(where), RunManifest, where=str(where))
        except SchemaError as error:
            raise DataError(str(error)) from None
        if run.id != newest.run_id:
            raise DataError(f"{where}: it is of another run ({run.id}) than the checkpoint beside it ({newest.run_id})")
        here = tuple(entry for entry in run.checkpoints if entry.step in self._places)
        return run.model_copy(update={"checkpoints": here})

    @property
    def _root(self) -> Path:
        return self._places[max(self._places)]

    def _directories(self) -> Iterator[tuple[int, Path]]:
        yield from sorted(self._places.items())

    def _inside(self, directory: Path, path: str) -> Path:
        """A file of a revision; in a cache, where files are links to blobs, one that does not lead out of that."""
        folder = repository_of(directory)
        if folder is None:
            return super()._inside(directory, path)
        try:
            layout.safe_relative_path(path)
        except SchemaError as error:
            raise DataError(str(error)) from None
        return super()._inside(folder, f"{SNAPSHOTS}/{directory.name}/{path}")


def _manifest(directory: Path) -> CheckpointManifest:
    where = directory / layout.MANIFEST
    try:
        return documents.parse(_content(where), CheckpointManifest, where=str(where))
    except SchemaError as error:
        raise DataError(str(error)) from None


def _content(path: Path) -> bytes:
    return read_small(path, documents.MAX_DOCUMENT)
