"""Reading from the Hugging Face Hub with bounds: every answer has a largest size, a time limit, and few retries.

Only named files are asked for, in whole or in part; nothing is written here and no answer decides where anything is
stored. Tokens go to the Hub alone, never to the storage it redirects to. What files mean is `store.py`'s business.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import random
import re
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt

from pico_analyze.errors import DataError, NotARunError, StorageError, UsageError
from pico_schema import SchemaError, layout, strict_json
from pico_schema.digests import git_blob_id
from pico_schema.revisions import BranchesAndTags

COMMIT = re.compile(r"[0-9a-f]{40}")
BLOB, SHA256 = COMMIT, re.compile(r"[0-9a-f]{64}")
MAX_REFS = 200_000
MAX_PAGES = 100
"""Most pages of a list of commits that are asked for, each of `_PAGE`."""
_PAGE = 1000
MAX_LISTING = 64 << 20
MAX_REDIRECTS = 5
ATTEMPTS = 6
FIRST_WAIT = 0.5
"""Seconds before the second attempt; twice as many before each further one."""
MAX_WAIT = 120.0
"""Most seconds that the Hub may make one wait."""
LINK_LIFETIME = 300.0
"""Seconds for which the address of a large file is used again."""
_MOST_SECONDS = 86_400.0
_AGAIN = {408, 425, 429, 500, 502, 503, 504}


class MissingError(Exception):
    """There is no such file in that revision."""


class _TryAgain(Exception):
    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


def _wait(state: RetryCallState) -> float:
    """Seconds before the next attempt: doubled each time, varied, and not less than what the Hub asked for."""
    wait = FIRST_WAIT * 2.0 ** (state.attempt_number - 1) * random.uniform(0.5, 1.0)
    error = state.outcome.exception() if state.outcome is not None else None
    if isinstance(error, _TryAgain) and error.wait is not None:
        wait = max(wait, min(error.wait, MAX_WAIT))
    return wait


class HubClient:
    """Requests to one repository.

    Args:
        repo: `org/name`.
        timeout: Seconds to wait for any piece of an answer; by default $PICO_HUB_TIMEOUT, or 30.
    """

    def __init__(self, repo: str, *, timeout: float | None = None) -> None:
        from huggingface_hub import constants

        self.repo = repo
        self.endpoint = os.environ.get("HF_ENDPOINT", constants.ENDPOINT).rstrip("/")
        self.timeout = _timeout() if timeout is None else timeout
        self._links: dict[tuple[str, str], tuple[str, float]] = {}

    def refs(self) -> BranchesAndTags:
        """All branches and tags, in one request.

        Raises:
            NotARunError: there is no such repository.
            DataError: the answer is not a list of refs, or claims too many.
        """
        raw = self._get(f"{self.endpoint}/api/models/{self.repo}/refs", MAX_LISTING)
        try:
            return parse_refs(raw)
        except (ValueError, KeyError, TypeError):
            raise DataError(f"the Hub's list of branches and tags of {self.repo} is damaged: try again") from None

    def listing(self, commit: str) -> bytes:
        """What the Hub says of a commit and its files, in one request; see `parse_files`."""
        return self._get(f"{self.endpoint}/api/models/{self.repo}/revision/{commit}?blobs=true", MAX_LISTING)

    def repositories(self, author: str, search: str) -> list[str]:
        """Names of an author's repositories that contain a text.

        Raises:
            DataError: the answer is no list of names, or there are more of them than one answer holds.
        """
        query = f"author={quote(author, safe='')}&search={quote(search, safe='')}&limit={_PAGE}"
        raw = self._get(f"{self.endpoint}/api/models?{query}", MAX_LISTING)
        try:
            found = [str(row["id"]) for row in strict_json.parse(raw, own=False)]
        except (ValueError, KeyError, TypeError):
            raise DataError(f"the Hub's list of the repositories of {author} is damaged: try again") from None
        if len(found) >= _PAGE:
            raise DataError(
                f"{author} has {_PAGE} repositories or more whose names contain {search!r}: write more of the name "
                "before the star"
            )
        return found

    def commits(self, revision: str) -> list[tuple[str, str]]:
        """Commit and title of each commit of a branch, the newest first, in a request for each page of the Hub's.

        Raises:
            DataError: an answer is no list of commits, or there are more than are asked for.
        """
        found: dict[str, str] = {}
        path = f"{self.endpoint}/api/models/{self.repo}/commits/{quote(revision, safe='')}"
        for page in range(MAX_PAGES):
            raw = self._get(f"{path}?limit={_PAGE}&p={page}", MAX_LISTING)
            try:
                rows = {str(row["id"]): str(row["title"]) for row in strict_json.parse(raw, own=False)}
                if not all(COMMIT.fullmatch(commit) for commit in rows):
                    raise ValueError("not a commit")
            except (ValueError, KeyError, TypeError):
                raise DataError(f"the Hub's list of the commits of {self.repo} is damaged: try again") from None
            if rows.keys() <= found.keys():  # a page may be shorter than was asked for, and yet not the last
                return list(found.items())
            found |= rows
        raise DataError(f"{self.repo} has more than the {len(found)} commits of a branch that are read")

    def whole(self, commit: str, path: str, limit: int) -> bytes:
        """A small file, checked against the digest that the Hub gives with it.

        Raises:
            MissingError: the revision has no such file.
            DataError: it is larger than `limit`.
        """
        return self._file(commit, path, None, limit)

    def part(self, commit: str, path: str, offset: int, length: int) -> bytes:
        """`length` bytes of a file from `offset`."""
        return self._file(commit, path, (offset, length), length)

    # -- one request, made as often as it takes

    def _get(self, url: str, limit: int) -> bytes:
        return self._repeat(lambda: self._once(url, None, limit)[0], url)

    def _file(self, commit: str, path: str, span: tuple[int, int] | None, limit: int) -> bytes:
        url = f"{self.endpoint}/{self.repo}/resolve/{quote(commit, safe='')}/{quote(path)}"

        def attempt() -> bytes:
            link, since = self._links.get((commit, path), (None, 0.0))
            if link is not None and span is not None and time.monotonic() - since < LINK_LIFETIME:
                with contextlib.suppress(MissingError, StorageError, NotARunError):
                    return self._once(link, span, limit)[0]
            self._links.pop((commit, path), None)
            content, final, digest = self._once(url, span, limit)
            if span is None and digest is not None and not _has_digest(content, digest):
                raise _TryAgain("the content does not have the digest that the Hub says")
            if final != url:
                self._links[commit, path] = final, time.monotonic()
            return content

        return self._repeat(attempt, url)

    def _repeat(self, attempt: Callable[[], bytes], url: str) -> bytes:
        retrying = Retrying(
            retry=retry_if_exception_type(_TryAgain), wait=_wait, stop=stop_after_attempt(ATTEMPTS), reraise=True
        )
        try:
            return retrying(attempt)
        except _TryAgain as error:
            path = urlsplit(url).path[:200]
            raise StorageError(
                f"{self.endpoint}{path}: {error}, {ATTEMPTS} times: check the network, try later"
            ) from None

    def _once(self, url: str, span: tuple[int, int] | None, limit: int) -> tuple[bytes, str, str | None]:
        """Content, the address it came from, and the digest given on the way."""
        from huggingface_hub.utils import build_hf_headers, get_session

        digest = None
        for _ in range(MAX_REDIRECTS):
            headers = {"Accept-Encoding": "identity"}
            if _origin(url) == _origin(self.endpoint):
                headers |= build_hf_headers(library_name="pico-analyze")
            if span is not None:
                headers["Range"] = f"bytes={span[0]}-{span[0] + span[1] - 1}"
            try:
                with get_session().stream(
                    "GET", url, headers=headers, timeout=self.timeout, follow_redirects=False
                ) as answer:
                    digest = digest or answer.headers.get("X-Linked-ETag") or answer.headers.get("ETag")
                    if answer.status_code in (301, 302, 303, 307, 308):
                        url = urljoin(url, answer.headers["Location"])
                        continue
                    self._check_status(answer, span)
                    return _body(answer, limit, exactly=span[1] if span else None), url, digest
            except (_TryAgain, MissingError, NotARunError, DataError, StorageError):
                raise
            except Exception as error:
                raise _TryAgain(_plain(error)) from None
        raise StorageError(f"{self.repo}: more than {MAX_REDIRECTS} redirects: not a Hub, or one that is broken")

    def _check_status(self, answer: Any, span: tuple[int, int] | None) -> None:
        status, code = answer.status_code, answer.headers.get("X-Error-Code", "")
        if status in (200, 206):
            if span is not None and status == 200:
                length = answer.headers.get("Content-Length", "")
                if span[0] > 0 or length != str(span[1]):
                    raise StorageError(f"{self.endpoint} sends whole files where a range was asked for: refusing")
            return
        if code == "EntryNotFound" or (status == 404 and code not in ("RepoNotFound", "RevisionNotFound")):
            raise MissingError
        if code == "GatedRepo":
            raise NotARunError(
                f"{self.repo} is gated: accept its terms on {self.endpoint}/{self.repo}, and set HF_TOKEN to a token "
                "of the account that did"
            )
        if code == "RepoNotFound" or status in (401, 403):
            raise NotARunError(
                f"the Hub shows no repository {self.repo} ({status}): check the name, or set HF_TOKEN if it is private"
            )
        if code == "RevisionNotFound":
            raise NotARunError(f"{self.repo} has no such revision any more: list its branches and tags on the Hub")
        if status in _AGAIN:
            wait = None
            with contextlib.suppress(TypeError, ValueError):
                wait = float(answer.headers.get("Retry-After"))
            raise _TryAgain(f"the Hub answers {status}", wait)
        raise StorageError(f"the Hub answers {status} for {self.repo}: not what its interface says")


def _timeout() -> float:
    text = os.environ.get("PICO_HUB_TIMEOUT", "30")
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= _MOST_SECONDS:
        raise UsageError(f"PICO_HUB_TIMEOUT={text[:40]} is no number of seconds above 0, such as 30")
    return seconds


def parse_refs(raw: bytes) -> BranchesAndTags:
    """Branches and tags of the API's answer; raises ValueError, KeyError or TypeError where it is not one."""
    answer = strict_json.parse(raw, own=False)
    found: list[dict[str, str]] = []
    for kind in ("branches", "tags"):
        rows = answer[kind]
        if not isinstance(rows, list) or len(rows) > MAX_REFS:
            raise ValueError("too many refs")
        found.append({})
        for row in rows:
            name, commit = row["name"], row["targetCommit"]
            if not isinstance(name, str) or not COMMIT.fullmatch(commit):
                raise ValueError("not a ref")
            if len(name) <= 300 and name.isprintable():
                found[-1][name] = commit
    return BranchesAndTags(*found)


def parse_files(raw: bytes, *, where: str) -> dict[str, tuple[int, str, str | None]]:
    """Size, git's digest and sha256 (of large files) of each file that the API lists, by path.

    Raises:
        DataError: it is no such list.
    """
    found: dict[str, tuple[int, str, str | None]] = {}
    try:
        for row in strict_json.parse(raw, own=False)["siblings"]:
            path, size, blob, lfs = row["rfilename"], row["size"], row["blobId"], row.get("lfs")
            sha256 = lfs["sha256"] if lfs else None
            fits = BLOB.fullmatch(blob) and (sha256 is None or SHA256.fullmatch(sha256))
            if not fits or type(size) is not int or not 0 <= size < 2**62 or not isinstance(path, str):
                raise ValueError("not a file")
            layout.safe_relative_path(path)
            found[path] = (size, blob, sha256)
    except (ValueError, KeyError, TypeError, AttributeError, SchemaError):
        raise DataError(f"the Hub's list of the files of {where} is damaged: try again") from None
    return found


def _body(answer: Any, limit: int, *, exactly: int | None) -> bytes:
    """The body, never more than `limit` bytes of it.

    Raises:
        DataError: it is larger.
        _TryAgain: it ended early.
    """
    if answer.headers.get("Content-Encoding", "identity") not in ("identity", ""):
        raise DataError("the Hub sends compressed what was asked for as it is: refusing to unpack it")
    announced = answer.headers.get("Content-Length", "")
    if announced.isdigit() and int(announced) > limit:
        raise DataError(f"the Hub announces {announced} bytes where at most {limit} make sense: refusing")
    content = bytearray()
    for block in answer.iter_raw(1 << 20):
        content += block
        if len(content) > limit:
            raise DataError(f"the Hub sends more than the {limit} bytes that make sense: refusing")
    expected = exactly if exactly is not None else int(announced) if announced.isdigit() else len(content)
    if len(content) != expected:
        raise _TryAgain(f"{len(content)} bytes came instead of {expected}")
    return bytes(content)


def _has_digest(content: bytes, etag: str) -> bool:
    """Whether content fits an ETag of the Hub: git's blob id, or the sha256 of a large file; others prove nothing."""
    digest = etag.removeprefix("W/").strip('"')
    if re.fullmatch(r"[0-9a-f]{40}", digest):
        return git_blob_id(content) == digest
    if re.fullmatch(r"[0-9a-f]{64}", digest):
        return hashlib.sha256(content).hexdigest() == digest
    return True


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def _plain(error: Exception) -> str:
    """Name and first line of a client's error, without addresses (they may be signed)."""
    lines = str(error).splitlines()
    text = re.sub(r"https?://\S+", "…", lines[0]) if lines else ""
    return f"{type(error).__name__}{': ' + text[:150] if text else ''}"
