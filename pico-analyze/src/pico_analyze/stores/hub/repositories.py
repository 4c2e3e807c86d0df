"""A run whose steps are repositories of their own: ``hf://org/name-step*``, with a star for what differs.

The names of the repositories tell the steps, as those of branches do; of each its branch main is read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase

from pico_analyze.errors import NotARunError, UsageError
from pico_analyze.stores.base import Unusable
from pico_analyze.stores.hub.model_files import HubFiles, Repository
from pico_analyze.stores.hub.models import AT_ONCE
from pico_analyze.stores.transformers.series import Checkpoint, Series
from pico_analyze.stores.transformers.step_names import StepPattern
from pico_analyze.stores.transformers.weight_files import fault

_ADDRESS = re.compile(r"hf://([A-Za-z0-9_][\w.-]*)/([\w.*-]*\*[\w.*-]*)", re.ASCII)
_MOST_SHOWN = 5


def parse_repositories(text: str) -> tuple[str, str] | None:
    """Author and pattern of an address with a star; None for any other.

    Raises:
        UsageError: it has a star and is no such address.
    """
    if "*" not in text:
        return None
    found = _ADDRESS.fullmatch(text)
    if found is None or not found[2].partition("*")[0]:
        raise UsageError(f"{text[:300]!r} is no address of several repositories: write hf://org/name-step*")
    return found[1], found[2]


def find_repositories(
    author: str,
    glob: str,
    names: Iterable[str],
    head: Callable[[str], tuple[Repository, str]],
    pattern: StepPattern,
) -> Series:
    """The repositories of a pattern as one run.

    Args:
        author: Whose they are.
        glob: The pattern of their names.
        names: What the author has, ``org/name``.
        head: Gives a repository and the commit of its branch main, by name.
        pattern: Tells steps from names.

    Raises:
        NotARunError: no repository fits, or their names tell no step.
    """
    fitting = [name for full in names for owner, _, name in [full.partition("/")] if owner == author]
    fitting = [name for name in fitting if fnmatchcase(name, glob)]
    where = f"hf://{author}/{glob}"
    named = pattern.one_series(fitting, where=where)
    if not named:
        shown = ", ".join(sorted(fitting)[:_MOST_SHOWN]) or "none"
        raise NotARunError(f"{where}: no repository of this pattern tells a step by its name: there are {shown}")

    def opened(name: str) -> HubFiles:
        repository, commit = head(f"{author}/{name}")
        return HubFiles(repository, commit, "main", repository.listing(commit))

    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="listing") as pool:
        files = list(pool.map(opened, [one.name for one in named]))
    usable, unusable = [], []
    for one, found in zip(named, files, strict=True):
        reason = fault(found)
        if reason is None:
            usable.append(Checkpoint(one.name, one.step, one.tokens, found))
        else:
            unusable.append(Unusable(one.name, one.step, reason))
    run = glob.replace("*", "").strip("-_.") or author
    return Series(run, tuple(usable), tuple(unusable))
