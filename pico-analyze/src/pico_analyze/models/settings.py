"""What is captured and how, from the words of a person; nothing is read, and torch is not needed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from pico_analyze.errors import UsageError
from pico_analyze.stores.base import ReadOptions
from pico_analyze.stores.opening import RUNS

if TYPE_CHECKING:
    from pico_analyze.questions.builder import Chosen, Words

DType = Literal["float32", "bfloat16", "float16"]


SEQ_LEN = 128
"""Tokens of a row that is cut from text, where nothing is said and the model reads as many."""


@dataclass(frozen=True)
class CaptureSettings:
    """What is captured, and how."""

    out: Path
    """The directory of the run that is made."""
    data: tuple[str, ...] = ()
    """Files of text or of token ids, or one run of Pico; none: the run's own validation rows, or Python's library."""
    sites: tuple[str, ...] = ()
    """Kinds and names of sites; none: `places.DEFAULT_SITES`."""
    steps: str = "all"
    """Which steps."""
    rows: int | None = None
    """Rows to take, evenly spaced."""
    seq_len: int | None = None
    """Tokens read of a row that is cut from text; None: `SEQ_LEN`, or as many as the model reads."""
    positions: int | Literal["last", "all"] = 8
    """Positions kept in each row, evenly spaced."""
    weights: bool = False
    """Whether weights are sealed too, for circuits of activations."""
    gradients: bool = False
    """Whether gradients are taken too."""
    device: str = "auto"
    """Where models are run."""
    dtype: DType = "float32"
    """What they compute in; activations are stored in it, gradients in float32."""
    batch_size: int = 8
    """Rows of a forward pass; values depend on it as sums do on their order."""
    jobs: int = 1
    """Processes, each with a model of its own in memory."""
    trust_remote_code: bool = False
    """Whether code that lies beside weights may be run."""
    read: ReadOptions = field(default_factory=ReadOptions)
    """How the run is read."""


class ChoosesRows(Protocol):
    """Which rows models are run on."""

    @property
    def data(self) -> tuple[str, ...]:
        """Files of text or of token ids, or one run of Pico."""
        ...

    @property
    def rows(self) -> int | None:
        """Rows to take, evenly spaced."""
        ...

    @property
    def read(self) -> ReadOptions:
        """How the run is read."""
        ...


def settings_of(
    run: str | Path,
    *,
    out: str | Path | None,
    data: Words | None,
    sites: Words | None,
    steps: Chosen,
    positions: int | str,
    dtype: str,
    read: ReadOptions,
    **others: Any,
) -> CaptureSettings:
    """Settings, from the words of a person; `others` are fields as they are.

    Raises:
        UsageError: positions or a type that are none.
    """
    text = str(positions)
    number: int | str = text if text in ("last", "all") else int(text) if re.fullmatch("[0-9]{1,9}", text) else 0
    if number == 0:
        raise UsageError(f"positions {text[:80]!r}: give last, all, or how many are kept in each row")
    return CaptureSettings(
        out=made_directory(run, "capture") if out is None else Path(out),
        data=words_of(data, commas=False),
        sites=words_of(sites),
        steps=selection(steps),
        positions=number,  # type: ignore[arg-type]
        dtype=dtype_of(dtype),
        read=read,
        **others,
    )


def dtype_of(name: str) -> DType:
    """The type of a name.

    Raises:
        UsageError: models do not compute in it.
    """
    for known in get_args(DType):
        if name == known:
            return known  # type: ignore[no-any-return]
    raise UsageError(f"dtype {name[:80]!r}: models compute in {', '.join(get_args(DType))}")


def selection(steps: Chosen) -> str:
    """Steps as the text of a selection."""
    return steps if isinstance(steps, str) else ",".join(map(str, [steps] if isinstance(steps, int) else steps))


def made_directory(run: str | Path, command: str) -> Path:
    """Where the run goes that a command makes of another one, if no one says: under ./runs, named after both."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", str(run).rstrip("/").rpartition("/")[2]).strip("-.") or "run"
    return RUNS / f"{name}-{command}"


def words_of(words: Words | None, *, commas: bool = True) -> tuple[str, ...]:
    """Words as a person lists them: several, or with commas between them."""
    listed = [] if words is None else [words] if isinstance(words, str | Path) else list(words)
    return tuple(part.strip() for word in listed for part in (str(word).split(",") if commas else [str(word)]))
