"""One training step of this decoder against `transformers.LlamaForCausalLM`, in speed and in peak memory.

    python benchmarks/engine_step.py [--cases small,tiny] [--rounds 2] [--format table|json]

A step is forward, backward, clipping and a fused AdamW update on random tokens. Every arm runs in a process of its own,
so that its peak resident memory is its own, with the same number of threads; arms take turns over the rounds, so that
a slow minute of the machine does not fall on one of them alone. Time is that of the median step over all rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

THREADS = 2


@dataclass(frozen=True)
class Case:
    """A model, a batch, and what this decoder must reach relative to transformers."""

    d_model: int
    batch: int
    seq_len: int
    precision: str
    steps: int
    warmup: int
    faster: dict[str, float]
    smaller: dict[str, float]
    chunk: int = 512


CASES = {
    "small": Case(384, 1, 2048, "bf16", 5, 2, {"llama eager": 1.4, "llama compiled": 1.1}, {"llama eager": 0.7}),
    "tiny": Case(96, 4, 512, "float32", 8, 2, {"llama eager": 1.2}, {"llama eager": 0.6}),
}
ARMS = ("pico compiled", "pico eager", "llama eager", "llama compiled")


def measure(case: Case, arm: str) -> dict[str, float]:
    """Run one arm in this process: seconds of each step, peak memory in GB, last loss."""
    import torch

    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    rows = torch.randint(0, 50_280, (case.batch, case.seq_len + 1))
    library, mode = arm.split()
    loss_of, parameters = (_pico if library == "pico" else _llama)(case, mode == "compiled")
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    seconds = []
    for _ in range(case.warmup + case.steps):
        begin = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=case.precision == "bf16"):
            loss = loss_of(rows)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append(time.perf_counter() - begin)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return {"seconds": seconds[case.warmup :], "peak_gb": peak, "loss": loss.item(), "first": seconds[0]}


def _pico(case: Case, compiled: bool) -> tuple[Callable, list]:
    from pico_schema import ModelSpec
    from pico_train.model.decoder import Decoder
    from pico_train.training.allocator import keep_freed_memory
    from pico_train.training.loss import next_token_loss

    spec = ModelSpec(
        vocab_size=50_304, d_model=case.d_model, n_layers=12, n_heads=12, n_kv_heads=4, d_ff=4 * case.d_model
    )
    keep_freed_memory()  # as `training.engine.set_up` does on a CPU
    model = Decoder(spec)
    model.init_weights(0)
    if compiled:
        model.compile_blocks()
    return lambda rows: next_token_loss(model, rows, chunk=case.chunk), list(model.parameters())


def _llama(case: Case, compiled: bool) -> tuple[Callable, list]:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=50_304,
        hidden_size=case.d_model,
        intermediate_size=4 * case.d_model,
        num_hidden_layers=12,
        num_attention_heads=12,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        use_cache=False,
        attn_implementation="sdpa",
    )
    model = LlamaForCausalLM(config).train()
    parameters = list(model.parameters())
    call = torch.compile(model) if compiled else model

    def loss_of(rows):
        # The same predictions as ours: labels are shifted inside, so the last input position predicts nothing.
        return call(input_ids=rows[:, :-1], labels=rows[:, :-1], shift_labels=rows[:, 1:].contiguous()).loss

    return loss_of, parameters


def main() -> None:
    """Measure the cases and print the table, or as a child process one arm."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--format", choices=["table", "json"], default="table")
    parser.add_argument("--one", nargs=2, metavar=("CASE", "ARM"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(CASES[options.one[0]], options.one[1])))
        return
    environment = os.environ | {"OMP_NUM_THREADS": str(THREADS), "MKL_NUM_THREADS": str(THREADS)}
    results = []
    for name in options.cases.split(","):
        seconds: dict[str, list[float]] = {}
        peaks: dict[str, float] = {}
        for _ in range(options.rounds):
            for arm in options.arms.split(","):
                command = [sys.executable, __file__, "--one", name, arm]
                output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
                found = json.loads(output.splitlines()[-1])
                seconds.setdefault(arm, []).extend(found["seconds"])
                peaks[arm] = max(peaks.get(arm, 0.0), found["peak_gb"])
                print(
                    f"{name}: {arm}: {min(found['seconds']):.3f} s, {found['peak_gb']:.2f} GB, "
                    f"loss {found['loss']:.3f}, first step {found['first']:.0f} s",
                    file=sys.stderr,
                )
        results += rows_of(name, CASES[name], {a: statistics.median(s) for a, s in seconds.items()}, peaks)
    print(json.dumps(results, indent=1) if options.format == "json" else table(results))


def rows_of(name: str, case: Case, seconds: dict[str, float], peaks: dict[str, float]) -> list[dict]:
    """One row per arm, with this decoder's compiled arm relative to it."""
    rows = []
    for arm, time_taken in seconds.items():
        row = {"case": name, "arm": arm, "step_s": round(time_taken, 3)}
        row["tokens_per_s"] = round(case.batch * case.seq_len / time_taken)
        row["peak_gb"] = round(peaks[arm], 2)
        if "pico compiled" in seconds:
            row["speed_ratio"] = round(time_taken / seconds["pico compiled"], 2)
            row["memory_ratio"] = round(peaks["pico compiled"] / peaks[arm], 2)
        rows.append(row | {"speed_goal": case.faster.get(arm), "memory_goal": case.smaller.get(arm)})
    return rows


def table(rows: list[dict]) -> str:
    """The rows as a Markdown table."""
    head = ["case", "arm", "step s", "tokens/s", "peak GB"]
    head += ["pico compiled is faster by", "goal", "at a memory of", "goal"]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for row in rows:
        cells = ["" if value is None else str(value) for value in row.values()]
        cells[7], cells[6] = cells[6], cells[7]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
