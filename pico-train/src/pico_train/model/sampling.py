"""Text from a checkpoint: load model and tokenizer, continue a prompt."""

from __future__ import annotations

from pathlib import Path

import torch

from pico_schema import layout
from pico_train.errors import CheckpointError, UsageError
from pico_train.finite import is_finite
from pico_train.model.decoder import Decoder
from pico_train.model.generation import generate
from pico_train.model.huggingface import load_spec, load_weights, read_config, stored_dtype
from pico_train.model.sealed_files import check_sealed, sealed_manifest
from pico_train.tokenizer_files import failed, load


def read_decoder(directory: Path) -> Decoder:
    """The model of a checkpoint directory, on the CPU, in float32, ready to be evaluated.

    Raises:
        CheckpointError: a file is missing, damaged or not what was sealed; the weights are not those of the model.
        SchemaError: the manifest is damaged.
    """
    manifest = sealed_manifest(directory)
    if manifest is not None:
        check_sealed(directory, manifest, (layout.MODEL_CONFIG, layout.WEIGHTS))
    spec = load_spec(directory)
    if manifest is not None and manifest.model != spec:
        raise CheckpointError(f"{directory}: {layout.MODEL_CONFIG} describes another model than {layout.MANIFEST}")
    stored = load_weights(directory, spec)
    if manifest is not None and manifest.weights_dtype != stored_dtype(stored):
        raise CheckpointError(
            f"{directory}: {layout.WEIGHTS} is of type {stored_dtype(stored)}, not {manifest.weights_dtype} as "
            f"{layout.MANIFEST} says"
        )
    weights = {name: tensor.float() for name, tensor in stored.items()}
    for name, tensor in stored.items():
        if tensor.dtype == torch.float64 and not is_finite(weights[name]):
            raise CheckpointError(f"{directory / layout.WEIGHTS}: tensor {name!r} holds values beyond float32")
    if spec.tie_embeddings:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    with torch.device("meta"):
        decoder = Decoder(spec)
    decoder.load_state_dict(weights, assign=True)
    return decoder.eval()


def continue_text(
    directory: Path,
    prompt: str,
    *,
    max_new_tokens: int,
    temperature: float,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
) -> str:
    """What a checkpoint makes of a prompt, without the prompt itself.

    Raises:
        CheckpointError, DataError, SchemaError: the checkpoint has no tokenizer, is damaged, or is not what was sealed.
        UsageError: a prompt without tokens, or longer than the model's sequence with what is to be added.
    """
    _check_text_files(directory)
    tokenizer = load(directory)
    try:
        ids = tokenizer.encode(prompt, add_special_tokens=False).ids
    except (TypeError, UnicodeError):
        raise UsageError("--prompt is not UTF-8 text: give one that is") from None
    except BaseException as error:
        raise failed(error, directory / layout.TOKENIZER, "cannot encode --prompt") from None
    if not ids:
        raise UsageError("--prompt is empty: give at least one character")
    decoder = read_decoder(directory)
    if max(ids) >= decoder.spec.vocab_size:
        raise CheckpointError(
            f"{directory}: the tokenizer has more tokens than the model's {decoder.spec.vocab_size}: it is of another"
        )
    room = decoder.spec.max_seq_len - len(ids)
    if room < 1:
        raise UsageError(f"--prompt has {len(ids)} tokens, the model takes {decoder.spec.max_seq_len}: shorten it")
    ends = generation_ends(directory)
    with torch.inference_mode():
        out = generate(
            decoder,
            torch.tensor([ids]),
            min(max_new_tokens, room),
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            seed=seed,
            eos_id=ends,
        )
    text: str = tokenizer.decode(out[0, len(ids) :].tolist(), skip_special_tokens=True)
    return text


def _check_text_files(directory: Path) -> None:
    """The files that text goes through, against the manifest where there is one."""
    if not (directory / layout.TOKENIZER).is_file():
        raise CheckpointError(f"{directory}: has no {layout.TOKENIZER}, so text cannot be turned into tokens")
    manifest = sealed_manifest(directory)
    if manifest is not None:
        names = (layout.TOKENIZER, layout.GENERATION_CONFIG)
        check_sealed(directory, manifest, [name for name in names if (directory / name).exists()])


def generation_ends(directory: Path) -> tuple[int, ...]:
    """Tokens that end a text, by the checkpoint's generation_config.json; empty where it names none.

    Raises:
        CheckpointError: the file is damaged, or names something else than tokens.
    """
    if not (directory / layout.GENERATION_CONFIG).exists():
        return ()
    named = read_config(directory, layout.GENERATION_CONFIG).get("eos_token_id")
    ends = named if isinstance(named, list) else [] if named is None else [named]
    if not all(type(end) is int and end >= 0 for end in ends):
        raise CheckpointError(
            f"{directory / layout.GENERATION_CONFIG}: eos_token_id is {str(named)[:40]}, not the id of a token"
        )
    return tuple(ends)
