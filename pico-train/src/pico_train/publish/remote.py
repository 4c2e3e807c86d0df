"""The repository on the Hub, in the few calls that publishing needs.

Decides how a failed call is understood: `TransientError` (try again later, it may have taken effect or not) or
`DeniedError` (trying again will not help). What an answer says is trusted only as far as digests confirm it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeVar
from urllib.parse import quote

from pico_schema.digests import git_blob_id
from pico_schema.revisions import BranchesAndTags
from pico_train.errors import PublishError
from pico_train.publish import redact
from pico_train.publish.card import Place

MAX_DOCUMENT = 64 << 20
MAX_WAIT = 24 * 3600.0
P = ParamSpec("P")
T = TypeVar("T")


class TransientError(PublishError):
    """The call failed in a way that another attempt may mend; whether it took effect is unknown."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DeniedError(PublishError):
    """The Hub refuses, or the branch is somebody else's: another attempt would not help, for any step."""


class MismatchError(PublishError):
    """What the Hub holds of one step is not what was sealed, and it stays so."""


@dataclass(frozen=True)
class RemoteFile:
    """One file of a revision as the Hub lists it."""

    size: int
    blob_id: str
    """Git's id: of the content, or of the pointer for a large file."""
    sha256: str | None
    """Digest of a large file's content; None for a file that git itself holds."""

    def holds(self, content: bytes) -> bool:
        """Whether this file has this content."""
        if self.size != len(content):
            return False
        if self.sha256 is not None:
            return hashlib.sha256(content).hexdigest() == self.sha256
        return self.blob_id == git_blob_id(content)


def _understood(call: Callable[P, T]) -> Callable[P, T]:
    """Turn whatever the client raises into the two errors above, in clean words."""

    @wraps(call)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return call(*args, **kwargs)
        except PublishError:
            raise
        except Exception as error:
            raise _understand(error, call.__name__.replace("_", " ")) from None

    return wrapper


def _understand(error: Exception, what: str) -> PublishError:
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    text = redact.sentence(error)
    if status in (401, 403):
        return DeniedError(
            f"the Hub refuses ({what}, {status}): give a token that may write to the repository ({text})"
        )
    if type(error).__name__ in ("RepositoryNotFoundError", "GatedRepoError", "HFValidationError"):
        return DeniedError(f"the Hub refuses ({what}): no such repository, or the token may not see it ({text})")
    retry_after = None
    if response is not None:
        with contextlib.suppress(TypeError, ValueError):
            retry_after = min(float(response.headers.get("Retry-After")), MAX_WAIT)
    return TransientError(f"{what} failed: {text}", retry_after)


def endpoint() -> str:
    """Address of the Hub that the client talks to, for people: without a password that it may hold."""
    from huggingface_hub import constants

    address: str = os.environ.get("HF_ENDPOINT") or constants.ENDPOINT
    return re.sub(r"(?<=://)[^/?#]*@", "", address).rstrip("/")


class Remote:
    """The calls. One instance per process: it sets the client's time limit for the whole process.

    Args:
        repo: `org/name`.
        timeout: Seconds to wait for any single answer.
    """

    def __init__(self, repo: str, *, timeout: float) -> None:
        import huggingface_hub
        from huggingface_hub import constants
        from huggingface_hub.utils import get_token
        from huggingface_hub.utils._http import default_client_factory

        def bounded() -> Any:
            client = default_client_factory()
            client.timeout = timeout
            return client

        huggingface_hub.set_client_factory(bounded)
        self.repo = repo
        self.token = get_token()
        redact.remember(self.token)
        self.endpoint = (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")
        self.api = huggingface_hub.HfApi(endpoint=self.endpoint, token=self.token or False, library_name="pico-train")

    @property
    def place(self) -> Place:
        """Where it is, for cards."""
        return Place(endpoint(), self.repo)

    # -- access

    @_understood
    def check_token(self) -> str:
        """The account's name.

        Raises:
            DeniedError: there is no token, or it may not write anywhere.
        """
        if not self.token:
            raise DeniedError("there is no token for the Hub: set HF_TOKEN, or run `hf auth login`")
        known = self.api.whoami()
        role = ((known.get("auth") or {}).get("accessToken") or {}).get("role")
        if role == "read":
            raise DeniedError("the token for the Hub may only read: make one that may write, and set HF_TOKEN")
        return str(known["name"])

    @_understood
    def create_repository(self, *, private: bool, collection: str | None) -> None:
        """Create the repository if it does not exist."""
        self.api.create_repo(self.repo, private=private, exist_ok=True, repo_type="model")
        if collection:
            self.api.add_collection_item(collection, self.repo, "model", exists_ok=True)

    @_understood
    def probe_write(self, revision: str) -> None:
        """Ask for leave to upload one file, which changes nothing and fails where writing is not allowed."""
        from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

        url = f"{self.endpoint}/api/models/{self.repo}/preupload/{quote(revision, safe='')}"
        body = {"files": [{"path": "manifest.json", "sample": "", "size": 1}]}
        hf_raise_for_status(get_session().post(url, json=body, headers=build_hf_headers(token=self.token)))

    # -- reading

    @_understood
    def refs(self) -> BranchesAndTags:
        """All branches and tags, in one request."""
        found = self.api.list_repo_refs(self.repo, repo_type="model")
        return BranchesAndTags(
            {ref.name: ref.target_commit for ref in found.branches},
            {ref.name: ref.target_commit for ref in found.tags},
        )

    @_understood
    def tree(self, commit: str) -> dict[str, RemoteFile]:
        """Every file of a commit."""
        from huggingface_hub.hf_api import RepoFile

        found: dict[str, RemoteFile] = {}
        for row in self.api.list_repo_tree(self.repo, recursive=True, revision=commit, repo_type="model"):
            if isinstance(row, RepoFile):
                found[row.path] = RemoteFile(row.size, row.blob_id, row.lfs.sha256 if row.lfs else None)
        return found

    @_understood
    def read(self, commit: str, path: str, known: RemoteFile) -> bytes:
        """A small file, checked against its listing.

        Raises:
            TransientError: what came is not what the listing says.
        """
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

        if known.size > MAX_DOCUMENT:
            raise DeniedError(f"{path} of {self.repo} claims {known.size} bytes: too large for a document")
        url = hf_hub_url(self.repo, path, revision=commit, endpoint=self.endpoint)
        content = bytearray()
        with get_session().stream("GET", url, headers=build_hf_headers(token=self.token)) as answer:
            hf_raise_for_status(answer)
            for block in answer.iter_bytes(1 << 16):
                content += block
                if len(content) > known.size:
                    break
        if not known.holds(bytes(content)):
            raise TransientError(f"{path} of {self.repo} came with other content than listed")
        return bytes(content)

    @_understood
    def first_commit(self) -> str:
        """The oldest commit of main: an empty repository, to begin a branch from."""
        return str(self.api.list_repo_commits(self.repo, repo_type="model")[-1].commit_id)

    # -- writing

    @_understood
    def create_branch(self, branch: str, commit: str) -> None:
        """Begin a branch at a commit; a branch of this name that exists stays as it is."""
        self.api.create_branch(self.repo, branch=branch, revision=commit, exist_ok=True, repo_type="model")

    @_understood
    def commit(self, branch: str, parent: str, operations: Sequence[Any], title: str, description: str) -> str:
        """One commit onto `parent`, or an error; returns its id."""
        with warnings.catch_warnings():
            # The client takes a Parquet file in a model repository for a mistake; the captured batch is none.
            warnings.simplefilter("ignore")
            done = self.api.create_commit(
                self.repo,
                operations=operations,
                commit_message=title,
                commit_description=description,
                revision=branch,
                parent_commit=parent,
                repo_type="model",
            )
        return str(done.oid)

    @_understood
    def tag(self, name: str, commit: str) -> None:
        """Name a commit; a tag of this name that exists stays as it is."""
        self.api.create_tag(self.repo, tag=name, revision=commit, exist_ok=True, repo_type="model")


def backoff(tries: int, first: float, longest: float) -> float:
    """Seconds to wait after so many failures: doubling, with jitter, so that publishers fall out of step."""
    doubled: float = first * 2 ** min(tries - 1, 40)
    return min(longest, doubled) * random.uniform(0.5, 1.0)
