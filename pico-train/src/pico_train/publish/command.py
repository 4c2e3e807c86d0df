"""Publishing a run that is on disk: what `pico-train publish` does. Raises; the command prints."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pico_schema import layout, read_run
from pico_train.config import PublishConfig
from pico_train.counting import counted
from pico_train.errors import ConfigError, PublishError, UsageError
from pico_train.publish.queue import PublishLock, Queue, halted, not_recorded, sealed
from pico_train.publish.remote import endpoint
from pico_train.publish.supervisor import Event, Supervisor


@dataclass(frozen=True)
class PublishReport:
    """What came of it."""

    rows: list[dict[str, Any]]
    """One for each step."""
    line: str
    """One sentence."""
    error: str | None
    """Why it is not complete."""
    exit_code: int
    """0 all published; 3 a checkpoint is not fit to be; 4 the Hub."""


def choose_settings(run_dir: Path, overrides: Mapping[str, Any]) -> PublishConfig:
    """The run's own `publish` section under what the command line says.

    Raises:
        ConfigError: no repository is named, or a value is not one.
    """
    from pico_train.config.layers import validate

    stored = read_run(run_dir).config.get("publish")
    known = {k: v for k, v in (stored or {}).items() if k in PublishConfig.model_fields}
    settings = validate({"publish": {**known, **overrides}}).publish
    if settings.repo is None:
        raise ConfigError(f"{run_dir} names no repository to publish to: add --repo org/name")
    return settings


def choose_steps(run_dir: Path, text: str | None) -> list[int] | None:
    """Steps of a list such as ``0,1,128``; None for all.

    Raises:
        UsageError: not a list of steps, or of steps that are not sealed.
    """
    if text is None:
        return None
    try:
        wanted = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise UsageError(f"--steps {text!r}: write it as 0,1,128") from None
    there = sealed(run_dir)
    missing = [step for step in wanted if step not in there]
    if missing or not wanted:
        raise UsageError(f"--steps {text}: {run_dir} has sealed steps {', '.join(map(str, there)) or 'none'}")
    return wanted


def publish_run(
    run_dir: Path,
    settings: PublishConfig,
    *,
    steps: Sequence[int] | None = None,
    dry_run: bool = False,
    max_attempts: int = 8,
    progress: Callable[[str], None] = lambda _: None,
) -> PublishReport:
    """Publish the sealed checkpoints of a run (or those of `steps`), or say what would be.

    Refused checkpoints are looked at again: their files may have been restored.

    Raises:
        PublishError: another process publishes this run.
        StorageError: what is done cannot be recorded.
    """
    job = {
        "task": "plan" if dry_run else "publish",
        "run_dir": str(run_dir),
        "settings": settings.model_dump(mode="json"),
        "steps": list(steps) if steps is not None else None,
        "max_attempts": max_attempts,
    }
    if not dry_run:
        try:
            with PublishLock(run_dir):
                _forget_refusals(Queue(run_dir, str(settings.repo)), steps)
        except OSError as refused:
            raise not_recorded(run_dir, refused) from None
    planned: list[dict[str, Any]] = []
    marks: list[int] = []

    def see(event: Event) -> None:
        if event["event"] == "planned":
            planned.append({key: value for key, value in event.items() if key != "event"})
        elif event["event"] == "to_mark":
            marks.append(event["size"])
            progress(str(_describe(event)))
        elif (line := _describe(event)) is not None:
            progress(line)

    supervisor = Supervisor(job, run_dir, see, restart_wait=settings.retry_wait, max_restarts=max_attempts)
    supervisor.tell("finish")
    last = supervisor.run()
    error = str(last["error"]) if last["event"] != "finished" else None
    if dry_run:
        total = sum(row["size"] for row in planned) + sum(marks)
        what = f"{counted(len(planned) + len(marks), 'commit')} to {endpoint()}/{settings.repo}"
        line = f"{what}, {total / 1e6:,.1f} MB in all; nothing was sent"
        return PublishReport(planned, line, error, int(last.get("exit_code", 4)) if error else 0)
    return _report(run_dir, settings, steps, error, int(last.get("exit_code", 4)))


def push_results(run_dir: Path, settings: PublishConfig) -> str | None:
    """Commit to a run's branch the results that it does not have yet: one commit, and `revisions.json` tells of them.

    Returns:
        The commit; None where the branch has them all, or nothing of the run.

    Raises:
        PublishError: the Hub refuses, or another process publishes this run.
        StorageError: the Hub cannot be reached.
    """
    from pico_train.publish.marking import mark
    from pico_train.publish.remote import Remote

    with PublishLock(run_dir):
        done = mark(
            Remote(str(settings.repo), timeout=settings.timeout), run_dir, settings, before_commit=lambda _: None
        )
    return None if done is None else done[0]


def _forget_refusals(records: Queue, steps: Sequence[int] | None) -> None:
    for record in records.records(steps):
        if record.state == "refused":
            records.save(record.model_copy(update={"state": "pending", "error": None}))


def _report(
    run_dir: Path, settings: PublishConfig, steps: Sequence[int] | None, error: str | None, code: int
) -> PublishReport:
    name = read_run(run_dir).name
    records = Queue(run_dir, str(settings.repo)).records(steps)
    rows = [
        {
            "step": record.step,
            "state": record.state,
            "tag": layout.tag_name(name, record.step) if record.state == "done" else None,
            "commit": record.commit,
            "error": record.error,
        }
        for record in records
    ]
    counts = {state: sum(record.state == state for record in records) for state in ("done", "pending", "refused")}
    stopped = halted(run_dir)
    if error is None and stopped is not None and counts["pending"]:
        error, code = f"nothing was published: {stopped.reason}", 3
    if error is None and counts["refused"]:
        first = next(record for record in records if record.state == "refused")
        error, code = first.error, 3
    if error is None and counts["pending"]:
        pending = counted(counts["pending"], "step is", "steps are")
        error, code = f"{pending} still pending", PublishError.exit_code
    line = (
        f"{counts['done']} of {counted(len(records), 'checkpoint is', 'checkpoints are')} on "
        f"{endpoint()}/{settings.repo}"
    )
    return PublishReport(rows, line, error, code if error else 0)


def _describe(event: Event) -> str | None:
    """One line for people, or nothing."""
    step, kind = event.get("step"), event["event"]
    match kind:
        case "uploading":
            return f"step {step}: sending {counted(event['files'], 'file')}, {event['size'] / 1e6:,.1f} MB"
        case "done":
            return f"step {step}: commit {event['commit'][:12]}"
        case "main":
            return f"main: step {step}, commit {event['commit'][:12]}"
        case "marked":
            return f"{event['title']}: so says {event['branch']} now, commit {event['commit'][:12]}"
        case "to_mark":
            return f"{event['title']}: so would {event['branch']} say"
        case "described":
            return f"main: the card of all runs, commit {event['commit'][:12]}"
        case "retry":
            where = "the repository" if step is None else f"step {step}"
            return f"{where}: {event['error']}; again in {event['wait']:.0f} s"
        case "refused" | "left_out" | "halted" | "waiting" | "hung" | "died":
            return str(event["error"])
    return None
