"""The sections `training.optimizer` and `training.scaling`: which rule updates the weights, and what of it follows the
size of the model."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from pico_schema import ModelSpec
from pico_schema.sites import WEIGHTED_KINDS, expand
from pico_train.config.base import PositiveInt, Section

_OWN: dict[str, dict[str, Any]] = {
    "adamw": {},
    "muon": {"momentum": 0.95, "nesterov": True, "adjust_lr": "match_rms_adamw"},
    "sgd": {"momentum": 0.9, "nesterov": False},
    "adafactor": {"beta2_decay": -0.8},
}
"""Settings that an optimizer has for itself, with their defaults: those that are null for the others."""
_OF_SOME = {"momentum", "nesterov", "adjust_lr", "beta2_decay", "rest_lr"}


class OptimizerConfig(Section):
    """AdamW (Loshchilov & Hutter 2019), or another rule."""

    name: Literal["adamw", "muon", "sgd", "adafactor"] = "adamw"
    """adamw; muon (Jordan et al. 2024) for the matrices of the blocks, with adamw for embedding, head and norms; sgd
    with momentum; adafactor (Shazeer & Stern 2018). All are torch's own."""
    lr: Annotated[float, Field(gt=0, le=1e3)] = 3e-4
    """Peak learning rate."""
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Decay of the first moment."""
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.95
    """Decay of the second moment."""
    eps: Annotated[float, Field(ge=1e-30, le=1)] = 1e-8
    """Added to the root of the second moment."""
    weight_decay: Annotated[float, Field(ge=0, le=1e3)] = 0.1
    """Decoupled weight decay."""
    decay: Literal["matrices", "all", "none"] = "matrices"
    """Which parameters decay: matrices (all but the norms' scales), all, or none."""
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    """muon, sgd: decay of the momentum. Default: 0.95 for muon, 0.9 for sgd."""
    nesterov: bool | None = None
    """muon, sgd: look ahead along the momentum. Default: true for muon, false for sgd."""
    adjust_lr: Literal["match_rms_adamw", "original"] | None = None
    """muon: by what an update of a matrix (out, in) is scaled: match_rms_adamw, the default, by 0.2 · √max(out, in), so
    that adamw's learning rates serve (Liu et al. 2025); original by √max(1, out / in)."""
    rest_lr: Annotated[float, Field(gt=0, le=1e3)] | None = None
    """muon: peak learning rate of what adamw updates. Default: lr."""
    beta2_decay: Annotated[float, Field(lt=0, ge=-1)] | None = None
    """adafactor: power of the step by which the second moment's decay nears 1. Default: -0.8."""

    @model_validator(mode="before")
    @classmethod
    def _own_defaults(cls, values: Any) -> Any:
        """Fill in what the optimizer has for itself, so that the resolved configuration says it."""
        if not isinstance(values, dict):
            return values
        own = _OWN.get(str(values.get("name", "adamw")), {})
        return values | {name: default for name, default in own.items() if values.get(name) is None}

    @model_validator(mode="after")
    def _of_this_one(self) -> Self:
        own = {*_OWN[self.name], *(["rest_lr"] if self.name == "muon" else [])}
        for field in sorted(_OF_SOME - own):
            if getattr(self, field) is not None:
                has = " and ".join(name for name in _OWN if field in _OWN[name] or (field, name) == ("rest_lr", "muon"))
                raise ValueError(
                    f"training.optimizer.{field}={getattr(self, field)} is a setting of {has}, and "
                    f"training.optimizer.name is {self.name}: leave it out"
                )
        if self.nesterov and not self.momentum:
            raise ValueError("training.optimizer.nesterov needs a momentum, and training.optimizer.momentum is 0")
        return self

    def n_moments(self, shape: tuple[int, ...], *, in_block: bool) -> int:
        """Numbers that the optimizer keeps for a parameter of this shape, those of `in_block` being the blocks'."""
        size = math.prod(shape)
        if self.name == "adafactor":
            return sum(shape) if len(shape) == 2 else size
        if self.name == "sgd":
            return size if self.momentum else 0
        return size if self.name == "muon" and in_block and len(shape) == 2 else 2 * size

    def n_moments_of(self, spec: ModelSpec) -> int:
        """Numbers that the optimizer keeps for a model."""
        norms = 2 * spec.n_layers * self.n_moments((spec.d_model,), in_block=True)
        sites = [s for s in expand(WEIGHTED_KINDS, spec.n_layers) if not (spec.tie_embeddings and s.kind == "head")]
        return norms + sum(self.n_moments(spec.weight_shape(s.kind), in_block=s.layer is not None) for s in sites)


class ScalingConfig(Section):
    """How settings follow the size of the model: one rule for a family, so that its members differ in size alone."""

    rule: Literal["none", "ladder", "mup"] = "none"
    """ladder: learning rate ∝ N^(−1/3) and batch ∝ N^(2/3), N the parameters of the blocks. mup: initial weights and
    learning rates of each kind of matrix follow the width (μP, Yang et al. 2022), what was tuned at the base serves."""
    base_parameters: PositiveInt | None = None
    """ladder: N of the base, whose settings the next two are."""
    base_lr: Annotated[float, Field(gt=0, le=1e3)] | None = None
    """ladder: peak learning rate of the base; training.optimizer.lr follows from it."""
    base_batch_size: PositiveInt | None = None
    """ladder: rows of a batch of the base; training.batch_size follows from it."""
    batch_multiple: PositiveInt | None = None
    """ladder: what training.batch_size is rounded to a multiple of, so that it divides. Default: 8."""
    base_d_model: PositiveInt | None = None
    """mup: width of the base, at which nothing changes."""
    base_head_dim: PositiveInt | None = None
    """mup: width of one head of the base. Default: that of equally many heads, whose width grows with the model's."""

    @model_validator(mode="before")
    @classmethod
    def _default_multiple(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("rule") == "ladder" and values.get("batch_multiple") is None:
            return values | {"batch_multiple": 8}
        return values

    @model_validator(mode="after")
    def _complete(self) -> Self:
        needed = {"ladder": ("base_parameters", "base_lr", "base_batch_size"), "mup": ("base_d_model",)}
        own = {"ladder": (*needed["ladder"], "batch_multiple"), "mup": ("base_d_model", "base_head_dim"), "none": ()}
        for field in needed.get(self.rule, ()):
            if getattr(self, field) is None:
                raise ValueError(f"training.scaling.rule={self.rule} needs training.scaling.{field}, of the base size")
        for rule, fields in own.items():
            for field in fields:
                if field not in own[self.rule] and getattr(self, field) is not None:
                    raise ValueError(
                        f"training.scaling.{field} is of the rule {rule}, and training.scaling.rule is {self.rule}: "
                        "leave it out"
                    )
        multiple, base = self.batch_multiple or 1, self.base_batch_size or 0
        if base % multiple:
            raise ValueError(
                f"training.scaling.base_batch_size={base} is no multiple of training.scaling.batch_multiple={multiple}"
            )
        return self

    def ladder(self, spec: ModelSpec) -> tuple[float, int]:
        """Peak learning rate and rows of a batch of a model: base_lr · (N/N₀)^(−1/3), base_batch_size · (N/N₀)^(2/3).

        N counts the parameters of the blocks: without embedding, head and final norm (Bi et al. 2024, DeepSeek LLM,
        section 3.1, for the form; the exponents are those of OLMo-core's ladder). The batch is rounded to a multiple of
        `batch_multiple`, and is one at least.
        """
        assert self.base_parameters is not None and self.base_lr is not None and self.base_batch_size is not None
        ratio, multiple = spec.n_layers * spec.n_params_per_layer / self.base_parameters, self.batch_multiple or 1
        rows = max(1, round(self.base_batch_size * ratio ** (2 / 3) / multiple)) * multiple
        return self.base_lr * ratio ** (-1 / 3), rows
