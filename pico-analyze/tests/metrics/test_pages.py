"""What the page of each metric promises: on what it is defined, its scale, its parameters with their last values."""

from __future__ import annotations

import inspect
import math
import sys

import numpy as np
import pytest

from pico_analyze.errors import UsageError
from pico_analyze.matrices.matrix import activations
from pico_analyze.metrics.spec import METRICS, MetricSpec, Result, pair_metric, single_metric
from pico_analyze.parameters import Param

RNG = np.random.default_rng(12)
X, Y = RNG.standard_normal((30, 12)), RNG.standard_normal((30, 12))
X += Y
SPECS = {spec.name: spec for spec in METRICS.each()}
EVERY = ("activations", "gradients", "weights")
HIGHEST = sys.float_info.max
MOST = 2**31 - 1
PARTS = [[2.0, 5.0, 1.0], [2.0, 6.0, 2.0], [2.0, 5.5, 1.0], [2.0, 6.5, 2.0], [8.0, 4.25, 0.0]]
"""Rows, squared norm and squared distance of four parts of a batch, and the batch's."""


def value(name, **params):
    if SPECS[name].accepts == {"noise"}:
        return SPECS[name](PARTS, **params)
    return SPECS[name](*((X,) if SPECS[name].kind == "single" else (X, Y)), **params)


@pytest.mark.parametrize(
    ("name", "accepts", "similar", "bounds", "companion"),
    [
        ("anisotropy", ("activations",), None, None, None),
        ("cka", ("activations",), "high", (0, 1), "debiased"),
        ("condition_number", EVERY, None, None, None),
        ("cosine", ("gradients", "weights"), "high", None, None),
        ("dead_fraction", ("activations",), None, (0, 1), None),
        ("dense_fraction", ("activations",), None, (0, 1), None),
        ("effective_rank", EVERY, None, None, None),
        ("gini", EVERY, None, (0, 1), None),
        ("gradient_noise", ("noise",), None, None, None),
        ("hoyer", EVERY, None, (0, 1), None),
        ("intrinsic_dimension", ("activations",), None, None, None),
        ("kurtosis", EVERY, None, None, None),
        ("massive_activations", ("activations",), None, None, None),
        ("mean_cca", ("activations",), "high", (0, 1), None),
        ("mutual_knn", ("activations",), "high", (0, 1), None),
        ("near_zero_fraction", EVERY, None, None, None),
        ("norm", EVERY, None, None, None),
        ("participation_ratio", EVERY, None, None, None),
        ("per", EVERY, None, (0, 1), None),
        ("power_law_alpha", EVERY, None, None, None),
        ("procrustes", ("activations",), "low", None, None),
        ("pwcca", ("activations",), "high", (0, 1), None),
        ("rankme", ("activations",), None, None, None),
        ("relative_change", ("gradients", "weights"), "low", None, None),
        ("rsa", ("activations",), "high", None, None),
        ("stable_rank", EVERY, None, None, None),
        ("subspace_overlap", EVERY, "high", (0, 1), None),
        ("svcca", ("activations",), "high", (0, 1), None),
    ],
)
def test_a_metric_is_defined_on_this_data_and_drawn_on_this_scale(name, accepts, similar, bounds, companion):
    spec, result = SPECS[name], value(name)
    assert (sorted(spec.accepts), spec.similar, spec.bounds, spec.companion) == (
        sorted(accepts),
        similar,
        bounds,
        companion,
    )
    assert spec.axis == ("log" if name in ("condition_number", "gradient_noise") else "linear")
    assert bounds is None or bounds[0] <= result <= bounds[1]
    assert companion is None or companion in result.extra


@pytest.mark.parametrize("name", [name for name, spec in SPECS.items() if spec.kind == "pair"])
def test_widths_may_differ_but_where_entries_are_compared(name):
    if name in ("cosine", "relative_change"):
        with pytest.raises(UsageError, match=f"'{name}' needs matrices of the same width, but one has 12 columns"):
            SPECS[name](X, Y[:, :9])
    else:
        assert math.isfinite(SPECS[name](X, Y[:, :9]))
    assert math.isfinite(value(name))


DEFAULTS = {
    "cka": {"debiased": False, "kernel": "linear", "bandwidth": 1.0, "batch": 0},
    "condition_number": {"over": "rank", "centre": "auto"},
    "dead_fraction": {"threshold": 0.1, "relative_to": "rms"},
    "dense_fraction": {"threshold": 0.1, "relative_to": "rms", "share": 0.5},
    "effective_rank": {"centre": "auto"},
    "gini": {"corrected": False},
    "intrinsic_dimension": {"discard": 0.1},
    "kurtosis": {"excess": True},
    "massive_activations": {"magnitude": 100.0, "ratio": 1000.0},
    "mean_cca": {"variance": 1.0},
    "mutual_knn": {"k": 10, "distance": "cosine"},
    "near_zero_fraction": {"threshold": 0.01, "relative_to": "rms"},
    "norm": {"kind": "frobenius"},
    "participation_ratio": {"centre": "auto"},
    "per": {"centre": "auto"},
    "power_law_alpha": {
        "method": "mle",
        "ks": "two_sided",
        "first_rank": 1,
        "last_rank": 0,
        "weighting": "none",
        "centre": "auto",
    },
    "procrustes": {"form": "distance", "squared": True},
    "pwcca": {"variance": 0.999, "variant": "paper"},
    "rankme": {"epsilon": 1e-7, "centre": "no"},
    "rsa": {"dissimilarity": "correlation", "compare": "spearman"},
    "stable_rank": {"centre": "auto"},
    "subspace_overlap": {"k": 8, "side": "left", "centre": "auto"},
    "svcca": {"variance": 0.99},
}


@pytest.mark.parametrize("name", SPECS)
def test_without_parameters_a_metric_is_that_of_its_defaults(name):
    defaults = DEFAULTS.get(name, {})
    given, left_out = value(name, **defaults), value(name)
    assert (given, dict(given.extra)) == (left_out, dict(left_out.extra)) and math.isfinite(given)
    shown = inspect.signature(SPECS[name].function).parameters.values()
    assert {one.name: one.default for one in shown if one.default is not one.empty} == defaults
    assert SPECS[name].resolve({}) == defaults
    assert list(map(type, SPECS[name].resolve({}).values())) == list(map(type, defaults.values()))


@pytest.mark.parametrize(
    ("name", "parameter", "lowest", "below", "highest", "above"),
    [
        ("cka", "bandwidth", 1e-3, math.nextafter(1e-3, 0), 1e3, math.nextafter(1e3, 2e3)),
        ("cka", "batch", 0, -1, MOST, MOST + 1),
        ("dead_fraction", "threshold", 0.0, -5e-324, HIGHEST, math.inf),
        ("dense_fraction", "threshold", 0.0, -5e-324, HIGHEST, math.inf),
        ("dense_fraction", "share", 0.0, -5e-324, 1.0, math.nextafter(1.0, 2.0)),
        ("intrinsic_dimension", "discard", 0.0, -5e-324, 0.9, math.nextafter(0.9, 1.0)),
        ("massive_activations", "magnitude", 0.0, -5e-324, HIGHEST, math.inf),
        ("massive_activations", "ratio", 0.0, -5e-324, HIGHEST, math.inf),
        ("mean_cca", "variance", 0.01, math.nextafter(0.01, 0), 1.0, math.nextafter(1.0, 2.0)),
        ("mutual_knn", "k", 1, 0, MOST, MOST + 1),
        ("near_zero_fraction", "threshold", 0.0, -5e-324, HIGHEST, math.inf),
        ("power_law_alpha", "first_rank", 1, 0, MOST, MOST + 1),
        ("power_law_alpha", "last_rank", 0, -1, MOST, MOST + 1),
        ("pwcca", "variance", 0.01, math.nextafter(0.01, 0), 1.0, math.nextafter(1.0, 2.0)),
        ("rankme", "epsilon", 0.0, -5e-324, 0.1, math.nextafter(0.1, 1.0)),
        ("subspace_overlap", "k", 1, 0, MOST, MOST + 1),
        ("svcca", "variance", 0.01, math.nextafter(0.01, 0), 1.0, math.nextafter(1.0, 2.0)),
    ],
)
def test_the_last_values_of_a_parameter_are_taken_and_the_next_refused(name, parameter, lowest, below, highest, above):
    for last in (lowest, highest):
        with np.errstate(over="ignore"):
            assert isinstance(value(name, **{parameter: last}), Result)
    for refused, side in ((below, "below"), (above, "above")):
        with pytest.raises(UsageError, match=f"^metric '{name}': {parameter}=.* is {side} "):
            value(name, **{parameter: refused})


@pytest.mark.parametrize("bounds", [(0.0, 0.0), (1.0, 0.0), (math.nan, 1.0)])
def test_a_scale_whose_ends_are_not_in_order_is_refused(bounds):
    with pytest.raises(ValueError, match="of metric 'one' are not a low and a high end"):
        MetricSpec("one", "single", lambda _: Result(1.0), "d", "r", "b", "c", "f", bounds=bounds)
    assert MetricSpec("one", "single", lambda _: Result(1.0), "d", "r", "b", "c", "f", bounds=(0.0, 5e-324)).bounds


def test_a_page_may_name_the_function_of_arrays_that_it_describes():
    @single_metric
    def rows(matrix, *, times: int = 1):
        return Result(times * matrix.shape[0])

    @pair_metric
    def both(x, y):
        return Result(x.shape[1] + 10 * y.shape[1])

    spec = MetricSpec("rows", "single", rows, "d", "r", "b", "c", "f", params={"times": Param(1, "h")})
    assert spec([[1.0], [2.0]]) == 2 and spec([[1.0], [2.0]], times=3) == 6 and spec.function([[1.0]], times=2) == 2
    assert MetricSpec("both", "pair", both, "d", "r", "b", "c", "f")([[1.0, 2.0]], [[1.0]]) == 12


@pytest.mark.parametrize("kind", ["single", "pair"])
def test_a_value_that_overflowed_on_the_way_keeps_what_stands_beside_it(kind):
    def overflowed(*_):
        return Result(math.nan, None, {"rank": 2.0}, "doubtful")

    spec = MetricSpec("one", kind, overflowed, "d", "r", "b", "c", "f")
    result = spec(*[[[1.0]]] * (1 if kind == "single" else 2))
    assert result.reason == "the entries are too large or too small for their type"
    assert result.extra == {"rank": 2.0} and math.isnan(result.value)


def test_what_is_not_compared_is_told_with_both_sizes():
    spec = SPECS["cosine"]
    with pytest.raises(UsageError, match="row by row, but one has 4 rows and the other 5: compare the same rows"):
        spec(np.ones((4, 3)), np.ones((5, 3)))
    sides = activations(np.ones((4, 3))), np.ones((5, 3))
    for x, y in (sides, sides[::-1]):
        with pytest.raises(UsageError, match="compare the same samples"):
            spec(x, y)
    with pytest.raises(UsageError, match="one has 3 columns and the other 7: choose runs of the same size"):
        spec(np.ones((5, 3)), np.ones((5, 7)))
    with pytest.raises(UsageError, match=r"'cosine' is not defined for activations: it takes weights, gradients$"):
        spec.check_data("activations")
