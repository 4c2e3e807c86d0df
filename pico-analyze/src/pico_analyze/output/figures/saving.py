"""Files of a figure: the picture, with the command that makes it again inside, and a CSV of exactly its values."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pico_analyze.errors import StorageError, UsageError, nearest
from pico_analyze.output.figures.request import FORMATS
from pico_schema.files import replace_file

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

_DPI = {"screen": 144, "column": 300, "page": 300}


def form(path: Path) -> str:
    """The format that a file's name ends with.

    Raises:
        UsageError: none, or one that is not written.
    """
    ending = path.suffix.lstrip(".").lower()
    if ending not in FORMATS:
        near = nearest(ending, FORMATS) if ending else ""
        raise UsageError(f"{path.name}: the name of a figure ends with .png, .svg or .pdf{near}")
    return ending


def save(figure: Figure, values: pandas.DataFrame, path: Path, command: str, width: str) -> list[Path]:
    """Write the picture and its CSV, each whole or not at all; return both.

    Equal figures are equal files: no date, no version stands in them.

    Args:
        figure: What is drawn.
        values: Its values.
        path: The picture's file; that of the CSV has the same name but for the ending.
        command: What makes it again.
        width: screen, column or page: resolution of a PNG.

    Raises:
        UsageError: the name ends with no known format.
        StorageError: the disk refused.
    """
    kind = form(path)
    picture = io.BytesIO()
    figure.savefig(picture, format=kind, dpi=_DPI[width], metadata=_metadata(kind, command))
    table = values.to_csv(index=False, lineterminator="\n").encode()
    beside = path.with_suffix(".csv")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for place, content in ((path, picture.getvalue()), (beside, table)):
            replace_file(place, content, durable=False)
    except OSError as error:
        raise StorageError(f"{path}: writing failed ({error.strerror or error}): choose another --out") from None
    return [path, beside]


def _metadata(kind: str, command: str) -> dict[str, Any]:
    if kind == "png":
        return {"Software": None, "Comment": command}
    if kind == "pdf":
        return {"Creator": "pico-analyze", "Producer": None, "CreationDate": None, "Subject": command}
    return {"Creator": "pico-analyze", "Date": None, "Description": command}
