"""Samples of a published run: those of the local one, from few requests, proven."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from published import REPO

from pico_analyze.errors import DataError, StorageError
from pico_analyze.stores.base import Store
from pico_analyze.stores.opening import open_store
from pico_conformance import Fault, Hub
from pico_conformance.published import put_files, put_run
from pico_schema import documents, layout, read_run
from pico_schema.digests import sha256_file

Open = Callable[..., Store]


@pytest.mark.parametrize("hub_mode", ["lfs", "xet"])
@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.usefixtures("hub", "commits")
def test_they_are_those_of_the_local_run(run: Path, open_run: Open, split: str) -> None:
    here, there = open_store(run), open_run()
    for step in (0, 2, 4):
        assert there.samples(step, split).equals(here.samples(step, split))
        assert there.positions(step, split) == here.positions(step, split) > 1
    assert open_run(f"hf://{REPO}@demo-step-2").samples(2, split).equals(here.samples(2, split))


@pytest.mark.usefixtures("commits")
def test_they_take_few_requests_and_the_rows_are_fetched_once(hub: Hub, open_run: Open) -> None:
    store = open_run()
    store.steps()
    mark = hub.log.mark()
    store.samples(2, "val")
    # manifest, run.json, header of the captures, rows, tokenizer (two ranges); each is redirected to the storage or not
    assert hub.log.count("/resolve/", since=mark) <= 8
    assert hub.log.sent(since=mark) < 128 * 1024
    mark = hub.log.mark()
    store.samples(4, "val")
    assert hub.log.count("validation", since=mark) == hub.log.count("tokenizer", since=mark) == 0
    assert hub.log.sent(since=mark) < 48 * 1024


@pytest.mark.usefixtures("hub", "commits")
def test_what_was_read_online_is_there_offline(open_run: Open) -> None:
    online = open_run().samples(2, "val")
    assert open_run(offline=True).samples(2, "val").equals(online)
    with pytest.raises(StorageError, match="--offline"):
        open_run(offline=True).samples(2, "train")


@pytest.mark.usefixtures("commits")
def test_rows_that_were_altered_on_the_hub_are_refused(hub: Hub, run: Path, open_run: Open) -> None:
    content = bytearray((run / layout.VALIDATION_ROWS).read_bytes())
    content[len(content) // 2] ^= 1
    put_files(hub, REPO, "demo", {layout.VALIDATION_ROWS: bytes(content)})
    with pytest.raises(DataError, match="does not have the sha256"):
        open_run().samples(2, "val")


@pytest.mark.parametrize("file", [layout.captures_file("val"), layout.VALIDATION_ROWS])
@pytest.mark.usefixtures("commits", "quick")
def test_a_flipped_bit_on_the_way_is_noticed_and_asked_for_again(
    hub: Hub, run: Path, open_run: Open, file: str
) -> None:
    path = run / (file if file == layout.VALIDATION_ROWS else f"{layout.checkpoint_dir(2)}/{file}")
    hub.faults.add(Fault(f"GET /_cdn/.*{sha256_file(path)}", "flip", at=0.003))
    assert open_run().samples(2, "val").equals(open_store(run).samples(2, "val"))
    assert hub.log.count(f"/_cdn/.*{sha256_file(path)}") > 1


def test_a_run_published_before_rows_were_stored_says_what_to_do(hub: Hub, run: Path, open_run: Open) -> None:
    documents.write(run / layout.RUN_MANIFEST, read_run(run).model_copy(update={"validation": None}))
    put_run(hub, run, REPO)
    with pytest.raises(DataError, match="made before validation rows were stored: resume it once"):
        open_run().samples(2, "val")
    assert len(open_run().samples(2, "train")) == 24


def test_a_revision_that_lacks_its_documents_is_named(hub: Hub, run: Path, open_run: Open) -> None:
    put_run(hub, run, REPO)
    put_files(hub, REPO, "demo", {layout.RUN_MANIFEST: b"{}"})
    with pytest.raises(DataError, match=r"run\.json: no schema_version"):
        open_run().samples(2, "val")
