"""The shape of a decoder: the numbers that fix every tensor of a model, and what follows from them.

A `ModelSpec` describes a Llama-style decoder (RMSNorm, RoPE, grouped-query attention, SwiGLU). It decides sizes only;
how the arithmetic is done is the trainer's business.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pico_schema.errors import SiteError
from pico_schema.sites import WEIGHTED_KINDS, check_kind

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
            SiteError: not a site kind, or `resid`, which has no weight.
        """
        if check_kind(kind) not in WEIGHTED_KINDS:
            raise SiteError(f"site kind {kind!r} has no weight: it is the residual stream after a block")
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
            "mlp.gate": self.d_ff,
            "mlp.up": self.d_ff,
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


def _divisors(n: int) -> list[int]:
    small = [k for k in range(1, math.isqrt(n) + 1) if n % k == 0]
    return sorted({*small, *(n // k for k in small)})
