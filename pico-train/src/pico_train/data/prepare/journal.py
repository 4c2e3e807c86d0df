"""How far a preparation is, on disk: what lets a killed one go on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from pico_schema import strict_json
from pico_schema.files import replace_file
from pico_train.data.prepare.holding_out import HoldingOut, Rule
from pico_train.data.prepare.recipe import DocumentSplits
from pico_train.data.shards.manifest import TOKENIZER_DIR, ShardEntry
from pico_train.errors import DataError


class Journal:
    """The state of one preparation, written durably at each point to fall back to."""

    def __init__(self, path: Path, state: dict[str, Any]) -> None:
        self._path, self._state = path, state

    @classmethod
    def begin(cls, directory: Path, key: str) -> Journal:
        """The journal in `directory`: of an interrupted preparation with the same key, or a new one.

        Raises:
            DataError: it is of a preparation with other inputs or another recipe, or the corpus's directory holds
                something else.
        """
        out = directory.parent
        path = directory / "journal.json"
        if path.is_file():
            try:
                state = strict_json.parse(path.read_bytes())
                found = state["key"]
            except (ValueError, KeyError, TypeError):
                raise DataError(f"{path}: damaged: delete {out} and prepare again") from None
            if found == key:
                return cls(path, state)
            if "point" in state:
                raise DataError(
                    f"{out}: holds an unfinished preparation of other inputs or settings: run that one again, choose "
                    "another --out, or delete it"
                )
            shutil.rmtree(directory)  # it had not got as far as a first row: nothing is lost
            shutil.rmtree(out / TOKENIZER_DIR, ignore_errors=True)
        if out.is_dir() and any(not entry.name.startswith(".") for entry in out.iterdir()):
            raise DataError(f"{out}: is not empty: choose another --out, or empty it")
        directory.mkdir(parents=True, exist_ok=True)
        journal = cls(path, {"key": key, "stage": "tokenize", "shards": {"train": [], "val": []}})
        journal.save()
        return journal

    @property
    def key(self) -> str:
        """Digest of inputs and recipe."""
        return str(self._state["key"])

    @property
    def stage(self) -> str:
        """tokenize, or shards."""
        return str(self._state["stage"])

    @property
    def point(self) -> dict[str, Any] | None:
        """What was said at the last `commit`, or None."""
        return self._state.get("point")

    @property
    def documents(self) -> dict[str, int]:
        """Documents by split, once all are tokenized."""
        counts: dict[str, int] = self._state["documents"]
        return counts

    @property
    def tokens(self) -> dict[str, int]:
        """Tokens by split, once all documents are tokenized."""
        counts: dict[str, int] = self._state["tokens"]
        return counts

    @property
    def left_out(self) -> dict[str, int]:
        """Documents left out by reason, once all are tokenized."""
        counts: dict[str, int] = self._state["left_out"]
        return counts

    @property
    def documents_sha256(self) -> str:
        """Digest over all documents taken, once they are tokenized."""
        return str(self._state["documents_sha256"])

    @property
    def holding_out(self) -> HoldingOut | None:
        """What is held out, once it is decided."""
        raw = self._state.get("holding_out")
        return HoldingOut(Rule(raw[0]), raw[1]) if raw is not None else None

    def decided(self, holding_out: HoldingOut) -> None:
        """Note what is held out; it becomes durable with what comes next."""
        self._state["holding_out"] = [holding_out.rule.value, holding_out.characters]

    def shards(self, split: str) -> list[ShardEntry]:
        """The shards of a split that are finished and still there."""
        entries = [ShardEntry.model_validate(raw) for raw in self._state["shards"][split]]
        root = self._path.parent.parent
        whole = [e for e in entries if (root / e.file).is_file() and (root / e.file).stat().st_size == e.size]
        return whole if len(whole) == len(entries) else []

    def commit(self, point: dict[str, Any]) -> None:
        """Note a point of tokenizing to fall back to; what it refers to is already durable."""
        self._state["point"] = point
        self.save()

    def tokenized(self, chosen: DocumentSplits, tokens: dict[str, int]) -> None:
        """Note that all documents are in the spool."""
        self._state.update(
            stage="shards",
            documents=dict(chosen.documents),
            tokens=tokens,
            left_out=dict(sorted(chosen.left_out.items())),
            documents_sha256=chosen.sha256,
        )
        self.save()

    def shard_done(self, split: str, entry: ShardEntry) -> None:
        """Note a finished shard."""
        self._state["shards"][split].append(entry.model_dump(mode="json"))
        self.save()

    def save(self) -> None:
        """Write the state, durably."""
        replace_file(self._path, json.dumps(self._state).encode())
