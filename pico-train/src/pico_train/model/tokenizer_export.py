"""The tokenizer beside a checkpoint's weights: one that gives a model what its training gave it, and no more.

What training saw is documents end to end with an end-of-text token after each, and no other special token. So, as GPT-2
and Pythia have it, end of text is also what stands before a text (`bos_token`) and what fills up a batch (`pad_token`,
behind an attention mask), unless the tokenizer has a padding token of its own. Whatever would put other tokens around a
text is left out of `tokenizer.json`; batches are padded on the left, where generation needs it. Ids stay as they are.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pico_train.tokenizer_files import FILES, load, named_tokens, read_object, without_call_settings


@dataclass(frozen=True)
class ExportedTokenizer:
    """A checkpoint's tokenizer."""

    files: dict[str, bytes]
    """Name → content of its files."""
    eos_id: int | None = None
    """Token that ends a text, and stands before it."""
    pad_id: int | None = None
    """Token that fills up a batch."""


@lru_cache(maxsize=1)  # a run has one tokenizer and many checkpoints
def export_tokenizer(directory: Path, *, max_seq_len: int) -> ExportedTokenizer:
    """The files that a checkpoint has of the tokenizer in `directory`.

    Args:
        directory: The tokenizer. Where it names no end-of-text token of its vocabulary, its files stay as they are.
        max_seq_len: Positions of the model.

    Raises:
        DataError: it is none, or a file of it is damaged.
    """
    tokenizer, named = load(directory), named_tokens(directory)
    eos = named.get("eos_token")
    eos_id = tokenizer.token_to_id(eos) if eos else None
    files = {name: (directory / name).read_bytes() for name in FILES if (directory / name).is_file()}
    if eos is None or eos_id is None:
        return ExportedTokenizer(files)
    pad = named.get("pad_token", eos)
    pad_id = tokenizer.token_to_id(pad)
    if pad_id is None:
        pad, pad_id = eos, eos_id
    roles = {"bos_token": eos, "eos_token": eos, "pad_token": pad}
    files[FILES[0]] = without_call_settings(directory / FILES[0])
    files[FILES[1]] = _json(_config(read_object(directory / FILES[1]), roles, max_seq_len))
    if FILES[2] in files:
        files[FILES[2]] = _json(read_object(directory / FILES[2]) | roles)
    return ExportedTokenizer(files, eos_id, pad_id)


def _config(content: dict[str, Any], roles: dict[str, str], max_seq_len: int) -> dict[str, Any]:
    """The content of `tokenizer_config.json`."""
    switches = {name: False for name in ("add_bos_token", "add_eos_token") if name in content}
    # The class that runs tokenizer.json as it is: a family's own builds some of its steps anew, by its own defaults.
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "padding_side": "left", "model_max_length": max_seq_len}
    kept = {name: value for name, value in content.items() if name != "auto_map"}  # names code that is not beside it
    return kept | switches | settings | roles


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content, indent=2, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"
