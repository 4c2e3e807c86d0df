"""Source `hub`: token shards in a dataset repository on the Hub, at one commit, fetched when they are needed.

What the repository holds (its manifest, or names, sizes and digests of its shards) is read once and remembered by
commit. Shards come into a bounded cache (`shards.shard_cache`), the next ones ahead of their use. Nothing is fetched
for rows that are not read: a run that starts at step 150,000 asks for nothing that earlier steps needed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pico_schema.files import replace_file
from pico_train.data.retry import OPENING_ATTEMPTS, with_retries
from pico_train.data.shards import footers
from pico_train.data.shards import manifest as manifests
from pico_train.data.shards.footers import Footer
from pico_train.data.shards.manifest import CorpusManifest
from pico_train.data.shards.shard_cache import RemoteShard, ShardCache
from pico_train.data.shards.shard_corpus import ShardCorpus, prepared_corpus
from pico_train.data.shards.split_names import in_order, split_of
from pico_train.data.sources.tokens import bare_corpus, check_tokenizer
from pico_train.errors import ConfigError, DataError
from pico_train.json_file import read_json

if TYPE_CHECKING:
    from pico_train.config import DataConfig

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Listing:
    """What a repository holds at one commit, as far as it matters here."""

    repo: str
    """Dataset repository."""
    commit: str
    """The commit, 40 hexadecimal digits."""
    files: dict[str, tuple[int, str | None]]
    """Path → size and, for large files, sha256."""


def open_hub(config: DataConfig, cache: Path, progress: Progress) -> ShardCorpus:
    """The corpus in the repository that the configuration names.

    Raises:
        ConfigError: no such repository, revision or folder.
        DataError: shards that cannot be used.
        StorageError: the Hub cannot be reached.
    """
    repo = str(config.repo)
    listing = list_repository(repo, config.revision, cache)
    prefix = f"{config.subset.strip('/')}/" if config.subset else ""
    where = f"{repo}@{listing.commit[:8]}" + (f"/{prefix.rstrip('/')}" if prefix else "")
    details: dict[str, str | int | float | bool | None] = {
        "repo": repo,
        "revision": listing.commit,
        "subset": config.subset,
    }
    limit = int(config.cache_gb * 2**30)

    def shards(names: Sequence[str]) -> ShardCache:
        remote = [RemoteShard(name, *listing.files[name]) for name in names]
        return ShardCache(
            repo, listing.commit, remote, cache / "hub", limit=limit, ahead=config.shards_ahead, progress=progress
        )

    if f"{prefix}{manifests.FILE}" in listing.files:
        return _prepared(config, listing, prefix, cache, where, details, shards)
    return _bare(config, listing, prefix, cache, where, details, shards, progress)


def list_repository(repo: str, revision: str | None, cache: Path) -> Listing:
    """What a repository holds. Nothing is asked of the Hub for a commit that was listed before.

    Raises:
        ConfigError: no such repository or revision.
        StorageError: the Hub cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError
    from huggingface_hub.hf_api import RepoFile

    commit = revision if revision and len(revision) == 40 and not set(revision) - set("0123456789abcdef") else None
    folder = cache / "indexes" / "hub" / repo.replace("/", "--")
    known = _remembered(folder, commit)
    if known is not None:
        return known

    def ask() -> Listing:
        api = HfApi()
        sha = commit or api.dataset_info(repo, revision=revision).sha
        tree = api.list_repo_tree(repo, recursive=True, revision=sha, repo_type="dataset")
        files: dict[str, tuple[int, str | None]] = {}
        for entry in tree:
            if isinstance(entry, RepoFile):
                files[entry.path] = (entry.size, entry.lfs.sha256 if entry.lfs else None)
        return Listing(repo, str(sha), files)

    try:
        listing = with_retries(ask, what=f"dataset repository {repo}", attempts=OPENING_ATTEMPTS)
    except RevisionNotFoundError:
        raise ConfigError(f"data.revision={revision}: the dataset repository {repo} has no such revision") from None
    except (RepositoryNotFoundError, HFValidationError):
        raise ConfigError(
            f"data.repo={repo}: no such dataset repository on the Hub, or no access to it: check the name, and "
            "HF_TOKEN if it is private"
        ) from None
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / f"{listing.commit}.json", json.dumps(asdict(listing)).encode())
    return listing


def _remembered(folder: Path, commit: str | None) -> Listing | None:
    if commit is None:
        return None
    try:
        raw = read_json(folder / f"{commit}.json")
        files = {str(name): (size, sha) for name, (size, sha) in raw["files"].items()}
        listing = Listing(str(raw["repo"]), str(raw["commit"]), files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # damaged in the cache: it is asked for again
    sizes_known = all(type(size) is int and size >= 0 for size, _ in files.values())
    return listing if sizes_known and all(sha is None or isinstance(sha, str) for _, sha in files.values()) else None


def _prepared(
    config: DataConfig,
    listing: Listing,
    prefix: str,
    cache: Path,
    where: str,
    details: dict[str, str | int | float | bool | None],
    shards: Callable[[Sequence[str]], ShardCache],
) -> ShardCorpus:
    """The corpus of a repository that holds what `prepare` made."""
    folder = f"{listing.commit}-{prefix.replace('/', '-')}"
    directory = cache / "indexes" / "hub" / listing.repo.replace("/", "--") / folder
    names = [f"{prefix}{manifests.FILE}"]
    names += [name for name in listing.files if name.startswith(f"{prefix}{manifests.TOKENIZER_DIR}/")]
    for name in names:
        _small_file(listing, name, directory / name.removeprefix(prefix))
    manifest = manifests.read(directory)
    if manifest is None:
        raise DataError(f"{where}: its {manifests.FILE} cannot be read")
    _check_listed(manifest, listing, prefix, where)
    check_tokenizer(manifest, config, where=where)
    path_of = {
        name: shards([f"{prefix}{shard.file}" for shard in split.shards]).path_of
        for name, split in manifest.splits.items()
    }
    return prepared_corpus(
        manifest,
        path_of,
        directory / manifests.TOKENIZER_DIR,
        source="hub",
        order=config.order,
        seq_len=config.seq_len,
        where=where,
        details=details,
    )


def _check_listed(manifest: CorpusManifest, listing: Listing, prefix: str, where: str) -> None:
    for split in manifest.splits.values():
        for shard in split.shards:
            size, sha256 = listing.files.get(f"{prefix}{shard.file}", (None, None))
            if size is None:
                raise DataError(f"{where}: {shard.file} is in its manifest, but not in the repository: upload it")
            if size != shard.size or sha256 not in (None, shard.sha256):
                raise DataError(f"{where}: {shard.file} is not the file that its manifest describes: upload it again")


def _bare(
    config: DataConfig,
    listing: Listing,
    prefix: str,
    cache: Path,
    where: str,
    details: dict[str, str | int | float | bool | None],
    shards: Callable[[Sequence[str]], ShardCache],
    progress: Progress,
) -> ShardCorpus:
    """The corpus of a repository without a manifest: row counts come from the footers."""
    names = in_order([name for name in listing.files if name.startswith(prefix) and name.endswith(".parquet")])
    splits = {split: [n for n in names if split_of(n.removeprefix(prefix)) == split] for split in ("train", "val")}
    if not splits["train"]:
        raise ConfigError(f"{where}: holds no Parquet shards to train on: name their folder with data.subset")
    counts: dict[str, list[int]] = {}
    path_of: dict[str, Callable[[int], Path]] = {}
    for split, members in splits.items():
        found = _footers(listing, members, cache, progress)
        counts[split] = [footer.n_rows for footer in found]
        path_of[split] = shards(members).path_of
    identity: list[list[str | int]] = [
        [name.removeprefix(prefix), listing.files[name][0], count, listing.files[name][1] or ""]
        for name, count in zip(splits["train"], counts["train"], strict=True)
    ]
    details = {**details, "identity": "names, sizes and sha256 of the shards"}
    return bare_corpus(config, cache, counts=counts, path_of=path_of, identity=identity, where=where, details=details)


def _footers(listing: Listing, names: Sequence[str], cache: Path, progress: Progress) -> list[Footer]:
    from huggingface_hub import HfFileSystem

    if not names:
        return []
    files = HfFileSystem()

    def read(number: int) -> Footer:
        name = names[number]
        address = f"datasets/{listing.repo}@{listing.commit}/{name}"

        def part(begin: int, end: int) -> bytes:
            content = with_retries(
                lambda: files.cat_file(address, start=begin, end=end), what=f"{listing.repo}: {name}"
            )
            return bytes(content)

        return footers.read_footer(listing.files[name][0], part, where=f"{listing.repo}: {name}")

    key = json.dumps([listing.repo, listing.commit, list(names)])
    return footers.index(names, key, read, cache=cache / "indexes", threads=16, progress=progress)


def _small_file(listing: Listing, name: str, target: Path) -> None:
    """Put a small file of the repository at `target`, unless it is there."""
    from huggingface_hub import hf_hub_download

    if target.is_file() and target.stat().st_size == listing.files[name][0]:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    path = with_retries(
        lambda: hf_hub_download(listing.repo, name, repo_type="dataset", revision=listing.commit),
        what=f"{listing.repo}: {name}",
        attempts=OPENING_ATTEMPTS,
    )
    replace_file(target, Path(path).read_bytes())
