"""The geometry of other makers' decoders, from their `config.json`.

A `ModelSpec` describes Pico's own decoder, whose heads are d_model / n_heads wide and whose rotary embedding needs
pairs. Others' heads have a width of their own (Qwen3, Gemma), or an odd one (GPT-2 has no rotary embedding), values
narrower than queries (DeepSeek), a narrower embedding (OPT-350m), or experts: a `ForeignSpec` allows that, and answers
the same questions. What each architecture calls the numbers is in `architectures.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from pico_analyze.errors import DataError
from pico_schema import ModelSpec
from pico_schema.architecture import Dimension

USUAL_FIELDS: dict[str, tuple[str, ...]] = {
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
"""What most configurations call the fields."""


class ForeignSpec(ModelSpec):
    """The geometry of a decoder of other makers.

    Raises a validation error, naming the numbers, for a geometry that cannot exist.
    """

    own_head_dim: Dimension | None = None
    """Width of one attention head, where it is not d_model / n_heads."""
    value_head_dim: Dimension | None = None
    """Width of one head's value, where it is not that of its query."""
    embed_dim: Dimension | None = None
    """Width of embedding and head, where it is not d_model."""
    n_experts: Annotated[int, Field(gt=0, le=4096)] | None = None
    """Experts of a block that has any."""
    d_expert: Dimension | None = None
    """Width inside one expert."""
    d_shared: Dimension | None = None
    """Width inside the expert that every token goes through."""

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

    def weight_shape(self, kind: str) -> tuple[int, ...]:
        """Shape of the weight at a site of this kind, experts' matrices included.

        Raises:
            SiteError: not a kind, or one without a weight.
        """
        if kind == "attn.o" and self.value_head_dim is not None:
            return (self.d_model, self.n_heads * self.value_head_dim)
        if kind in ("embed", "head") and self.embed_dim is not None:
            return (self.vocab_size, self.embed_dim)
        if kind.startswith(("mlp.experts.", "mlp.shared.")):
            width = (self.d_expert if kind.startswith("mlp.experts.") else self.d_shared) or self.d_ff
            return (self.d_model, width) if kind.endswith(".down") else (width, self.d_model)
        return super().weight_shape(kind)


def unknown_spec(n_layers: int) -> ForeignSpec:
    """What stands for the geometry of an architecture that is not known: how many layers there are, and no more."""
    return ForeignSpec.model_construct(n_layers=n_layers)


def foreign_spec(
    config: Mapping[str, Any],
    *,
    fields: Mapping[str, tuple[str, ...]] = USUAL_FIELDS,
    defaults: Mapping[str, Any] | None = None,
    where: str,
) -> ForeignSpec:
    """The geometry that a foreign `config.json` describes.

    Args:
        config: Its content.
        fields: What it calls the fields; the first name that it has counts.
        defaults: What holds where it does not say.
        where: The file, for messages.

    Raises:
        DataError: a number is missing or no number, or the geometry cannot exist.
    """
    values = dict(defaults or {})
    for field, names in fields.items():
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
        named = " or ".join(fields.get(field, ())) or field
        why = str(first["msg"]).removeprefix("Value error, ")[:300]
        raise DataError(f"{where}: not the description of a decoder ({named}: {why})") from None
