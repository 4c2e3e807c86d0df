"""A checkpoint's files → a model of transformers, in memory for as long as it is used.

transformers is shown a directory of its own, with the files that were compared with their digests and no others: no
pickle, no adapter, and no code unless that is trusted. A model whose weights are not all in the files is refused, for
the rest would be random numbers.
"""

from __future__ import annotations

import gc
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from filelock import FileLock, Timeout
from torch import nn

from pico_analyze.errors import DataError, UsageError
from pico_analyze.stores.json_file import read_json
from pico_analyze.stores.transformers.files import ModelFiles
from pico_analyze.stores.transformers.weight_files import INDEX, fault, weight_files
from pico_schema import layout, strict_json

TEMPORARY = ".tmp-model-"
"""How the directory that transformers is shown is called."""
LOCK = ".lock"
"""A file in it that is locked for as long as it is needed."""
_YOUNG = 1.0
"""Seconds within which one that is made is locked."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def chosen_device(name: str) -> str:
    """The device of a name: ``auto`` is the accelerator that is there, or the CPU.

    Raises:
        UsageError: torch knows no such device, or it is not there.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(f"device {name!r} cannot be used ({(str(error).splitlines() or [''])[0][:150]})") from None
    return name


def read_names(files: ModelFiles, *, trust_remote_code: bool) -> list[str]:
    """The files that a model is loaded from, its configuration first.

    Raises:
        DataError: there are no weights, or not as transformers looks for them.
    """
    if (reason := fault(files)) is not None:
        raise DataError(f"{files.where}: {reason}")
    weights = weight_files(files)
    index = [INDEX] if INDEX in files.sizes and weights != [layout.WEIGHTS] else []
    if not index and weights != [layout.WEIGHTS]:
        raise DataError(
            f"{files.where}: its weights are in {', '.join(weights[:3])}, and transformers loads {layout.WEIGHTS} or "
            f"what {INDEX} names: its weights can be measured, and it cannot be run"
        )
    code = [name for name in files.sizes if name.endswith(".py") and "/" not in name] if trust_remote_code else []
    return [layout.MODEL_CONFIG, *index, *weights, *code]


@contextmanager
def loaded(
    files: ModelFiles, *, device: str, dtype: str, trust_remote_code: bool, room: Path, eager: bool = False
) -> Iterator[tuple[nn.Module, dict[str, str]]]:
    """The model of a checkpoint, in evaluation mode, and the digests of the files that it was loaded from; what it
    takes is given back when the block ends.

    Args:
        files: The checkpoint's files.
        device: Where it is to be, as torch calls it.
        dtype: A key of `DTYPES`: what it computes in.
        trust_remote_code: Whether code that lies beside the weights may be run.
        room: Directory in which files of the Hub lie meanwhile.
        eager: Whether attention is computed step by step, so that its weights can be read.

    Raises:
        DataError: transformers does not load it, or does not find all of its weights; its configuration has a number
            that is not finite.
        UsageError: it needs code of its own, and that is not trusted.
    """
    names = read_names(files, trust_remote_code=trust_remote_code)
    with tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=room) as directory, FileLock(Path(directory, LOCK)):
        files.place(layout.MODEL_CONFIG, Path(directory, layout.MODEL_CONFIG))
        config = read_json(Path(directory, layout.MODEL_CONFIG))  # before the weights are fetched
        if (place := strict_json.not_finite(config, unbounded=layout.MODEL_CONFIG_UNBOUNDED)) is not None:
            raise DataError(f"{files.where}: {layout.MODEL_CONFIG}: {place} is not finite: it is damaged")
        for name in names[1:]:
            files.place(name, Path(directory, name))
        model = _from_pretrained(Path(directory), files, dtype=dtype, trust_remote_code=trust_remote_code, eager=eager)
        for name in names:
            files.check(name)
        digests = {name: files.sha256(name) for name in names}
        try:
            yield model.to(device).eval(), digests
        finally:
            del model
            gc.collect()
            if device.startswith("cuda"):
                torch.cuda.empty_cache()


def sweep(room: Path) -> None:
    """Remove what processes that were killed have left of `loaded`; other commands' may be there, and stay."""
    for place in room.glob(f"{TEMPORARY}*"):
        try:
            if time.time() - place.stat().st_mtime < _YOUNG:
                continue
            with FileLock(place / LOCK, timeout=0):
                shutil.rmtree(place, ignore_errors=True)
        except (OSError, Timeout):
            continue


def _from_pretrained(directory: Path, files: ModelFiles, *, dtype: str, trust_remote_code: bool, eager: bool) -> Any:
    plain: Any = transformers.PreTrainedModel
    if trust_remote_code and not hasattr(plain, "all_tied_weights_keys"):
        plain.all_tied_weights_keys = {}  # code from before transformers 5, as Pico 1.0's, does not call `post_init`
    with _quiet():
        try:
            load: Any = transformers.AutoModelForCausalLM.from_pretrained
            model, about = load(
                directory,
                dtype=DTYPES[dtype],
                trust_remote_code=trust_remote_code,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
                **({"attn_implementation": "eager"} if eager else {}),
            )
        except Exception as error:
            said = " ".join(str(error).replace(str(directory), files.where).split()) or type(error).__name__
            if not trust_remote_code and "trust_remote_code" in said:
                raise UsageError(
                    f"{files.where}: the model runs code of its own, which is not run unless you trust it: read it, "
                    "then give --trust-remote-code"
                ) from None
            raise DataError(
                f"{files.where}: transformers {transformers.__version__} does not load it ({said[:300]})"
            ) from None
    lost = sorted(map(str, about.get("missing_keys", ())))
    other = sorted(str(one[0] if isinstance(one, tuple) else one) for one in about.get("mismatched_keys", ()))
    if lost or other:
        named = ", ".join((lost or other)[:3])
        why = "are not in its files" if lost else "have other shapes than its configuration says"
        raise DataError(f"{files.where}: weights of the model {why} ({named}): it would compute with random numbers")
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' own progress bars and hints."""
    log: Any = transformers.logging
    bars: Any = transformers.utils.logging
    before, shown = log.get_verbosity(), bars.is_progress_bar_enabled()
    log.set_verbosity_error()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(before)
        if shown:
            bars.enable_progress_bar()


def versions() -> dict[str, str]:
    """What computed: the versions of torch and transformers."""
    plain = re.match(r"[0-9.]+", torch.__version__)
    return {"torch": torch.__version__ if plain is None else plain[0], "transformers": transformers.__version__}
