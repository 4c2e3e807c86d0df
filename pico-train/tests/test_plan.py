"""What a plan says is what a run then takes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from support.processor import bf16_attention_fails

from pico_schema import ModelSpec
from pico_train.config import layers
from pico_train.errors import ConfigError
from pico_train.model.decoder import Decoder
from pico_train.plan import activation_bytes_per_token, as_table, busiest_hour, plan


def config(preset="demo", *assignments):
    return layers.load_config(preset=preset, set=assignments)


def test_the_figures_of_large_are_those_worked_out_by_hand():
    report = plan(config("large"), devices=16, peak_tflops=100.0, mfu=0.5)
    d, ff, v, layers, t = 1536, 6144, 50_304, 12, 2048
    matmul = layers * (2 * d * d + 2 * d * 512 + 3 * d * ff) + v * d
    assert report.parameters == 569_808_384
    # 6 per parameter of a matrix product, and causal attention's two products: 2 · 2 · 3 · T/2 · d in each layer.
    assert report.flops_per_token == 6 * matmul + 6 * layers * d * t
    assert report.tokens == 200_000 * 1024 * 2048
    assert report.seconds_per_step == pytest.approx(1024 * 2048 * report.flops_per_token / (16 * 100e12 * 0.5))
    assert report.seconds == pytest.approx(200_000 * report.seconds_per_step)
    assert report.accumulation * report.micro_batch_size * report.devices == 1024
    # 0, 1, 2, 4 … 512 and every thousandth
    assert report.checkpoints == 11 + 200
    assert report.checkpoint_bytes_state == 2 * 4 * report.parameters
    assert report.memory_optimizer == 2 * report.memory_gradients == 2 * 4 * report.parameters
    assert report.commits_per_hour == pytest.approx(211 / (report.seconds / 3600))


def test_sharding_divides_what_is_held_and_precision_halves_it():
    whole = plan(config("large"), devices=16)
    sharded = plan(config("large", "distributed.strategy=fsdp"), devices=16)
    assert sharded.memory_optimizer == pytest.approx(whole.memory_optimizer / 16, rel=1e-6)
    assert sharded.memory_gradients == pytest.approx(whole.memory_gradients / 16, rel=1e-6)
    assert sharded.memory_activations == whole.memory_activations
    low = plan(config("large", "training.precision=bf16-true"), devices=16)
    assert low.memory_optimizer * 2 == whole.memory_optimizer
    assert low.checkpoint_bytes_state * 2 == whole.checkpoint_bytes_state


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true"])
@pytest.mark.parametrize("kv_heads", [1, 4])
def test_activations_are_what_autograd_keeps(precision, kv_heads):
    if precision != "32-true" and (why := bf16_attention_fails()) is not None:
        pytest.skip(why)

    def kept(layers: int) -> int:
        spec = ModelSpec(
            vocab_size=8, d_model=32, n_layers=layers, n_heads=4, n_kv_heads=kv_heads, d_ff=72, max_seq_len=256
        )
        model = Decoder(spec)
        model.init_weights(0)
        if precision == "bf16-true":
            model.bfloat16()
        weights = {p.numel() for p in model.parameters()}
        storages, alive = {}, []

        def pack(tensor):
            alive.append(tensor)  # a storage that is freed could have its address given to another one
            if tensor.numel() not in weights:
                storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        mixed = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed")
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), mixed:
            model.hidden(torch.zeros(1, 200, dtype=torch.long))
        return sum(storages.values())

    spec = ModelSpec(vocab_size=8, d_model=32, n_layers=1, n_heads=4, n_kv_heads=kv_heads, d_ff=72)
    assert (kept(3) - kept(2)) / 200 == activation_bytes_per_token(spec, precision)


def test_checkpoints_have_the_size_it_says(tmp_path):
    from pico_train.reporter import Reporter
    from pico_train.run import train

    for i in range(40):
        lines = (f"line {i} of a text about nothing, {i * j} words long" for j in range(20))
        (tmp_path / f"text-{i:02}.txt").write_text("\n".join(lines))
    settled = config(
        "demo", f"data.paths=[{tmp_path}/text-*.txt]", "data.source=text", "data.tokenizer=train:300",
        "model.vocab_size=300", "data.seq_len=32", "training.max_steps=3", "training.schedule.warmup_steps=1",
        "data.val_rows=8", "model.n_layers=2", f"out={tmp_path}", "checkpoint.keep.last=1", "captures.moments=true",
        "captures.noise=4",
        'captures.sites=["attn.v","attn.z","mlp.up","mlp.act","resid","head","embed","norm.final"]',
    )  # fmt: skip
    report = plan(settled)
    torch.set_num_threads(1)
    train(settled, reporter=Reporter())
    manifests = sorted((tmp_path / "demo" / "checkpoints").glob("step-*/manifest.json"))
    assert len(manifests) == report.checkpoints == 4
    sizes = [
        {name: entry["size"] for name, entry in json.loads(path.read_bytes())["files"].items()} for path in manifests
    ]
    last = sizes[-1]
    assert last["model.safetensors"] == pytest.approx(4 * report.parameters, rel=0.01)
    state = sum(size for name, size in last.items() if name.startswith("training_state/"))
    assert state == pytest.approx(report.checkpoint_bytes_state, rel=0.02)
    captures = sum(size for name, size in last.items() if name.startswith("captures/") and "batch" not in name)
    assert captures == pytest.approx(report.checkpoint_bytes_captures, rel=0.01)
    assert sum(sum(each.values()) for each in sizes) == pytest.approx(report.published_bytes, rel=0.1)
    on_disk = sum(path.stat().st_size for path in (tmp_path / "demo" / "checkpoints").rglob("*") if path.is_file())
    assert on_disk == pytest.approx(report.disk_bytes, rel=0.1)


def test_the_busiest_hour_slides_over_the_schedule():
    assert busiest_hour([], 1.0) == 0
    assert busiest_hour([0, 1, 2, 4, 8, 1000], 1.0) == 6
    assert busiest_hour([0, 1, 2, 4, 8, 1000], 1800.0) == 2
    assert busiest_hour([0, 5, 6, 7], 3600.0) == 1


def test_the_demo_keeps_samples_enough_to_compare_and_less_is_said():
    shown = {row["what"]: row for row in as_table(plan(config("demo")))}["samples of val"]
    assert shown["how much"] == "1,024" and shown["note"] == "comparisons want 640, five a dimension"
    few = plan(config("demo", "captures.val.positions=16"))
    assert (few.val_samples, few.val_samples_wanted) == (512, 640)
    assert as_table(few)[-4]["note"].endswith("five a dimension: raise captures.val.positions")
    wide = plan(config("demo", "captures.sites=[attn.v,mlp.up]", "captures.val.positions=all"))
    assert (wide.val_samples, wide.val_samples_wanted) == (32 * 256, 5 * 512)
    none = plan(config("demo", "captures.val.enabled=false"))
    assert none.val_samples == 0 and as_table(none)[-4]["note"] == "no validation activations are kept"


def test_without_a_peak_there_is_no_invented_time():
    report = plan(config("small"))
    assert report.seconds is report.seconds_per_step is None
    assert report.commits_per_hour is report.commits_busiest_hour is None
    shown = {row["what"]: row["how much"] for row in as_table(report)}
    assert shown["wall time"] == "unknown: give --peak-tflops"


def test_a_batch_that_does_not_divide_is_refused_with_a_number_that_does():
    with pytest.raises(ConfigError, match="1024 does not divide over 15 devices: 16 would do"):
        plan(config("large"), devices=15)
    with pytest.raises(ConfigError, match="micro_batch_size=5 does not divide the share of 8 rows"):
        plan(config("demo", "training.batch_size=80", "training.micro_batch_size=5"), devices=10)


def test_planning_the_largest_model_needs_neither_torch_nor_numpy():
    code = (
        "import sys; from pico_train import plan; from pico_train.config import layers;"
        "plan.as_table(plan.plan(layers.load_config(preset='xl'), devices=64, peak_tflops=989));"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
