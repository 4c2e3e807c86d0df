"""What evaluation costs: scoring documents of 2,048 tokens, against bare forward passes over the same rows.

    python benchmarks/evaluation_cost.py [--rows 4] [--rounds 3] [--threads 2]

A bare pass is the decoder's own, with the logits of a whole row at once; scoring forms them a chunk at a time and takes
the loss of each token. Both take turns in one process, and time is that of the processor, all threads together. What
the shipped pairs take is told by `pico-train evaluate RUN --tasks pairs`.
"""

from __future__ import annotations

import argparse
import statistics
import time

SMALL = {"d_model": 384, "n_layers": 12, "n_heads": 12, "n_kv_heads": 4, "d_ff": 1536, "vocab_size": 50_304}
CONTEXT = 2_048


def documents(rows: int, rounds: int) -> tuple[float, float]:
    """Median seconds of bare passes, and of scoring, over the same rows."""
    import torch

    from pico_schema import ModelSpec
    from pico_train.evaluation.scoring import Scorer, sums, token_losses, windows_of
    from pico_train.model.decoder import Decoder

    model = Decoder(ModelSpec(**SMALL, max_seq_len=CONTEXT))
    model.init_weights(0)
    ids = torch.randint(0, 50_304, (rows, CONTEXT + 1), generator=torch.Generator().manual_seed(0))
    windows = [one for n, row in enumerate(ids.numpy()) for one in windows_of(row, n, context=CONTEXT)]
    scored = Scorer(token_losses(model, chunk=1_024), CONTEXT, torch.device("cpu"))
    bare, evaluated = [], []
    with torch.no_grad():
        for _ in range(rounds + 1):
            begin = time.process_time()
            for row in ids:
                model(row[None, :-1])
            bare.append(time.process_time() - begin)
            begin = time.process_time()
            sums(scored, windows, rows, batch_size=1)
            evaluated.append(time.process_time() - begin)
    return statistics.median(bare[1:]), statistics.median(evaluated[1:])


def main() -> None:
    """Print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    import torch

    torch.set_num_threads(given.threads)
    bare, evaluated = documents(given.rows, given.rounds)
    print("| small, rows × tokens | bare forward passes, s | scored, s | ratio |\n| --- | --- | --- | --- |")
    print(f"| {given.rows} × {CONTEXT:,} | {bare:.2f} | {evaluated:.2f} | {evaluated / bare:.2f}× |")


if __name__ == "__main__":
    main()
