"""How a notebook shows a run: as a table of HTML, in which every text of a run is text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from pico_analyze.counting import counted

if TYPE_CHECKING:
    from pico_analyze.stores.base import Store

_MOST = 40
"""Rows of a table; of more the first and last are shown."""


class Shown:
    """A store that shows itself in a notebook: its name and place, and a line for each checkpoint."""

    def _repr_html_(self: Store) -> str:
        infos, lost = self.steps(), self.unusable()
        head = ["step", "tokens", "train loss", "val loss", "size", "captured"]
        lines = [
            [
                f"{info.step:,}",
                "" if info.tokens_seen is None else f"{info.tokens_seen:,}",
                _number(info.metrics.get("train_loss")),
                _number(info.metrics.get("val_loss")),
                "" if info.size is None else f"{info.size / 1e6:,.1f} MB",
                "; ".join(f"{split}: {_kinds(held.activations)}" for split, held in info.splits.items()),
            ]
            for info in infos
        ]
        titled = f"{self.run} · {self.kind} · {self.location} · {counted(len(infos), 'checkpoint')}"
        notes = [f"not usable: {one.name}: {one.reason}" for one in lost]
        return table(titled, head, lines, notes)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _kinds(sites: Iterable[str]) -> str:
    """``attn.v attn.o``: of sites of all layers, their kinds."""
    from pico_analyze.stores.sites import MatrixSite

    return " ".join(dict.fromkeys(MatrixSite.parse(site).kind for site in sites))


def table(title: str, head: Sequence[str], lines: Sequence[Sequence[str]], notes: Sequence[str] = ()) -> str:
    """A table with a caption; of many lines the first and last."""
    kept = list(lines)
    if len(kept) > _MOST:
        gap = [f"… {len(kept) - _MOST} more …", *[""] * (len(head) - 1)]
        kept = [*kept[: _MOST // 2], gap, *kept[-_MOST // 2 :]]
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in line) + "</tr>" for line in kept)
    below = "".join(f"<p>{escape(note)}</p>" for note in notes)
    return (
        f'<table><caption style="text-align:left">{escape(title)}</caption>'
        f"<thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>{below}"
    )
