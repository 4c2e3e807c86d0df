"""Every validation row is scored once, however many processes there are and whether or not the rows divide by them."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import torch
from support.closeness import assert_close
from support.failing_runs import QUIET
from support.tiny import config
from support.training_runs import train_until
from support.worlds import launch

from pico_schema import Evaluation, ModelSpec, documents, layout
from pico_train.model.decoder import Decoder
from pico_train.training.capture import ActivationTap, SampleIndex, captured_sites
from pico_train.training.forward_backward import Share, accumulate

T, VOCABULARY = 6, 20
ROUNDING = 64
"""Float32 epsilons of the largest number that sums in two orders may be apart: losses are added in float32, and
RMSNorm computes in it whatever the weights are."""


@pytest.mark.parametrize("world", range(1, 8))
def test_shares_are_all_rows_in_order_each_once(world):
    for n_all in range(1, 20):
        shares = [Share.of(n_all, rank, world) for rank in range(world)]
        taken = [row for share in shares for row in range(share.first, share.first + share.n_rows)]
        assert taken == list(range(n_all))
        assert {share.most for share in shares} == {max(share.n_rows for share in shares)}
        assert max(share.n_rows for share in shares) - min(share.n_rows for share in shares) <= 1


@pytest.fixture(scope="module")
def decoder():
    torch.manual_seed(0)
    model = Decoder(
        ModelSpec(d_model=16, n_layers=1, n_heads=2, n_kv_heads=1, d_ff=32, vocab_size=VOCABULARY, max_seq_len=T)
    )
    model.init_weights(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5)  # so that rows differ much in their loss
    return model.double()


def rows_of(n):
    return torch.randint(0, VOCABULARY, (n, T + 1), generator=torch.Generator().manual_seed(n))


def one_of_many(decoder, rank, world):
    """A process of several, as far as these functions see it: what it would send to the others stays here."""
    return SimpleNamespace(
        decoder=decoder,
        model=decoder,
        rank=rank,
        world_size=world,
        sum_over_ranks=lambda values: values,
        accumulating=lambda **_: contextlib.nullcontext(),
        fabric=SimpleNamespace(backward=lambda loss: loss.backward()),
    )


def by_hand(decoder, rows):
    """Loss of each token (n, T) and the gradient of their mean: all logits at once, torch's own cross-entropy."""
    decoder.zero_grad()
    logits = decoder(rows[:, :-1])
    each = torch.nn.functional.cross_entropy(logits.transpose(1, 2), rows[:, 1:], reduction="none")
    each.mean().backward()
    return each.detach(), {name: parameter.grad.clone() for name, parameter in decoder.named_parameters()}


@pytest.mark.parametrize("n_rows", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 2, 64])
def test_loss_and_gradient_are_those_of_all_rows(decoder, n_rows, world, size):
    rows = rows_of(n_rows)
    each, gradient = by_hand(decoder, rows)
    engines = [one_of_many(decoder, rank, world) for rank in range(world)]
    total, sums, row_losses, kept = 0.0, {}, [], []
    site = captured_sites(SimpleNamespace(sites=["resid"]), 1)
    for rank, engine in enumerate(engines):
        share = Share.of(n_rows, rank, world)
        decoder.zero_grad()
        samples = SampleIndex(tuple(range(n_rows)), (T - 1,))
        with ActivationTap(decoder, site, samples, per_row_loss=True) as tap:
            total += accumulate(
                engine, share.of_rows(rows), micro_batch=size, chunk=4, tap=tap, share=share
            ).item()  # fmt: skip
        row_losses += tap.row_losses
        kept += tap.kept.get(site[0], [])
        for name, parameter in decoder.named_parameters():
            sums[name] = sums.get(name, 0) + parameter.grad / world  # what the processes' averaging does
    assert_close(total, each.sum().item(), factor=ROUNDING, dtype=torch.float32)
    assert_close(torch.cat(row_losses), each.mean(1), factor=ROUNDING, dtype=torch.float32)
    assert torch.cat(kept).shape == (n_rows, 1, 16), "each row was kept once"
    for name, expected in gradient.items():
        assert_close(sums[name], expected, factor=ROUNDING, dtype=torch.float32, name=name)


@pytest.mark.parametrize(("strategy", "n_rows"), [("ddp", 1), ("fsdp", 3)])
def test_two_processes_capture_and_score_the_rows_of_one(text, tmp_path, strategy, n_rows):
    changes = QUIET | {
        "training__max_steps": 1,
        "data__val_rows": n_rows,
        "checkpoint__captures": {"early": 0, "every": 1},
        "captures__per_row_loss": True,
        "evaluation__cadence": {"early": 0, "every": 1},
    }
    both = {"distributed__strategy": strategy, "training__micro_batch_size": 1}
    launch(train_until, config(tmp_path / "one", text, **changes))
    launch(train_until, config(tmp_path / "two", text, **changes, **both), world=2)
    found, expected = (
        safetensors.torch.load_file(
            tmp_path / out / "tiny" / layout.checkpoint_dir(0) / layout.captures_file("val")
        )
        for out in ("two", "one")
    )  # fmt: skip
    assert found["row_loss"].shape == (n_rows,)
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert_close(tensor, expected[name], factor=256, name=name)
    scores = [
        documents.read(tmp_path / out / "tiny" / layout.evaluation_file(0), Evaluation).tasks["validation"]
        for out in ("two", "one")
    ]
    assert scores[0]["loss"] == pytest.approx(scores[1]["loss"], rel=64 * float(np.finfo(np.float32).eps))
    assert scores[0]["n_tokens"] == scores[1]["n_tokens"] == n_rows * 12
