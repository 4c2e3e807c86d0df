"""Tokenizers: trained on the spot, read from a directory, or fetched by name from the Hub.

Whatever it came from, a tokenizer ends as a directory with `tokenizer.json` and `tokenizer_config.json` (and
`special_tokens_map.json` where there was one) that `transformers.AutoTokenizer` loads; its identity is the digest of
those files, which are kept as they are. Text is encoded by the `tokenizers` library alone, so that nothing here waits
for transformers' import; how, `encoding` decides.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pico_schema.digests import sha256_file
from pico_schema.files import replace_file
from pico_train.errors import ConfigError, DataError, StorageError
from pico_train.tokenizer_files import FILES as FILES
from pico_train.tokenizer_files import MAX_ID, named_tokens, read_object
from pico_train.tokenizer_files import load as load

if TYPE_CHECKING:
    import numpy as np
    from tokenizers import Tokenizer

END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True)
class TokenizerInfo:
    """What is recorded about a tokenizer."""

    directory: Path
    """Where its files are."""
    sha256: str
    """Digest over its files."""
    files: dict[str, str]
    """sha256 of each file."""
    vocab_size: int
    """Ids are smaller than this."""
    eos_token: str
    """Text of the end-of-text token."""
    eos_id: int
    """Its id."""


def parse_training(name: str) -> int | None:
    """The vocabulary size in "train:N", or None if `name` is a directory or a name on the Hub.

    Raises:
        ConfigError: N is not a number of at least 257 (256 bytes and end-of-text) and at most 2^20.
    """
    if not name.startswith("train:"):
        return None
    size = name.removeprefix("train:")
    if not re.fullmatch("[0-9]{3,7}", size) or not 257 <= int(size) <= 2**20:
        raise ConfigError(f"tokenizer {name}: the vocabulary to train has 257 to {2**20} tokens, such as train:4096")
    return int(size)


def train(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A byte-level BPE (Sennrich et al. 2016; bytes as in GPT-2) of `vocab_size` tokens, `<|endoftext|>` being id 0.

    The same texts give the same tokenizer, whatever the number of threads.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def save_trained(tokenizer: Tokenizer, directory: Path, *, max_length: int) -> None:
    """Write a tokenizer made by `train` as a directory that `AutoTokenizer` loads."""
    directory.mkdir(parents=True, exist_ok=True)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": None,
        "eos_token": END_OF_TEXT,
        "pad_token": None,
        "unk_token": None,
        "model_max_length": max_length,
        "clean_up_tokenization_spaces": False,
        "add_prefix_space": False,
    }
    (directory / "tokenizer.json").write_text(tokenizer.to_str(pretty=False), encoding="utf-8")
    (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def describe(directory: Path, *, cache: Path | None = None) -> TokenizerInfo:
    """What the tokenizer in `directory` is.

    Args:
        directory: Its files.
        cache: Where descriptions are kept by the files' digest, so that a known tokenizer need not be loaded again.

    Raises:
        DataError: files are missing or damaged, or it names no end-of-text token.
    """
    digests = {name: sha256_file(directory / name) for name in FILES if (directory / name).is_file()}
    if FILES[0] not in digests:
        raise DataError(f"{directory}: not a tokenizer: it has no {FILES[0]}")
    whole = hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()
    known = cache / "tokenizers" / f"{whole[:32]}.json" if cache else None
    facts = _known(known) if known is not None else None
    if facts is None:
        facts = _facts(directory)
        if known is not None:
            known.parent.mkdir(parents=True, exist_ok=True)
            replace_file(known, json.dumps(facts).encode())
    return TokenizerInfo(directory, whole, digests, facts["vocab_size"], facts["eos_token"], facts["eos_id"])


def _known(path: Path) -> dict[str, Any] | None:
    """What was found out about a tokenizer before; None where that is not there or damaged."""
    try:
        facts = read_object(path)
    except DataError:
        return None
    types = {"vocab_size": int, "eos_token": str, "eos_id": int}
    return facts if all(type(facts.get(name)) is kind for name, kind in types.items()) else None


def _facts(directory: Path) -> dict[str, Any]:
    tokenizer = load(directory)
    eos = named_tokens(directory).get("eos_token")
    eos_id = tokenizer.token_to_id(eos) if eos else None
    if not eos or eos_id is None:
        raise DataError(
            f"{directory}: names no end-of-text token of its vocabulary: set eos_token in tokenizer_config.json"
        )
    largest = max(tokenizer.get_vocab(with_added_tokens=True).values())
    if largest > MAX_ID:
        raise DataError(f"{directory / FILES[0]}: has a token with the id {largest}: ids end at {MAX_ID}")
    return {"vocab_size": 1 + largest, "eos_token": eos, "eos_id": eos_id}


def decode_rows(directory: Path, rows: np.ndarray) -> list[str]:
    """The text of (k, T + 1) rows, special tokens included, by the tokenizer in `directory`."""
    texts: list[str] = load(directory).decode_batch([row.tolist() for row in rows], skip_special_tokens=False)
    return texts


def obtain(name: str, directory: Path) -> None:
    """Put the files of the tokenizer `name`, a directory or a name on the Hub, into `directory`.

    Raises:
        ConfigError: no such directory or name.
        DataError: what is there is no tokenizer, or a damaged one.
        StorageError: the Hub cannot be reached.
    """
    given = Path(name).expanduser()
    if given.is_dir() and (given / "tokenizer.json").is_file():
        describe(given)  # what is wrong with it is said of the place that was named
        _copy(given, directory)
        return
    if given.is_dir() or name.startswith((".", "/", "~")):
        raise ConfigError(
            f"tokenizer {name}: no tokenizer.json there: name a directory that has one, a Hub name or train:4096"
        )
    _fetch(name, directory)
    try:
        describe(directory)
    except DataError as error:
        shutil.rmtree(directory, ignore_errors=True)  # it may be mended there
        raise DataError(str(error).replace(str(directory), f"tokenizer {name}")) from None


def _copy(given: Path, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for file in FILES:
        if (given / file).is_file():
            (directory / file).write_bytes((given / file).read_bytes())


def _fetch(name: str, directory: Path) -> None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    from pico_train.data.retry import with_retries

    repo, _, revision = name.partition("@")
    directory.mkdir(parents=True, exist_ok=True)
    try:
        for file in FILES:
            try:
                path = with_retries(
                    partial(hf_hub_download, repo, file, revision=revision or None),
                    what=f"tokenizer {name}",
                    attempts=4,
                )
            except LocalEntryNotFoundError:
                raise StorageError(f"tokenizer {name}: cannot be fetched: check the connection") from None
            except EntryNotFoundError:
                if file == "tokenizer.json":
                    raise DataError(
                        f"tokenizer {name}: the repository has no tokenizer.json: convert it first"
                    ) from None
                continue
            (directory / file).write_bytes(Path(path).read_bytes())
    except (RepositoryNotFoundError, HFValidationError):
        raise ConfigError(
            f"tokenizer {name}: neither a directory nor a repository on the Hub: try a directory, or train:4096"
        ) from None
    except OSError as error:
        raise StorageError(f"tokenizer {name}: cannot be fetched ({type(error).__name__})") from error
