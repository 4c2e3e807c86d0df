"""A document as text: what is written byte by byte, how much is read, and what a message names."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from conftest import checkpoint_fields, common

from pico_schema import CheckpointManifest, DocumentError, Evaluation, RunManifest, documents, layout, read_checkpoint

EVALUATION = Evaluation.model_validate(
    {key: common()[key] for key in ("created", "producer")}
    | {"run_id": "ab" * 16, "step": 3, "manifest_sha256": "d" * 64}
    | {"tasks": {"blümp": {"accuracy": 0.5, "loss": math.inf, "note": None}}}
)
WRITTEN = """{
 "kind": "evaluation",
 "schema_version": "1.2",
 "run_id": "abababababababababababababababab",
 "step": 3,
 "manifest_sha256": "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd",
 "created": "2026-01-02T03:04:05Z",
 "producer": {
  "name": "a test",
  "version": "0"
 },
 "tasks": {
  "blümp": {
   "accuracy": 0.5,
   "loss": null,
   "note": null
  }
 }
}
"""


def test_a_document_is_indented_utf_8_in_the_order_of_declaration() -> None:
    assert documents.dump(EVALUATION).decode() == WRITTEN


def test_numbers_without_a_value_become_null_wherever_they_are() -> None:
    config = {"a": [math.nan, {"b": -math.inf}, (math.inf, 1)], "c": "nan", "d": 10**30, "e": 1e308, "f": True}
    fields = common(id="ab" * 16, name="demo", config=config, environment={"x": math.nan})
    written = json.loads(documents.dump(RunManifest.model_validate(fields)))
    assert written["config"] == config | {"a": [None, {"b": None}, [None, 1]]}
    assert written["environment"] == {"x": None}


def test_a_document_may_be_as_long_as_the_bound_and_no_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert documents.MAX_DOCUMENT == 67_108_864  # 64 MiB
    content = WRITTEN.encode()
    path = tmp_path / "evaluation.json"
    monkeypatch.setattr(documents, "MAX_DOCUMENT", len(content))
    path.write_bytes(content)
    assert documents.read(path, Evaluation) == documents.parse(content, Evaluation, where="here")
    path.write_bytes(content + b" ")
    says = f"too large for a document \\(at most {len(content)} bytes\\)$"
    with pytest.raises(DocumentError, match=says):
        documents.read(path, Evaluation)
    with pytest.raises(DocumentError, match=says):
        documents.parse(content + b" ", Evaluation, where="here")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"step": -1, "seed": -1}, "^here: step: Input should be greater than or equal to 0$"),
        ({"seed": -1, "model": {}}, "^here: seed: "),
        ({"metrics": {"x" * 300: "low"}}, f"^here: metrics.{'x' * 192}: "),
        ({"metrics": {"ä\n": "low"}}, r"^here: metrics\.\\xe4\\n: "),
        ({"run_name": "../x"}, "^here: run name '../x' cannot be used"),
        ({"weights": {"layers.2.resid": "x"}}, "^here: document: Value error, site 'layers.2.resid' does not exist"),
    ],
)
def test_the_first_field_that_is_wrong_is_named(changes: dict[str, Any], says: str) -> None:
    content = json.loads(documents.dump(CheckpointManifest.model_validate(checkpoint_fields()))) | changes
    with pytest.raises(DocumentError, match=says):
        documents.parse(json.dumps(content).encode(), CheckpointManifest, where="here")


CAPTURE = {
    "split": "train",
    "file": "captures/train.safetensors",
    "dtype": "float32",
    "n_rows": 4,
    "positions": [1],
    "samples_sha256": "0" * 64,
}


@pytest.mark.parametrize(
    ("captures", "says"),
    [
        ([{"activations": ["attn.v"]}], "captures.0.activations: Value error, 'attn.v' is not a site"),
        ([{"gradients": ["nonsense"]}], "captures.0.gradients: Value error, 'nonsense' is not a site"),
        ([{"activations": ["head", "embed", "head"]}], "captures.0.activations: Value error, a site is listed twice"),
        ([{}, {}], "document: Value error, a split was captured twice"),
        ([{"gradients": ["layers.1.resid"]}], "document: Value error, site 'layers.1.resid' has no weight"),
        ([{"gradients": ["layers.1.mlp.act"]}], "document: Value error, site 'layers.1.mlp.act' has no weight"),
        ([{"noise": ["nonsense"]}], "captures.0.noise: Value error, 'nonsense' is not a site"),
        ([{"noise": ["layers.0.resid"]}], "captures.0.noise: Value error, noise of 'layers.0.resid': it has no weight"),
        ([{"noise": ["model", "model"]}], "captures.0.noise: Value error, the noise of a site is listed twice"),
        ([{"noise": ["layers.2.block"]}], "document: Value error, 'layers.2.block' does not exist: the model has"),
        ([{"noise": ["layers.2.attn.v"]}], "document: Value error, site 'layers.2.attn.v' does not exist"),
        ([{"activations": ["layers.2.resid"]}], "document: Value error, site 'layers.2.resid' does not exist"),
    ],
)
def test_captures_of_what_is_not_there_are_refused(checkpoint: Path, captures: list[dict[str, Any]], says: str) -> None:
    path = checkpoint / layout.MANIFEST
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest | {"captures": [CAPTURE | capture for capture in captures]}))
    with pytest.raises(DocumentError) as refused:
        read_checkpoint(checkpoint)
    assert str(refused.value).startswith(f"{path}: {says}")


def test_the_residual_stream_and_each_split_may_be_captured(checkpoint: Path) -> None:
    path = checkpoint / layout.MANIFEST
    noise = ["layers.1.attn.v", "layers.1.block", "model", "embed"]
    captures = [CAPTURE | {"activations": ["layers.1.resid", "embed"], "noise": noise}, CAPTURE | {"split": "val"}]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"captures": captures}))
    manifest = read_checkpoint(checkpoint)
    assert [capture.split for capture in manifest.captures] == ["train", "val"]
    assert manifest.captures[0].activations == ("layers.1.resid", "embed")
    assert manifest.captures[0].noise == tuple(noise) and manifest.captures[1].noise == ()
