"""Reading a published run: the same as the local one, from few requests, each byte once."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from published import REPO, read_all

from pico_analyze.errors import DataError, NotARunError, StorageError, UsageError
from pico_analyze.stores.base import Store
from pico_analyze.stores.opening import ReadOptions, open_store
from pico_conformance import Hub
from pico_conformance.published import put_files, put_run
from pico_conformance.runs import write_run
from pico_schema import ModelSpec, RevisionIndex, documents, layout

Open = Callable[..., Store]


def read_index(content: bytes) -> RevisionIndex:
    return documents.parse(content, RevisionIndex, where="the test")


@pytest.mark.parametrize("hub_mode", ["lfs", "xet"])
@pytest.mark.usefixtures("commits")
def test_a_published_run_is_the_local_run(run: Path, open_run: Open) -> None:
    here, there = open_store(run), open_run()
    assert there.kind == "hub" and there.run == here.run == "demo"
    assert there.steps() == here.steps()
    assert there.unusable() == ()
    assert there.evaluations() == here.evaluations()
    assert there.spec(4) == here.spec(4)
    mine, theirs = read_all(here), read_all(there)
    assert mine.keys() == theirs.keys() and len(mine) == 4 * (17 + 4 * 6)
    assert all(np.array_equal(mine[key], theirs[key]) for key in mine)


def test_the_commit_stands_in_the_provenance(run: Path, commits: list[str], open_run: Open) -> None:
    store = open_run()
    assert [store.provenance(step)["commit"] for step in (0, 1, 2, 4)] == commits
    assert store.provenance(2).items() >= open_store(run).provenance(2).items()
    assert store.provenance(2)["repo"] == REPO


@pytest.mark.parametrize("address", [f"hf://{REPO}@demo:step-2", f"hf://{REPO}@demo-step-2"])
def test_one_step_by_name(commits: list[str], open_run: Open, address: str) -> None:
    store = open_run(address)
    assert [info.step for info in store.steps()] == [2]
    assert store.provenance(2)["commit"] == commits[2]
    assert store.location == f"hf://{REPO}@{commits[2]}:step-2"
    assert set(store.evaluations()) == {2}


def test_a_location_opens_the_very_same_run_later(hub: Hub, commits: list[str], open_run: Open) -> None:
    store = open_run()
    put_files(hub, REPO, "demo", {layout.REVISIONS: b"{}"})
    again = open_run(store.location)
    assert again.steps() == store.steps() and again.location == store.location
    assert open_run(f"hf://{REPO}@{commits[-1]}:step-1").provenance(1)["commit"] == commits[1]


@pytest.mark.usefixtures("commits")
def test_the_training_state_is_never_asked_for(hub: Hub, open_run: Open) -> None:
    read_all(open_run())
    paths = {request.path.split("/resolve/")[-1].split("/", 1)[-1] for request in hub.log.matching("/resolve/")}
    assert paths == {
        "revisions.json",
        "manifest.json",
        "model.safetensors",
        *map(layout.captures_file, ("train", "val")),
    }


def test_code_in_a_pickle_is_not_run(hub: Hub, run: Path, tmp_path: Path, open_run: Open) -> None:
    import pickle

    trap, mark = tmp_path / "trap", hub.log.mark()

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return __import__("os").mkdir, (str(trap),)

    bomb = pickle.dumps(Trap())
    put_run(hub, run, REPO)
    put_files(hub, REPO, "demo", {"pytorch_model.bin": bomb, "training_state/state.pt": bomb})
    put_files(hub, REPO, "plain", {"config.json": b"{}", "pytorch_model.bin": bomb})
    read_all(open_run(f"hf://{REPO}@demo"))
    with pytest.raises(DataError, match=r"its weights are pickled \(pytorch_model\.bin\)"):
        open_run(f"hf://{REPO}@plain")
    assert not trap.exists()
    assert hub.log.count("pytorch_model.bin|state.pt", since=mark) == 0


class TestTraffic:
    """Counted by the Hub's log."""

    def test_one_matrix_of_small_moves_itself_and_little_more(self, hub: Hub, tmp_path: Path) -> None:
        """The preset's geometry but for the vocabulary: as many tensors, of the same shapes."""
        small = ModelSpec(vocab_size=512, d_model=384, n_layers=12, n_heads=12, n_kv_heads=4, d_ff=1536, max_seq_len=16)
        run = write_run(tmp_path / "small", steps=(128,), spec=small, n_samples=512)
        put_run(hub, run, REPO)
        for split, data, site in [(None, "weights", "layers.3.attn.q"), ("val", "activations", "layers.7.mlp.down")]:
            mark = hub.log.mark()
            store = open_store(f"hf://{REPO}@demo:step-128", ReadOptions(cache_dir=tmp_path / f"cache-{data}"))
            tensor = store.read(128, split, data, site)  # type: ignore[arg-type]
            assert hub.log.sent(since=mark) <= tensor.nbytes + 128 * 1024
            assert tensor.nbytes > 500_000

    def test_two_hundred_revisions_are_listed_with_few_requests(self, hub: Hub, tmp_path: Path, open_run: Open) -> None:
        (commit,) = put_run(hub, write_run(tmp_path / "long", steps=(0,)), REPO)
        repository = hub.repository("models", REPO)
        index = read_index(repository.blob(repository.find(commit, layout.REVISIONS)["oid"]))
        (first,) = index.revisions
        more = [first.model_copy(update={"step": step, "commit": commit}) for step in range(1, 200)]
        index = index.model_copy(update={"revisions": (first.model_copy(update={"commit": commit}), *more)})
        put_files(hub, REPO, "demo", {layout.REVISIONS: documents.dump(index)})
        tags = "".join(f"create refs/tags/demo-step-{step} {commit}\n" for step in range(1, 200))
        repository.git("update-ref", "--stdin", data=tags.encode())
        mark = hub.log.mark()
        store = open_run()
        assert len(store.steps()) == 200 and not store.unusable() and len(store.evaluations()) == 200
        assert hub.log.count(since=mark) <= 3

    def test_nothing_is_read_twice(self, hub: Hub, tmp_path: Path, open_run: Open) -> None:
        run = write_run(tmp_path / "fifty", steps=range(50), n_samples=200)
        put_run(hub, run, REPO)
        mark = hub.log.mark()
        cache = tmp_path / "cache"
        code = "from pico_analyze.cli.app import main; main()"
        words = ["compute", "cka", f"hf://{REPO}@demo", "--no-plot", "--format", "json", "--cache-dir", str(cache)]
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0 and len(json.loads(done.stdout)) == 50 * 6, done.stderr
        seen = Counter((request.path, request.range) for request in hub.log.matching("/_cdn/|/resolve/", since=mark))
        assert [key for key, count in seen.items() if count > 1] == []
        per_file: dict[str, list[tuple[int, int]]] = {}
        for request in hub.log.matching("/_cdn/", since=mark):
            first, last = str(request.range).removeprefix("bytes=").split("-")
            per_file.setdefault(request.path, []).append((int(first), int(last)))
        assert len(per_file) == 50
        for spans in per_file.values():
            spans.sort()
            assert all(a[1] < b[0] for a, b in itertools.pairwise(spans)), "ranges overlap"
        mark = hub.log.mark()
        again = open_run()
        again.read(3, "val", "activations", "layers.0.attn.v")
        assert hub.log.count(since=mark) == 1, "a second analysis asks for the refs alone"

    def test_equal_files_of_different_steps_are_stored_once(self, hub: Hub, tmp_path: Path, open_run: Open) -> None:
        run = write_run(tmp_path / "twice", steps=(0,))
        put_run(hub, run, REPO)
        put_run(hub, write_run(tmp_path / "copy", steps=(0,)), "tester/copy")
        read_all(open_run())
        mark = hub.log.mark()
        read_all(open_run("hf://tester/copy@demo"))
        assert hub.log.count("/_cdn/", since=mark) == 0


class TestCache:
    @pytest.mark.usefixtures("commits")
    def test_offline_reads_what_was_read_before(self, hub: Hub, open_run: Open) -> None:
        online = open_run()
        before = {site: online.read(2, "val", "activations", site) for site in ("layers.0.attn.v", "layers.1.attn.o")}
        hub.stop()
        offline = open_run(offline=True)
        assert offline.steps() == online.steps()
        for site, values in before.items():
            assert np.array_equal(offline.read(2, "val", "activations", site), values)
        with pytest.raises(StorageError, match=r"--offline: .* is not in the cache: read it online once"):
            offline.read(1, "val", "activations", "layers.0.attn.v")
        with pytest.raises(StorageError, match="was never listed on this machine"):
            open_run("hf://tester/other@demo", offline=True)

    @pytest.mark.usefixtures("commits")
    def test_the_cache_keeps_its_bound(self, run: Path, tmp_path: Path) -> None:
        limit = 60_000
        options = ReadOptions(cache_dir=tmp_path / "small", cache_gb=limit / 2**30)
        store = open_store(f"hf://{REPO}@demo", options)
        mine = read_all(open_store(run))
        for _ in range(2):
            theirs = read_all(store)
            assert all(np.array_equal(mine[key], theirs[key]) for key in mine)
        kept = sum(path.stat().st_size for path in (tmp_path / "small" / "blocks").rglob("*") if path.is_file())
        assert kept <= limit * 1.1

    @pytest.mark.usefixtures("commits")
    def test_a_damaged_cache_is_read_again(self, run: Path, options: ReadOptions, open_run: Open) -> None:
        read_all(open_run())
        assert options.cache_dir is not None
        for path in (options.cache_dir / "blocks").rglob("*-*"):
            raw = bytearray(path.read_bytes())
            raw[-1] ^= 1
            path.write_bytes(raw)
        mine, theirs = read_all(open_store(run)), read_all(open_run())
        assert all(np.array_equal(mine[key], theirs[key]) for key in mine)


class TestBadInput:
    def test_an_address_that_is_none(self, open_run: Open) -> None:
        for address in ("hf://", "hf://model", "hf://a/b/c", "hf://../x@y", "hf://a/b@x y", "hf://a/b@c:step-x"):
            with pytest.raises(UsageError, match="is not an address on the Hub"):
                open_run(address)

    @pytest.mark.usefixtures("commits")
    def test_a_branch_that_is_not_there_names_the_nearest(self, open_run: Open) -> None:
        with pytest.raises(NotARunError, match="did you mean 'demo'"):
            open_run(f"hf://{REPO}@dmo")
        with pytest.raises(DataError, match=r"no published checkpoint of step 3: there are 0, 1, 2, 4"):
            open_run(f"hf://{REPO}@demo:step-3")
        with pytest.raises(UsageError, match="tag demo-step-1 is step 1, not step 2"):
            open_run(f"hf://{REPO}@demo-step-1:step-2")
        with pytest.raises(NotARunError, match="the Hub shows no repository tester/none"):
            open_run("hf://tester/none@demo")

    @pytest.mark.parametrize(
        ("files", "said"),
        [
            ({"checkpoints/step_0/model.safetensors": b"x"}, "a run of Pico 1.0"),
            ({"learning_dynamics/val_activations.pt": b"x", "config.json": b"{}"}, "a run of Pico 1.0"),
            ({"run.json": b"{}"}, "an incomplete revision"),
            ({"data.txt": b"x"}, "not a run that Pico published, and no model; its branches are other"),
        ],
    )
    def test_a_revision_without_a_manifest_says_what_it_is(
        self, hub: Hub, open_run: Open, files: dict[str, bytes], said: str
    ) -> None:
        put_files(hub, REPO, "other", files)
        with pytest.raises(NotARunError, match=said):
            open_run(f"hf://{REPO}@other")

    def test_a_tag_that_moved_since_it_was_pinned(self, hub: Hub, commits: list[str], open_run: Open) -> None:
        open_run(f"hf://{REPO}@demo-step-1")
        repository = hub.repository("models", REPO)
        assert repository.move("refs/tags/demo-step-1", commits[3], commits[1])
        with pytest.raises(DataError, match=f"tag demo-step-1 .* was moved, from {commits[1]} to {commits[3]}"):
            open_run(f"hf://{REPO}@demo-step-1")
        with pytest.raises(DataError, match=r"tag demo-step-1 of .* was moved: the run was published with"):
            open_run(f"hf://{REPO}@demo")
        assert open_run(f"hf://{REPO}@{commits[1]}:step-1").provenance(1)["commit"] == commits[1]

    def test_a_manifest_of_a_newer_major_version(self, hub: Hub, run: Path, open_run: Open) -> None:
        commits = put_run(hub, run, REPO)
        manifest = json.loads((run / layout.checkpoint_dir(4) / layout.MANIFEST).read_bytes())
        put_files(hub, REPO, "newer", {layout.MANIFEST: json.dumps({**manifest, "schema_version": "9.0"}).encode()})
        with pytest.raises(DataError, match=r"schema 9.0.*pip install --upgrade"):
            open_run(f"hf://{REPO}@newer:step-4")
        assert commits

    def test_an_altered_manifest(self, hub: Hub, run: Path, commits: list[str], open_run: Open) -> None:
        """The index says one digest, the revision holds another manifest."""
        manifest = (run / layout.checkpoint_dir(4) / layout.MANIFEST).read_bytes()
        put_files(hub, REPO, "demo", {layout.MANIFEST: manifest.replace(b"4.16", b"4.17").replace(b" ", b"  ", 1)})
        assert open_run(f"hf://{REPO}@demo").provenance(4)["commit"] == commits[-1], "the tag names what was published"
        hub.repository("models", REPO).delete("refs/tags/demo-step-4")
        with pytest.raises(DataError, match="does not hold the step 4 that was published"):
            open_run(f"hf://{REPO}@demo").read(4, None, "weights", "head")
