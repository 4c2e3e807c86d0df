"""The geometry of other makers' decoders, from their `config.json`: names of fields, and what a family leaves unsaid.

A `ModelSpec` describes Pico's own decoder, whose heads are d_model / n_heads wide and whose rotary embedding needs
pairs. Others' heads have a width of their own (Qwen3, Gemma), or an odd one (GPT-2 has no rotary embedding): a
`ForeignSpec` allows that, and answers the same questions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import model_validator

from pico_analyze.errors import DataError
from pico_schema import ModelSpec
from pico_schema.architecture import Dimension

_KEYS: dict[str, tuple[str, ...]] = {
    "vocab_size": ("vocab_size",),
    "d_model": ("hidden_size", "n_embd", "d_model"),
    "n_layers": ("num_hidden_layers", "n_layer", "n_layers"),
    "n_heads": ("num_attention_heads", "n_head", "attention_n_heads"),
    "n_kv_heads": ("num_key_value_heads", "attention_n_kv_heads"),
    "d_ff": ("intermediate_size", "n_inner", "activation_hidden_dim"),
    "max_seq_len": ("max_position_embeddings", "n_positions", "max_seq_len"),
    "own_head_dim": ("head_dim",),
    "tie_embeddings": ("tie_word_embeddings",),
}
"""What other configurations call the fields."""

_TIED: dict[str, Any] = {"tie_embeddings": True}
FAMILIES: dict[str, Mapping[str, Any]] = {
    "gpt2": _TIED,
    "gemma": _TIED | {"own_head_dim": 256},
    "gemma2": _TIED | {"own_head_dim": 256},
    "gemma3_text": _TIED | {"own_head_dim": 256},
    "vaultgemma": _TIED | {"own_head_dim": 256},
    "cohere": _TIED,
    "cohere2": _TIED,
    "smollm3": _TIED,
    "starcoder2": _TIED,
    "ernie4_5": _TIED | {"own_head_dim": 128},
    "qwen3": {"own_head_dim": 128},
    "glm": {"own_head_dim": 128},
    "glm4": {"own_head_dim": 128},
    "helium": {"own_head_dim": 128},
    "seed_oss": {"own_head_dim": 128},
}
"""By `model_type`, what holds where a configuration does not say: the defaults of transformers, whose older versions
wrote no values that were defaults. Other families have an own head, and heads of d_model / n_heads."""


class ForeignSpec(ModelSpec):
    """The geometry of a decoder of other makers.

    Raises a validation error, naming the numbers, for a geometry that cannot exist.
    """

    own_head_dim: Dimension | None = None
    """Width of one attention head, where it is not d_model / n_heads."""

    @model_validator(mode="after")
    def _geometry_exists(self) -> Self:
        if self.own_head_dim is None and self.d_model % self.n_heads:
            raise ValueError(
                f"width {self.d_model} is not divisible by {self.n_heads} heads, and no head_dim says how wide they are"
            )
        if self.n_heads % self.n_kv_heads:
            raise ValueError(f"{self.n_heads} heads are not divisible by {self.n_kv_heads} heads of keys and values")
        return self

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.own_head_dim or self.d_model // self.n_heads


def model_spec(config: Mapping[str, Any], *, where: str) -> ForeignSpec:
    """The geometry that a foreign `config.json` describes.

    Raises:
        DataError: a number is missing or no number, or the geometry cannot exist.
    """
    kind = config.get("model_type")
    values = dict(FAMILIES.get(kind, {})) if isinstance(kind, str) else {}
    for field, names in _KEYS.items():
        value = next((config[name] for name in names if config.get(name) is not None), None)
        if value is not None:
            values[field] = value
    values.setdefault("n_kv_heads", values.get("n_heads"))
    if "d_ff" not in values and isinstance(values.get("d_model"), int):
        values["d_ff"] = 4 * values["d_model"]
    try:
        return ForeignSpec.model_validate(values, strict=True)
    except ValueError as error:
        details: list[dict[str, Any]] = getattr(error, "errors", list)()
        first = details[0] if details else {"loc": (), "msg": str(error)}
        field = next(map(str, first["loc"]), "geometry")
        named = " or ".join(_KEYS.get(field, ())) or field
        why = str(first["msg"]).removeprefix("Value error, ")[:300]
        raise DataError(f"{where}: not the description of a decoder ({named}: {why})") from None
