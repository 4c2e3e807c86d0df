"""PWCCA as google/svcca's code computes it, which is not what its paper defines; pico-analyze 1.0 used that code.

With X and Y centred, u, ρ, v the singular vectors and values of Σxx^−½ Σxy Σyy^−½ and μ the means of the columns, the
directions of the side with fewer features (the first of equals) are the columns of X·u + μ: not whitened, though u
belongs to whitened data, and with the mean of column i added to direction i. They are made orthonormal one after the
other (QR), and weighed by their inner products with the columns that are *not* centred. Nothing is cut off: directions
of rounding count where there are any. As the mean is added and not turned, the value of data with means depends on the
signs that the singular vectors happen to have; they are those of LAPACK's dgesdd, as there.

That code takes an ε: with covariances divided by their largest entry, features of a variance below it are left out, and
it is added to the variances of the others. pico-analyze 1.0 called it with 10⁻⁶.

Shapes: N samples, P and P′ features.
"""

from __future__ import annotations

import numpy as np


def projection_weighted(x: np.ndarray, y: np.ndarray, *, epsilon: float = 0.0) -> float | None:
    """The weighted mean of the canonical correlations.

    Args:
        x: (N, P) float64, N above P.
        y: (N, P′) float64.
        epsilon: ε.

    Returns:
        0 to 1. None where the inverse of a covariance has eigenvalues that are negative by rounding: the code has no
        value there (pico-analyze 1.0 added random noise and tried again).
    """
    # Each operation as there, not only each formula: signs and directions of rounding are those of the operations.
    p = x.shape[1]
    covariance = np.cov(x.T, y.T)
    xx, xy, yy = covariance[:p, :p], covariance[:p, p:], covariance[p:, p:]
    largest = np.abs(xx).max(), np.abs(yy).max()
    xx, xy, yy = xx / largest[0], xy / np.sqrt(largest[0] * largest[1]), yy / largest[1]
    kept, kept_too = np.diagonal(xx) >= epsilon, np.diagonal(yy) >= epsilon
    roots = _inverse_root(xx[kept][:, kept], epsilon), _inverse_root(yy[kept_too][:, kept_too], epsilon)
    if roots[0] is None or roots[1] is None:
        return None
    u, correlations, v = np.linalg.svd(roots[0] @ (xy[kept][:, kept_too] @ roots[1]))
    columns, turned = (x[:, kept], u) if kept.sum() <= kept_too.sum() else (y[:, kept_too], v.T)
    mean = columns.mean(axis=0)
    basis, _ = np.linalg.qr((columns - mean) @ turned + mean)
    weights = np.abs(basis.T @ columns).sum(axis=1)
    return min(1.0, float(weights @ correlations / weights.sum()))


def _inverse_root(covariance: np.ndarray, epsilon: float) -> np.ndarray | None:
    """(P, P) symmetric root of the pseudo-inverse, ε added to the variances before."""
    eigenvalues, vectors = np.linalg.eigh(np.linalg.pinv(covariance + epsilon * np.eye(len(covariance))))
    if eigenvalues[0] < 0:
        return None
    return np.asarray(vectors @ np.diag(np.sqrt(eigenvalues)) @ vectors.T)
