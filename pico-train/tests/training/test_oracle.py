"""The loop does what a plain loop does: torch, transformers' Llama, and the schedule written out, and nothing of ours.

Thirty steps over two and a half epochs, in micro-batches, with dropout after the embedding so that random numbers
matter, stopped by a signal after step 13 and resumed in a new process; compared weight by weight at every step. The
plain loop knows nothing of the stop.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from support.closeness import assert_close, largest_difference
from support.corpora import draw_rows, write_shard
from support.tiny import config
from support.training_runs import DROPOUT, train_with_dropout
from support.worlds import launch
from transformers import AutoModelForCausalLM

from pico_schema import layout

STEPS, STOP, BATCH, MICRO, SEED = 30, 13, 4, 2, 5
PEAK, WARMUP, BETAS, EPS, DECAY, CLIP = 4e-3, 6, (0.8, 0.97), 1e-6, 0.3, 0.82
ROWS = draw_rows(48, length=13, seed=3)
"""Twelve batches to an epoch, which the run takes in the order in which they lie."""
NEVER = {"early": None, "every": None, "last": False}


def one_cycle(step: int) -> float:
    """Half a cosine from PEAK / 25 at step 0 up to PEAK at step 5, half a cosine down to PEAK × 4e-6 at step 29."""
    if step <= WARMUP - 1:
        low, high, progress = PEAK / 25, PEAK, step / (WARMUP - 1)
    else:
        low, high, progress = PEAK * 4e-6, PEAK, 1 - (step - (WARMUP - 1)) / (STEPS - WARMUP)
    return low + (high - low) * (1 - math.cos(math.pi * progress)) / 2


def linear(step: int) -> float:
    """A straight line from zero at step 0 up to PEAK at step 6, and one down to zero at step 30."""
    return PEAK * min(step / WARMUP, (STEPS - step) / (STEPS - WARMUP))


def plain_loop(initial: Path, rate: Any) -> tuple[list[dict[str, torch.Tensor]], list[dict[str, float]]]:
    """Weights before each update and after the last, and what was measured at each."""
    model = AutoModelForCausalLM.from_pretrained(initial, dtype=torch.float32)
    embedding = model.get_input_embeddings()
    embedding.register_forward_hook(lambda _m, _a, out: torch.dropout(out, DROPOUT, train=True))
    named = dict(model.named_parameters())
    decaying = [p for name, p in named.items() if "norm" not in name]
    others = [p for name, p in named.items() if "norm" in name]
    groups = [{"params": decaying, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=BETAS, eps=EPS)
    torch.manual_seed(int.from_bytes(hashlib.sha256(f"{SEED}:0".encode()).digest()[:8], "big"))
    weights, measured = [], []
    for step in range(STEPS + 1):
        weights.append({name: parameter.detach().clone() for name, parameter in named.items()})
        optimizer.zero_grad()
        rows = torch.from_numpy(ROWS[np.arange(step * BATCH, (step + 1) * BATCH) % len(ROWS)]).long()
        losses = []
        for part in rows.split(MICRO):
            logits = model(part[:, :-1]).logits.flatten(0, 1)
            losses.append(torch.nn.functional.cross_entropy(logits, part[:, 1:].flatten()) * len(part) / BATCH)
            losses[-1].backward()
        norm = torch.nn.utils.clip_grad_norm_(named.values(), CLIP)
        measured.append({"loss": sum(losses).item(), "grad_norm": norm.item(), "lr": rate(step)})
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        if step < STEPS:
            optimizer.step()
    return weights, measured


@pytest.mark.parametrize("rate", [one_cycle, linear])
def test_every_weight_of_thirty_steps_is_that_of_a_plain_loop_across_a_resume(tmp_path, monkeypatch, corpus_dir, rate):
    monkeypatch.setenv("PICO_CACHE", str(tmp_path / "cache"))
    write_shard(tmp_path / "shards/train-0.parquet", ROWS)
    write_shard(tmp_path / "shards/validation/part-0.parquet", draw_rows(4, length=13, seed=4))
    settings = config(
        tmp_path,
        tmp_path,
        data__source="tokens",
        data__paths=[str(tmp_path / "shards")],
        data__val_paths=[],
        data__tokenizer=str(corpus_dir / "tokenizer"),
        seed=SEED,
        training__max_steps=STEPS,
        training__batch_size=BATCH,
        training__micro_batch_size=MICRO,
        training__grad_clip=CLIP,
        training__optimizer={"lr": PEAK, "beta1": BETAS[0], "beta2": BETAS[1], "eps": EPS, "weight_decay": DECAY},
        training__schedule={"name": rate.__name__, "warmup_steps": WARMUP},
        checkpoint__weights={"early": 0, "every": 1},
        checkpoint__training_state=NEVER,
        checkpoint__captures=NEVER,
        evaluation__cadence=NEVER,
    )
    assert launch(train_with_dropout, settings, STOP) == [143]
    assert launch(train_with_dropout, settings) == [0]
    run_dir = tmp_path / "tiny"

    expected, measured = plain_loop(run_dir / layout.checkpoint_dir(0), rate)
    log = [json.loads(line) for line in (run_dir / layout.METRICS_LOG).read_text().splitlines()]
    assert [row["step"] for row in log] == list(range(STEPS + 1))
    norms = [values["grad_norm"] for values in measured]
    assert min(norms) < 0.95 * CLIP and max(norms) > 1.05 * CLIP, "clipping is at work at some steps, not at others"
    for name in ("loss", "grad_norm"):
        assert_close([row[name] for row in log], [v[name] for v in measured], factor=256, dtype=torch.float32)
    assert_close([row["lr"] for row in log[:-1]], [values["lr"] for values in measured[:-1]], factor=16)
    moved = 0.0
    for step, weights in enumerate(expected):
        found = safetensors.torch.load_file(run_dir / layout.checkpoint_dir(step) / layout.WEIGHTS)
        # Rounding at the size of the weights, and a part of what the updates so far may have moved each of them.
        assert largest_difference(found, weights) <= 4 * torch.finfo(torch.float32).eps + moved / 1000, step
        moved += rate(step)
