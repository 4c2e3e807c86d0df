"""Which commit an ``hf://`` address means, and what is remembered of a repository between analyses.

Branches and tags are kept as last seen, for reading offline. A tag that was read once is pinned: if it names another
commit later, that is an error, not another result.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from pico_analyze.errors import DataError, NotARunError, StorageError, UsageError, nearest
from pico_analyze.stores.hub.client import COMMIT, HubClient, parse_refs
from pico_schema import AddressError, layout, strict_json
from pico_schema.files import replace_file
from pico_schema.revisions import BranchesAndTags
from pico_schema.run_names import HubAddress, parse_address


class Address(HubAddress):
    """An address on the Hub, as a person gave it to this tool."""

    @classmethod
    def parse(cls, text: str) -> Address:
        """The parts of an ``hf://`` address.

        Raises:
            UsageError: it is not one.
        """
        try:
            return cls(*parse_address(text))
        except AddressError as error:
            raise UsageError(str(error)) from None


class KnownRefs:
    """Branches and tags of one repository, and the pins; kept under `root`."""

    def __init__(self, root: Path, client: HubClient, *, offline: bool) -> None:
        self.client, self.offline = client, offline
        digest = hashlib.sha256(f"{client.endpoint}/{client.repo}".encode()).hexdigest()
        self._folder = root / "repositories" / digest[:32]
        self.listed: BranchesAndTags | None = None
        """The refs, once they were asked for."""

    def refs(self) -> BranchesAndTags:
        """Branches and tags: from the Hub, or offline as they were when last seen."""
        if self.listed is None:
            self.listed = self._remembered() if self.offline else self.client.refs()
            if not self.offline:
                self._remember(self.listed)
        return self.listed

    def _remembered(self) -> BranchesAndTags:
        try:
            return parse_refs((self._folder / "refs.json").read_bytes())
        except (OSError, ValueError, KeyError, TypeError):
            raise StorageError(
                f"--offline: {self.client.repo} was never listed on this machine: read it once without --offline"
            ) from None

    def _remember(self, refs: BranchesAndTags) -> None:
        listed = {
            kind: [{"name": name, "targetCommit": commit} for name, commit in rows.items()]
            for kind, rows in (("branches", refs.branches), ("tags", refs.tags))
        }
        self._keep("refs.json", json.dumps(listed))

    def _keep(self, name: str, content: str) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        replace_file(self._folder / name, content, durable=False)

    def pin(self, tag: str, commit: str) -> None:
        """Note which commit a tag names.

        Raises:
            DataError: it named another one before.
        """
        path = self._folder / "pins.json"
        try:
            pins = dict(strict_json.parse(path.read_bytes()))
        except (OSError, ValueError, TypeError):
            pins = {}
        pinned = pins.get(tag)
        if pinned is None:
            self._keep(path.name, json.dumps(pins | {tag: commit}, indent=0))
        elif pinned != commit:
            repo = self.client.repo
            raise DataError(
                f"tag {tag} of {repo} was moved, from {str(pinned)[:40]} to {commit}: read the one you mean as "
                f"hf://{repo}@<commit>:step-N, or delete {path} to accept the new one"
            )


def resolve(address: Address, known: KnownRefs) -> tuple[str, int | None]:
    """Commit to read from, and the one step if only one is meant.

    Raises:
        NotARunError: the repository has no such branch or tag; the message names the nearest.
        UsageError: a tag and a step that contradict each other.
        DataError: the tag was moved since it was first read.
    """
    revision, step = address.revision or "main", address.step
    if COMMIT.fullmatch(revision):
        return revision, step
    refs = known.refs()
    if revision in refs.branches:
        tag = f"{revision}-step-{step}"
        if step is None or tag not in refs.tags:
            return refs.branches[revision], step
        known.pin(tag, refs.tags[tag])
        return refs.tags[tag], step
    if revision in refs.tags:
        tagged = layout.parse_tag(revision)
        if step is not None and tagged is not None and tagged[1] != step:
            raise UsageError(f"tag {revision} is step {tagged[1]}, not step {step}: name the branch for another step")
        known.pin(revision, refs.tags[revision])
        return refs.tags[revision], tagged[1] if tagged else step
    near = nearest(revision, [*refs.branches, *refs.tags])
    branches = ", ".join(sorted(refs.branches))[:300]
    raise NotARunError(f"{address.repo} has no branch or tag {revision!r}{near}; its branches are {branches}")
