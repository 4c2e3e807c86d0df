"""Rows of the table from what was seen of a model: `data` is behaviour, `component` probe, `site` the probe's name."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pico_analyze.probes import attention, chains, induction
from pico_analyze.probes.distributions import entropy
from pico_analyze.probes.token_losses import matching_tokens
from pico_analyze.table.columns import Row, as_json

if TYPE_CHECKING:
    from pico_analyze.models.curvature import Chains, Hessian

DATA, COMPONENT = "behaviour", "probe"


@dataclass(frozen=True)
class Origin:
    """What all rows of one probe at one step have in common."""

    run: str
    step: int
    tokens_seen: int | None
    probe: str
    split: str | None
    params: Mapping[str, Any]
    provenance: str
    digest: str

    def row(
        self,
        metric: str,
        value: float,
        *,
        reason: str | None = None,
        layer: int | None = None,
        head: int | None = None,
        split: str | None = None,
        params: Mapping[str, Any] | None = None,
        n_samples: int | None = None,
        target_run: str | None = None,
        target_step: int | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> Row:
        """One row."""
        numbers = {name: one if one is None or math.isfinite(one) else str(one) for name, one in (extra or {}).items()}
        return {
            "run": self.run,
            "step": self.step,
            "tokens_seen": self.tokens_seen,
            "split": split or self.split,
            "data": DATA,
            "component": COMPONENT,
            "site": self.probe,
            "layer": layer,
            "head": head,
            "metric": metric,
            "params": as_json({**self.params, **(params or {})}),
            "target_run": target_run,
            "target_step": target_step,
            "value": float(value),
            "reason": reason,
            "n_samples": n_samples,
            "target_layer": None,
            "n_features": None,
            "ci_low": None,
            "ci_high": None,
            "null_mean": None,
            "null_p": None,
            "extra": as_json(numbers) if numbers else None,
            "provenance": self.provenance,
            "digest": self.digest,
        }

    def mean(self, metric: str, by_row: np.ndarray, **where: Any) -> Row:
        """The mean over rows, with its standard error: positions of one row are not independent, rows are."""
        known = by_row[np.isfinite(by_row)]
        if not len(known):
            return self.row(metric, math.nan, reason="no row has a value", n_samples=0, **where)
        extra = {} if len(known) < 2 else {"standard_error": float(known.std(ddof=1) / math.sqrt(len(known)))}
        return self.row(metric, float(known.mean()), n_samples=len(known), extra=extra, **where)


def induction_rows(
    origin: Origin, prefix_LHB: np.ndarray | None, copying_LHB: np.ndarray | None, why: Mapping[str, str | None]
) -> Iterator[Row]:
    """Prefix matching and copying of each head; of those that could not be read one row with the reason."""
    for metric, found in (("prefix_matching", prefix_LHB), ("copying", copying_LHB)):
        if found is None:
            yield origin.row(metric, math.nan, reason=why[metric])
            continue
        yield from _by_head(origin, metric, found)


def _by_head(origin: Origin, metric: str, found_LHN: np.ndarray) -> Iterator[Row]:
    for layer, heads in enumerate(found_LHN):
        for head, by_row in enumerate(heads):
            yield origin.mean(metric, by_row, layer=layer, head=head)


def context_rows(origin: Origin, losses_NT: np.ndarray) -> Iterator[Row]:
    """In-context score and the curve of the loss by position."""
    seq_len = losses_NT.shape[1]
    early, late = induction.context_positions(seq_len)
    params = {"early": early, "late": late}
    if seq_len < induction.SHORTEST_CONTEXT:
        reason = f"rows of {seq_len} tokens are too short: an in-context score needs {induction.SHORTEST_CONTEXT}"
        yield origin.row("in_context_score", math.nan, reason=reason, params=params)
    else:
        score, error = induction.in_context_score(losses_NT)
        extra = {"standard_error": error} if math.isfinite(error) else {}
        yield origin.row("in_context_score", score, params=params, n_samples=len(losses_NT), extra=extra)
    for position in induction.curve_positions(seq_len):
        yield origin.mean("loss_at_position", losses_NT[:, position - 1].astype(float), params={"position": position})


def attention_rows(origin: Origin, found: Mapping[str, np.ndarray], why: str | None) -> Iterator[Row]:
    """The means of each head."""
    for metric in attention.METRICS:
        if why is not None:
            yield origin.row(metric, math.nan, reason=why)
        else:
            yield from _by_head(origin, metric, found[metric])


def memory_rows(origin: Origin, correct_NT: np.ndarray, k: int, split: str | None, **params: Any) -> Iterator[Row]:
    """How much of rows is known by heart."""
    where: dict[str, Any] = {"split": split, "params": {"k": k, **params}}
    if not len(correct_NT):
        reason = "no row of the batches that are kept was trained on before this step"
    elif k < 1:
        reason = "its rows are too short: memorisation needs two tokens at least"
    else:
        matching = matching_tokens(correct_NT, k)
        yield origin.mean("memorised", (matching == k).astype(float), **where)
        yield origin.mean("matching_tokens", matching.astype(float), **where)
        return
    for metric in ("memorised", "matching_tokens"):
        yield origin.row(metric, math.nan, reason=reason, n_samples=len(correct_NT), **where)


def lens_rows(
    origin: Origin, kl_LS: np.ndarray | None, same_LS: np.ndarray | None, why: str | None, n_rows: int
) -> Iterator[Row]:
    """What each layer would say."""
    for metric, found in (("lens_kl", kl_LS), ("lens_agreement", same_LS)):
        if found is None:
            yield origin.row(metric, math.nan, reason=why)
            continue
        for layer, at_positions in enumerate(found):
            yield origin.mean(metric, at_positions.astype(float).reshape(n_rows, -1).mean(1), layer=layer)


def hessian_rows(origin: Origin, found: Hessian, n_rows: int) -> Iterator[Row]:
    """Largest eigenvalue and trace."""
    yield origin.row("hessian_top", found.top, n_samples=n_rows, extra={"residual": found.residual})
    yield origin.row("hessian_trace", found.trace, n_samples=n_rows, extra={"standard_error": found.trace_error})


def llc_row(origin: Origin, found: Chains, n_beta: float, n_rows: int) -> Row:
    """The local learning coefficient, where the chains agree."""
    extra = {"n_beta": n_beta, "loss_before": found.loss_before}
    if not np.isfinite(found.losses_CD).all():
        reason = "a chain met what is not finite: give a smaller llc.lr"
        return origin.row("llc", math.nan, reason=reason, n_samples=n_rows, extra=extra)
    value, error = chains.learning_coefficient(found.losses_CD, found.loss_before, n_beta)
    r_hat = chains.split_r_hat(found.losses_CD)
    extra |= {"standard_error": error, "r_hat": r_hat}
    if r_hat > chains.AGREE:
        reason = (
            f"the chains have not converged (split R-hat {r_hat:.3g}, above {chains.AGREE:g}): give more llc.burn_in "
            "and llc.draws, a larger llc.localization, or another llc.lr"
        )
        return origin.row("llc", math.nan, reason=reason, n_samples=n_rows, extra=extra | {"not_converged": value})
    return origin.row("llc", value, n_samples=n_rows, extra=extra)


def output_row(origin: Origin, log_p_SV: np.ndarray, n_rows: int) -> Row:
    """How undecided the output is."""
    return origin.mean("output_entropy", entropy(log_p_SV).reshape(n_rows, -1).mean(1))
