"""Configuration, tokenizer, types and names of tensors that change in the middle of a run.

A tokenizer that was only written otherwise (by another version of a library) is the same: its parts are compared, not
its bytes. In the configuration, what says who wrote it and how it is to be run is left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pico_analyze.auditing.finding import Finding, Severity, listed
from pico_analyze.errors import DataError
from pico_schema import layout

if TYPE_CHECKING:
    from pico_analyze.auditing.evidence import Evidence

TOKENIZERS = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt", "merges.txt")
IGNORED = frozenset(
    (
        *("transformers_version", "_name_or_path", "name_or_path", "_commit_hash", "auto_map", "torch_dtype", "dtype"),
        *("use_cache", "attn_implementation", "_attn_implementation", "_attn_implementation_autoset"),
        "gradient_checkpointing",
    )
)
"""Keys of a configuration that say nothing of the model."""
_LENGTHS = ("truncation", "padding", "version")
"""Parts of a tokenizer's file that say how it is used."""
_ABSENT = "no such key"


def documents(evidence: Sequence[Evidence]) -> list[Finding] | None:
    """Where they change; None where the store has no files."""
    usable = [one for one in evidence if one.files is not None and one.fault is None]
    if not usable:
        return None
    found: list[Finding] = []
    configs: list[tuple[Evidence, Mapping[str, Any]]] = []
    for one in usable:
        try:
            config = _configuration(one)
        except DataError as error:
            found.append(Finding(one.step, one.name, "documents", "error", str(error)))
            continue
        if config is not None:
            configs.append((one, {key: value for key, value in config.items() if key not in IGNORED}))
    found += _changes(configs, _differing_keys, "config.json", "error", "take the configuration that the weights need")
    for file in TOKENIZERS:
        told = [(one, digest) for one in usable if (digest := _digest(one, file)) is not None]
        found += _tokenizer(file, told)
    types = [(one, one.dtypes) for one in usable if one.dtypes]
    found += _changes(
        types,
        lambda a, b: f"from {'+'.join(a)} to {'+'.join(b)}",
        "the type of the weights",
        "warning",
        "differences between these steps hold its rounding: convert them to one type",
    )
    shapes = [(one, {name: entry.shape for name, (_, entry) in one.tensors.items()}) for one in usable if one.tensors]
    advice = "check that these are checkpoints of one run"
    return found + _changes(shapes, _differing_keys, "what tensors there are", "warning", advice)


def _configuration(one: Evidence) -> Mapping[str, Any] | None:
    """The configuration, where there is one.

    Raises:
        DataError: it is damaged.
    """
    files = one.files
    return files.json(layout.MODEL_CONFIG) if files is not None and layout.MODEL_CONFIG in files.sizes else None


def _digest(one: Evidence, file: str) -> str | None:
    files = one.files
    if files is None or file not in files.sizes:
        return None
    try:
        return files.known_digest(file) or files.sha256(file)
    except DataError:  # it is gone, or larger than it was: what is there is told of the weights' files
        return None


def _tokenizer(file: str, told: Sequence[tuple[Evidence, str]]) -> list[Finding]:
    """Changes of one file, but for those that leave the tokenizer what it is."""
    if len({digest for _, digest in told}) < 2:
        return []
    contents: dict[str, Any] = {}
    for one, digest in told:
        if digest not in contents:
            contents[digest] = _content(one, file) or {"sha256": digest[:12]}
    known = [(one, contents[digest]) for one, digest in told]
    advice = "the same text has other tokens: take one tokenizer for all steps"
    return _changes(known, _differing_keys, file, "error", advice)


def _content(one: Evidence, file: str) -> dict[str, Any] | None:
    """The parts of a tokenizer, as far as they are JSON; merges in one of their two forms."""
    if not file.endswith(".json") or one.files is None:
        return None
    try:
        parts = one.files.json(file)
    except DataError:
        return None
    parts = {key: value for key, value in parts.items() if key not in _LENGTHS}
    model = parts.get("model")
    if isinstance(model, dict) and isinstance(model.get("merges"), list):
        parts["model"] = model | {"merges": [_merge(merge) for merge in model["merges"]]}
    return parts


def _merge(merge: Any) -> Any:
    """A merge as one text, where it is a list of texts; what is neither stays what it is, and differs from merges."""
    told = isinstance(merge, list) and all(isinstance(part, str) for part in merge)
    return " ".join(merge) if told else merge


def _changes(
    told: Sequence[tuple[Evidence, Any]],
    difference: Callable[[Any, Any], str],
    what: str,
    severity: Severity,
    advice: str,
) -> list[Finding]:
    """Where a value changes: a step that stands alone among those that agree, or the first of those that differ."""
    found, n = [], 1
    if len(told) > 2 and told[0][1] != told[1][1] == told[2][1]:
        (one, new), (after, old) = told[:2]
        text = (
            f"{what} of {one.label} is not that of the steps after it ({after.label}): {difference(new, old)}: {advice}"
        )
        found.append(Finding(one.step, one.name, "documents", severity, text, {"after": after.step}))
        n = 2
    while n < len(told):
        (before, old), (one, new) = told[n - 1], told[n]
        if old != new:
            changed = f"{what} changes at {one.label}, against {before.label}: {difference(old, new)}"
            alone = n + 1 < len(told) and told[n + 1][1] == old
            if alone:
                changed += f"; {told[n + 1][0].label} is as before"
            figures = {"before": before.step}
            found.append(Finding(one.step, one.name, "documents", severity, f"{changed}: {advice}", figures))
            n += alone
        n += 1
    return found


def _differing_keys(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    keys = sorted(key for key in {*old, *new} if old.get(key, _ABSENT) != new.get(key, _ABSENT))
    shown = []
    for key in keys:
        values = [_short(of.get(key, _ABSENT)) for of in (old, new)]
        shown.append(f"{key} ({values[0]} → {values[1]})" if max(map(len, values)) <= 40 else key)
    return listed([text[:120] for text in shown])


def _short(value: Any) -> str:
    return value if value == _ABSENT else json.dumps(value, default=str, ensure_ascii=False)
