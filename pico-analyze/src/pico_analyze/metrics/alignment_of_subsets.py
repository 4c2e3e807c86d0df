"""Linear CKA of many subsets of the rows at once, as intervals ask for it.

The kernels of all samples are formed once, block by block. Of a block, what belongs to one pair of rows is added up,
and each subset takes the sums of its pairs: no product of activations is formed for a subset.

Shapes: N samples of R rows, P positions each (N = R·P), D subsets; B samples, whole rows, in a block.
"""

from __future__ import annotations

import numpy as np

from pico_analyze.matrices.matrix import Matrix

_BLOCK_ELEMENTS = 2**21
"""Elements of one block of a kernel: 16 MiB in float64; a few of them are held at a time."""


def linear_cka_of_subsets(x: Matrix, y: Matrix, kept_DR: np.ndarray, *, debiased: bool) -> np.ndarray:
    """Linear CKA of the samples of each subset of rows.

    Args:
        x: (N, ·) activations, samples ordered by (row, position), as many of each row.
        y: (N, ·) activations of the same samples.
        kept_DR: Which rows each subset keeps, (D, R).
        debiased: By the unbiased HSIC.

    Returns:
        (D,), the values that `cka` has on those samples, up to rounding; NaN where it has none.

    References:
        Biased: Gretton et al. 2005, Measuring Statistical Dependence with Hilbert-Schmidt Norms, ALT, definition 2;
        unbiased: Song et al. 2012, Feature Selection via Dependence Maximization, JMLR 13, equation 5.
    """
    kept = np.asarray(kept_DR, np.float64)
    inner_3D, totals_3, k_ND, l_ND = _sums(x.centred(), y.centred(), kept, hollow=debiased)
    m = kept.sum(axis=1) * (x.shape[0] // kept.shape[1])
    k, el = k_ND.sum(axis=0), l_ND.sum(axis=0)

    def hsic(inner: np.ndarray, first_ND: np.ndarray, second_ND: np.ndarray, totals: np.ndarray) -> np.ndarray:
        """HSIC of each subset, up to a factor that depends on its size alone."""
        between = np.einsum("nd,nd->d", first_ND, second_ND)
        if debiased:
            return np.asarray(inner - 2.0 * between / (m - 2.0) + totals / ((m - 1.0) * (m - 2.0)))
        return np.asarray(inner - 2.0 * between / m + totals / m**2)

    with np.errstate(divide="ignore", invalid="ignore"):
        xy = hsic(inner_3D[0], k_ND, l_ND, k * el)
        xx, yy = hsic(inner_3D[1], k_ND, k_ND, k * k), hsic(inner_3D[2], l_ND, l_ND, el * el)
        values = xy / np.sqrt(xx) / np.sqrt(yy)
    # Of a subset that does not vary a difference of equal terms is left, which is rounding.
    defined = (m >= (4 if debiased else 3)) & (xx > 1e-13 * totals_3[1]) & (yy > 1e-13 * totals_3[2])
    return np.where(defined, values if debiased else np.clip(values, 0.0, 1.0), np.nan)


def _sums(
    x: Matrix, y: Matrix, kept: np.ndarray, *, hollow: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What HSIC is made of, from the kernels K and L block by block; `hollow` leaves their diagonals out.

    Returns:
        Σ Kᵢⱼ·Lᵢⱼ, Σ Kᵢⱼ² and Σ Lᵢⱼ² over the samples of each subset, (3, D); the same over all samples, (3,); and for
        each sample of a subset Σⱼ Kᵢⱼ, (N, D), and Σⱼ Lᵢⱼ, zero for the samples that are not in it.
    """
    n, (n_subsets, n_rows) = x.shape[0], kept.shape
    positions = n // n_rows
    inner, totals = np.zeros((3, n_subsets)), np.zeros(3)
    sums = [np.empty((n, n_subsets)) for _ in range(2)]
    step = max(1, _BLOCK_ELEMENTS // (n * positions))
    for first_row in range(0, n_rows, step):
        rows = slice(first_row, min(n_rows, first_row + step))
        samples = slice(rows.start * positions, rows.stop * positions)
        kernels = [_kernel(matrix, samples, hollow=hollow) for matrix in (x, y)]
        chosen_BD = np.repeat(kept[:, rows], positions, axis=1).T
        for number, (one, other) in enumerate(((0, 1), (0, 0), (1, 1))):
            products = (kernels[one] * kernels[other]).reshape(-1, positions, n_rows, positions)
            by_rows = products.sum(axis=(1, 3))
            inner[number] += np.einsum("dr,dr->d", kept[:, rows] @ by_rows, kept)
            totals[number] += by_rows.sum()
        for found, kernel in zip(sums, kernels, strict=True):
            found[samples] = (kernel.reshape(-1, n_rows, positions).sum(axis=2) @ kept.T) * chosen_BD
    return inner, totals, sums[0], sums[1]


def _kernel(matrix: Matrix, samples: slice, *, hollow: bool) -> np.ndarray:
    """Rows of the kernel X·Xᵀ, (B, N)."""
    a, g = matrix.sample_form()
    part = a[samples]
    kernel = np.asarray((part if g is None else part @ g) @ a.T)
    if hollow:
        kernel[np.arange(len(kernel)), np.arange(samples.start, samples.stop)] = 0.0
    return kernel
