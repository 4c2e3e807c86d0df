"""Decompositions in float64 that do not give up: singular values, thin SVD, triangular root."""

from __future__ import annotations

import numpy as np
import scipy.linalg

from pico_analyze.matrices import lapack

_BLOCK_ELEMENTS = 2**22
"""Elements of one block of rows: 32 MiB in float64."""


def singular_values(matrix: np.ndarray) -> np.ndarray:
    """Singular values, descending, in float64; min(N, P) of them.

    LAPACK's divide-and-conquer SVD, and its slower QR iteration should that one not converge. A tall matrix
    is first reduced to its triangular factor, block of rows by block, so that no float64 copy of all of it is
    made.
    """
    core = _triangular_core(matrix)
    try:
        return lapack.singular_values(core)
    except np.linalg.LinAlgError:
        return np.asarray(scipy.linalg.svd(core, compute_uv=False, check_finite=False, lapack_driver="gesvd"))


def thin_svd(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """U (N, m), s (m,) descending, Vᵀ (m, P), with m = min(N, P), of a finite matrix."""
    try:
        u, s, v = np.linalg.svd(matrix, full_matrices=False)
    except np.linalg.LinAlgError:
        u, s, v = scipy.linalg.svd(matrix, full_matrices=False, check_finite=False, lapack_driver="gesvd")
    return u, s, v


def triangular_root(matrix: np.ndarray) -> np.ndarray:
    """R (≤P, P) upper triangular with RᵀR = XᵀX, by QR (no squaring of the condition number), float64."""
    n_rows, n_cols = matrix.shape
    step = max(4 * n_cols, _BLOCK_ELEMENTS // max(1, n_cols))
    root = lapack.triangular_factor(matrix[:step])
    for start in range(step, n_rows, step):
        root = lapack.triangular_factor(np.concatenate([root, matrix[start : start + step]]))
    return root


def _triangular_core(matrix: np.ndarray) -> np.ndarray:
    if matrix.shape[0] < matrix.shape[1]:
        matrix = matrix.T
    if matrix.shape[0] >= 2 * matrix.shape[1]:
        return triangular_root(matrix)
    return matrix.astype(np.float64)
