"""The training YAML of Pico 1.0: each key mapped, or refused by name; the run that it meant."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from support.training_runs import logged
from typer.testing import CliRunner

from pico_schema import documents, layout
from pico_train.cli import app
from pico_train.config import layers, pico_v1
from pico_train.errors import ConfigError
from pico_train.schedules import learning_rate

FILE: dict[str, Any] = {
    "data": {"dataloader": {"batch_size": 32}, "dataset": {"name": "pico-lm/pretokenized-dolma"}},
    "checkpointing": {
        "run_name": "pico-decoder-demo-1",
        "save_every_n_steps": 50,
        "save_to_hf": True,
        "hf_checkpoint": {"repo_id": "pico-lm/demo"},
        "learning_dynamics": {"batch_size": 16, "layer_suffixes": ["attention.q_proj", "swiglu.w_2"]},
    },
    "model": {"d_model": 96, "activation_hidden_dim": 384, "attention_n_kv_heads": None},
    "evaluation": {"paloma": {"batch_size": 32}},
    "monitoring": {"save_to_wandb": True, "wandb": {"project": "p", "entity": "e"}},
    "training": {
        "max_steps": 100,
        "optimization": {"lr": 0.001, "lr_warmup_steps": 30, "gradient_accumulation_steps": 2},
        "fabric": {"num_devices": 1, "accelerator": "gpu"},
    },
}


def convert(changes: dict[str, Any] | None = None) -> pico_v1.Converted:
    raw = copy.deepcopy(FILE)
    for path, value in (changes or {}).items():
        *sections, key = path.split(".")
        target = raw
        for section in sections:
            target = target.setdefault(section, {})
        target[key] = value
    return pico_v1.convert(raw, where="old.yaml", name="old")


def test_the_run_is_the_one_that_the_file_meant() -> None:
    config = convert().config
    assert (config.name, config.model.d_model, config.model.d_ff, config.model.n_kv_heads) == (
        "pico-decoder-demo-1", 96, 384, 12,
    )  # fmt: skip
    assert (config.training.batch_size, config.training.micro_batch_size, config.data.seq_len) == (32, 16, 2048)
    assert (config.training.precision, config.distributed.accelerator) == ("bf16-mixed", "cuda")
    assert (config.publish.repo, config.monitoring.wandb.mode) == ("pico-lm/demo", "online")
    assert config.captures.sites == ("attn.q", "mlp.down")
    assert (config.checkpoint.weights.early, config.checkpoint.weights.every) == (0, 50)


def test_the_update_is_torch_s_own_by_default_as_it_was_in_1_0() -> None:
    settings = convert().config.training.optimizer
    [theirs] = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(2, 2))], lr=1e-3).param_groups
    assert (settings.lr, settings.beta1, settings.beta2) == (theirs["lr"], *theirs["betas"])
    assert (settings.eps, settings.weight_decay, settings.decay) == (theirs["eps"], theirs["weight_decay"], "all")
    assert convert().config.training.grad_clip == 0


@pytest.mark.parametrize("step", [0, 1, 15, 29, 30, 31, 65, 99])
def test_the_learning_rate_rises_and_falls_on_straight_lines(step: int) -> None:
    training = convert().config.training
    found = learning_rate(step, peak=training.optimizer.lr, max_steps=100, **training.schedule.model_dump())
    expected = 1e-3 * (step / 30 if step < 30 else (100 - step) / 70)
    assert found == pytest.approx(expected, rel=1e-9)


def test_the_output_is_a_file_that_run_takes(tmp_path: Path) -> None:
    converted = convert()
    file = tmp_path / "new.yaml"
    file.write_text(yaml.safe_dump(converted.settings), encoding="utf-8")
    assert layers.load_config(file) == converted.config


def test_a_run_is_trained_from_a_converted_file(tmp_path: Path, text: Path) -> None:
    """Its data and its device are replaced: what 1.0 read has to be fetched, and it wanted a GPU."""
    old = tmp_path / "old.yaml"
    old.write_text(yaml.safe_dump(FILE), encoding="utf-8")
    new = tmp_path / "new.yaml"
    new.write_text(CliRunner().invoke(app.app, ["config", "convert", str(old)], catch_exceptions=False).stdout)
    data = ["source=text", f"paths={text}", f"val_paths={text.with_name('held_out.txt')}", "tokenizer=train:300"]
    replaced = [f"data.{each}" for each in (*data, "seq_len=12", "val_rows=4", "repo=null", "order=shuffled")]
    replaced += ["model.vocab_size=300", "training.batch_size=4", "training.micro_batch_size=2", "publish.repo=null"]
    replaced += ["distributed.accelerator=cpu", "training.max_steps=40", "monitoring.wandb.mode=disabled"]
    words = [word for each in replaced for word in ("--set", each)]
    line = ["run", str(new), "--out", str(tmp_path / "runs"), "--set", "monitoring.log_every=1", *words]
    assert CliRunner().invoke(app.app, line, catch_exceptions=False).exit_code == 0
    run = tmp_path / "runs" / "pico-decoder-demo-1"
    # up over 30 steps and down over ten, on straight lines, by 1.0's own AdamW and without clipping
    rates = [row["lr"] for row in logged(run) if "lr" in row and row["step"] < 40]
    assert rates == pytest.approx([1e-3 * (step / 30 if step < 30 else (40 - step) / 10) for step in range(40)])
    last = documents.read_checkpoint(run / layout.checkpoint_dir(40))
    assert last.model.n_kv_heads == last.model.n_heads == 12
    kinds = {name.split(".", 2)[2] for capture in last.captures for name in capture.activations}
    assert kinds == {"attn.q", "mlp.down"}


def test_an_empty_file_is_1_0_by_its_defaults() -> None:
    config = pico_v1.convert({}, where="x.yaml", name="x").config
    assert (config.model.d_model, config.training.batch_size, config.training.max_steps) == (768, 1024, 200_000)
    assert (config.training.schedule.warmup_steps, config.training.micro_batch_size, config.name) == (2500, 8, "x")


def test_what_will_differ_is_told() -> None:
    told = " ".join(
        convert({"training.fabric.num_devices": 4, "checkpointing.training": {"auto_resume": False}}).differences
    )
    for word in ("DDP", "Paloma", "half-split", "auto_resume", "deviation of 0.02", "learning_dynamics.batch_size"):
        assert word in told


REFUSED = {
    "training.optimization.optimizer": ("sgd", r"training\.optimization\.optimizer='sgd': 'adamw' is the only value"),
    "training.optimization.lr_schedule": ("x", r"no such key; did you mean 'training\.optimization\.lr_scheduler'"),
    "checkpointing.learning_dynamics.sequence_idx": (3, r"sequence_idx=3: -1 is the only value"),
    "checkpointing.learning_dynamics.layer_suffixes": (["swiglu.w_3"], r"'swiglu\.w_3' is no layer; did you mean"),
    "data.dataloader.batch_size": (33, "batch_size=33 does not divide over 2 passes on 1 devices"),
    "training.optimization.gradient_accumulation_steps": (0, "a whole number above 0 is expected"),
    "monitoring.save_to_picolabs": (True, "save_to_picolabs=True: False is the only value"),
    "checkpointing.hf_checkpoint": ({}, "hf_checkpoint.repo_id names no repository"),
    "training.fabric.precision": ("bf16", r"as training\.precision: training\.precision: input should be"),
    "model.d_model": ("wide", r"old\.yaml: as model\.d_model"),
}


@pytest.mark.parametrize("key", REFUSED)
def test_what_cannot_be_mapped_is_refused_by_name(key: str) -> None:
    value, said = REFUSED[key]
    with pytest.raises(ConfigError, match=said) as refused:
        convert({key: value})
    assert str(refused.value).startswith("old.yaml: ") and "\n" not in str(refused.value)


def test_every_key_of_1_0_is_told_apart() -> None:
    handled = {*pico_v1.COPIED, *pico_v1.ONLY, *pico_v1.NEEDLESS}
    others = {
        "model.attention_n_kv_heads", "training.fabric.accelerator", "evaluation.metrics", "monitoring.save_to_wandb",
        "training.optimization.gradient_accumulation_steps", "monitoring.wandb.project", "monitoring.wandb.entity",
        "evaluation.paloma.dataset_name", "evaluation.paloma.dataset_split", "evaluation.paloma.max_length",
        "checkpointing.run_name", "checkpointing.save_every_n_steps", "checkpointing.save_to_hf",
        "checkpointing.hf_checkpoint.repo_id", "checkpointing.hf_checkpoint.collection_slug",
        "checkpointing.training.auto_resume", "checkpointing.learning_dynamics.layer_suffixes",
        "checkpointing.learning_dynamics.eval_data",
    }  # fmt: skip
    assert handled | others == set(pico_v1.DEFAULTS) and not handled & others
