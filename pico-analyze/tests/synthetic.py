"""Runs as pico-train leaves them, made of random numbers that converge from step to step."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from pico_schema import (
    Capture,
    CheckpointEntry,
    CheckpointManifest,
    DataCursor,
    DataFingerprint,
    FileEntry,
    ModelSpec,
    Producer,
    RunManifest,
    documents,
    layout,
    sites,
)
from pico_schema.digests import sha256_file

SPEC = ModelSpec(vocab_size=64, d_model=16, n_layers=2, n_heads=4, n_kv_heads=2, d_ff=32, max_seq_len=32)
STEPS = (0, 1, 2, 4, 8)
CAPTURED = ("attn.v", "attn.o", "mlp.down")
POSITIONS = (3, 7, 11, 15)
N_ROWS = 24


def weight_shape(site: sites.Site, spec: ModelSpec) -> tuple[int, ...]:
    d, kv, ff, vocab = spec.d_model, spec.kv_dim, spec.d_ff, spec.vocab_size
    return {
        "attn.q": (d, d),
        "attn.k": (kv, d),
        "attn.v": (kv, d),
        "attn.o": (d, d),
        "mlp.gate": (ff, d),
        "mlp.up": (ff, d),
        "mlp.down": (d, ff),
        "embed": (vocab, d),
        "norm.final": (d,),
        "head": (vocab, d),
    }[site.kind]


def draw(shape: tuple[int, ...], *key: object) -> np.ndarray:
    """Random numbers that depend on the key alone."""
    seed = int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8], "big")
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def moving(shape: tuple[int, ...], progress: float, *key: object) -> np.ndarray:
    """From one random matrix (progress 0) to another (progress 1)."""
    return (1 - progress) * draw(shape, "start", *key) + progress * draw(shape, "end", *key)


def bfloat16(array: np.ndarray) -> np.ndarray:
    """The upper 16 bits of float32 values: bfloat16, rounded towards zero."""
    return (np.ascontiguousarray(array, np.float32).view(np.uint32) >> 16).astype(np.uint16)


def safetensors_bytes(tensors: dict[str, np.ndarray], *, bf16: bool = False) -> bytes:
    if not bf16:
        return save(tensors)
    content = save({name: bfloat16(array) for name, array in tensors.items()})
    return _retyped(content)


def _retyped(content: bytes) -> bytes:
    """The same file, its 16-bit integers declared bfloat16."""
    length = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + length].replace(b'"U16"', b'"BF16"')
    return len(header).to_bytes(8, "little") + header + content[8 + length :]


def _noisy(spec: ModelSpec) -> list[str]:
    """All of whose gradients there is noise."""
    blocks = [sites.block_name(layer) for layer in range(spec.n_layers)]
    return [*map(str, sites.expand(sites.WEIGHTED_KINDS, spec.n_layers)), *blocks, sites.WHOLE_MODEL]


def noise_lines(n_parts: int, seed: int, step: int, group: str) -> np.ndarray:
    """Norms of gradients of parts of a batch of two rows each, as a captures file holds them."""
    digest = hashlib.sha256(f"{seed} {step} {group}".encode()).digest()
    rng = np.random.default_rng(list(digest[:8]))
    gradients = rng.standard_normal(30) + rng.standard_normal((n_parts, 30)) * 2
    whole = gradients.mean(axis=0)
    squares = [*np.square(gradients).sum(axis=1), float(whole @ whole)]
    return np.column_stack([[2.0] * n_parts + [2.0 * n_parts], squares, [*np.square(gradients - whole).sum(axis=1), 0]])


def make_run(
    root: Path,
    name: str = "demo",
    *,
    spec: ModelSpec = SPEC,
    steps: tuple[int, ...] = STEPS,
    seed: int = 42,
    bf16: bool = False,
    captured: tuple[str, ...] = CAPTURED,
    splits: tuple[str, ...] = ("train", "val"),
    lacking: dict[int, tuple[str, ...]] | None = None,
    val_digest: str = "same rows",
    poison: tuple[int, str] | None = None,
    with_weights: bool = True,
    noise: int | None = None,
) -> Path:
    """A finished run.

    Args:
        root: Directory in which the run's directory is made.
        lacking: Splits that a step does not have.
        val_digest: Stands for the validation rows.
        poison: A step and a site whose validation activation holds a NaN.
        with_weights: Whether the manifest maps sites to weights.
        noise: Parts of the training batch of whose gradients the norms are kept.
    """
    run_dir = root / name
    run_id = hashlib.sha256(f"{name}{seed}{run_dir}".encode()).hexdigest()[:32]
    producer = Producer(name="pico-train", version="2.0.0")
    data = DataFingerprint(
        source="text", sha256="a" * 64, n_rows=1000, seq_len=spec.max_seq_len, vocab_size=spec.vocab_size
    )
    created = datetime(2025, 1, 1, tzinfo=UTC)
    captured_sites = sites.expand(captured, spec.n_layers)
    weight_sites = [site for site in sites.expand(sites.KINDS, spec.n_layers) if site.has_weight]
    last, entries = max(steps[-1], 1), []
    for step in steps:
        progress = step / last
        directory = run_dir / layout.checkpoint_dir(step)
        files: dict[str, bytes] = {layout.MODEL_CONFIG: b"{}"}
        weights = {
            sites.llama_parameter(site): moving(weight_shape(site, spec), progress, seed, "w", str(site))
            for site in weight_sites
        }
        files[layout.WEIGHTS] = safetensors_bytes(weights)
        captures = []
        for split in splits:
            if split in (lacking or {}).get(step, ()):
                continue
            tensors = {}
            for site in captured_sites:
                width = spec.activation_width(site.kind)
                array = moving((N_ROWS * len(POSITIONS), width), progress, seed, split, "a", str(site))
                if poison == (step, str(site)) and split == "val":
                    array[0, 0] = np.nan
                tensors[layout.activation_tensor(site)] = array
                if site.has_weight:
                    shape = weight_shape(site, spec)
                    tensors[layout.gradient_tensor(site)] = moving(shape, progress, seed, split, "g", str(site))
            noisy = _noisy(spec) if noise and split == "train" else []
            tensors |= {layout.noise_tensor(group): noise_lines(noise or 0, seed, step, group) for group in noisy}
            path = layout.captures_file(split)
            files[path] = safetensors_bytes(tensors, bf16=bf16)
            rows = val_digest if split == "val" else f"batch {step}"
            captures.append(
                Capture(
                    split=split,
                    file=path,
                    dtype="bfloat16" if bf16 else "float32",
                    activations=tuple(map(str, captured_sites)),
                    gradients=tuple(str(site) for site in captured_sites if site.has_weight),
                    n_rows=N_ROWS,
                    positions=POSITIONS,
                    samples_sha256=hashlib.sha256(rows.encode()).hexdigest(),
                    loss=4.0 - progress,
                    noise=tuple(noisy),
                )
            )
        for path, content in files.items():
            target = directory / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        manifest = CheckpointManifest(
            run_id=run_id,
            run_name=name,
            step=step,
            tokens_seen=step * 16 * spec.max_seq_len,
            created=created,
            producer=producer,
            seed=seed,
            model=spec,
            data=data,
            cursor=DataCursor(epoch=0, row=step * 16, batch_size=16),
            captures=tuple(captures),
            weights={str(site): sites.llama_parameter(site) for site in weight_sites} if with_weights else {},
            metrics={"train_loss": 4.0 - progress, "val_loss": 4.1 - progress, "lr": 1e-3},
            files={
                path: FileEntry(size=len(content), sha256=hashlib.sha256(content).hexdigest())
                for path, content in files.items()
            },
        )
        documents.write(directory / layout.MANIFEST, manifest)
        entries.append(
            CheckpointEntry(
                step=step,
                tokens_seen=manifest.tokens_seen,
                manifest_sha256=sha256_file(directory / layout.MANIFEST),
            )
        )
    run = RunManifest(
        id=run_id,
        name=name,
        created=created,
        producer=producer,
        seed=seed,
        model=spec,
        data=data,
        config={"name": name},
        checkpoints=tuple(entries),
    )
    documents.write(run_dir / layout.RUN_MANIFEST, run)
    return run_dir


def list_manifest(run_dir: Path, step: int) -> None:
    """Have `run.json` list the manifest that a step has by now, as if it had been sealed with it."""
    run = documents.read_run(run_dir)
    (known,) = (entry for entry in run.checkpoints if entry.step == step)
    digest = sha256_file(run_dir / layout.checkpoint_dir(step) / layout.MANIFEST)
    changed = run.with_checkpoint(known.model_copy(update={"manifest_sha256": digest}))
    documents.write(run_dir / layout.RUN_MANIFEST, changed)
