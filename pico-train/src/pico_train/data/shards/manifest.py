"""`pico-data.json`: what a prepared corpus is. Written last: a directory without it is not a corpus.

It holds no time and no path of the machine, so that the same input gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pico_schema import strict_json
from pico_schema.files import replace_file
from pico_train.counting import counted
from pico_train.errors import DataError

FILE = "pico-data.json"
UNFINISHED = ".prepare"
"""Folder in which a preparation that is not finished keeps what it has."""
TOKENIZER_DIR = "tokenizer"
FORMAT = "1.0"
MAX_BYTES = 256 * 2**20

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
ShardName = Annotated[str, Field(pattern=r"^(?:[A-Za-z0-9_][A-Za-z0-9._-]*/)*[A-Za-z0-9_][A-Za-z0-9._-]*\.parquet$")]


class Part(BaseModel):
    """Base of everything in the manifest."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class ShardEntry(Part):
    """One Parquet file."""

    file: ShardName
    """Path, relative to the manifest."""
    n_rows: Count
    """Its rows."""
    size: Count
    """Its bytes."""
    sha256: Sha256
    """Digest of the file."""
    rows_sha256: Sha256
    """Digest of the ids as little-endian int32, row by row: what the file says, however it is compressed."""


class Split(Part):
    """The training rows, or the held-out ones."""

    n_rows: Count
    """Rows."""
    n_documents: Count
    """Documents that went in."""
    n_tokens: Count
    """Tokens of these documents, ends of text included."""
    dropped_tokens: Count
    """Tokens at ends that did not fill a row."""
    sources: dict[str, Count] | None = None
    """Rows by source, where no more than 10,000 differ."""
    shards: tuple[ShardEntry, ...]
    """The files, in order."""

    @model_validator(mode="after")
    def _rows_are_those_of_the_shards(self) -> Self:
        there = sum(shard.n_rows for shard in self.shards)
        if there != self.n_rows:
            raise ValueError(f"n_rows is {self.n_rows}, its shards hold {there}")
        return self


class TokenizerEntry(Part):
    """The tokenizer, whose files lie in the directory `tokenizer`."""

    name: str
    """As asked for: a name on the Hub, a directory's name, or train:N."""
    sha256: Sha256
    """Digest over its files."""
    files: dict[str, Sha256]
    """sha256 of each file."""
    vocab_size: Annotated[int, Field(gt=0, le=2**24)]
    """Ids are smaller than this."""
    eos_token: str
    """Text of the end-of-text token."""
    eos_id: Count
    """Its id."""


class CorpusManifest(Part):
    """What a prepared corpus is."""

    kind: Literal["corpus"] = "corpus"
    """Kind of document."""
    format: Annotated[str, Field(pattern=r"^\d+\.\d+$")] = FORMAT
    """Version of this format."""
    producer: str
    """Program and version that wrote it."""
    seq_len: Annotated[int, Field(gt=0, le=2**20)]
    """Tokens that a row trains on; rows hold one more."""
    shuffle_seed: int | None
    """Seed of the global shuffle; null where rows are in reading order."""
    source: str | None = None
    """Where the text is from, as given."""
    license: str | None = None
    """Licence of the text, as given."""
    tokenizer: TokenizerEntry
    """How text became ids."""
    settings: dict[str, str | int | float | bool | None] = {}
    """What else it was made with."""
    counts: dict[str, Count] = {}
    """Documents left out, by reason."""
    special_tokens_in_text: dict[str, Count] = {}
    """Names of special tokens that stood in the text, and how often: encoded as the text they are."""
    unknown_tokens: Count = 0
    """Tokens that stand for text which the tokenizer does not know."""
    splits: dict[str, Split]
    """`train`: rows to train on; `val`: rows held out."""
    sha256: Sha256
    """Identity of the training rows and their order: digest over row length and rows of each shard."""


def identity(seq_len: int, shards: tuple[ShardEntry, ...]) -> str:
    """Digest of what the rows are and in which order they are stored: not of how the files are written."""
    content = {"seq_len": seq_len, "rows": [[shard.n_rows, shard.rows_sha256] for shard in shards]}
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def met_in_text(manifest: CorpusManifest) -> list[str]:
    """Sentences about what was met in the text of a corpus that a reader of its rows should know of."""
    said = []
    met = manifest.special_tokens_in_text
    if met:
        names = ", ".join(f"{name!r} {number:,}" for name, number in sorted(met.items(), key=lambda item: -item[1])[:5])
        said.append(f"special tokens' names in the text, encoded as text: {names}" + (", …" if len(met) > 5 else ""))
    if manifest.unknown_tokens:
        said.append(
            f"{counted(manifest.unknown_tokens, 'token stands', 'tokens stand')} for text that the "
            f"tokenizer does not know"
        )
    return said


def write(directory: Path, manifest: CorpusManifest) -> None:
    """Put the manifest in place, atomically and durably."""
    text = json.dumps(manifest.model_dump(mode="json"), indent=1, ensure_ascii=False)
    replace_file(directory / FILE, text.encode() + b"\n")


def read(directory: Path) -> CorpusManifest | None:
    """The manifest of a prepared corpus, or None where there is none.

    Raises:
        DataError: it is damaged, or of a newer major version.
    """
    path = directory / FILE
    if not path.is_file():
        return None
    if path.stat().st_size > MAX_BYTES:
        raise DataError(f"{path}: too large for a manifest: the file is damaged")
    return parse(path.read_bytes(), where=str(path))


def parse(content: bytes, *, where: str) -> CorpusManifest:
    """A manifest from its bytes.

    Raises:
        DataError: not a manifest, damaged, or of a newer major version.
    """
    try:
        raw = strict_json.parse(content)
        version = str(raw["format"])
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{where}: not a corpus manifest: the file is damaged") from None
    if version.split(".")[0] != FORMAT.split(".")[0]:
        raise DataError(
            f"{where}: format {version[:20]} is newer than this pico-train reads: pip install -U pico-train"
        )
    try:
        return CorpusManifest.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise DataError(f"{where}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
