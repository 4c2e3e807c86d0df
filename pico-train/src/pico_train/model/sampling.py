"""Text from a checkpoint: load model and tokenizer, continue a prompt."""

from __future__ import annotations

from pathlib import Path

import torch

from pico_schema import layout
from pico_train.errors import CheckpointError, UsageError
from pico_train.model.decoder import Decoder
from pico_train.model.generation import generate
from pico_train.model.huggingface import load_spec, load_weights


def read_decoder(directory: Path) -> Decoder:
    """The model of a checkpoint directory, on the CPU, in float32, ready to be evaluated."""
    spec = load_spec(directory)
    with torch.device("meta"):
        decoder = Decoder(spec)
    weights = {name: tensor.float() for name, tensor in load_weights(directory, spec).items()}
    if spec.tie_embeddings:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
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
        CheckpointError: the checkpoint has no tokenizer, or is damaged.
        UsageError: a prompt without tokens, or longer than the model's sequence with what is to be added.
    """
    from tokenizers import Tokenizer

    path = directory / layout.TOKENIZER
    if not path.is_file():
        raise CheckpointError(f"{directory}: has no {layout.TOKENIZER}, so text cannot be turned into tokens")
    tokenizer = Tokenizer.from_file(str(path))
    ids = tokenizer.encode(prompt, add_special_tokens=False).ids
    if not ids:
        raise UsageError("--prompt is empty: give at least one character")
    decoder = read_decoder(directory)
    room = decoder.spec.max_seq_len - len(ids)
    if room < 1:
        raise UsageError(f"--prompt has {len(ids)} tokens, the model takes {decoder.spec.max_seq_len}: shorten it")
    eos = generation_end(directory)
    with torch.inference_mode():
        out = generate(
            decoder,
            torch.tensor([ids]),
            min(max_new_tokens, room),
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            seed=seed,
            eos_id=eos,
        )
    text: str = tokenizer.decode(out[0, len(ids) :].tolist(), skip_special_tokens=True)
    return text


def generation_end(directory: Path) -> int | None:
    """Token that ends a text, by the checkpoint's generation_config.json; None where it names none."""
    import json

    path = directory / layout.GENERATION_CONFIG
    try:
        end = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
    except (OSError, ValueError):
        return None
    return end if isinstance(end, int) else None
