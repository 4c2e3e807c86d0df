"""μP: how initial weights and learning rates follow the width, so that what was tuned at one serves at another.

The rule is that of Yang et al. 2022 (Tensor Programs V, arXiv:2203.03466), table 8: with m the width over that of the
base, matrices within the blocks have the deviation 1/√m and, under Adam, the learning rate 1/m; the head has the
multiplier 1/m; attention divides its scores by the width of a head in place of its root. The multipliers are nowhere
computed: a matrix W with multiplier a trains as the matrix a·W does that has a times the deviation and a (under plain
gradient descent a²) times the learning rate (their lemma J.1). So what trains, what is captured and what is sealed is
one plain Llama at all times, and nothing has to be folded in afterwards. This file decides the factors alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pico_schema import ModelSpec

Update = Literal["adam", "gradient", "spectral", "rms"]
"""What a step's size follows: `adam`, the learning rate in each entry (AdamW); `gradient`, that times the gradient
(SGD); of an orthogonalised matrix, `spectral`, its singular values (Muon as it was), or `rms`, its entries (Muon scaled
to AdamW's)."""


@dataclass(frozen=True)
class Width:
    """How many times wider a model is than its base."""

    model: float
    """d_model over that of the base, m. Keys, values and feed-forward are taken to grow with it."""
    head: float
    """Width of one head over that of the base."""

    @classmethod
    def of(cls, spec: ModelSpec, *, base_d_model: int, base_head_dim: int | None = None) -> Width:
        """The width of a model over a base; without `base_head_dim`, over one of equally many heads.

        Raises:
            ValueError: embedding and head are one matrix, which would need two learning rates.
        """
        if spec.tie_embeddings:
            raise ValueError("μP has one rule for the embedding and another for the head: they cannot share a matrix")
        model = spec.d_model / base_d_model
        return cls(model, spec.head_dim / base_head_dim if base_head_dim else model)

    def multiplier(self, name: str) -> float:
        """What table 8 multiplies a parameter's output with; here, what is folded into the parameter.

        The queries': scores are q·k / head_dim · √(head_dim of the base), where Llama's are q·k / √head_dim.
        """
        if name == "lm_head.weight":
            return 1 / self.model
        return float(self.head**-0.5) if name.endswith("self_attn.q_proj.weight") else 1.0

    def init_factor(self, name: str) -> float:
        """Deviation of a parameter's initial values over that at the base."""
        return self.multiplier(name) * float(self.model**-0.5 if _is_hidden(name) else 1.0)

    def lr_factor(self, name: str, update: Update) -> float:
        """Learning rate of a parameter over that at the base.

        For SGD by table 8's row; for Muon by the spectral condition (Yang, Simon & Bernstein 2023, arXiv:2310.17813),
        by which an update's largest singular value does not change with the width.
        """
        a, m = self.multiplier(name), self.model
        if update == "gradient":
            return a**2 * (1.0 if _is_hidden(name) else m)
        if not _is_hidden(name):
            return a
        by: dict[str, float] = {"adam": 1 / m, "spectral": 1.0, "rms": m**-0.5}
        return a * by[update]

    def eps_factor(self, name: str) -> float:
        """What is added to the root of Adam's second moment, over that at the base: gradients of a·W are 1/a times as
        large."""
        return 1 / self.multiplier(name)


def _is_hidden(name: str) -> bool:
    """Whether both sides of a parameter grow with the width: the matrices of the blocks."""
    return ".layers." in name and "norm" not in name
