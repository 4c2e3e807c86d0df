"""Runs on a disk: Pico's own, whose files are sealed; folders of checkpoints; what is read of large ones."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from foreign import files, write
from lookalikes import PYTHIA_CONFIG, Branches, D, pythia
from synthetic import SPEC, list_manifest, make_run, weight_shape
from trainings import moving

import pico_analyze
from pico_analyze.auditing.audit import Audit, audit_store
from pico_analyze.auditing.sampling import MOST_ENTRIES, plan
from pico_analyze.stores.base import Store
from pico_analyze.stores.checked_file import CheckedFile
from pico_analyze.stores.opening import open_store
from pico_conformance import Hub
from pico_conformance.published import put_run
from pico_schema import FileEntry, documents, layout, sites
from pico_schema.digests import sha256_file
from pico_schema.tensor_header import TensorEntry

Audited = Callable[..., Audit]
STEPS = (0, 1, 2, 4, 8, 16)


@pytest.fixture
def pico_run(tmp_path: Path) -> Path:
    """A run of Pico whose weights are those of a training."""
    run = make_run(tmp_path / "runs", steps=STEPS)
    named = [site for site in sites.expand(sites.KINDS, SPEC.n_layers) if site.has_weight]
    shapes = {sites.llama_parameter(site): weight_shape(site, SPEC) for site in named}
    for step, weights in moving(shapes, list(STEPS)).items():
        directory = run / layout.checkpoint_dir(step)
        file = directory / layout.WEIGHTS
        file.write_bytes(files({}, weights)["model.safetensors"])
        manifest = documents.read_checkpoint(directory)
        entry = FileEntry(size=file.stat().st_size, sha256=sha256_file(file))
        manifest = manifest.model_copy(update={"files": manifest.files | {layout.WEIGHTS: entry}})
        documents.write(directory / layout.MANIFEST, manifest)
        list_manifest(run, step)
    return run


def weights_of(run: Path, step: int) -> Path:
    return run / layout.checkpoint_dir(step) / layout.WEIGHTS


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def only(audit: Audit) -> tuple[int | None, str, str, str]:
    assert len(audit.findings) == 1, [one.finding for one in audit.findings]
    (one,) = audit.findings
    return one.step, one.check, one.severity, one.finding


# -- sealed runs


def test_a_sound_run_of_pico_gives_nothing(pico_run: Path, audited: Audited) -> None:
    found = audited(pico_run)
    assert (found.run, found.n_checkpoints, found.findings) == ("demo", len(STEPS), ())
    assert "seals" in found.checks
    assert not audited(pico_run).findings


@pytest.mark.parametrize("name", [layout.WEIGHTS, "captures/val.safetensors", layout.MODEL_CONFIG])
def test_a_flipped_bit_in_a_sealed_run(pico_run: Path, audited: Audited, name: str) -> None:
    file = pico_run / layout.checkpoint_dir(4) / name
    flip(file) if file.stat().st_size > 3 else file.write_bytes(b"[]")
    found = [one for one in audited(pico_run).findings if one.check == "seals"]
    assert [(one.step, one.severity) for one in found] == [(4, "error")]
    assert found[0].finding.startswith(f"{name} of step 4: it does not have the sha256 ")
    assert {one.step for one in audited(pico_run).findings} == {4}


def test_what_a_run_lacks(pico_run: Path, audited: Audited) -> None:
    (pico_run / layout.checkpoint_dir(2) / layout.MODEL_CONFIG).unlink()
    shutil.rmtree(pico_run / layout.checkpoint_dir(8))
    found = {(one.step, one.check): one.finding for one in audited(pico_run).findings}
    assert set(found) == {(2, "seals"), (8, "complete")}
    assert "config.json of step 2: it is missing" in found[2, "seals"]
    assert "run.json lists it, but it is gone" in found[8, "complete"]


def test_a_manifest_that_was_altered_and_results_of_another_checkpoint(pico_run: Path, audited: Audited) -> None:
    path = pico_run / layout.checkpoint_dir(4) / layout.MANIFEST
    path.write_text(path.read_text().replace('"seed": 42', '"seed": 43'))
    step, check, severity, text = only(audited(pico_run))
    assert (step, check, severity) == (4, "complete", "error") and "it was altered" in text


def test_one_step_of_a_run_is_compared_with_its_seal(pico_run: Path) -> None:
    flip(weights_of(pico_run, 4))
    assert pico_analyze.audit(f"{pico_run}@4")["check"].tolist() == ["seals"]
    assert pico_analyze.audit(f"{pico_run}@2").empty


def test_a_published_run_is_compared_with_the_hubs_digests_without_a_download(
    pico_run: Path, hub: Hub, audited: Audited
) -> None:
    flip(weights_of(pico_run, 4))
    put_run(hub, pico_run, "tester/model")
    mark = hub.log.mark()
    found = audited("hf://tester/model@demo")
    seals = [one for one in found.findings if one.check == "seals"]
    assert [(one.step, one.severity) for one in seals] == [(4, "error")]
    assert seals[0].finding.startswith("model.safetensors of step 4 (demo-step-4): it does not have the sha256 ")
    assert {one.step for one in found.findings} == {4}
    assert hub.log.sent(since=mark) < len(STEPS) * 200_000
    mark = hub.log.mark()
    assert audited("hf://tester/model@demo", offline=True).findings == found.findings
    assert hub.log.count(since=mark) == 0


# -- folders of checkpoints


def folder(run: Branches, root: Path) -> Path:
    for step, name in run.names.items():
        write(root / name, run.content(step))
    return root


def test_a_folder_of_checkpoints_is_audited_as_its_repository_is(tmp_path: Path, audited: Audited) -> None:
    run = pythia()
    assert not audited(folder(run, tmp_path / "sound")).findings
    run.weights[1500] = run.weights[3000]
    run.weights[512] = pythia(seed=1).weights[512]
    found = audited(folder(run, tmp_path / "wrong"))
    assert [(one.step, one.check) for one in found.findings] == [(512, "trajectory"), (1500, "payloads")]
    assert "steps 1500 and 3000 hold the same weights, which fit step 3000" in found.findings[1].finding


def test_equal_numbers_in_other_bytes_are_the_same_weights(tmp_path: Path, audited: Audited) -> None:
    run = pythia()
    content = files(PYTHIA_CONFIG, run.weights[3000], shards=2)
    root = folder(run, tmp_path / "run")
    shutil.rmtree(root / "step1500")
    write(root / "step1500", content)
    found = audited(root)
    assert {one.step for one in found.findings} == {1500}
    assert "hold the same weights in every number that was compared" in found.findings[0].finding


def test_frozen_files_are_no_copies(tmp_path: Path, audited: Audited) -> None:
    run = pythia(shards=3)
    fixed = run.content(0)
    embedding = sorted(name for name in fixed if name.endswith(".safetensors"))[0]
    for step in run.names:
        run.more[step] = {embedding: fixed[embedding]}
    assert not audited(folder(run, tmp_path / "run")).findings


def test_no_file_of_a_folder_is_read_through_unless_two_agree(
    tmp_path: Path, audited: Audited, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, hashed = pythia(), []
    own = CheckedFile._read_through

    def read_through(self: CheckedFile, file: object) -> str:
        hashed.append(f"{self.path.parent.name}/{self.path.name}")
        return own(self, file)

    monkeypatch.setattr(CheckedFile, "_read_through", read_through)
    audited(folder(run, tmp_path / "sound"))
    assert not [name for name in hashed if name.endswith(".safetensors")]
    run.weights[1500] = run.weights[3000]
    audited(folder(run, tmp_path / "wrong"))
    assert sorted(name for name in hashed if name.endswith(".safetensors")) == [
        "step1500/model.safetensors",
        "step3000/model.safetensors",
    ]


# -- stores that say nothing of files


class Plain:
    """A store that answers what every store must, and no more."""

    def __init__(self, store: Store) -> None:
        self.kind, self.run, self.location = store.kind, store.run, store.location
        self.steps, self.unusable, self.spec, self.read = store.steps, store.unusable, store.spec, store.read
        self.samples, self.evaluations, self.provenance = store.samples, store.evaluations, store.provenance


def test_a_run_is_audited_through_any_store(tmp_path: Path) -> None:
    run = pythia()
    found = audit_store(Plain(open_store(folder(run, tmp_path / "sound"))))
    assert not found.findings and "documents" not in found.checks and "trajectory" in found.checks
    run.weights[1500] = run.weights[3000]
    run.weights[512] = pythia(seed=1).weights[512]
    found = audit_store(Plain(open_store(folder(run, tmp_path / "wrong"))))
    assert [(one.step, one.check) for one in found.findings] == [(512, "trajectory"), (1500, "payloads")]


# -- how much is read


def test_less_than_five_megabytes_of_a_step_are_read(hub: Hub, audited: Audited) -> None:
    """Models of 24 MB in two files."""
    vocab, steps = 40_000, [0, 1000, 2000, 3000]
    shapes = {"gpt_neox.embed_in.weight": (vocab, D), "embed_out.weight": (vocab, D)}
    shapes |= {f"gpt_neox.layers.{n}.attention.dense.weight": (D, D) for n in range(2)}
    shapes |= {f"gpt_neox.layers.{n}.mlp.dense_h_to_4h.weight": (2048, D) for n in range(2)}
    shapes |= {f"gpt_neox.layers.{n}.mlp.dense_4h_to_h.weight": (D, 2048) for n in range(2)}
    config = PYTHIA_CONFIG | {"vocab_size": vocab, "intermediate_size": 2048}
    run = Branches(moving(shapes, steps), config, "step{step}", shards=2)
    size = sum(len(content) for content in run.content(0).values())
    address = run.put(hub)
    mark = hub.log.mark()
    assert not audited(address).findings
    sent, requests = hub.log.sent(since=mark) / len(steps), hub.log.count(since=mark) / len(steps)
    assert size > 20e6 and sent < 4 * MOST_ENTRIES + 200_000 < 5e6
    assert requests < 25


def test_rows_are_shared_out_among_many_files() -> None:
    tensors = {}
    for shard in range(30):
        for kind in ("self_attn.o_proj", "mlp.down_proj"):
            entry = TensorEntry("BF16", (8192, 8192), 0, 2 * 8192**2)
            tensors[f"model.layers.{shard}.{kind}.weight"] = f"model-{shard:05d}.safetensors", entry
    chosen = plan(tensors, 154).slices
    assert len({one.group for one in chosen}) == 30
    assert sum(one.n * 8192 * 2 for one in chosen) < 4e6
    assert np.all([0 <= one.first < one.first + one.n <= 8192 for one in chosen])
