"""Numbers and texts of documents have bounds: the last value inside is read, the first outside refused by name."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from conftest import FILES, common
from conftest import checkpoint_fields as fields_of_a_checkpoint

from pico_schema import CheckpointManifest, DocumentError, Evaluation, RevisionIndex, RunManifest, documents, manifest

COMMIT, DIGEST, RUN_ID = "c" * 40, "d" * 64, "ab" * 16
ENTRY = {"step": 3, "tokens_seen": 96, "manifest_sha256": DIGEST}
CAPTURE = {
    "split": "train",
    "file": "captures/train.safetensors",
    "dtype": "float32",
    "activations": ["layers.0.attn.v"],
    "gradients": ["layers.1.attn.v"],
    "n_rows": 4,
    "positions": [1, 7],
    "samples_sha256": DIGEST,
}
CHANGE = {"step": 3, "when": "2026-01-02T03:04:05Z", "field": "seed"}
CHECKPOINT = fields_of_a_checkpoint(FILES, schema_version="1.2", captures=[CAPTURE])
RUN = common(schema_version="1.2", id=RUN_ID, name="demo", config={}, checkpoints=[ENTRY], changes=[CHANGE]) | {
    "validation": {"size": 812, "sha256": DIGEST, "n_rows": 4}
}
EVALUATION = {key: common()[key] for key in ("created", "producer")} | {
    "schema_version": "1.2",
    "run_id": RUN_ID,
    "step": 3,
    "manifest_sha256": DIGEST,
    "tasks": {"blimp": {"accuracy": 0.5}},
}
SHAPE = {"weights": ["embed"], "captures": {"val": {"activations": ["embed"], "gradients": ["head"], "n_samples": 8}}}
REVISIONS = {
    "schema_version": "1.2",
    "run_id": RUN_ID,
    "run_name": "demo",
    "shapes": [SHAPE],
    "revisions": [ENTRY | {"commit": COMMIT, "size": 7, "shape": 0, "samples_sha256": {"val": DIGEST}}],
    "set_aside": [
        ENTRY
        | {"manifest_sha256": "e" * 64, "commit": COMMIT, "size": 7, "shape": 0, "reason": "it went on from step 2"}
    ],
}
DOCUMENTS: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "checkpoint": (CheckpointManifest, CHECKPOINT),
    "run": (RunManifest, RUN),
    "evaluation": (Evaluation, EVALUATION),
    "revisions": (RevisionIndex, REVISIONS),
}

WIDTH, COUNT, STEP, SEED, ROW = (1, 2**24), (0, 2**62), (0, 99_999_999), (0, 2**63 - 1), (0, 2**31 - 1)
NUMBERS: list[tuple[str, str, tuple[int | None, int | None]]] = [
    ("checkpoint", "step", STEP),
    ("checkpoint", "tokens_seen", COUNT),
    ("checkpoint", "seed", SEED),
    ("checkpoint", "data.n_rows", COUNT),
    ("checkpoint", "data.seq_len", WIDTH),
    ("checkpoint", "data.vocab_size", WIDTH),
    ("checkpoint", "cursor.epoch", COUNT),
    ("checkpoint", "cursor.row", COUNT),
    ("checkpoint", "cursor.batch_size", (1, 2**62)),
    ("checkpoint", "captures.0.n_rows", ROW),
    ("checkpoint", "captures.0.positions.0", ROW),
    ("checkpoint", "files.config.json.size", (0, 16 * 2**40)),
    ("checkpoint", "model.vocab_size", WIDTH),
    ("run", "model.n_layers", (1, 4096)),
    ("checkpoint", "model.d_ff", WIDTH),
    ("checkpoint", "model.max_seq_len", WIDTH),
    ("run", "seed", SEED),
    ("run", "checkpoints.0.step", STEP),
    ("run", "checkpoints.0.tokens_seen", COUNT),
    ("run", "changes.0.step", STEP),
    ("run", "validation.size", (0, 16 * 2**40)),
    ("run", "validation.n_rows", COUNT),
    ("evaluation", "step", STEP),
    ("revisions", "revisions.0.step", STEP),
    ("revisions", "revisions.0.size", COUNT),
    ("revisions", "revisions.0.shape", (0, None)),
    ("revisions", "set_aside.0.step", STEP),
    ("revisions", "set_aside.0.size", COUNT),
    ("revisions", "shapes.0.captures.val.n_samples", (0, None)),
]
LENGTHS = [
    ("checkpoint", "producer.name", 100),
    ("checkpoint", "producer.version", 100),
    ("checkpoint", "data.source", 2000),
    ("revisions", "shapes.0.weights.0", 100),
    ("revisions", "shapes.0.captures.val.activations.0", 100),
    ("revisions", "shapes.0.captures.val.gradients.0", 100),
    ("revisions", "set_aside.0.reason", 1000),
]
DIGESTS = [
    ("checkpoint", "run_id", 32),
    ("checkpoint", "data.sha256", 64),
    ("checkpoint", "files.config.json.sha256", 64),
    ("checkpoint", "captures.0.samples_sha256", 64),
    ("run", "id", 32),
    ("run", "checkpoints.0.manifest_sha256", 64),
    ("evaluation", "manifest_sha256", 64),
    ("revisions", "revisions.0.commit", 40),
    ("revisions", "revisions.0.samples_sha256.val", 64),
    ("revisions", "set_aside.0.manifest_sha256", 64),
    ("revisions", "set_aside.0.commit", 40),
]


def read_with(kind: str, field: str, value: object) -> object:
    """Read a document in which one field has this value; returns what was read there."""
    model, fields = DOCUMENTS[kind]
    content = copy.deepcopy(json.loads(json.dumps(fields, default=str)))
    names = ["files", "config.json", field.rpartition(".")[2]] if "config.json" in field else field.split(".")
    *path, last = (int(name) if name.isdecimal() else name for name in names)
    place: Any = content
    for name in path:
        place = place[name]
    place[last] = value
    found: Any = documents.parse(json.dumps(content).encode(), model, where="here").model_dump(mode="json")
    for name in (*path, last):
        found = found[name]
    return found


def refused(kind: str, field: str, value: object) -> None:
    with pytest.raises(DocumentError, match=f"^here: {field}: "):
        read_with(kind, field, value)


@pytest.mark.parametrize(("kind", "field", "bounds"), NUMBERS)
def test_a_number_is_read_up_to_its_bounds_and_refused_beyond_them(
    kind: str, field: str, bounds: tuple[int | None, int | None]
) -> None:
    least, most = bounds
    if least is not None:
        assert read_with(kind, field, least) == least
        refused(kind, field, least - 1)
    if most is not None:
        assert read_with(kind, field, most) == most
        refused(kind, field, most + 1)


@pytest.mark.parametrize(("kind", "field", "longest"), LENGTHS)
def test_a_text_is_read_up_to_its_length_and_refused_beyond_it(kind: str, field: str, longest: int) -> None:
    assert read_with(kind, field, "ü" * longest) == "ü" * longest
    refused(kind, field, "ü" * (longest + 1))


@pytest.mark.parametrize(("kind", "field", "digits"), DIGESTS)
def test_a_digest_has_its_number_of_lower_case_hexadecimal_digits(kind: str, field: str, digits: int) -> None:
    good = "0f" * (digits // 2)
    assert read_with(kind, field, good) == good
    for bad in (good[1:], good + "0", good.upper(), "g" + good[1:], good + "\n"):
        refused(kind, field, bad)


@pytest.mark.parametrize("field", ["d_model", "n_heads", "n_kv_heads"])
def test_heads_and_widths_have_the_same_bounds_as_other_dimensions(field: str) -> None:
    # Here other numbers have to fit: as many heads as a model may have, two features each, take half the width.
    largest = {"d_model": 2**24, "n_heads": 2**23, "n_kv_heads": 2**23}
    model = dict(CHECKPOINT["model"])
    assert read_with("checkpoint", "model", model | largest)
    for beyond in (0, 2**24 + 2):
        with pytest.raises(DocumentError, match=rf"^here: model\.{field}: "):
            read_with("checkpoint", "model", model | {field: beyond})


@pytest.mark.parametrize(("field", "bounds"), [("rope_theta", (1.0, 1e12)), ("norm_eps", (1e-30, 1 - 2**-53))])
def test_base_and_epsilon_have_bounds(field: str, bounds: tuple[float, float]) -> None:
    for value in bounds:
        assert read_with("checkpoint", f"model.{field}", value) == value
    for beyond in (bounds[0] * 0.999, bounds[1] * 1.001):
        refused("checkpoint", f"model.{field}", beyond)


@pytest.mark.parametrize(("kind", "field"), [("checkpoint", "run_name"), ("run", "name"), ("revisions", "run_name")])
def test_the_name_of_a_run_is_one_that_can_be_a_directory_and_a_branch(kind: str, field: str) -> None:
    assert read_with(kind, field, "a" * 96) == "a" * 96
    for bad in ("../x", "a" * 97, ""):
        with pytest.raises(DocumentError, match=r"^here: run name"):
            read_with(kind, field, bad)


def test_a_checkpoint_may_have_so_many_files_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    assert manifest.MAX_FILES == 100_000
    monkeypatch.setattr(manifest, "MAX_FILES", 3)
    files = dict(CHECKPOINT["files"])
    assert len(files) == 3 and read_with("checkpoint", "files", files) == files
    with pytest.raises(DocumentError, match=r"^here: document: Value error, 4 files are more than the 3 a checkpoint"):
        read_with("checkpoint", "files", files | {"one.more": files["config.json"]})


def test_an_index_may_list_a_hundred_thousand_revisions() -> None:
    schema = RevisionIndex.model_json_schema()
    assert read_with("revisions", "revisions", []) == []
    assert schema["properties"]["revisions"]["maxItems"] == 100_000
    assert schema["properties"]["set_aside"]["maxItems"] == 100_000


def test_the_path_of_a_capture_may_be_as_long_as_a_file_of_the_checkpoint() -> None:
    longest = "/".join(["a" * 204] * 5)
    assert len(longest) == 1024
    fields = fields_of_a_checkpoint({longest: b""}, captures=[CAPTURE | {"file": longest}])
    assert CheckpointManifest.model_validate(fields).captures[0].file == longest
    refused("checkpoint", "captures.0.file", "a" * 1025)


def test_what_a_model_does_not_say_has_these_values() -> None:
    read: Any = read_with("checkpoint", "model", CHECKPOINT["model"])
    assert {key: value for key, value in read.items() if key not in CHECKPOINT["model"]} == {
        "architecture": "llama",
        "max_seq_len": 2048,
        "rope_theta": 10_000.0,
        "norm_eps": 1e-6,
        "tie_embeddings": False,
    }
