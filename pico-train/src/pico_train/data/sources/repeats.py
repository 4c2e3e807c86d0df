"""A made corpus in which nothing but the row itself helps to predict it: random words, repeated within each row.

Every row of T + 1 tokens says one segment of random words again and again. Words are equally frequent and independent,
so that neither frequencies nor pairs of words tell what comes next, and segments differ in length, so that no fixed
distance does: what is left is to look for the present word earlier in the row, and to say what came after it. That is
what an induction head does (Olsson et al. 2022).

The text is a function of T alone, made with SHAKE-256: the same on every machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from string import ascii_lowercase

import numpy as np

from pico_train.data.prepare.documents import Document

WORDS = tuple(a + b for a in ascii_lowercase for b in ascii_lowercase)
"""Every pair of letters. A byte-level BPE of 256 bytes, end-of-text, 26 first letters and these knows each as one
token, with the space before it: `train:959`, the default of this source."""
DOCUMENTS = 256
"""Of the corpus; which of them are held out, their hashes decide."""
ROWS = 64
"""Of a document: one of so many ends with the end of text."""
SHORTEST = 8
"""Words of the shortest segment; the longest fills half of what a row trains on."""


def documents(seq_len: int) -> Iterator[Document]:
    """The corpus for rows of `seq_len` + 1 tokens, seq_len at least 2 · `SHORTEST`.

    A document, with the end of text after it, is `ROWS` rows exactly.
    """
    for number in range(DOCUMENTS):
        words = np.concatenate([row(number * ROWS + of, seq_len) for of in range(ROWS)])[:-1]
        yield Document.of("".join(f" {WORDS[word]}" for word in words), source=f"repeats/{number}")


def row(number: int, seq_len: int) -> np.ndarray:
    """The words of a row, (T + 1,) indices into `WORDS`: a segment of m words, repeated to the end; m is uniform from
    `SHORTEST` to T // 2."""
    longest = seq_len // 2
    drawn = np.frombuffer(hashlib.shake_256(f"repeats {seq_len} {number}".encode()).digest(4 * (longest + 1)), "<u4")
    length = SHORTEST + int(drawn[0]) % (longest - SHORTEST + 1)
    return np.resize(drawn[1 : length + 1] % len(WORDS), seq_len + 1)


def label() -> str:
    """What this corpus is, for its manifest."""
    return "random words, repeated within each row (made by pico-train)"
