"""Values from the structure that a YAML parser finds, each counted before it is made.

Decides which structures are read: a key that stands twice in one mapping, a merge key (of YAML 1.1), a tag that is not
the core schema's, a second document, and what exceeds the bounds is refused, in one sentence that names the line. What
a scalar means, `yaml_scalars` says; which texts come here, `yaml_text`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml
from yaml import events

from pico_schema import yaml_scalars
from pico_schema.errors import YamlError

MAX_DEPTH = 32
"""Most mappings and lists inside one another."""
MAX_KEY = 256
"""Longest key, in characters."""
MAX_EXPANDED = 2**20
"""Most values and characters of text together, each alias counted as what it stands for."""

Place = tuple[str | int, ...]
"""Keys and positions that lead to a value."""

_CORE = "tag:yaml.org,2002:"
_TOO_DEEP = f"more than {MAX_DEPTH} mappings and lists are inside one another"
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Document:
    """What a text holds."""

    value: Any
    """Mappings as dict, lists as list, and str, int, float, bool or None; None for a text without content."""
    lines: Mapping[Place, int] = field(default_factory=dict)
    """Line, from 1, of each value, by the keys and positions that lead to it; what an alias stands for is not in it."""

    def line(self, path: Place) -> int | None:
        """Line of a value, or of the nearest one around it; None for a text without content."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path)


def compose(text: str, *, where: str, one_word: bool = False) -> Document:
    """Return what a text holds.

    Args:
        text: its characters.
        where: what a message begins with.
        one_word: whether it is a word of the command line: a scalar, or a list or mapping in brackets, nothing else.

    Raises:
        YamlError: not YAML 1.2, or beyond a bound.
    """
    return _Composer(text, where, one_word=one_word).document()


class _Parser(yaml.reader.Reader, yaml.scanner.Scanner, yaml.parser.Parser):
    """PyYAML's parser without what gives meaning to scalars."""

    def __init__(self, text: str) -> None:
        yaml.reader.Reader.__init__(self, text)
        yaml.scanner.Scanner.__init__(self)
        yaml.parser.Parser.__init__(self)

    def fetch_flow_collection_start(self, TokenClass: Any) -> None:
        """Looking ahead for a key, the scanner would go through a thousand brackets before the first is told of."""
        if self.flow_level > MAX_DEPTH:
            raise yaml.scanner.ScannerError(problem=_TOO_DEEP, problem_mark=self.get_mark())
        super().fetch_flow_collection_start(TokenClass)


class _Composer:
    """Values from the events of a parser; a value is counted before it is made."""

    def __init__(self, text: str, where: str, *, one_word: bool) -> None:
        self.text, self.where, self.one_word = text, where, one_word
        self.lines: dict[Place, int] = {}
        self.anchors: dict[str, tuple[Any, int] | None] = {}
        """Value and count by anchor; None while the value is being made."""
        self.parser: Any = None
        self.end: int
        """Where the newest event ends, in characters."""

    def document(self) -> Document:
        """The only document."""
        if self.one_word and ("\n" in self.text or "\r" in self.text):
            raise YamlError(f'{self.where}: it has a line break: write it as "\\n", in quotes')
        try:
            self.parser = _Parser(self.text)
            self.next()
            start = self.next()
            if isinstance(start, events.StreamEndEvent):
                self.check_whole(0)
                return Document(None)
            if start.version not in (None, (1, 2)):
                self.refuse(start, f"it asks for YAML {'.'.join(map(str, start.version))}, and is read as 1.2")
            root = self.next()
            self.check_bracketed(start, root)
            value, _ = self.value(root, ())
            self.check_whole(self.end)
            self.next()
            after = self.next()
            if not isinstance(after, events.StreamEndEvent):
                self.refuse(after, "a second document begins here: one is read")
        except (yaml.YAMLError, ValueError, OverflowError) as error:
            raise YamlError(self.explain(error)) from None
        return Document(value, self.lines)

    def next(self) -> Any:
        """The next event."""
        event = self.parser.get_event()
        self.end = event.end_mark.index
        return event

    def explain(self, error: Exception) -> str:
        """What the parser has to say, in one sentence."""
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        problem = str(getattr(error, "problem", None) or "an impossible character")
        if "'\\t'" in problem:
            problem = "a tab, where YAML has spaces"
        if isinstance(error, yaml.reader.ReaderError):
            line = self.text.count("\n", 0, error.position) + 1
            problem = f"the control character U+{ord(self.text[error.position]):04X}"
        else:
            line = (mark or self.parser).line + 1
        if self.one_word:
            return f"{self.where}: the value is not valid YAML ({problem}); quote it if it is text"
        return f"{self.where}, line {line}: not valid YAML ({problem})"

    def check_bracketed(self, start: Any, root: Any) -> None:
        """Whether a word is a scalar, or a list or mapping in brackets, and not the marker of a document."""
        collection = isinstance(root, events.MappingStartEvent | events.SequenceStartEvent)
        if self.one_word and (start.explicit or (collection and not root.flow_style)):
            self.refuse(root, "quote the value if it is text; lists and mappings go in brackets")

    def check_whole(self, end: int) -> None:
        """Whether a word ends where its value does: what follows would be left out."""
        rest = self.text[end:].strip()
        if self.one_word and rest:
            raise YamlError(f"{self.where}: {rest[:40]!r} would be a comment: quote the value if it is text")

    def refuse(self, event: Any, why: str) -> NoReturn:
        """Raise what is wrong at an event."""
        place = "" if self.one_word else f", line {event.start_mark.line + 1}"
        raise YamlError(f"{self.where}{place}: {why}")

    def value(self, event: Any, path: Place) -> tuple[Any, int]:
        """The value that begins with `event`, and how much it counts."""
        if isinstance(event, events.AliasEvent):
            return self.aliased(event, path)
        self.lines[path] = event.start_mark.line + 1
        if len(path) >= MAX_DEPTH and not isinstance(event, events.ScalarEvent):
            self.refuse(event, _TOO_DEEP)
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        if isinstance(event, events.ScalarEvent):
            made: tuple[Any, int] = self.scalar(event), 1 + len(event.value)
        elif isinstance(event, events.SequenceStartEvent):
            made = self.sequence(event, path)
        else:
            made = self.mapping(event, path)
        if event.anchor is not None:
            self.anchors[event.anchor] = made
        return made

    def aliased(self, event: Any, path: Place) -> tuple[Any, int]:
        self.lines[path] = event.start_mark.line + 1
        if event.anchor not in self.anchors:
            self.refuse(event, f"*{event.anchor} refers to nothing: there is no &{event.anchor} above it")
        made = self.anchors[event.anchor]
        if made is None:
            self.refuse(event, f"*{event.anchor} is inside what it refers to")
        return made

    def counted(self, event: Any, count: int) -> int:
        if count > MAX_EXPANDED:
            self.refuse(
                event, f"with its aliases written out, this is more than {MAX_EXPANDED:,} values and characters"
            )
        return count

    def sequence(self, event: Any, path: Place) -> tuple[list[Any], int]:
        self.check_tag(event, "seq")
        items: list[Any] = []
        count = 1
        while not isinstance(item := self.next(), events.SequenceEndEvent):
            value, more = self.value(item, (*path, len(items)))
            count = self.counted(item, count + more)
            items.append(value)
        return items, count

    def mapping(self, event: Any, path: Place) -> tuple[dict[str, Any], int]:
        self.check_tag(event, "map")
        entries: dict[str, Any] = {}
        seen: dict[str, int] = {}
        count = 1
        while not isinstance(name := self.next(), events.MappingEndEvent):
            key = self.key(name)
            if key in entries:
                self.refuse(name, f"the key {key!r} stands twice (first in line {seen[key]}): keep one of them")
            seen[key] = name.start_mark.line + 1
            item = self.next()
            value, more = self.value(item, (*path, key))
            self.lines[(*path, key)] = seen[key]
            count = self.counted(item, count + len(key) + more)
            entries[key] = value
        return entries, count

    def key(self, event: Any) -> str:
        """A key: text, short, and none of YAML 1.1's merge keys."""
        if not isinstance(event, events.ScalarEvent):
            self.refuse(event, "a key is text: a list, mapping or alias cannot be one")
        if event.value == "<<" and event.implicit[0]:
            self.refuse(event, "<< is no key of YAML 1.2: write the keys out, or give the whole section by an alias")
        key = self.scalar(event)
        if not isinstance(key, str):
            self.refuse(event, f"the key {event.value or 'that is empty'} is not text: quote it if it is meant")
        if len(key) > MAX_KEY:
            self.refuse(event, f"a key has {len(key):,} characters (at most {MAX_KEY})")
        if event.anchor is not None:
            self.anchors[event.anchor] = (key, 1 + len(key))
        return key

    def check_tag(self, event: Any, kind: str) -> None:
        if event.tag not in (None, "!", _CORE + kind):
            self.refuse(event, f"the tag {_shown(event.tag)} is not one of YAML's core schema for this: leave it out")

    def scalar(self, event: Any) -> yaml_scalars.Scalar:
        """The value of a scalar, by its tag, or by its form if it is plain."""
        text: str = event.value
        if _SURROGATE.search(text):
            self.refuse(event, "half of a surrogate pair is no character")
        if event.tag == "!" or event.implicit[1]:
            return text
        try:
            if event.tag is None:
                return yaml_scalars.resolve(text)
            kind = event.tag.removeprefix(_CORE)
            if kind not in yaml_scalars.KINDS:
                self.check_tag(event, "str")
            return yaml_scalars.resolve_as(kind, text)
        except ValueError as error:
            self.refuse(event, str(error))


def _shown(tag: str) -> str:
    return f"!!{tag.removeprefix(_CORE)}" if tag.startswith(_CORE) else tag
