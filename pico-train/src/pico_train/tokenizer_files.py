"""A tokenizer's files, read with care: they come from anywhere, and what they say decides every token id.

A tokenizer is a directory with `tokenizer.json`, which `tokenizers` runs, and `tokenizer_config.json` (in older ones
`special_tokens_map.json` too), which names its special tokens. Sizes are bounded, and whatever is not a tokenizer is
one sentence. What `tokenizer.json` says of calls and not of text is left out: the truncation and the padding that some
call left in it, tokens that are put around a text, the dropout of merges.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pico_schema import strict_json
from pico_schema.files import read_regular
from pico_train.errors import DataError, StorageError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
"""Files of a tokenizer's directory, in the order in which they are digested; all but the first may be missing."""
MAX_BYTES = 256 * 2**20
"""Largest tokenizer.json read; those of a quarter of a million tokens take 35 MB."""
MAX_CONFIG_BYTES = 16 * 2**20
"""Largest of the other two files read."""
MAX_ID = 2**24 - 1
"""Largest id of a token: the contract's largest vocabulary."""
_CONFIGURED = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")


def read_object(path: Path, limit: int = MAX_CONFIG_BYTES) -> dict[str, Any]:
    """The JSON object in a file; empty where there is no file.

    Raises:
        DataError: larger than `limit` bytes, not JSON, or something else than an object.
        StorageError: it cannot be read.
    """
    if not path.exists():
        return {}
    try:
        if path.stat().st_size > limit:
            raise DataError(f"{path}: larger than {limit // 2**20} MiB: not a file of a tokenizer")
        found = strict_json.parse(read_regular(path), own=False)
    except OSError as error:
        raise StorageError(f"{path}: cannot be read ({error.strerror or error})") from None
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON ({str(error)[:120]}): the file is damaged or something else") from None
    if not isinstance(found, dict):
        raise DataError(f"{path}: a JSON object was expected, found {type(found).__name__}: not a tokenizer's file")
    return found


def read_definition(directory: Path) -> dict[str, Any]:
    """What `tokenizer.json` says of how text becomes ids.

    Raises:
        DataError: there is none, or it is not a tokenizer's.
    """
    path = directory / FILES[0]
    if not path.is_file():
        raise DataError(f"{directory}: not a tokenizer: it has no {FILES[0]}")
    definition = read_object(path, MAX_BYTES)
    if not isinstance(definition.get("model"), dict):
        raise DataError(f"{path}: not a tokenizer: it has no model")
    added = definition.setdefault("added_tokens", [])
    if not isinstance(added, list) or not all(_is_added_token(token) for token in added):
        raise DataError(f"{path}: not a tokenizer: added_tokens is not a list of tokens with id and content")
    definition.update(truncation=None, padding=None, post_processor=None)
    if "dropout" in definition["model"]:
        definition["model"]["dropout"] = None
    return definition


def without_call_settings(path: Path) -> bytes:
    """The content of a `tokenizer.json`, without truncation, padding and tokens put around a text.

    Byte for byte what it was where it has none of them.

    Raises:
        DataError: it is damaged.
    """
    definition = read_object(path, MAX_BYTES)
    processor = _putting_nothing_around(definition.get("post_processor"))
    unset = not definition.get("truncation") and not definition.get("padding")
    if unset and processor == definition.get("post_processor"):
        return path.read_bytes()
    definition.update(truncation=None, padding=None, post_processor=processor)
    return json.dumps(definition, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _putting_nothing_around(processor: Any) -> Any:
    """A post-processor without the steps that add tokens: of ByteLevel what it says of offsets stays."""
    if not isinstance(processor, dict) or processor.get("type") == "ByteLevel":
        return processor
    if processor.get("type") == "Sequence":
        steps = [_putting_nothing_around(step) for step in processor.get("processors") or []]
        return processor | {"processors": [step for step in steps if step is not None]}
    return None


def _is_added_token(token: object) -> bool:
    return (
        isinstance(token, dict)
        and isinstance(token.get("content"), str)
        and type(token.get("id")) is int
        and 0 <= token["id"] <= MAX_ID
    )


def named_tokens(directory: Path) -> dict[str, str]:
    """The special tokens that a tokenizer's configuration names: `eos_token` → its text.

    Raises:
        DataError: a file is damaged.
    """
    found: dict[str, str] = {}
    for name in reversed(FILES[1:]):
        content = read_object(directory / name)
        found |= {role: text for role in _CONFIGURED if (text := _content(content.get(role))) is not None}
    return found


def _content(token: Any) -> str | None:
    """The text of a special token, which is written as text or as an object with `content`."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) and token else None


def build(definition: dict[str, Any], where: Path) -> Tokenizer:
    """The tokenizer of a definition that came from the directory `where`.

    Raises:
        DataError: the library refuses it.
    """
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(json.dumps(definition))
    except BaseException as error:
        raise failed(error, where / FILES[0], "not a tokenizer") from None


def load(directory: Path) -> Tokenizer:
    """The tokenizer in `directory`, for decoding and for prompts: special tokens in a text are what they stand for.

    Raises:
        DataError: there is none, or a file of it is damaged.
    """
    return build(read_definition(directory), directory)


def failed(error: BaseException, path: Path, what: str) -> BaseException:
    """The error to raise in place of one that the library raised, whose Rust code panics with a BaseException."""
    if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
        return error
    return DataError(f"{path}: {what} ({((str(error) or type(error).__name__).splitlines() or [''])[0][:200]})")
