"""Sampling text: prompt in, token ids out, one token at a time through the KV-cache."""

from __future__ import annotations

import torch
from torch import Tensor

from pico_train.counting import counted
from pico_train.model.decoder import Decoder, KVCache


@torch.no_grad()
def generate(
    model: Decoder,
    prompt_BT: Tensor,
    max_new_tokens: int,
    *,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    eos_id: int | tuple[int, ...] | None = None,
) -> Tensor:
    """Return the prompt and what follows it, (B, T + generated) int64.

    Args:
        model: an unwrapped decoder.
        prompt_BT: token ids, at least one for each row, all rows of one length.
        max_new_tokens: most tokens to add.
        temperature: 0 takes the likeliest token each time; larger is flatter.
        top_k: sample among the k likeliest tokens only.
        top_p: sample among the smallest set of tokens whose probability reaches p (Holtzman et al. 2020,
            arXiv:1904.09751); the likeliest token is always in it.
        seed: of the draws, which are made on the CPU so that a device does not change them.
        eos_id: token that ends a row, or several; a row that has ended is filled with the first, and all ended ends the
            call.

    Raises:
        ValueError: an empty prompt, a prompt and continuation beyond the model's sequence length, or a setting out of
            range.
    """
    B, T = prompt_BT.shape
    _check(model, prompt_BT, max_new_tokens, temperature, top_k, top_p)
    weight = model.lm_head.weight
    cache = KVCache(model.spec, B, T + max_new_tokens, device=weight.device, dtype=weight.dtype)
    generator = torch.Generator().manual_seed(seed)
    tokens_BT = prompt_BT.to(weight.device)
    ends = torch.tensor([] if eos_id is None else eos_id, dtype=torch.long).reshape(-1)
    new_BT, ended_B = tokens_BT, torch.zeros(B, dtype=torch.bool)
    was_training = model.training
    model.eval()
    try:
        for _ in range(max_new_tokens):
            hidden_BTD = model.model(new_BT, cache)
            logits_BV = model.lm_head(hidden_BTD[:, -1]).float().cpu()
            next_B = sample(logits_BV, temperature=temperature, top_k=top_k, top_p=top_p, generator=generator)
            if len(ends):
                next_B = torch.where(ended_B, ends[0], next_B)
                ended_B |= torch.isin(next_B, ends)
            new_BT = next_B[:, None].to(weight.device)
            tokens_BT = torch.cat((tokens_BT, new_BT), dim=1)
            if bool(ended_B.all()):
                break
    finally:
        model.train(was_training)
    return tokens_BT


def sample(
    logits_BV: Tensor,
    *,
    temperature: float,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator,
) -> Tensor:
    """Draw one token per row from softmax(logits / temperature), restricted to the top k and then to the top p."""
    if temperature == 0.0:
        return logits_BV.argmax(-1)
    probability_BV = torch.softmax(restrict(logits_BV / temperature, top_k=top_k, top_p=top_p), dim=-1)
    return torch.multinomial(probability_BV, 1, generator=generator)[:, 0]


def restrict(logits_BV: Tensor, *, top_k: int | None, top_p: float | None) -> Tensor:
    """Return the logits with −inf in place of every token outside the top k, then outside the top p of the rest."""
    if top_k is not None and top_k < logits_BV.shape[-1]:
        # By index, not by threshold: of tokens that tie at the border exactly as many stay as were asked for.
        kept_Bk = logits_BV.topk(top_k, dim=-1).indices
        logits_BV = torch.full_like(logits_BV, -torch.inf).scatter(1, kept_Bk, logits_BV.gather(1, kept_Bk))
    if top_p is not None and top_p < 1.0:
        sorted_BV, order_BV = logits_BV.sort(dim=-1, descending=True, stable=True)
        probability_BV = sorted_BV.softmax(-1)
        # A token stays if the likelier ones together have not reached p yet.
        dropped_BV = probability_BV.cumsum(-1) - probability_BV >= top_p
        logits_BV = logits_BV.masked_fill(dropped_BV.scatter(1, order_BV, dropped_BV), -torch.inf)
    return logits_BV


def _check(
    model: Decoder,
    prompt_BT: Tensor,
    max_new_tokens: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
) -> None:
    length, longest = prompt_BT.shape[1], model.spec.max_seq_len
    if length == 0:
        raise ValueError("the prompt has no tokens: give at least one")
    if int(prompt_BT.min()) < 0 or int(prompt_BT.max()) >= model.spec.vocab_size:
        raise ValueError(f"the prompt has a token id outside the vocabulary of {model.spec.vocab_size}")
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens={max_new_tokens} is negative")
    if length + max_new_tokens > longest:
        raise ValueError(
            f"a prompt of {counted(length, 'token')} and {max_new_tokens} new ones exceed the model's "
            f"{longest} positions: ask for at most {counted(max(0, longest - length), 'new token')} or "
            "shorten the prompt"
        )
    if not 0.0 <= temperature < float("inf"):
        raise ValueError(f"temperature={temperature} is out of range: it must be 0 or larger, and finite")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k={top_k} is out of range: it must be 1 or larger")
    if top_p is not None and not 0.0 < top_p <= 1.0:
        raise ValueError(f"top_p={top_p} is out of range: it must be above 0 and at most 1")
