"""Training on one GPU: medium, large and xl, against `transformers.LlamaForCausalLM`; what a capture and a save cost.

    python benchmarks/gpu.py [--sizes medium,large,xl] [--arms …] [--format table|json]

A step is what the loop does: forward and backward over two micro-batches of rows of 2,048 random tokens under bf16
autocast, the gradient's norm, clipping, a fused AdamW update. transformers has the same shapes, its sdpa attention and
its own loss, and clips and updates the same way. Every arm runs in a process of its own, so that its peak of device
memory is its own; where one does not fit, its micro-batch is halved, and the table says so. Time is that of the median
step, with the device waited for.

Tokens/s count the predicted tokens. MFU is tokens/s × FLOPs per token / the card's dense bfloat16 peak, where FLOPs per
token are 6 per matrix parameter (the head's included, the embedding's not) and, for attention, 6 · layers · d_model ·
tokens of a row: its causal half. The peak is the maker's (`pico_train.training.peak_flops`); of a card that is not in
that table none is told.

Without a GPU it says so and ends with 2. `--device cpu --tiny` goes the same ways with a model of a few thousand
parameters, to try the script.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SEQ_LEN = 2048
MICRO = {"medium": 32, "large": 16, "xl": 8}
"""Rows of one forward pass, chosen for 80 GB."""
GOALS = {"medium": 400_000, "large": 140_000, "xl": 65_000}
"""Tokens per second on one H100."""
ARMS = ("pico compiled", "pico eager", "llama compiled", "llama eager")
PASSES = 2
TINY = {
    "model": {"d_model": 48, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "d_ff": 96, "vocab_size": 959},
    "data": {"source": "repeats", "repo": None, "tokenizer": None, "order": "shuffled", "seq_len": 32, "val_rows": 8},
}


def config_of(size: str, micro: int, *, device: str, tiny: bool, **training: Any) -> Any:
    """A preset's configuration for this device, with `PASSES` micro-batches to a step."""
    from pico_train.config import layers

    raw = layers.over(layers.preset_values(size), TINY if tiny else {})
    raw["training"] |= {"batch_size": PASSES * micro, "micro_batch_size": micro, **training}
    raw["distributed"] = {"accelerator": device, "devices": 1}
    return layers.validate(raw)


def measure(size: str, arm: str, micro: int, *, device: str, tiny: bool, steps: int) -> dict[str, Any]:
    """One arm in this process: seconds of the median step, tokens/s, peak memory of the device in bytes."""
    import torch

    torch.manual_seed(0)
    library, mode = arm.split(maxsplit=1)
    config = config_of(
        size, micro, device=device, tiny=tiny,
        compile="off" if mode == "eager" else "on", deterministic=mode == "deterministic",
    )  # fmt: skip
    begin = time.perf_counter()
    seconds = (_pico if library == "pico" else _llama)(config, steps)
    tokens = config.tokens_per_step
    found = {"size": size, "arm": arm, "micro": micro, "seconds": statistics.median(seconds), "all": seconds}
    found["whole"] = time.perf_counter() - begin
    found["tokens_per_s"] = tokens / found["seconds"]
    found["peak_bytes"] = torch.cuda.max_memory_allocated() if device == "cuda" else 0
    found["flops_per_token"] = config.spec.flops_per_token(config.data.seq_len)
    return found


def _pico(config: Any, steps: int) -> list[float]:
    from pico_train.training.measure import step_times

    return step_times(config, steps=steps)


def _llama(config: Any, steps: int) -> list[float]:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    spec, device = config.spec, config.distributed.accelerator
    torch.backends.cuda.matmul.allow_tf32 = True
    shape = LlamaConfig(
        vocab_size=spec.vocab_size,
        hidden_size=spec.d_model,
        intermediate_size=spec.d_ff,
        num_hidden_layers=spec.n_layers,
        num_attention_heads=spec.n_heads,
        num_key_value_heads=spec.n_kv_heads,
        max_position_embeddings=config.data.seq_len,
        use_cache=False,
        attn_implementation="sdpa",
    )
    model = LlamaForCausalLM(shape).to(device).train()
    parameters = list(model.parameters())
    call: Callable[..., Any] = torch.compile(model) if config.training.compile == "on" else model
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    size = (config.training.batch_size, config.data.seq_len + 1)
    rows = torch.randint(spec.vocab_size, size, generator=torch.Generator().manual_seed(0)).to(device)
    micro, seconds = config.training.micro_batch_size, []
    for _ in range(2 + steps):
        begin = time.perf_counter()
        for part in rows.split(micro):
            with torch.autocast(device, torch.bfloat16):
                # The same predictions as ours: labels are shifted inside, so the last position predicts nothing.
                out = call(input_ids=part[:, :-1], labels=part[:, :-1], shift_labels=part[:, 1:].contiguous())
            (out.loss / PASSES).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
    return seconds[2:]


def in_a_process(arguments: list[str], limit: int = 400) -> tuple[dict[str, Any] | None, str]:
    """What a child of this script measured, or None and why."""
    try:
        done = subprocess.run(
            [sys.executable, __file__, *arguments], capture_output=True, text=True, timeout=limit, check=False
        )
    except subprocess.TimeoutExpired:
        return None, f"took more than {limit} s"
    if done.returncode:
        return None, done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"ended with {done.returncode}"
    return json.loads(done.stdout.strip().splitlines()[-1]), ""


def arm_that_fits(size: str, arm: str, micro: int, options: argparse.Namespace) -> dict[str, Any]:
    """An arm, its micro-batch halved for as long as the device's memory does not hold it."""
    while True:
        arguments = ["--one", size, arm, str(micro), "--device", options.device, "--steps", str(options.steps)]
        found, why = in_a_process(arguments + ["--tiny"] * options.tiny)
        if found is not None:
            return found
        print(f"{size}: {arm}: {micro} rows: {why[:300]}", file=sys.stderr, flush=True)
        if "OutOfMemory" not in why or micro == 1:
            return {"size": size, "arm": arm, "micro": micro, "failed": why[:200]}
        micro //= 2


def run_with_checkpoints(size: str, options: argparse.Namespace) -> dict[str, Any]:
    """A real run of 31 updates on text, with captures and checkpoints at steps 0, 15, 30 and 31: seconds by phase."""
    micro = options.micro or MICRO[size]
    every = {"early": None, "every": 15}
    with tempfile.TemporaryDirectory() as out:
        raw = {
            "name": "gpu", "out": out,
            "data": {"source": "stdlib", "tokenizer": "train:4096", "order": "shuffled", "val_rows": 8},
            "training": {"max_steps": 31, "batch_size": PASSES * micro, "micro_batch_size": micro},
            "checkpoint": {"weights": every, "training_state": every, "captures": every},
            "evaluation": {"cadence": every},
            "monitoring": {"log_every": 1},
            "distributed": {"accelerator": options.device, "devices": 1},
        }  # fmt: skip
        path = Path(out) / "gpu.yaml"
        path.write_text(json.dumps(raw | (TINY if options.tiny else {})), encoding="utf-8")
        command = [sys.executable, "-m", "pico_train", "run", str(path), "--preset", size]
        begin = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=400)
        whole = time.perf_counter() - begin
        if done.returncode:
            return {"failed": (done.stderr or done.stdout)[-600:]}
        run = next(Path(out).glob("*/metrics.jsonl"))
        rows = [json.loads(line) for line in run.read_text(encoding="utf-8").splitlines()]
        held = sum(file.stat().st_size for file in (run.parent / "checkpoints").rglob("*") if file.is_file())
    return {"whole": whole, "rows": rows, "bytes": held, "said": done.stdout[-400:]}


def table(found: list[dict[str, Any]], peak: float | None) -> str:
    """The arms as a Markdown table."""
    lines = [
        "| size | arm | rows of a pass | step s | tokens/s | MFU | peak GB | pico compiled is faster by | goal |",
        "|" + " --- |" * 9,
    ]
    ours = {one["size"]: one["tokens_per_s"] for one in found if one["arm"] == "pico compiled" and "seconds" in one}
    for each in found:
        if "failed" in each:
            lines.append(f"| {each['size']} | {each['arm']} | {each['micro']} | {each['failed']} |" + " |" * 5)
            continue
        mfu = f"{each['tokens_per_s'] * each['flops_per_token'] / peak:.1%}" if peak else ""
        ratio = f"{ours[each['size']] / each['tokens_per_s']:.2f}" if each["size"] in ours else ""
        goal = f"{GOALS[each['size']]:,}" if each["arm"] == "pico compiled" else ""
        lines.append(
            f"| {each['size']} | {each['arm']} | {each['micro']} | {each['seconds']:.3f} | "
            f"{each['tokens_per_s']:,.0f} | {mfu} | {each['peak_bytes'] / 1e9:.1f} | "
            f"{ratio} | {goal} |"
        )
    return "\n".join(lines)


def cost_table(size: str, found: dict[str, Any]) -> str:
    """What an ordinary step, one with a capture, and handing over a checkpoint take in a real run."""
    if "failed" in found:
        return f"the run of {size} failed: {found['failed']}"
    rows = {row["step"]: row for row in found["rows"]}
    plain = [rows[step] for step in (*range(3, 15), *range(18, 30))]

    def total(row: dict[str, Any], *phases: str) -> float:
        return sum(value for name, value in row.items() if name.startswith("seconds/") and name[8:] in phases)

    step = statistics.median(total(row, "data", "compute", "update") for row in plain)
    captured = rows[30]
    lines = ["| in a real run of " + size + " | s |", "| --- | --- |"]
    lines.append(f"| a step (data, compute, update) | {step:.3f} |")
    lines.append(f"| the same where activations are captured | {total(captured, 'data', 'compute', 'update'):.3f} |")
    lines.append(f"| capture (validation rows, gradients) | {total(captured, 'capture'):.3f} |")
    lines.append(f"| evaluation of 8 rows | {total(captured, 'evaluation'):.3f} |")
    lines.append(f"| checkpoint: the loop waits | {total(captured, 'checkpoint'):.3f} |")
    lines.append(f"| the same at step 15, where memory is pinned first | {total(rows[15], 'checkpoint'):.3f} |")
    lines.append(f"| four checkpoints on the disk, GB | {found['bytes'] / 1e9:.2f} |")
    lines.append(f"| the whole command, start and compilation included | {found['whole']:.1f} |")
    return "\n".join(lines)


def main() -> int:
    """Measure and print tables, or as a child process one arm."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default=",".join(MICRO))
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--micro", type=int, help="rows of a forward pass; by default chosen for 80 GB")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--run", default="medium", help="the size of which 31 steps are trained; '' for none")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a model of a few thousand parameters, to try the script")
    parser.add_argument("--format", choices=["table", "json"], default="table")
    parser.add_argument("--check", action="store_true", help="only say whether there is a GPU")
    parser.add_argument("--one", nargs=3, metavar=("SIZE", "ARM", "ROWS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    # Blocks that are freed and taken again in other sizes would otherwise leave holes.
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    if options.one:
        size, arm, micro = options.one
        given = {"device": options.device, "tiny": options.tiny, "steps": options.steps}
        print(json.dumps(measure(size, arm, int(micro), **given)))
        return 0
    import torch

    from pico_train.training.peak_flops import peak_of

    if options.device == "cuda" and not torch.cuda.is_available():
        print("gpu.py: this machine has no CUDA device; --device cpu --tiny tries the script", file=sys.stderr)
        return 2
    if options.check:
        return 0
    name = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    peak = peak_of(name, "bf16-mixed")
    found = []
    for size in options.sizes.split(","):
        for arm in options.arms.split(","):
            found.append(arm_that_fits(size, arm, options.micro or MICRO[size], options))
            print(json.dumps({k: v for k, v in found[-1].items() if k != "all"}), file=sys.stderr, flush=True)
    costs = run_with_checkpoints(options.run, options) if options.run else None
    if options.format == "json":
        print(json.dumps({"device": name, "torch": torch.__version__, "arms": found, "run": costs}, indent=1))
        return 0
    shown = f"{peak / 1e12:.1f} TFLOP/s" if peak else "not known"
    print(f"{name}, torch {torch.__version__}, dense bfloat16 peak {shown}\n")
    print(table(found, peak))
    if costs is not None:
        print("\n" + cost_table(options.run, costs))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
