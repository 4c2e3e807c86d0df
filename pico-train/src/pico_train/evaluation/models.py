"""A checkpoint's files as a model that can be measured: Pico's own decoder, or any causal model of transformers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pico_schema import layout, strict_json
from pico_schema.tensor_header import read_header
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
    yield Scorer(causal_losses(model, chunk=CHUNK), min(context, _MOST_CONTEXT), device)


def causal_losses(model: Any, *, chunk: int) -> Callable[[Tensor], Tensor]:
    """A transformers model's `Scorer.each`, the logits of at most `chunk` tokens at a time.

    Where its logits are its head's product with its last hidden states, they are made in pieces. Where something else
    is done to them (a scale, a cap), it is run on fewer rows at a time, of one row at least.
    """
    head = _plain_head(model)

    @torch.no_grad()
    def each(rows: Tensor) -> Tensor:
        targets_N = rows[:, 1:].flatten()
        if head is None:
            few = max(1, chunk // max(1, rows.shape[1] - 1))
            parts_BT = (rows[n : n + few, :-1] for n in range(0, len(rows), few))
            outputs = (model(input_ids=part, use_cache=False).logits.flatten(0, 1) for part in parts_BT)
        else:
            hidden_ND = model.base_model(input_ids=rows[:, :-1], use_cache=False).last_hidden_state.flatten(0, 1)
            outputs = (head(hidden_ND[n : n + chunk]) for n in range(0, len(hidden_ND), chunk))
        parts, done = [], 0
        for logits_NV in outputs:
            for n in range(0, len(logits_NV), chunk):  # in float32, whatever the model is in
                piece = logits_NV[n : n + chunk].float()
                parts.append(F.cross_entropy(piece, targets_N[done : done + len(piece)], reduction="none"))
                done += len(piece)
        return torch.cat(parts).view(rows[:, 1:].shape)

    return each


@torch.no_grad()
def _plain_head(model: Any) -> nn.Module | None:
    """The head, if the model's logits are bit for bit what it makes of the last hidden states; tried on a few ids."""
    head, body = model.get_output_embeddings(), model.base_model
    if not isinstance(head, nn.Module) or body is model:
        return None
    seen: list[tuple[Tensor, Tensor]] = []
    watch = head.register_forward_hook(lambda _, given, made: seen.append((given[0], made)))
    ids = torch.arange(8, device=model.device)[None] % model.config.get_text_config().vocab_size
    try:
        logits = model(input_ids=ids, use_cache=False).logits
        hidden = body(input_ids=ids, use_cache=False).last_hidden_state
    except (AttributeError, TypeError):
        return None
    finally:
        watch.remove()
    same = len(seen) == 1 and torch.equal(seen[0][0], hidden) and torch.equal(seen[0][1], logits)
    return head if same else None


def load_causal(directory: Path, where: str) -> Any:
    """A causal model of transformers, ready to be evaluated.

    Raises:
        CheckpointError: as `foreign`.
    """
    import transformers

    _check_files(directory)
    log: Any = transformers.logging
    bars: Any = transformers.utils.logging
    before, shown = log.get_verbosity(), bars.is_progress_bar_enabled()
    log.set_verbosity_error()
    bars.disable_progress_bar()
    try:
        load: Any = transformers.AutoModelForCausalLM.from_pretrained
        model, about = load(
            directory,
            dtype="auto",
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # told below, in one sentence
        )
    except Exception as error:
        said = " ".join(str(error).replace(str(directory), where).split())[:300] or type(error).__name__
        raise CheckpointError(f"{where}: transformers {transformers.__version__} does not load it ({said})") from None
    finally:
        log.set_verbosity(before)
        if shown:
            bars.enable_progress_bar()
    lost = sorted(map(str, about.get("missing_keys", ())))
    other = sorted(str(one[0] if isinstance(one, tuple) else one) for one in about.get("mismatched_keys", ()))
    if lost or other:
        why = "are not in its files" if lost else f"have other shapes than its {layout.MODEL_CONFIG} says"
        raise CheckpointError(f"{where}: weights of the model {why} ({', '.join((lost or other)[:3])})")
    return model.eval()


def _check_files(directory: Path) -> None:
    """Refuse what transformers would take: a number that is none in the configuration, a header that says two things.

    Raises:
        CheckpointError: the configuration.
        TensorHeaderError: the header of a file of weights.
    """
    config = read_config(directory, layout.MODEL_CONFIG)
    if (place := strict_json.not_finite(config, unbounded=layout.MODEL_CONFIG_UNBOUNDED)) is not None:
        raise CheckpointError(f"{directory / layout.MODEL_CONFIG}: {place} is not finite: it is damaged")
    for path in sorted(directory.glob("*.safetensors")):
        with path.open("rb") as file:

            def read(offset: int, n: int, file: BinaryIO = file) -> bytes:
                file.seek(offset)
                return file.read(n)

            read_header(read, path.stat().st_size, where=str(path))
