"""Repositories of other makers: their branches and tags are the steps of a run, with few requests."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
from foreign import LLAMA, NEOX, course, files, neox

import pico_analyze
from pico_analyze.errors import DataError, NotARunError, StorageError, UsageError
from pico_analyze.stores.base import ReadOptions, Store
from pico_analyze.stores.hub import client
from pico_analyze.stores.opening import open_store
from pico_conformance import Hub
from pico_conformance.faults import Fault
from pico_conformance.published import put_files

REPO = "tester/pythia-8m"
QKV = "gpt_neox.layers.1.attention.query_key_value.weight"
Open = Callable[..., Store]


@pytest.fixture
def open_hub(options: ReadOptions) -> Open:
    def opened(address: str = f"hf://{REPO}", *, offline: bool = False, pattern: str | None = None) -> Store:
        return open_store(address, ReadOptions(offline=offline, cache_dir=options.cache_dir, step_pattern=pattern))

    return opened


def put_course(
    hub: Hub, named: dict[int, str], *, repo: str = REPO, **more: object
) -> dict[int, dict[str, np.ndarray]]:
    """A lookalike of Pythia: a branch per step, main the last one."""
    weights = course(sorted(named), make=neox)
    for step, name in named.items():
        put_files(hub, repo, name, files(NEOX, weights[step], **more))
    put_files(hub, repo, "main", files(NEOX, weights[max(named)], **more) | {"README.md": b"# A model"})
    return weights


@pytest.mark.parametrize("form", ["step{}", "step{}-tokens4B", "ckpt_{}"])
@pytest.mark.parametrize("shards", [1, 3])
def test_branches_that_tell_steps_are_a_run(hub: Hub, open_hub: Open, form: str, shards: int) -> None:
    weights = put_course(hub, {step: form.format(step) for step in (0, 1, 512, 1000)}, shards=shards)
    store = open_hub()
    assert (store.kind, store.run, [info.step for info in store.steps()]) == ("hub", "pythia-8m", [0, 1, 512, 1000])
    assert not store.unusable()
    for step, expected in weights.items():
        by_head = expected[QKV].reshape(2, 3, 4, 8)  # heads, (q, k, v), head_dim, in
        np.testing.assert_array_equal(store.read(step, None, "weights", "layers.1.attn.k"), by_head[:, 1].reshape(8, 8))
    facts = store.provenance(512)
    assert facts["repo"] == REPO and facts["revision"] == form.format(512)
    assert facts["commit"] == hub.repository("models", REPO).ref(f"refs/heads/{form.format(512)}")


def test_tags_tell_steps_too_and_one_revision_or_step_can_be_named(hub: Hub, open_hub: Open) -> None:
    put_course(hub, {1: "step1", 2: "step2"})
    repository = hub.repository("models", REPO)
    repository.move("refs/tags/step5", repository.resolve("main"), None)
    repository.move("refs/tags/step1", repository.resolve("step1"), None)
    assert [info.step for info in open_hub().steps()] == [1, 2, 5]
    for address in (f"hf://{REPO}@step2", f"hf://{REPO}:step-2", f"hf://{REPO}@{repository.resolve('step2')}:step-2"):
        assert [info.step for info in open_hub(address).steps()] == [2]
    assert [info.step for info in open_hub(f"hf://{REPO}@main").steps()] == [0]
    with pytest.raises(NotARunError, match="no branch or tag of step 7"):
        open_hub(f"hf://{REPO}:step-7")
    with pytest.raises(NotARunError, match="step2 is step 2, not step 3"):
        open_hub(f"hf://{REPO}@step2:step-3")
    repository.move("refs/tags/step2", repository.resolve("main"), None)
    with pytest.raises(DataError, match="branch and tag step2 name different commits"):
        open_hub()


def test_a_repository_without_such_branches_is_its_model(hub: Hub, open_hub: Open) -> None:
    put_files(hub, REPO, "main", files(LLAMA, course([0])[0]))
    assert [info.step for info in open_hub().steps()] == [0]


def test_two_series_in_a_repository_are_chosen_by_a_pattern(hub: Hub, open_hub: Open) -> None:
    put_course(hub, {1: "stage1-step1-tokens1B", 2: "stage1-step2-tokens1B", 3: "stage2-step3-tokens1B"})
    with pytest.raises(DataError, match="checkpoints of 2 series"):
        open_hub()
    assert [info.step for info in open_hub(pattern=r"stage1-step(\d+)-.*").steps()] == [1, 2]


def test_listing_takes_a_request_a_step_and_the_second_time_two(hub: Hub, open_hub: Open) -> None:
    """The 154 branches of a Pythia under 50 ms of latency."""
    steps = [0, *(2**n for n in range(10)), *range(1000, 144000, 1000)]
    assert len(steps) == 154
    weights = course([0], make=neox)[0]
    content = files(NEOX, weights)
    for step in steps:
        put_files(hub, REPO, f"step{step}", content | {"step.txt": str(step).encode()})
    hub.faults.add(Fault("", kind="hang", delay=0.05, times=10_000))
    mark, begin = hub.log.mark(), time.monotonic()
    assert [info.step for info in open_hub().steps()] == sorted(steps)
    assert hub.log.count(since=mark) < 170
    assert time.monotonic() - begin < 60  # 2 s on the machine that it was written on; the limit is for a busy one
    mark = hub.log.mark()
    assert len(open_hub().steps()) == 154
    assert hub.log.count(since=mark) <= 2
    mark = hub.log.mark()
    assert len(open_hub(offline=True).steps()) == 154
    assert hub.log.count(since=mark) == 0


def test_one_matrix_of_a_sharded_model_moves_itself_and_one_percent(hub: Hub, open_hub: Open) -> None:
    config = LLAMA | {"hidden_size": 512, "intermediate_size": 1024, "num_attention_heads": 8, "num_key_value_heads": 8}
    rng = np.random.default_rng(0)
    weights = {}
    for layer in range(2):
        for x in "qkvo":
            weights[f"model.layers.{layer}.self_attn.{x}_proj.weight"] = rng.standard_normal((512, 512), np.float32)
        for x, shape in (("gate", (1024, 512)), ("up", (1024, 512)), ("down", (512, 1024))):
            weights[f"model.layers.{layer}.mlp.{x}_proj.weight"] = rng.standard_normal(shape, np.float32)
    put_files(hub, REPO, "step1", files(config, weights, shards=3))
    store = open_hub()
    mark = hub.log.mark()
    found = store.read(1, None, "weights", "layers.1.mlp.up")
    np.testing.assert_array_equal(found, weights["model.layers.1.mlp.up_proj.weight"])
    assert hub.log.sent(since=mark) < 1.01 * found.nbytes + 8192  # headers of answers and of the shard


def test_what_was_read_is_there_without_the_network(hub: Hub, open_hub: Open, options: ReadOptions, tmp_path) -> None:
    put_course(hub, {1: "step1", 2: "step2"})
    frame = pico_analyze.compute(
        "norm", f"hf://{REPO}", data="weights", out=tmp_path / "one", cache_dir=options.cache_dir
    )
    mark = hub.log.mark()
    again = pico_analyze.compute(
        "norm", f"hf://{REPO}", data="weights", out=tmp_path / "two", cache_dir=options.cache_dir, offline=True
    )
    assert hub.log.count(since=mark) == 0
    np.testing.assert_array_equal(frame["value"], again["value"])
    with pytest.raises(StorageError, match="--offline"):
        open_hub("hf://tester/never", offline=True)
    put_files(hub, "tester/other", "step1", {"config.json": b"{}"})
    with pytest.raises(StorageError, match="--offline"):
        open_hub("hf://tester/other", offline=True)


def test_rows_say_which_ranges_could_not_be_compared_yet(hub: Hub, open_hub: Open) -> None:
    """A range of a shard proves nothing until the shard is there as a whole; a file read whole is compared."""
    wide = LLAMA | {"vocab_size": 40_000}
    weights = course([0])[0] | {"model.embed_tokens.weight": np.ones((40_000, 8), np.float32)}
    put_files(hub, REPO, "step1", files(wide, weights | {"lm_head.weight": np.ones((40_000, 8), np.float32)}))
    store = open_hub()
    store.read(1, None, "weights", "layers.0.attn.q")
    (file, *_) = store.inputs(1, None, "weights", "layers.0.attn.q")
    assert file.file == "model.safetensors" and file.unchecked
    assert store.confirms(1, file.file, file.unchecked) is None
    for site in store.steps()[0].weights:
        store.read(1, None, "weights", site)
    assert store.confirms(1, file.file, file.unchecked) is True


def test_a_damaged_answer_is_not_believed(hub: Hub, open_hub: Open) -> None:
    put_course(hub, {1: "step1"})
    for body in (b"[]", b'{"siblings": [{"rfilename": "../x"}]}', b'{"siblings": [{"rfilename": "a", "size": -1}]}'):
        hub.faults.add(Fault(r"api/models/.*/revision/", kind="answer", body=body, times=1))
        with pytest.raises(DataError, match="list of the files of tester/pythia-8m is damaged"):
            open_hub()
    hub.faults.add(Fault(r"resolve/.*config\.json", kind="flip", times=100, at=0.5))
    with pytest.raises(StorageError, match="does not have the digest"):
        open_hub()


def test_a_step_that_lacks_a_shard_is_listed_as_incomplete(hub: Hub, open_hub: Open) -> None:
    content = files(NEOX, course([3], make=neox)[3], shards=3)
    content.pop("model-00002-of-00003.safetensors")
    put_files(hub, REPO, "step3", content)
    put_course(hub, {1: "step1", 2: "step2"}, shards=3)
    store = open_hub()
    assert [info.step for info in store.steps()] == [1, 2]
    (lost,) = store.unusable()
    assert lost.step == 3 and "names model-00002-of-00003.safetensors, and there is no such file" in lost.reason


def test_a_gated_repository_says_so(hub: Hub, open_hub: Open) -> None:
    put_course(hub, {1: "step1"})
    hub.faults.add(Fault("refs", kind="status", status=403, headers={"X-Error-Code": "GatedRepo"}, times=10))
    with pytest.raises(NotARunError, match=r"tester/pythia-8m is gated: accept its terms .* HF_TOKEN"):
        open_hub()


def test_repositories_one_a_step_are_a_run(hub: Hub, open_hub: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = course([20, 40, 100], make=neox)
    for step, arrays in weights.items():
        put_files(hub, f"tester/berts-seed0-step{step}k", "main", files(NEOX, arrays))
    put_files(hub, "tester/berts-seed0-notes", "main", {"notes.txt": b""})
    put_files(hub, "tester/berts-seed1-step20k", "main", files(NEOX, weights[20]))
    with pytest.raises(NotARunError, match="no repository of this pattern tells a step by its name"):
        open_hub("hf://tester/berts-seed0-*")
    store = open_hub("hf://tester/berts-seed0-*", pattern=r".*-step(\d+)k")
    assert (store.run, [info.step for info in store.steps()]) == ("berts-seed0", [20, 40, 100])
    by_head = weights[40][QKV].reshape(2, 3, 4, 8)
    np.testing.assert_array_equal(store.read(40, None, "weights", "layers.1.attn.q"), by_head[:, 0].reshape(8, 8))
    assert store.provenance(40)["repo"] == "tester/berts-seed0-step40k"
    with pytest.raises(StorageError, match="--offline"):
        open_hub("hf://tester/berts-seed0-*", offline=True)
    monkeypatch.setattr(client, "_PAGE", 2)
    with pytest.raises(DataError, match="2 repositories or more whose names contain 'berts-seed0'"):
        open_hub("hf://tester/berts-seed0-*")
    for address in ("hf://tester/*", "hf://*/name", "hf://tester/a*/b", "hf://tester/a*@main"):
        with pytest.raises(UsageError, match="no address of several repositories"):
            open_hub(address)
