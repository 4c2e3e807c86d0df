"""What lies at an ``hf://`` address: a run that Pico published, one of Pico 1.0, or models of other makers."""

from __future__ import annotations

from pico_analyze.errors import NotARunError, StorageError
from pico_analyze.stores.base import ReadOptions, Store
from pico_analyze.stores.hub.address import Address, KnownRefs, resolve
from pico_analyze.stores.hub.block_cache import BlockCache, default_cache
from pico_analyze.stores.hub.client import HubClient
from pico_analyze.stores.hub.files import RemoteFiles
from pico_analyze.stores.hub.model_files import Repository
from pico_analyze.stores.hub.models import find_models
from pico_analyze.stores.hub.pico_v1 import open_pico_v1
from pico_analyze.stores.hub.repositories import find_repositories, parse_repositories
from pico_analyze.stores.hub.store import HubStore, NotPublishedError
from pico_analyze.stores.pickled.pickles import Pickles
from pico_analyze.stores.pico_v1.names import DYNAMICS
from pico_analyze.stores.transformers.step_names import StepPattern
from pico_analyze.stores.transformers.store import TransformersStore
from pico_schema import layout


def open_hub(text: str, options: ReadOptions) -> Store:
    """The run at an address.

    Raises:
        UsageError: not an address.
        NotARunError: nothing there, or nothing that is a run.
        DataError: what is there is damaged, or a tag was moved.
        StorageError: the Hub cannot be reached, or offline something is not in the cache.
    """
    if (several := parse_repositories(text)) is not None:
        return _several(text, *several, options)
    address = Address.parse(text)
    repository, known = _repository(address.repo, options)
    commit, _ = resolve(address, known)
    missing: StorageError | None = None
    try:
        return HubStore(address, known, repository)
    except NotPublishedError as error:
        commit = error.commit
    except StorageError as error:
        if not options.offline:
            raise
        missing = error  # it may be that of other makers, of which other files are in the cache
    try:
        if _is_pico_v1(repository, commit):
            branch = address.revision or "main"
            run = open_pico_v1(text, branch, address.step, known, repository)
            if run is not None:
                return run
        series = find_models(address, known, repository, StepPattern(options.step_pattern))
    except StorageError:
        raise missing or StorageError(_not_kept(address, commit)) from None
    if series is None:
        raise missing or NotARunError(_what_it_is(address, commit, known, repository))
    return TransformersStore(text, series, options, kind="hub")


def _repository(repo: str, options: ReadOptions) -> tuple[Repository, KnownRefs]:
    """What is read of a repository, and its branches and tags."""
    root = options.cache_dir or default_cache()
    client = HubClient(repo)
    blocks = BlockCache(root / "blocks", int(options.cache_gb * 2**30))
    files = RemoteFiles(client, blocks, offline=options.offline)
    known = KnownRefs(root, client, offline=options.offline)
    pickles = Pickles(model=True) if options.allow_pickle else None
    return Repository(client, files, blocks, offline=options.offline, pickles=pickles), known


def _several(text: str, author: str, glob: str, options: ReadOptions) -> Store:
    """A run whose steps are repositories."""
    if options.offline:
        raise StorageError(f"--offline: which repositories {text} means, the Hub alone knows: name each by itself")

    def head(name: str) -> tuple[Repository, str]:
        repository, known = _repository(name, options)
        return repository, resolve(Address(name, None, None), known)[0]

    stem = glob.partition("*")[0]
    names = HubClient(f"{author}/{stem}").repositories(author, stem.rstrip("-_."))
    series = find_repositories(author, glob, names, head, StepPattern(options.step_pattern))
    return TransformersStore(text, series, options, kind="hub")


def _is_pico_v1(repository: Repository, commit: str) -> bool:
    """Whether the files of a commit are those of a run of Pico 1.0: captures or a state beside a model of its kind."""
    files = repository.listing(commit)
    if any(name.startswith(f"{DYNAMICS}/") for name in files):
        return True
    return layout.MODEL_CONFIG in files and "pico_decoder.py" in files


def _not_kept(address: Address, commit: str) -> str:
    return f"--offline: {address.repo}@{commit[:12]} was never read on this machine: read it once without --offline"


def _what_it_is(address: Address, commit: str, known: KnownRefs, repository: Repository) -> str:
    """One sentence about a revision that is no run."""
    where = f"{address.repo}@{commit[:12]} has no {layout.MANIFEST}"
    files = repository.listing(commit)
    if layout.RUN_MANIFEST in files or layout.REVISIONS in files:
        return f"{where}: an incomplete revision of a run; name a tag such as <run>-step-<N>"
    if any("learning_dynamics/" in name or name.startswith("checkpoints/step_") for name in files):
        return f"{where}: a run of Pico 1.0; download it and give pico-analyze the directory"
    refs = known.refs()
    branches = sorted(name for name in refs.branches if name != "main")
    first = f"{address.repo}@{branches[0]}" if branches else ""
    named = f"; its branches are {', '.join(branches)[:300]}: name one, as in `pico-analyze list hf://{first}`"
    hint = named if branches else ""
    return f"{where}, and no {layout.MODEL_CONFIG}: not a run that Pico published, and no model{hint}"
