"""The geometry of other makers' decoders, from their `config.json`.

What a geometry can be is the contract's business (`pico_schema.ForeignSpec`); what each architecture calls the numbers
is in `architectures.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pico_analyze.errors import DataError
from pico_schema import ForeignSpec

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
    if isinstance(kind := config.get("model_type"), str):
        values["model_type"] = kind[:100]
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
