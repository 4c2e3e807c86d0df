"""The same numbers from independent implementations, on random data and on data with the shape of real captures."""

import math
from pathlib import Path

import numpy as np
import powerlaw
import procrustes as qc_procrustes
import pytest
import rsatoolbox
import scipy.linalg
import scipy.spatial
import scipy.stats
from sklearn.cross_decomposition import CCA
from sklearn.decomposition import PCA
from sklearn.metrics.pairwise import linear_kernel, pairwise_distances, rbf_kernel
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import KernelCenterer
from statsmodels.multivariate.cancorr import CanCorr

from pico_analyze.metrics.power_law import fit_tail
from pico_analyze.metrics.spec import METRICS

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:powerlaw")

CAPTURED = Path(__file__).parents[1] / "data" / "captured.npz"


def gaussian(rng):
    x = rng.standard_normal((60, 7))
    return x, x @ rng.standard_normal((7, 5)) + rng.standard_normal((60, 5))


def heavy_tailed(rng):
    """As captured activations: a decaying spectrum, an offset, two outlier features, float32."""
    basis = rng.standard_normal((80, 12)) * 0.6 ** np.arange(12)
    x = basis @ rng.standard_normal((12, 10)) + rng.standard_normal(10)
    x[:, 3] *= 30
    y = x[:, :8] + 0.5 * rng.standard_normal((80, 8))
    y[:, 1] *= 20
    return x.astype(np.float32), y.astype(np.float32)


def captured(_):
    """The values of one head at steps 8 and 40 of a real run (2 M parameters), half precision."""
    with np.load(CAPTURED) as arrays:
        return tuple(arrays[f"{step}/activations/layers.3.attn.v"][:, :32].copy() for step in (8, 40))


@pytest.fixture(params=[gaussian, heavy_tailed, captured])
def pair(request):
    return request.param(np.random.default_rng(11))


@pytest.fixture(params=[(9, 9), (20, 6), (6, 20), "captured"], ids=str)
def matrix(request):
    if request.param == "captured":
        with np.load(CAPTURED) as arrays:
            return arrays["40/gradients/layers.3.attn.v"].astype(np.float64)
    return np.random.default_rng(5).standard_normal(request.param) ** 3


def hsic_by_sklearn(k, h):
    return float(np.sum(KernelCenterer().fit_transform(k) * KernelCenterer().fit_transform(h)))


def cka_by_sklearn(k, h):
    return hsic_by_sklearn(k, h) / math.sqrt(hsic_by_sklearn(k, k) * hsic_by_sklearn(h, h))


def unbiased_hsic(k, h):
    """Song et al. 2012, equation 5, term by term."""
    n = len(k)
    k, h = k - np.diag(np.diag(k)), h - np.diag(np.diag(h))
    one = np.ones(n)
    trace = np.trace(k @ h)
    sums = (one @ k @ one) * (one @ h @ one) / ((n - 1) * (n - 2))
    cross = 2 / (n - 2) * (one @ k @ h @ one)
    return (trace + sums - cross) / (n * (n - 3))


def test_linear_cka_is_scikit_learns_centred_kernels(pair):
    x, y = (side.astype(np.float64) for side in pair)
    expected = cka_by_sklearn(linear_kernel(x), linear_kernel(y))
    assert METRICS.get("cka")(*pair).value == pytest.approx(expected, rel=1e-9)


def test_rbf_cka_is_scikit_learns_kernel_with_the_median_distance(pair):
    kernels = []
    for side in pair:
        wide = side.astype(np.float64)
        sigma = np.median(scipy.spatial.distance.pdist(wide))
        kernels.append(rbf_kernel(wide, gamma=1 / (2 * sigma**2)))
    assert METRICS.get("cka")(*pair, kernel="rbf").value == pytest.approx(cka_by_sklearn(*kernels), rel=1e-7)


def test_debiased_cka_is_the_formula_of_song_et_al(pair):
    x, y = (linear_kernel(side.astype(np.float64)) for side in pair)
    expected = unbiased_hsic(x, y) / math.sqrt(unbiased_hsic(x, x) * unbiased_hsic(y, y))
    assert METRICS.get("cka")(*pair, debiased=True).value == pytest.approx(expected, rel=1e-8)


def test_debiased_rbf_cka_is_the_formula_of_song_et_al(pair):
    kernels = []
    for side in pair:
        wide = side.astype(np.float64)
        kernels.append(rbf_kernel(wide, gamma=1 / (2 * np.median(scipy.spatial.distance.pdist(wide)) ** 2)))
    k, h = kernels
    expected = unbiased_hsic(k, h) / math.sqrt(unbiased_hsic(k, k) * unbiased_hsic(h, h))
    assert METRICS.get("cka")(*pair, kernel="rbf", debiased=True).value == pytest.approx(expected, rel=1e-7)


def test_minibatch_cka_is_the_formula_of_song_et_al_averaged_over_batches(pair):
    terms = np.zeros(3)
    n = len(pair[0])
    order = np.random.default_rng([0, n]).permutation(n)
    for start in range(0, n, 25):  # the last batch is shorter, and counts for its rows
        x, y = (linear_kernel(side[order[start : start + 25]].astype(np.float64)) for side in pair)
        terms += len(x) * np.array([unbiased_hsic(x, y), unbiased_hsic(x, x), unbiased_hsic(y, y)])
    expected = terms[0] / math.sqrt(terms[1] * terms[2])
    assert METRICS.get("cka")(*pair, batch=25).value == pytest.approx(expected, rel=1e-7)


def test_linear_cka_is_rsatoolboxs_whitened_cosine_of_squared_distances(pair):
    # Diedrichsen et al. 2021: the whitened cosine of squared-Euclidean dissimilarities is linear CKA.
    rdms = [
        rsatoolbox.rdm.calc_rdm(rsatoolbox.data.Dataset(side.astype(np.float64)), method="euclidean") for side in pair
    ]
    expected = rsatoolbox.rdm.compare(*rdms, method="cosine_cov").item()
    assert METRICS.get("cka")(*pair).value == pytest.approx(expected, rel=1e-5)


def test_rsa_is_rsatoolboxs_spearman_of_correlation_distances(pair):
    rdms = [
        rsatoolbox.rdm.calc_rdm(rsatoolbox.data.Dataset(side.astype(np.float64)), method="correlation") for side in pair
    ]
    expected = rsatoolbox.rdm.compare(*rdms, method="spearman").item()
    assert METRICS.get("rsa")(*pair).value == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("dissimilarity", ["correlation", "cosine", "euclidean"])
def test_rsa_is_scipys_distances_and_correlations(pair, dissimilarity):
    lists = [scipy.spatial.distance.pdist(side.astype(np.float64), dissimilarity) for side in pair]
    rsa = METRICS.get("rsa")
    for compare, oracle in (("spearman", scipy.stats.spearmanr), ("pearson", scipy.stats.pearsonr)):
        value = rsa(*pair, dissimilarity=dissimilarity, compare=compare).value
        assert value == pytest.approx(oracle(*lists).statistic, rel=1e-7)


def test_mean_cca_is_statsmodels_canonical_correlations(pair):
    x, y = (side.astype(np.float64) for side in pair)
    assert METRICS.get("mean_cca")(*pair).value == pytest.approx(CanCorr(x, y).cancorr.mean(), rel=1e-7)


def test_mean_cca_is_scikit_learns_on_gaussian_data():
    x, y = gaussian(np.random.default_rng(2))
    variates = CCA(n_components=5, max_iter=5000, tol=1e-12).fit(x, y).transform(x, y)
    expected = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(variates[0].T, variates[1].T, strict=True)])
    assert METRICS.get("mean_cca")(x, y).value == pytest.approx(expected, rel=1e-5)


def test_svcca_is_pca_by_scikit_learn_and_cca_by_statsmodels(pair):
    reduced = [PCA(n_components=0.99, svd_solver="full").fit_transform(side.astype(np.float64)) for side in pair]
    expected = CanCorr(*reduced).cancorr.mean()
    result = METRICS.get("svcca")(*pair)
    assert (result.extra["k"], result.extra["k_target"]) == (reduced[0].shape[1], reduced[1].shape[1])
    assert result.value == pytest.approx(expected, rel=1e-6)


def test_pwcca_is_weighted_from_scipys_subspaces(pair):
    x, y = (side - side.mean(axis=0) for side in (s.astype(np.float64) for s in pair))
    inverse_root = [scipy.linalg.inv(scipy.linalg.sqrtm(side.T @ side).real) for side in (x, y)]
    u, rho, _ = np.linalg.svd(inverse_root[0] @ x.T @ y @ inverse_root[1], full_matrices=False)
    variates = x @ inverse_root[0] @ u
    weights = np.abs(variates.T @ x).sum(axis=1)
    expected = float(weights @ rho / weights.sum())
    assert METRICS.get("pwcca")(*pair, variance=1.0).value == pytest.approx(expected, rel=1e-6)


def test_procrustes_is_scipys_disparity_and_scale(pair):
    x, y = (side.astype(np.float64) for side in pair)
    wide = np.hstack([y, np.zeros((len(y), x.shape[1] - y.shape[1]))])
    _, _, disparity = scipy.spatial.procrustes(x, wide)  # 1 − ν²
    similarity = METRICS.get("procrustes")(*pair, form="similarity").value
    assert 1 - similarity**2 == pytest.approx(disparity, rel=1e-8)
    a, b = (side - side.mean(axis=0) for side in (x, wide))
    _, scale = scipy.linalg.orthogonal_procrustes(a / np.linalg.norm(a), b / np.linalg.norm(b))
    assert similarity == pytest.approx(scale, rel=1e-9)


def test_procrustes_is_the_error_of_the_procrustes_package(pair):
    x, y = (side.astype(np.float64) for side in pair)
    found = qc_procrustes.orthogonal(x, y, translate=True, scale=True, pad=True)
    assert METRICS.get("procrustes")(*pair).value == pytest.approx(found.error, rel=1e-8)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_mutual_knn_is_scikit_learns_neighbours(pair, distance):
    neighbours = []
    for side in pair:
        wide = side.astype(np.float64)
        found = NearestNeighbors(n_neighbors=6, metric=distance, algorithm="brute").fit(wide)
        neighbours.append(found.kneighbors(return_distance=False))
    shared = [len(set(a) & set(b)) / 6 for a, b in zip(*neighbours, strict=True)]
    assert METRICS.get("mutual_knn")(*pair, k=6, distance=distance).value == pytest.approx(np.mean(shared), abs=1e-12)


def test_subspace_overlap_is_scipys_principal_angles(pair):
    x, y = (side.astype(np.float64) for side in pair)
    bases = [scipy.linalg.svd(side)[0][:, :3] for side in (x, y)]
    expected = np.mean(np.cos(scipy.linalg.subspace_angles(*bases)) ** 2)
    assert METRICS.get("subspace_overlap")(x, y, k=3).value == pytest.approx(expected, rel=1e-9)


def test_subspace_overlap_of_activations_is_that_of_scikit_learns_principal_components(pair):
    from pico_analyze.matrices.matrix import Dense

    x, y = (side[:, :5].astype(np.float64) for side in pair)
    axes = [PCA(n_components=3, svd_solver="full").fit(side).components_.T for side in (x, y)]
    expected = np.mean(np.cos(scipy.linalg.subspace_angles(*axes)) ** 2)
    samples = [Dense(side, samples=True) for side in (x, y)]
    value = METRICS.get("subspace_overlap")(*samples, k=3, side="right").value
    assert value == pytest.approx(expected, rel=1e-8)


def test_cosine_and_relative_change_are_scipys(matrix):
    other = matrix + np.random.default_rng(0).standard_normal(matrix.shape)
    expected = 1 - scipy.spatial.distance.cosine(matrix.ravel(), other.ravel())
    assert METRICS.get("cosine")(matrix, other).value == pytest.approx(expected, rel=1e-12)
    expected = np.linalg.norm(matrix - other) / np.linalg.norm(other)
    assert METRICS.get("relative_change")(matrix, other).value == pytest.approx(expected, rel=1e-12)


def test_norms_are_numpys(matrix):
    for kind, order in (("frobenius", "fro"), ("nuclear", "nuc"), ("spectral", 2)):
        assert METRICS.get("norm")(matrix, kind=kind).value == pytest.approx(np.linalg.norm(matrix, order), rel=1e-12)


def test_spectral_metrics_are_numpys_and_scipys(matrix):
    singular = np.linalg.svd(matrix, compute_uv=False)
    effective = math.exp(scipy.stats.entropy(singular))
    assert METRICS.get("effective_rank")(matrix).value == pytest.approx(effective, rel=1e-10)
    assert METRICS.get("per")(matrix).value == pytest.approx(effective / len(singular), rel=1e-10)
    assert METRICS.get("condition_number")(matrix).value == pytest.approx(np.linalg.cond(matrix), rel=1e-8)
    assert METRICS.get("condition_number")(matrix).extra["rank"] == np.linalg.matrix_rank(matrix)


def test_participation_ratio_is_that_of_scikit_learns_explained_variances(pair):
    from pico_analyze.matrices.matrix import Dense

    x = pair[0]
    variances = PCA(svd_solver="full").fit(x.astype(np.float64)).explained_variance_
    expected = variances.sum() ** 2 / np.sum(variances**2)
    assert METRICS.get("participation_ratio")(Dense(x, samples=True)).value == pytest.approx(expected, rel=1e-9)


def test_kurtosis_is_scipys(matrix):
    assert METRICS.get("kurtosis")(matrix).value == pytest.approx(scipy.stats.kurtosis(matrix, axis=None), rel=1e-10)
    expected = scipy.stats.kurtosis(matrix, axis=None, fisher=False)
    assert METRICS.get("kurtosis")(matrix, excess=False).value == pytest.approx(expected, rel=1e-10)


def test_gini_is_half_the_relative_mean_absolute_difference(matrix):
    flat = np.abs(matrix.ravel())
    differences = pairwise_distances(flat[:, None], metric="manhattan")  # all pairs, itself included
    n = len(flat)
    expected = differences.sum() / n**2 / (2 * flat.mean())
    assert METRICS.get("gini")(matrix).value == pytest.approx(expected, rel=1e-10)
    differing = differences.sum() / (n * (n - 1)) / (2 * flat.mean())
    assert METRICS.get("gini")(matrix, corrected=True).value == pytest.approx(differing, rel=1e-10)


def test_power_law_fit_is_the_powerlaw_packages_at_its_xmin():
    rng = np.random.default_rng(4)
    values = np.concatenate([rng.pareto(1.8, 300) + 1, rng.uniform(0.05, 1, 100)])
    alpha, x_min, distance, n_tail = fit_tail(values)
    fit = powerlaw.Fit(values, xmin=x_min, verbose=False)
    assert alpha == pytest.approx(fit.power_law.alpha, rel=1e-9)
    assert n_tail == fit.n_tail
    assert distance == pytest.approx(scipy.stats.kstest(values[values >= x_min], fit.power_law.cdf).statistic, abs=1e-9)


def test_power_law_alpha_agrees_with_the_powerlaw_packages_own_choice_of_xmin():
    weights = np.random.default_rng(1).standard_t(2.5, size=(120, 80))
    eigenvalues = np.linalg.svd(weights, compute_uv=False) ** 2
    fit = powerlaw.Fit(eigenvalues, verbose=False)
    result = METRICS.get("power_law_alpha")(weights)
    assert result.value == pytest.approx(fit.power_law.alpha, rel=0.1)
    assert (
        result.extra["ks"]
        <= scipy.stats.kstest(eigenvalues[eigenvalues >= fit.xmin], fit.power_law.cdf).statistic + 1e-9
    )
