"""Which file of the repository is which page of the site. A page has one source: nothing is written twice."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The repository."""
REPOSITORY = "https://github.com/pico-lm/pico"
"""Its address, as in the packages' metadata."""
MADE = ("docs/pages/tutorial.md", "docs/pages/gallery.md", "pico-analyze/docs/first_look.ipynb")
"""Pages whose blocks or cells are run, one after the other in one folder; what they make is shown on them."""

PAGES = {
    "docs/pages/index.md": "index.md",
    "docs/pages/tutorial.md": "tutorial.md",
    "docs/pages/gallery.md": "gallery.md",
    # how to
    "docs/pages/how-to.md": "how-to/index.md",
    "pico-train/docs/data.md": "how-to/data.md",
    "pico-train/docs/families.md": "how-to/families.md",
    "pico-train/docs/optimizers.md": "how-to/optimizers.md",
    "pico-train/docs/checkpoints.md": "how-to/checkpoints.md",
    "pico-train/docs/evaluation.md": "how-to/evaluation.md",
    "pico-train/docs/publishing.md": "how-to/publishing.md",
    "pico-analyze/docs/hub.md": "how-to/hub.md",
    "pico-analyze/docs/bring-your-own.md": "how-to/bring-your-own.md",
    "pico-analyze/docs/audit.md": "how-to/audit.md",
    "pico-analyze/docs/induction.md": "how-to/induction.md",
    "pico-analyze/docs/first_look.ipynb": "how-to/notebook.md",
    "pico-analyze/docs/figures.md": "how-to/figures.md",
    "pico-analyze/docs/report.md": "how-to/report.md",
    "pico-analyze/docs/machines.md": "how-to/machines.md",
    "pico-analyze/PLUGINS.md": "how-to/plugins.md",
    # reference
    "docs/pages/reference.md": "reference/index.md",
    "pico-train/README.md": "reference/pico-train.md",
    "pico-train/docs/commands.md": "reference/train-commands.md",
    "pico-train/docs/configuration.md": "reference/configuration.md",
    "pico-analyze/README.md": "reference/pico-analyze.md",
    "pico-analyze/docs/commands.md": "reference/analyze-commands.md",
    "pico-analyze/docs/metrics.md": "reference/metrics.md",
    "pico-analyze/docs/components.md": "reference/components.md",
    "pico-analyze/docs/probes.md": "reference/probes.md",
    "pico-analyze/docs/table.md": "reference/table.md",
    "pico-analyze/docs/study.md": "reference/study.md",
    "shared-schema/README.md": "reference/pico-schema.md",
    "shared-schema/docs/compatibility.md": "reference/compatibility.md",
    # explanation
    "docs/pages/definitions.md": "explanation/definitions.md",
    "pico-analyze/docs/uncertainty.md": "explanation/uncertainty.md",
    "docs/pages/design.md": "explanation/design.md",
    "docs/pages/pico-1.0.md": "explanation/pico-1.0.md",
    "docs/pages/when-not.md": "explanation/when-not.md",
    "pico-train/BENCHMARKS.md": "explanation/train-speed.md",
    "pico-analyze/BENCHMARKS.md": "explanation/analyze-speed.md",
    # the project
    ".github/CONTRIBUTING.md": "project/contributing.md",
    ".github/RELEASING.md": "project/releasing.md",
    ".github/CODE_OF_CONDUCT.md": "project/code-of-conduct.md",
    ".github/SECURITY.md": "project/security.md",
    "pico-train/CHANGELOG.md": "project/train-changelog.md",
    "pico-analyze/CHANGELOG.md": "project/analyze-changelog.md",
    "shared-schema/CHANGELOG.md": "project/schema-changelog.md",
}
"""Source, from the repository's root, to page. The decisions are added to them by `pages`."""


def pages() -> dict[str, str]:
    """Every page that is a file of the repository."""
    decisions = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    return PAGES | {f"docs/decisions/{path.name}": f"explanation/decisions/{path.name}" for path in decisions}
