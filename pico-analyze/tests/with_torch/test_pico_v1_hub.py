"""Runs of Pico 1.0 on the Hub: weights, captures and results in commits of their own, a branch per run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pico_v1_run import write_pico_v1

import pico_analyze
from pico_analyze.errors import DataError, NotARunError, StorageError
from pico_analyze.stores.base import DATA, ReadOptions, Store
from pico_analyze.stores.hub.client import HubClient
from pico_analyze.stores.opening import open_store
from pico_conformance import Hub
from pico_conformance.faults import Fault
from pico_conformance.published import put_files

REPO, BRANCH = "tester/pico-decoder-tiny", "old-run"
Open = Callable[..., Store]


def put_pico_v1(hub: Hub, run: Path) -> None:
    """The commits that Pico 1.0 made, in its order: each step's model, state, captures of a split, results."""
    for step in (0, 10, 20):
        directory = run / "checkpoints" / f"step_{step}"
        model = {name: (directory / name).read_bytes() for name in ("config.json", "model.safetensors")}
        model["pico_decoder.py"] = b"raise SystemExit"
        put_files(hub, REPO, BRANCH, model, title=f"Saving HF Model -- Step {step}")
        state = {"fabric_checkpoint/state.pt": b"x" * step}
        put_files(hub, REPO, BRANCH, state, title=f"Saving Fabric Checkpoint -- Step {step}")
        for split in ("train", "val"):
            found = [path for path in (directory / "learning_dynamics").rglob(f"{split}_*") if path.is_file()]
            found += (directory / "learning_dynamics" / f"{split}_data").rglob("*.arrow")
            content = {path.relative_to(directory).as_posix(): path.read_bytes() for path in found}
            if any(name.endswith(".pt") for name in content):
                put_files(hub, REPO, BRANCH, content, title=f"Saving Learning Dynamics Data ({split}) -- Step {step}")
        results = {f"eval_results/step_{step}.json": json.dumps({"paloma": 100.0 - step}).encode()}
        put_files(hub, REPO, BRANCH, results, title=f"Saving Evaluation Results -- Step {step}")


@pytest.fixture
def hub_mode() -> str:
    return "lfs"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_pico_v1(tmp_path / "runs" / "old")


@pytest.fixture
def open_hub(tmp_path: Path) -> Open:
    def opened(address: str = f"hf://{REPO}@{BRANCH}", *, offline: bool = False) -> Store:
        return open_store(address, ReadOptions(offline=offline, cache_dir=tmp_path / "cache"))

    return opened


def test_each_step_is_read_from_the_commits_with_its_title(hub: Hub, run: Path, open_hub: Open) -> None:
    put_pico_v1(hub, run)
    local, store = open_store(run), open_hub()
    assert (store.kind, store.run) == ("hub", BRANCH)
    assert [info.step for info in store.steps()] == [0, 10, 20]
    for mine, theirs in zip(store.steps(), local.steps(), strict=True):
        assert mine.weights == theirs.weights and mine.tokens_seen is None
        assert {split: (held.activations, held.gradients) for split, held in mine.splits.items()} == {
            split: (held.activations, held.gradients) for split, held in theirs.splits.items()
        }
        for data in DATA:
            for split in (None,) if data == "weights" else tuple(mine.splits):
                for site in mine.sites(data, split):
                    expected = local.read(mine.step, split, data, site)
                    np.testing.assert_array_equal(store.read(mine.step, split, data, site), expected)
    assert store.evaluations() == {step: {"paloma": 100.0 - step} for step in (0, 10, 20)}
    for column in ("row", "position", "token_id"):
        assert store.samples(10, "train")[column].tolist() == local.samples(10, "train")[column].tolist()
    with pytest.raises(DataError, match="has no train captures"):
        store.samples(20, "train")


def test_a_metric_over_its_captures_is_that_of_the_local_run(hub: Hub, run: Path, tmp_path: Path) -> None:
    put_pico_v1(hub, run)
    frames = [
        pico_analyze.compute(
            "norm", place, data="gradients", split="val", out=tmp_path / name, cache_dir=tmp_path / "c"
        )
        for name, place in (("local", run), ("hub", f"hf://{REPO}@{BRANCH}"))
    ]
    keys = ["step", "site", "layer"]
    local, remote = (frame.sort_values(keys).reset_index(drop=True) for frame in frames)
    assert len(local) and local[[*keys, "value"]].equals(remote[[*keys, "value"]])


def test_one_step_a_step_that_is_not_there_and_no_network(hub: Hub, run: Path, open_hub: Open) -> None:
    put_pico_v1(hub, run)
    assert [info.step for info in open_hub(f"hf://{REPO}@{BRANCH}:step-10").steps()] == [10]
    with pytest.raises(NotARunError, match="no commit of the model of step 7: there are 0, 10, 20"):
        open_hub(f"hf://{REPO}@{BRANCH}:step-7")
    expected = open_hub().read(10, None, "weights", "layers.0.attn.o")
    mark = hub.log.mark()
    store = open_hub(offline=True)
    np.testing.assert_array_equal(store.read(10, None, "weights", "layers.0.attn.o"), expected)
    with pytest.raises(StorageError, match="--offline"):
        store.read(10, "val", "activations", "layers.0.attn.o")
    assert hub.log.count(since=mark) == 0


def test_a_step_saved_twice_is_the_newest_and_other_titles_are_passed_over(hub: Hub, run: Path, open_hub: Open) -> None:
    put_pico_v1(hub, run)
    put_files(hub, REPO, BRANCH, {"notes.txt": b"-- Step 30"}, title="Tidied up -- Step 30")
    later = (run / "checkpoints" / "step_20" / "model.safetensors").read_bytes()
    put_files(hub, REPO, BRANCH, {"model.safetensors": later}, title="Saving HF Model -- Step 10")
    store = open_hub()
    assert [info.step for info in store.steps()] == [0, 10, 20]
    np.testing.assert_array_equal(
        store.read(10, None, "weights", "layers.0.attn.o"), store.read(20, None, "weights", "layers.0.attn.o")
    )


def test_a_hub_that_gives_fewer_commits_than_it_is_asked_for_is_asked_on(
    hub: Hub, run: Path, open_hub: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_pico_v1(hub, run)
    asked = HubClient._get
    monkeypatch.setattr(
        HubClient, "_get", lambda self, url, limit: asked(self, url.replace("limit=1000", "limit=2"), limit)
    )
    assert [info.step for info in open_hub().steps()] == [0, 10, 20]


def test_a_pickle_that_was_damaged_on_its_way_is_not_opened(hub: Hub, run: Path, open_hub: Open) -> None:
    put_pico_v1(hub, run)
    store = open_hub()
    store.steps()
    hub.faults.add(Fault("lfs/|objects|cdn", kind="flip", times=1000, at=0.5))
    with pytest.raises((DataError, StorageError)):
        store.read(10, "val", "activations", "layers.0.attn.o")
