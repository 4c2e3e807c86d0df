"""What `pico-train evaluate` measured of models of other makers, found again where it left it.

In ``evaluated/NAME`` of the current directory, or beside the models (`--out` with their own folder). Results count only
where they name this series by its place and each model by its files: those of another model are refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pico_analyze.errors import DataError
from pico_analyze.stores.transformers.files import LocalFiles, ModelFiles
from pico_schema import Evaluation, SchemaError, documents, evaluated, layout
from pico_schema.digests import sha256_file
from pico_schema.results import flat_results
from pico_schema.run_names import parse_address

if TYPE_CHECKING:
    from pico_analyze.stores.transformers.series import Checkpoint

_HUB = "hf://"


def evaluated_results(location: str, checkpoints: Iterable[Checkpoint]) -> dict[int, dict[str, float]]:
    """Results by step, under flat names such as ``pairs.accuracy``.

    Args:
        location: Path or address of the models, as the store was opened.
        checkpoints: Those that there are.

    Raises:
        DataError: a document is damaged, or of another model than the one at its step.
    """
    found: dict[int, dict[str, float]] = {}
    for one in checkpoints:
        for place, folder in _folders(location):
            path = folder / layout.evaluation_file(one.step)
            if one.step not in found and path.is_file():
                results = _read(path, place, one)
                if results is not None:
                    found[one.step] = results
    return found


def _folders(location: str) -> Iterator[tuple[str, Path]]:
    """What the series may be called in its results, and where those may lie."""
    if location.startswith(_HUB):
        address = parse_address(location)
        places = [f"{_HUB}{address.repo}"]
        if address.revision is not None:
            places.insert(0, f"{_HUB}{address.repo}@{address.revision}")
        yield from ((place, Path(evaluated.ROOT) / evaluated.folder_name(place)) for place in places)
        return
    path = Path(location)
    if path.exists():
        for directory in (path.resolve(), path.resolve().parent):
            yield str(directory), Path(evaluated.ROOT) / evaluated.folder_name(str(directory))
            yield str(directory), directory


def _read(path: Path, place: str, one: Checkpoint) -> dict[str, float] | None:
    """The results in a document; None where it is of a series of this name at another place."""
    try:
        document = documents.read(path, Evaluation)
    except SchemaError as error:
        raise DataError(str(error)) from None
    if document.run_id != evaluated.series_id(place):
        return None
    if (document.step, document.manifest_sha256) != (one.step, _digest(one.files)):
        raise DataError(
            f"{path}: results of another model than {one.files.where}: evaluate that one again, or move the file away"
        )
    return flat_results(document.tasks)


def _digest(files: ModelFiles) -> str:
    """What stands for a model in its results: of local files their sha256, of those on the Hub what it lists."""
    if isinstance(files, LocalFiles):
        names = [path.name for path in files.path.iterdir() if evaluated.is_of_model(path.name)]
        return evaluated.model_digest({name: sha256_file(files.path / name) for name in names})
    return evaluated.model_digest({name: files.identity(name) for name in files.sizes if evaluated.is_of_model(name)})
