"""Minimal pairs and questions: against a direct computation, in closed form, and what is no such file."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from pico_train.data import tokenizer as tokenizers
from pico_train.errors import DataError, UsageError
from pico_train.evaluation.choices import Question, QuestionSet, read_questions
from pico_train.evaluation.pairs import Pair, PairSet, pair_measures, read_pairs
from pico_train.evaluation.scoring import Scorer
from pico_train.evaluation.sentences import Encoder
from pico_train.model.decoder import Decoder

from .conftest import scorer_of

PAIRS = [
    Pair("number", "the dogs see the cat.", "the dogs sees the cat."),
    Pair("number", "a cat sleeps.", "a cat sleep."),
    Pair("order", "the red dog", "dog red the"),
    Pair("order", "two small cats sleep under the tree and then under the tree", "two cats small sleep"),
]
QUESTIONS = [
    Question("a dog sees the ", ("cat", "tree under and then", "dogs"), 0, "short"),
    Question("two red dogs and", (" a small one", " likes"), 1, "short"),
    Question("", ("the dogs see the cat.",), 0, "alone"),
    Question("the tree finds " * 6, ("green", "an over then"), 0),
]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tokenizer")
    texts = [text for pair in PAIRS for text in (pair.good, pair.bad)] * 3
    tokenizers.save_trained(tokenizers.train(texts, 290), directory, max_length=32)
    return Encoder.of(directory, "test")


@pytest.fixture(scope="module")
def model(decoder):
    spec = decoder.spec.model_copy(update={"vocab_size": 300, "max_seq_len": 64})
    large = Decoder(spec)
    large.init_weights(1)
    with torch.no_grad():
        for parameter in large.parameters():
            parameter.mul_(4)
    return large.eval()


def log_probability(model, encoder, context: str, text: str) -> float:
    """Of the tokens of `text` behind `context`, in float64: all logits at once."""
    ids = torch.from_numpy(encoder([context + text], "test")[0].astype(np.int64))
    first = len(encoder([context.rstrip()], "test")[0])
    with torch.no_grad():
        logs = model(ids[None, :-1])[0].double().log_softmax(-1)
    return float(logs[torch.arange(first - 1, len(ids) - 1), ids[first:]].sum())


def test_pairs_are_compared_as_whole_sentences(model, encoder):
    found = PairSet.of("p", PAIRS, encoder).measure(scorer_of(model), batch_size=1)
    margins = [log_probability(model, encoder, "", p.good) - log_probability(model, encoder, "", p.bad) for p in PAIRS]
    assert list(found) == ["p", "p/number", "p/order"]
    assert found["p"]["margin"] == pytest.approx(np.mean(margins), rel=1e-5)
    assert found["p"]["accuracy"] == np.mean([margin > 0 for margin in margins])
    assert found["p/order"]["margin"] == pytest.approx(np.mean(margins[2:]), rel=1e-5)
    assert found["p"]["macro_accuracy"] == np.mean([found["p/number"]["accuracy"], found["p/order"]["accuracy"]])
    assert (found["p"]["n_pairs"], found["p/number"]["n_pairs"]) == (4, 2)


def test_errors_of_shares_and_means_in_closed_form():
    found = pair_measures(np.array([1.0, 3.0, -1.0, 1.0]))
    assert (found["accuracy"], found["margin"], found["n_pairs"]) == (0.75, 1.0, 4)
    assert found["accuracy_se"] == pytest.approx(math.sqrt(0.75 * 0.25 / 4))
    assert found["margin_se"] == pytest.approx(math.sqrt(8 / 3) / 2)
    assert pair_measures(np.zeros(5))["accuracy"] == 0, "a tie is no right answer"


def test_a_model_that_finds_all_alike_is_never_right(encoder):
    even = Scorer(lambda rows: torch.zeros(rows[:, 1:].shape), 64, torch.device("cpu"))
    assert PairSet.of("p", PAIRS[:1], encoder).measure(even, batch_size=4) == {
        "p": {"accuracy": 0.0, "accuracy_se": 0.0, "margin": 0.0, "n_pairs": 1}
    }


def test_answers_are_scored_behind_their_question(model, encoder):
    found = QuestionSet.of("q", QUESTIONS, encoder).measure(scorer_of(model), batch_size=1)
    logs = [[log_probability(model, encoder, q.context, choice) for choice in q.choices] for q in QUESTIONS]
    right = [int(np.argmax(of)) == q.gold for of, q in zip(logs, QUESTIONS, strict=True)]
    per_byte = [np.array(of) / [len(c.encode()) for c in q.choices] for of, q in zip(logs, QUESTIONS, strict=True)]
    right_norm = [int(np.argmax(of)) == q.gold for of, q in zip(per_byte, QUESTIONS, strict=True)]
    gold = [of[q.gold] for of, q in zip(logs, QUESTIONS, strict=True)]
    size = sum(len(q.choices[q.gold].encode()) for q in QUESTIONS)
    margins = [of[q.gold] - max(np.delete(of, q.gold)) for of, q in zip(logs, QUESTIONS, strict=True) if len(of) > 1]
    assert found["q"]["accuracy"] == np.mean(right) and found["q"]["accuracy_norm"] == np.mean(right_norm)
    assert found["q"]["bits_per_byte"] == pytest.approx(-sum(gold) / size / math.log(2), rel=1e-5)
    assert found["q"]["margin"] == pytest.approx(np.mean(margins), rel=1e-5)
    assert found["q"]["n_questions"] == 4
    assert list(found) == ["q", "q/short", "q/alone"] and "margin" not in found["q/alone"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "not valid JSON"),
        ("[1]", "a JSON object was expected"),
        ('{"sentence_good": "a b"}', "has no text under sentence_bad"),
        ('{"sentence_good": "a b", "sentence_bad": "a b"}', "its two sentences are the same"),
        ("", "holds no pairs: it is empty"),
    ],
)
def test_what_is_no_pair_is_refused_with_its_place(tmp_path, line, says):
    path = tmp_path / "some.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(DataError, match=says) as raised:
        read_pairs(path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({"choices": ["a"], "gold": 1}, "gold=1 is no number of a choice, 0 to 0"),
        ({"choices": [], "gold": 0}, "choices is no list of texts"),
        ({"choices": ["a", ""], "gold": 0}, "choices is no list of texts"),
        ({"choices": ["a"], "gold": True}, "is no number of a choice"),
        ({"context": 3, "choices": ["a"], "gold": 0}, "context is no text"),
    ],
)
def test_what_is_no_question_is_refused(tmp_path, record, says):
    path = tmp_path / "some.jsonl"
    path.write_text(json.dumps(record))
    with pytest.raises(DataError, match=says):
        read_questions(path)


def test_files_as_blimps_are_read_in_folders(tmp_path):
    for name, uid in (("one", "anaphor"), ("two", None)):
        record = {"sentence_good": "a", "sentence_bad": "b", "field": "x"} | ({"UID": uid} if uid else {})
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(record) + "\n\n")
    assert [pair.phenomenon for pair in read_pairs(tmp_path)] == ["anaphor", "two"]
    with pytest.raises(UsageError, match="no such file of JSON lines"):
        read_pairs(tmp_path / "three.jsonl")
