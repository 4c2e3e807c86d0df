"""What a task's name means, and the task itself, open and in the model's tokens.

    validation                 the run's held-out rows
    pairs                      the shipped minimal pairs; pairs:FILE those of JSON lines like BLiMP's, or of a folder
    python-pairs               shipped minimal pairs of Python's grammar, for models that read code
    choices:FILE               questions answered by likelihood, or continuations alone, as JSON lines
    text:PATH                  documents of files, folders or globs, as `data.paths` takes them
    pico1:PATH                 the same documents, as Pico 1.0 measured them
    babylm:FOLDER              a task of BabyLM's fast evaluation, or all whose folders are there
    tokens:DIRECTORY           rows of Parquet shards
    hub:ORG/NAME[@REVISION]    the same, in a dataset repository; `/FOLDER` behind the name for a part of it
    paloma, paloma-tinsy       hub:pico-lm/pretokenized-paloma and its small sibling

NAME=task gives a task another name in the results. Names of results hold no white space.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Protocol

import numpy as np

from pico_train.counting import counted
from pico_train.data.cache import cache_root
from pico_train.data.corpus import Corpus
from pico_train.errors import ConfigError, DataError, UsageError
from pico_train.evaluation import babylm, choices, overlap, pairs
from pico_train.evaluation.perplexity import DocumentSet
from pico_train.evaluation.pico_v1 import RawTexts
from pico_train.evaluation.scoring import Scorer
from pico_train.evaluation.sentences import Encoder
from pico_train.evaluation.token_bytes import bytes_of, token_bytes
from pico_train.training.step import Tasks

KINDS = ("validation", "pairs", "python-pairs", "choices", "text", "pico1", "babylm", "tokens", "hub")
NAMED = {
    "paloma": "hub:pico-lm/pretokenized-paloma",
    "paloma-tinsy": "hub:pico-lm/pretokenized-paloma-tinsy",
}
"""Sets that have a name of their own."""
_MADE_WITH = dict.fromkeys((place.removeprefix("hub:") for place in NAMED.values()), "allenai/OLMo-7B-0724-hf")
"""Tokenizers of sets that do not say it themselves: that which pico-dataset made them with."""
MOST_BYTES = 2**30
"""Bytes of a set of text that are read, at most."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Task(Protocol):
    """What can be measured of a model."""

    @property
    def name(self) -> str:
        """Its name in the results."""

    def measure(self, scorer: Scorer, *, batch_size: int, stride: int | None = None) -> Tasks:
        """Its results, and those of its parts. A collective."""


@dataclass(frozen=True)
class Address:
    """A task's name, taken apart."""

    name: str
    """Name in the results."""
    kind: str
    """One of `KINDS`."""
    place: str
    """File, directory or repository; empty where none is needed."""
    given: str
    """As it was written."""


def parse(text: str) -> Address | None:
    """The address of a built-in task; None for what is none of them.

    Raises:
        UsageError: the kind is known and the rest is not as it should be.
    """
    name, equals, rest = text.partition("=")
    if not equals or not _NAME.fullmatch(name):
        name, rest = "", text
    known = NAMED.get(rest)
    kind, _, place = (known or rest).partition(":")
    if kind not in KINDS:
        return None
    if kind not in ("validation", *pairs.SHIPPED) and not place:
        raise UsageError(f"task {text}: {kind} needs a place, such as {kind}:my/{kind}")
    if kind == "python-pairs" and place:
        raise UsageError(f"task {text}: python-pairs are the shipped ones; those of a file are pairs:{place}")
    if kind == "validation" and place:
        raise UsageError(f"task {text}: validation is the run's own held-out rows and takes no place")
    if not name:
        last = Path(place.partition("@")[0]).name or kind
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", last if kind == "hub" else Path(last).stem).strip("-.")
        name = rest if known else f"pico1-{plain}" if kind == "pico1" else plain
    if not _NAME.fullmatch(name):
        raise UsageError(f"task {text}: no name follows from it: write it as name={rest}")
    return Address(name, kind, place, text)


def parse_all(texts: Sequence[str]) -> list[Address]:
    """The addresses of built-in tasks.

    Raises:
        UsageError: one is none, with the nearest; or two have the same name.
    """
    found = []
    for text in [one for given in texts for one in _each(given)]:
        address = parse(text)
        if address is None:
            raise UsageError(f"there is no task {text!r}{nearest(text)}: built in are {', '.join((*KINDS, *NAMED))}")
        found.append(address)
    names = [address.name for address in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"two tasks are called {twice}: give one another name, such as other={found[-1].given}")
    return found


def _each(text: str) -> list[str]:
    """The tasks that one word means: of a folder that holds BabyLM's, each of them."""
    if not text.startswith("babylm:"):
        return [text]
    return [f"babylm:{folder}" for folder in babylm.folders(text.removeprefix("babylm:"))]


def nearest(text: str, more: Sequence[str] = ()) -> str:
    """The task that may have been meant."""
    near = get_close_matches(text.partition(":")[0], [*KINDS, *NAMED, *more], n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


@dataclass(frozen=True)
class Given:
    """What tasks are opened for: a model's tokens, and what it was trained on as far as that is known."""

    tokenizer_dir: Path | None
    """Directory of its tokenizer; None where it has none."""
    vocab_size: int
    """Ids are smaller than this."""
    tokenizer_sha256: str | None = None
    """Identity of the tokenizer; None for a model of others, of which only text can be taken."""
    corpus: Corpus | None = None
    """Its training rows; None where they are not at hand."""
    rows: Callable[[], tuple[np.ndarray, list[str]]] | None = None
    """Its held-out rows (n, T + 1), and their sources."""
    tokenizer: str | None = None
    """Name or directory of the tokenizer that shards without a manifest were made with."""
    allow_overlap: bool = False
    """Whether a set may hold what was trained on."""
    say: Callable[[str], None] = lambda _: None
    """Is told what is to be known of a set."""


def open_task(address: Address, given: Given) -> Task:
    """A task in the model's tokens.

    Raises:
        ConfigError, DataError, StorageError: there is no such set, or it cannot be used with this model.
    """
    if address.kind in pairs.SHIPPED:
        file = Path(address.place).expanduser() if address.place else None
        found = pairs.read_pairs(file) if file is not None else pairs.shipped(address.kind)
        return pairs.PairSet.of(address.name, found, _encoder(address, given))
    if address.kind == "choices":
        questions = choices.read_questions(Path(address.place).expanduser())
        return choices.QuestionSet.of(address.name, questions, _encoder(address, given))
    if address.kind == "validation":
        return _validation(address, given)
    if address.kind == "babylm":
        return _babylm(address, _encoder(address, given))
    if address.kind == "text":
        return _text(address, given)
    if address.kind == "pico1":
        documents, _, _ = _read_text(address, given)
        _compared(address, [document[1:] for document in documents], given)
        return RawTexts(address.name, [document[1:] for document in documents])
    return _tokens(address, given)


def _encoder(address: Address, given: Given) -> Encoder:
    if given.tokenizer_dir is None:
        raise DataError(f"task {address.given}: the model came without a tokenizer, so text cannot become its tokens")
    return Encoder.of(given.tokenizer_dir, f"task {address.given}")


def _babylm(address: Address, encoder: Encoder) -> Task:
    family, directory = babylm.family(address.place), Path(address.place).expanduser()
    if family in ("blimp", "supplement"):
        return pairs.PairSet.of(address.name, pairs.read_pairs(directory), encoder)
    if family == "wug":
        return babylm.PreferenceSet.read(address.name, directory, encoder)
    return choices.QuestionSet.of(address.name, babylm.read_questions(directory), encoder)


def _validation(address: Address, given: Given) -> DocumentSet:
    if given.rows is None:
        raise UsageError("task validation: this model belongs to no run of Pico: name a set, such as text:my/held/out")
    rows, sources = given.rows()
    documents = list(rows)
    counts = {}
    if given.corpus is not None:
        overlap.check_held_out(given.corpus)
        counts = overlap.compare(documents, given.corpus).counts
    return DocumentSet(address.name, documents, sources, _row_bytes(documents, given), rows=True, counts=counts)


def _row_bytes(documents: list[np.ndarray], given: Given) -> np.ndarray | None:
    sizes = None if given.tokenizer_dir is None else token_bytes(given.tokenizer_dir)
    return None if sizes is None else bytes_of(documents, sizes)


def _text(address: Address, given: Given) -> DocumentSet:
    documents, sources, n_bytes = _read_text(address, given)
    counts = _compared(address, [document[1:] for document in documents], given)
    return DocumentSet(address.name, documents, sources, n_bytes, counts=counts)


def _read_text(address: Address, given: Given) -> tuple[list[np.ndarray], list[str], np.ndarray]:
    """Token ids of each document, led by the token that documents begin with; its source, and its bytes."""
    from pico_train.data.prepare.inputs import text_inputs
    from pico_train.data.prepare.records import TextLayout

    encoder = _encoder(address, given)
    texts, sources, size = [], [], 0
    for document in text_inputs([address.place], [], TextLayout()).train():
        text = "".join(document.parts())
        if not text:
            continue
        size += len(text.encode("utf-8", "surrogatepass"))
        if size > MOST_BYTES:
            raise DataError(f"task {address.given}: more than {MOST_BYTES // 2**20:,} MiB of text: take a part of it")
        texts.append(text)
        sources.append(document.source if document.named else "")
    parts = [texts[start : start + 256] for start in range(0, len(texts), 256)]
    documents = [document for part in parts for document in encoder(part, address.place)]
    n_bytes = np.array([len(text.encode("utf-8", "surrogatepass")) for text in texts], np.int64)
    return documents, sources, n_bytes


def _tokens(address: Address, given: Given) -> DocumentSet:
    from pico_train.evaluation.token_rows import read_rows
    from pico_train.evaluation.token_sets import check_tokenizer, in_directory, on_hub

    if given.tokenizer_sha256 is None:
        raise DataError(
            f"task {address.given}: holds tokens of a tokenizer, which cannot be compared with that of a model of "
            "others: give it as text, text:my/files"
        )
    found = in_directory(address.place) if address.kind == "tokens" else on_hub(address.place, cache_root(), given.say)
    named = given.tokenizer or (_MADE_WITH.get(address.place) if address.kind == "hub" else None)
    check_tokenizer(address.given, found, given.tokenizer_sha256, named, cache_root())
    rows, sources = read_rows(found.files, given.vocab_size)
    counts = _compared(address, rows, given)
    return DocumentSet(address.name, rows, sources, _row_bytes(rows, given), rows=True, counts=counts)


def _compared(address: Address, documents: list[np.ndarray], given: Given) -> dict[str, int]:
    """How much of a set was trained on; nothing where the training rows are not at hand."""
    if given.corpus is None:
        return {}
    found = overlap.compare(documents, given.corpus)
    if not given.allow_overlap:
        found.refuse_copies(f"task {address.given}", len(documents))
    return found.counts


def check_size(task: Task, world_size: int) -> None:
    """Raise where a set has not one document for each process.

    Raises:
        ConfigError: it has fewer.
    """
    if isinstance(task, DocumentSet | RawTexts) and len(task.documents) < world_size:
        n = len(task.documents)
        raise ConfigError(
            f"task {task.name}: {counted(n, 'document is', 'documents are')} fewer than the {world_size} processes: "
            "give more, or evaluate with fewer processes"
        )
