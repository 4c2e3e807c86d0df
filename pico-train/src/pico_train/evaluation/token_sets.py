"""Where a set of token rows lies, here or on the Hub, and which tokenizer made it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pico_train.data.retry import OPENING_ATTEMPTS, with_retries
from pico_train.data.shards import manifest as manifests
from pico_train.data.shards.footers import list_shards
from pico_train.data.shards.split_names import in_order, split_of
from pico_train.data.sources.hub import list_repository
from pico_train.data.sources.tokens import cached_tokenizer
from pico_train.errors import ConfigError, DataError, UsageError

MOST_BYTES = 2 * 2**30
"""Bytes that are fetched of a set on the Hub, at most."""


@dataclass(frozen=True)
class TokenFiles:
    """The shards of a set."""

    files: list[tuple[Path, str]]
    """Each shard on this disk, and its path in the set."""
    tokenizer_sha256: str | None
    """Identity of the tokenizer, where a manifest says it."""


def in_directory(place: str) -> TokenFiles:
    """The shards in a directory: of what `pico-train data prepare` made, its held-out split if there is one.

    Raises:
        UsageError: there is no such directory.
        DataError: it holds no shards.
    """
    directory = Path(place).expanduser()
    if not directory.is_dir():
        raise UsageError(f"tokens:{place}: there is no such directory")
    manifest = manifests.read(directory)
    if manifest is not None:
        split = manifest.splits.get("val") or manifest.splits["train"]
        names, sha256 = [shard.file for shard in split.shards], manifest.tokenizer.sha256
    else:
        names, sha256 = list(list_shards(directory)), None
    if not names:
        raise DataError(f"tokens:{place}: holds no Parquet shards: it is empty")
    return TokenFiles([(directory / name, name) for name in names], sha256)


def on_hub(place: str, cache: Path, say: Callable[[str], None]) -> TokenFiles:
    """The shards in a dataset repository, at the commit that its revision names now; they are kept in the Hub's cache.

    Where some of them are of a held-out split by their names, those alone; the tokenizer is that of a manifest, of a
    corpus that `pico-train data prepare` made.

    Raises:
        ConfigError: no such repository or revision.
        DataError: it holds no shards, or more than `MOST_BYTES`.
        StorageError: the Hub cannot be reached.
    """
    from huggingface_hub import hf_hub_download

    address, _, revision = place.partition("@")
    parts = address.split("/")
    if len(parts) < 2:
        raise UsageError(f"hub:{place}: a repository is written as hub:org/name")
    repo, folder = "/".join(parts[:2]), "".join(f"{part}/" for part in parts[2:])
    try:
        listing = list_repository(repo, revision or None, cache)
    except ConfigError as error:
        said = str(error)
        for key in (f"data.repo={repo}", f"data.revision={revision}"):
            said = said.replace(key, f"hub:{place}")
        raise ConfigError(said) from None
    names = in_order([name for name in listing.files if name.startswith(folder) and name.endswith(".parquet")])
    names = [name for name in names if split_of(name.removeprefix(folder)) == "val"] or names
    size = sum(listing.files[name][0] for name in names)
    if not names or size > MOST_BYTES:
        reason = f"{size / 2**30:.1f} GiB are too much: name a folder of it" if names else "holds no Parquet shards"
        raise DataError(f"hub:{place}: {reason}")
    say(f"hub:{place}: commit {listing.commit[:12]}, {size / 1e6:,.1f} MB")

    def fetched(name: str) -> Path:
        ask = partial(hf_hub_download, repo, name, repo_type="dataset", revision=listing.commit)
        return Path(with_retries(ask, what=f"{repo}: {name}", attempts=OPENING_ATTEMPTS))

    manifest = f"{folder}{manifests.FILE}"
    known = manifests.read(fetched(manifest).parent) if manifest in listing.files else None
    files = [(fetched(name), name.removeprefix(folder)) for name in names]
    return TokenFiles(files, None if known is None else known.tokenizer.sha256)


def check_tokenizer(given: str, found: TokenFiles, wanted: str, named: str | None, cache: Path) -> None:
    """Raise where a set was not made with the run's tokenizer, or that cannot be known.

    Args:
        given: The task, as written.
        found: Its shards.
        wanted: Identity of the run's tokenizer.
        named: Name or directory of the tokenizer of shards that do not say it.
        cache: Where tokenizers are kept.

    Raises:
        ConfigError: it is another tokenizer, or none is named.
    """
    made_with = found.tokenizer_sha256
    if made_with is None:
        if named is None:
            raise ConfigError(
                f"task {given}: says nothing of its tokenizer: name it with --tokenizer (evaluation.tokenizer), such "
                "as allenai/OLMo-7B-0724-hf, so that it can be compared with the run's"
            )
        made_with = cached_tokenizer(named, cache).sha256
    if made_with != wanted:
        raise ConfigError(
            f"task {given}: was made with another tokenizer ({made_with[:12]}…) than the run's ({wanted[:12]}…): "
            "give it as text, or prepare it with the run's tokenizer"
        )
