"""Which pickled files of a checkpoint are a model's weights, by their names; what opens them is `stores.pickled`."""

from __future__ import annotations

import re
from collections.abc import Iterable

PICKLED = (".bin", ".pt", ".pth", ".ckpt")
PICKLED_WEIGHTS = "pytorch_model.bin"
PICKLED_INDEX = "pytorch_model.bin.index.json"
ALLOW = (
    "if you trust its makers, give --allow-pickle (allow_pickle=True), and a process with limits takes the tensors out "
    "of it and nothing else; or convert it to safetensors"
)
COPY = "copy the folder to a disk and give --allow-pickle, or convert it to safetensors"
_NO_WEIGHTS = re.compile(
    r"(?:optimizer|scheduler|scaler|training_args|rng_state|random_states|sampler|lr_scheduler|tokenizer|"
    r".*optim_states|adapter_model|ema)(?:[-_.].*)?\.(?:bin|pt|pth|ckpt)"
)
"""What trainers leave beside weights: states, and adapters."""


def is_pickle(name: str) -> bool:
    """Whether a file is a pickle, by its name."""
    return name.endswith(PICKLED)


def pickled_weights(names: Iterable[str]) -> list[str]:
    """The pickled files that may hold a model's weights: the one that transformers would choose, or all there are."""
    there = sorted(name for name in names if is_pickle(name) and "/" not in name and not _NO_WEIGHTS.fullmatch(name))
    return [PICKLED_WEIGHTS] if PICKLED_WEIGHTS in there else there
