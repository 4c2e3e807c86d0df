"""Sentences as windows of tokens, questions, and the records of the JSON lines that hold them.

A sentence is led by the token that documents begin with, so that its first word is predicted too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pico_schema import strict_json
from pico_train.data.encoding import Found, TextEncoder, TextPart
from pico_train.errors import DataError, UsageError
from pico_train.tokenizer_files import load, named_tokens

MOST_BYTES = 256 * 2**20
"""Largest file of sentences read."""


@dataclass(frozen=True)
class Encoder:
    """Text to the token ids that a model reads."""

    encoder: TextEncoder
    """The tokenizer."""
    begin: int
    """Id of the token before a text."""

    @classmethod
    def of(cls, directory: Path, where: str) -> Encoder:
        """The tokenizer in a directory; texts begin with its `bos_token`, or else with its `eos_token`.

        Args:
            directory: Of the model.
            where: What it is needed for, for messages.

        Raises:
            DataError: it is none, is damaged, or names neither.
        """
        names, tokenizer = named_tokens(directory), load(directory)
        for role in ("bos_token", "eos_token"):
            number = tokenizer.token_to_id(names[role]) if role in names else None
            if number is not None:
                return cls(TextEncoder(directory), number)
        raise DataError(
            f"{where}: the model's tokenizer names no token that a text begins with: its tokenizer_config.json is to "
            "name a bos_token or eos_token"
        )

    def __call__(self, texts: Sequence[str], where: str) -> list[np.ndarray]:
        """Ids of each text, (n + 1,) int32, the first being `begin`."""
        parts = [TextPart(text, where=where) for text in texts]
        lead = np.array([self.begin], np.int32)
        return [np.concatenate([lead, ids]) for ids in self.encoder.encode(parts, Found())]


@dataclass(frozen=True)
class Question:
    """One question."""

    context: str
    """What is given; it may be empty."""
    choices: tuple[str, ...]
    """Answers, each with the white space that it begins with."""
    gold: int
    """Number of the right one."""
    group: str = ""
    """What results are also given by; empty for none."""


def read_records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a file of JSON lines, or of all `*.jsonl` of a folder; each with its place, for messages.

    Raises:
        UsageError: there is no such file.
        DataError: a line is no JSON object, or the file is too large.
    """
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    if not files or not all(file.is_file() for file in files):
        raise UsageError(f"{path}: there is no such file of JSON lines, nor a folder with any")
    for file in files:
        try:
            if file.stat().st_size > MOST_BYTES:
                raise DataError(f"{file}: larger than {MOST_BYTES // 2**20} MiB: divide it")
            lines = file.read_bytes().splitlines()
        except OSError as error:
            raise DataError(f"{file}: cannot be read ({error.strerror or error})") from None
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield f"{file}:{number}", _object(line, f"{file}:{number}")


def _object(line: bytes, where: str) -> dict[str, Any]:
    try:
        found = strict_json.parse(line, own=False)
    except ValueError as error:
        raise DataError(f"{where}: not valid JSON ({str(error)[:120]})") from None
    if not isinstance(found, dict):
        raise DataError(f"{where}: a JSON object was expected, found {type(found).__name__}")
    return found


def text_of(record: dict[str, Any], names: Sequence[str], where: str) -> str:
    """The text under the first of these names that is there.

    Raises:
        DataError: there is none, or it is empty.
    """
    for name in names:
        value = record.get(name)
        if isinstance(value, str) and value.strip():
            return value
    raise DataError(f"{where}: has no text under {' or '.join(names)}")
