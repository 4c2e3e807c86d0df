"""Captures where several processes hold the rows: threads stand for them, each with its own tap and its own model."""

from __future__ import annotations

import pytest
import torch
from support.together import Together

from pico_schema.sites import Site
from pico_train.training import capture
from pico_train.training.capture import ROW_LOSS, SampleIndex

EMBED, RESID = Site.parse("embed"), Site.parse("layers.0.resid")
D, N_POSITIONS = 3, 2


def gathered(taps, dtype=torch.float32):
    """What each process has of its tap and of those of the others."""
    return Together(len(taps)).run(lambda engine: taps[engine.rank].gathered(engine, dtype))


def tap(**kept):
    """A tap that has kept these micro-batches of a site, or these losses."""
    made = capture.ActivationTap(torch.nn.Identity(), [EMBED, RESID], SampleIndex((0,), (0,)), per_row_loss=True)
    made.kept = {site: kept[site.kind] for site in (EMBED, RESID) if site.kind in kept}
    made.row_losses = kept.get("losses", [])
    return made


def rows(n, first, dtype=torch.float32):
    """(n, P, F) numbers, all of them different, that go on from `first`; bfloat16 holds those up to 256."""
    return (first + torch.arange(n * N_POSITIONS * D)).view(n, N_POSITIONS, D).to(dtype)


@pytest.mark.parametrize("counts", [(2, 1), (1, 2), (0, 2, 1), (3, 0, 1), (1, 0), (0, 0, 1), (1, 4, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_stand_in_the_order_of_processes_however_many_each_has(counts, dtype):
    starts = [sum(counts[:rank]) * N_POSITIONS * D for rank in range(len(counts))]
    taps = [tap(embed=[rows(n, first, dtype)] if n else []) for n, first in zip(counts, starts, strict=True)]
    first, *others = gathered(taps, dtype)
    assert first.keys() == {"activations/embed"}
    assert first["activations/embed"].dtype == dtype
    assert first["activations/embed"].tolist() == rows(sum(counts), 0).view(-1, D).tolist()
    assert others == [{}] * len(others), "only rank 0 has what was gathered"


def test_micro_batches_of_a_process_stay_together_and_sites_apart():
    taps = [
        tap(embed=[rows(1, 0), rows(2, 6)], resid=[rows(2, 100)]),
        tap(embed=[rows(1, 18)], resid=[rows(1, 112), rows(1, 118)]),
    ]
    found, _ = gathered(taps)
    assert found["activations/embed"].flatten().tolist() == list(range(24))
    assert found["activations/layers.0.resid"].flatten().tolist() == list(range(100, 124))


def test_losses_of_rows_are_gathered_as_the_rows_are_always_in_float32():
    taps = [tap(losses=[torch.tensor([1.001, 2.0]), torch.tensor([3.0])]), tap(), tap(losses=[torch.tensor([4.0])])]
    first, *others = gathered(taps, torch.bfloat16)
    assert first.keys() == {ROW_LOSS} and others == [{}, {}]
    assert first[ROW_LOSS].tolist() == torch.tensor([1.001, 2.0, 3.0, 4.0]).tolist()


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_what_no_process_has_is_left_out(world_size):
    assert gathered([tap() for _ in range(world_size)]) == [{}] * world_size


def test_losses_of_rows_that_were_not_asked_for_are_not_gathered():
    made = tap(losses=[torch.ones(2)])
    made.per_row_loss = False
    assert gathered([made]) == [{}]
