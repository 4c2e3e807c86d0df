r"""Where a text may be cut so that the ids of its pieces, end to end, are those of the whole.

A tokenizer encodes a text at once and needs some fifty bytes of memory for each character of it, so a long document is
encoded in pieces. That changes the ids wherever a step of the tokenizer looks across the cut: a pattern that takes
punctuation and the line end after it together, a merge over a space, a space that is put before every piece. So this
file reads what the tokenizer's steps are, and finds two kinds of places where none of them looks across:

    text|␠text    before a single space between two characters that are none
    text|⏎text    before a single line end between two characters that are no white space

The piece that begins there begins with white space itself, so that a tokenizer which puts a space before a text
(`add_prefix_space`, Metaspace) puts none. `cuts_of` decides which of the two a tokenizer allows, step by step and on
the safe side: of a step that is not known here, nothing is assumed, and then a document is encoded as a whole, up to
`LARGEST` characters; a longer one is refused.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pico_train.data.pattern import KINDS, WHITE, Part, UnreadablePattern, kind, read, read_literal
from pico_train.errors import DataError
from pico_train.tokenizer_files import build

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PIECE = 2**14
"""Characters of a piece, about."""
LARGEST = 2**21
"""Characters that are encoded at once, at most: they take up to 0.4 GB."""
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""The pattern inside the pre-tokenizer ByteLevel."""
_AT_WHITE_SPACE = frozenset({"Whitespace", "WhitespaceSplit", "BertPreTokenizer"})
"""Pre-tokenizers that split at all white space."""
_BY_CHARACTER = frozenset({"NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "BertNormalizer"})
"""Normalizers that never join a character with the space or line end after it."""


@dataclass(frozen=True)
class Place:
    """A kind of place to cut at: before `char`."""

    char: str
    """The space or line end that the next piece begins with."""
    before: frozenset[str]
    """Kinds of characters that may stand before it."""


SPACE = Place(" ", KINDS - WHITE)
LINE = Place("\n", KINDS - WHITE)
LINE_AFTER_WORD = Place("\n", frozenset({"letter", "digit"}))


@dataclass(frozen=True)
class Cuts:
    """The places where a tokenizer's texts may be cut."""

    places: tuple[Place, ...] = ()
    """Kinds of places; none where a text cannot be cut."""
    normalizer: Any = None
    """The tokenizer's normalizer, without what it puts before a text; None where it has none."""

    def find(self, text: str, start: int) -> int | None:
        """The first place at or behind `start` (at least 1), or None."""
        if not self.places:
            return None
        for match in _single("".join(place.char for place in self.places)).finditer(text, start):
            at = match.start()
            if self._fits(text[at - 1], text[at], text[at + 1]):
                return at
        return None

    def _fits(self, before: str, char: str, after: str) -> bool:
        """Whether a place is one: its neighbours are what they seem, also once they are normalized."""
        if not self._solid(before) or not self._solid(after):
            return False
        place = next(place for place in self.places if place.char == char)
        if place.before == KINDS - WHITE and self.normalizer is None:
            return True
        # What an older Unicode called it too, the library's tables call it as well.
        old = unicodedata.ucd_3_2_0.category(before)
        return old == unicodedata.category(before) != "Cf" and kind(before) in place.before

    def _solid(self, char: str) -> bool:
        """Whether a character stays, and neither is nor becomes white space or the sign that stands for it."""
        became = char if self.normalizer is None else self.normalizer.normalize_str(char)
        return bool(became) and not any(one.isspace() or one == "▁" for one in became)


@cache
def _single(chars: str) -> re.Pattern[str]:
    """One of these characters, between two that are no white space."""
    return re.compile(rf"(?<=\S)[{chars}](?=\S)")


def pieces(
    parts: Iterable[str], cuts: Cuts, *, limit: int = PIECE, largest: int = LARGEST, where: str = "a document"
) -> Iterator[str]:
    """A text, given in parts, in pieces; how it was parted makes no difference.

    Args:
        parts: The text.
        cuts: Where it may be cut.
        limit: A piece ends at the first place behind so many characters.
        largest: Most characters of a piece.
        where: What the text is, for messages.

    Yields:
        At least one piece; only that of an empty text is empty.

    Raises:
        DataError: a piece would be larger, since there is no place to cut at.
    """
    text, looked = "", limit
    for part in parts:
        text += part
        start = 0
        while (cut := cuts.find(text, max(looked, 1))) is not None:
            _require_size(cut - start, largest, where)
            yield text[start:cut]
            start, looked = cut, cut + limit
        looked = max(looked, len(text) - 1) - start  # the last character may be a place, once its neighbour is known
        text = text[start:]
        _require_size(len(text) - 1, largest, where)
    _require_size(len(text), largest, where)
    yield text


def _require_size(size: int, largest: int, where: str) -> None:
    if size > largest:
        raise DataError(
            f"{where}: {largest:,} characters without a place where a text of this tokenizer may be cut: divide the "
            "document, leave it out, or take another tokenizer"
        )


def cuts_of(definition: dict[str, Any], directory: Path) -> Cuts:
    """Where texts of a tokenizer may be cut.

    Args:
        definition: What its tokenizer.json says, as `read_definition` gives it.
        directory: Where it is from, for messages.
    """
    steps = _steps(definition.get("normalizer"), "normalizers")
    tokenizer = build(definition | {"normalizer": without_prepend(definition.get("normalizer"))}, directory)
    normalizer = tokenizer.normalizer if steps else None
    found: list[Place] = []
    for place in (SPACE, LINE, LINE_AFTER_WORD):
        if any(place.char == other.char for other in found):
            continue
        try:
            symbol = _normalized(steps, place)
            _require(normalizer is None or normalizer.normalize_str(f"a{place.char}a") == f"a{symbol}a")
            _added_tokens(definition, tokenizer, place, symbol)
            _pre_tokenized(definition, steps, place, symbol)
        except (_Unknown, UnreadablePattern):
            continue
        found.append(place)
    return Cuts(tuple(found), normalizer)


def without_prepend(normalizer: Any) -> Any:
    """A normalizer without the step that puts something before a text: for what is not its beginning."""
    steps = [step for step in _steps(normalizer, "normalizers") if step.get("type") != "Prepend"]
    if len(steps) == len(_steps(normalizer, "normalizers")):
        return normalizer
    return {"type": "Sequence", "normalizers": steps} if steps else None


class _Unknown(Exception):
    """A step of a tokenizer might look across the place, as far as is known here."""


def _require(condition: object) -> None:
    if not condition:
        raise _Unknown


def _steps(step: Any, inside: str) -> list[dict[str, Any]]:
    """A step's parts, sequences in sequences laid flat."""
    if step is None:
        return []
    if not isinstance(step, dict):
        return [{"type": "unknown"}]
    if step.get("type") != "Sequence":
        return [step]
    return [part for entry in step.get(inside) or [] for part in _steps(entry, inside)]


def _normalized(steps: list[dict[str, Any]], place: Place) -> str:
    """What the place's character becomes, if no normalizer joins anything across it."""
    symbol = place.char
    for step in steps:
        name = step.get("type")
        if name == "Replace":
            symbol = _replaced(step, place, symbol)
        elif name == "Strip":
            _require(step.get("strip_left") is False)
        else:
            _require(name in _BY_CHARACTER or name in ("Precompiled", "Prepend"))
    return symbol


def _replaced(step: dict[str, Any], place: Place, symbol: str) -> str:
    content = step.get("content")
    if _text(step) == symbol and isinstance(content, str) and len(content) == 1 and not content.isspace():
        return content
    part, at = _pattern(step), kind(symbol)
    _require(isinstance(content, str) and not _crosses(part, place, at))
    _require(not any((at, after) in part.pairs for after in KINDS - WHITE))
    _require(part.least >= 2 or at not in part.kinds)  # it takes no single space
    # What stands beside the place stays what it is: no white space is made of it, and it does not vanish.
    _require(part.kinds <= WHITE or (content and not any(char.isspace() or char == "▁" for char in content)))
    return symbol


def _added_tokens(definition: dict[str, Any], tokenizer: Tokenizer, place: Place, symbol: str) -> None:
    """No token that is looked for in the text before it is split may reach across the place."""
    prepends = any(step.get("type") == "Prepend" for step in _steps(definition.get("normalizer"), "normalizers"))
    for token in definition["added_tokens"]:
        content = token["content"]
        forms = [(content, place.char)]
        if token.get("normalized") and tokenizer.normalizer is not None:
            forms.append((tokenizer.normalizer.normalize_str(content), symbol))
        for form, char in forms:
            _require(not re.search(rf"[^\s{re.escape(char)}]{re.escape(char)}", form))
            _require(not (token.get("single_word") and form[:1] == char))
        if not token.get("special"):  # special ones are not looked for
            _require(not token.get("rstrip") and not prepends)


def _pre_tokenized(definition: dict[str, Any], normalizers: list[dict[str, Any]], place: Place, symbol: str) -> None:
    """Some step splits at the place whatever the text, and none before it looks across; or the model does not."""
    spaceless = any(step.get("type") == "Replace" and _text(step) == " " for step in normalizers)
    for step in _steps(definition.get("pre_tokenizer"), "pretokenizers"):
        if step.get("type") == "Metaspace" and symbol in (" ", step.get("replacement")):
            symbol = str(step.get("replacement"))
        if not (spaceless and step.get("type") == "Split" and _text(step) == " ") and _bounds(step, place, symbol):
            return
    _not_merged(definition["model"], place, symbol)


def _bounds(step: dict[str, Any], place: Place, symbol: str) -> bool:
    """Whether a pre-tokenizer splits at the place whatever the text is; and it may not look across it."""
    name = step.get("type")
    if name == "Metaspace":
        _require(symbol == step.get("replacement") or step.get("prepend_scheme") == "never")
        return bool(step.get("split", True)) and symbol == step.get("replacement")
    if name == "ByteLevel":
        _require(step.get("use_regex", True) and (symbol == " " or not step.get("add_prefix_space", True)))
        return _splits(read(GPT2), place, symbol)
    if name == "Split":
        _require(step.get("behavior") in ("Isolated", "Removed"))
        return _splits(_pattern(step), place, symbol)
    if name == "CharDelimiterSplit":
        return bool(step.get("delimiter") == symbol)
    if name in _AT_WHITE_SPACE:
        _require(symbol.isspace())
        return True
    # These look at two neighbouring characters, no further.
    _require(name == "Digits" or (name == "Punctuation" and step.get("behavior", "Isolated") == "Isolated"))
    return False


def _splits(part: Part, place: Place, symbol: str) -> bool:
    """Whether a match begins at the place whatever the text is; and none may reach across it."""
    at = kind(symbol)
    _require(part.least and not _crosses(part, place, at))
    return at in part.single


def _crosses(part: Part, place: Place, at: str) -> bool:
    return any((before, at) in part.pairs for before in place.before)


def _pattern(step: dict[str, Any]) -> Part:
    """What a step's pattern matches."""
    text = _text(step)
    if text is not None:
        return read_literal(text)
    pattern = step.get("pattern")
    _require(isinstance(pattern, dict) and isinstance(pattern.get("Regex"), str))
    return read(pattern["Regex"])  # type: ignore[index]


def _text(step: dict[str, Any]) -> str | None:
    """A step's pattern, where it is plain text."""
    pattern = step.get("pattern")
    text = pattern.get("String") if isinstance(pattern, dict) else None
    return text if isinstance(text, str) else None


def _not_merged(model: dict[str, Any], place: Place, symbol: str) -> None:
    """A BPE of texts that are not split: no token of its vocabulary holds the place, so no merge goes across it."""
    vocabulary: Any = model.get("vocab")
    _require(model.get("type", "BPE") == "BPE" and isinstance(vocabulary, dict) and symbol in vocabulary)
    for setting in ("continuing_subword_prefix", "end_of_word_suffix", "ignore_merges"):
        _require(not model.get(setting))
    inside = re.compile(rf"[^\s{re.escape(symbol)}]{re.escape(symbol)}")
    _require(place.before == KINDS - WHITE and not any(inside.search(token) for token in vocabulary))
