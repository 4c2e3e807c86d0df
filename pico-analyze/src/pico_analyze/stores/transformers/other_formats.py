"""Checkpoints of other formats: what they are called, and the command that makes of them what is read.

They are recognised by the names of files. `OUT` in a command is the user's to choose; paths are quoted for a shell.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Collection
from pathlib import Path

from pico_analyze.stores.transformers.pickled_files import ALLOW, COPY

_OF_DEEPSPEED = re.compile(r"(?:.*_)?mp_rank_[0-9]+_(?:model|optim)_states\.pt")
_THEN = "copy the model's config.json to OUT"


def other_format(names: Collection[str], where: str) -> str | None:
    """What a directory with such files is, and what to do with it, in a sentence; None if it is none of these.

    Args:
        names: Its files.
        where: Its path or address; of an address, commands say DIR.
    """
    here = Path("DIR" if "://" in where else where)
    if "adapter_config.json" in names:
        return (
            "it is an adapter of PEFT, which holds differences to another model's weights: merge them by "
            f"`{_python('peft', 'AutoPeftModelForCausalLM', f'{_text(here)}', '.merge_and_unload()')}`"
        )
    if is_distributed(names):
        what = "it is a distributed checkpoint of torch (DCP), whose index is a pickle, and unpickling can run code"
        return f"{what}: {COPY if '://' in where else ALLOW}"
    if is_of_deepspeed(names):
        return _deepspeed(here if str(here) == "DIR" else here.parent)
    if "zero_to_fp32.py" in names:
        return _deepspeed(here)
    if "lit_model.pth" in names:
        return (
            f"it is a checkpoint of litgpt: convert it by `litgpt convert_from_litgpt {_quoted(here)} OUT`, {_THEN}, "
            "and open OUT with --allow-pickle"
        )
    return None


def is_distributed(names: Collection[str]) -> bool:
    """Whether files are a distributed checkpoint of torch."""
    return ".metadata" in names and any(name.endswith(".distcp") for name in names)


def is_of_deepspeed(names: Collection[str]) -> bool:
    """Whether files are a part of DeepSpeed's checkpoint, whose commands lie beside the directory."""
    return any(_OF_DEEPSPEED.fullmatch(name) for name in names)


def _deepspeed(here: Path) -> str:
    return (
        f"it is a checkpoint of DeepSpeed (ZeRO): convert it by `python {_quoted(here / 'zero_to_fp32.py')} "
        f"{_quoted(here)} OUT --safe_serialization`, and {_THEN}"
    )


def _python(package: str, model: str, opened: str, then: str = "") -> str:
    """The command that opens a model by a library, and saves it as one of transformers."""
    code = f'from {package} import {model}; {model}.from_pretrained({opened}){then}.save_pretrained("OUT")'
    return f"python -c {shlex.quote(code)}"


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _text(path: Path) -> str:
    return json.dumps(str(path))
