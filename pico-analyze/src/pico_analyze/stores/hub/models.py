"""Models of other makers on the Hub: a repository whose branches and tags are the steps of a run, or one model.

    hf://EleutherAI/pythia-70m               every branch or tag that tells a step: step0, step1, … step143000
    hf://EleutherAI/pythia-70m@step1000      that one
    hf://org/name                            a repository without such branches: its model

The list of refs takes one request, and each commit one more, several at a time; what a commit lists is kept for good.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from pico_analyze.errors import DataError, NotARunError
from pico_analyze.stores.base import Unusable
from pico_analyze.stores.hub.address import Address, KnownRefs, resolve
from pico_analyze.stores.hub.client import COMMIT
from pico_analyze.stores.hub.model_files import HubFile, HubFiles, Repository
from pico_analyze.stores.transformers.other_formats import other_format
from pico_analyze.stores.transformers.series import Checkpoint, Series
from pico_analyze.stores.transformers.step_names import NamedStep, StepPattern
from pico_analyze.stores.transformers.weight_files import fault, is_gguf, is_of_a_model
from pico_schema import layout

AT_ONCE = 16
"""Requests that are made at the same time."""
_PICO_V1 = "learning_dynamics/"


def find_models(address: Address, known: KnownRefs, repository: Repository, pattern: StepPattern) -> Series | None:
    """The models that an address means; None where its commit holds no model and no ref tells a step.

    Raises:
        NotARunError: no such branch or tag, or of a whole repository no such step.
        DataError: several series, or two refs for one step that name different commits.
    """
    if address.revision is not None:
        return _single(address, known, repository, pattern)
    steps = _steps(known, pattern, where=f"hf://{address.repo}")
    if not steps:
        return _single(address, known, repository, pattern)
    if address.step is not None:
        steps = [(named, commit) for named, commit in steps if named.step == address.step]
        if not steps:
            raise NotARunError(f"{address.repo} has no branch or tag of step {address.step}")
    listings = _listings(repository, [commit for _, commit in steps])
    usable, unusable = [], []
    for named, commit in steps:
        files = HubFiles(repository, commit, named.name, listings[commit])
        reason = fault(files)
        if reason is None:
            usable.append(Checkpoint(named.name, named.step, named.tokens, files))
        else:
            unusable.append(Unusable(named.name, named.step, reason))
    if not any(is_of_a_model(files) for files in listings.values()):
        return None
    return Series(address.repo.partition("/")[2], tuple(usable), tuple(unusable))


def _steps(known: KnownRefs, pattern: StepPattern, *, where: str) -> list[tuple[NamedStep, str]]:
    """The refs that tell a step, with their commits; a branch and a tag of one name are one where they agree."""
    refs = known.refs()
    commits = dict(refs.tags)
    for name, commit in refs.branches.items():
        if commits.setdefault(name, commit) != commit and pattern.parse(name) is not None:
            raise DataError(
                f"{where}: branch and tag {name} name different commits: read the one you mean by its commit"
            )
    named = pattern.one_series(commits, where=where)
    return [(one, commits[one.name]) for one in named]


def _listings(repository: Repository, commits: list[str]) -> dict[str, Mapping[str, HubFile]]:
    distinct = list(dict.fromkeys(commits))
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="listing") as pool:
        return dict(zip(distinct, pool.map(repository.listing, distinct), strict=True))


def _single(address: Address, known: KnownRefs, repository: Repository, pattern: StepPattern) -> Series | None:
    """The model of one revision."""
    commit, _ = resolve(Address(address.repo, address.revision, None), known)
    revision = address.revision or "main"
    files = HubFiles(repository, commit, revision, repository.listing(commit))
    if (other := other_format(files.sizes, files.where)) is not None and fault(files) is not None:
        download = f"hf download {address.repo} --revision {revision} --local-dir DIR"
        raise DataError(f"{files.where}: {other}, where DIR is what `{download}` leaves")
    here = layout.MODEL_CONFIG in files.sizes or any(map(is_gguf, files.sizes))
    if not here or any(name.startswith(_PICO_V1) for name in files.sizes):
        return None
    if (reason := fault(files)) is not None:
        raise DataError(f"{files.where}: {reason}")
    named = None if COMMIT.fullmatch(revision) else pattern.parse(revision)
    step = address.step if address.step is not None else named.step if named is not None else 0
    if named is not None and address.step not in (None, named.step):
        raise NotARunError(f"hf://{address.repo}@{revision} is step {named.step}, not step {address.step}")
    tokens = named.tokens if named is not None else None
    return Series(address.repo.partition("/")[2], (Checkpoint(revision, step, tokens, files),))
