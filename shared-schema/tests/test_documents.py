from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import FILES, checkpoint_fields
from hypothesis import given
from hypothesis import strategies as st

from pico_schema import (
    SCHEMA_VERSION,
    CheckpointEntry,
    CheckpointManifest,
    DocumentError,
    IncompleteError,
    RunManifest,
    SchemaVersionError,
    UnsafePathError,
    ValidationRows,
    documents,
    layout,
    read_checkpoint,
    read_run,
    verify_checkpoint,
)


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_document_reads_back_as_it_was_written(checkpoint: Path) -> None:
    manifest = read_checkpoint(checkpoint)
    assert manifest == CheckpointManifest.model_validate(checkpoint_fields(FILES))
    assert documents.parse(documents.dump(manifest), CheckpointManifest, where="here") == manifest


@given(st.dictionaries(st.text(max_size=5), st.floats() | st.integers() | st.text(max_size=5), max_size=4))
def test_non_finite_numbers_become_null_since_json_has_none(config: dict[str, Any]) -> None:
    fields = checkpoint_fields() | {"id": "ab" * 16, "name": "demo", "config": config}
    written = json.loads(documents.dump(RunManifest.model_validate(fields)))
    for key, value in config.items():
        finite = not isinstance(value, float) or value - value == 0
        assert written["config"][key] == (value if finite else None)


def test_a_sound_checkpoint_has_no_findings(checkpoint: Path) -> None:
    seen: list[str] = []
    assert verify_checkpoint(checkpoint, progress=seen.append) == []
    assert set(seen) == set(FILES)


@pytest.mark.parametrize("path", list(FILES))
@pytest.mark.parametrize("damage", ["missing", "truncated", "longer", "altered"])
def test_each_damage_to_each_file_is_found_and_named(checkpoint: Path, path: str, damage: str) -> None:
    file, content = checkpoint / path, FILES[path]
    if damage == "missing":
        file.unlink()
    elif damage == "truncated":
        file.write_bytes(content[:-1])
    elif damage == "longer":
        file.write_bytes(content + b"x")
    else:
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    findings = verify_checkpoint(checkpoint)
    assert [(item.problem, item.path) for item in findings] == [("truncated" if damage == "longer" else damage, path)]


def test_all_that_is_wrong_is_found_and_said(checkpoint: Path) -> None:
    manifest = CheckpointManifest.model_validate(
        checkpoint_fields({"a": b"missing", "b": b"out", "c": b"short", "d": b"other", "e": b"gone", "f": b"sound"})
    )
    (checkpoint / "b").symlink_to(checkpoint.parents[2] / "outside")
    for name, content in {"c": b"shor", "d": b"Other", "f": b"sound", "g": b"more", "config.json": b"{}"}.items():
        (checkpoint / name).write_bytes(content)
    assert [(item.problem, item.detail) for item in verify_checkpoint(checkpoint, manifest)] == [
        ("missing", "a is missing"),
        ("unsafe", f"path 'b' leaves {checkpoint} through a symbolic link: refusing to use it"),
        ("truncated", "c has 4 bytes, the manifest says 5"),
        ("altered", "d does not have the content that was sealed"),
        ("missing", "e is missing"),
        ("unexpected", "captures/train.safetensors is not in the manifest"),
        ("unexpected", "config.json is not in the manifest"),
        ("unexpected", "g is not in the manifest"),
        ("unexpected", "model.safetensors is not in the manifest"),
    ]


def test_a_file_that_nobody_listed_is_unexpected(checkpoint: Path) -> None:
    (checkpoint / "captures" / "extra.bin").write_bytes(b"x")
    assert [(item.problem, item.path) for item in verify_checkpoint(checkpoint)] == [
        ("unexpected", "captures/extra.bin")
    ]


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="file names are text there")
def test_a_file_whose_name_is_no_text_is_named_as_it_can_be_shown(checkpoint: Path) -> None:
    for name in (b"x\xff", b"a\x1b[2J"):
        Path(os.fsdecode(bytes(checkpoint) + b"/" + name)).write_bytes(b"x")
    assert {item.path for item in verify_checkpoint(checkpoint)} == {r"x\udcff", r"a\x1b[2J"}


def test_a_listed_file_that_is_a_link_out_is_unsafe(checkpoint: Path) -> None:
    outside = checkpoint.parents[2] / "outside"
    outside.write_bytes(FILES["config.json"])
    (checkpoint / "config.json").unlink()
    (checkpoint / "config.json").symlink_to(outside)
    assert ("unsafe", "config.json") in [(item.problem, item.path) for item in verify_checkpoint(checkpoint)]


def test_a_checkpoint_without_a_manifest_is_incomplete(checkpoint: Path) -> None:
    (checkpoint / layout.MANIFEST).unlink()
    with pytest.raises(IncompleteError, match="no manifest"):
        read_checkpoint(checkpoint)


def test_a_directory_that_is_no_run_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(IncompleteError, match=r"has no run\.json"):
        read_run(tmp_path)


def test_a_newer_major_version_is_refused_with_the_upgrade_command(checkpoint: Path) -> None:
    edit(checkpoint / layout.MANIFEST, schema_version="2.0")
    with pytest.raises(SchemaVersionError, match="pip install --upgrade"):
        read_checkpoint(checkpoint)


def test_a_newer_minor_version_is_read_and_its_new_fields_ignored(checkpoint: Path) -> None:
    edit(checkpoint / layout.MANIFEST, schema_version="1.9", sparkle={"a": 1})
    assert read_checkpoint(checkpoint).step == 3


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not valid JSON"),
        (b"[]", "JSON object"),
        (b"{}", "no schema_version"),
        (b'{"schema_version": "one"}', "MAJOR.MINOR"),
        (b'{"schema_version": "1.0", "kind": "run"}', "checkpoint document was expected"),
        (b'{"schema_version": "1.0"}', "Field required"),
        (b"[" * 100_000, "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b'{"schema_version": "1.0", "step": 1, "step": 2}', "key 'step' is there twice"),
        (b'{"schema_version": "1.0", "metrics": {"val_loss": NaN}}', "NaN is not finite"),
        (b'{"schema_version": "1.0", "step": 1' + b"0" * 400 + b"}", "401 digits"),
        (b'{"schema_version": "1.0", "run_name": "\\ud83d"}', "half a surrogate pair"),
        (b'{"schema_version": "1.0", "extra": ' + b"[" * 900 + b"]" * 900 + b"}", "Field required|nested|recursion"),
    ],
)
def test_what_is_no_manifest_is_refused_in_a_sentence(checkpoint: Path, content: bytes, says: str) -> None:
    (checkpoint / layout.MANIFEST).write_bytes(content)
    with pytest.raises(DocumentError, match=says) as caught:
        read_checkpoint(checkpoint)
    assert str(checkpoint) in str(caught.value)


def test_a_document_beyond_the_bound_is_refused(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MAX_DOCUMENT", 100)
    with pytest.raises(DocumentError, match="too large"):
        read_checkpoint(checkpoint)


@pytest.mark.parametrize("path", ["../../evil", "/etc/passwd", "a\0b"])
def test_a_manifest_that_points_outside_is_refused(checkpoint: Path, path: str) -> None:
    files = {path: {"size": 1, "sha256": "0" * 64}}
    edit(checkpoint / layout.MANIFEST, files=files)
    with pytest.raises(UnsafePathError):
        read_checkpoint(checkpoint)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"files": {"a": {"size": 10**16, "sha256": "0" * 64}}}, "less than or equal"),
        ({"files": {"a": {"size": -1, "sha256": "0" * 64}}}, "greater than or equal"),
        ({"step": -1}, "step"),
        ({"run_name": "../x"}, "run name"),
        ({"weights": {"nonsense": "x"}}, "is not a site"),
        ({"weights": {"layers.2.attn.q": "x"}}, r"does not exist: the model has layers 0 to 1"),
        ({"weights": {"layers.1.resid": "x"}}, "has no weight"),
        ({"step": "3"}, "step: Input should be a valid integer"),
        ({"step": True}, "step: Input should be a valid integer"),
        ({"step": 3.0}, "step: Input should be a valid integer"),
        ({"cursor": {"epoch": 0, "row": 2**63, "batch_size": 4}}, r"cursor\.row: Input should be less than"),
        ({"cursor": {"epoch": 0, "row": 0, "batch_size": 2**64 - 1}}, r"cursor\.batch_size: Input should be less than"),
        ({"metrics": {"val_loss": "low"}}, r"metrics\.val_loss"),
        ({"metrics": {"\x1b[2J": "low"}}, r"metrics\.\\x1b\[2J"),
        ({"files": {"a/" * 3 + "b" * 256: {"size": 1, "sha256": "0" * 64}}}, "not a plain relative path"),
        ({"files": ["model.safetensors"]}, "files: Input should be an object"),
    ],
)
def test_impossible_values_are_refused(checkpoint: Path, changes: dict[str, Any], says: str) -> None:
    edit(checkpoint / layout.MANIFEST, **changes)
    with pytest.raises((DocumentError, ValueError), match=says):
        read_checkpoint(checkpoint)


def test_a_capture_must_be_among_the_files(checkpoint: Path) -> None:
    capture = {
        "split": "val",
        "file": "captures/val.safetensors",
        "dtype": "float32",
        "n_rows": 4,
        "positions": [1, 7],
        "samples_sha256": "0" * 64,
    }
    edit(checkpoint / layout.MANIFEST, captures=[capture])
    with pytest.raises(DocumentError, match="not among the files"):
        read_checkpoint(checkpoint)
    edit(checkpoint / layout.MANIFEST, captures=[capture | {"file": "captures/train.safetensors"}])
    found = read_checkpoint(checkpoint).capture("val")
    assert found is not None and found.n_samples == 8


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"activations": ["layers.2.attn.v"]}, "does not exist"),
        ({"gradients": ["layers.0.resid"]}, "has no weight"),
        ({"n_rows": 2**31}, r"captures\.0\.n_rows: Input should be less than"),
        ({"positions": [2**31]}, r"captures\.0\.positions\.0: Input should be less than"),
        ({"dtype": ["F32"]}, r"captures\.0\.dtype"),
    ],
)
def test_a_capture_that_no_model_could_have_is_refused(checkpoint: Path, changes: dict[str, Any], says: str) -> None:
    own = {"split": "train", "file": "captures/train.safetensors", "dtype": "float32", "n_rows": 4, "positions": [1]}
    edit(checkpoint / layout.MANIFEST, captures=[own | {"samples_sha256": "0" * 64} | changes])
    with pytest.raises(DocumentError, match=says):
        read_checkpoint(checkpoint)


def test_a_checkpoint_directory_that_is_a_link_is_refused(checkpoint: Path) -> None:
    """It would be read as a checkpoint of this run, and may be one of another or change behind its seal."""
    link = checkpoint.with_name("step-00000004")
    link.symlink_to(checkpoint)
    manifest = read_checkpoint(checkpoint)
    for read in (read_checkpoint, verify_checkpoint, lambda directory: verify_checkpoint(directory, manifest)):
        with pytest.raises(UnsafePathError, match="step-00000004: a symbolic link"):
            read(link)


def test_a_manifest_that_is_a_link_out_of_its_checkpoint_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    """Whoever can change what it leads to can change what was sealed."""
    manifest = documents.read_checkpoint(checkpoint)
    outside = tmp_path / "outside.json"
    (checkpoint / layout.MANIFEST).rename(outside)
    (checkpoint / layout.MANIFEST).symlink_to(outside)
    with pytest.raises(UnsafePathError, match=r"'manifest.json' leaves .* through a symbolic link"):
        documents.read_checkpoint(checkpoint)
    for known in (manifest, None):
        with pytest.raises(UnsafePathError, match="through a symbolic link"):
            documents.verify_checkpoint(checkpoint, known)


def test_links_in_a_circle_are_unsafe(checkpoint: Path) -> None:
    (checkpoint / "config.json").unlink()
    (checkpoint / "config.json").symlink_to("captures/config.json")
    (checkpoint / "captures" / "config.json").symlink_to("../config.json")
    assert ("config.json") in [item.path for item in verify_checkpoint(checkpoint)]


def test_a_run_names_its_validation_rows_by_digest(run: Path) -> None:
    rows = {"size": 812, "sha256": "7" * 64, "n_rows": 4}
    edit(run / layout.RUN_MANIFEST, validation=rows)
    assert read_run(run).validation == ValidationRows.model_validate(rows)
    edit(run / layout.RUN_MANIFEST, validation=rows | {"sha256": "seven"})
    with pytest.raises(DocumentError, match=r"validation\.sha256"):
        read_run(run)


def test_a_run_written_before_validation_rows_were_stored_has_none(run: Path) -> None:
    path = run / layout.RUN_MANIFEST
    older = json.loads(path.read_text())
    del older["validation"]
    path.write_text(json.dumps(older | {"schema_version": "1.0"}))
    assert read_run(run).validation is None


@pytest.mark.parametrize("version", ["1.0", "1.9"])
def test_what_is_written_says_the_version_that_writes_it(run: Path, version: str) -> None:
    path = run / layout.RUN_MANIFEST
    edit(path, schema_version=version)
    found = read_run(run)
    assert found.schema_version == version
    documents.write(path, found)
    assert read_run(run) == found.model_copy(update={"schema_version": SCHEMA_VERSION})


def test_the_index_stays_sorted_and_replaces_a_step(run: Path) -> None:
    manifest = read_run(run)
    for step, digest in ((5, "1"), (2, "2"), (5, "3")):
        entry = CheckpointEntry(step=step, tokens_seen=step, manifest_sha256=digest * 64)
        manifest = manifest.with_checkpoint(entry)
    assert [(entry.step, entry.manifest_sha256[0]) for entry in manifest.checkpoints] == [(2, "2"), (5, "3")]


def test_checkpoint_directories_are_found_in_order_and_nothing_else(run: Path) -> None:
    for name in ("step-00000020", "step-00000001", "step-1", ".tmp-step-00000030", "step-00000040x"):
        (run / layout.CHECKPOINTS / name).mkdir()
    assert [step for step, _ in documents.checkpoint_dirs(run)] == [1, 3, 20]
