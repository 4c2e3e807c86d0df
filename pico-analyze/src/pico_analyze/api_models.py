"""What Python programs call to have models run: `capture`, `behave` and `convert`, as functions that print nothing.

The words are those of the command line. Those that run models need the extra ``pico-analyze[torch]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pico_analyze.engine.tasks import Shard
from pico_analyze.errors import UsageError
from pico_analyze.questions.builder import Chosen, Words
from pico_analyze.stores.opening import ReadOptions
from pico_analyze.stores.run_names import open_named

if TYPE_CHECKING:
    import pandas

    from pico_analyze.parameters import ParamValue
    from pico_analyze.stores.base import Store


def capture(
    run: str | Path,
    *,
    out: str | Path | None = None,
    data: Words | None = None,
    sites: Words | None = None,
    steps: Chosen = "all",
    rows: int | None = None,
    seq_len: int | None = None,
    positions: int | str = 8,
    gradients: bool = False,
    weights: bool = False,
    device: str = "auto",
    dtype: str = "float32",
    batch_size: int = 8,
    jobs: int = 1,
    trust_remote_code: bool = False,
    offline: bool = False,
    cache_dir: str | Path | None = None,
    prefix: str | None = None,
    architecture: str | None = None,
    step_pattern: str | None = None,
    allow_pickle: bool = False,
    base_model: str | Path | None = None,
) -> Store:
    """Run the models of a run on the same rows, and keep activations and gradients as a run of Pico.

    Needs the extra ``pico-analyze[torch]``. What is sealed in `out` stays, and the same call goes on from there.

    Args:
        run: A run of Pico, or models of other makers: a name under ./runs, a path, or an ``hf://`` address.
        out: Directory of the run that is made; ``runs/<run>-capture`` without.
        data: Files of text or of token ids, or one run of Pico, whose validation rows are taken; without, the run's own
            validation rows, or text of Python's library. Text is tokenized with the first model's own tokenizer.
        sites: Site kinds (attn.v) or names (layers.3.attn.v); attn.v, attn.o and mlp.down without.
        steps: Steps, as numbers or as a selection.
        rows: Rows to take, evenly spaced; without, 32 of text, and all that are given as ids.
        seq_len: Tokens that are read of a row cut from text: 128, or as many as the model reads, unless told otherwise.
        positions: Positions kept in each row: last, all, or so many, evenly spaced.
        gradients: Also gradients: of the mean token loss over all rows.
        weights: Also the weights, linked or copied, for circuits of activations.
        device: auto, cpu, cuda, cuda:1, mps.
        dtype: What models compute in, and activations are stored in: float32, bfloat16, float16.
        batch_size: Rows of a forward pass.
        jobs: Processes, each with a model in memory.
        trust_remote_code: Run the code that lies beside a model's weights.
        offline: Read runs on the Hub from the local cache only.
        cache_dir: Where remote files are cached.
        prefix: What the names of the wanted tensors begin with, in a model that holds several towers.
        architecture: Whose names and layout a model of other makers has, in place of what its configuration says.
        step_pattern: Regular expression by which the names of other makers' checkpoints tell their steps.
        allow_pickle: Whether pickled weights (``pytorch_model.bin``, ``.pt``, ``.pth``, ``.ckpt``) are opened, in a
            process with limits that takes tensors out of them and nothing else.
        base_model: What adapters of PEFT are merged with: path or address, in place of what they name.

    Returns:
        The run that was made: activations of split ``val``, for every other function here.

    Raises:
        UsageError: something asked for does not exist or does not fit, or `out` holds the answer to something else.
        DataError: a model is damaged, cannot be loaded, or gives what is not finite.
        StorageError: disk or network.
        WorkerError: processes were killed; what is sealed is kept.
        PluginError: torch or transformers is not installed.

    Example:
        >>> import pico_analyze
        >>> run = pico_analyze.capture("models", data="rows.jsonl", sites="attn.v", positions=2, out="captured")
        >>> run.read(0, "val", "activations", "layers.0.attn.v").shape
        (6, 12)
    """
    from pico_analyze.models.capture import capture_models
    from pico_analyze.models.settings import settings_of

    settings = settings_of(
        run,
        out=out,
        data=data,
        sites=sites,
        steps=steps,
        rows=rows,
        seq_len=seq_len,
        positions=positions,
        gradients=gradients,
        weights=weights,
        device=device,
        dtype=dtype,
        batch_size=batch_size,
        jobs=jobs,
        trust_remote_code=trust_remote_code,
        read=ReadOptions.of(offline, cache_dir, prefix, architecture, step_pattern, allow_pickle, base_model),
    )
    capture_models(str(run), settings)
    return open_named(settings.out)


def behave(
    run: str | Path,
    *,
    probes: Words | None = None,
    probe_params: Mapping[str, ParamValue] | None = None,
    out: str | Path | None = None,
    data: Words | None = None,
    steps: Chosen = "all",
    rows: int | None = None,
    seq_len: int | None = None,
    continuation: int | None = None,
    target: str | int | None = None,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "float32",
    batch_size: int = 8,
    jobs: int = 1,
    shard: str | None = None,
    budget: float | None = None,
    trust_remote_code: bool = False,
    fresh: bool = False,
    offline: bool = False,
    cache_dir: str | Path | None = None,
    prefix: str | None = None,
    architecture: str | None = None,
    step_pattern: str | None = None,
    allow_pickle: bool = False,
    base_model: str | Path | None = None,
) -> pandas.DataFrame:
    """Measure what the models of a run do: induction, attention, losses of tokens, logit lens, distance of outputs.

    Needs the extra ``pico-analyze[torch]``. Each model is loaded once and reads the same rows.

    Args:
        run: A run of Pico, or models of other makers: a name under ./runs, a path, or an ``hf://`` address.
        probes: Probes, of those that ``pico-analyze probes`` lists; without, all but ``curvature`` and ``llc``, which
            need the extra ``pico-analyze[curvature]``.
        probe_params: Their parameters, by name, or by ``PROBE.name`` for one of several.
        out: Directory in which the run gets its own table, with arrays beside it; what is there already is not computed
            again. Without it everything is computed, and nothing is kept.
        data: Files of text or of token ids, or one run of Pico, whose validation rows are taken; without, the run's own
            validation rows, or text of Python's library.
        steps: Steps, as numbers or as a selection.
        rows: Rows to take, evenly spaced; without, 32 of text, and all that are given as ids.
        seq_len: Tokens that are read of a row cut from text: 512, or as many as the model reads, unless told otherwise.
        continuation: Tokens of prompt, and of continuation, for memorisation; 32, or half a row, without.
        target: What outputs are compared with: last (also without), first, a step, or a run (its same step).
        seed: Seed of the random tokens of induction.
        device: auto, cpu, cuda, cuda:1, mps.
        dtype: What models compute in: float32, bfloat16, float16.
        batch_size: Rows of a forward pass.
        jobs: Processes, each with a model in memory.
        trust_remote_code: Run the code that lies beside a model's weights.
        shard: Only the I-th of N shares of the steps, written ``I/N``, for which `out` is needed; the same call without
            it brings all together.
        budget: Minutes that ``curvature`` and ``llc`` may take, as measured on one batch; any number without.
        fresh: Compute again what is already there.
        offline: Read runs on the Hub from the local cache only.
        cache_dir: Where remote files are cached.
        prefix: What the names of the wanted tensors begin with, in a model that holds several towers.
        architecture: Whose names and layout a model of other makers has, in place of what its configuration says.
        step_pattern: Regular expression by which the names of other makers' checkpoints tell their steps.
        allow_pickle: Whether pickled weights are opened, in a process with limits that takes tensors out of them and
            nothing else.
        base_model: What adapters of PEFT are merged with: path or address, in place of what they name.

    Returns:
        The rows, with the columns that `compute` gives: `data` is behaviour, `component` probe, `site` the probe's
        name. A value that does not exist is NaN, with the reason beside it.

    Raises:
        UsageError: something asked for does not exist or does not fit.
        DataError: a model is damaged, cannot be loaded, or says what is not finite.
        StorageError: disk or network.
        WorkerError: processes were killed; what is done is kept.
        PluginError: torch or transformers is not installed.

    Example:
        >>> import pico_analyze
        >>> frame = pico_analyze.behave("models", probes="attention", data="rows.jsonl")
        >>> sorted(frame["metric"].unique())
        ['attention_distance', 'attention_entropy', 'previous_token', 'sink_mass']
    """
    from tempfile import TemporaryDirectory

    from pico_analyze.models.behave import behave_models
    from pico_analyze.models.behave_settings import behave_settings

    if shard is not None and out is None:
        raise UsageError("a shard without a directory for its rows is lost work: give one (out)")
    with TemporaryDirectory(prefix="pico-behave-") as nowhere:
        how = behave_settings(
            out=nowhere if out is None else out,
            probes=probes,
            probe_params=probe_params or {},
            shard=None if shard is None else Shard.parse(shard),
            yes=budget is None,
            budget=budget,
            data=data,
            steps=steps,
            target=target,
            dtype=dtype,
            rows=rows,
            seq_len=seq_len,
            continuation=continuation,
            seed=seed,
            device=device,
            batch_size=batch_size,
            jobs=jobs,
            trust_remote_code=trust_remote_code,
            fresh=fresh,
            read=ReadOptions.of(offline, cache_dir, prefix, architecture, step_pattern, allow_pickle, base_model),
        )
        return behave_models(str(run), how).frame


def convert(
    run: str | Path,
    *,
    out: str | Path | None = None,
    steps: Chosen = "all",
    copy: bool = False,
    offline: bool = False,
    cache_dir: str | Path | None = None,
    prefix: str | None = None,
    architecture: str | None = None,
    step_pattern: str | None = None,
    allow_pickle: bool = False,
    base_model: str | Path | None = None,
) -> Store:
    """Seal the weights of models of other makers as a run of Pico.

    Tensors keep their names, types and bytes, so that transformers loads each checkpoint as it did the model; the
    manifest says in which of them, or in which rows of them, each site is. What is sealed in `out` stays, and the same
    call goes on from there.

    Args:
        run: Models of other makers, or a run of Pico: a name under ./runs, a path, or an ``hf://`` address.
        out: Directory of the run that is made; ``runs/<run>-convert`` without.
        steps: Steps, as numbers or as a selection.
        copy: Copy files of weights, where they could be linked.
        offline: Read runs on the Hub from the local cache only.
        cache_dir: Where remote files are cached.
        prefix: What the names of the wanted tensors begin with, in a model that holds several towers.
        architecture: Whose names and layout a model of other makers has, in place of what its configuration says.
        step_pattern: Regular expression by which the names of other makers' checkpoints tell their steps.
        allow_pickle: Whether pickled weights (``pytorch_model.bin``, ``.pt``, ``.pth``, ``.ckpt``) are opened, in a
            process with limits that takes tensors out of them and nothing else.
        base_model: What adapters of PEFT are merged with: path or address, in place of what they name.

    Returns:
        The run that was made.

    Raises:
        UsageError: a step that does not exist, or `out` holds something else.
        DataError: a model is damaged, or of an architecture that is not known.
        StorageError: disk or network.

    Example:
        >>> import pico_analyze
        >>> run = pico_analyze.convert("models", out="converted")
        >>> run.kind, [info.step for info in run.steps()]
        ('pico', [0, 1])
    """
    from pico_analyze.models.convert import convert_models
    from pico_analyze.models.settings import made_directory, selection

    target = made_directory(run, "convert") if out is None else Path(out)
    read = ReadOptions.of(offline, cache_dir, prefix, architecture, step_pattern, allow_pickle, base_model)
    convert_models(str(run), target, steps=selection(steps), copy=copy, read=read)
    return open_named(target)
