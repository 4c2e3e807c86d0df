"""What is probed and how, from the words of a person; nothing is read, and torch is not needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pico_analyze.errors import UsageError
from pico_analyze.models.settings import DType, dtype_of, selection, words_of
from pico_analyze.parameters import Given, resolve_params, shared_out
from pico_analyze.probes.spec import PROBES, chosen
from pico_analyze.stores.base import ReadOptions

if TYPE_CHECKING:
    from pico_analyze.engine.tasks import Shard
    from pico_analyze.parameters import ParamValue
    from pico_analyze.questions.builder import Chosen, Words

SEQ_LEN = 512
"""Tokens of a row that is cut from text, where nothing is said and the model reads as many: an in-context score looks
at position 500."""


@dataclass(frozen=True)
class BehaveSettings:
    """What is probed, and how."""

    out: Path
    """Directory in which the run gets its own."""
    probes: tuple[str, ...]
    """Which probes."""
    data: tuple[str, ...] = ()
    """Files of text or of token ids, or one run of Pico; none: the run's own validation rows, or Python's library."""
    steps: str = "all"
    """Which steps."""
    rows: int | None = None
    """Rows to take, evenly spaced."""
    seq_len: int | None = None
    """Tokens read of a row that is cut from text; None: `SEQ_LEN`, or as many as the model reads."""
    continuation: int | None = None
    """Tokens of prompt and of continuation, for memorisation; None: 32, or half of what fits."""
    target: str = "last"
    """What outputs are compared with: last, first, a step, or a run."""
    seed: int = 0
    """Of the random tokens."""
    device: str = "auto"
    """Where models are run."""
    dtype: DType = "float32"
    """What they compute in."""
    batch_size: int = 8
    """Rows of a forward pass."""
    jobs: int = 1
    """Processes, each with a model of its own in memory."""
    trust_remote_code: bool = False
    """Whether code that lies beside weights may be run."""
    shard: Shard | None = None
    """Only this share of the steps; the rows of all shares are brought together by a call without one."""
    probe_params: Mapping[str, Mapping[str, ParamValue]] = field(default_factory=dict)
    """Parameters of the probes that have some."""
    yes: bool = False
    """Whether probes begin whatever they cost."""
    budget: float | None = None
    """Minutes that they may take."""
    fresh: bool = False
    """Whether what is there is computed again."""
    read: ReadOptions = field(default_factory=ReadOptions)
    """How the run is read."""


def behave_settings(
    *,
    out: str | Path,
    probes: Words | None,
    data: Words | None,
    steps: Chosen,
    target: str | int | None,
    dtype: str,
    probe_params: Given = (),
    **others: Any,
) -> BehaveSettings:
    """Settings, from the words of a person; `others` are fields as they are.

    Raises:
        UsageError: a probe, a parameter or a type that is none.
    """
    names = chosen(words_of(probes))
    declared = {name: PROBES[name].params for name in names}
    given = shared_out(probe_params, declared, "probe")
    if dtype != "float32" and (exact := [name for name in names if PROBES[name].costly]):
        raise UsageError(f"probe {exact[0]} needs float32: {dtype} rounds away what it measures")
    return BehaveSettings(
        out=Path(out),
        probes=names,
        probe_params={name: resolve_params(f"probe {name}", of, given[name]) for name, of in declared.items() if of},
        data=words_of(data, commas=False),
        steps=selection(steps),
        target="last" if target is None else str(target),
        dtype=dtype_of(dtype),
        **others,
    )
