"""A decoder from whatever names a checkpoint."""

from __future__ import annotations

from pathlib import Path

from pico_train.addresses import checkpoint_directory
from pico_train.model.decoder import Decoder
from pico_train.model.sampling import read_decoder


def load_decoder(place: str | Path) -> Decoder:
    """The model of a checkpoint, on the CPU, in float32, ready to be evaluated.

    Args:
        place: A run, which means its last checkpoint (``m1``, a name under ./runs; ``runs/m1``), or one checkpoint:
            ``m1@128``, ``m1@first``, ``m1@last``, the directory of a checkpoint or of another Llama-style model, or on
            the Hub ``hf://org/name@branch``, ``hf://org/name@branch:step-128``.

    Returns:
        The decoder: called with token ids, (B, T) int64, it returns logits, (B, T, vocab_size).

    Raises:
        CheckpointError: there is no such run, and the message names the nearest; or a file is damaged, is not what the
            manifest says was sealed, or does not hold this model's weights, all of them finite.
        SchemaError: the manifest is damaged.
        UsageError: the run has no such step; the message lists those there are.
        StorageError: the Hub cannot be reached.

    Example:
        >>> import torch
        >>> decoder = load_decoder("runs/demo@last")
        >>> logits = decoder(torch.tensor([[1, 2, 3]]))
    """
    return read_decoder(checkpoint_directory(place))
