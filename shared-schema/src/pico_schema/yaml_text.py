"""YAML that people write, read as YAML 1.2 says and within bounds; and written so that it is read back the same.

Decides which texts are read (UTF-8, not longer than `MAX_BYTES`) and how values are written. Which structures are
read, `yaml_composer` says, what a scalar means, `yaml_scalars`; what the values mean is the caller's business.

Needs PyYAML (``pip install 'pico-schema[yaml]'``), whose parser finds the structure; its own reading of scalars is that
of YAML 1.1 and is not used. No other module of this package needs it.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

try:
    import yaml
except ImportError as error:
    raise ImportError("reading YAML needs PyYAML: pip install 'pico-schema[yaml]'") from error

from pico_schema import yaml_scalars
from pico_schema.errors import YamlError
from pico_schema.yaml_composer import MAX_DEPTH, MAX_EXPANDED, MAX_KEY, Document, Place, compose

__all__ = [
    "MAX_BYTES",
    "MAX_DEPTH",
    "MAX_EXPANDED",
    "MAX_KEY",
    "Document",
    "Place",
    "dump",
    "parse",
    "parse_value",
    "read",
]

MAX_BYTES = 128 * 2**10
"""Largest text read, in bytes."""

_BREAKS_OF_1_1 = re.compile("[\x85\u2028\u2029]")


def parse(text: bytes | str, *, where: str) -> Document:
    """Return what a YAML text holds.

    Args:
        text: at most `MAX_BYTES`; bytes are UTF-8, with or without a byte order mark.
        where: what a message begins with, such as the file's name.

    Raises:
        YamlError: not YAML 1.2, not UTF-8, a key twice, several documents, or beyond a bound; the line is named.
    """
    return compose(_checked(text, where), where=where)


def read(path: Path) -> Document:
    """Return what a YAML file holds.

    Raises:
        YamlError: not there, not readable, or as `parse` says.
    """
    try:
        if path.is_fifo() and not path.is_relative_to("/dev"):  # what a shell puts there is written to
            raise YamlError(f"{path}: a named pipe, from which nothing may ever come: give a file")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise YamlError(f"{path}: cannot be read ({error.strerror})") from None
    return parse(content, where=str(path))


def parse_value(text: str, *, where: str) -> Any:
    """Return the one value of a word of the command line: a scalar, or a list or mapping in brackets.

    Args:
        text: the word; empty is null.
        where: what a message begins with.

    Raises:
        YamlError: as `parse`; or a part of the word would be left out as a comment, or it has several lines.
    """
    return compose(_checked(text, where), where=where, one_word=True).value


def dump(value: Any) -> str:
    """Return the text of nested mappings, lists and scalars; `parse` gives the same values, and so do readers of 1.1.

    Raises:
        YamlError: a value is of another type.
    """
    try:
        text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=math.inf)
    except yaml.YAMLError as error:
        raise YamlError(f"cannot be written as YAML: {error}") from None
    return text


def _checked(text: bytes | str, where: str) -> str:
    """The characters of a text, if it is short enough, UTF-8, and means the same to the parser as to YAML 1.2."""
    try:
        content = text.encode() if isinstance(text, str) else text
        if len(content) > MAX_BYTES:
            raise YamlError(f"{where}: too long to be read (at most {MAX_BYTES // 1024} KiB)")
        decoded = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise YamlError(f"{where}, line {line}: not UTF-8: save it in this encoding") from None
    except UnicodeEncodeError:
        raise YamlError(f"{where}: not UTF-8") from None
    odd = _BREAKS_OF_1_1.search(decoded)
    if odd:
        line = decoded.count("\n", 0, odd.start()) + 1
        code = f"U+{ord(odd[0]):04X}"
        raise YamlError(f'{where}, line {line}: it has the character {code}: write it as "\\u{code[2:]}", in quotes')
    return decoded


class _Dumper(yaml.SafeDumper):
    """Writes a text in quotes wherever YAML 1.1 or 1.2 would read something else without them."""

    def ignore_aliases(self, data: Any) -> bool:
        """Each value is written out where it stands."""
        del data
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> Any:
    try:
        quoted = not text.isprintable() or not isinstance(yaml_scalars.resolve(text), str)
    except ValueError:
        quoted = True
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if quoted else None)


_Dumper.add_representer(str, _represent_text)
