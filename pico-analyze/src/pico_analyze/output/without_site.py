"""What a model holds beside its sites, in words: counted, and named with ``*`` for numbers of layers and experts."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pico_analyze.counting import counted
from pico_analyze.stores.base import WithoutSite

_MOST = 12


def lines(rest: WithoutSite) -> list[str]:
    """One sentence for each kind of thing that is at no site."""
    said = []
    if rest.unknown is not None:
        said.append(rest.unknown)
    if rest.quantized:
        method = f" ({rest.method})" if rest.method else ""
        said.append(
            f"quantized{method}: {_named(rest.quantized)}: packed or scaled integers are no matrix that can be read: "
            + (
                "`pico-analyze convert RUN --out DIR` dequantizes GGUF, and what DIR holds stays rounded"
                if (rest.method or "").startswith("gguf")
                else "dequantize the model with what quantized it, save that, and name it"
            )
        )
    if rest.missing:
        said.append(f"missing: {_named(rest.missing)}: no tensor is there for what this architecture has")
    if rest.matrices:
        what = counted(len(rest.matrices), "matrix", "matrices")
        said.append(f"no site: {what}: {_named(rest.matrices)} (--tensor measures one by its name)")
    if rest.others:
        said.append(f"no site: {counted(len(rest.others), 'bias, norm or buffer', 'biases, norms and buffers')}")
    return said


def why_incomplete(rest: WithoutSite) -> str | None:
    """Why a model is not complete, in a few words; None if it is."""
    if rest.unknown is not None:
        return "its architecture is not known"
    if rest.quantized:
        return f"{counted(len(rest.quantized), 'matrix is', 'matrices are')} quantized"
    if rest.missing:
        return f"{counted(len(rest.missing), 'matrix is', 'matrices are')} missing"
    return None


def _named(names: Iterable[str]) -> str:
    """``model.layers.*.mlp.gate.weight (24), lm_head.bias``."""
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(re.sub(r"(?<=\.)[0-9]+(?=\.|$)", "*", name[:200]), []).append(name[:200])
    shown = [f"{name} ({len(each)})" if len(each) > 1 else each[0] for name, each in list(alike.items())[:_MOST]]
    return ", ".join(shown) + (f" and {len(alike) - _MOST} more names" if len(alike) > _MOST else "")
