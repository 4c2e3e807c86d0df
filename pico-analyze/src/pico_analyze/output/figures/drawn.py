"""The figure that is drawn on: matplotlib's own, by itself."""

from __future__ import annotations

from io import BytesIO

from matplotlib.figure import Figure


class Drawn(Figure):
    """A figure that pyplot does not know.

    It goes when its last name does, and a notebook shows it once, where it is named, whatever its backend is.
    """

    def _repr_png_(self) -> bytes:
        content = BytesIO()
        self.savefig(content, format="png")
        return content.getvalue()
