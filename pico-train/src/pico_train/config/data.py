"""The section `data`: what is trained on, and in which order."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from pico_train.config.base import Listed, PositiveInt, Section, Seed, Whole

_SHORTEST_REPEATED = 16
"""Fewest tokens of a row of source repeats."""


class DataConfig(Section):
    """What is trained on, and in which order."""

    source: Literal["stdlib", "repeats", "text", "tokens", "hub"] = "stdlib"
    """stdlib: the text of this Python's standard library. repeats: random words, repeated within each row. text: files,
    folders or globs. tokens: a directory of Parquet shards with a column input_ids. hub: such shards in a dataset
    repository. Where it is not set, paths make it text and repo makes it hub."""
    paths: Listed[str] = ()
    """Files, folders or globs, for source text; the directory, for source tokens. One stands for a list of one."""
    repo: str | None = None
    """Dataset repository, org/name, for source hub."""
    revision: str | None = None
    """Branch, tag or commit of the repository; the commit it resolves to is pinned in the run."""
    subset: str | None = None
    """Folder inside the directory or repository that holds the shards."""
    text_column: str = "text"
    """Column or JSON field that holds the text, for source text."""
    tokenizer: str | None = None
    """train:N (a byte-level BPE of N tokens trained on the corpus), a directory, or a name on the Hub. Default:
    train:4096 for text, train:959 for repeats; for tokens, the one that lies with the shards."""
    seq_len: Annotated[int, Field(gt=1, le=2**20), Whole] = 256
    """Tokens per row that are predicted; rows hold one more."""
    order: Literal["shuffled", "sequential"] = "shuffled"
    """shuffled: a keyed permutation, re-keyed each epoch. sequential: as stored (for corpora shuffled beforehand).
    Default: sequential for tokens and hub, else shuffled."""
    seed: Seed | None = None
    """Seed of the order; by default derived from the run's seed."""
    encoding_errors: Literal["refuse", "replace"] = "refuse"
    """What to do with a text file that is not UTF-8."""
    document_mask: bool = False
    """Whether attention stays within documents: a position reads those before it back to the end-of-text token that
    ended the document before. Off, it reads all of the row, other documents too. The checkpoint is a plain Llama either
    way."""
    val_rows: PositiveInt = 64
    """Rows of the fixed validation set; where fewer are held out, it is all of those."""
    val_paths: Listed[str] = ()
    """Held-out text files, or a directory of held-out shards. Default: the split that lies with the shards, else a part
    of the corpus: val_fraction of the documents of a text, the last val_rows rows of other shards."""
    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Part of a text's documents that is held out, chosen by hash, where val_paths names none."""
    prefetch: Annotated[int, Field(ge=0, le=1024), Whole] = 4
    """Batches read ahead of the training step."""
    cache_gb: Annotated[float, Field(gt=0, le=1e6)] = 20.0
    """Bound of the local cache of a hub source, in GiB; at least two shards are kept whatever it says."""
    shards_ahead: Annotated[int, Field(ge=0, le=64), Whole] = 2
    """Shards of a hub source that are fetched ahead of the one being read."""
    log_digests: bool = False
    """Write the sha256 of every batch to metrics.jsonl."""

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_source(cls, values: Any) -> Any:
        """Fill in what depends on the source, so that the resolved configuration says it."""
        if not isinstance(values, dict):
            return values
        filled = dict(values)
        if filled.get("source") is None:
            filled["source"] = "text" if filled.get("paths") else "hub" if filled.get("repo") else "stdlib"
        tokens = filled["source"] in ("tokens", "hub")
        if filled.get("order") is None:
            filled["order"] = "sequential" if tokens else "shuffled"
        if filled.get("tokenizer") is None and not tokens:
            filled["tokenizer"] = "train:959" if filled["source"] == "repeats" else "train:4096"
        return filled

    @model_validator(mode="after")
    def _possible_source(self) -> Self:
        if self.source in ("text", "tokens") and not self.paths:
            raise ValueError(f"data.source={self.source} needs data.paths, such as --set data.paths=[my/corpus]")
        if self.source in ("stdlib", "repeats", "hub") and self.paths:
            raise ValueError(
                f"data.paths={list(self.paths)} is not read by data.source={self.source}: leave data.source out for "
                "text, or set it to tokens for a directory of shards"
            )
        if self.source == "repeats" and self.seq_len < _SHORTEST_REPEATED:
            raise ValueError(
                f"data.seq_len={self.seq_len} is too short for data.source=repeats, whose rows say a segment of 8 "
                f"words or more at least twice: set {_SHORTEST_REPEATED} or more"
            )
        if self.source == "tokens" and len(self.paths) > 1:
            raise ValueError(f"data.source=tokens reads one directory, {len(self.paths)} are in data.paths")
        if self.source == "hub" and not self.repo:
            raise ValueError("data.source=hub needs data.repo, such as --set data.repo=pico-lm/pretokenized-dolma")
        if self.source == "hub" and self.order == "shuffled":
            raise ValueError(
                "data.order=shuffled would fetch every shard of data.source=hub for each batch: set "
                "data.order=sequential, or download the shards and use data.source=tokens"
            )
        if self.source in ("tokens", "hub") and (self.tokenizer or "").startswith("train:"):
            raise ValueError(
                f"data.tokenizer={self.tokenizer} cannot be trained on data.source={self.source}, which holds token "
                "ids: name the tokenizer they were made with"
            )
        return self
