"""Lookalikes of published runs with the mistakes that were found in such: each is found, and nothing beside it."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from lookalikes import OLMO, PICO_V1, Branches, olmo, pico_v1_shapes, put_pico_v1, pythia, with_nan
from trainings import PYTHIA, moving

from pico_analyze.auditing.audit import Audit
from pico_conformance import Hub

Audited = Callable[..., Audit]
ATTENTION = "gpt_neox.layers.1.attention.dense.weight"


def only(audit: Audit) -> tuple[int | None, str, str, str]:
    """Step, check, severity and sentence of the one finding."""
    assert len(audit.findings) == 1, [one.finding for one in audit.findings]
    (one,) = audit.findings
    return one.step, one.check, one.severity, one.finding


# -- sound runs


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("shards", [1, 3])
def test_a_sound_pythia_gives_nothing(hub: Hub, audited: Audited, dtype: str, shards: int) -> None:
    run = pythia(shards=shards)
    run.dtypes = dict.fromkeys(run.weights, dtype)
    found = audited(run.put(hub))
    assert (found.n_checkpoints, found.findings) == (len(PYTHIA), ())
    assert {"payloads", "trajectory", "beginning", "schedule", "documents", "values"} <= set(found.checks)


def test_a_sound_olmo_gives_nothing(hub: Hub, audited: Audited) -> None:
    found = audited(olmo().put(hub))
    assert (found.n_checkpoints, found.findings) == (len(OLMO), ())
    assert "tokens" in found.checks and "beginning" not in found.checks


def test_a_sound_run_of_pico_1_0_gives_nothing(hub: Hub, audited: Audited) -> None:
    found = audited(put_pico_v1(hub, moving(pico_v1_shapes(), PICO_V1)))
    assert (found.n_checkpoints, found.findings) == (len(PICO_V1), ())


def test_two_or_three_steps_give_nothing(hub: Hub, audited: Audited) -> None:
    for steps in ([0, 4000], [0, 1000, 4000]):
        assert not audited(pythia(steps).put(hub, f"tester/of-{len(steps)}")).findings


# -- payloads


def test_a_branch_that_holds_another_steps_weights(hub: Hub, audited: Audited) -> None:
    run = pythia()
    run.weights[1500] = run.weights[3000]
    step, check, severity, text = only(audited(run.put(hub)))
    assert (step, check, severity) == (1500, "payloads", "error")
    assert text.startswith("steps 1500 and 3000 hold the same weights, which fit step 3000: publish step 1500 again")


def test_three_branches_that_are_the_same(hub: Hub, audited: Audited) -> None:
    """As step101000, step175000 and step300000 of OLMo-2-1124-7B, allenai/OLMo#915."""
    run = olmo()
    run.weights[3000] = run.weights[7000] = run.weights[10000]
    found = audited(run.put(hub))
    step, check, _, text = only(found)
    assert (step, check) == (3000, "payloads")
    assert "steps 3000, 7000 and 10000 hold the same weights, which fit step 10000: publish steps 3000 and 7000" in text
    assert found.findings[0].figures["steps"] == [3000, 7000, 10000]


def test_most_branches_hold_the_last_steps_weights(hub: Hub, audited: Audited) -> None:
    """As 76 of 154 branches of pythia-2.8b, EleutherAI/pythia#205: the first steps among them."""
    run = pythia()
    for step in [*PYTHIA[:13], 2000]:
        run.weights[step] = run.weights[3750]
    found = audited(run.put(hub))
    step, check, severity, text = only(found)
    assert (step, check, severity) == (0, "payloads", "error")
    assert "(15 in all) hold the same weights, which fit step 3750" in text


def test_the_first_steps_that_a_warmup_from_zero_leaves_alone_are_a_warning(hub: Hub, audited: Audited) -> None:
    """As steps 0, 1 and 2 of every Pythia, EleutherAI/pythia#83 and #198."""
    run = pythia()
    run.weights[1] = run.weights[2] = run.weights[0]
    step, check, severity, text = only(audited(run.put(hub)))
    assert (step, check, severity) == (1, "payloads", "warning")
    assert text.startswith("steps 0, 1 and 2 hold the same weights: as a learning rate that begins at 0 leaves them")


def test_a_shard_of_another_step(hub: Hub, audited: Audited) -> None:
    """As the first shard of step50000 and step58000 of pythia-12b, EleutherAI/pythia#206."""
    run = olmo()
    last = run.content(12000)
    first = sorted(name for name in last if name.endswith(".safetensors"))[0]
    run.more[4000] = {first: last[first]}
    found = audited(run.put(hub))
    step, check, severity, text = only(found)
    assert (step, check, severity) == (4000, "payloads", "error")
    assert f"steps 4000 and 12000 hold the same {first}, which fit step 12000: publish step 4000 again" in text


# -- trajectory


def replaced(run: Branches, step: int, weights: dict[str, np.ndarray]) -> None:
    run.weights[step] = weights


@pytest.mark.parametrize(("step", "other"), [(1500, 3000), (1000, 1500), (2500, 2000), (0, 3000), (3750, 2000)])
def test_a_rounded_copy_of_another_step(hub: Hub, audited: Audited, step: int, other: int) -> None:
    run = pythia()
    copied = {name: w.astype(np.float16).astype(np.float32) for name, w in run.weights[other].items()}
    replaced(run, step, copied)
    found = audited(run.put(hub))
    assert {one.step for one in found.findings} == {step}, [one.finding for one in found.findings]
    assert found.count("error") == 1 and f"step {other}" in found.findings[0].finding


def test_a_step_of_another_seed(hub: Hub, audited: Audited) -> None:
    run = pythia()
    replaced(run, 2000, pythia(seed=1).weights[2000])
    step, check, severity, text = only(audited(run.put(hub)))
    assert (step, check, severity) == (2000, "trajectory", "error")
    assert "times off the way from the step before to the step after" in text


def test_a_last_step_of_another_seed(hub: Hub, audited: Audited) -> None:
    run = pythia()
    replaced(run, 3750, pythia(seed=1).weights[3750])
    step, check, severity, text = only(audited(run.put(hub)))
    assert (step, check, severity) == (3750, "trajectory", "error")
    assert "step 3750 does not go on from step 3500: their cosine is" in text


def test_a_shard_of_a_step_of_another_seed(hub: Hub, audited: Audited) -> None:
    run, other = olmo(), olmo(seed=1)
    names = sorted(run.weights[5000])
    shard = json.loads(run.content(5000)["model.safetensors.index.json"])["weight_map"]
    file = shard[names[-1]]
    replaced(run, 5000, {n: (other if shard[n] == file else run).weights[5000][n] for n in run.weights[5000]})
    step, check, severity, text = only(audited(run.put(hub)))
    assert (step, check, severity) == (5000, "trajectory", "error")
    assert text.startswith(f"{file} of step 5000 (stage1-step5000-tokens21B) is ")


# -- step 0


def test_a_step_0_of_another_seed(hub: Hub, audited: Audited) -> None:
    """As the weight-seed runs of pythia-160m, EleutherAI/pythia#203."""
    run = pythia()
    replaced(run, 0, pythia(seed=1).weights[0])
    step, check, severity, text = only(audited(run.put(hub)))
    assert (step, check, severity) == (0, "beginning", "error")
    assert text.startswith("step 1 does not descend from step 0: their cosine is ")


def test_a_step_0_that_is_a_trained_model(hub: Hub, audited: Audited) -> None:
    run = pythia()
    replaced(run, 0, pythia(seed=1).weights[3000])
    step, check, severity, text = only(audited(run.put(hub)))
    assert (step, check, severity) == (0, "beginning", "error")
    assert text.startswith("step 0 is no initialisation: norms vary (")


def test_a_run_that_was_begun_from_a_model_is_a_warning(hub: Hub, audited: Audited) -> None:
    run = pythia(list(range(0, 4001, 250)))
    run.weights = {step - 2000: weights for step, weights in run.weights.items() if step >= 2000}
    run.names = {step: f"step{step}" for step in run.weights}
    step, check, severity, text = only(audited(run.put(hub)))
    assert (step, check, severity) == (0, "beginning", "warning")
    assert "step 250 goes on from it: right only if the training was begun from a model" in text


# -- documents and values


def test_a_configuration_that_changes(hub: Hub, audited: Audited) -> None:
    run = pythia()
    for step in (2000, 2250):
        run.config[step] |= {"transformers_version": "9.9", "torch_dtype": "float16", "use_cache": False}
    assert not audited(run.put(hub)).findings
    for step in [step for step in PYTHIA if step >= 3000]:
        run.config[step] |= {"rotary_emb_base": 500}
    step, check, severity, text = only(audited(run.put(hub, "tester/changed")))
    assert (step, check, severity) == (3000, "documents", "error")
    assert "config.json changes at step 3000, against step 2750: rotary_emb_base (no such key → 500)" in text


def test_a_tokenizer_that_changes_and_one_that_is_written_otherwise(hub: Hub, audited: Audited) -> None:
    run = pythia()
    parts = {"version": "1.0", "truncation": None, "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}}}
    old = parts | {"model": parts["model"] | {"merges": ["a b"]}}
    again = parts | {"truncation": {"max_length": 8}, "model": parts["model"] | {"merges": [["a", "b"]]}}
    other = old | {"model": old["model"] | {"vocab": {"b": 0, "a": 1}}}
    for step in PYTHIA:
        run.more[step] = {"tokenizer.json": json.dumps(again if step > 1000 else old, indent=step > 8).encode()}
    assert not audited(run.put(hub)).findings
    run.more[2000] = {"tokenizer.json": json.dumps(other).encode()}
    step, check, severity, text = only(audited(run.put(hub, "tester/changed")))
    assert (step, check, severity) == (2000, "documents", "error")
    assert (
        text.startswith("tokenizer.json changes at step 2000, against step 1750: model") and "2250 is as before" in text
    )


@pytest.mark.parametrize("merges", [[[["a"], "b"]], [["a", 1]], [[]], [None], [{}], "a b", 7, [[[[["a"]]]]]])
def test_merges_that_are_none_are_a_change(hub: Hub, audited: Audited, merges: object) -> None:
    run = pythia()
    for step in PYTHIA:
        told = merges if step == 2000 else ["a b"]
        parts = {"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": told}}
        run.more[step] = {"tokenizer.json": json.dumps(parts).encode()}
    step, check, severity, text = only(audited(run.put(hub)))
    assert (step, check, severity) == (2000, "documents", "error") and "tokenizer.json changes at step 2000" in text


def test_a_type_that_changes_is_a_warning(hub: Hub, audited: Audited) -> None:
    run = pythia()
    run.dtypes = {step: "float16" for step in PYTHIA if step >= 2000}
    step, check, severity, text = only(audited(run.put(hub)))
    assert (step, check, severity) == (2000, "documents", "warning")
    assert "changes at step 2000, against step 1750: from F32 to F16" in text


def test_nan(hub: Hub, audited: Audited) -> None:
    run = pythia()
    replaced(run, 1250, with_nan(run.weights[1250], ATTENTION))
    step, check, severity, text = only(audited(run.put(hub)))
    assert (step, check, severity) == (1250, "values", "error")
    assert text.startswith(f"step 1250 holds NaN or infinities in {ATTENTION}")


def test_zeros_in_the_place_of_a_matrix(hub: Hub, audited: Audited) -> None:
    run = pythia()
    replaced(run, 1250, run.weights[1250] | {ATTENTION: np.zeros_like(run.weights[1250][ATTENTION])})
    found = audited(run.put(hub))
    assert {one.step for one in found.findings} == {1250} and any(one.check == "values" for one in found.findings)


# -- steps, tokens, checkpoints that cannot be read


def test_a_missing_step(hub: Hub, audited: Audited) -> None:
    run = pythia()
    del run.names[2500]
    step, check, severity, text = only(audited(run.put(hub)))
    assert (step, check, severity) == (2500, "schedule", "warning")
    assert text.startswith("step 2500 is missing between steps 2250 and 2750")


def test_a_name_that_tells_other_tokens(hub: Hub, audited: Audited) -> None:
    run = olmo()
    run.names[6000] = "stage1-step6000-tokens42B"
    step, check, severity, text = only(audited(run.put(hub)))
    assert (step, check, severity) == (6000, "tokens", "warning")
    assert "says 42,000,000,000 tokens, where the other steps let expect 25," in text


def test_a_step_that_lacks_a_shard(hub: Hub, audited: Audited) -> None:
    run = olmo()
    run.lost[2000] = "model-00002-of-00003.safetensors"
    step, check, severity, text = only(audited(run.put(hub)))
    assert (step, check, severity) == (2000, "complete", "error")
    assert "there is no such file" in text


def test_a_commit_of_pico_1_0_with_another_steps_weights(hub: Hub, audited: Audited) -> None:
    weights = moving(pico_v1_shapes(), PICO_V1)
    weights[1500] = weights[3500]
    step, check, severity, text = only(audited(put_pico_v1(hub, weights)))
    assert (step, check, severity) == (1500, "payloads", "error")
    assert "hold the same weights, which fit step 3500" in text
