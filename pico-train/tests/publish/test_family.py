"""The card of a family, and publishing a suite: one repository, a branch for each run."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.publishing import QUICK, REPO, content

from pico_conformance import Hub
from pico_conformance.gitstore import Repository
from pico_conformance.runs import write_run
from pico_schema import Membership, Producer, RevisionIndex, SuiteManifest, SuiteMember, documents, layout
from pico_schema.manifest import Coordinate
from pico_train.config import layers
from pico_train.errors import UsageError
from pico_train.publish.card import Place, PublishedRun, repository_card
from pico_train.publish.card_sections import plot_all
from pico_train.suite import publishing, record

PLACES: dict[str, dict[str, Coordinate]] = {
    f"{size}-seed{seed}": {"size": size, "seed": seed} for size in ("s", "m") for seed in (10, 9)
}


def member(root: Path, name: str) -> Path:
    """A run that says that it is of the suite."""
    run_dir = write_run(root, name=name, steps=(0, 1, 4), seed=list(PLACES).index(name))
    run = documents.read_run(run_dir)
    of = Membership(name="sizes", coordinates=PLACES[name])
    publish = QUICK.model_dump(mode="json")
    config = layers.load_config(name=name).model_dump(mode="json") | {"publish": publish}
    documents.write(run_dir / layout.RUN_MANIFEST, run.model_copy(update={"suite": of, "config": config}))
    return run_dir


def published(root: Path, name: str, **losses: float) -> PublishedRun:
    run = documents.read_run(member(root, name))
    index = RevisionIndex(run_id=run.id, run_name=run.name)
    for entry in run.checkpoints:
        manifest = documents.read_checkpoint(root / name / layout.checkpoint_dir(entry.step))
        index = index.with_checkpoint(manifest.model_copy(update={"metrics": losses}), entry.manifest_sha256)
    return PublishedRun(run, index)


def card(tmp_path: Path) -> str:
    losses = {"s-seed10": 3.0, "s-seed9": 4.0, "m-seed10": 2.0, "m-seed9": 2.5}
    runs = [published(tmp_path, name, train_loss=loss, val_loss=loss + 1) for name, loss in losses.items()]
    return repository_card(runs, Place("https://huggingface.co", REPO), license="mit", shown="m-seed9")


def test_a_family_has_a_table_with_its_axes_and_its_seeds_together(tmp_path: Path) -> None:
    text = card(tmp_path)
    assert "# tester/model: suite `sizes`, 4 runs" in text
    assert "The suite `sizes`: 4 runs that differ in size (m, s) and seed (9, 10)." in text
    assert "| run | size | seed | parameters | revisions |" in text
    assert "| size | runs | train loss | validation loss |" in text
    assert "| s | 2 | 3.5 ± 0.71 | 4.5 ± 0.71 |" in text and "| m | 2 | 2.25 ± 0.35 | 3.25 ± 0.35 |" in text
    assert text.index("[`m-seed9`]") < text.index("[`m-seed10`]") < text.index("[`s-seed9`]")  # by number
    assert "hf://tester/model@s-seed10" in text and "`main` holds the last checkpoint of run `m-seed9`" in text


def test_curves_of_all_are_in_one_figure(tmp_path: Path) -> None:
    text = card(tmp_path)
    figure = text[text.index("## Curves") :].split("```")[1]
    assert {"●", "○"} <= set(figure) and "● size m  ○ size s" in figure
    lines = plot_all([("a", [(0, 1.0), (9, 0.0)]), ("b", [(0, 1.0), (9, 1.0)])], width=11, height=3).splitlines()
    assert lines[0].endswith("┤a         b") and lines[2].endswith("a")  # where two meet, the first is seen


def test_names_of_documents_become_no_markup(tmp_path: Path) -> None:
    runs = [published(tmp_path, name, train_loss=1.0) for name in ("s-seed9", "m-seed9")]
    hostile = {"a|b](javascript:x)```\n# b": "<script>", "seed": 9}
    changed = [
        PublishedRun(each.run.model_copy(update={"suite": Membership(name="sizes", coordinates=hostile)}), each.index)
        for each in runs
    ]
    text = repository_card(changed, Place("https://huggingface.co", REPO), license="mit", shown=None)
    outside = "".join(text.split("```")[0::2])
    assert "<script>" not in outside and r"a\|b\](javascript" in outside and "a|b" not in outside
    assert "\n# b" not in text and text.count("```") % 2 == 0


def test_runs_of_no_suite_or_of_several_have_the_card_that_they_had(tmp_path: Path) -> None:
    one, other = (published(tmp_path, name) for name in ("s-seed9", "m-seed9"))
    alone = PublishedRun(other.run.model_copy(update={"suite": None}), other.index)
    text = repository_card([one, alone], Place("https://huggingface.co", REPO), license="mit", shown=None)
    assert "2 runs" in text and "suite" not in text.split("## Runs")[0]


@pytest.fixture
def suite(tmp_path: Path) -> record.OpenSuite:
    directory = tmp_path / "runs" / "sizes"
    for name in list(PLACES)[:2]:
        member(directory, name)
    documents.write(
        directory / layout.SUITE_MANIFEST,
        SuiteManifest(
            name="sizes",
            created=datetime(2026, 1, 1, tzinfo=UTC),
            producer=Producer(name="pico-train", version="0"),
            axes={"size": ("s", "m"), "seed": (9, 10)},
            members=tuple(
                SuiteMember(name=name, coordinates=place, config=layers.load_config(name=name).model_dump(mode="json"))
                for name, place in PLACES.items()
            ),
        ),
    )
    return record.open_suite(directory)


def test_a_suite_is_one_repository_with_the_card_of_the_family(
    suite: record.OpenSuite, hub: Hub, repository: Callable[[], Repository]
) -> None:
    said: list[str] = []
    report = publishing.publish_suite(suite, suite.members, {"repo": REPO}, say=said.append)
    assert (report.exit_code, report.failed) == (0, {})
    assert [row["member"] for row in report.rows] == ["s-seed10", "s-seed9"]  # those that are begun
    assert {"main", "s-seed10", "s-seed9"} == {ref["name"] for ref in repository().refs("refs/heads/")}
    text = content(hub, "main")["README.md"].decode()
    assert "suite `sizes`, 2 runs" in text and "| s | 10 |" in text and "| s | 9 |" in text
    assert any(line.startswith("s-seed9: ") for line in said)


@pytest.mark.usefixtures("hub")
def test_a_run_that_cannot_be_published_does_not_stop_the_others(
    suite: record.OpenSuite, repository: Callable[[], Repository]
) -> None:
    first = suite.run_dir(suite.members[0])
    weights = first / layout.checkpoint_dir(1) / layout.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    report = publishing.publish_suite(suite, suite.members, {"repo": REPO})
    assert report.exit_code == 3 and list(report.failed) == ["s-seed10"]
    assert "s-seed9" in {ref["name"] for ref in repository().refs("refs/heads/")}


def test_nothing_to_publish_is_said(suite: record.OpenSuite) -> None:
    with pytest.raises(UsageError, match="no run of suite sizes is begun"):
        publishing.publish_suite(suite, suite.members[2:], {"repo": REPO})
