"""What `data.document_mask` costs: a training step with attention within documents, against one over whole rows.

    python benchmarks/engine_documents.py [--cases small,tiny] [--rounds 5] [--threads 2]

A step is forward and backward on random tokens, of which one in 300 ends a document. Both arms take turns in one
process, and time is that of the processor, all threads together, in the median step: other work on the machine does not
count.
"""

from __future__ import annotations

import argparse
import statistics
import time

CASES = {"tiny": (96, 4, 512), "demo": (128, 16, 256), "small": (384, 1, 2048)}
"""d_model, rows and tokens of a row."""


def seconds(case: tuple[int, int, int], rounds: int) -> dict[str, float]:
    """Median seconds of a step, by arm."""
    import torch

    from pico_schema import ModelSpec
    from pico_train.model.decoder import Decoder
    from pico_train.training.loss import next_token_loss

    width, batch, seq_len = case
    spec = ModelSpec(vocab_size=50_304, d_model=width, n_layers=12, n_heads=12 if width % 12 == 0 else 8,
                     n_kv_heads=4, d_ff=4 * width)  # fmt: skip
    torch.manual_seed(0)
    rows = torch.randint(1, 50_280, (batch, seq_len + 1))
    rows[torch.rand(rows.shape) < 1 / 300] = 0
    arms = {}
    for name, separator in (("whole rows", None), ("documents", 0)):
        arms[name] = Decoder(spec, separator=separator)
        arms[name].init_weights(0)
    found: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(rounds + 1):
        for name, model in arms.items():
            begin = time.process_time()
            next_token_loss(model, rows).backward()
            found[name].append(time.process_time() - begin)
            model.zero_grad(set_to_none=True)
    return {name: statistics.median(each[1:]) for name, each in found.items()}


def main() -> None:
    """Print a line of the table for each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    import torch

    torch.set_num_threads(given.threads)
    print("| case | rows × tokens | whole rows, s | within documents, s | slower by |\n| --- | --- | --- | --- | --- |")
    for name in given.cases.split(","):
        times = seconds(CASES[name], given.rounds)
        whole, apart = times["whole rows"], times["documents"]
        _, batch, seq_len = CASES[name]
        print(f"| {name} | {batch} × {seq_len} | {whole:.3f} | {apart:.3f} | {apart / whole - 1:.0%} |", flush=True)


if __name__ == "__main__":
    main()
