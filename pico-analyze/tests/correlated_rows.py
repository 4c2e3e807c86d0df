"""Activations whose positions depend on the row that they are in, for tests and for the table of coverages.

Of each latent, the share ρ of the variance is the row's and the rest is each position's own, so that two positions of
one row have the correlation ρ. What is measured has the same value on endlessly many rows whatever ρ is.
"""

from __future__ import annotations

import numpy as np

from pico_analyze.matrices.matrix import Dense

POSITIONS = 8
_WIDTH = 6
_SPREAD = np.linspace(0.5, 2.0, _WIDTH)
_MIX = np.linalg.qr(np.random.default_rng(5).standard_normal((_WIDTH, _WIDTH)))[0] * _SPREAD


def comparable(
    n_rows: int, correlation: float, rng: np.random.Generator, positions: int = POSITIONS
) -> tuple[Dense, Dense]:
    """Two noisy views of the same things, (N, 6) each, N = rows × positions."""
    shared = _latent(n_rows, positions, correlation, rng)
    noise = _latent(n_rows, positions, correlation, rng)
    return Dense(shared * _SPREAD, samples=True), Dense(shared @ _MIX + 0.7 * noise, samples=True)


def unrelated(n_rows: int, correlation: float, rng: np.random.Generator) -> tuple[Dense, Dense]:
    """Two matrices that have nothing to do with each other, (N, 6) each."""
    first, second = (_latent(n_rows, POSITIONS, correlation, rng) for _ in range(2))
    return Dense(first * _SPREAD, samples=True), Dense(second @ _MIX, samples=True)


def _latent(n_rows: int, positions: int, correlation: float, rng: np.random.Generator) -> np.ndarray:
    of_rows = rng.standard_normal((n_rows, 1, _WIDTH))
    own = rng.standard_normal((n_rows, positions, _WIDTH))
    both = np.sqrt(correlation) * of_rows + np.sqrt(1.0 - correlation) * own
    return np.asarray(both.reshape(-1, _WIDTH))
