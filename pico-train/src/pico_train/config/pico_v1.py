"""The training YAML of Pico 1.0 as settings of this version: each key is mapped, or refused by name.

What 1.0 does and says nothing of is written out (its AdamW has torch's defaults and decays every parameter, nothing is
clipped, the rate rises and falls on straight lines), so that the run is the one that the file meant. What cannot be the
same is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pico_train.config import layers
from pico_train.config.mistakes import did_you_mean
from pico_train.config.schema import RunConfig
from pico_train.errors import ConfigError

PRESET = "medium"
"""The preset below: 1.0's own default size, and the family's data."""
DEFAULTS: dict[str, Any] = {
    "data.dataset.name": "pico-lm/pretokenized-dolma",
    "data.dataloader.batch_size": 1024,
    "data.tokenizer.name": "allenai/OLMo-7B-0724-hf",
    "data.tokenizer.vocab_size": 50_304,
    "model.model_type": "pico_decoder",
    "model.d_model": 768,
    "model.n_layers": 12,
    "model.vocab_size": 50_304,
    "model.batch_size": 1024,
    "model.max_seq_len": 2048,
    "model.attention_n_heads": 12,
    "model.attention_n_kv_heads": 4,
    "model.activation_hidden_dim": 3072,
    "model.norm_eps": 1e-6,
    "model.position_emb_theta": 10_000.0,
    "training.max_steps": 200_000,
    "training.fabric.num_nodes": 1,
    "training.fabric.num_devices": 1,
    "training.fabric.precision": "bf16-mixed",
    "training.fabric.accelerator": "cuda",
    "training.optimization.optimizer": "adamw",
    "training.optimization.lr": 3e-4,
    "training.optimization.lr_scheduler": "linear_with_warmup",
    "training.optimization.lr_warmup_steps": 2500,
    "training.optimization.gradient_accumulation_steps": 128,
    "evaluation.metrics": ["paloma"],
    "evaluation.paloma.dataset_name": "pico-lm/pretokenized-paloma-tinsy",
    "evaluation.paloma.dataset_split": "val",
    "evaluation.paloma.max_length": 2048,
    "evaluation.paloma.batch_size": 16,
    "monitoring.logging.log_level": "INFO",
    "monitoring.logging.log_every_n_steps": 100,
    "monitoring.save_to_wandb": False,
    "monitoring.wandb.project": "",
    "monitoring.wandb.entity": "",
    "monitoring.save_to_picolabs": False,
    "monitoring.pico_report.lab_hash": "",
    "monitoring.pico_report.auto_commit": True,
    "checkpointing.run_name": None,
    "checkpointing.runs_dir": "runs",
    "checkpointing.checkpoints_dir": "checkpoints",
    "checkpointing.logs_dir": "logs",
    "checkpointing.fabric_checkpoint_dir": "fabric_state",
    "checkpointing.fabric_checkpoint_filename": "checkpoint.pt",
    "checkpointing.learning_dynamics_dir": "learning_dynamics",
    "checkpointing.save_every_n_steps": 1000,
    "checkpointing.save_to_hf": False,
    "checkpointing.hf_checkpoint.repo_id": "",
    "checkpointing.hf_checkpoint.collection_slug": None,
    "checkpointing.training.auto_resume": True,
    "checkpointing.evaluation.eval_results_dir": "eval_results",
    "checkpointing.learning_dynamics.layer_suffixes": ["attention.v_proj", "attention.o_proj", "swiglu.w_2"],
    "checkpointing.learning_dynamics.sequence_idx": -1,
    "checkpointing.learning_dynamics.batch_size": 8,
    "checkpointing.learning_dynamics.eval_data": "pico-lm/pretokenized-paloma-tinsy",
}
"""Every key of 1.0, with what it is where a file does not say it."""
COPIED = {
    "data.dataset.name": "data.repo",
    "data.dataloader.batch_size": "training.batch_size",
    "data.tokenizer.name": "data.tokenizer",
    "model.d_model": "model.d_model",
    "model.n_layers": "model.n_layers",
    "model.vocab_size": "model.vocab_size",
    "model.max_seq_len": "data.seq_len",
    "model.attention_n_heads": "model.n_heads",
    "model.activation_hidden_dim": "model.d_ff",
    "model.norm_eps": "model.norm_eps",
    "model.position_emb_theta": "model.rope_theta",
    "training.max_steps": "training.max_steps",
    "training.fabric.num_nodes": "distributed.num_nodes",
    "training.fabric.num_devices": "distributed.devices",
    "training.fabric.precision": "training.precision",
    "training.optimization.lr": "training.optimizer.lr",
    "training.optimization.lr_warmup_steps": "training.schedule.warmup_steps",
    "evaluation.paloma.batch_size": "evaluation.batch_size",
    "monitoring.logging.log_every_n_steps": "monitoring.log_every",
    "checkpointing.runs_dir": "out",
}
"""Keys that only have another name."""
ONLY = {
    "model.model_type": "pico_decoder",
    "training.optimization.optimizer": "adamw",
    "training.optimization.lr_scheduler": "linear_with_warmup",
    "checkpointing.learning_dynamics.sequence_idx": -1,
    "monitoring.save_to_picolabs": False,
}
"""Keys of which there is one value that 1.0 itself, or this version, can do."""
NEEDLESS = {
    "data.tokenizer.vocab_size": "the tokenizer says it",
    "model.batch_size": "1.0 does not read it",
    "monitoring.logging.log_level": "warnings are always told",
    "checkpointing.checkpoints_dir": "a run has one layout",
    "checkpointing.logs_dir": "a run has one layout",
    "checkpointing.fabric_checkpoint_dir": "a run has one layout",
    "checkpointing.fabric_checkpoint_filename": "a run has one layout",
    "checkpointing.learning_dynamics_dir": "a run has one layout",
    "checkpointing.evaluation.eval_results_dir": "a run has one layout",
    "checkpointing.learning_dynamics.batch_size": "captures are taken from the training step itself",
    "monitoring.pico_report.lab_hash": "Pico Labs is not reported to",
    "monitoring.pico_report.auto_commit": "nothing is committed for you",
}
"""Keys that nothing depends on any more, and why."""
SITES = {
    "attention.q_proj": "attn.q",
    "attention.k_proj": "attn.k",
    "attention.v_proj": "attn.v",
    "attention.o_proj": "attn.o",
    "swiglu.w_0": "mlp.gate",
    "swiglu.w_1": "mlp.up",
    "swiglu.w_2": "mlp.down",
}


@dataclass(frozen=True)
class Converted:
    """A file of 1.0 in this version's words."""

    settings: dict[str, Any]
    """As they nest, `preset` among them: what `pico-train run FILE` takes."""
    config: RunConfig
    """The same, resolved."""
    differences: list[str] = field(default_factory=list)
    """What will not be as 1.0 did it, one sentence each."""


def convert(raw: Mapping[str, Any], *, where: str, name: str) -> Converted:
    """Convert what a YAML of 1.0 holds.

    Args:
        raw: the file's content.
        where: the file, for messages.
        name: of the run, where the file does not name it.

    Raises:
        ConfigError: a key that 1.0 does not have, or a value that cannot be mapped; all of them are named.
    """
    given = _flat(raw)
    wrong = [
        f"{key}: Pico 1.0 has no such key{did_you_mean(key, DEFAULTS)}; it would have dropped it"
        for key in given
        if key not in DEFAULTS
    ]
    old = DEFAULTS | {key: value for key, value in given.items() if key in DEFAULTS}
    for key, only in ONLY.items():
        if old[key] != only:
            wrong.append(f"{key}={old[key]!r}: {only!r} is the only value that can be mapped")
    settings, differences = _written(old, given, name, wrong)
    if wrong:
        raise ConfigError(f"{where}: {'; '.join(wrong)}")
    nested: dict[str, Any] = {"preset": PRESET}
    for path, value in settings.items():
        nested = layers.merge(nested, layers.nested(path, value))
    values = {key: value for key, value in nested.items() if key != "preset"}
    config = layers.resolved(
        PRESET, values, {}, lambda path: f"{where}: as {'.'.join(path)}: " if path else f"{where}: "
    )
    return Converted(nested, config, differences)


def _flat(raw: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in raw.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and path not in DEFAULTS:
            found |= _flat(value, f"{path}.")
        elif value is not None or path in DEFAULTS:
            found[path] = value
    return found


def _written(
    old: Mapping[str, Any], given: Mapping[str, Any], name: str, wrong: list[str]
) -> tuple[dict[str, Any], list[str]]:
    """The settings by their paths, and what will differ; what cannot be mapped is added to `wrong`."""
    new = {path: old[key] for key, path in COPIED.items()}
    told: list[str] = []
    new["name"] = old["checkpointing.run_name"] or name
    new["data.source"], new["data.order"] = "hub", "sequential"
    heads = old["model.attention_n_kv_heads"]
    new["model.n_kv_heads"] = old["model.attention_n_heads"] if heads is None else heads
    accelerator = old["training.fabric.accelerator"]
    new["distributed.accelerator"] = "cuda" if accelerator == "gpu" else accelerator
    new |= _optimization(old, wrong)
    new |= _kept(old, wrong)
    if old["monitoring.save_to_wandb"]:
        new["monitoring.wandb.mode"] = "online"
        new |= {f"monitoring.wandb.{key}": old[f"monitoring.wandb.{key}"] or None for key in ("entity",)}
        if old["monitoring.wandb.project"]:
            new["monitoring.wandb.project"] = old["monitoring.wandb.project"]
    if old["training.fabric.num_nodes"] != 1 or old["training.fabric.num_devices"] != 1:
        new["distributed.strategy"] = "ddp"
        told.append("several devices train under DDP, where 1.0 took DeepSpeed's stage 2: the same gradients")
    if old["evaluation.metrics"]:
        told.append(
            "evaluation is the loss on held-out rows of the data themselves, where 1.0 measured Paloma: that is done "
            "of the checkpoints, afterwards"
        )
    if old["checkpointing.learning_dynamics.eval_data"]:
        told.append("validation captures are taken on held-out rows of the data, where 1.0 took rows of eval_data")
    if not old["checkpointing.training.auto_resume"]:
        told.append("a run that is there is always resumed (auto_resume: false): give a new one another name")
    told.append("initial matrices are normal with a deviation of 0.02, where 1.0 has those of torch.nn.Linear")
    told.append("rotary pairs are half-split, where 1.0 interleaves them: the same functions, in another order of rows")
    told += [f"{key} is left out: {NEEDLESS[key]}" for key in given if key in NEEDLESS and given[key] != DEFAULTS[key]]
    return new, told


def _optimization(old: Mapping[str, Any], wrong: list[str]) -> dict[str, Any]:
    """What 1.0's update is: torch's AdamW as it is by default, no clipping, straight lines."""
    found: dict[str, Any] = {
        "training.optimizer.beta1": 0.9,
        "training.optimizer.beta2": 0.999,
        "training.optimizer.eps": 1e-8,
        "training.optimizer.weight_decay": 0.01,
        "training.optimizer.decay": "all",
        "training.grad_clip": 0.0,
        "training.schedule.name": "linear",
    }
    batch, accumulation = old["data.dataloader.batch_size"], old["training.optimization.gradient_accumulation_steps"]
    devices, nodes = old["training.fabric.num_devices"], old["training.fabric.num_nodes"]
    numbers = {"data.dataloader.batch_size": batch, "training.optimization.gradient_accumulation_steps": accumulation}
    numbers |= {"training.fabric.num_devices": devices, "training.fabric.num_nodes": nodes}
    bad = [key for key, value in numbers.items() if type(value) is not int or value < 1]
    if bad:
        wrong += [f"{key}={numbers[key]!r}: a whole number above 0 is expected" for key in bad]
        return found
    micro, rest = divmod(batch, accumulation * devices * nodes)
    if rest or not micro:
        parts = f"{accumulation} passes on {devices * nodes} devices"
        wrong.append(f"data.dataloader.batch_size={batch} does not divide over {parts}")
    found["training.micro_batch_size"] = micro
    return found


def _kept(old: Mapping[str, Any], wrong: list[str]) -> dict[str, Any]:
    """Checkpoints, captures and publishing."""
    every = {"early": 0, "every": old["checkpointing.save_every_n_steps"]}
    found: dict[str, Any] = {f"checkpoint.{kind}": every for kind in ("weights", "training_state", "captures")}
    found["evaluation.cadence"] = every
    suffixes, sites = old["checkpointing.learning_dynamics.layer_suffixes"], []
    for suffix in suffixes if isinstance(suffixes, list) else [suffixes]:
        if suffix not in SITES:
            key = "checkpointing.learning_dynamics.layer_suffixes"
            wrong.append(
                f"{key}: {suffix!r} is no layer{did_you_mean(str(suffix), SITES)}: there are {', '.join(SITES)}"
            )
        else:
            sites.append(SITES[suffix])
    found["captures.sites"] = sites
    found["captures.val.positions"] = "last"
    found["captures.val.enabled"] = bool(old["checkpointing.learning_dynamics.eval_data"])
    if old["checkpointing.save_to_hf"]:
        if not old["checkpointing.hf_checkpoint.repo_id"]:
            wrong.append("checkpointing.save_to_hf: hf_checkpoint.repo_id names no repository")
        found["publish.repo"] = old["checkpointing.hf_checkpoint.repo_id"]
        found["publish.collection"] = old["checkpointing.hf_checkpoint.collection_slug"]
    return found
