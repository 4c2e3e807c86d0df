"""Whether the data are still those that a run was begun with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pico_schema import DataFingerprint
from pico_train.errors import DataError

if TYPE_CHECKING:
    from pico_train.config import DataConfig

_MEANING = {
    "order": "another order",
    "seq_len": "rows of another length",
    "tokenizer_sha256": "another tokenizer",
    "vocab_size": "another vocabulary",
    "n_rows": "another number of rows",
    "sha256": "other rows, or in another order of storage",
}
"""What a difference in each field means; the first that differs is named: it explains those after it."""


def check_unchanged(begun_with: DataFingerprint, found: DataFingerprint, *, allow: bool = False) -> list[str]:
    """Compare a corpus with the one a run was begun with.

    What is compared is what the rows are, not where they lie: the same shards on the Hub and in a directory are equal.

    Args:
        begun_with: The run's.
        found: That of the corpus that is now configured.
        allow: Whether a difference is wanted (--override).

    Returns:
        Names of the fields that differ; empty unless `allow`.

    Raises:
        DataError: they differ and `allow` is off; the message names the first field and both values.
    """
    differ = [name for name in _MEANING if getattr(begun_with, name) != getattr(found, name)]
    if not differ or allow:
        return differ
    first = differ[0]
    before, now = (str(getattr(each, first))[:20] for each in (begun_with, found))
    hint = ""
    pinned = begun_with.details.get("revision"), found.details.get("revision")
    if pinned[0] and pinned[0] != pinned[1]:
        hint = f"set data.revision={pinned[0]}, or "
    raise DataError(
        f"the data are not those that the run was begun with: data.{first} was {before} and is {now} "
        f"({_MEANING[first]}): give the run its data back, {hint}resume on these with --override"
    )


def pinned(config: DataConfig, begun_with: DataFingerprint) -> DataConfig:
    """The configuration with the repository's revision that the run was begun with, if it is the same repository."""
    commit = begun_with.details.get("revision")
    if config.source != "hub" or not isinstance(commit, str) or begun_with.details.get("repo") != config.repo:
        return config
    return config.model_copy(update={"revision": commit})
