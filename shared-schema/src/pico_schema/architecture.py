"""The shape of a decoder: the numbers that fix every tensor of a model, and what follows from them.

A `ModelSpec` describes a Llama-style decoder (RMSNorm, RoPE, grouped-query attention, SwiGLU). It decides sizes only;
how the arithmetic is done is the trainer's business. A `ForeignSpec` describes a decoder of other makers, which is
measured and never trained: documents hold either, and `architecture` says which.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from pico_schema.errors import SchemaError, SiteError
from pico_schema.sites import WEIGHTED_KINDS, WITHOUT_WEIGHT, check_kind

Dimension = Annotated[int, Field(gt=0, le=2**24)]


class ModelSpec(BaseModel):
    """The geometry of one decoder.

    Raises a validation error, naming the numbers and a value that would do, for a geometry that cannot exist.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    architecture: Literal["llama"] = "llama"
    """Family whose parameter names and numerics the checkpoint follows."""
    vocab_size: Dimension
    """Rows of the embedding and of the head; at least the tokenizer's size."""
    d_model: Dimension
    """Width of the residual stream."""
    n_layers: Annotated[int, Field(gt=0, le=4096)]
    """Number of decoder blocks."""
    n_heads: Dimension
    """Number of query heads."""
    n_kv_heads: Dimension
    """Number of key and value heads; each serves n_heads / n_kv_heads query heads."""
    d_ff: Dimension
    """Width inside the SwiGLU feed-forward."""
    max_seq_len: Dimension = 2048
    """Longest sequence the model is trained on, in tokens."""
    rope_theta: Annotated[float, Field(ge=1, le=1e12)] = 10_000.0
    """Base of the rotary position embedding's wavelengths, which grow with it: 1 to 10^12."""
    norm_eps: Annotated[float, Field(ge=1e-30, lt=1)] = 1e-6
    """Epsilon inside the square root of RMSNorm: at least 1e-30, so that float32 holds it, and below 1."""
    tie_embeddings: bool = False
    """Whether the head shares the embedding's matrix."""

    @model_validator(mode="after")
    def _geometry_exists(self) -> Self:
        if self.d_model % self.n_heads:
            pair = 2 * self.n_heads  # two features a head: fewer cannot be rotated
            near = max(pair, round(self.d_model / pair) * pair)
            raise ValueError(
                f"d_model={self.d_model} is not divisible by n_heads={self.n_heads}: "
                f"choose d_model={near} or another number of heads"
            )
        if self.n_heads % self.n_kv_heads:
            fits = _divisors(self.n_heads)
            raise ValueError(
                f"n_heads={self.n_heads} is not divisible by n_kv_heads={self.n_kv_heads}: "
                f"n_kv_heads must be one of {', '.join(map(str, fits))}"
            )
        if self.head_dim % 2:
            raise ValueError(
                f"head_dim = d_model / n_heads = {self.head_dim} is odd: rotary embeddings rotate pairs, "
                f"so d_model={self.d_model} needs another number of heads than n_heads={self.n_heads}"
            )
        return self

    @property
    def head_dim(self) -> int:
        """Width of one attention head, d_model / n_heads."""
        return self.d_model // self.n_heads

    @property
    def q_dim(self) -> int:
        """Width of the queries of one position, n_heads × head_dim: of what the output projection takes."""
        return self.n_heads * self.head_dim

    @property
    def kv_dim(self) -> int:
        """Width of the keys and of the values of one position, n_kv_heads × head_dim."""
        return self.n_kv_heads * self.head_dim

    @property
    def group_size(self) -> int:
        """Query heads that share one key/value head."""
        return self.n_heads // self.n_kv_heads

    def weight_shape(self, kind: str) -> tuple[int, ...]:
        """Shape of the weight (and of its gradient) at a site of this kind: (out, in), (vocab_size, d_model) for
        `embed`, (d_model,) for `norm.final`.

        For whatever makes, expects or counts a site's parameters without a model at hand.

        Raises:
            SiteError: not a site kind, or one that has no weight.
        """
        if check_kind(kind) not in WEIGHTED_KINDS:
            raise SiteError(f"site kind {kind!r} has no weight: it is {WITHOUT_WEIGHT[kind]}")
        out = self.activation_width(kind)
        if kind == "embed":
            return (self.vocab_size, out)
        if kind == "norm.final":
            return (out,)
        return (out, {"mlp.down": self.d_ff, "attn.o": self.q_dim}.get(kind, self.d_model))

    def activation_width(self, kind: str) -> int:
        """Features of the activation at a site of this kind: columns of its (n_samples, n_features) matrix.

        Raises:
            SiteError: not a site kind.
        """
        widths = {
            "attn.q": self.q_dim,
            "attn.k": self.kv_dim,
            "attn.v": self.kv_dim,
            "attn.z": self.q_dim,
            "mlp.gate": self.d_ff,
            "mlp.up": self.d_ff,
            "mlp.act": self.d_ff,
        }
        return widths.get(check_kind(kind), self.vocab_size if kind == "head" else self.d_model)

    @property
    def n_params_per_layer(self) -> int:
        """Parameters of one block: attention, feed-forward and two norms."""
        attention = 2 * self.d_model * self.q_dim + 2 * self.d_model * self.kv_dim
        return attention + 3 * self.d_model * self.d_ff + 2 * self.d_model

    @property
    def n_params(self) -> int:
        """All parameters, embedding and head included."""
        tables = self.vocab_size * self.d_model * (1 if self.tie_embeddings else 2)
        return tables + self.n_layers * self.n_params_per_layer + self.d_model

    @property
    def n_params_matmul(self) -> int:
        """Parameters that take part in a matrix product for each token (the embedding table is a look-up)."""
        return self.n_params - (0 if self.tie_embeddings else self.vocab_size * self.d_model)

    def flops_per_token(self, seq_len: int) -> float:
        """Floating-point operations of one forward and backward pass, per token, at `seq_len`.

        6 per matrix parameter, plus attention's 12 · layers · d_model · seq_len halved for causality (Chowdhery et
        al. 2022, PaLM, appendix B, counts it in full; the causal half is what a fused kernel computes).
        """
        norms = self.d_model * (2 * self.n_layers + 1)
        return 6.0 * (self.n_params_matmul - norms) + 6.0 * self.n_layers * self.d_model * seq_len


class ForeignSpec(ModelSpec):
    """The geometry of a decoder of other makers. Since schema 1.2.

    Its heads may have a width of their own (Qwen3, Gemma) or an odd one (GPT-2 has no rotary embedding), its values be
    narrower than its queries (DeepSeek), its embedding narrower than its stream (OPT-350m); it may hold experts.
    Raises a validation error, naming the numbers, for a geometry that cannot exist.
    """

    architecture: Literal["foreign"] = "foreign"  # type: ignore[assignment]
    """Tells it from a decoder of Pico's own; readers of schema 1.1 refuse it by this name."""
    model_type: Annotated[str, Field(max_length=100)] = "unknown"
    """What the model's `config.json` calls the architecture: gpt_neox, qwen3."""
    rope_theta: Annotated[float, Field(ge=1, le=1e12)] | None = None  # type: ignore[assignment]
    """Not said: whoever needs it reads the model's `config.json`."""
    norm_eps: Annotated[float, Field(ge=1e-30, lt=1)] | None = None  # type: ignore[assignment]
    """Not said either."""
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

    @property
    def n_params(self) -> int:
        """Not known: it depends on what the geometry does not say, such as biases.

        Raises:
            SchemaError: always.
        """
        raise SchemaError(f"how many parameters a {self.model_type} has does not follow from its geometry")

    def weight_shape(self, kind: str) -> tuple[int, ...]:
        """Shape of the weight at a site of this kind; of experts too, whose kinds are ``mlp.experts.<n>.up``,
        ``mlp.shared.up`` and the like.

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

    def activation_width(self, kind: str) -> int:
        """Features of the activation at a site of this kind.

        Raises:
            SiteError: not a site kind.
        """
        if kind == "attn.v" and self.value_head_dim is not None:
            return self.n_kv_heads * self.value_head_dim
        if kind == "attn.z" and self.value_head_dim is not None:
            return self.n_heads * self.value_head_dim
        if kind == "embed" and self.embed_dim is not None:
            return self.embed_dim
        return super().activation_width(kind)


def _which(value: Any) -> str:
    found = value.get("architecture", "llama") if isinstance(value, dict) else getattr(value, "architecture", "llama")
    return found if found == "foreign" else "llama"


SPEC_KINDS = ("llama", "foreign")
"""What `architecture` of a geometry can be."""
AnySpec = Annotated[Annotated[ModelSpec, Tag("llama")] | Annotated[ForeignSpec, Tag("foreign")], Discriminator(_which)]
"""The geometry in a document: Pico's own, unless `architecture` says that it is foreign."""


def _divisors(n: int) -> list[int]:
    small = [k for k in range(1, math.isqrt(n) + 1) if n % k == 0]
    return sorted({*small, *(n // k for k in small)})
