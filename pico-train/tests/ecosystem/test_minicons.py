"""Minimal pairs as minicons scores them (Misra 2022, arXiv:2203.13112): log-probabilities of whole sentences."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("minicons", reason="minicons is not installed: make test-ecosystem installs it")

from typer.testing import CliRunner

from pico_train.cli.app import app

# The model reads twelve tokens: each sentence with the token before it has fewer.
PAIRS = [
    ("order", "the dog sees a tree.", "the tree dog a sees."),
    ("order", "one cat likes the tree.", "one the likes cat tree."),
    ("number", "two red dogs and a cat.", "two red dog and a cat."),
]


def test_margins_and_accuracy_are_those_of_minicons(checkpoint: Path, tmp_path: Path) -> None:
    import torch
    import transformers
    from minicons import scorer

    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    tokenizer.bos_token = tokenizer.pad_token = tokenizer.eos_token
    theirs = scorer.IncrementalLMScorer(model, "cpu", tokenizer=tokenizer)
    sentences = [sentence for _, *two in PAIRS for sentence in two]
    logs = theirs.sequence_score(sentences, reduction=lambda of: of.sum().item(), bos_token=True)
    margins = [good - bad for good, bad in zip(logs[::2], logs[1::2], strict=True)]

    lines = [{"phenomenon": kind, "sentence_good": good, "sentence_bad": bad} for kind, good, bad in PAIRS]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, lines)))
    run = checkpoint.parent.parent
    words = ["evaluate", f"{run}@6", "--tasks", f"pairs:{tmp_path}/pairs.jsonl", "--device", "cpu", "--format", "json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    [row] = json.loads(done.stdout)
    # Sums of a dozen logarithms of magnitude 1 to 10, in float32.
    assert row["tasks"]["pairs"]["margin"] == pytest.approx(sum(margins) / 3, rel=1e-4, abs=1e-5)
    assert row["tasks"]["pairs"]["accuracy"] == sum(margin > 0 for margin in margins) / 3
    assert row["tasks"]["pairs/number"]["margin"] == pytest.approx(margins[2], rel=1e-4, abs=1e-5)
