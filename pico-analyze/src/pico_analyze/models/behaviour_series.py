"""What follows from several steps together: tokens learned and forgotten, and how far outputs lie apart.

Made of the arrays that each step left; no model is run.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pico_analyze.errors import StorageError
from pico_analyze.probes import distributions
from pico_analyze.probes.acquisition import FEWEST_STEPS, OCCURRENCES, Acquired, ages, forgotten
from pico_analyze.table.arrays_file import read_arrays
from pico_analyze.table.columns import Row, digest
from pico_analyze.table.rows_file import part_content
from pico_analyze.table.store import RowStore, write_part
from pico_schema.files import replace_file

if TYPE_CHECKING:
    from pico_analyze.models.behaving import Work
    from pico_analyze.models.behaviour_rows import Origin
    from pico_analyze.stores.base import Store


class Series:
    """Rows about several steps of a run, those that are not there yet.

    Args:
        work: What each step was measured with.
        store: The run.
        table: Its table.
        steps: The steps that were asked for, ascending.
    """

    def __init__(self, work: Work, store: Store, table: RowStore, steps: Sequence[int]) -> None:
        self._work, self._store, self._steps = work, store, steps
        self.digests: set[str] = set()
        """Of all rows that answer."""
        self._new: list[Row] = []
        self._known: set[str] = set() if work.settings.fresh else set(table.frame()["digest"])

    def losses(self) -> None:
        """Forgetting events between neighbouring steps, and ages of acquisition."""
        units = [self._work.digests["token_losses", step] for step in self._steps]
        pairs = list(zip(self._steps[:-1], self._steps[1:], strict=True))
        for before, step in pairs:
            name = self._named("forgotten", before, step)
            if self._is_there(name):
                continue
            held, now = self._array("token_losses", before)["correct"], self._array("token_losses", step)["correct"]
            share, known = forgotten(held, now)
            self._new.append(
                self._origin("token_losses", step, name).row(
                    "forgotten",
                    share,
                    reason=None if known else f"no token was the most probable one at step {before}",
                    n_samples=len(now),
                    target_run=self._store.run,
                    target_step=before,
                    extra={"tokens": known},
                )
            )
        name = digest("age_of_acquisition", units)
        if not self._is_there(name):
            self._new.append(self._age(self._origin("token_losses", self._steps[-1], name)))

    def _age(self, origin: Origin) -> Row:
        metric, params = "age_of_acquisition", {"steps": len(self._steps), "from": self._steps[0]}
        if len(self._steps) < FEWEST_STEPS:
            reason = f"{len(self._steps)} steps are too few for a sigmoid: it needs {FEWEST_STEPS}"
            return origin.row(metric, math.nan, reason=reason, params=params)
        losses = np.stack([self._array("token_losses", step)["losses"] for step in self._steps]).astype(np.float64)
        found = ages(self._steps, losses, self._work.rows.ids_NT[:, 1:], self._work.model.vocab_size)
        self._write_ages(found, origin.digest)
        known = found.age_K[np.isfinite(found.age_K)]
        extra: dict[str, Any] = {"tokens": len(found.age_K), "acquired": len(known)}
        if not len(known):
            reason = (
                f"no kind of token stands {OCCURRENCES} times in the rows"
                if not len(found.age_K)
                else "no token comes halfway from chance to its lowest loss within these steps"
            )
            return origin.row(metric, math.nan, reason=reason, params=params, extra=extra)
        low, middle, high = (float(one) for one in np.quantile(known, (0.25, 0.5, 0.75)))
        extra |= {"quartile_1": low, "quartile_3": high}
        return origin.row(metric, middle, params=params, n_samples=len(losses[0]), extra=extra)

    def _write_ages(self, found: Acquired, name: str) -> None:
        """One line for each kind of token, the earliest first, beside the losses that they are from."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("token_id", "occurrences", "age_of_acquisition"))
        for at in np.argsort(found.age_K, kind="stable"):  # NaN comes last
            age = "" if math.isnan(found.age_K[at]) else f"{found.age_K[at]:.6g}"
            writer.writerow((int(found.token_K[at]), int(found.count_K[at]), age))
        path = self._work.arrays("token_losses", self._steps[-1]).with_name(f"acquisition-{name}.csv")
        try:
            replace_file(path, text.getvalue().encode(), durable=False)
        except OSError as error:
            raise StorageError(f"{path}: cannot be written ({error.strerror or error}): check the disk") from None

    def outputs(self, other: Work, name_of_other: str, targets: dict[int, int]) -> None:
        """Distances of outputs.

        Args:
            other: What the targets were measured with: this run, or another that read the same rows.
            name_of_other: Name of that run.
            targets: Step → step that it is compared with.
        """
        n_rows = len(self._work.rows.ids_NT)
        for step, target in targets.items():
            mine, yours = self._work.digests["output_distance", step], other.digests["output_distance", target]
            name = digest("output_distance", mine, yours)
            if self._is_there(name):
                continue
            p = self._array("output_distance", step)["log_p"]
            q = read_arrays(other.arrays("output_distance", target), yours)["log_p"]
            found = {
                "output_kl": distributions.kl(p, q),
                "output_jsd": distributions.jsd(p, q),
                "top1_flips": distributions.flips(p, q).astype(float),
            }
            origin = self._origin("output_distance", step, name)
            for metric, at_positions in found.items():
                by_row = at_positions.reshape(n_rows, -1).mean(1)
                self._new.append(origin.mean(metric, by_row, target_run=name_of_other, target_step=target))

    def write(self) -> int:
        """Leave the rows that are new; how many there are."""
        if self._new:
            name = f"{self._work.started:020d}-{digest(sorted({row['digest'] for row in self._new}))}.parquet"
            write_part(self._work.directory, name, part_content(self._new))
        return len(self._new)

    def _named(self, what: str, before: int, step: int) -> str:
        return digest(what, self._work.digests["token_losses", before], self._work.digests["token_losses", step])

    def _is_there(self, name: str) -> bool:
        self.digests.add(name)
        return name in self._known

    def _array(self, probe: str, step: int) -> dict[str, np.ndarray]:
        return read_arrays(self._work.arrays(probe, step), self._work.digests[probe, step])

    def _origin(self, probe: str, step: int, name: str) -> Origin:
        return replace(self._work.origin(self._store, step, probe, None), digest=name)
