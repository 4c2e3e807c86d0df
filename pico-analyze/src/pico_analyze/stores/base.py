"""The seam between analysis and storage: what a run of any kind must answer.

A store says which steps are there, what each holds, and reads one tensor at a time; it converts foreign names to
sites and foreign orientations to ours (activations (n_samples, n_features); weights and gradients (out, in)). It never
computes and never prints. How a kind of run is found is in `spec.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    import pandas

    from pico_analyze.stores.samples import TokenRows
    from pico_analyze.stores.set_aside import SetAside
    from pico_schema import CheckpointManifest, Membership, ModelSpec, Parent, RunManifest

Data = Literal["weights", "activations", "gradients", "noise"]
DATA: tuple[Data, ...] = ("weights", "activations", "gradients", "noise")
ALL_DATA: frozenset[Data] = frozenset({"weights", "activations", "gradients"})
"""What most metrics and components are defined for: everything but noise, which are norms of gradients of parts of a
batch (`pico_schema.layout.noise_tensor`), and no matrix of the model's."""


@dataclass(frozen=True)
class SplitInfo:
    """What one checkpoint holds of one split."""

    activations: tuple[str, ...] = ()
    """Sites whose activation is there."""
    gradients: tuple[str, ...] = ()
    """Sites whose weight's gradient is there."""
    n_samples: int | None = None
    """Rows of each activation matrix, where that is known without reading one."""
    samples_sha256: str | None = None
    """Digest of the samples; equal means the same samples in the same order. None: the store cannot tell."""
    noise: tuple[str, ...] = ()
    """Sites, blocks (``layers.3.block``) and the ``model``, of whose gradient the noise is there."""


@dataclass(frozen=True)
class StepInfo:
    """One complete checkpoint."""

    step: int
    """Updates done."""
    digest: str
    """Identity of the content: the sha256 of the manifest, or what stands for it. Rows are computed again when it
    changes."""
    tokens_seen: int | None = None
    """Tokens consumed before it."""
    size: int | None = None
    """Bytes of all its files."""
    weights: tuple[str, ...] = ()
    """Sites whose weight is there."""
    splits: Mapping[str, SplitInfo] = field(default_factory=dict)
    """What was captured, by split."""
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    """Scalars known at this step: train_loss, val_loss and the like."""
    sealed: bool = True
    """Whether `digest` vouches for every byte, as that of a manifest does which lists the digests of files. If not (it
    was made of names, sizes and times), the store's `inputs` are asked for before anything is computed, and it is their
    digests that rows depend on."""

    def sites(self, data: Data, split: str | None) -> tuple[str, ...]:
        """Sites of which this kind of data is there, in the order of computation; `split` is ignored for weights."""
        if data == "weights":
            return self.weights
        info = self.splits.get(split or "")
        if info is None:
            return ()
        return {"activations": info.activations, "gradients": info.gradients}.get(data, info.noise)

    def _repr_html_(self) -> str:
        """For notebooks: what it holds, and how many sites of each."""
        held = {"weights": self.weights}
        for split, one in self.splits.items():
            held |= {f"{split} activations": one.activations, f"{split} gradients": one.gradients}
        facts = [f"{name} {value:.4f}" for name, value in self.metrics.items() if value is not None]
        facts += [f"{name} of {len(sites)} sites" for name, sites in held.items() if sites]
        tokens = "" if self.tokens_seen is None else f" ({self.tokens_seen:,} tokens)"
        lines = "".join(f"<li>{escape(fact)}</li>" for fact in facts)
        return f"<b>step {self.step:,}</b>{tokens}<ul>{lines}</ul>"


@dataclass(frozen=True)
class Input:
    """A file whose bytes enter the values of a tensor."""

    file: str
    """Its name, relative to the checkpoint or the model's directory."""
    sha256: str
    """Digest of its content. What `Store.read` gave was compared with it, but for `unchecked`."""
    unchecked: Mapping[str, str] = field(default_factory=dict)
    """Ranges that were read before the whole file was at hand, so that they could not be compared yet:
    ``offset+length`` → sha256 of the bytes that were used. It stands in the provenance of rows."""
    of: str = ""
    """What of it was read, where the file and the site do not say it: the tensor, and how it was cut."""


@dataclass(frozen=True)
class WithoutSite:
    """What a model holds beside its sites, so that none of its matrices is left out in silence."""

    matrices: tuple[str, ...] = ()
    """Tensors of two and more dimensions that are at no site: embeddings of positions, routers, other parts."""
    quantized: tuple[str, ...] = ()
    """Matrices that are stored as packed or scaled integers: there are no numbers of theirs to be read."""
    method: str | None = None
    """How they were quantized, as far as the configuration says: gptq, awq, bitsandbytes."""
    others: tuple[str, ...] = ()
    """Biases, norms and buffers."""
    missing: tuple[str, ...] = ()
    """Sites that the architecture has, and of which there is no tensor."""
    unknown: str | None = None
    """Why no tensor is at a site, where the architecture is not known."""


@dataclass(frozen=True)
class Unusable:
    """Something that looks like a checkpoint and is not a complete one."""

    name: str
    """Its directory or revision."""
    step: int | None
    """Its step, as far as the name tells."""
    reason: str
    """What is missing or wrong, in a few words."""


@runtime_checkable
class Store(Protocol):
    """One run, readable.

    `location` opens the same run again in another process; `run` is the name that stands in the table's rows.
    Methods raise `DataError` for what is missing or damaged and `StorageError` for disk and network.

    Every byte that enters a value is to be checked: `read` compares files with the digests that are known of them
    (`stores.checked_file` does so, once per content) and raises where they differ. A store says what it read by a
    method of its own, which is not part of what every store must answer; of one without it, rows say that nothing was
    checked::

        def inputs(self, step: int, split: str | None, data: Data, site: str) -> tuple[Input, ...]: ...

    It gives the files that the tensor is read from, with their digests; asked before `read` where a `StepInfo` is not
    `sealed`, and after it for the row's provenance. One that reads remote files in part has `confirms` too, see
    `Confirms`.
    """

    kind: str
    """The name of its `StoreSpec`; it stands in the provenance of rows."""
    run: str
    """Name of the run."""
    location: str
    """Path or address that opens this run."""

    def steps(self) -> tuple[StepInfo, ...]:
        """The complete checkpoints, by ascending step. Cheap after the first call; reads no tensor."""
        ...

    def unusable(self) -> tuple[Unusable, ...]:
        """What looks like a checkpoint and is not a complete one."""
        ...

    def spec(self, step: int) -> ModelSpec:
        """The model's geometry at a step."""
        ...

    def read(self, step: int, split: str | None, data: Data, site: str) -> np.ndarray:
        """One tensor, float32 (float64 where it is stored so): activations (n_samples, n_features), weights and
        gradients (out, in), as (vocab, d_model) for `embed`, noise (n_parts + 1, 3). `split` is ignored for weights.
        What is stored in a coarser type is marked with it (`pico_analyze.stored.marked`), so that its rounding is told
        from directions."""
        ...

    def samples(self, step: int, split: str) -> pandas.DataFrame:
        """The tokens that the activations of a step and split belong to: a line for each row of each activation matrix,
        in that order.

        Returns:
            `row`, `position`, `token_id`, `token` (the text of that one token; missing without a tokenizer), `source`.

        Raises:
            DataError: nothing was captured of the split, or its rows are not stored.
        """
        ...

    def evaluations(self) -> Mapping[int, Mapping[str, float]]:
        """Results of evaluation by step: flat names such as ``val_loss`` or ``paloma.perplexity``."""
        ...

    def provenance(self, step: int) -> Mapping[str, str]:
        """Where the numbers of a step come from: run id, manifest digest, resolved commit, as far as there are any."""
        ...


@runtime_checkable
class NamesInputs(Protocol):
    """A store that says which files it reads."""

    def inputs(self, step: int, split: str | None, data: Data, site: str) -> tuple[Input, ...] | None:
        """The files that a tensor is read from, with their digests; None if the store cannot tell after all."""
        ...


@runtime_checkable
class CountsPositions(Protocol):
    """A store that says which samples of a capture are of one row of tokens.

    Samples of one row depend on each other: intervals and chance draw whole rows. Of a store without this, each sample
    is taken for a row of its own, and that is said.
    """

    def positions(self, step: int, split: str) -> int:
        """Positions kept in each row of a capture; samples are ordered by (row, position).

        Raises:
            DataError: nothing was captured of the split.
        """
        ...


@runtime_checkable
class SetsAside(Protocol):
    """A store of runs that keep steps of theirs apart from their history."""

    def set_aside(self) -> tuple[SetAside, ...]:
        """Those steps, with the reasons."""
        ...


@runtime_checkable
class HasLineage(Protocol):
    """A store of runs that say what they are part of and where they come from."""

    def membership(self) -> Membership | None:
        """The suite that the run is of, and its coordinates there."""
        ...

    def parent(self) -> Parent | None:
        """The checkpoint of another run that it was forked from."""
        ...


@runtime_checkable
class HasLog(Protocol):
    """A store of runs that logged their losses while they trained, more often than they kept checkpoints."""

    def logged_losses(self) -> Mapping[int, float]:
        """Training loss by step."""
        ...


@runtime_checkable
class LogsValues(Protocol):
    """A store of runs that logged more than their losses."""

    def logged_values(self) -> Mapping[str, Mapping[int, float]]:
        """What was logged, by name (loss, lr, grad_norm, …) and step."""
        ...


@runtime_checkable
class HasRunManifest(Protocol):
    """A store of runs that say what they are: configuration, data, seed, versions."""

    def run_manifest(self) -> RunManifest:
        """The manifest of the run."""
        ...


@runtime_checkable
class HasManifests(Protocol):
    """A store of checkpoints that Pico sealed."""

    def checkpoint_manifest(self, step: int) -> CheckpointManifest:
        """The manifest of a step."""
        ...


@runtime_checkable
class HasBatches(Protocol):
    """A store of checkpoints that keep the batch which their update was taken on."""

    def batch_rows(self, step: int) -> TokenRows | None:
        """The rows of that batch; None where a checkpoint does not hold it."""
        ...


@runtime_checkable
class HasValidationRows(Protocol):
    """A store of runs that keep the rows which they are validated on."""

    def validation_rows(self) -> TokenRows | None:
        """Those rows; None where a run keeps none."""
        ...


@runtime_checkable
class NamesTensors(Protocol):
    """A store of models that hold more than sites, and whose tensors can be read by their own names."""

    def tensors(self, step: int) -> tuple[str, ...]:
        """The names, as `stores.sites` has them (``tensor:model.norm.weight``), of all whole matrices and vectors."""
        ...

    def without_site(self, step: int) -> WithoutSite:
        """What is at no site."""
        ...


@runtime_checkable
class Confirms(Protocol):
    """A store that can check ranges later which it could not check when it read them."""

    def confirms(self, step: int, file: str, unchecked: Mapping[str, str]) -> bool | None:
        """Whether `Input.unchecked` of a file was right: None while the file is not whole, so that no one can tell."""
        ...


@dataclass(frozen=True)
class ReadOptions:
    """How remote runs are read; picklable, so that workers open a run as their parent did."""

    offline: bool = False
    """Read from the local cache only."""
    cache_dir: Path | None = None
    """Where blocks of remote files are kept; by default under the user's cache directory."""
    cache_gb: float = 20.0
    """Bound of that cache, in GiB."""
    step_pattern: str | None = None
    """Regular expression by which the names of checkpoints of other makers tell their steps, where the known words do
    not."""
    prefix: str | None = None
    """What the names of the wanted tensors begin with, in a model that holds several towers."""
    architecture: str | None = None
    """Whose names and layout a model of other makers has, in place of what its configuration says."""
    allow_pickle: bool = False
    """Whether pickled weights of other makers are opened, in a process with limits that takes tensors alone."""
    base_model: str | None = None
    """The model that adapters are merged with: path or address, in place of what they name."""

    @classmethod
    def of(
        cls,
        offline: bool,
        cache_dir: str | Path | None,
        prefix: str | None,
        architecture: str | None,
        step_pattern: str | None,
        allow_pickle: bool = False,
        base_model: str | Path | None = None,
    ) -> ReadOptions:
        """From the words of a command, in the order in which every command has them."""
        return cls(
            offline,
            None if cache_dir is None else Path(cache_dir),
            prefix=prefix,
            architecture=architecture,
            step_pattern=step_pattern,
            allow_pickle=allow_pickle,
            base_model=None if base_model is None else str(base_model),
        )
