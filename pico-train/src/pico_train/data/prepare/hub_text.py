"""Text in a dataset on the Hub, streamed by the `datasets` library at a pinned commit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pico_train.data.prepare.records import Record
from pico_train.errors import ConfigError

HUB = "hf://datasets/"


@dataclass(frozen=True)
class HubText:
    """A text dataset on the Hub: hf://datasets/ORG/NAME[@REVISION][/FILES][?name=CONFIG&split=SPLIT]."""

    address: str
    """As given."""
    repo: str
    """ORG/NAME."""
    revision: str | None
    """Branch, tag or commit."""
    files: str | None
    """Glob of files inside the repository."""
    name: str | None
    """Configuration of the dataset."""
    split: str
    """Split of the dataset."""

    @classmethod
    def parse(cls, address: str) -> HubText:
        """What an address says.

        Raises:
            ConfigError: not such an address.
        """
        parts = urlsplit(address.removeprefix(HUB))
        segments = parts.path.split("/")
        if not address.startswith(HUB) or len(segments) < 2 or not all(segments[:2]):
            raise ConfigError(f"{address}: not a dataset: hf://datasets/ORG/NAME[@REVISION][/FILES][?split=SPLIT] is")
        name, _, revision = segments[1].partition("@")
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        files = "/".join(segments[2:]) or None
        return cls(
            address, f"{segments[0]}/{name}", revision or None, files, query.get("name"), query.get("split", "train")
        )

    def pinned(self) -> HubText:
        """The same at the commit that its revision is now.

        Raises:
            ConfigError: there is no such dataset or revision.
            StorageError: the Hub cannot be reached.
        """
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

        from pico_train.data.retry import with_retries

        try:
            info = with_retries(
                lambda: HfApi().dataset_info(self.repo, revision=self.revision), what=f"dataset {self.repo}"
            )
        except RevisionNotFoundError:
            raise ConfigError(f"{self.address}: the dataset has no revision {self.revision}") from None
        except (RepositoryNotFoundError, HFValidationError):
            raise ConfigError(f"{self.address}: no such dataset on the Hub, or no access to it") from None
        return replace(self, revision=info.sha)


def hub_records(hub: HubText) -> Iterator[Record]:
    """The rows of a dataset on the Hub.

    Raises:
        ConfigError: it has no such files, configuration or split.
        StorageError: the Hub cannot be reached.
    """
    import datasets

    from pico_train.data.retry import with_retries

    def load() -> Iterable[Any]:
        loaded: Iterable[Any] = datasets.load_dataset(
            hub.repo, hub.name, data_files=hub.files, split=hub.split, revision=hub.revision, streaming=True
        )
        return loaded

    try:
        rows = with_retries(load, what=f"dataset {hub.repo}")
    except (datasets.exceptions.DatasetNotFoundError, datasets.exceptions.DataFilesNotFoundError, ValueError) as error:
        raise ConfigError(f"{hub.address}: cannot be opened: {str(error).splitlines()[0][:300]}") from None
    for number, record in enumerate(rows):
        yield Record(f"{hub.address}, row {number}", record)
