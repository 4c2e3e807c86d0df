"""The model card: of a run, on its branch; of all runs of a repository, on main.

Pure functions of the documents that are published: whoever writes a card writes the same one, so that of several
publishers none undoes what another said.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pico_schema import RevisionIndex, RunManifest, layout
from pico_train.publish import family
from pico_train.publish.card_sections import Markup, details, number, plain, table

PUBLIC_HUB = "https://huggingface.co"
"""Where the client looks unless it is told otherwise."""
OURS = "<!-- pico-train keeps this card up to date; without this line it leaves the text alone -->"
_SENTENCE = "trained with Pico to study how language models learn"


@dataclass(frozen=True)
class Place:
    """Where a repository is."""

    endpoint: str
    """Address of the Hub, such as https://huggingface.co."""
    repo: str
    """`org/name`."""

    @property
    def address(self) -> str:
        """Address of the repository's page."""
        return f"{self.endpoint}/{self.repo}"


@dataclass(frozen=True)
class PublishedRun:
    """One run of a repository, as far as it is published."""

    run: RunManifest
    index: RevisionIndex


def run_card(run: RunManifest, index: RevisionIndex, place: Place, *, license: str) -> str:
    """The README of a run's branch.

    Args:
        run: The run.
        index: The checkpoints published so far, this one included, with their results.
        place: Where.
        license: The Hub's name of a licence.
    """
    parts = [
        *_beginning(f"{plain(place.repo)}: run `{run.name}`", license),
        f"{_summary(run, index)} All runs of this repository: [{plain(place.repo)}]({place.address}).",
        *_single(run, index, place),
    ]
    return _joined(parts)


def repository_card(
    runs: Sequence[PublishedRun], place: Place, *, license: str, shown: str | None, unread: Sequence[str] = ()
) -> str:
    """The README of main: what all runs of a repository are.

    Args:
        runs: Those that have published something, each on its branch.
        place: Where.
        license: The Hub's name of a licence.
        shown: Name of the run whose last checkpoint main holds; None where it holds none.
        unread: Branches that hold no readable run, to be named.
    """
    runs = sorted(runs, key=lambda item: item.run.name)
    name = plain(place.repo)
    suite = family.suite_of([item.run for item in runs])
    if len(runs) == 1 and not unread:
        [only] = runs
        title = f"{name}: run `{only.run.name}`"
        parts = [*_beginning(title, license), _summary(only.run, only.index), *_single(only.run, only.index, place)]
        return _joined(parts)
    example = next((item for item in runs if item.run.name == shown), runs[0])
    if suite is not None:
        return _joined(_family(runs, suite, place, example, license=license, shown=shown, unread=unread))
    parts = [
        *_beginning(f"{name}: {len(runs)} runs", license),
        f"Llama-style decoders, {_SENTENCE}. Each run has a branch of its own, and every checkpoint is a revision.",
        _overview(runs, place, shown, unread),
        _loading(example.run, example.index, place),
        _analyzing(" ".join(f"hf://{place.repo}@{item.run.name}" for item in runs), "the runs"),
    ]
    for item in runs:
        parts += [f"## Run `{item.run.name}`", _summary(item.run, item.index), *details(item.run, item.index, level=3)]
    return _joined([*parts, _citation(runs, place)])


def _family(
    runs: Sequence[PublishedRun],
    suite: str,
    place: Place,
    example: PublishedRun,
    *,
    license: str,
    shown: str | None,
    unread: Sequence[str],
) -> list[str]:
    """The parts of a card of one suite: what all have in common is said once."""
    members = family.in_order([(item.run, item.index) for item in runs])
    ordered = [PublishedRun(run, index) for run, index in members]
    manifests = [run for run, _ in members]
    return [
        *_beginning(f"{plain(place.repo)}: suite `{suite}`, {len(runs)} runs", license),
        f"Llama-style decoders, {_SENTENCE}. {family.differs(manifests, suite)} Each run has a branch of its own, and "
        "every checkpoint is a revision.",
        _overview(ordered, place, shown, unread, family.axes(manifests)),
        family.seeds(members),
        "## Curves",
        family.curves(members),
        _loading(example.run, example.index, place),
        _analyzing(" ".join(f"hf://{place.repo}@{item.run.name}" for item in ordered), "the runs"),
        f"## Run `{example.run.name}`",
        f"{_summary(example.run, example.index)} The card of each branch tells as much of the other runs.",
        *details(example.run, example.index, level=3),
        _citation(ordered, place),
    ]


def is_ours(text: str) -> bool:
    """Whether a card is one of this program, which may be written anew, rather than a person's own text."""
    return OURS in text or (_SENTENCE in text and "- learning-dynamics" in text)  # 2.0.0 wrote no such line


def _joined(parts: Sequence[str]) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"


def _beginning(title: str, license: str) -> list[str]:
    lines = ["license: " + license, "library_name: transformers", "pipeline_tag: text-generation"]
    front = "\n".join(["---", *lines, "tags:", "- pico", "- learning-dynamics", "- checkpoints", "---"])
    return [front, OURS, f"# {title}"]


def _summary(run: RunManifest, index: RevisionIndex) -> str:
    last = index.revisions[-1]
    tokens = "" if last.tokens_seen is None else f" ({last.tokens_seen:,} tokens)"
    return (
        f"A Llama-style decoder of {run.model.n_params:,} parameters, {_SENTENCE}. "
        f"Every checkpoint is a revision: {len(index.revisions)} so far, up to step {last.step:,}"
        f"{tokens}. A revision holds the weights, the tokenizer, the optimizer's state, and "
        "activations, gradients and the batch as they were at that step, as far as each was kept."
    )


def _single(run: RunManifest, index: RevisionIndex, place: Place) -> list[str]:
    """The parts of a card that is about one run, after its summary."""
    return [
        _loading(run, index, place),
        _analyzing(f"hf://{place.repo}@{run.name}", "the run"),
        *details(run, index),
        _citation([PublishedRun(run, index)], place),
    ]


def _overview(
    runs: Sequence[PublishedRun], place: Place, shown: str | None, unread: Sequence[str], axes: Sequence[str] = ()
) -> str:
    rows = []
    for item in runs:
        last, name = item.index.revisions[-1], item.run.name
        rows.append(
            (
                Markup(f"[`{name}`]({place.address}/tree/{layout.branch_name(name)})"),
                *family.coordinates(item.run, axes),
                f"{item.run.model.n_params:,}",
                *(() if "seed" in axes else ("" if item.run.seed is None else item.run.seed,)),
                len(item.index.revisions),
                f"{last.step:,}",
                "" if last.tokens_seen is None else f"{last.tokens_seen:,}",
                number(last.metrics.get("train_loss")),
                number(last.metrics.get("val_loss")),
            )
        )
    own = () if "seed" in axes else ("seed",)
    head = (
        "run",
        *map(family.flat, axes),
        "parameters",
        *own,
        "revisions",
        "last step",
        "tokens",
        "train loss",
        "validation loss",
    )
    notes = [
        f"As of the last change of this branch; `{layout.REVISIONS}` of each run's branch lists what is there now."
    ]
    if shown is not None:
        notes.append(f"`main` holds the last checkpoint of run `{shown}`.")
    if unread:
        notes.append(f"Not readable as runs: {', '.join(f'`{plain(branch)}`' for branch in unread)}.")
    return "## Runs\n\n" + table(head, rows) + "\n\n" + " ".join(notes)


def _loading(run: RunManifest, index: RevisionIndex, place: Place) -> str:
    tag = layout.tag_name(run.name, index.revisions[-1].step)
    elsewhere = ""
    if place.endpoint != PUBLIC_HUB:
        elsewhere = f"\n\nThis repository is on {place.endpoint}: set `HF_ENDPOINT={place.endpoint}` first."
    return f"""## Load a step

Branch `{run.name}` is the run; tag `{run.name}-step-<N>` is the checkpoint after N updates.{elsewhere}

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("{place.repo}", revision="{tag}")
tokenizer = AutoTokenizer.from_pretrained("{place.repo}", revision="{tag}")
```"""


def _analyzing(runs: str, what: str) -> str:
    return f"""## Analyze {what}

Single tensors are read by range; nothing else is downloaded.

```sh
pip install pico-analyze
pico-analyze compute cka {runs}
```"""


def _citation(runs: Sequence[PublishedRun], place: Place) -> str:
    key = re.sub(r"[^a-z0-9]+", "", place.repo.partition("/")[2].lower()) or "pico"
    year = max(item.run.created.year for item in runs)
    newest = max((item.run for item in runs), key=lambda run: (run.created, run.name))
    trainer = plain(f"{newest.producer.name} {newest.producer.version}")
    names, ids = ", ".join(item.run.name for item in runs), ", ".join(item.run.id for item in runs)
    one = len(runs) == 1
    return f"""## Citation

```bibtex
@misc{{{key}{year},
  title = {{{place.repo}: checkpoints of the {"run" if one else "runs"} {names}, with activations and gradients}},
  year = {{{year}}},
  url = {{{place.address}}},
  note = {{{"Run" if one else "Runs"} {ids}, trained with {trainer}; cite the tag of the step you used}}
}}
```"""
