"""Models of others: one by itself, or a series of folders, branches or tags whose names end in a step.

Results lie in a directory of their own (`pico_schema.evaluated`). What a model on the Hub is made of is asked for
before anything is fetched, so that a sweep which goes on fetches only what is still to be measured; what came is
compared with the digests that the Hub listed.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pico_schema import Evaluation, SchemaError, documents, evaluated, layout
from pico_schema.digests import git_blob_id, sha256_file
from pico_schema.files import replace_file
from pico_train.addresses import HUB
from pico_train.data.retry import OPENING_ATTEMPTS, with_retries
from pico_train.errors import CheckpointError, DataError, UsageError
from pico_train.evaluation import results
from pico_train.training.step import Tasks

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

_Answer = TypeVar("_Answer")
_STEP = re.compile(r"(?:^|.*[^0-9a-z])(?:global_)?(?:step|checkpoint|iter|ckpt)[-_]?([0-9]{1,8})", re.IGNORECASE)
"""Names of checkpoints of a series: step1000, checkpoint-500, main-step_20, …"""
_MORE_FILES = ("generation_config.json", "special_tokens_map.json", "vocab.json", "merges.txt")
"""What is fetched besides the files that make a model what it is."""
_COMMIT = re.compile(r"[0-9a-f]{7,40}")
_MOST_NAMED = 12


@dataclass(frozen=True)
class ForeignSeries:
    """Models of others."""

    name: str
    """What the series is called."""
    place: str
    """Where it lies: the path of a folder, or an address on the Hub."""
    out: Path
    """Directory of the results."""
    revisions: dict[int, str] = field(default_factory=dict)
    """Step → folder, or branch or tag on the Hub."""
    repo: str | None = None
    """Repository on the Hub; None for folders."""

    @property
    def steps(self) -> tuple[int, ...]:
        """Ascending."""
        return tuple(sorted(self.revisions))

    @property
    def id(self) -> str:
        """What stands for the series in its results."""
        return evaluated.series_id(self.place)

    @contextmanager
    def checkpoint(self, step: int) -> Iterator[Path]:
        """Directory of a model: of one on the Hub, with its files for as long as they are needed.

        Raises:
            CheckpointError: there is no model of safetensors, or what came is not what the Hub listed.
            StorageError: the Hub cannot be reached.
        """
        if self.repo is None:
            yield _checked(Path(self.revisions[step]), self.revisions[step])
            return
        listing, where = self._listings[step], f"{HUB}{self.repo}@{self.revisions[step]}"
        with tempfile.TemporaryDirectory(prefix="pico-evaluate-") as room:
            listing.fetch(self.repo, Path(room), where)
            yield _checked(Path(room), where)

    @cached_property
    def _listings(self) -> _Listings:
        return _Listings(str(self.repo), self.revisions)

    @cached_property
    def _digests(self) -> dict[int, str]:
        return {}

    def digest(self, step: int) -> str:
        """What stands for the model of a step: of one on the Hub, without fetching it.

        Raises:
            CheckpointError: there is no model of safetensors.
            StorageError: the Hub cannot be reached.
        """
        if self.repo is not None:
            return self._listings[step].digest
        if step not in self._digests:
            directory = _checked(Path(self.revisions[step]), self.revisions[step])
            names = [path.name for path in directory.iterdir() if evaluated.is_of_model(path.name)]
            self._digests[step] = evaluated.model_digest({name: sha256_file(directory / name) for name in names})
        return self._digests[step]

    def known(self, step: int) -> Tasks:
        """Results that there are of the model of a step.

        Raises:
            CheckpointError, StorageError: as `digest`.
            DataError: the document is damaged.
            UsageError: it is of models at another place.
        """
        path = self.file(step)
        if not path.is_file():
            return {}
        try:
            found = documents.read(path, Evaluation)
        except SchemaError as error:
            raise DataError(f"{error}: move it away, and evaluate again") from None
        if found.run_id != self.id:
            raise UsageError(f"{path}: results of models at another place than {self.place}: name a folder with --out")
        return found.tasks if found.manifest_sha256 == self.digest(step) else {}

    def keep(self, step: int, tasks: Tasks) -> None:
        """Put results into the directory of this series."""
        evaluation = Evaluation(
            run_id=self.id,
            step=step,
            manifest_sha256=self.digest(step),
            created=datetime.now(UTC),
            producer=results.PRODUCER,
            tasks=results.together(self.known(step), tasks),
        )
        self.file(step).parent.mkdir(parents=True, exist_ok=True)
        replace_file(self.file(step), documents.dump(evaluation))

    def file(self, step: int) -> Path:
        """Where results are."""
        return self.out / layout.evaluation_file(step)


@dataclass(frozen=True)
class _Listing:
    """What a revision holds, as the Hub says."""

    commit: str
    files: dict[str, tuple[str, bool]]
    """Name → digest, and whether it is the sha256 of the content rather than git's."""

    @property
    def digest(self) -> str:
        return evaluated.model_digest({name: digest for name, (digest, _) in self.files.items()})

    def fetch(self, repo: str, room: Path, where: str) -> None:
        """Put the files of the model into a folder.

        Raises:
            CheckpointError: one is not what the Hub listed.
        """
        from huggingface_hub import snapshot_download

        _ask(
            lambda: snapshot_download(repo, revision=self.commit, allow_patterns=list(self.files), local_dir=room),
            where,
        )
        for name, (digest, is_sha256) in self.files.items():
            path = room / name
            if not path.is_file():
                raise CheckpointError(f"{where}: {name} did not come: try again")
            if digest != (sha256_file(path) if is_sha256 else git_blob_id(path.read_bytes())):
                raise CheckpointError(f"{where}: {name} is not the file that the Hub lists: try again")


class _Listings(dict[int, _Listing]):
    """Step → what its revision holds, asked for once."""

    def __init__(self, repo: str, revisions: dict[int, str]) -> None:
        super().__init__()
        self._repo, self._revisions = repo, revisions

    def __missing__(self, step: int) -> _Listing:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import RevisionNotFoundError

        revision = self._revisions[step]
        where = f"{HUB}{self._repo}@{revision}"
        try:
            info = _ask(lambda: HfApi().model_info(self._repo, revision=revision, files_metadata=True), where)
        except RevisionNotFoundError:
            raise CheckpointError(f"{where}: there is no such revision") from None
        found = {one.rfilename: _digest(one) for one in info.siblings or [] if _is_wanted(one.rfilename)}
        _check_names(list(found), where)
        self[step] = _Listing(str(info.sha), found)
        return self[step]


def _digest(one: RepoSibling) -> tuple[str, bool]:
    return (one.lfs.sha256, True) if one.lfs else (str(one.blob_id), False)


def _is_wanted(name: str) -> bool:
    return evaluated.is_of_model(name) or name in _MORE_FILES


def _ask(call: Callable[[], _Answer], where: str) -> _Answer:
    return with_retries(call, what=where, attempts=OPENING_ATTEMPTS)


def in_folders(place: str, out: Path | None) -> ForeignSeries | None:
    """A model in a folder, or the folders of a series; None where there is neither.

    A folder whose name tells a step is one of the series in the folder above it.
    """
    directory = Path(place).expanduser()
    if not directory.is_dir():
        return None
    directory = directory.resolve()
    if (directory / layout.MODEL_CONFIG).is_file():
        step = _step_of(directory.name)
        root = directory if step is None else directory.parent
        found = {step or 0: str(directory)}
    else:
        root = directory
        found = {
            step: str(path)
            for path in sorted(directory.iterdir())
            if (step := _step_of(path.name)) is not None and (path / layout.MODEL_CONFIG).is_file()
        }
    name = evaluated.folder_name(str(root))
    return ForeignSeries(name, str(root), out or Path(evaluated.ROOT) / name, found) if found else None


def on_hub(place: str, out: Path | None) -> ForeignSeries | None:
    """A model repository: the branches and tags that are named, or all of them whose names tell a step.

    Args:
        place: ``hf://org/name``, or with ``@revision`` or ``@revision,revision,…``.
        out: Directory of the results.

    Raises:
        UsageError: a revision is not there, or two of several are of one step or of none.
        StorageError: the Hub cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    repo, _, named = place.removeprefix(HUB).partition("@")
    try:
        refs = _ask(lambda: HfApi().list_repo_refs(repo), f"repository {repo}")
    except (RepositoryNotFoundError, HFValidationError):
        return None
    there = list(dict.fromkeys(ref.name for ref in (*refs.tags, *refs.branches)))
    of_steps = {step: name for name in there if (step := _step_of(name)) is not None}
    wanted = list(dict.fromkeys(name.strip() for name in named.split(",") if name.strip()))
    for name in wanted:
        _check_named(repo, name, there)
    address = f"{HUB}{repo}"
    if len(wanted) == 1 and _step_of(wanted[0]) is None and (of_steps or wanted[0] != "main"):
        address, chosen = f"{address}@{wanted[0]}", {0: wanted[0]}  # a model by itself beside the steps
    elif wanted and of_steps:
        chosen = _by_step(repo, wanted)
    else:
        chosen = of_steps or {0: "main"}
    name = evaluated.folder_name(address)
    return ForeignSeries(repo, address, out or Path(evaluated.ROOT) / name, chosen, repo)


def _by_step(repo: str, names: list[str]) -> dict[int, str]:
    """Step → revision, of several that were named."""
    found: dict[int, str] = {}
    for name in names:
        step = _step_of(name)
        if step is None:
            raise UsageError(f"{HUB}{repo}@{name}: the name tells no step: evaluate it by itself")
        if step in found:
            raise UsageError(f"{HUB}{repo}: {found[step]} and {name} are both of step {step}: name one of them")
        found[step] = name
    return found


def _check_named(repo: str, name: str, there: list[str]) -> None:
    """Raise where a repository has no such branch or tag; commits and other refs are asked for later."""
    if name in there or _COMMIT.fullmatch(name) or name.startswith("refs/"):
        return
    near = get_close_matches(name, there, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    more = ", …" if len(there) > _MOST_NAMED else ""
    raise UsageError(f"{HUB}{repo} has no branch or tag {name!r}{hint}: it has {', '.join(there[:_MOST_NAMED])}{more}")


def _step_of(name: str) -> int | None:
    match = _STEP.fullmatch(name)
    return int(match[1]) if match else None


def _checked(directory: Path, where: str) -> Path:
    _check_names([path.name for path in directory.iterdir()], where)
    return directory


def _check_names(names: list[str], where: str) -> None:
    if layout.MODEL_CONFIG not in names or not any(name.endswith(".safetensors") for name in names):
        raise CheckpointError(
            f"{where}: has no {layout.MODEL_CONFIG} beside weights in safetensors; pickled weights are not opened: "
            "save the model by transformers' save_pretrained, and name its folder"
        )
