"""Random tensors with the shapes of a model's captures, and the direct computations that ours are measured against."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable

import numpy as np

from pico_schema import ModelSpec

N_SAMPLES = 1600


def model(d_model: int) -> ModelSpec:
    """12 layers, 12 heads, 4 key/value heads, as Pico's presets."""
    return ModelSpec(vocab_size=50_304, d_model=d_model, n_layers=12, n_heads=12, n_kv_heads=4, d_ff=4 * d_model)


class Tensors:
    """Weights, gradients and activations of the attention of one step, drawn on demand; `read` as a store's."""

    def __init__(self, spec: ModelSpec, seed: int):
        self.spec = spec
        self.seed = seed
        self.kept: dict[tuple[str, str], np.ndarray] = {}

    def read(self, data: str, site: str) -> np.ndarray:
        """One float32 tensor, the same one each time."""
        key = (data, site)
        if key not in self.kept:
            rng = np.random.default_rng([self.seed, *"/".join(key).encode()])
            d, kv = self.spec.d_model, self.spec.kv_dim
            width = kv if site.endswith("attn.v") else d
            shape = (N_SAMPLES, width) if data == "activations" else (width, d)
            self.kept[key] = rng.standard_normal(shape, dtype=np.float32) * np.float32(0.02)
        return self.kept[key]


def direct_linear_cka(x: np.ndarray, y: np.ndarray) -> float:
    """Linear CKA in feature space, as one writes it down: centre, three P x P products (Kornblith et al. 2019)."""
    x = x - x.mean(axis=0)
    y = y - y.mean(axis=0)
    cross = np.linalg.norm(x.T @ y) ** 2
    return float(cross / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)))


def timed(work: Callable[[], object], repeats: int = 1) -> tuple[float, float]:
    """Fewest seconds, and fewest seconds of CPU over all threads, of `repeats` calls."""
    best, best_cpu = float("inf"), float("inf")
    for _ in range(repeats):
        start, start_cpu = time.perf_counter(), time.process_time()
        work()
        best = min(best, time.perf_counter() - start)
        best_cpu = min(best_cpu, time.process_time() - start_cpu)
    return best, best_cpu


def peak_gigabytes() -> float:
    """Peak resident memory of this process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
