"""What `behave` measures of tiny models, family by family, against transformers' own attention weights and loops; what
was begun goes on; what cannot be read is said."""

from __future__ import annotations

import doctest
import inspect
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import transformers
from filelock import FileLock
from scipy.special import log_softmax
from scipy.stats import entropy as scipy_entropy

import pico_analyze
from pico_analyze.errors import DataError, UsageError
from pico_analyze.models import loading
from pico_analyze.models.rows import spaced
from pico_analyze.probes.induction import SEQUENCES, repeated_tokens
from pico_analyze.table.arrays_file import read_arrays
from pico_conformance import Hub
from pico_conformance.published import put_run
from pico_conformance.runs import write_run

V, D, H, KV, LAYERS, T = 60, 24, 4, 2, 2, 23
USUAL = {"vocab_size": V, "hidden_size": D, "intermediate_size": 40, "num_hidden_layers": LAYERS}
USUAL |= {"num_attention_heads": H, "max_position_embeddings": 32, "bos_token_id": 0, "eos_token_id": 1}
GROUPED = USUAL | {"num_key_value_heads": KV}
FAMILIES = {
    "llama": GROUPED,
    "qwen3": GROUPED | {"head_dim": 16},
    "gemma": GROUPED | {"head_dim": 16},
    "gpt_neox": USUAL,
    "gpt2": {"vocab_size": V, "n_embd": D, "n_layer": LAYERS, "n_head": H, "n_positions": 32}
    | {"bos_token_id": 0, "eos_token_id": 1},
}


def make(path: Path, name: str = "llama", seed: int = 0, **more: object) -> transformers.PreTrainedModel:
    """A random model, biases and norms included, whose attention is far from uniform."""
    config = transformers.AutoConfig.for_model(name, **FAMILIES[name] | more)
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    model.save_pretrained(path)
    return model


def write_rows(path: Path, n_rows: int = 5, seed: int = 0, length: int = T) -> np.ndarray:
    ids = np.random.default_rng(seed).integers(2, V, (n_rows, length + 1))
    pq.write_table(pa.table({"input_ids": ids.tolist()}), path)
    return ids


def behave(tmp_path: Path, **more: object):
    return pico_analyze.behave(tmp_path / "m", **{"data": str(tmp_path / "rows.parquet"), **more})


def values(frame, metric: str, *by: str) -> dict:
    rows = frame[frame["metric"] == metric]
    assert len(rows)
    keys = [tuple(int(one) for one in key) for key in rows[list(by)].itertuples(index=False)]
    return dict(zip(keys if len(by) > 1 else [key[0] for key in keys], rows["value"], strict=True))


def answer(model: transformers.PreTrainedModel, ids: np.ndarray):
    with torch.no_grad():
        return model(torch.tensor(ids), output_attentions=True, output_hidden_states=True)


@pytest.mark.parametrize("name", FAMILIES)
def test_attention_is_that_of_transformers(tmp_path: Path, name: str) -> None:
    model, ids = make(tmp_path / "m", name), write_rows(tmp_path / "rows.parquet")
    frame = behave(tmp_path, probes="attention", batch_size=2)
    attentions = answer(model, ids[:, :-1]).attentions
    asking = range(1, T)
    for layer, weights in enumerate(attentions):
        for head in range(H):
            a = weights[:, head].double().numpy()
            expected = {
                "attention_entropy": np.mean([[scipy_entropy(row[t, : t + 1]) for t in asking] for row in a]),
                "sink_mass": np.mean([[row[t, 0] for t in asking] for row in a]),
                "previous_token": np.mean([[row[t, t - 1] for t in asking] for row in a]),
                "attention_distance": np.mean([[row[t] @ (t - np.arange(T)) for t in asking] for row in a]),
            }
            for metric, value in expected.items():
                found = values(frame, metric, "layer", "head")[layer, head]
                assert found == pytest.approx(value, rel=1e-5, abs=1e-6), (metric, layer, head)
    rows = frame[frame["metric"] == "sink_mass"]
    by_row = attentions[1][:, 2, 1:, 0].double().mean(-1).numpy()
    (row,) = rows[(rows["layer"] == 1) & (rows["head"] == 2)].to_dict("records")
    assert row["n_samples"] == 5 and (row["data"], row["component"], row["site"]) == ("behaviour", "probe", "attention")
    assert json.loads(row["extra"])["standard_error"] == pytest.approx(by_row.std(ddof=1) / np.sqrt(5), rel=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_prefix_matching_and_copying_are_those_of_loops(tmp_path: Path, name: str) -> None:
    model = make(tmp_path / "m", name)
    write_rows(tmp_path / "rows.parquet")
    frame = behave(tmp_path, probes="induction", seed=3, batch_size=3)
    length = 16
    ids = repeated_tokens(V, length, SEQUENCES, 3)
    attentions = answer(model, ids).attentions
    for layer, weights in enumerate(attentions):
        for head in range(H):
            a = weights[:, head].double().numpy()
            expected = np.mean([[row[t, t - length + 1] for t in range(length, 2 * length)] for row in a])
            assert values(frame, "prefix_matching", "layer", "head")[layer, head] == pytest.approx(expected, abs=1e-6)
            assert values(frame, "copying", "layer", "head")[layer, head] == pytest.approx(
                copied(model, name, layer, head, ids, length), abs=1e-4
            )


def copied(model, name: str, layer: int, head: int, ids: np.ndarray, length: int) -> float:
    """Copying of a head from its own weights: what W_O v of each token adds to the logits of the row's tokens."""
    block = (
        model.transformer.h[layer]
        if name == "gpt2"
        else model.gpt_neox.layers[layer]
        if name == "gpt_neox"
        else model.model.layers[layer]
    )
    hidden: list[torch.Tensor] = []
    norm = {"gpt2": "ln_1"}.get(name, "input_layernorm")
    hook = getattr(block, norm).register_forward_hook(lambda _m, _a, output: hidden.append(output))
    answer(model, ids)
    hook.remove()
    x = hidden[0][:, :length].double()
    width = D // H
    if name == "gpt2":
        fused = block.attn.c_attn
        at = slice(2 * D + head * width, 2 * D + (head + 1) * width)
        v = x @ fused.weight.double()[:, at] + fused.bias.double()[at]
        out = block.attn.c_proj.weight.double()[head * width : (head + 1) * width]
        scale, unembedding = model.transformer.ln_f.weight, model.lm_head.weight
    elif name == "gpt_neox":
        fused = block.attention.query_key_value
        at = slice((3 * head + 2) * width, (3 * head + 3) * width)
        v = x @ fused.weight.double()[at].T + fused.bias.double()[at]
        out = block.attention.dense.weight.double()[:, head * width : (head + 1) * width].T
        scale, unembedding = model.gpt_neox.final_layer_norm.weight, model.get_output_embeddings().weight
    else:
        width = model.config.head_dim if name in ("qwen3", "gemma") else width
        kv = head // (H // KV)
        v = x @ block.self_attn.v_proj.weight.double()[kv * width : (kv + 1) * width].T
        out = block.self_attn.o_proj.weight.double()[:, head * width : (head + 1) * width].T
        scale, unembedding = model.model.norm.weight + (name == "gemma"), model.lm_head.weight
    shares = []
    for row, tokens in zip((v @ out * scale.double()).detach().numpy(), ids[:, :length], strict=True):
        read = unembedding.double().detach().numpy()[tokens]
        for position in range(length):
            added = read @ row[position]
            raised = np.maximum(added - added.mean(), 0)
            shares.append(raised[position] / raised.sum())
    return float(2 * np.mean(shares) - 1)


def test_losses_scores_and_ngrams_are_those_of_loops(tmp_path: Path) -> None:
    model, ids = make(tmp_path / "m"), write_rows(tmp_path / "rows.parquet")
    frame = behave(tmp_path, probes="induction,token_losses", out=tmp_path / "a", continuation=4)
    log_p = log_softmax(answer(model, ids[:, :-1]).logits.double().numpy(), axis=-1)
    losses = np.array([[-log_p[n, t, ids[n, t + 1]] for t in range(T)] for n in range(5)])
    right = log_p.argmax(-1) == ids[:, 1:]
    (file,) = (tmp_path / "a" / "m" / "behaviour" / "token_losses").glob("step-00000000-*.safetensors")
    stored = read_arrays(file)
    np.testing.assert_allclose(stored["losses"], losses, atol=1e-5)
    np.testing.assert_array_equal(stored["correct"], right)
    assert values(frame, "mean_loss", "step")[0] == pytest.approx(losses.mean(), rel=1e-6)
    # rows of 23: a tenth is 2
    assert values(frame, "in_context_score", "step")[0] == pytest.approx(
        (losses[:, 1] - losses[:, 22]).mean(), abs=1e-5
    )
    curve = frame[frame["metric"] == "loss_at_position"]
    by_position = {json.loads(p)["position"]: v for p, v in zip(curve["params"], curve["value"], strict=True)}
    assert by_position.keys() == {1, 2, 4, 8, 16, 23}
    for position, value in by_position.items():
        assert value == pytest.approx(losses[:, position - 1].mean(), rel=1e-5)
    uni = np.bincount(ids[:, 1:].ravel(), minlength=V) / ids[:, 1:].size
    expected = np.mean([[scipy_entropy(uni, np.exp(log_p[n, t])) for t in range(T)] for n in range(5)])
    assert values(frame, "unigram_kl", "step")[0] == pytest.approx(expected, rel=1e-5)
    counts = np.zeros((V, V))
    for row in ids:
        for first, second in itertools.pairwise(row):
            counts[first, second] += 1
    expected = np.mean([[scipy_entropy(counts[ids[n, t]], np.exp(log_p[n, t])) for t in range(T)] for n in range(5)])
    assert values(frame, "bigram_kl", "step")[0] == pytest.approx(expected, rel=1e-5)
    (memorised,) = frame[frame["metric"] == "memorised"].to_dict("records")
    assert memorised["value"] == right[:, 3:7].all(1).mean() and json.loads(memorised["params"])["k"] == 4


def test_memorised_is_what_greedy_decoding_continues(tmp_path: Path) -> None:
    """Rows that are the model's own greedy continuations are known by heart; one with another last token is not."""
    model = make(tmp_path / "m")
    prompt = torch.tensor(np.random.default_rng(1).integers(2, V, (3, 5)))
    with torch.no_grad():
        rows = model.generate(prompt, max_new_tokens=5, do_sample=False, eos_token_id=None, pad_token_id=0).numpy()
    rows[2, 9] = (rows[2, 9] + 1) % V
    pq.write_table(pa.table({"input_ids": rows.tolist()}), tmp_path / "rows.parquet")
    frame = behave(tmp_path, probes="token_losses", continuation=5)
    assert values(frame, "memorised", "step")[0] == pytest.approx(2 / 3)
    assert values(frame, "matching_tokens", "step")[0] == pytest.approx(14 / 3)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_logit_lens_is_the_norm_and_the_head_after_each_block(tmp_path: Path, name: str) -> None:
    model, ids = make(tmp_path / "m", name), write_rows(tmp_path / "rows.parquet")
    frame = behave(tmp_path, probes="logit_lens", batch_size=2)
    out = answer(model, ids[:, :-1])
    at = spaced(8, T)
    final = log_softmax(out.logits.double().numpy(), axis=-1)[:, at]
    norm = {"gpt2": "transformer.ln_f", "gpt_neox": "gpt_neox.final_layer_norm"}.get(name, "model.norm")
    with torch.no_grad():
        stream = model.get_submodule(norm)(out.hidden_states[1])  # after block 0; the last entry is normed already
        lens = log_softmax(model.get_output_embeddings()(stream).double().numpy(), axis=-1)[:, at]
    kl = (np.exp(final) * (final - lens)).sum(-1).mean()
    found = values(frame, "lens_kl", "layer")
    assert found[0] == pytest.approx(kl, rel=1e-4) and found[1] == pytest.approx(0, abs=1e-6)
    agreement = values(frame, "lens_agreement", "layer")
    assert agreement[0] == pytest.approx((final.argmax(-1) == lens.argmax(-1)).mean()) and agreement[1] == 1


def test_a_model_that_does_more_than_norm_and_unembedding_has_no_lens_and_says_so(tmp_path: Path) -> None:
    config = transformers.AutoConfig.for_model("gemma2", **GROUPED, head_dim=16, final_logit_softcapping=0.5)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "m")
    write_rows(tmp_path / "rows.parquet")
    frame = behave(tmp_path, probes="logit_lens,attention")
    assert frame[frame["site"] == "logit_lens"]["reason"].str.contains("after the last block it is not").all()
    assert frame[frame["site"] == "attention"]["value"].notna().all()  # the other probe goes on


def course(path: Path, steps: tuple[int, ...] = (0, 1, 4)) -> None:
    for step in steps:
        make(path / f"step{step}", seed=step)


@pytest.fixture
def series(tmp_path: Path) -> np.ndarray:
    course(tmp_path / "m")
    return write_rows(tmp_path / "rows.parquet")


def test_outputs_are_compared_with_the_last_step(tmp_path: Path, series: np.ndarray) -> None:
    frame = behave(tmp_path, probes="output_distance")
    at = spaced(8, T)
    said = {
        step: log_softmax(answer(make(tmp_path / "x", seed=step), series[:, :-1]).logits.double().numpy(), axis=-1)[
            :, at
        ]
        for step in (0, 1, 4)
    }
    for step in (0, 1, 4):
        p, q = said[step], said[4]
        kl = (np.exp(p) * (p - q)).sum(-1).mean()
        assert values(frame, "output_kl", "step")[step] == pytest.approx(kl, rel=1e-5, abs=1e-9)
        assert values(frame, "top1_flips", "step")[step] == pytest.approx((p.argmax(-1) != q.argmax(-1)).mean())
    distances = frame[frame["metric"] == "output_jsd"]
    assert set(distances["target_step"]) == {4} and set(distances["target_run"]) == {"m"}
    assert distances["value"].iloc[-1] == 0
    entropy = -(np.exp(said[1]) * said[1]).sum(-1).mean()
    assert values(frame, "output_entropy", "step")[1] == pytest.approx(entropy, rel=1e-5)


@pytest.mark.usefixtures("series")
def test_outputs_are_compared_with_another_run_at_the_same_step_or_with_a_step(tmp_path: Path) -> None:
    for step in (1, 4, 9):
        make(tmp_path / "other" / f"step{step}", seed=step if step == 1 else 50)
    frame = behave(tmp_path, probes="output_distance", target=tmp_path / "other")
    found = values(frame, "output_jsd", "step")
    assert found.keys() == {1, 4} and found[1] == 0 and found[4] > 0.01
    assert set(frame[frame["metric"] == "output_jsd"]["target_run"]) == {"other"}
    by_step = behave(tmp_path, probes="output_distance", target=1, steps="0,4")
    assert set(by_step["step"]) == {0, 4}
    assert set(by_step["target_step"].dropna()) == {1}
    wide = tmp_path / "wide"
    make(wide / "step1", vocab_size=V + 4)
    with pytest.raises(UsageError, match="has a vocabulary of 64, and this run of 60"):
        behave(tmp_path, probes="output_distance", target=wide)


@pytest.mark.usefixtures("series")
def test_the_size_of_a_batch_changes_nothing(tmp_path: Path) -> None:
    one, other = (behave(tmp_path, batch_size=size, steps="1,4") for size in (1, 5))
    assert len(one) == len(other)
    keys = ["step", "metric", "layer", "head", "params", "target_step"]
    joined = one.merge(other, on=keys, suffixes=("", "_other"))
    assert len(joined) == len(one)
    np.testing.assert_allclose(joined["value"], joined["value_other"], rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("series")
def test_processes_come_to_the_same(tmp_path: Path) -> None:
    one = behave(tmp_path, probes="attention,token_losses")
    other = behave(tmp_path, probes="attention,token_losses", jobs=2)
    np.testing.assert_allclose(one["value"], other["value"], rtol=1e-6, atol=1e-7)


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which models are loaded."""

    seen: list[str] = []
    before = loading.loaded

    def counted(files, **more):
        seen.append(files.name)
        return before(files, **more)

    monkeypatch.setattr(loading, "loaded", counted)
    return seen


@pytest.mark.usefixtures("series")
def test_only_what_is_missing_is_computed(tmp_path: Path, loads: list[str]) -> None:
    out = tmp_path / "a"
    behave(tmp_path, probes="attention", out=out, steps="0,1")
    assert loads == ["step0", "step1"]
    both = behave(tmp_path, probes="attention,token_losses", out=out)
    assert loads[2:] == ["step0", "step1", "step4"]
    again = behave(tmp_path, probes="attention,token_losses", out=out)
    assert len(loads) == 5 and again.equals(both)
    (array,) = (out / "m" / "behaviour" / "token_losses").glob("step-00000001-*")
    array.write_bytes(array.read_bytes()[:-1])  # damaged: measured again
    assert behave(tmp_path, probes="attention,token_losses", out=out).equals(both) is not None
    assert loads[5:] == ["step1"]
    make(tmp_path / "m" / "step4", seed=77)  # another model under the same step
    changed = behave(tmp_path, probes="token_losses", out=out)
    assert loads[6:] == ["step4"]
    assert values(changed, "mean_loss", "step")[4] != values(both, "mean_loss", "step")[4]
    behave(tmp_path, probes="attention", out=out, steps="0", fresh=True)
    assert loads[7:] == ["step0"]


@pytest.mark.usefixtures("series")
def test_a_question_that_was_asked_before_another_one_still_has_all_of_its_rows(tmp_path: Path) -> None:
    """Both have the losses in common, and the rows of the later one take the place of the earlier one's."""
    asked = {"probes": "token_losses,induction", "out": tmp_path / "a", "steps": "0"}
    first = behave(tmp_path, **asked, continuation=4, seed=0)
    behave(tmp_path, **asked, continuation=6, seed=1)
    again = behave(tmp_path, **asked, continuation=4, seed=0)
    columns = ["step", "metric", "layer", "head", "params", "value"]
    assert again[columns].equals(first[columns]) and len(first) > 20


def test_a_killed_command_loses_the_step_at_hand_and_goes_on(tmp_path: Path) -> None:
    course(tmp_path / "m", steps=(0, 1, 2, 3))
    write_rows(tmp_path / "rows.parquet", n_rows=40)
    command = [sys.executable, "-m", "pico_analyze", "behave", tmp_path / "m", "--data", tmp_path / "rows.parquet"]
    command += ["--out", tmp_path / "a", "--probe", "token_losses", "--batch-size", "1", "--no-plot"]
    parts = tmp_path / "a" / "m" / ".parts"
    with subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, env=dict(os.environ)) as process:
        until = time.monotonic() + 90
        while len(list(parts.glob("*.parquet"))) < 2 and time.monotonic() < until and process.poll() is None:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    assert "already there" in done.stderr
    frame = pico_analyze.read_rows(tmp_path / "a" / "m")
    assert sorted(values(frame, "mean_loss", "step")) == [0, 1, 2, 3]
    assert not list((tmp_path / "a").rglob(".tmp-*"))


@pytest.mark.usefixtures("series")
def test_no_attention_of_all_layers_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a layer is reduced, no pattern of a layer before it is alive."""
    import gc
    import weakref

    from pico_analyze.models import watching

    alive: list[weakref.ref] = []
    reduce = watching.pattern_means

    def counted(weights: torch.Tensor) -> dict[str, torch.Tensor]:
        gc.collect()
        assert not [one for one in alive if one() is not None]
        alive.append(weakref.ref(weights))
        return reduce(weights)

    monkeypatch.setattr(watching, "pattern_means", counted)
    behave(tmp_path, probes="attention", steps="0", batch_size=5)
    assert len(alive) == LAYERS


def test_a_run_of_pico_is_probed_on_its_own_rows_and_on_those_it_was_trained_on(tmp_path: Path) -> None:
    path = write_run(tmp_path / "runs", steps=(0, 1, 3))
    frame = pico_analyze.behave(path, continuation=4)
    losses = frame[frame["metric"] == "mean_loss"]
    assert set(losses["split"]) == {"val"} and set(losses["n_samples"]) == {24}
    memorised = frame[frame["metric"] == "memorised"].set_index(["split", "step"])
    assert memorised.loc[("val", 0), "n_samples"] == 24
    # three batches of 12 rows, of which 32 are run on: at step 1 batch 0 was trained on, at step 3 all but batch 3
    assert (
        memorised.loc[("train", 0), "reason"] == "no row of the batches that are kept was trained on before this step"
    )
    counts = [memorised.loc[("train", step), "n_samples"] for step in (1, 3)]
    assert 8 <= counts[0] <= 12 and 20 <= counts[1] <= 24
    assert frame["tokens_seen"].notna().all()
    counted = frame[frame["metric"] == "bigram_kl"]["params"].map(json.loads)
    assert all(params["ngrams"].startswith("train ") for params in counted)


@pytest.mark.usefixtures("series")
def test_a_run_without_training_rows_says_so_and_the_rest_goes_on(tmp_path: Path, pico) -> None:
    done = pico(
        "behave", tmp_path / "m", "--data", tmp_path / "rows.parquet", "--out", tmp_path / "a", "--no-plot",
        "--probe", "token_losses",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "m keeps no batches that it was trained on: of memorisation there is the control alone" in done.err
    assert "mean_loss" in done.out and "forgotten" in done.out


@pytest.mark.usefixtures("series")
def test_the_command_prints_tables_and_draws_a_picture_for_each_probe(tmp_path: Path, pico) -> None:
    words = ("behave", tmp_path / "m", "--data", tmp_path / "rows.parquet", "--out", tmp_path / "a")
    done = pico(*words)
    assert done.code == 0, done.err
    for title in ("prefix_matching [length=16", "loss_at_position", "lens_kl", "output_jsd", "sink_mass"):
        assert title in done.out
    for name in ("induction", "attention", "token_losses", "logit_lens", "output_distance"):
        assert (tmp_path / "a" / "m" / f"behaviour-{name}.png").read_bytes()[:4] == b"\x89PNG"
    assert "3 steps probed (" in done.err
    rows = json.loads(pico(*words, "--format", "json", "--no-plot").out)
    assert {row["data"] for row in rows} == {"behaviour"} and {row["component"] for row in rows} == {"probe"}


def test_ages_of_acquisition_need_five_steps(tmp_path: Path) -> None:
    course(tmp_path / "m", steps=(0, 1))
    write_rows(tmp_path / "rows.parquet")
    (row,) = behave(tmp_path, probes="token_losses").query("metric == 'age_of_acquisition'").to_dict("records")
    assert row["reason"] == "2 steps are too few for a sigmoid: it needs 5"


def test_rows_that_are_too_short_are_said_and_the_rest_goes_on(tmp_path: Path) -> None:
    make(tmp_path / "m")
    write_rows(tmp_path / "rows.parquet", length=1)
    frame = behave(tmp_path)
    reasons = frame.groupby("metric")["reason"].first()
    assert reasons["attention_entropy"] == "rows of 1 token are too short: attention needs 2"
    assert reasons["in_context_score"] == "rows of 1 tokens are too short: an in-context score needs 20"
    assert frame[frame["metric"] == "mean_loss"]["value"].notna().all()
    make(tmp_path / "short" / "step0", max_position_embeddings=6)
    found = pico_analyze.behave(tmp_path / "short", data=str(tmp_path / "rows.parquet"), probes="induction")
    assert found.query("metric == 'copying'")["reason"].tolist() == [
        "the model reads 6 tokens of a vocabulary of 60: repeated tokens need 8 of 4"
    ]


def test_attention_that_cannot_be_read_is_said_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    make(tmp_path / "m")
    write_rows(tmp_path / "rows.parquet")
    before = loading.loaded

    def fused(files, **more):  # attention that never forms its weights
        return before(files, **more | {"eager": False})

    monkeypatch.setattr(loading, "loaded", fused)
    frame = behave(tmp_path, probes="attention,induction,logit_lens")
    unread = frame[frame["metric"].isin(["sink_mass", "prefix_matching"])]
    assert set(unread["reason"]) == {"attention cannot be read: no module of layer 0 gives weights of its heads"}
    assert frame[frame["metric"].isin(["copying", "lens_kl"])]["value"].notna().all()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"probes": "atention"}, "did you mean 'attention'"),
        ({"steps": "3"}, "step 3 does not exist"),
        ({"dtype": "int8"}, "models compute in float32, bfloat16, float16"),
        ({"device": "nowhere"}, "device 'nowhere' cannot be used"),
        ({"continuation": 13}, "rows of 24 tokens hold a prompt and a continuation of 12 at most"),
        ({"target": "7"}, "step 7 does not exist"),
    ],
)
@pytest.mark.usefixtures("series")
def test_what_does_not_fit_is_said(tmp_path: Path, more: dict, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        behave(tmp_path, **more)


def test_what_is_not_finite_leaves_no_row(tmp_path: Path) -> None:
    model = make(tmp_path / "m")
    with torch.no_grad():
        model.model.layers[1].self_attn.v_proj.weight[0, 0] = float("nan")
    shutil.rmtree(tmp_path / "m")
    model.save_pretrained(tmp_path / "m")
    write_rows(tmp_path / "rows.parquet")
    with pytest.raises(DataError, match="what the model says is not finite"):
        behave(tmp_path, out=tmp_path / "a")
    assert not list((tmp_path / "a").rglob("*.safetensors"))


def test_without_torch_it_is_said_what_to_install(tmp_path: Path) -> None:
    make(tmp_path / "m")
    code = "import sys; sys.modules['torch'] = None; from pico_analyze.cli.app import main; main()"
    command = [sys.executable, "-c", code, "behave", str(tmp_path / "m"), "--out", str(tmp_path / "a")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (
        done.returncode == 1 and done.stderr == "error: running models needs torch: pip install 'pico-analyze[torch]'\n"
    )


def test_the_example_is_true_and_its_parts_are_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    course(tmp_path / "models", steps=(0, 1))
    (tmp_path / "rows.jsonl").write_text("\n".join(['{"input_ids": [1, 2, 3, 4]}'] * 3))
    (example,) = doctest.DocTestFinder(recurse=False).find(pico_analyze.behave, "behave")
    assert tuple(doctest.DocTestRunner().run(example)) == (0, len(example.examples)) and example.examples
    for parameter in inspect.signature(pico_analyze.behave).parameters:
        assert f"\n    {parameter}: " in (inspect.getdoc(pico_analyze.behave) or ""), parameter


@pytest.fixture
def hub_mode() -> str:
    return "lfs"


def test_a_run_on_the_hub_is_probed_as_it_is_on_a_disk(tmp_path: Path, hub: Hub) -> None:
    path = write_run(tmp_path / "runs", steps=(0, 1))
    put_run(hub, path, "tester/demo")
    asked = {"probes": "token_losses,attention", "continuation": 4}
    here = pico_analyze.behave(path, **asked)
    there = pico_analyze.behave("hf://tester/demo@demo", **asked, cache_dir=tmp_path / "cache", out=tmp_path / "a")
    assert set(there[there["metric"] == "memorised"]["split"]) == {"train", "val"}
    np.testing.assert_array_equal(here["value"], there["value"])


@pytest.mark.usefixtures("series")
def test_series_of_probes_are_summarised_as_those_of_metrics_are(tmp_path: Path) -> None:
    frame = behave(tmp_path)
    summary = pico_analyze.summarise(frame)
    entropies = summary[summary["metric"] == "attention_entropy"]
    assert len(entropies) == LAYERS * H and set(entropies["n_steps"]) == {3}
    assert len(summary[summary["metric"] == "output_kl"]) == 1


def test_tokens_that_are_learned_have_their_ages_in_a_file(tmp_path: Path) -> None:
    """A model that says one token more and more: the bias of its head grows from step to step."""
    steps = (0, 1, 3, 7, 15, 31)
    model = make(tmp_path / "x", "gpt_neox")
    assert model.get_output_embeddings().bias is None
    direction = torch.zeros(V, D)
    direction[7] = 1
    for step in steps:
        with torch.no_grad():
            model.gpt_neox.final_layer_norm.weight.zero_()
            model.gpt_neox.final_layer_norm.bias.fill_(1.0)
            model.get_output_embeddings().weight.copy_(direction * 0.2 * np.log2(step + 1))
        model.save_pretrained(tmp_path / "m" / f"step{step}")
    pq.write_table(pa.table({"input_ids": [[7] * (T + 1)] * 2}), tmp_path / "rows.parquet")
    frame = behave(tmp_path, probes="token_losses", out=tmp_path / "a")
    (row,) = frame[frame["metric"] == "age_of_acquisition"].to_dict("records")
    # the logit of token 7 is 24 × 0.2 × log2(1 + step), the others' 0
    losses = [float(np.log(np.exp(z) + V - 1) - z) for z in (4.8 * np.log2(np.add(steps, 1)))]
    half = (np.log(V) + losses[-1]) / 2
    exact = np.expm1(np.interp(-half, -np.array(losses), np.log1p(steps)))
    assert row["value"] == pytest.approx(exact, rel=0.25) and row["step"] == 31
    assert json.loads(row["extra"])["acquired"] == 1
    (file,) = (tmp_path / "a" / "m" / "behaviour" / "token_losses").glob("acquisition-*.csv")
    header, line = file.read_text().splitlines()
    assert header == "token_id,occurrences,age_of_acquisition" and line.startswith(f"7,{2 * T},")
    assert float(line.rpartition(",")[2]) == pytest.approx(row["value"], rel=1e-5)


def test_what_a_killed_command_left_is_removed_and_what_another_holds_is_not(tmp_path: Path) -> None:
    for name in ("left", "held", "new"):
        (tmp_path / f"{loading.TEMPORARY}{name}").mkdir()
    for name in ("left", "held"):
        os.utime(tmp_path / f"{loading.TEMPORARY}{name}", (1e9, 1e9))
    with FileLock(tmp_path / f"{loading.TEMPORARY}held" / loading.LOCK):
        os.utime(tmp_path / f"{loading.TEMPORARY}held", (1e9, 1e9))
        loading.sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {f"{loading.TEMPORARY}held", f"{loading.TEMPORARY}new"}


def test_without_a_run_it_is_the_one_that_changed_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pico) -> None:
    monkeypatch.chdir(tmp_path)
    nothing = pico("behave", "--probe", "attention")
    assert nothing.code == 3 and "no run under" in nothing.err
    course(tmp_path / "m", steps=(0, 1))
    write_rows(tmp_path / "rows.parquet")
    pico_analyze.convert(tmp_path / "m", out=tmp_path / "runs" / "converted")
    done = pico("behave", "--probe", "attention", "--data", tmp_path / "rows.parquet", "--no-plot")
    assert done.code == 0 and "2 steps probed" in done.err and "in analysis/converted" in done.err
