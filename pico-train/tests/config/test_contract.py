"""What the configuration takes, a checkpoint can say: its bounds are those of the contract."""

from __future__ import annotations

from typing import Annotated, Any, get_args, get_origin

import annotated_types
import pytest
from pydantic import BaseModel

from pico_schema import ModelSpec
from pico_schema.manifest import CheckpointManifest, DataCursor, DataFingerprint
from pico_train.config.data import DataConfig
from pico_train.config.layers import load_config
from pico_train.config.training import ModelConfig, TrainingConfig
from pico_train.errors import ConfigError

PARTS = ("ge", "gt", "le", "lt")


def bounds(model: type[BaseModel], field: str) -> dict[str, Any]:
    """Smallest and largest value of a field, whole numbers with both ends included."""
    found: dict[str, Any] = {}
    info = model.model_fields[field]
    annotation, constraints = info.annotation, list(info.metadata)
    for part in get_args(annotation):  # of a field that may be unknown: the number that it else is
        if get_origin(part) is Annotated:
            annotation, *fields = get_args(part)
            constraints += [each for known in fields for each in known.metadata]
    for constraint in constraints:
        kinds = (annotated_types.Ge, annotated_types.Gt, annotated_types.Le, annotated_types.Lt)
        if isinstance(constraint, kinds):
            found |= {name: getattr(constraint, name) for name in PARTS if hasattr(constraint, name)}
    if annotation is int:
        found = {
            "ge": found["ge"] if "ge" in found else found["gt"] + 1,
            "le": found["le"] if "le" in found else found["lt"] - 1,
        }
    return found


@pytest.mark.parametrize("field", sorted(set(ModelConfig.model_fields) - {"init"}))  # no size
def test_a_size_has_the_bounds_of_the_contract(field: str) -> None:
    assert bounds(ModelConfig, field) == bounds(ModelSpec, field) != {}


def test_every_number_of_the_contract_s_model_comes_from_the_configuration() -> None:
    others = {"architecture", "max_seq_len", "tie_embeddings"}  # fixed, data.seq_len, fixed
    assert set(ModelSpec.model_fields) - set(ModelConfig.model_fields) == others


@pytest.mark.parametrize(
    ("section", "field", "document", "there"),
    [
        (DataConfig, "seq_len", ModelSpec, "max_seq_len"),
        (DataConfig, "seq_len", DataFingerprint, "seq_len"),
        (ModelConfig, "vocab_size", DataFingerprint, "vocab_size"),
        (TrainingConfig, "max_steps", CheckpointManifest, "step"),
        (TrainingConfig, "batch_size", DataCursor, "batch_size"),
    ],
)
def test_what_else_is_configured_fits_the_contract(
    section: type[BaseModel], field: str, document: type[BaseModel], there: str
) -> None:
    taken, held = bounds(section, field), bounds(document, there)
    assert held["ge"] <= taken["ge"] < taken["le"] <= held["le"]


@pytest.mark.parametrize("value", ["0.5", "0.999", "1e13"])
def test_a_rotary_base_that_no_checkpoint_can_say_is_refused_by_its_setting(value: str) -> None:
    with pytest.raises(ConfigError, match=r"model\.rope_theta"):
        load_config(set=[f"model.rope_theta={value}"])


@pytest.mark.parametrize("field", ["d_model", "n_heads", "n_kv_heads", "d_ff", "vocab_size"])
def test_a_width_beyond_the_contract_is_refused_by_its_setting(field: str) -> None:
    with pytest.raises(ConfigError, match=rf"model\.{field}"):
        load_config(set=[f"model.{field}={2**24 + 1}"])


def test_more_tokens_than_a_manifest_counts_are_refused() -> None:
    most = bounds(CheckpointManifest, "tokens_seen")["le"]
    assert most == 2**62
    rows = 2**22
    length = most // rows // (10**8 - 1)
    sizes = [f"training.batch_size={rows}", "training.max_steps=99999999"]
    assert load_config(set=[*sizes, f"data.seq_len={length}"]).tokens_per_step * 99_999_999 <= most
    with pytest.raises(ConfigError, match="more tokens than can be counted"):
        load_config(set=[*sizes, f"data.seq_len={length + 1}"])
