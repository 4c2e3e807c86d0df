"""A checkpoint's files as a model that can be measured: Pico's own decoder, or any causal model of transformers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pico_schema import layout
from pico_train.errors import CheckpointError, UsageError
from pico_train.evaluation.scoring import Scorer, token_losses
from pico_train.model.huggingface import read_config
from pico_train.model.sampling import read_decoder

CHUNK = 1024
"""Tokens whose logits are held at once in float32."""
_CONTEXTS = ("max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length")
_MOST_CONTEXT = 4096
"""What a model is given to read, at most, whatever its configuration says."""


def chosen_device(name: str) -> torch.device:
    """The device of a name: ``auto`` is the accelerator that is there, or the CPU.

    Raises:
        UsageError: torch knows no such device, or it is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(f"--device {name} cannot be used ({(str(error).splitlines() or [''])[0][:150]})") from None
    return torch.device(name)


@contextmanager
def own(directory: Path, device: torch.device, *, separator: int | None) -> Iterator[Scorer]:
    """The decoder of a sealed checkpoint, in float32, its files compared with their digests.

    Args:
        directory: The checkpoint.
        device: Where it computes.
        separator: The token that ends a document, where attention stays within documents.

    Raises:
        CheckpointError, SchemaError: a file is missing, damaged or not what was sealed.
    """
    decoder = read_decoder(directory).to(device)
    decoder.model.separator = separator
    yield Scorer(token_losses(decoder, chunk=CHUNK), decoder.spec.max_seq_len, device)


@contextmanager
def foreign(directory: Path, device: torch.device, where: str) -> Iterator[Scorer]:
    """A causal model of transformers in a directory, in the type it is stored in; no pickle and no code of its own.

    Args:
        directory: `config.json` and safetensors.
        device: Where it computes.
        where: Its name, for messages.

    Raises:
        CheckpointError: transformers does not load it, or does not find all of its weights.
    """
    model = load_causal(directory, where).to(device)
    said = read_config(directory, layout.MODEL_CONFIG)
    context = next((said[name] for name in _CONTEXTS if type(said.get(name)) is int), _MOST_CONTEXT)

    def each(rows: Tensor) -> Tensor:
        logits_NV = model(input_ids=rows[:, :-1], use_cache=False).logits.flatten(0, 1)
        targets_N = rows[:, 1:].flatten()
        parts = [
            F.cross_entropy(logits_NV[n : n + CHUNK].float(), targets_N[n : n + CHUNK], reduction="none")
            for n in range(0, len(targets_N), CHUNK)
        ]
        return torch.cat(parts).view(rows[:, 1:].shape)

    yield Scorer(each, min(context, _MOST_CONTEXT), device)


def load_causal(directory: Path, where: str) -> Any:
    """A causal model of transformers, ready to be evaluated.

    Raises:
        CheckpointError: as `foreign`.
    """
    import transformers

    log: Any = transformers.logging
    bars: Any = transformers.utils.logging
    before, shown = log.get_verbosity(), bars.is_progress_bar_enabled()
    log.set_verbosity_error()
    bars.disable_progress_bar()
    try:
        load: Any = transformers.AutoModelForCausalLM.from_pretrained
        model, about = load(
            directory, dtype="auto", local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except Exception as error:
        said = " ".join(str(error).replace(str(directory), where).split())[:300] or type(error).__name__
        raise CheckpointError(f"{where}: transformers {transformers.__version__} does not load it ({said})") from None
    finally:
        log.set_verbosity(before)
        if shown:
            bars.enable_progress_bar()
    lost = sorted(map(str, [*about.get("missing_keys", ()), *about.get("mismatched_keys", ())]))
    if lost:
        raise CheckpointError(f"{where}: weights of the model are not in its files ({', '.join(lost[:3])})")
    return model.eval()
