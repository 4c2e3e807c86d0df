"""Main, which people see first: what it says of a repository of several runs, whoever published last."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from support.publishing import QUICK, REPO, content, evaluation_of, publish_here

from pico_conformance import Fault, Hub
from pico_conformance.gitstore import Repository
from pico_conformance.published import put_files
from pico_conformance.runs import add_checkpoint, write_run
from pico_schema import documents, layout, read_run
from pico_train.publish.card import OURS, PUBLIC_HUB
from pico_train.publish.command import PublishReport, publish_run
from pico_train.publish.remote import DeniedError, endpoint

Repo = Callable[[], Repository]


def main_card(hub: Hub) -> str:
    return content(hub, "main")[layout.CARD].decode()


def sections(card: str) -> dict[str, str]:
    """Each run's part of a card of several, by the run's name."""
    parts = card.split("\n## Run `")[1:]
    return {part.partition("`")[0]: part.partition("\n## Citation")[0] for part in parts}


def test_a_repository_of_two_runs_is_described_whole(hub: Hub, tmp_path: Path) -> None:
    big = write_run(tmp_path, "big", seed=3)
    small = write_run(tmp_path, "small", steps=(0, 1), seed=4, max_steps=9)  # goes on training
    publish_here(small)
    publish_here(big)
    card = main_card(hub)
    assert "# tester/model: 2 runs" in card
    assert f"| [`big`]({hub.url}/tester/model/tree/big) | 6,736 | 3 | 3 | 2 | 128 | 3.782 | 3.882 |" in card
    assert f"| [`small`]({hub.url}/tester/model/tree/small) | 6,736 | 4 | 2 | 1 | 64 | 3.962 | 4.062 |" in card
    assert "`main` holds the last checkpoint of run `big`" in card
    assert f"hf://{REPO}@big hf://{REPO}@small" in card
    for name, last in (("big", 2), ("small", 1)):
        part = sections(card)[name]
        for words in (
            "### Model",
            "### Data",
            "### Training",
            "### Loss curve",
            "### Revisions",
            f"`{name}-step-{last}`",
        ):
            assert words in part, (name, words)
    for run in (big, small):
        assert read_run(run).id in card.partition("## Citation")[2]


def test_a_run_that_goes_on_is_described_before_it_is_finished(hub: Hub, tmp_path: Path) -> None:
    run = write_run(tmp_path, "alone", steps=(0, 1), max_steps=9)
    publish_here(run)
    assert "# tester/model: run `alone`" in main_card(hub) and "`alone-step-1`" in main_card(hub)
    add_checkpoint(run, 2)
    publish_here(run)
    assert "`alone-step-2`" in main_card(hub)
    mark = hub.log.mark()
    publish_here(run)
    assert hub.log.count("POST .*/(preupload|commit)/", since=mark) == 0, "nothing new, nothing written"


def test_a_branch_describes_its_run_and_points_to_the_others(hub: Hub, tmp_path: Path) -> None:
    for name in ("a", "b"):
        publish_here(write_run(tmp_path, name))
    card = content(hub, "a")[layout.CARD].decode()
    assert "run `a`" in card and "`b`" not in card
    assert f"All runs of this repository: [tester/model]({hub.url}/tester/model)." in card


@pytest.mark.parametrize("seed", range(2))
def test_publishers_side_by_side_lose_none_of_the_others(hub: Hub, tmp_path: Path, seed: int) -> None:
    """Whoever commits to main last has read what all others had put on their branches by then."""
    hub.faults.add(
        Fault("POST .*/commit/main", "hang", delay=0.7, skip=seed),  # meanwhile others commit: then it is stale
        Fault("POST .*/commit/main", "lost", skip=1),
        Fault("POST .*/commit/main", "race", skip=2),
    )
    names = ["a", "b", "c"]
    runs = [write_run(tmp_path, name, steps=(0, 1), seed=n, max_steps=1 + n) for n, name in enumerate(names)]
    reports: dict[str, PublishReport] = {}

    def publish(run: Path) -> None:
        reports[run.name] = publish_run(run, QUICK, max_attempts=40)

    threads = [threading.Thread(target=publish, args=(run,)) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert [reports[name].exit_code for name in names] == [0, 0, 0], reports
    card = main_card(hub)
    assert set(sections(card)) == set(names)
    assert all(f"`{name}-step-1`" in sections(card)[name] for name in names), "each as far as it is published"


def test_main_holds_nothing_of_the_run_before(hub: Hub, tmp_path: Path) -> None:
    """Evaluations of one run beside another's checkpoint would be read as that one's."""
    first, second = write_run(tmp_path, "first", steps=(0, 1)), write_run(tmp_path, "second", steps=(0, 3), seed=1)
    (first / layout.EVALUATIONS).mkdir()
    documents.write(first / layout.evaluation_file(1), evaluation_of(first, 1))
    publish_here(first)
    assert layout.evaluation_file(1) in content(hub, "main")
    publish_here(second)
    there = content(hub, "main")
    assert layout.evaluation_file(1) not in there
    assert b'"name": "second"' in there[layout.RUN_MANIFEST]
    assert layout.evaluation_file(1) in content(hub, "first"), "the run keeps its own"


def test_a_persons_own_text_on_main_stays(hub: Hub, tmp_path: Path) -> None:
    put_files(hub, REPO, "main", {layout.CARD: b"# Our study\n"})
    run = write_run(tmp_path, steps=(0, 1))
    publish_here(run)
    assert main_card(hub) == "# Our study\n"
    assert (run / layout.checkpoint_dir(1) / layout.WEIGHTS).read_bytes() == content(hub, "main")[layout.WEIGHTS]
    assert OURS in content(hub, "demo")[layout.CARD].decode()


def test_a_card_as_2_0_0_wrote_it_is_brought_up_to_date(hub: Hub, tmp_path: Path) -> None:
    publish_here(write_run(tmp_path))
    old = main_card(hub).replace(OURS + "\n\n", "").replace("revisions", "revisions of old")
    assert OURS not in old
    hub.commit_outside("models", REPO, "main", layout.CARD, old.encode())
    publish_here(write_run(tmp_path, "other"))
    assert "2 runs" in main_card(hub)


def test_branches_that_are_no_runs_are_left_out_and_named_if_they_pretend(hub: Hub, tmp_path: Path) -> None:
    put_files(hub, REPO, "notes", {"notes.md": b"hello"})
    put_files(hub, REPO, "broken", {layout.REVISIONS: b'{"kind": "revisions", "revisions": [1e999]}'})
    put_files(hub, REPO, "deep", {layout.REVISIONS: b"[" * 5000, layout.RUN_MANIFEST: b"{}"})
    run = write_run(tmp_path)
    publish_here(run)
    there = content(hub, "demo")
    put_files(hub, REPO, "posing", {name: there[name] for name in (layout.REVISIONS, layout.RUN_MANIFEST)})
    add_checkpoint(run, 3)
    publish_here(run)
    card = main_card(hub)
    assert "Not readable as runs: `broken`, `deep`, `posing`." in card
    assert "notes" not in card and set(sections(card)) == {"demo"}


def test_a_run_called_main_is_refused(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(DeniedError, match="give the run another name"):
        publish_here(write_run(tmp_path, "main"))
    assert len(hub.repository("models", REPO).log("main")) == 1, "nothing was written"


class TestAddresses:
    """Whatever shows where something is on the Hub shows the Hub that it is on."""

    def test_the_summary_and_the_cards(self, hub: Hub, tmp_path: Path) -> None:
        run = write_run(tmp_path)
        assert f"1 commit to {hub.url}/{REPO}, " in publish_run(run, QUICK, steps=[0], dry_run=True).line
        report = publish_run(run, QUICK)
        assert report.line == f"3 of 3 checkpoints are on {hub.url}/{REPO}"
        for revision in ("demo", "main"):
            card = content(hub, revision)[layout.CARD].decode()
            assert f"url = {{{hub.url}/{REPO}}}" in card
            assert f"set `HF_ENDPOINT={hub.url}` first" in card
            assert PUBLIC_HUB not in card

    def test_a_password_in_it_is_not_shown(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_ENDPOINT", "https://user:secret@hub.example.org/path/")
        assert endpoint() == "https://hub.example.org/path"
        monkeypatch.setenv("HF_ENDPOINT", "")
        assert endpoint() != ""

    def test_no_line_of_code_writes_the_public_hub(self) -> None:
        import pico_train

        code = Path(pico_train.__file__).parent
        found = [path for path in code.rglob("*.py") if "huggingface.co" in path.read_text(encoding="utf-8")]
        assert [path.name for path in found] == ["card.py"], (
            "that one tells whether a client has to be pointed elsewhere"
        )
