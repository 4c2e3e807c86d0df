r"""What a pre-tokenizer's pattern can match across: a reading of regular expressions, on the safe side.

A text may be cut between two characters where no match of the pattern can hold both, whatever else the text is. This
file reads a pattern in Oniguruma's syntax, as tokenizers use it, into the pairs of character kinds that can stand side
by side in a match. It reads what published tokenizers are made of: literals, classes, Unicode properties, groups,
alternatives, quantifiers, and the one look-ahead ``(?!\S)``. Anything else (anchors, look-behind, references, nested
classes) raises `UnreadablePattern`: such a pattern promises nothing.

Every step errs towards more pairs, so what is said to be impossible is.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field

KINDS = frozenset({"space", "newline", "return", "blank", "letter", "digit", "mark", "other"})
"""Kinds of characters: U+0020, U+000A, U+000D, other white space; letters (L), numbers (N), marks (M), all else."""
WHITE = frozenset({"space", "newline", "return", "blank"})
ALL_CLEAR = r"(?!\S)"
_PROPERTIES = {"L": "letter", "M": "mark", "N": "digit"}
_SCRIPTS = re.compile(r"(?:Script=|sc=)?(?:Han|Hiragana|Katakana|Hangul|Latin|Cyrillic|Greek|Thai|Arabic|Hebrew)")
_GROUP = re.compile(r"\((?!\?)|\(\?(?:i?:|>)")
_COUNT = re.compile(r"\{(\d*)(,?)(\d*)\}")
_HEXADECIMAL = re.compile(r"\\(?:x\{([0-9A-Fa-f]+)\}|x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4}))")
_PROPERTY = re.compile(r"\\[pP]\{(\^?)([A-Za-z=_ ]+)\}")
_RANGE_LIMIT = 2**18


class UnreadablePattern(ValueError):
    """A pattern that uses more than is read here."""


def kind(char: str) -> str:
    """The kind of a character."""
    exact = {" ": "space", "\n": "newline", "\r": "return"}.get(char)
    if exact or char.isspace():
        return exact or "blank"
    return _PROPERTIES.get(unicodedata.category(char)[0], "other")


@dataclass(frozen=True)
class Characters:
    """One place of a pattern: the characters that can stand there."""

    may: frozenset[str]
    """Kinds of which some characters match."""
    must: frozenset[str] = frozenset()
    """Kinds of which every character matches."""

    def __invert__(self) -> Characters:
        return Characters(KINDS - self.must, KINDS - self.may)

    def __or__(self, other: Characters) -> Characters:
        return Characters(self.may | other.may, self.must | other.must)


NOTHING = Characters(frozenset())
SPACE = Characters(WHITE, WHITE)
DECIMAL = Characters(frozenset({"digit"}))
WORD = Characters(frozenset({"letter", "mark", "digit", "other"}), frozenset({"letter", "mark"}))


@dataclass(frozen=True)
class Part:
    """A part of a pattern: what its matches begin and end with, and what stands side by side in them."""

    least: int = 0
    """Fewest characters of a match."""
    first: frozenset[str] = frozenset()
    """Kinds that a match can begin with."""
    last: frozenset[str] = frozenset()
    """Kinds that a match can end with."""
    pairs: frozenset[tuple[str, str]] = frozenset()
    """Kinds that can follow each other inside a match."""
    single: frozenset[str] = field(default=frozenset(), compare=False)
    """Kinds of which any one character is a match by itself, whatever follows."""

    @property
    def kinds(self) -> frozenset[str]:
        """Kinds that can stand anywhere in a match."""
        return self.first | self.last | frozenset(one for pair in self.pairs for one in pair)

    def then(self, after: Part) -> Part:
        """This part, followed by another."""
        return Part(
            least=self.least + after.least,
            first=self.first | (frozenset() if self.least else after.first),
            last=after.last | (frozenset() if after.least else self.last),
            pairs=self.pairs | after.pairs | _crossed(self.last, after.first),
        )

    def __or__(self, other: Part) -> Part:
        return Part(
            min(self.least, other.least),
            self.first | other.first,
            self.last | other.last,
            self.pairs | other.pairs,
            self.single | other.single,
        )

    def repeated(self, least: int, most: int | None) -> Part:
        """This part, `least` to `most` times."""
        again = most is None or most > 1
        return Part(
            least=self.least * least,
            first=self.first,
            last=self.last,
            pairs=self.pairs | (_crossed(self.last, self.first) if again else frozenset()),
            single=self.single if least <= 1 else frozenset(),
        )


def _crossed(left: frozenset[str], right: frozenset[str]) -> frozenset[tuple[str, str]]:
    return frozenset((a, b) for a in left for b in right)


def read(pattern: str) -> Part:
    """What can stand in a match of `pattern`.

    Raises:
        UnreadablePattern: it uses more than is read here.
    """
    reader = _Reader(pattern)
    try:
        part = reader.alternatives()
    except (IndexError, ValueError, RecursionError) as error:
        raise UnreadablePattern(str(error)) from None
    if reader.at < len(pattern):
        raise UnreadablePattern(f"unmatched {pattern[reader.at]!r}")
    return part


def read_literal(text: str) -> Part:
    """What stands in a match of a pattern that is plain text."""
    part = Part()
    for char in text:
        part = part.then(_place(_one(char)))
    return part


def _place(characters: Characters) -> Part:
    return Part(1, characters.may, characters.may, single=characters.must)


class _Reader:
    """Recursive descent through a pattern; `at` is the next character."""

    def __init__(self, pattern: str) -> None:
        self.text, self.at = pattern, 0

    def peek(self, text: str) -> bool:
        return self.text.startswith(text, self.at)

    def take(self, text: str) -> bool:
        found = self.peek(text)
        self.at += len(text) if found else 0
        return found

    def alternatives(self) -> Part:
        part = self.sequence()
        while self.take("|"):
            part = part | self.sequence()
        return part

    def sequence(self) -> Part:
        parts: list[Part] = []
        while self.at < len(self.text) and self.text[self.at] not in "|)":
            parts.append(self.quantified(self.atom()))
        if len(parts) == 1:
            return parts[0]  # keeps `single`: nothing else is asked of what it matches
        whole = Part()
        for part in parts:
            whole = whole.then(part)
        return whole

    def atom(self) -> Part:
        if self.take(ALL_CLEAR):
            return Part()
        if self.peek("("):
            return self.group()
        if self.take("["):
            return _place(self.characters())
        if self.take("."):
            return _place(Characters(KINDS, KINDS - {"newline"}))
        if self.text[self.at] in "^$*+?{":
            raise UnreadablePattern(f"{self.text[self.at]!r} is not read here")
        if self.peek("\\"):
            return _place(self.escape()[0])
        return _place(_one(self.literal()))

    def group(self) -> Part:
        opening = _GROUP.match(self.text, self.at)
        if opening is None:
            raise UnreadablePattern(f"{self.text[self.at : self.at + 4]!r} is not read here")
        self.at = opening.end()
        inside = self.alternatives()
        if not self.take(")"):
            raise UnreadablePattern("a group is not closed")
        return inside

    def quantified(self, part: Part) -> Part:
        while True:
            found = _COUNT.match(self.text, self.at)
            if self.take("*"):
                least, most = 0, None
            elif self.take("+"):
                least, most = 1, None
            elif self.take("?"):
                least, most = 0, 1
            elif found:
                self.at = found.end()
                least = int(found[1] or 0)
                most = (int(found[3]) if found[3] else None) if found[2] else least
            else:
                return part
            part = part.repeated(least, most)  # a lazy or possessive sign after it repeats once more: no harm

    def characters(self) -> Characters:
        """A class, from behind its bracket."""
        negated, found = self.take("^"), NOTHING
        begins = True
        while begins or not self.peek("]"):
            begins = False
            if self.peek("[") or self.peek("&&"):
                raise UnreadablePattern("a class in a class is not read")
            if self.peek("\\"):
                one, char = self.escape()
            else:
                char = self.literal()
                one = _one(char)
            if char is not None and self.peek("-") and not self.peek("-]"):
                self.at += 1
                if self.peek("["):
                    raise UnreadablePattern("a class in a class is not read")
                one = _range(char, self.literal())
            found = found | one
        self.at += 1
        return ~found if negated else found

    def literal(self) -> str:
        """One character, written as itself or by an escape that stands for one."""
        if not self.peek("\\"):
            self.at += 1
            return self.text[self.at - 1]
        hexadecimal = _HEXADECIMAL.match(self.text, self.at)
        if hexadecimal:
            self.at = hexadecimal.end()
            return chr(int(hexadecimal[hexadecimal.lastindex or 1], 16))
        char = self.text[self.at + 1]
        self.at += 2
        if char in "nrtfv":
            return {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "v": "\v"}[char]
        if char.isalnum():
            raise UnreadablePattern(f"\\{char} is not read")
        return char

    def escape(self) -> tuple[Characters, str | None]:
        """A shorthand class, a property or a literal, from its backslash on; and the character where it is one."""
        name = self.text[self.at + 1]
        if name in "sSdDwW":
            self.at += 2
            found = {"s": SPACE, "d": DECIMAL, "w": WORD}[name.lower()]
            return (~found if name.isupper() else found), None
        if name in "pP":
            match = _PROPERTY.match(self.text, self.at)
            if match is None:
                raise UnreadablePattern("a property is not in braces")
            self.at = match.end()
            found = _property(match[2])
            return (~found if (name == "P") != bool(match[1]) else found), None
        char = self.literal()
        return _one(char), char


def _one(char: str) -> Characters:
    # What a newer Unicode makes of a character that this one does not know, only the library knows.
    its = frozenset({kind(char)}) if unicodedata.category(char) != "Cn" else KINDS - WHITE
    return Characters(its, its & {"space", "newline", "return"})


def _range(first: str, last: str) -> Characters:
    if not 0 <= ord(last) - ord(first) <= _RANGE_LIMIT:
        raise UnreadablePattern("a range is empty or too wide")
    chars = range(ord(first), ord(last) + 1)
    exact = frozenset(kind(char) for char in " \n\r" if ord(char) in chars)
    return Characters(frozenset(kind(chr(code)) for code in chars), exact)


def _property(name: str) -> Characters:
    """A Unicode property: L, Lu, P, Han, …."""
    if name in _PROPERTIES:
        whole = frozenset({_PROPERTIES[name]})
        return Characters(whole, whole)
    if name[0] in _PROPERTIES and len(name) == 2:
        return Characters(frozenset({_PROPERTIES[name[0]]}))
    if name[0] in "PSC" and len(name) <= 2:
        return Characters(frozenset({"other", "newline", "return", "blank"} if name[0] == "C" else {"other"}))
    if name in ("Z", "Zs"):
        return Characters(frozenset({"space", "blank"}), frozenset({"space"}))
    if _SCRIPTS.fullmatch(name):
        return Characters(KINDS - WHITE)
    raise UnreadablePattern(f"property {name} is not read")
