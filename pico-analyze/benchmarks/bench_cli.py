"""The whole OV study as a user runs it: one process from start to finish, reading, computing, table and pictures.

    python benchmarks/bench_cli.py 384 --steps 11
    python benchmarks/bench_cli.py 1536

The run is synthetic: 12 layers, 12 heads, 4 key/value heads, 1,600 samples; what the study does not
read (embedding, feed-forward) is kept small. Prints seconds and peak resident memory of each process.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from multiprocessing import Process
from pathlib import Path

STUDY = """\
name: ov
runs: [{run}]
steps: "{steps}"
out: {out}
measurements:
  - metrics: [cka]
    components: [ov_circuit]
    data: [activations]
    target: last
  - metrics: [per, condition_number, gini, norm]
    components: [ov_circuit]
    data: [weights, gradients]
"""


def make_run(root: Path, d_model: int, steps: tuple[int, ...]) -> None:
    """A run in Pico's layout, written by the builder that the tests use."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    import synthetic

    from pico_schema import ModelSpec

    synthetic.N_ROWS, synthetic.POSITIONS = 400, (7, 15, 23, 31)
    spec = ModelSpec(vocab_size=64, d_model=d_model, n_layers=12, n_heads=12, n_kv_heads=4, d_ff=64, max_seq_len=32)
    synthetic.make_run(root, "bench", spec=spec, steps=steps, captured=("attn.v", "attn.o"), splits=("val",))


def measure(name: str, *arguments: str) -> float:
    """Run pico-analyze in a process of its own; print its seconds and peak memory."""
    command = [sys.executable, "-c", "from pico_analyze.cli.app import main; main()", *arguments]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(errors.decode())
    cpu = usage.ru_utime + usage.ru_stime
    print(f"{name}: {seconds:.2f} s ({cpu:.2f} s of CPU), peak {usage.ru_maxrss * 1024 / 1e9:.2f} GB", flush=True)
    return seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("d_model", type=int)
    parser.add_argument("--steps", type=int, default=1, help="steps studied; a last one to compare with comes on top")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        alone = arguments.steps == 1
        steps = (0, 1) if alone else tuple(range(arguments.steps))
        run = root / "runs" / "bench"
        writer = Process(target=make_run, args=(run.parent, arguments.d_model, steps))
        writer.start()  # a process of its own: a child's peak memory starts at that of its parent
        writer.join()
        study = root / "study.yaml"
        chosen = "first" if alone else "all"
        study.write_text(STUDY.format(run=run, steps=chosen, out=root / "out"))
        measure("pico-analyze --help", "--help")
        one = ("compute", "gini", str(run), "--site", "attn.v", "--layers", "0", "--steps", "first", "--no-plot")
        measure("one value", *one, "--out", str(root / "first"))
        measure(f"OV study, d_model {arguments.d_model}, {arguments.steps} step(s)", "run", str(study))
        import pandas as pd

        table = pd.read_parquet(next((root / "out").rglob("rows.parquet")))
        print(f"{len(table)} rows, {int(table['value'].isna().sum())} of them undefined")


if __name__ == "__main__":
    main()
