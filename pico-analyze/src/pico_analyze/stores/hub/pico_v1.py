"""Runs of Pico 1.0 on the Hub: a branch per run, and for each step commits of their own, told apart by their titles.

    Saving HF Model -- Step 1000                        the model, in the root
    Saving Learning Dynamics Data (train) -- Step 1000  `learning_dynamics/train_*.pt`, and the batch
    Saving Evaluation Results -- Step 1000              `eval_results/`

Weights are read by range. A capture is a pickle: it is downloaded, compared with the Hub's digest, and opened as those
of a local run are, in a process with limits.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from pico_analyze.errors import DataError, NotARunError
from pico_analyze.stores.base import Data, Input, ReadOptions, SplitInfo, StepInfo
from pico_analyze.stores.hub.address import KnownRefs
from pico_analyze.stores.hub.model_files import HubFiles, Repository
from pico_analyze.stores.json_file import json_object
from pico_analyze.stores.pico_v1.names import CONFIG, DYNAMICS, RESULTS
from pico_analyze.stores.pico_v1.store import PicoV1Store, captured_sites, training_config
from pico_analyze.stores.transformers.series import Checkpoint, Series
from pico_analyze.stores.transformers.store import TransformersStore
from pico_schema import SchemaError, layout
from pico_schema.files import discard_with_process
from pico_schema.results import flat_results

if TYPE_CHECKING:
    import numpy as np
    import pandas

TITLE = re.compile(
    r"Saving (HF Model|Learning Dynamics Datas?|Evaluation Results)(?: \((train|val)\))? -- Step ([0-9]{1,8})"
)
AT_ONCE = 16
MAX_PICKLE = 8 << 30
_STRETCH = 32 << 20


@dataclass(frozen=True)
class V1Commits:
    """Which commit holds what of a step: of several of one title the newest."""

    models: dict[int, str]
    """Step → commit of the model."""
    captures: dict[tuple[int, str | None], str]
    """Step and split (None where the title does not tell) → commit."""
    results: dict[int, str]
    """Step → commit of evaluation results."""


def v1_commits(titles: list[tuple[str, str]]) -> V1Commits:
    """What the titles of a branch tell, the newest commit first."""
    found = V1Commits({}, {}, {})
    for commit, title in titles:
        named = TITLE.fullmatch(title.strip())
        if named is None:
            continue
        kind, split, step = named[1], named[2], int(named[3])
        if kind == "HF Model":
            found.models.setdefault(step, commit)
        elif kind == "Evaluation Results":
            found.results.setdefault(step, commit)
        else:
            found.captures.setdefault((step, split), commit)
    return found


class PicoV1HubStore(TransformersStore):
    """A run of Pico 1.0, by the commits of its branch."""

    def __init__(self, location: str, run: str, commits: V1Commits, repository: Repository) -> None:
        self._repository = repository
        kept = {step: commit for step, commit in commits.results.items() if step in commits.models}
        self._commits = commits = replace(commits, results=kept)
        captures = (commit for (step, _), commit in commits.captures.items() if step in commits.models)
        needed = [*commits.models.values(), *captures, *kept.values()]
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="listing") as pool:
            list(pool.map(repository.listing, dict.fromkeys(needed)))
        checkpoints = (
            Checkpoint(f"step {step}", step, None, self._files(commit))
            for step, commit in sorted(commits.models.items())
        )
        self._local = Path(tempfile.mkdtemp(prefix="pico-analyze-"))
        weakref.finalize(self, shutil.rmtree, self._local, ignore_errors=True)
        discard_with_process(self._local)
        self._opened: dict[int, PicoV1Store] = {}
        super().__init__(location, Series(run, tuple(checkpoints)), ReadOptions(), kind="hub")

    def _files(self, commit: str) -> HubFiles:
        return HubFiles(self._repository, commit, commit[:12], self._repository.listing(commit))

    def _captures(self, step: int) -> dict[str, HubFiles]:
        """The files of each split's captures."""
        found = {}
        for split in ("train", "val"):
            commit = self._commits.captures.get((step, split)) or self._commits.captures.get((step, None))
            if commit is not None and any(
                name.startswith(f"{DYNAMICS}/{split}_") for name in self._files(commit).sizes
            ):
                found[split] = self._files(commit)
        return found

    @lru_cache(maxsize=1)  # noqa: B019 - one entry per store
    def steps(self) -> tuple[StepInfo, ...]:
        """The steps whose model is there, by ascending step."""
        return tuple(self._with_captures(info) for info in super().steps())

    def _with_captures(self, info: StepInfo) -> StepInfo:
        splits, facts = {}, [info.digest]
        sites = captured_sites(self._config(info.step), self.spec(info.step).n_layers, where=CONFIG)
        for split, files in self._captures(info.step).items():
            held = {data: f"{DYNAMICS}/{split}_{data}.pt" in files.sizes for data in ("activations", "gradients")}
            splits[split] = SplitInfo(sites if held["activations"] else (), sites if held["gradients"] else ())
            facts += [files.identity(name) for name in sorted(files.sizes) if name.startswith(f"{DYNAMICS}/{split}_")]
        digest = hashlib.sha256(repr(facts).encode()).hexdigest()
        return replace(info, splits=splits, digest=digest)

    def _config(self, step: int) -> dict[str, object]:
        """The training configuration, where it lies beside the model."""
        if CONFIG not in self._checkpoint(step).files.sizes:
            return {}
        return training_config(self._fetched(step, None, CONFIG))

    def read(self, step: int, split: str | None, data: Data, site: str) -> np.ndarray:
        """Weights by range from the model's commit; captures from a pickle, opened elsewhere."""
        if data == "weights":
            return super().read(step, split, data, site)
        self._fetched(step, split, f"{DYNAMICS}/{split}_{data}.pt")
        return self._opened_locally(step).read(step, split, data, site)

    def positions(self, step: int, split: str) -> int:  # noqa: ARG002 - the same at each
        """One: Pico 1.0 captured each row at a single position."""
        return 1

    def samples(self, step: int, split: str) -> pandas.DataFrame:
        """The tokens of a step's own batch, at the one position that Pico 1.0 captured; it kept no validation rows."""
        files = self._captures(step).get(split)
        if files is None:
            raise DataError(f"{self.location}: step {step} has no {split} captures, so it has no {split} samples")
        wanted = [name for name in files.sizes if name.startswith(f"{DYNAMICS}/{split}_data/")]
        wanted += [f"{DYNAMICS}/{split}_{data}.pt" for data in ("activations", "gradients")]
        for name in wanted:
            if name in files.sizes:
                self._fetched(step, split, name)
        for name in (layout.TOKENIZER, CONFIG):
            if name in self._checkpoint(step).files.sizes:
                self._fetched(step, None, name)
        return self._opened_locally(step).samples(step, split)

    def _opened_locally(self, step: int) -> PicoV1Store:
        """What was fetched of a step, as a local run of Pico 1.0."""
        if step not in self._opened:
            self._fetched(step, None, layout.MODEL_CONFIG)
            self._opened[step] = PicoV1Store(self._local / str(step))
        return self._opened[step]

    def _fetched(self, step: int, split: str | None, name: str) -> Path:
        """A file as a whole, in a temporary directory laid out as a local run; that of the model where `split` is None.

        Raises:
            DataError: there is none, it is too large, or not what the Hub lists.
        """
        files = self._captures(step).get(split) if split is not None else self._checkpoint(step).files
        if not isinstance(files, HubFiles) or name not in files.sizes:
            raise DataError(f"{self.location}: step {step} has no {name}")
        root = self._local / str(step)
        target = root / CONFIG if name == CONFIG else root / layout.CHECKPOINTS / f"step_{step}" / name
        if not target.is_file():
            if files.sizes[name] > MAX_PICKLE:
                raise DataError(f"{files.at(name)}: it has {files.sizes[name]:,} bytes: refusing to open it")
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f".{target.name}.partial")
            files.download(name, partial, _STRETCH)
            partial.replace(target)
        return target

    def inputs(self, step: int, split: str | None, data: Data, site: str) -> tuple[Input, ...]:
        """The file or pickle that holds the tensor, and the step's configuration."""
        files = self._captures(step).get(split or "")
        if data == "weights" or files is None:
            return super().inputs(step, split, data, site)
        name, config = f"{DYNAMICS}/{split}_{data}.pt", self._checkpoint(step).files.sha256(layout.MODEL_CONFIG)
        return (Input(layout.MODEL_CONFIG, config), Input(name, files.sha256(name)))

    def evaluations(self) -> dict[int, dict[str, float]]:
        """Numbers in ``eval_results/*step_<N>*.json``, by step."""
        found: dict[int, dict[str, float]] = {}
        for step, commit in sorted(self._commits.results.items()):
            files = self._files(commit)
            for name in sorted(files.sizes):
                match = RESULTS.search(Path(name).stem) if name.endswith(".json") else None
                if match is None or int(match[1]) != step or "/" not in name:
                    continue
                try:
                    content = self._repository.small(commit, name, self._repository.listing(commit)[name])
                    found.setdefault(step, {}).update(flat_results(json_object(content, where=files.at(name))))
                except SchemaError as error:
                    raise DataError(f"{files.at(name)}: {error}") from None
        return found


def open_pico_v1(
    location: str, branch: str, step: int | None, known: KnownRefs, repository: Repository
) -> PicoV1HubStore | None:
    """The run of Pico 1.0 on a branch, or one step of it; None where its commits are none of one.

    Raises:
        NotARunError: there is no such step.
    """
    commits = v1_commits(repository.titles(known.refs().branches.get(branch, branch)))
    if not commits.models:
        return None
    if step is not None:
        if step not in commits.models:
            steps = ", ".join(map(str, sorted(commits.models)[:20]))
            raise NotARunError(f"{location}: the branch has no commit of the model of step {step}: there are {steps}")
        commits = replace(commits, models={step: commits.models[step]})
    run = branch if branch != "main" else repository.client.repo.partition("/")[2]
    return PicoV1HubStore(location, run, commits, repository)
