"""From selected documents to rows in the spool: pieces, batches, ids, packed rows."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pico_train.counting import counted
from pico_train.data.cutting import Cuts, cuts_of, pieces
from pico_train.data.encoding import Found, plain_definition
from pico_train.data.prepare.encode import BATCH_CHARS, EncodedPieces, Piece, encode
from pico_train.data.prepare.journal import Journal
from pico_train.data.prepare.pack import Packer
from pico_train.data.prepare.recipe import DocumentSplits, Recipe
from pico_train.data.prepare.spool import Spool
from pico_train.data.tokenizer import TokenizerInfo
from pico_train.errors import DataError

COMMIT_EVERY = 64 * 2**20
"""Characters of text between two points to fall back to."""


class SpooledRows:
    """The spools of both splits and the unfinished rows, as they stand at a point of the preparation."""

    def __init__(self, directory: Path, recipe: Recipe, vocab_size: int, journal: Journal) -> None:
        self.recipe = recipe
        row_len = recipe.seq_len + 1
        point = journal.point or {}
        saved = point.get("spools", {})
        self.spools = {
            split: Spool(directory, split, row_len, vocab_size, saved.get(split)) for split in ("train", "val")
        }
        self.packers: defaultdict[tuple[str, str], Packer] = defaultdict(lambda: Packer(row_len))
        for split, group, carry, begins, sources in point.get("packers", []):
            self.packers[split, group] = Packer(
                row_len, np.array(carry, np.int32), np.array(begins, np.int64), np.array(sources, np.int32)
            )
        self.kept: Counter[str] = Counter(point.get("kept", {}))
        """Held-out rows so far, by group."""
        self.tokens: Counter[str] = Counter(point.get("tokens", {}))
        """Tokens so far, by split."""
        self.found = Found(Counter(point.get("special", {})), point.get("unknown", 0))
        """What was met in the texts so far, beside plain text."""
        self.position: tuple[int, int] = tuple(point.get("position", (0, 0)))
        """Documents done, and pieces of the next one done."""
        self._before: _State | None = None
        """How things stood before the batch that is being added; None between batches."""

    def close(self) -> None:
        """Give the spools' files back."""
        for spool in self.spools.values():
            spool.close()

    def add(self, encoded: EncodedPieces) -> None:
        """Lay the ids of a batch on their lines; rows that are full go to the spool.

        Where it ends by an exception, `commit` makes durable what there was before.
        """
        self._before = self._state()
        batch, ids, lengths = encoded.pieces, encoded.ids, encoded.lengths
        stops = np.cumsum(lengths)
        first = 0
        for (split, group), run in itertools.groupby(batch, key=lambda piece: (piece.split, piece.group)):
            members = list(run)
            last = first + len(members)
            start = int(stops[first - 1]) if first else 0
            begins = [i for i in range(first, last) if batch[i].begins]
            places = np.array([(int(stops[i - 1]) if i else 0) - start for i in begins], np.int64)
            spool = self.spools[split]
            numbers = np.array([spool.source_number(batch[i].source) for i in begins], np.int32)
            rows, sources = self.packers[split, group].add(ids[start : int(stops[last - 1])], places, numbers)
            if split == "val" and self.recipe.val_rows_per_source is not None:
                rows = rows[: max(0, self.recipe.val_rows_per_source - self.kept[group])]
                self.kept[group] += len(rows)
            spool.append(rows, sources[: len(rows)])
            self.tokens[split] += int(stops[last - 1]) - start
            first = last
        self.found.special.update(encoded.found.special)
        self.found.unknown += encoded.found.unknown
        self.position = batch[-1].after
        self._before = None

    def _state(self) -> _State:
        """How things stand. A packer's arrays are never changed, but replaced, so that they need not be copied."""
        return _State(
            {split: spool.point() for split, spool in self.spools.items()},
            [(*key, packer.carry, packer.begins, packer.sources) for key, packer in self.packers.items()],
            {
                "kept": dict(self.kept),
                "tokens": dict(self.tokens),
                "special": dict(self.found.special),
                "unknown": self.found.unknown,
                "position": self.position,
            },
        )

    def commit(self, journal: Journal) -> None:
        """Make durable what was added, by whole batches."""
        state = self._before or self._state()
        for spool in self.spools.values():
            spool.sync()
        packers = [(split, group, *(each.tolist() for each in arrays)) for split, group, *arrays in state.packers]
        journal.commit({"spools": state.spools, "packers": packers, **state.rest})


@dataclass(frozen=True)
class _State:
    """A point to fall back to."""

    spools: dict[str, dict[str, int]]
    """Where each spool ends, by split."""
    packers: list[tuple[Any, ...]]
    """Split, group and unfinished row of each line of tokens."""
    rest: dict[str, Any]
    """What is counted, and where reading goes on."""


def tokenize(
    rows: SpooledRows,
    chosen: DocumentSplits,
    info: TokenizerInfo,
    journal: Journal,
    *,
    workers: int,
    progress: Callable[[str], None],
) -> None:
    """Tokenize all documents from the last point on.

    Raises:
        DataError: there are no documents, or not enough for one row; or the tokenizer cannot be used on one of them.
    """
    batches = _batches(_pieces(chosen, rows.position, cuts_of(plain_definition(info.directory), info.directory)))
    since = 0
    try:
        with closing(encode(batches, info.directory, eos_id=info.eos_id, workers=workers)) as encoding:
            for encoded in encoding:
                rows.add(encoded)
                since += sum(len(piece.text) for piece in encoded.pieces)
                if since >= COMMIT_EVERY:
                    rows.commit(journal)
                    since = 0
                    tokens = sum(rows.tokens.values()) / 1e6
                    progress(f"tokenized {tokens:,.1f} M tokens of {counted(rows.position[0], 'document')}")
    except OSError:
        raise  # of the spool or the journal: what was added since the last commit may be lost
    except BaseException:  # a signal, a text that cannot be read: what is tokenized stays
        with suppress(OSError):
            rows.commit(journal)
        raise
    _check(rows, chosen)
    rows.commit(journal)
    journal.tokenized(chosen, dict(rows.tokens))


def _check(rows: SpooledRows, chosen: DocumentSplits) -> None:
    row_len = rows.recipe.seq_len + 1
    if not chosen.documents.total():
        left = chosen.left_out.total()
        raise DataError(
            "the corpus is empty: "
            + (f"{counted(left, 'document was', 'documents were')} left out" if left else "no documents")
        )
    for split in ("train", "val"):
        wanted = chosen.documents[split] or (split == "train" and chosen.inputs.val is None)
        if wanted and not rows.spools[split].n_rows:
            raise DataError(
                f"the {split} split holds {counted(rows.tokens[split], 'token')}, fewer than one row of {row_len}: "
                "give more text, or a smaller --seq-len (data.seq_len)"
            )
    if rows.recipe.val_fraction and not chosen.documents["val"] and not chosen.end_held_out:
        raise DataError(
            f"no document fell into the held-out fraction {rows.recipe.val_fraction} of "
            f"{counted(chosen.documents['train'], 'document')}: raise it, or name held-out files"
        )


def _pieces(chosen: DocumentSplits, position: tuple[int, int], cuts: Cuts) -> Iterator[Piece]:
    """Pieces of all selected documents, from `position` on."""
    done, pieces_done = position
    for number, (split, document) in enumerate(chosen):
        if number < done:
            continue
        group = document.source if split == "val" and document.named else ""
        skip = pieces_done if number == done else 0
        for index, text, last in _numbered(pieces(document.parts(), cuts, where=f"a document of {document.source}")):
            if index >= skip:
                after = (number + 1, 0) if last else (number, index + 1)
                yield Piece(text, split, group, document.source, begins=index == 0, ends=last, after=after)


def _numbered(texts: Iterator[str]) -> Iterator[tuple[int, str, bool]]:
    """Pieces of a document, with their number, and whether it is the last one."""
    waiting = next(texts)
    index = 0
    for text in texts:
        yield index, waiting, False
        waiting = text
        index += 1
    yield index, waiting, True


def _batches(stream: Iterator[Piece]) -> Iterator[list[Piece]]:
    batch: list[Piece] = []
    size = 0
    for piece in stream:
        batch.append(piece)
        size += len(piece.text) + 1
        if size >= BATCH_CHARS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
