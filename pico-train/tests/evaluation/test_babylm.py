"""BabyLM's fast evaluation and Pico 1.0's number: what a direct computation with transformers gives."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.tiny import config
from support.training_runs import train_until
from support.worlds import launch
from typer.testing import CliRunner

from pico_schema import layout
from pico_train.cli.app import app
from pico_train.evaluation.babylm import folders, rank_correlation

BLIMP = [
    ("one", "the dog sees a tree.", "the dog tree a sees."),
    ("one", "a cat likes the dog.", "a cat the likes dog."),
    ("two", "two dogs and one cat.", "two and dogs one cat."),
]
SUPPLEMENT = [("the red tree then finds", "tree red the finds then"), ("a small green tree", "small a tree green")]
EWOK = [
    ("physical relations", "the tree is over the dog.", "the dog is under the tree.", "the dog is over the tree."),
    ("social-relations", "the cat likes the dog.", "the dog finds the cat.", "the tree finds the cat."),
    ("social-relations", "one dog sees the tree.", "the tree is green.", "the tree is and."),
]
ENTITY = [
    (0, "the cat is under the tree. under the tree is", [" the cat.", " the dog.", " one red tree."]),
    (2, "the dog likes one cat. one cat is", [" small and green.", " red."]),
]
WUG = [("the dog sees\tthe dogs see", 0.9), ("a cat\ta tree", 0.2), ("one then\tthen one", 0.4), ("red\tgreen", 0.55)]


@pytest.fixture(scope="module")
def run(text, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs")
    launch(train_until, config(out, text, training__max_steps=6))
    return out / "tiny"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """The folders of the challenge's data with a few made-up records each."""
    root = tmp_path_factory.mktemp("evaluation_data") / "fast_eval"
    records: dict[str, list[dict]] = {
        "blimp_fast/blimp.jsonl": [
            {"UID": uid, "field": "syntax", "linguistics_term": "order", "sentence_good": g, "sentence_bad": b}
            for uid, g, b in BLIMP
        ],
        "supplement_fast/questions.jsonl": [{"sentence_good": g, "sentence_bad": b} for g, b in SUPPLEMENT],
        "ewok_fast/testset.jsonl": [
            {"Domain": d, "Context1": c, "Context2": "no", "Target1": t, "Target2": u, "ContextType": "direct"}
            for d, c, t, u in EWOK
        ],
        "entity_tracking_fast/regular.jsonl": [
            {"input_prefix": prefix, "options": options, "numops": n} for n, prefix, options in ENTITY
        ],
        "wug_past_tense/wug.jsonl": [{"sentences": two, "ratio": str(ratio)} for two, ratio in WUG],
        "reading/other.jsonl": [{}],
    }
    for name, lines in records.items():
        (root / name).parent.mkdir(parents=True)
        (root / name).write_text("\n".join(map(json.dumps, lines)))
    return root


@pytest.fixture(scope="module")
def score(run):
    """Log-probability of a text behind another, in nats, by transformers."""
    import transformers

    directory = run / layout.checkpoint_dir(6)
    model = transformers.LlamaForCausalLM.from_pretrained(directory, dtype=torch.float64)
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)

    def of(text: str, before: str = "") -> float:
        ids = [tokenizer.eos_token_id, *tokenizer(before + text, add_special_tokens=False)["input_ids"]]
        first = 1 + len(tokenizer(before, add_special_tokens=False)["input_ids"]) if before else 1
        total = 0.0
        for place in range(first, len(ids)):  # as much before each token as twelve positions hold
            with torch.no_grad():
                window = torch.tensor([ids[window_start(place, first, len(ids)) : place]])
                total += float(model(window).logits[0, -1].log_softmax(-1)[ids[place]])
        return total

    return of


def window_start(place: int, first: int, n: int, context: int = 12) -> int:
    """Where the window begins in which a token is scored: strides of half a context, from the first that counts."""
    end = first - 1
    while True:
        reach = end + (context if end == 0 and first == 1 else context // 2)
        reach = min(max(reach, min(n - 1, context)), n - 1)
        if place <= reach:
            return max(0, reach - context)
        end = reach


def evaluate(*words: str | Path) -> dict[str, dict]:
    done = CliRunner().invoke(app, ["evaluate", *map(str, words), "--format", "json"])
    assert done.exit_code == 0, done.output + str(done.exception)
    [row] = json.loads(done.stdout)
    return row["tasks"]


def test_the_fast_evaluation_is_one_word(run, data, score):
    found = evaluate(f"{run}@6", "--tasks", f"babylm:{data}", "--again")
    names = [name for name in found if "/" not in name]
    assert names == ["blimp_fast", "entity_tracking_fast", "ewok_fast", "supplement_fast", "wug_past_tense"]

    right = {uid: [score(g) > score(b) for u, g, b in BLIMP if u == uid] for uid in ("one", "two")}
    assert found["blimp_fast"]["macro_accuracy"] == np.mean([np.mean(of) for of in right.values()])
    assert found["blimp_fast/one"]["accuracy"] == np.mean(right["one"])
    margins = [score(g) - score(b) for _, g, b in BLIMP]
    assert found["blimp_fast"]["margin"] == pytest.approx(np.mean(margins), rel=1e-4)
    assert found["supplement_fast"]["accuracy"] == np.mean([score(g) > score(b) for g, b in SUPPLEMENT])

    ewok = [score(f" {t}", c) - score(f" {u}", c) for _, c, t, u in EWOK]
    assert found["ewok_fast"]["margin"] == pytest.approx(np.mean(ewok), rel=1e-4)
    by_domain = [np.mean([ewok[0] > 0]), np.mean([margin > 0 for margin in ewok[1:]])]
    assert found["ewok_fast"]["macro_accuracy"] == np.mean(by_domain)
    assert found["ewok_fast/physical_relations"]["n_questions"] == 1

    entity = [[score(option, prefix) for option in options] for _, prefix, options in ENTITY]
    assert found["entity_tracking_fast"]["accuracy"] == np.mean([np.argmax(of) == 0 for of in entity])
    margin = np.mean([of[0] - max(of[1:]) for of in entity])
    assert found["entity_tracking_fast"]["margin"] == pytest.approx(margin, rel=1e-4)
    assert {name for name in found if name.startswith("entity_tracking_fast/")} == {
        "entity_tracking_fast/regular_0_ops",
        "entity_tracking_fast/regular_2_ops",
    }

    wug = [score(two.split("\t")[0]) - score(two.split("\t")[1]) for two, _ in WUG]
    expected = scipy.stats.spearmanr(wug, [ratio for _, ratio in WUG]).statistic
    assert found["wug_past_tense"]["correlation"] == pytest.approx(expected, abs=1e-12)


def test_one_folder_is_a_task_of_its_own_and_a_name_may_be_given(run, data):
    found = evaluate(f"{run}@6", "--tasks", f"babylm:{data}/ewok_fast,mine=babylm:{data}/blimp_fast")
    assert {name.partition("/")[0] for name in found} == {"ewok_fast", "mine"}


@given(st.lists(st.tuples(st.integers(-3, 3), st.floats(-2, 2)), min_size=2, max_size=30))
def test_the_rank_correlation_is_scipys(pairs):
    x, y = np.array(pairs, float).T
    found = rank_correlation(x, y)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(scipy.stats.spearmanr(x, y).statistic, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "line", "code", "says"),
    [
        ("reading", {}, 2, "neither it nor a folder in it is named as a task of BabyLM"),
        ("ewok_fast", {"Context1": "a", "Target1": "b", "Domain": "c"}, 3, "x.jsonl:1: has no text under Target2"),
        ("entity_tracking", {"input_prefix": "a", "options": ["b"], "numops": 1}, 3, "options is no list of texts"),
        ("entity_tracking", {"input_prefix": "a", "options": ["b", "c"]}, 3, "numops is no number"),
        ("wug_past_tense", {"sentences": "a b", "ratio": 1}, 3, "is not two sentences with a tab between them"),
        ("wug_past_tense", {"sentences": "a\tb", "ratio": "much"}, 3, "ratio is no number"),
    ],
)
def test_what_is_no_record_is_refused_with_its_place(run, tmp_path, name, line, code, says):
    folder = tmp_path / name
    folder.mkdir()
    (folder / "x.jsonl").write_text(json.dumps(line))
    done = CliRunner().invoke(app, ["evaluate", f"{run}@6", "--tasks", f"babylm:{folder}"])
    assert (done.exception.exit_code, says in str(done.exception)) == (code, True), str(done.exception)


def test_a_folder_of_folders_means_those_of_tasks(data):
    assert [Path(path).name for path in folders(f"{data}/blimp_fast")] == ["blimp_fast"]
    assert "reading" not in [Path(path).name for path in folders(str(data))]


# -- Pico 1.0's number


def test_pico_1s_number_of_raw_text_is_that_of_a_direct_computation(run, tmp_path):
    """Texts cut to the twelve tokens that the model reads, nothing before them, the first token not predicted."""
    import transformers

    texts = ["the tree then sees one small dog. " * n for n in (1, 2, 7)]
    (tmp_path / "texts.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    directory = run / layout.checkpoint_dir(6)
    model = transformers.LlamaForCausalLM.from_pretrained(directory, dtype=torch.float64)
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    each, n_tokens = [], 0
    for text in texts:
        ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"][:12]])
        with torch.no_grad():
            each.append(math.exp(model(input_ids=ids, labels=ids).loss))
        n_tokens += ids.shape[1] - 1
    found = evaluate(f"{run}@6", "--tasks", f"pico1:{tmp_path}/texts.jsonl,text:{tmp_path}/texts.jsonl")
    assert found["pico1-texts"]["pico1_perplexity"] == pytest.approx(np.mean(each), rel=1e-5)
    assert (found["pico1-texts"]["n_documents"], found["pico1-texts"]["n_tokens"]) == (3, n_tokens)
    assert found["texts"]["perplexity"] != pytest.approx(found["pico1-texts"]["pico1_perplexity"], rel=1e-2)
