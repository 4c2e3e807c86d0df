"""The process that talks to the Hub: ``python -m pico_train.publish.worker``, started by `supervisor.py`.

It reads one job as a line of JSON on stdin, reports events as lines of JSON on stdout, and ends when it is done, when
stdin says so, or when its parent is gone. Whatever hangs in here (the client has no time limit of its own in places)
is killed from outside; whatever dies in here leaves the queue on disk as it was.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TextIO

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, stop_never

from pico_schema import SchemaError, documents, layout, read_run
from pico_train.checkpoint.storage import Disk
from pico_train.config import PublishConfig
from pico_train.counting import counted
from pico_train.errors import CheckpointError, PublishError, StorageError
from pico_train.publish import commits, main_branch, marking, queue, redact, revision
from pico_train.publish.access import check_access
from pico_train.publish.dry_run import plan
from pico_train.publish.orders import Orders
from pico_train.publish.queue import PublishLock, Queue, StepRecord, not_recorded, sealed
from pico_train.publish.remote import DeniedError, MismatchError, Remote, TransientError, backoff
from pico_train.publish.set_aside import Marks

POLL = 5.0
"""Seconds between looks at the run when nobody calls."""


class Worker:
    """One run, one repository."""

    def __init__(self, job: Mapping[str, Any], orders: Orders, events: TextIO, *, disk: Disk | None = None) -> None:
        self.run_dir = Path(job["run_dir"])
        self.settings = PublishConfig.model_validate(job["settings"])
        self.chosen: set[int] | None = set(job["steps"]) if job.get("steps") is not None else None
        self.max_attempts: int | None = job.get("max_attempts")
        self.orders, self._events = orders, events
        self.disk = disk or Disk()
        self.queue = Queue(self.run_dir, str(self.settings.repo), disk=self.disk)
        self.remote = Remote(str(self.settings.repo), timeout=self.settings.timeout)
        self.unmoved = True
        self.undescribed = True
        """Whether main's card has not been looked at yet."""
        self.changed = False
        """Whether something was published since."""
        self.marked: bool | None = None
        """Whether publishing was finishing when the branch was last told what is set aside; None before."""

    def say(self, event: str, **details: Any) -> None:
        """Report an event to the parent; `allowed` is how many seconds may pass until the next one."""
        print(json.dumps({"event": event, **details}), file=self._events, flush=True)

    # -- publishing

    def publish(self) -> None:
        """Publish what is pending, and what is sealed meanwhile, until told to finish."""
        lock = self._locked()
        try:
            self._reconcile()
            for reason in revision.unread_evaluations(self.run_dir) if self.queue.records() else ():
                self.say("left_out", error=redact.clean(reason))
            self._publish_all()
        finally:
            lock.release()

    def _publish_all(self) -> None:
        while True:
            stopped = queue.halted(self.run_dir)
            finishing = self.orders.finish.is_set()
            pending = [] if stopped else self._pending()
            if not stopped and (self.marked is None or (not pending and self.marked is not finishing)):
                self._attempt_mark(finishing)
                continue
            if pending:
                self._attempt(pending[0].step)
                continue
            if finishing and not stopped and self.chosen is None and self.unmoved and self._finished():
                self._attempt_main()
                continue
            if not stopped and (self.undescribed or (finishing and self.changed)) and self._any_done():
                self._attempt_card()
                continue
            if finishing:
                if stopped:
                    self.say("halted", error=stopped.reason)
                return
            self.say("idle", allowed=None)
            self.orders.wait(POLL)

    def _locked(self) -> PublishLock:
        """Take the run's publishing lock; while training goes on, wait for another publisher to end."""
        lock = PublishLock(self.run_dir, disk=self.disk)
        while True:
            try:
                return lock.acquire()
            except PublishError as error:
                if self.orders.finish.is_set():
                    raise DeniedError(str(error)) from None
                self.say("waiting", error=str(error), allowed=None)
                self.orders.wait(POLL)

    def _reconcile(self) -> None:
        """See to the repository; a step whose tag is gone from the Hub, or names another commit than the one that was
        confirmed, is pending again, whatever the record says."""
        tags = self._retrying(None)(self._prepared_tags)
        name = read_run(self.run_dir).name if (self.run_dir / layout.RUN_MANIFEST).is_file() else ""
        for record in self.queue.records():
            if record.state == "done" and tags.get(layout.tag_name(name, record.step)) != record.commit:
                self.queue.save(StepRecord(step=record.step, manifest_sha256=record.manifest_sha256))

    def _prepared_tags(self) -> Mapping[str, str]:
        """The repository's tags, once the token may write to it and it exists."""
        self.say("attempt", step=None, allowed=10 * self.settings.timeout)
        self.remote.check_token()
        self.remote.create_repository(private=self.settings.private, collection=self.settings.collection)
        return self.remote.refs().tags

    def _pending(self) -> list[StepRecord]:
        return [record for record in self.queue.records(self.chosen) if record.state == "pending"]

    def _finished(self) -> bool:
        """Whether the run has its last checkpoint and all of them are published."""
        training = read_run(self.run_dir).config.get("training", {})
        last = training.get("max_steps") if isinstance(training, Mapping) else None
        records = self.queue.records()
        return bool(records) and records[-1].step == last and all(record.state == "done" for record in records)

    def _allowed(self, size: int) -> float:
        return 10 * self.settings.timeout + size / (self.settings.slowest_upload * 1e6)

    def _attempt(self, step: int) -> None:
        """Publish one step, trying until it is done or refused, or the run is halted."""
        try:
            published = self._retrying(step)(self._publish_once, step)
        except (CheckpointError, MismatchError, SchemaError) as error:
            text = redact.clean(str(error))
            self._note(step, state="refused", error=text)
            self.say("refused", step=step, error=text)
            return
        if published is not None:
            known = self.queue.record(step).model_copy(update={"manifest_sha256": published.manifest_sha256})
            self.queue.save(known.model_copy(update={"state": "done", "commit": published.commit, "error": None}))
            self.changed = True
            self.say("done", step=step, commit=published.commit)

    def _publish_once(self, step: int) -> commits.Published | None:
        """One attempt; what came of it, or None if the run was halted meanwhile."""
        if queue.halted(self.run_dir):
            return None
        self._respect_limit()
        # A checkpoint is seen once it is renamed, and durable once that is synced: the Hub must not know one that a
        # power cut takes away here, for the run would seal another of the same step.
        self.disk.fsync_directory(self.run_dir / layout.CHECKPOINTS)
        attempts = self.queue.record(step).attempts + 1
        self._note(step, attempts=attempts)
        size = self._size_of(step)
        self.say("attempt", step=step, attempt=attempts, size=size, allowed=self._allowed(size))

        def before_commit(planned: commits.Change) -> None:
            self.queue.count_commit()
            allowed = self._allowed(planned.size)
            self.say("uploading", step=step, files=len(planned.add), size=planned.size, allowed=allowed)

        try:
            return commits.publish_step(self.remote, self.run_dir, step, self.settings, before_commit=before_commit)
        except TransientError as error:
            self._note(step, error=redact.clean(str(error)))
            raise

    def _note(self, step: int, **changes: Any) -> None:
        """Change the record of a step."""
        self.queue.save(self.queue.record(step).model_copy(update=changes))

    def _size_of(self, step: int) -> int:
        return documents.read_checkpoint(self.run_dir / layout.checkpoint_dir(step)).size

    def _attempt_mark(self, finishing: bool) -> None:
        """Tell the branch what the run has set aside and taken back, trying until that is done or refused."""
        self.marked = finishing
        try:
            done = self._retrying(None)(self._mark_once)
        except CheckpointError as error:
            self.say("refused", step=None, branch=self.run_dir.name, error=redact.clean(str(error)))
        else:
            if done is not None:
                commit, marks = done
                self.changed = True
                branch = read_run(self.run_dir).name
                self.say("marked", branch=branch, commit=commit, title=marks.title, reasons=redact.clean(marks.text))

    def _mark_once(self) -> tuple[str, Marks] | None:
        self._respect_limit()
        self.say("attempt", step=None, allowed=20 * self.settings.timeout)
        return marking.mark(self.remote, self.run_dir, self.settings, before_commit=lambda _: self.queue.count_commit())

    def _attempt_main(self) -> None:
        """Move main to the last checkpoint, trying until that is done or refused."""
        last = sealed(self.run_dir)[-1]
        try:
            commit = self._retrying(last)(self._move_main_once, last)
        except (CheckpointError, MismatchError) as error:
            self.say("refused", step=last, branch="main", error=redact.clean(str(error)))
        else:
            self.say("main", step=last, commit=commit)
            self.undescribed = self.changed = False
        self.unmoved = False

    def _move_main_once(self, last: int) -> str:
        self._respect_limit()
        self.say("attempt", step=last, branch="main", allowed=self._allowed(self._size_of(last)))
        return main_branch.move_main(
            self.remote, self.run_dir, last, self.settings, before_commit=lambda _: self.queue.count_commit()
        )

    def _any_done(self) -> bool:
        return any(record.state == "done" for record in self.queue.records())

    def _attempt_card(self) -> None:
        """Bring main's card up to date, trying until that is done or refused."""
        self.undescribed = self.changed = False
        try:
            commit = self._retrying(None)(self._describe_once)
        except CheckpointError as error:
            self.say("refused", step=None, branch="main", error=redact.clean(str(error)))
        else:
            if commit is not None:
                self.say("described", commit=commit)

    def _describe_once(self) -> str | None:
        self._respect_limit()
        self.say("attempt", step=None, branch="main", allowed=20 * self.settings.timeout)
        return main_branch.describe_repository(
            self.remote, self.settings, before_commit=lambda _: self.queue.count_commit()
        )

    def _retrying(self, step: int | None) -> Retrying:
        """Calls a function again while the Hub may yet answer; each wait is as long as the Hub asks for, or longer.

        After the last attempt it raises DeniedError.
        """
        return Retrying(
            retry=retry_if_exception_type(TransientError),
            stop=stop_never if self.max_attempts is None else stop_after_attempt(self.max_attempts),
            wait=self._wait,
            before_sleep=partial(self._say_retry, step),
            retry_error_callback=_give_up,
        )

    def _wait(self, state: RetryCallState) -> float:
        least = _error(state).retry_after or 0.0
        return max(backoff(state.attempt_number, self.settings.retry_wait, self.settings.retry_wait_max), least)

    def _say_retry(self, step: int | None, state: RetryCallState) -> None:
        wait = state.next_action.sleep if state.next_action is not None else 0.0
        self.say("retry", step=step, error=redact.clean(str(_error(state))), wait=wait, allowed=wait + 30)

    def _respect_limit(self) -> None:
        while (wait := self.queue.seconds_until_commit(self.settings.commits_per_hour)) > 0:
            self.say(
                "waiting",
                error=f"the limit is {counted(self.settings.commits_per_hour, 'commit')} an hour",
                allowed=None,
            )
            time.sleep(min(wait, 30.0))


def _error(state: RetryCallState) -> TransientError:
    error = state.outcome.exception() if state.outcome is not None else None
    assert isinstance(error, TransientError)
    return error


def _give_up(state: RetryCallState) -> NoReturn:
    raise DeniedError(f"gave up after {counted(state.attempt_number, 'attempt')}: {redact.clean(str(_error(state)))}")


@contextlib.contextmanager
def _events() -> Iterator[TextIO]:
    """The pipe to the parent; anything else that is printed goes to stderr."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as stream:
        os.dup2(2, 1)
        yield stream


def main() -> int:
    """Do one job; returns the exit code: 0 done, 3 or 4 as the error says."""
    redact.install()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this process
    level = os.environ.get("PICO_LOG_LEVEL", "WARNING").upper()
    logging.basicConfig(level=level, stream=sys.stderr, format="%(asctime)s %(name)s %(message)s")
    with contextlib.suppress(OSError):
        os.nice(10)  # training comes first
    with _events() as events:
        job = json.loads(sys.stdin.readline())
        worker = Worker(job, Orders(sys.stdin), events)
        try:
            if job["task"] == "publish":
                worker.publish()
            elif job["task"] == "check":
                check_access(worker.remote, worker.settings, job["run_name"], job["run_id"], worker.say)
            else:
                plan(worker.remote, worker.run_dir, worker.settings, worker.chosen, worker.say)
        except (PublishError, CheckpointError, SchemaError) as error:
            kind = "unreachable" if isinstance(error, TransientError) else "denied"
            worker.say(kind, error=redact.clean(str(error)), exit_code=error.exit_code)
            return error.exit_code
        except OSError as error:  # the Hub's are understood by then: this is the disk
            worker.say("denied", error=str(not_recorded(worker.run_dir, error)), exit_code=StorageError.exit_code)
            return StorageError.exit_code
        worker.say("finished")
    return 0


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # no waiting for the client's threads
