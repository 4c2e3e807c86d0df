"""From selected documents to rows in the spool: pieces, batches, ids, packed rows."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

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

    def close(self) -> None:
        """Give the spools' files back."""
        for spool in self.spools.values():
            spool.close()

    def add(self, encoded: EncodedPieces) -> None:
        """Lay the ids of a batch on their lines; rows that are full go to the spool."""
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

    def commit(self, journal: Journal) -> None:
        """Make this point durable."""
        journal.commit(
            {
                "spools": {split: spool.commit() for split, spool in self.spools.items()},
                "packers": [
                    (split, group, packer.carry.tolist(), packer.begins.tolist(), packer.sources.tolist())
                    for (split, group), packer in self.packers.items()
                ],
                "kept": self.kept,
                "tokens": self.tokens,
                "special": self.found.special,
                "unknown": self.found.unknown,
                "position": self.position,
            }
        )


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
    for encoded in encode(batches, info.directory, eos_id=info.eos_id, workers=workers):
        rows.add(encoded)
        since += sum(len(piece.text) for piece in encoded.pieces)
        if since >= COMMIT_EVERY:
            rows.commit(journal)
            since = 0
            progress(f"tokenized {sum(rows.tokens.values()) / 1e6:,.1f} M tokens of {rows.position[0]:,} documents")
    _check(rows, chosen)
    rows.commit(journal)
    journal.tokenized(chosen, dict(rows.tokens))


def _check(rows: SpooledRows, chosen: DocumentSplits) -> None:
    row_len = rows.recipe.seq_len + 1
    if not chosen.documents.total():
        left = chosen.left_out.total()
        raise DataError("the corpus is empty: " + (f"all {left} documents were left out" if left else "no documents"))
    for split in ("train", "val"):
        wanted = chosen.documents[split] or (split == "train" and chosen.inputs.val is None)
        if wanted and not rows.spools[split].n_rows:
            raise DataError(
                f"the {split} split holds {rows.tokens[split]} tokens, fewer than one row of {row_len}: "
                "give more text, or a smaller --seq-len (data.seq_len)"
            )
    if rows.recipe.val_fraction and not chosen.documents["val"] and not chosen.end_held_out:
        raise DataError(
            f"no document fell into the held-out fraction {rows.recipe.val_fraction} of "
            f"{chosen.documents['train']} documents: raise it, or name held-out files"
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
