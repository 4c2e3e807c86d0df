"""The decoder, top to bottom: RMSNorm, rotary embedding, grouped-query attention, SwiGLU, blocks, head.

It is Llama's architecture (Touvron et al. 2023, arXiv:2302.13971, with the grouped queries of arXiv:2305.13245), and
its modules carry the names that `transformers.LlamaForCausalLM` gives them, so `Decoder.state_dict()` is a Llama
state dict. This file decides the arithmetic of a forward pass. It leaves to others what a loss is (`training.loss`),
how to sample (`model.generation`) and where weights come from (`model.huggingface`).

Shapes are written into names, one letter for each axis:

    B  sequences in the batch           D  d_model, width of the residual stream
    T  positions in this call           F  d_ff, width inside the feed-forward
    S  positions attended to            H  query heads
       (T, plus what the cache holds)   K  key/value heads, H / K query heads share one
    V  vocabulary                       C  head_dim, width of one head
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils.checkpoint import checkpoint

from pico_schema import ModelSpec
from pico_train.model.width import Width

INIT_STD = 0.02
"""Standard deviation of every freshly initialised matrix (GPT-2's and Llama's)."""
RESIDUAL = ("self_attn.o_proj.weight", "mlp.down_proj.weight")
"""How the names of the matrices end that write to the residual stream."""

Score = Callable[[Tensor, Tensor], Tensor]
"""What to do with the final hidden states (B, T, D) and the head's matrix (V, D) instead of forming logits."""


class RMSNorm(nn.Module):
    """Divide each vector by its root mean square and scale its features (Zhang & Sennrich 2019, arXiv:1910.07467)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Return the normalised vectors; the mean of squares is taken in float32 whatever the input's type."""
        wide_BTD = x_BTD.float()
        mean_square_BT1 = wide_BTD.square().mean(-1, keepdim=True)
        return self.weight * (wide_BTD * torch.rsqrt(mean_square_BT1 + self.eps)).type_as(x_BTD)


def rotary_tables(start: int, length: int, head_dim: int, theta: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return cosine and sine, (T, C) float32 each, for positions `start` to `start + length`.

    Feature pair i turns by position · theta^(−2i / C) radians (Su et al. 2021, arXiv:2104.09864, section 3.2.2). The
    two halves of the last axis hold the same angles: feature i is paired with feature i + C/2.
    """
    frequency_c = theta ** -(torch.arange(0, head_dim, 2, device=device, dtype=torch.float32) / head_dim)
    position_T = torch.arange(start, start + length, device=device, dtype=torch.float32)
    angle_TC = torch.outer(position_T, frequency_c).repeat(1, 2)
    return angle_TC.cos(), angle_TC.sin()


def rotate(x_BHTC: Tensor, cos_TC: Tensor, sin_TC: Tensor) -> Tensor:
    """Turn each pair (i, i + C/2) of every head by its position's angle; computed in float32, returned in x's type."""
    low, high = x_BHTC.chunk(2, dim=-1)
    turned_BHTC = torch.cat((-high, low), dim=-1)
    return (x_BHTC * cos_TC + turned_BHTC * sin_TC).type_as(x_BHTC)


def document_mask(input_ids_BT: Tensor, separator: int) -> Tensor:
    """Which positions each position attends to where rows hold several documents, (B, 1, T, T) bool: those of its own
    document up to itself.

    A document begins with the token that ended the one before it, so that its first token is predicted from that one
    alone: that is what the token means at the beginning of a text (`bos_token` of the checkpoint's tokenizer).
    Positions run on over a row: rotary scores depend on distances alone, so a document's are those that it has by
    itself.
    """
    document_BT = (input_ids_BT == separator).cumsum(1)
    return (document_BT[:, :, None] == document_BT[:, None, :]).tril()[:, None]


class KVCache:
    """Keys and values of the positions seen so far, one pair of tensors per layer, for decoding token by token.

    Space for `max_len` positions is reserved at once; `length` counts those filled.
    """

    def __init__(self, spec: ModelSpec, batch_size: int, max_len: int, *, device: torch.device, dtype: torch.dtype):
        shape = (spec.n_layers, batch_size, spec.n_kv_heads, max_len, spec.head_dim)
        self.keys = torch.empty(shape, device=device, dtype=dtype)
        self.values = torch.empty(shape, device=device, dtype=dtype)
        self.max_len = max_len
        self.length = 0

    def extend(self, layer: int, k_BKTC: Tensor, v_BKTC: Tensor) -> tuple[Tensor, Tensor]:
        """Store this call's keys and values of one layer; return all S = length + T of that layer.

        `length` itself moves once per call, after the last layer (see `Body.forward`).
        """
        end = self.length + k_BKTC.shape[2]
        if end > self.max_len:
            raise ValueError(f"the cache has space for {self.max_len} positions, {end} are needed")
        self.keys[layer, :, :, self.length : end] = k_BKTC
        self.values[layer, :, :, self.length : end] = v_BKTC
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]


class Attention(nn.Module):
    """Causal self-attention in which H query heads share K key/value heads."""

    def __init__(self, spec: ModelSpec, layer: int) -> None:
        super().__init__()
        self.layer, self.head_dim = layer, spec.head_dim
        self.q_proj = nn.Linear(spec.d_model, spec.d_model, bias=False)
        self.k_proj = nn.Linear(spec.d_model, spec.kv_dim, bias=False)
        self.v_proj = nn.Linear(spec.d_model, spec.kv_dim, bias=False)
        self.o_proj = nn.Linear(spec.d_model, spec.d_model, bias=False)

    def forward(
        self, x_BTD: Tensor, cos_TC: Tensor, sin_TC: Tensor, cache: KVCache | None, mask_B1TT: Tensor | None
    ) -> Tensor:
        """Return what each position reads from itself and from those before it, or of these from those that the mask
        leaves it, (B, T, D)."""
        B, T, _ = x_BTD.shape
        q_BHTC = self.q_proj(x_BTD).view(B, T, -1, self.head_dim).transpose(1, 2)
        k_BKTC = self.k_proj(x_BTD).view(B, T, -1, self.head_dim).transpose(1, 2)
        v_BKTC = self.v_proj(x_BTD).view(B, T, -1, self.head_dim).transpose(1, 2)
        q_BHTC, k_BKTC = rotate(q_BHTC, cos_TC, sin_TC), rotate(k_BKTC, cos_TC, sin_TC)
        mask_TS, causal = mask_B1TT, T > 1 and mask_B1TT is None
        if cache is not None:
            if causal and cache.length:
                # Several new positions behind a filled cache: `is_causal` would align its triangle to the first key,
                # so this one case spells out that row t sees the cache and the new positions up to t.
                S = cache.length + T
                mask_TS = torch.ones(T, S, dtype=torch.bool, device=x_BTD.device).tril(cache.length)
                causal = False
            k_BKTC, v_BKTC = cache.extend(self.layer, k_BKTC, v_BKTC)
        out_BHTC = F.scaled_dot_product_attention(
            q_BHTC, k_BKTC, v_BKTC, attn_mask=mask_TS, is_causal=causal, enable_gqa=q_BHTC.shape[1] != k_BKTC.shape[1]
        )
        out_BTD: Tensor = self.o_proj(out_BHTC.transpose(1, 2).reshape(B, T, -1))
        return out_BTD


class FeedForward(nn.Module):
    """SwiGLU: a gated feed-forward with SiLU as the gate (Shazeer 2020, arXiv:2002.05202, equation 6)."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(spec.d_model, spec.d_ff, bias=False)
        self.up_proj = nn.Linear(spec.d_model, spec.d_ff, bias=False)
        self.down_proj = nn.Linear(spec.d_ff, spec.d_model, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Return down(silu(gate(x)) · up(x)), (B, T, D)."""
        out_BTD: Tensor = self.down_proj(F.silu(self.gate_proj(x_BTD)) * self.up_proj(x_BTD))
        return out_BTD


class Block(nn.Module):
    """One layer: attention, then feed-forward, each reading a normalised residual stream and adding to it."""

    def __init__(self, spec: ModelSpec, layer: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(spec.d_model, spec.norm_eps)
        self.self_attn = Attention(spec, layer)
        self.post_attention_layernorm = RMSNorm(spec.d_model, spec.norm_eps)
        self.mlp = FeedForward(spec)

    def forward(
        self,
        x_BTD: Tensor,
        cos_TC: Tensor,
        sin_TC: Tensor,
        cache: KVCache | None = None,
        mask_B1TT: Tensor | None = None,
    ) -> Tensor:
        """Return the residual stream after this block, (B, T, D)."""
        x_BTD = x_BTD + self.self_attn(self.input_layernorm(x_BTD), cos_TC, sin_TC, cache, mask_B1TT)
        out_BTD: Tensor = x_BTD + self.mlp(self.post_attention_layernorm(x_BTD))
        return out_BTD


class Body(nn.Module):
    """Everything below the head: embedding, blocks, final norm."""

    def __init__(self, spec: ModelSpec, separator: int | None = None) -> None:
        super().__init__()
        self.separator = separator
        self.recompute = False
        """Whether blocks are computed again in the backward pass, in place of keeping what is inside of them."""
        self.recomputing = False
        """Whether that is going on: hooks are called a second time."""
        self.head_dim, self.rope_theta = spec.head_dim, spec.rope_theta
        self.embed_tokens = nn.Embedding(spec.vocab_size, spec.d_model)
        self.layers = nn.ModuleList(Block(spec, layer) for layer in range(spec.n_layers))
        self.norm = RMSNorm(spec.d_model, spec.norm_eps)

    def forward(self, input_ids_BT: Tensor, cache: KVCache | None = None) -> Tensor:
        """Return the normalised final hidden states, (B, T, D)."""
        if cache is not None and self.separator is not None:
            raise ValueError("a decoder that keeps documents apart reads whole rows: it has no use for a cache")
        start, T = cache.length if cache is not None else 0, input_ids_BT.shape[1]
        cos_TC, sin_TC = rotary_tables(start, T, self.head_dim, self.rope_theta, input_ids_BT.device)
        mask_B1TT = None if self.separator is None else document_mask(input_ids_BT, self.separator)
        x_BTD = self.embed_tokens(input_ids_BT)
        for block in self.layers:
            if self.recompute and torch.is_grad_enabled():
                x_BTD = self._kept_lightly(block, x_BTD, cos_TC, sin_TC, mask_B1TT)
            else:
                x_BTD = block(x_BTD, cos_TC, sin_TC, cache, mask_B1TT)
        if cache is not None:
            cache.length += T
        normed_BTD: Tensor = self.norm(x_BTD)
        return normed_BTD

    def _kept_lightly(self, block: nn.Module, x_BTD: Tensor, *others: Tensor | None) -> Tensor:
        """A block's output, of which the backward pass keeps the input alone (Chen et al. 2016, arXiv:1604.06174)."""
        cos_TC, sin_TC, mask_B1TT = others

        @contextmanager
        def again() -> Iterator[None]:
            self.recomputing = True
            try:
                yield
            finally:
                self.recomputing = False

        out_BTD: Tensor = checkpoint(
            block, x_BTD, cos_TC, sin_TC, None, mask_B1TT,
            use_reentrant=False, preserve_rng_state=False, context_fn=lambda: (nullcontext(), again()),
        )  # fmt: skip
        return out_BTD


class Decoder(nn.Module):
    """A Llama-style language model of the given shape; call `init_weights` or load a state dict before use.

    With a `separator`, the token that ends a document, attention stays within documents (`document_mask`); the weights
    are the same, and nothing else tells it from one without.
    """

    def __init__(self, spec: ModelSpec, *, separator: int | None = None) -> None:
        super().__init__()
        self.spec = spec
        self.compiled = False
        """Whether blocks are compiled."""
        self.model = Body(spec, separator)
        self.lm_head = nn.Linear(spec.d_model, spec.vocab_size, bias=False)
        if spec.tie_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    def forward(self, input_ids_BT: Tensor, cache: KVCache | None = None, score: Score | None = None) -> Tensor:
        """Return the logits, (B, T, V), of the token after each position; or what `score` makes of the hidden states.

        A `score` (see `training.loss`) never forms all logits at once. It is called in here, not by the caller, so that
        the wrappers around a distributed model (DDP, FSDP2), which act before and after `forward`, see the head's use.
        """
        hidden_BTD = self.model(input_ids_BT, cache)
        return self.lm_head(hidden_BTD) if score is None else score(hidden_BTD, self.lm_head.weight)

    def hidden(self, input_ids_BT: Tensor) -> Tensor:
        """Return the normalised final hidden states, (B, T, D)."""
        hidden_BTD: Tensor = self.model(input_ids_BT)
        return hidden_BTD

    def compile_blocks(self) -> None:
        """Compile each block in place; names, hooks on the blocks and sharding by block stay as they are.

        All blocks share one compiled program, so the wait is that of one block, not of the whole model.
        """
        self.compiled = True
        for block in self.model.layers:
            block.compile()

    @torch.no_grad()
    def init_weights(self, seed: int, *, scaled: bool = False, width: Width | None = None) -> None:
        """Draw every matrix from a normal distribution of deviation `INIT_STD` and set every norm's scale to one.

        Scaled, the two matrices of a block that write to the residual stream have the deviation `INIT_STD` / √(2L), L
        blocks, so that the stream's variance does not grow with the depth (Radford et al. 2019, Language Models are
        Unsupervised Multitask Learners, section 2.3). With a `width`, deviations follow it (μP, see `model.width`).

        Each parameter has a generator of its own, on the CPU, seeded from `seed` and the parameter's name: the weights
        depend on neither device, sharding, order, nor torch's global state, and a sharded parameter keeps its slice.
        """
        for name, parameter in self.named_parameters():
            if parameter.dim() == 1:
                parameter.fill_(1.0)
                continue
            digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
            full = torch.empty(parameter.shape).normal_(0.0, INIT_STD, generator=generator)
            if scaled and name.endswith(RESIDUAL):
                full /= math.sqrt(2 * len(self.model.layers))
            if width is not None:
                full *= width.init_factor(name)
            if isinstance(parameter, DTensor):
                # `src_data_rank=None`: every rank has drawn the same numbers, so nothing has to be sent.
                full = distribute_tensor(
                    full.to(parameter.device), parameter.device_mesh, parameter.placements, src_data_rank=None
                )
            parameter.copy_(full)
