"""Spectra over steps: the singular values of one matrix at each step, one ridge above the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pico_analyze.errors import UsageError
from pico_analyze.output.figures import style
from pico_analyze.output.figures.request import Request

if TYPE_CHECKING:
    import numpy as np
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_SITES = 12
_GRID = 200
_OVERLAP = 1.6
"""Height of the highest ridge, by the distance of two."""


def spectra(
    found: Mapping[str, Mapping[int, np.ndarray]], run: str, request: Request
) -> tuple[Figure, pandas.DataFrame]:
    """A panel each matrix: at each step the density of log10 of its singular values; values: every singular value.

    The density is a Gaussian kernel estimate (scipy's `gaussian_kde`, Scott's bandwidth) of the values above rounding
    (float32's, by the largest). Each panel has one scale for all its steps.

    Args:
        found: Singular values, descending, by matrix and step.
        run: The run's name.
        request: The figure's width.

    Raises:
        UsageError: no matrix, or too many panels.
    """
    import pandas as pd

    if not found:
        raise UsageError("no matrix is selected: there is nothing to draw")
    if len(found) > _MOST_SITES:
        raise UsageError(f"{len(found)} matrices are too many panels: choose with --site and --layers")
    figure, axes = style.panels(len(found), request.width, shape=1.0)
    for ax, (name, steps) in zip(axes, found.items(), strict=True):
        _ridges(ax, dict(sorted(steps.items())))
        ax.set_title(name)
        ax.set_xlabel("singular value")
    axes[0].set_ylabel("step")
    style.headline(figure, f"singular values · run {run}", request.width)
    parts = [
        pd.DataFrame({"matrix": name, "step": step, "index": range(len(values)), "singular_value": values})
        for name, steps in found.items()
        for step, values in sorted(steps.items())
    ]
    return figure, pd.concat(parts, ignore_index=True)


def _ridges(ax: Axes, steps: dict[int, np.ndarray]) -> None:
    import numpy as np

    kept = {step: np.log10(above_rounding(values)) for step, values in steps.items()}
    every = np.concatenate(list(kept.values()))
    if not len(every):
        ax.text(0.5, 0.5, "all singular values are zero", ha="center", va="center", transform=ax.transAxes)
        ax.set_xticks([])
        ax.set_yticks([])
        return
    margin = max(0.1, 0.05 * float(np.ptp(every)))
    grid = np.linspace(every.min() - margin, every.max() + margin, _GRID)
    heights = {step: density(values, grid) for step, values in kept.items()}
    tallest = max(float(height.max()) for height in heights.values()) or 1.0
    for at, (step, colour) in enumerate(zip(kept, style.ordered(len(kept)), strict=True)):
        lifted = at + _OVERLAP * heights[step] / tallest
        order = len(kept) - at
        ax.fill_between(10.0**grid, at, lifted, color=colour, alpha=0.75, linewidth=0, zorder=order)
        ax.plot(10.0**grid, lifted, color="white", linewidth=0.7, zorder=order)
    ax.set_xscale("log")
    style.few_ticks(ax)
    ax.set_yticks(range(len(kept)), [style.short(step) for step in kept])
    ax.grid(False, axis="y")
    ax.spines["left"].set_visible(False)


def above_rounding(values: np.ndarray) -> np.ndarray:
    """Singular values that are more than rounding: above the largest × n × float32's spacing."""
    import numpy as np

    least = float(np.max(values[np.isfinite(values)], initial=0.0)) * len(values) * float(np.finfo(np.float32).eps)
    kept: np.ndarray = values[values > least]  # NaN is above nothing
    return kept


def density(values: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Density of values on a grid; one place, where all values are (nearly) the same, is a narrow peak."""
    import numpy as np
    from scipy.stats import gaussian_kde

    if len(values) < 2 or float(np.ptp(values)) < 1e-9 * max(1.0, float(np.abs(values).max())):
        if not len(values):
            return np.zeros_like(grid)
        width = (grid[-1] - grid[0]) / len(grid)
        peak: np.ndarray = np.exp(-0.5 * ((grid - values.mean()) / (2 * width)) ** 2) / (2 * width * np.sqrt(2 * np.pi))
        return peak
    estimate: np.ndarray = gaussian_kde(values)(grid)
    return estimate
