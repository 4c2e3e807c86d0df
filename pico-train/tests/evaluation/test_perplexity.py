"""Loss, perplexity and bits per byte of a set, by source and on average: closed forms, and transformers' own loss."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pico_train.errors import DataError
from pico_train.evaluation.measures import ratio_error
from pico_train.evaluation.perplexity import DocumentSet
from pico_train.evaluation.scoring import Scorer

from .conftest import CONTEXT, VOCABULARY


def constant(loss: float) -> Scorer:
    """A model to which every token costs the same."""
    return Scorer(lambda rows: torch.full(rows[:, 1:].shape, loss), CONTEXT, torch.device("cpu"))


def made(lengths, sources=None, n_bytes=None, **options) -> DocumentSet:
    documents = [np.arange(n + 1, dtype=np.int32) % VOCABULARY for n in lengths]
    return DocumentSet("set", documents, sources or [""] * len(lengths), n_bytes, **options)


def test_a_uniform_model_has_the_vocabularys_size_as_perplexity_and_its_bits_by_token():
    found = made([5, 40, 3], n_bytes=np.array([5, 40, 3]), rows=True).measure(constant(math.log(64)), batch_size=2)
    whole = found["set"]
    assert whole["loss"] == pytest.approx(math.log(64), rel=1e-6)
    assert whole["perplexity"] == whole["pico1_perplexity"] == pytest.approx(64, rel=1e-5)
    assert whole["bits_per_byte"] == pytest.approx(6, rel=1e-6), "one byte a token, log2(64) bits"
    assert whole["loss_se"] == pytest.approx(0, abs=1e-6)
    assert (whole["n_tokens"], whole["n_bytes"], whole["n_documents"]) == (48, 48, 3)


def test_the_mean_is_of_tokens_and_pico1s_is_of_rows_which_one_outlier_ruins():
    """Nine short rows that cost nothing, and one of 20 tokens at 40 nats each."""
    short = [4] * 9

    def each(rows):
        return torch.where((rows == 20).any(1, keepdim=True), 40.0, 0.0).expand(rows[:, 1:].shape)

    scorer = Scorer(each, 64, torch.device("cpu"))
    whole = made([*short, 20], rows=True).measure(scorer, batch_size=1)["set"]
    assert whole["loss"] == pytest.approx(40 * 20 / 56)
    assert whole["perplexity"] == pytest.approx(math.exp(40 * 20 / 56))
    assert whole["pico1_perplexity"] == pytest.approx((9 + math.exp(40)) / 10)


def test_each_source_counts_the_same_in_the_macro_average(scorer):
    draw = np.random.default_rng(1)
    lengths, sources = [9, 30, 4, 40, 6, 8, 2, 5], ["wiki", "wiki", "code", "code"] * 2
    documents = [draw.integers(0, VOCABULARY, n + 1).astype(np.int32) for n in lengths]
    n_bytes = np.array([3 * n for n in lengths])
    found = DocumentSet("set", documents, sources, n_bytes).measure(scorer, batch_size=2)
    assert list(found) == ["set", "set/code", "set/wiki"]
    for name in ("code", "wiki"):
        own = [number for number, source in enumerate(sources) if source == name]
        alone = DocumentSet("set", [documents[n] for n in own], [""] * len(own), n_bytes[own])
        part, expected = found[f"set/{name}"], alone.measure(scorer, batch_size=3)["set"]
        assert part == {key: pytest.approx(value, rel=1e-6) for key, value in expected.items()}
    mean = (found["set/code"]["loss"] + found["set/wiki"]["loss"]) / 2
    assert found["set"]["macro_loss"] == pytest.approx(mean)
    assert found["set"]["macro_perplexity"] == pytest.approx(math.exp(mean))
    assert found["set"]["n_sources"] == 2
    assert found["set"]["n_tokens"] == sum(lengths) == sum(found[f"set/{s}"]["n_tokens"] for s in ("code", "wiki"))


def test_sources_of_one_document_each_are_no_groups():
    assert list(made([3, 3], ["a", "b"]).measure(constant(1.0), batch_size=2)) == ["set"]


def test_an_empty_set_is_refused():
    for lengths in ([], [0, 0]):
        with pytest.raises(DataError, match="the set is empty"):
            made(lengths)


@given(sizes=st.lists(st.integers(1, 50), min_size=2, max_size=20), seed=st.integers(0, 99))
def test_the_error_of_equal_documents_is_that_of_a_mean_and_scale_does_not_matter(sizes, seed):
    values = np.random.default_rng(seed).normal(3, 1, len(sizes))
    equal = ratio_error(values * 7, np.full(len(sizes), 7))
    assert equal == pytest.approx(values.std(ddof=1) / math.sqrt(len(sizes)), rel=1e-9)
    totals = values * sizes
    assert ratio_error(2 * totals, np.array(sizes)) == pytest.approx(2 * ratio_error(totals, np.array(sizes)))


def test_the_error_is_about_the_spread_over_sets():
    """2,000 sets of 30 documents whose tokens cost the same within each: the error against what really varies."""
    draw = np.random.default_rng(0)
    ratios, errors = [], []
    for _ in range(2000):
        sizes = draw.integers(5, 50, 30)
        totals = sizes * draw.normal(3, 0.5, 30)
        ratios.append(totals.sum() / sizes.sum())
        errors.append(ratio_error(totals, sizes))
    assert np.mean(errors) == pytest.approx(np.std(ratios), rel=0.06)  # of 30 units: a few per cent too small
