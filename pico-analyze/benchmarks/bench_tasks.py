"""Many tasks: how long planning and submitting take, and what the command holds meanwhile.

    python benchmarks/bench_tasks.py                 # 10,000 tasks, to a Dask scheduler on this machine
    python benchmarks/bench_tasks.py --tasks 2000

A run of made-up checkpoints, 12 layers each, is planned and cut; its batches are submitted, one future per batch, to a
scheduler with two workers that do nothing with them. What is measured is the command's own process.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field
from typing import Any

from workload import peak_gigabytes

from pico_analyze.engine.executors import carry_out_all
from pico_analyze.engine.plan import Plan, extend
from pico_analyze.engine.tasks import cut
from pico_analyze.engine.versions import package_versions
from pico_analyze.engine.work import Done, Work
from pico_analyze.questions.question import Question, Use
from pico_analyze.stores.base import SplitInfo, StepInfo
from pico_analyze.stores.opening import ReadOptions
from pico_schema import ModelSpec
from pico_schema.sites import expand

LAYERS = 12


@dataclass
class MadeUp:
    """A run of so many checkpoints, of which nothing is ever read."""

    n_steps: int
    kind: str = "pico"
    run: str = "made-up"
    location: str = "/nowhere/made-up"
    infos: tuple[StepInfo, ...] = field(init=False)

    def __post_init__(self) -> None:
        sites = tuple(map(str, expand(("attn.v", "attn.o"), LAYERS)))
        split = {"val": SplitInfo(sites, sites, 1600, "0" * 64)}
        self.infos = tuple(
            StepInfo(step=10 * i, digest=f"{i:064x}", weights=sites, splits=split) for i in range(self.n_steps)
        )

    def steps(self) -> tuple[StepInfo, ...]:
        """Made-up checkpoints."""
        return self.infos

    def unusable(self) -> tuple[()]:
        """None."""
        return ()

    def spec(self, step: int) -> ModelSpec:  # noqa: ARG002 - the same at each
        """Pico's small."""
        return ModelSpec(vocab_size=50_304, d_model=384, n_layers=LAYERS, n_heads=12, n_kv_heads=4, d_ff=1536)


def nothing(work: Work, batch: Any) -> Done:  # noqa: ARG001 - as workers are called
    """Carry out a batch, as far as this benchmark is concerned."""
    return Done(tasks=len(batch))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=10_000)
    n_tasks = parser.parse_args().tasks
    from distributed import Client, LocalCluster

    from pico_analyze.engine.work import Workers

    ov = Use("ov_circuit")
    questions = [
        Question((Use("cka"),), component=ov),
        Question((Use("per"), Use("condition_number"), Use("gini"), Use("norm")), component=ov, data="weights"),
        Question((Use("per"), Use("condition_number"), Use("gini"), Use("norm")), component=ov, data="gradients"),
    ]
    store: Any = MadeUp(-(-n_tasks // LAYERS))
    start = time.perf_counter()
    plan = Plan()
    for question in questions:
        extend(plan, question, store)
    tasks = cut(plan.jobs, plan.questions)[:n_tasks]
    planned = time.perf_counter() - start
    work = Work(
        time.time_ns(), (store.location,), ({},), ReadOptions(), tuple(plan.questions), 2**30, None,
        package_versions(plan.questions),
    )  # fmt: skip
    with LocalCluster(2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as cluster:
        client = Client(cluster)
        submitted: list[float] = []

        class Timed:
            """The executor of Dask; notes when the last batch was submitted."""

            def __init__(self) -> None:
                self.real = client.get_executor(pure=False)

            def submit(self, *words: Any) -> Any:
                """Submit, and note the time."""
                future = self.real.submit(*words)
                submitted.append(time.perf_counter())
                return future

        from contextlib import contextmanager

        @contextmanager
        def opened(_: Work) -> Any:
            yield Workers(Timed(), 2)  # type: ignore[arg-type]

        start = time.perf_counter()
        carry_out_all(work, tasks, opened, carry_out=nothing, stores=(), finished=lambda *_: None)
        total = time.perf_counter() - start
        print(
            f"{len(tasks)} tasks, {len(plan.jobs)} jobs: planned and cut in {planned:.2f} s, submitted in "
            f"{submitted[-1] - start:.2f} s as {len(submitted)} batches, all back after {total:.2f} s; peak "
            f"{peak_gigabytes():.2f} GB"
        )
        client.close()


if __name__ == "__main__":
    main()
