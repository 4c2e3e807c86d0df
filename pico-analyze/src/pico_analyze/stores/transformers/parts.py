"""Models of several parts: where the configuration describes the decoder, and what it leaves out of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_DECODERS = ("text_config", "language_config", "llm_config")
"""Where the configuration of a model of several parts describes its decoder."""
PART_DEFAULTS: Mapping[str, Mapping[str, int]] = {
    "llama": {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32}
    | {"vocab_size": 32000},
    "mistral": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32}
    | {"num_key_value_heads": 8, "vocab_size": 32000},
    "qwen2": {"hidden_size": 4096, "intermediate_size": 22016, "num_hidden_layers": 32, "num_attention_heads": 32}
    | {"num_key_value_heads": 32, "vocab_size": 151936},
    "gemma": {"hidden_size": 3072, "intermediate_size": 24576, "num_hidden_layers": 28, "num_attention_heads": 16}
    | {"num_key_value_heads": 16, "vocab_size": 256000},
    "gemma2": {"hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26, "num_attention_heads": 8}
    | {"num_key_value_heads": 4, "vocab_size": 256000},
    "gemma3_text": {"hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26, "num_attention_heads": 8}
    | {"num_key_value_heads": 4, "vocab_size": 262208},
}
"""The numbers of a decoder that is a part of a model, where the model's configuration leaves them out: the defaults of
transformers, which writes of a part only what differs from them."""


def decoder_config(config: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
    """The configuration of the decoder of a model, and whether the model has other parts."""
    for name in _DECODERS:
        if isinstance(part := config.get(name), dict):
            tied = {key: config[key] for key in ("tie_word_embeddings",) if key in config}
            kind = part.get("model_type")
            return tied | dict(PART_DEFAULTS.get(kind, {}) if isinstance(kind, str) else {}) | part, True
    return config, False
