"""A Hub, or a repository, that lies: refused before anything is written or allocated. Faults are outlived."""

from __future__ import annotations

import json
import resource
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from published import REPO, read_all

from pico_analyze.errors import DataError, NotARunError, PicoAnalyzeError, StorageError
from pico_analyze.stores.base import Store
from pico_analyze.stores.opening import ReadOptions, open_store
from pico_conformance import Fault, Hub
from pico_conformance.published import put_files, put_run
from pico_conformance.runs import write_run
from pico_schema import layout
from pico_schema.digests import sha256_file

Open = Callable[..., Store]


def everything_under(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*")}


@pytest.fixture(autouse=True)
def nothing_escapes(tmp_path: Path) -> Any:
    """Whatever is read, nothing is written outside the cache."""
    before = everything_under(tmp_path)
    yield
    allowed = tuple(str(tmp_path / name) for name in ("cache", "hf-home", "runs", "more"))
    assert all(path.startswith(allowed) for path in everything_under(tmp_path) - before)


def forged(run: Path, change: Callable[[dict[str, Any]], None]) -> bytes:
    document = json.loads((run / layout.checkpoint_dir(4) / layout.MANIFEST).read_bytes())
    change(document)
    return json.dumps(document).encode()


def _file(path: str, size: int = 10) -> Callable[[dict[str, Any]], None]:
    return lambda document: document["files"].update({path: {"size": size, "sha256": "0" * 64}})


def _capture_file(path: str) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        document["captures"][0]["file"] = path
        _file(path)(document)

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_file("../outside"), "is not a plain relative path"),
        (_file("a/../../outside"), "is not a plain relative path"),
        (_file("/etc/passwd"), "is not a plain relative path"),
        (_file("nul\0byte"), "is not a plain relative path"),
        (_file("C:\\windows"), "is not a plain relative path"),
        (_file("MODEL.safetensors"), "collide"),
        (_file("config.json/inside"), "collide"),
        (_file("large.bin", 10 * 2**50), "less than or equal"),
        (_capture_file("../captures/val.safetensors"), "is not a plain relative path"),
        (lambda d: d.update(step=-1), "step"),
        (lambda d: d.update(run_name="../../demo"), "run name"),
        (lambda d: d["model"].update(d_model=2**60), "model.d_model"),
        (lambda d: d.update(files={str(i): {"size": 1, "sha256": "0" * 64} for i in range(100_001)}), "files are more"),
    ],
)
def test_a_hostile_manifest_is_refused(
    hub: Hub, run: Path, open_run: Open, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    put_run(hub, run, REPO)
    put_files(hub, REPO, "bad", {layout.MANIFEST: forged(run, change)})
    with pytest.raises(DataError, match=said):
        open_run(f"hf://{REPO}@bad:step-4")


def test_a_symbolic_link_is_only_a_text(hub: Hub, run: Path, open_run: Open) -> None:
    """Git can hold links; the reader asks for a file's content and gets the link's target, which is no manifest."""
    put_run(hub, run, REPO)
    repository = hub.repository("models", REPO)
    blob = repository.git("hash-object", "-w", "--stdin", data=b"/etc/passwd").decode().strip()
    tree = repository.git("mktree", data=f"120000 blob {blob}\tmanifest.json\n".encode()).decode().strip()
    who = ["-c", "user.name=x", "-c", "user.email=x@x"]
    commit = repository.git(*who, "commit-tree", tree, "-m", "link").decode().strip()
    repository.move("refs/heads/linked", commit, None)
    with pytest.raises(DataError, match="not valid JSON"):
        open_run(f"hf://{REPO}@linked:step-4")


def safetensors(header: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (safetensors(b"{}", 2**63), "claims"),
        (safetensors(b"{}", 10 * 2**50), "claims"),
        (safetensors(b"{" * 9000), "not valid JSON"),
        (safetensors(b'{"x": {"dtype": "F32", "shape": [1000000000, 1000000000], "data_offsets": [0, 4]}}'), "damaged"),
        (safetensors(b'{"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4000000000]}}'), "damaged"),
        (safetensors(b'{"x": {"dtype": "F32", "shape": [-1], "data_offsets": [-4, 0]}}'), "damaged"),
        (safetensors(json.dumps({str(i): {} for i in range(100_001)}).encode()), "at most 100000 tensors"),
    ],
)
def test_a_hostile_header_is_refused_before_anything_is_allocated(
    hub: Hub, tmp_path: Path, open_run: Open, content: bytes, said: str
) -> None:
    run = write_run(tmp_path / "more", steps=(4,))
    directory = run / layout.checkpoint_dir(4)
    _replace_weights(run, directory, content)
    put_run(hub, run, REPO)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match=said):
        open_run().read(4, None, "weights", "head")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000, "kilobytes"


def _replace_weights(run: Path, directory: Path, content: bytes) -> None:
    import hashlib

    from pico_schema import CheckpointEntry, documents, read_checkpoint, read_run

    manifest = read_checkpoint(directory)
    entry = manifest.files[layout.WEIGHTS].model_copy(
        update={"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    )
    files = {**manifest.files, layout.WEIGHTS: entry}
    documents.write(directory / layout.MANIFEST, manifest.model_copy(update={"files": files}))
    (directory / layout.WEIGHTS).write_bytes(content)
    digest = sha256_file(directory / layout.MANIFEST)
    known = CheckpointEntry(step=4, tokens_seen=manifest.tokens_seen, manifest_sha256=digest)
    documents.write(run / layout.RUN_MANIFEST, read_run(run).with_checkpoint(known))


@pytest.mark.parametrize(
    "refs",
    [
        {"branches": [], "tags": [{"name": "x", "ref": "r", "targetCommit": "../../etc"}]},
        {"branches": [{"name": "demo", "ref": "r", "targetCommit": "0" * 39}], "tags": []},
        {"branches": [{"name": "x", "targetCommit": "0" * 40}] * 200_001, "tags": []},
        {"branches": "many"},
        [],
    ],
)
@pytest.mark.usefixtures("commits", "quick")
def test_a_hostile_list_of_refs_is_refused(
    hub: Hub,
    open_run: Open,
    refs: object,
) -> None:
    hub.faults.add(Fault("GET .*/refs", "answer", body=json.dumps(refs).encode(), times=100))
    with pytest.raises(DataError, match="list of branches and tags of tester/model is damaged"):
        open_run()


def test_names_of_refs_lead_nowhere(hub: Hub, commits: list[str], open_run: Open) -> None:
    """A tag may be called anything on a hostile Hub; it never becomes a path."""
    rows = [{"name": name, "targetCommit": commits[0]} for name in ("../../x-step-1", "/abs-step-1", "a\0b", "demo")]
    hub.faults.add(Fault("GET .*/refs", "answer", body=json.dumps({"branches": rows[3:], "tags": rows}).encode()))
    assert [info.step for info in open_run().steps()] == [0]


@pytest.mark.usefixtures("commits", "quick")
def test_more_bytes_than_make_sense_are_not_taken(hub: Hub, open_run: Open) -> None:
    hub.faults.add(Fault("GET .*/manifest.json", "answer", body=b"x", headers={"Content-Length": str(2**50)}, times=9))
    with pytest.raises(DataError, match="announces 1125899906842624 bytes where at most"):
        open_run(f"hf://{REPO}@demo:step-2")


@pytest.mark.usefixtures("commits", "quick")
def test_a_whole_file_instead_of_a_range_is_not_taken(
    hub: Hub,
    open_run: Open,
) -> None:
    hub.faults.add(Fault("GET /_cdn/", "answer", body=b"x" * 5_000_000, times=100))
    with pytest.raises(PicoAnalyzeError, match=r"where a range was asked for|more than the|announces"):
        open_run().read(4, None, "weights", "head")


@pytest.mark.usefixtures("commits", "quick")
def test_packed_answers_are_not_unpacked(hub: Hub, open_run: Open) -> None:
    import gzip

    bomb = gzip.compress(bytes(50_000_000))
    hub.faults.add(Fault("GET .*/refs", "answer", body=bomb, headers={"Content-Encoding": "gzip"}, times=100))
    with pytest.raises(DataError, match="refusing to unpack"):
        open_run()


ENDPOINTS = {
    "refs": "GET .*/refs",
    "document": "GET /tester/model/resolve/.*json",
    "redirect": "GET /tester/model/resolve/.*safetensors",
    "content": "GET /_cdn/",
}


@pytest.mark.parametrize("endpoint", list(ENDPOINTS))
@pytest.mark.parametrize("kind", ["429", "408", "500", "503", "hang", "drop", "lost", "truncate", "flip"])
@pytest.mark.usefixtures("commits", "quick")
def test_reading_outlives_every_fault(hub: Hub, run: Path, open_run: Open, endpoint: str, kind: str) -> None:
    """Twice in a row. A bit flipped inside a large file shows when the file is complete; then it is read anew."""
    pattern = ENDPOINTS[endpoint]
    if kind.isdigit():
        hub.faults.add(Fault(pattern, status=int(kind), headers={"Retry-After": "0"}, times=2))
    else:
        hub.faults.add(Fault(pattern, kind, delay=5, times=2))  # type: ignore[arg-type]
    mine = read_all(open_store(run))
    try:
        theirs = read_all(open_run())
    except DataError as error:
        assert kind == "flip" and ("does not have the sha256" in str(error) or "damaged" in str(error))
        hub.faults.clear()
        theirs = read_all(open_run())
    assert all(np.array_equal(mine[key], theirs[key]) for key in mine)


@pytest.mark.usefixtures("commits", "quick")
def test_a_hub_that_stays_away_is_one_sentence(hub: Hub, open_run: Open) -> None:
    hub.faults.add(Fault(".", "drop", times=1000))
    with pytest.raises(StorageError, match=r"6 times: check the network, try later"):
        open_run()


@pytest.mark.usefixtures("commits")
def test_a_redirect_keeps_the_token_at_home(hub: Hub, open_run: Open) -> None:
    read_all(open_run())
    assert any(request.authorized for request in hub.log.matching("/resolve/"))
    assert not any(request.authorized for request in hub.log.matching("/_cdn/"))
    assert hub.log.count("/_cdn/") > 0


@pytest.mark.usefixtures("commits")
def test_a_private_repository_without_a_token(hub: Hub, options: ReadOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    (hub.repository("models", REPO).path / "private").touch()
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(NotARunError, match="set HF_TOKEN if it is private"):
        open_store(f"hf://{REPO}@demo", options)
