"""What probing a step takes, and what it leaves: arrays first and rows after them, each whole or not at all, so that
whoever is killed loses the step at hand.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pico_analyze.models import behaviour_rows as rows_of
from pico_analyze.models.behaviour_rows import Origin
from pico_analyze.probes import induction
from pico_analyze.probes.chains import inverse_temperature
from pico_analyze.probes.spec import PROBES
from pico_analyze.stores.lineage import membership_facts
from pico_analyze.table.arrays_file import write_arrays
from pico_analyze.table.columns import Row, as_json
from pico_analyze.table.rows_file import part_content
from pico_analyze.table.store import write_part
from pico_analyze.version import __version__
from pico_schema import __version__ as schema_version
from pico_schema import layout

if TYPE_CHECKING:
    import pandas

    from pico_analyze.models.behave_settings import BehaveSettings
    from pico_analyze.models.curvature import Chains, Hessian
    from pico_analyze.models.repeats import Repeats
    from pico_analyze.models.rows import Rows
    from pico_analyze.models.trained_rows import TrainedRows
    from pico_analyze.models.watching import Seen
    from pico_analyze.probes.token_losses import NGrams
    from pico_analyze.stores.base import ReadOptions, Store
    from pico_schema import ModelSpec

_COUNT = "rows_of_probe"
"""In the provenance of a row: how many rows its probe has at this step."""
ARRAYS = "behaviour"
"""The folder beside the table in which arrays lie."""


@dataclass(frozen=True)
class Around:
    """What was seen around the weights of a model; None for what was not looked at."""

    hessian: Hessian | None = None
    chains: Chains | None = None


@dataclass(frozen=True)
class Work:
    """What probing a step takes, wherever it is done; picklable."""

    name: str
    options: ReadOptions
    directory: Path
    """Where the run's table lies."""
    started: int
    model: ModelSpec
    """The geometry that all steps have."""
    settings: BehaveSettings
    rows: Rows
    split: str | None
    positions: tuple[int, ...]
    repeats: np.ndarray | None
    """Repeated random tokens; None where the model reads too few."""
    trained: TrainedRows | None
    ngrams: NGrams | None
    continuation: int
    params: dict[str, dict[str, Any]]
    """What identifies the question of each probe."""
    digests: dict[tuple[str, int], str]
    """Of each probe at each step: the question and its inputs."""
    torch_threads: int
    versions: dict[str, str] = field(default_factory=dict)

    def origin(self, store: Store, step: int, probe: str, inputs: Mapping[str, str] | None) -> Origin:
        """What rows of a probe at a step have in common; `inputs` are digests of the files that were read."""
        info = next(one for one in store.steps() if one.step == step)
        facts: dict[str, object] = {"pico_analyze": __version__, "pico_schema": schema_version, "kind": store.kind}
        facts |= {**store.provenance(step), **self.versions} | ({} if inputs is None else {"inputs": inputs})
        facts |= membership_facts(store)
        return Origin(
            run=store.run,
            step=step,
            tokens_seen=info.tokens_seen,
            probe=probe,
            split=self.split,
            params=self.params[probe],
            provenance=as_json(facts),
            digest=self.digests[probe, step],
        )

    @property
    def n_beta(self) -> float:
        """The inverse temperature of the probe `llc`: as asked for, or n / ln n for n tokens that are predicted."""
        n_rows, length = self.rows.ids_NT.shape
        return float(self.settings.probe_params["llc"]["n_beta"]) or inverse_temperature(n_rows * (length - 1))

    def arrays(self, probe: str, step: int) -> Path:
        """Where the arrays of a probe at a step lie."""
        return self.directory / ARRAYS / probe / f"{layout.step_dir(step)}-{self.digests[probe, step]}.safetensors"


def leave(
    work: Work,
    origin_of: Callable[[str], Origin],
    step: int,
    probes: Sequence[str],
    seen: Seen,
    repeats: Repeats | None,
    trained: Seen | None,
    around: Around,
) -> None:
    """Leave the arrays of a step, then its rows.

    Args:
        work: What the step was measured with.
        origin_of: What the rows of a probe have in common.
        step: The step.
        probes: Which probes it was measured for.
        seen: What was seen while the rows were read.
        repeats: While repeated random tokens were; None where the model reads too few.
        trained: While rows of training were; None where the run keeps none.
        around: What was seen around the weights.
    """
    found: list[Row] = []
    for probe in probes:
        origin = origin_of(probe)
        if PROBES[probe].costly:
            rows = _around(work, origin, probe, around)
        else:
            rows = _rows(work, origin, probe, seen, repeats, trained)
        found += [row | {"provenance": _with_count(row["provenance"], len(rows))} for row in rows]
        if arrays := _arrays(probe, seen, trained, around):
            write_arrays(work.arrays(probe, step), arrays, origin.digest)
    name = f"{work.started:020d}-{work.digests[probes[0], step]}.parquet"
    write_part(work.directory, name, part_content(found))


def _with_count(provenance: str, count: int) -> str:
    return as_json(json.loads(provenance) | {_COUNT: count})


def complete(frame: pandas.DataFrame) -> set[str]:
    """Digests of which every row is there that was left: another question about the same step, such as another length
    of continuation, takes the place of the rows that it has in common with the one before."""
    there = Counter[str](frame["digest"])
    left = dict(zip(frame["digest"], frame["provenance"], strict=True))
    return {name for name, provenance in left.items() if json.loads(provenance).get(_COUNT) == there[name]}


def _rows(
    work: Work, origin: Origin, probe: str, seen: Seen, repeats: Repeats | None, trained: Seen | None
) -> list[Row]:
    n_rows = len(work.rows.ids_NT)
    match probe:
        case "induction":
            return _induction(work, origin, seen, repeats)
        case "attention":
            why = seen.no_attention
            if work.rows.ids_NT.shape[1] <= 2:
                why = "rows of 1 token are too short: attention needs 2"
            return list(rows_of.attention_rows(origin, seen.attention, why))
        case "token_losses":
            return _token_losses(work, origin, seen, trained)
        case "logit_lens":
            return list(rows_of.lens_rows(origin, seen.lens_kl_LS, seen.lens_same_LS, seen.no_lens, n_rows))
        case _:
            assert seen.log_p_SV is not None
            return [rows_of.output_row(origin, seen.log_p_SV, n_rows)]


def _induction(work: Work, origin: Origin, seen: Seen, repeats: Repeats | None) -> list[Row]:
    settings = work.settings
    length = 0 if work.repeats is None else work.repeats.shape[1] // 2
    params = {"length": length, "sequences": induction.SEQUENCES, "seed": settings.seed}
    params |= {"dtype": settings.dtype} if settings.dtype != "float32" else {}
    if settings.probe_params["induction"]["tokens"] == "seen":
        params |= {"tokens": "seen", "rows": origin.params["rows"]}
    of_heads = replace(origin, split=None, params=params)
    if repeats is None:
        short = (
            f"the model reads {work.model.max_seq_len} tokens of a vocabulary of {work.model.vocab_size}: repeated "
            f"tokens need {2 * induction.SHORTEST} of {induction.SHORTEST}"
        )
        why: dict[str, str | None] = {"prefix_matching": short, "copying": short}
        found = list(rows_of.induction_rows(of_heads, None, None, why))
    else:
        why = {"prefix_matching": repeats.no_prefix, "copying": repeats.no_copying}
        found = list(rows_of.induction_rows(of_heads, repeats.prefix_LHB, repeats.copying_LHB, why))
    return [*found, *rows_of.context_rows(origin, seen.losses_NT)]


def _token_losses(work: Work, origin: Origin, seen: Seen, trained: Seen | None) -> list[Row]:
    assert seen.unigram_kl_NT is not None and seen.bigram_kl_NT is not None
    found = [origin.mean("mean_loss", seen.losses_NT.astype(np.float64).mean(1))]
    counted = {"ngrams": "rows" if work.trained is None else f"train {work.trained.digest}"}
    with_bigram: np.ndarray = ~np.isnan(seen.bigram_kl_NT).all(axis=1)
    bigram = np.full(len(with_bigram), np.nan)
    bigram[with_bigram] = np.nanmean(seen.bigram_kl_NT[with_bigram], axis=1)
    found.append(origin.mean("unigram_kl", seen.unigram_kl_NT.mean(1), params=counted))
    found.append(origin.mean("bigram_kl", bigram, params=counted))
    found += rows_of.memory_rows(origin, seen.correct_NT, work.continuation, None)
    if trained is not None and work.trained is not None:
        before = work.trained.batch_N[work.trained.run_on] < origin.step
        found += rows_of.memory_rows(
            origin, trained.correct_NT[before], work.continuation, "train", rows=work.trained.digest
        )
    return found


def _around(work: Work, origin: Origin, probe: str, around: Around) -> list[Row]:
    n_rows = len(work.rows.ids_NT)
    if probe == "curvature":
        assert around.hessian is not None
        return list(rows_of.hessian_rows(origin, around.hessian, n_rows))
    assert around.chains is not None
    return [rows_of.llc_row(origin, around.chains, work.n_beta, n_rows)]


def _arrays(probe: str, seen: Seen, trained: Seen | None, around: Around) -> dict[str, np.ndarray]:
    """What is kept of a step beside its rows."""
    if probe == "attention":
        return dict(seen.attention)
    if probe == "llc" and around.chains is not None:
        return {"losses": around.chains.losses_CD}
    if probe == "token_losses":
        found = {"losses": seen.losses_NT, "correct": seen.correct_NT.astype(np.uint8)}
        if trained is not None:
            found |= {"train_losses": trained.losses_NT, "train_correct": trained.correct_NT.astype(np.uint8)}
        return found
    return {} if probe != "output_distance" or seen.log_p_SV is None else {"log_p": seen.log_p_SV}
