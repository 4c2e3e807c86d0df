"""Runs of Pico 1.0 from their local layout.

    training_config.yaml
    checkpoints/step_<N>/config.json, model.safetensors
    checkpoints/step_<N>/learning_dynamics/{train,val}_{activations,gradients,weights}.pt, train_data/

Which sites were captured stands in the configuration, so that listing a run opens no pickle. Weights come from
`model.safetensors`; where that is missing, from the pickled ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pico_analyze.errors import DataError
from pico_analyze.stores.base import Data, Input, SplitInfo, StepInfo, Unusable
from pico_analyze.stores.checked_file import CheckedFile
from pico_analyze.stores.json_file import checked_json, read_json
from pico_analyze.stores.pickled.pickles import Pickles
from pico_analyze.stores.pico_v1.names import CONFIG, DYNAMICS, RESULTS, STEP
from pico_analyze.stores.safetensors import TensorFile
from pico_analyze.stores.samples import MAX_FILE, read_whole, samples_table, token_rows
from pico_analyze.stores.shown import Shown
from pico_analyze.stores.transformers.architectures import PICO, Source
from pico_analyze.stores.transformers.files import LocalFiles
from pico_schema import ModelSpec, SchemaError, layout
from pico_schema.results import flat_results

if TYPE_CHECKING:
    import numpy as np
    import pandas
    import pyarrow

_SUFFIXES = ("attention.v_proj", "attention.o_proj", "swiglu.w_2")
"""What Pico 1.0 captured unless told otherwise."""


class PicoV1Store(Shown):
    """A run directory written by Pico 1.0."""

    kind = "pico-v1"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.location = str(path)
        self._config = training_config(path / CONFIG)
        name = _get(self._config, "checkpointing", "run_name")
        usable = isinstance(name, str) and layout.RUN_NAME.fullmatch(name) and ".." not in name
        self.run: str = name if usable else path.resolve().name
        self._pickles, self._checked = Pickles(), dict[Path, CheckedFile]()

    @cached_property
    def _directories(self) -> dict[int, Path]:
        root = self.path / layout.CHECKPOINTS
        found: dict[int, Path] = {}
        for entry in sorted(root.iterdir()):
            if (match := STEP.fullmatch(entry.name)) and (entry.is_dir() or entry.is_symlink()):
                other = found.setdefault(int(match[1]), entry)
                if other != entry:
                    raise DataError(f"{root}: step {int(match[1])} is there twice, as {other.name} and {entry.name}")
        return found

    def _directory(self, step: int) -> Path:
        """Where a step lies; that of each that can be used.

        Raises:
            DataError: there is none, or it cannot be used.
        """
        if step not in self._directories:
            raise DataError(f"run {self.run!r} has no checkpoint of step {step}")
        if reason := self._faults[step]:
            raise DataError(f"{self._directories[step]}: {reason}")
        return self._directories[step]

    @cached_property
    def _faults(self) -> dict[int, str]:
        """Why each step cannot be used; an empty text for those that can."""
        return {step: self._fault(directory) for step, directory in self._directories.items()}

    def _fault(self, directory: Path) -> str:
        if directory.is_symlink():
            return "a symbolic link, not a checkpoint's own directory: it is not followed"
        if not _stays(directory, self.path):
            return "it lies behind a symbolic link that leaves the run: it is not followed"
        for entry in directory.rglob("*"):
            if entry.is_symlink() and not _stays(entry, directory):
                return f"{entry.relative_to(directory)} is a symbolic link that leaves it: it is not followed"
        if not (directory / layout.MODEL_CONFIG).is_file():
            return f"incomplete: it has no {layout.MODEL_CONFIG}"
        if not (directory / layout.WEIGHTS).is_file() and not any((directory / DYNAMICS).glob("*.pt")):
            return f"incomplete: it has no {layout.WEIGHTS}"
        return ""

    @lru_cache(maxsize=1)  # noqa: B019 - one entry per store
    def steps(self) -> tuple[StepInfo, ...]:
        """The checkpoints, by ascending step."""
        usable = [step for step, fault in self._faults.items() if not fault]
        return tuple(self._info(step) for step in sorted(usable))

    def unusable(self) -> tuple[Unusable, ...]:
        """Checkpoint directories that lack what every one has."""
        faults = ((step, fault) for step, fault in sorted(self._faults.items()) if fault)
        return tuple(Unusable(self._directories[step].name, step, fault) for step, fault in faults)

    def _info(self, step: int) -> StepInfo:
        directory, spec = self._directories[step], self.spec(step)
        files = sorted(file for file in directory.rglob("*") if file.is_file())
        stats = [(str(file.relative_to(directory)), file.stat()) for file in files]
        facts = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
        captured = self._captured(spec.n_layers)
        splits = {}
        for split in ("train", "val"):
            activations = (directory / DYNAMICS / f"{split}_activations.pt").is_file()
            gradients = (directory / DYNAMICS / f"{split}_gradients.pt").is_file()
            if activations or gradients:
                splits[split] = SplitInfo(
                    activations=captured if activations else (),
                    gradients=captured if gradients else (),
                    samples_sha256=self._batch_digest(directory) if split == "train" else None,
                )
        batch_size = _get(self._config, "data", "dataloader", "batch_size")
        known = type(batch_size) is int and 0 < batch_size < 2**31
        return StepInfo(
            step=step,
            digest=hashlib.sha256(repr((str(self.path.resolve()), facts)).encode()).hexdigest(),
            tokens_seen=step * batch_size * spec.max_seq_len if known else None,
            size=sum(stat.st_size for _, stat in stats),
            weights=tuple(self._weights(step)),
            splits=splits,
            sealed=False,
        )

    def _captured(self, n_layers: int) -> tuple[str, ...]:
        return captured_sites(self._config, n_layers, where=str(self.path / CONFIG))

    def _batch_digest(self, directory: Path) -> str | None:
        """Digest of the token rows of a step's own batch, and of the position that was kept; None where they cannot be
        read."""
        import pyarrow as pa
        import pyarrow.compute as pc

        shards = sorted((directory / DYNAMICS / "train_data").glob("*.arrow"))
        if not shards:
            return None
        digest = hashlib.sha256(repr(_get(self._config, "checkpointing", "learning_dynamics", "sequence_idx")).encode())
        for shard in shards:
            try:
                with pa.memory_map(str(shard)) as source:
                    table = pa.ipc.open_stream(source).read_all().select(["input_ids"])
                    table.validate(full=True)
                    for chunk in table["input_ids"].chunks:
                        digest.update(pc.list_flatten(chunk).to_numpy(zero_copy_only=False).tobytes())
            except (OSError, pa.ArrowException, KeyError):
                return None
        return digest.hexdigest()

    def spec(self, step: int) -> ModelSpec:
        """The geometry that the step's `config.json` describes."""
        path = self._directory(step) / layout.MODEL_CONFIG
        return PICO.spec(checked_json(self._content(path)), where=str(path))

    @lru_cache(maxsize=64)  # noqa: B019 - headers only
    def _weights_file(self, step: int) -> TensorFile | None:
        path = self._directory(step) / layout.WEIGHTS
        return TensorFile.checked(self._content(path)) if path.is_file() else None

    def _content(self, path: Path) -> CheckedFile:
        """A file of the run. Nothing says which digest it has: the one found first stays for the analysis."""
        return self._checked.setdefault(path, CheckedFile(path))

    @lru_cache(maxsize=64)  # noqa: B019 - names only
    def _weights(self, step: int) -> Mapping[str, Source | None]:
        """Site → where its weight is; None where it is a pickle that knows."""
        file = self._weights_file(step)
        if file is None:
            pickled = any((self._directory(step) / DYNAMICS).glob("*_weights.pt"))
            return dict.fromkeys(self._captured(self.spec(step).n_layers)) if pickled else {}
        return PICO.found(file.tensors, where=file.where).sites

    def read(self, step: int, split: str | None, data: Data, site: str) -> np.ndarray:
        """One tensor: weights from safetensors, captures from a pickle, opened elsewhere."""
        self._directory(step)
        if data == "weights":
            file, source = self._weights_file(step), self._weights(step).get(site)
            if file is not None and source is not None:
                return source.cut(file.read(source.tensor), self.spec(step))
        path = self._pickle(step, split, data)
        file = self._pickles.open_checked(self._content(path))
        found = PICO.found(file.tensors, where=str(path)).sites.get(site)
        if found is None:
            raise DataError(f"{path}: it holds nothing at site {site!r}")
        return found.cut(file.read(found.tensor), self.spec(step))

    def _pickle(self, step: int, split: str | None, data: Data) -> Path:
        """The pickle of a kind of data; of weights, that of any split."""
        choices = ([split] if split else ["val", "train"]) if data == "weights" else [split or ""]
        paths = [self._directory(step) / DYNAMICS / f"{choice}_{data}.pt" for choice in choices]
        return next((candidate for candidate in paths if candidate.is_file()), paths[0])

    @lru_cache(maxsize=64)  # noqa: B019 - names and headers only
    def files(self, step: int) -> LocalFiles:
        """The files of a step's checkpoint."""
        return LocalFiles(self._directory(step))

    model_files = files

    def inputs(self, step: int, split: str | None, data: Data, site: str) -> tuple[Input, ...]:
        """The file or pickle that holds the tensor, and the step's configuration."""
        directory = self._directory(step)
        in_file = data == "weights" and self._weights(step).get(site) is not None
        path = directory / layout.WEIGHTS if in_file else self._pickle(step, split, data)
        files = (directory / layout.MODEL_CONFIG, path)
        return tuple(Input(file.relative_to(directory).as_posix(), self._content(file).sha256) for file in files)

    def positions(self, step: int, split: str) -> int:  # noqa: ARG002 - the same at each
        """One: Pico 1.0 captured each row at a single position."""
        return 1

    def samples(self, step: int, split: str) -> pandas.DataFrame:
        """The tokens of a step's own batch, at the one position that Pico 1.0 captured; it kept no validation rows."""
        directory = self._directory(step)
        if not (directory / DYNAMICS / f"{split}_activations.pt").is_file():
            raise DataError(f"{directory}: it holds no {split} activations, so it has no {split} samples")
        where = str(directory / DYNAMICS / f"{split}_data")
        shards = sorted(Path(where).glob("*.arrow"))
        if not shards:
            reason = "Pico 1.0 kept no validation rows" if split == "val" else "its batch was not kept"
            raise DataError(f"{where}: there are no rows: {reason}")
        rows = token_rows(_input_ids(shards), where=where)
        # The gradient's pass read each row but its last token; without gradients the whole row was read.
        n_read = rows.ids_NT.shape[1] - (directory / DYNAMICS / f"{split}_gradients.pt").is_file()
        position = _get(self._config, "checkpointing", "learning_dynamics", "sequence_idx")
        position = -1 if position is None else position
        if type(position) is not int or not -n_read <= position < n_read:
            raise DataError(
                f"{self.path / CONFIG}: sequence_idx {position!r} is no position of rows of {n_read} tokens"
            )
        tokenizer = directory / layout.TOKENIZER
        text = read_whole(tokenizer) if tokenizer.is_file() else None
        return samples_table(rows, range(len(rows.ids_NT)), [position % n_read], text, where=str(directory))

    def evaluations(self) -> dict[int, dict[str, float]]:
        """Numbers in ``eval_results/*step_<N>*.json``, by step."""
        results: dict[int, dict[str, float]] = {}
        folder = _get(self._config, "checkpointing", "evaluation", "eval_results_dir") or "eval_results"
        for path in sorted((self.path / Path(str(folder)).name).glob("*.json")):
            match = RESULTS.search(path.stem)
            if match:
                if not _stays(path, self.path):
                    raise DataError(f"{path} leaves {self.path} through a symbolic link: refusing to use it")
                try:
                    results.setdefault(int(match[1]), {}).update(flat_results(read_json(path)))
                except SchemaError as error:
                    raise DataError(f"{path}: {error}") from None
        return results

    def provenance(self, step: int) -> dict[str, str]:
        """The checkpoint's directory."""
        return {"path": str(self._directory(step).resolve())}


def captured_sites(config: Mapping[str, Any], n_layers: int, *, where: str) -> tuple[str, ...]:
    """Sites of the layer suffixes in a training configuration; suffixes that are no site of ours are left out.

    Raises:
        DataError: they are no list of names.
    """
    suffixes = _get(config, "checkpointing", "learning_dynamics", "layer_suffixes") or _SUFFIXES
    if not isinstance(suffixes, list | tuple) or not all(isinstance(suffix, str) for suffix in suffixes):
        raise DataError(f"{where}: layer_suffixes is not a list of names: {str(suffixes)[:100]!r}")
    names = [f"layers.{layer}.{suffix}" for layer in range(n_layers) for suffix in suffixes]
    return tuple(site for name in names for site, _ in PICO.sites_of(name))


def _stays(path: Path, root: Path) -> bool:
    """Whether what a path names lies under `root`, links followed."""
    try:
        return path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # links that lead round in a circle
        return False


def _input_ids(shards: Sequence[Path]) -> pyarrow.ChunkedArray:
    """The token ids in the Arrow files of a batch.

    Raises:
        DataError: one is not an Arrow stream with such a column, or is too large.
    """
    import pyarrow as pa

    columns = []
    for shard in shards:
        try:
            if shard.stat().st_size > MAX_FILE:
                raise DataError(f"{shard}: more than the {MAX_FILE} bytes that make sense")
            with pa.memory_map(str(shard)) as source:
                table = pa.ipc.open_stream(source).read_all().select(["input_ids"])
                table.validate(full=True)
                columns += table["input_ids"].chunks
        except (OSError, pa.ArrowException, KeyError):
            raise DataError(f"{shard}: not a file of token rows: it is damaged") from None
    if not columns:
        raise DataError(f"{shards[0]}: it holds no rows: it is damaged")
    return pa.chunked_array(columns)


def training_config(path: Path) -> dict[str, Any]:
    """The training configuration, or nothing where there is none.

    Raises:
        DataError: it is not YAML, or not a mapping.
    """
    from pico_schema import YamlError, yaml_text

    if not path.is_file():
        return {}
    if not _stays(path, path.parent):
        raise DataError(f"{path} leaves the run through a symbolic link: refusing to use it")
    try:
        raw = yaml_text.read(path).value
    except YamlError as error:
        raise DataError(f"{error}: the file is damaged") from None
    if not isinstance(raw, dict):
        raise DataError(f"{path}: not a readable YAML mapping: the file is damaged")
    return raw


def _get(config: Mapping[str, Any], *keys: str) -> Any:
    value: Any = config
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
