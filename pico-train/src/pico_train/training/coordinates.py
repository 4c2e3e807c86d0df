"""The coordinate check: does an update change activations by as much at every width?

That is what μP is for (Yang et al. 2022, arXiv:2203.03466, appendix D.1): where the change of some activation grows or
shrinks with the width, the rule is not kept, and a learning rate that was tuned at one width does not serve at
another. Small models of several widths take a few steps on the same rows, with the rule and without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor

from pico_schema import ModelSpec
from pico_schema.sites import Site, llama_module, llama_parameter
from pico_train.config import RunConfig
from pico_train.errors import ConfigError
from pico_train.model.decoder import Decoder
from pico_train.model.width import Width
from pico_train.training.optimizer import optimizer_of, set_learning_rate

FLAT = 0.35
"""Largest exponent of the width, either way, that counts as flat: finite widths and few steps give up to 0.3 under μP
(measured for AdamW, Muon and SGD at widths 32 to 512), where some activation has 0.8 or more without it."""
ROWS, TOKENS, MOST_VOCAB = 4, 32, 512
"""Size of the batch that all steps are taken on, and of the largest vocabulary."""
Rule = Literal["mup", "none"]


@dataclass(frozen=True)
class Change:
    """How far an activation has moved."""

    rule: Rule
    """Under which rule."""
    site: str
    """Of what, as captures name it; `head` is the logits. Queries are those before the factor that μP folds in."""
    width: int
    """d_model."""
    step: int
    """After this many updates."""
    size: float
    """Root mean square of the difference from the activation before the first update."""


@dataclass(frozen=True)
class Coordinates:
    """What a coordinate check found."""

    changes: tuple[Change, ...]
    """By rule, site, width and step."""

    def exponent(self, rule: Rule, site: str) -> float:
        """The power of the width by which the change after the last step grows: least squares between logarithms."""
        last = max(change.step for change in self.changes)
        found = [c for c in self.changes if (c.rule, c.site, c.step) == (rule, site, last)]
        x = [math.log2(c.width) for c in found]
        y = [math.log2(c.size) if c.size > 0 else -math.inf for c in found]
        mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
        slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
        return slope / sum((a - mean_x) ** 2 for a in x)

    @property
    def sites(self) -> list[str]:
        """Sites, in the order of computation."""
        return list(dict.fromkeys(change.site for change in self.changes))

    def is_flat(self, rule: Rule) -> bool:
        """Whether the change of every activation is about the same at every width."""
        return all(abs(self.exponent(rule, site)) <= FLAT for site in self.sites)


def check_coordinates(
    config: RunConfig, widths: Sequence[int], *, steps: int, say: Callable[[str], None] = lambda _: None
) -> Coordinates:
    """Train models of several widths for a few steps, with μP and without.

    Args:
        config: gives the optimizer, its peak learning rate (which is used as it is), the depth, the shape of a block,
            and the base, by default the smallest width. Heads stay as many, or as wide where
            `training.scaling.base_head_dim` is set.
        widths: two or more, ascending.
        steps: updates, 1 or more.
        say: told of each model.

    Raises:
        ConfigError: a width that the heads do not divide, or an optimizer that μP is not defined for.
    """
    if config.training.optimizer.name == "adafactor":
        raise ConfigError("μP is not defined for training.optimizer.name=adafactor: use adamw, muon or sgd")
    found: list[Change] = []
    for rule in ("mup", "none"):
        for width in widths:
            say(f"{rule}: d_model {width}, {steps} steps")
            found += _changes(config, rule, width, base=widths[0], steps=steps)
    return Coordinates(tuple(found))


def default_widths(config: RunConfig) -> list[int]:
    """Four widths, each twice the one before, from the smallest of 32 or more that the configuration's heads divide."""
    fixed, model = config.training.scaling.base_head_dim, config.model
    unit = fixed * (model.n_heads // model.n_kv_heads) if fixed else 2 * model.n_heads
    return [-(-32 // unit) * unit * 2**power for power in range(4)]


def scaled_spec(config: RunConfig, width: int) -> ModelSpec:
    """The geometry of a configuration at another width.

    Raises:
        ConfigError: there is none.
    """
    model, fixed = config.model, config.training.scaling.base_head_dim
    heads = width // fixed if fixed else model.n_heads
    per_group = model.n_heads // model.n_kv_heads
    try:
        return ModelSpec(
            vocab_size=min(model.vocab_size, MOST_VOCAB),
            d_model=width,
            n_layers=model.n_layers,
            n_heads=heads,
            n_kv_heads=max(1, heads // per_group),
            d_ff=round(width * model.d_ff / model.d_model),
            max_seq_len=TOKENS,
            rope_theta=model.rope_theta,
            norm_eps=model.norm_eps,
        )
    except ValidationError as error:
        reason = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        raise ConfigError(f"width {width} is not possible: {reason}") from None


def _changes(config: RunConfig, rule: Rule, width: int, *, base: int, steps: int) -> list[Change]:
    spec, scaling, settings = scaled_spec(config, width), config.training.scaling, config.training.optimizer
    over = None
    if rule == "mup":
        over = Width.of(spec, base_d_model=scaling.base_d_model or base, base_head_dim=scaling.base_head_dim)
    decoder = Decoder(spec)
    decoder.init_weights(config.sub_seed("weights"), scaled=config.model.init == "scaled", width=over)
    optimizer = optimizer_of(decoder, settings, over)
    set_learning_rate(optimizer, settings.lr)
    rows = torch.randint(spec.vocab_size, (ROWS, TOKENS + 1), generator=torch.Generator().manual_seed(config.seed))
    before = _activations(decoder, rows, over)
    found = []
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        F.cross_entropy(decoder(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten()).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        for site, now in _activations(decoder, rows, over).items():
            size = (now - before[site]).square().mean().sqrt().item()
            found.append(Change(rule, site, width, step, size))
    return found


@torch.no_grad()
def _activations(decoder: Decoder, rows: Tensor, over: Width | None) -> dict[str, Tensor]:
    """Site → activation, of the last block and of what stands outside of blocks."""
    last = decoder.spec.n_layers - 1
    sites = [Site(None, "embed"), *(Site(last, kind) for kind in ("attn.q", "attn.o", "mlp.down", "resid"))]
    sites.append(Site(None, "head"))
    kept: dict[str, Tensor] = {}
    with _hooked(decoder, sites, kept):
        decoder(rows[:, :-1])
    if over is not None:
        query = Site(last, "attn.q")
        kept[str(query)] = kept[str(query)] / over.multiplier(llama_parameter(query))
    return {str(site): kept[str(site)] for site in sites}


@contextmanager
def _hooked(decoder: Decoder, sites: Sequence[Site], kept: dict[str, Tensor]) -> Iterator[None]:
    modules = dict(decoder.named_modules())

    def keep(site: Site) -> Any:
        return lambda _module, _args, output: kept.__setitem__(str(site), output.float())

    handles = [modules[llama_module(site)].register_forward_hook(keep(site)) for site in sites]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
