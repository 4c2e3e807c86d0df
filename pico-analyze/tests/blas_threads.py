"""What a process that is given a batch does to its BLAS; importable in other processes."""

import numpy as np

from pico_analyze.engine.plan import Plan, extend
from pico_analyze.engine.tasks import cut
from pico_analyze.engine.versions import package_versions
from pico_analyze.engine.work import Work
from pico_analyze.engine.worker import carry_out
from pico_analyze.questions.question import Question, Use
from pico_analyze.stores.opening import ReadOptions, open_store


def after_a_batch(run: str) -> list[int]:
    """BLAS threads of this process before, which are made two, and after a batch."""
    from threadpoolctl import threadpool_info, threadpool_limits

    np.ones((4, 4)) @ np.ones((4, 4))
    threadpool_limits(2, user_api="blas")
    plan = Plan()
    extend(plan, Question((Use("cka"),)), open_store(run))
    digests = {info.step: info.digest for info in plan.stores[0].steps()}
    versions = package_versions(plan.questions)
    work = Work(1, (run,), (digests,), ReadOptions(), tuple(plan.questions), 1e9, None, versions)
    carry_out(work, cut(plan.jobs, plan.questions)[:1])
    return [info["num_threads"] for info in threadpool_info() if info["user_api"] == "blas"]
