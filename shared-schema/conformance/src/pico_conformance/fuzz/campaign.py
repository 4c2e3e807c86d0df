"""Many seeds: each damages a copy of a golden run and asks commands of it, in a process of its own.

A process that dies (of a signal, or because it was stopped when its time was over) is a failure of that seed and of no
other. Everything follows from the seed: the golden run, the damage, and which commands are asked when not all are.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from pico_conformance.fuzz import commands as asked
from pico_conformance.fuzz import oracle
from pico_conformance.fuzz.commands import COMMANDS, Command, Values
from pico_conformance.fuzz.mutations import Mutation, mutate

SECONDS = 60.0
"""Time of one command; one on a sound run takes less than a second."""


@dataclass(frozen=True)
class Failure:
    """One thing that a command must not have done."""

    seed: int
    command: str
    mutation: str
    fault: str

    def __str__(self) -> str:
        return f"seed {self.seed}, {self.command}: {self.fault} [{self.mutation}]"


@dataclass(frozen=True)
class Template:
    """A golden run with a table of its analysis, and what every command says of it."""

    folder: Path
    references: dict[str, Values | None]
    """By command; None where the sound run has no such answer (a run of 1.0 stores no validation rows)."""
    failures: tuple[Failure, ...]
    """What commands do that they must not already on the sound run; they are not asked of damaged ones."""


def templates(golden: Path, scratch: Path, *, slow: bool = True) -> list[Template]:
    """The golden run of each version, ready to be damaged.

    Args:
        golden: The directory of golden runs, one a schema version.
        scratch: Where they are copied to, and what is prepared for all is kept.
        slow: Whether slow commands are asked too.

    Raises:
        RuntimeError: a command does not end as it should on a sound run.
    """
    versions, going = sorted(golden.iterdir()), []
    for version in versions:
        folder, answers = _template(scratch, version.name)
        shutil.copytree(version / "golden", folder / "golden")
        going.append(_start(lambda folder=folder, answers=answers: _ask_sound(folder, answers, slow), scratch))
    _wait(going, 20 * SECONDS)
    found = []
    for version in versions:
        folder, answers = _template(scratch, version.name)
        if not answers.is_file():
            raise RuntimeError(f"the commands do not answer on the sound run of {version.name}")
        told = json.loads(answers.read_text())
        failures = tuple(Failure(**failure) for failure in told["failures"])
        found.append(Template(folder, told["references"], failures))
    return found


def _template(scratch: Path, version: str) -> tuple[Path, Path]:
    return scratch / f"template-{version}", scratch / f"answers-{version}.json"


def _ask_sound(folder: Path, answers: Path, slow: bool) -> None:
    whole = folder.with_name(f"{folder.name}-whole")
    kept = next(command for command in COMMANDS if command.name == "a table again")
    asked.call(kept, folder, 20 * SECONDS)
    shutil.copytree(folder, whole, symlinks=True)
    asked.prepare(whole)
    references: dict[str, Values | None] = {}
    failures: list[dict[str, object]] = []
    for command in COMMANDS:
        if command.slow and not slow:
            continue
        answer = asked.call(command, whole, 20 * SECONDS)
        sound = answer.code == 0 and command.values is not None
        references[command.name] = command.values(answer.out) if sound and command.values else None
        mutation = Mutation("nothing", f"the golden run of {folder.name.rpartition('-')[2]}")
        failures += [
            asdict(Failure(-1, command.name, str(mutation), f)) for f in oracle.faults(command, answer, None, mutation)
        ]
        if answer.code and command.name in ("verify", "weights"):
            sys.stderr.write(f"{command.name}, of a sound run: {answer.err[-2000:]}")
            return
    answers.write_text(json.dumps({"references": references, "failures": failures}))


def run(
    seeds: Iterable[int],
    golden: Path,
    *,
    workers: int = 1,
    n_commands: int | None = None,
    only: str | None = None,
) -> Iterator[tuple[int, str, list[Failure]]]:
    """Each seed with what was done to the run and what went wrong, as they end.

    Args:
        seeds: One mutation each.
        golden: The directory of golden runs, one a schema version.
        workers: Processes at a time.
        n_commands: Commands asked of each damaged run; all of them unless told otherwise.
        only: The name of the one command to ask.
    """
    asked.load()
    with tempfile.TemporaryDirectory(prefix="pico-fuzz-") as name:
        scratch = Path(name)
        ready = templates(golden, scratch, slow=n_commands is None and only in (None, "data show"))
        for template in ready:
            if template.failures:
                yield -1, template.failures[0].mutation, list(template.failures)
        going: dict[int, tuple[int, Path, float]] = {}
        left = iter(seeds)
        exhausted = False
        while going or not exhausted:
            while not exhausted and len(going) < workers:
                seed = next(left, None)
                if seed is None:
                    exhausted = True
                    break
                folder = scratch / f"seed-{seed}"
                folder.mkdir()
                pid = _start(lambda seed=seed, folder=folder: _one(seed, ready, folder, n_commands, only), folder)
                going[pid] = (seed, folder, time.monotonic() + SECONDS * (len(COMMANDS) + 1))
            for pid, status in _ended(going):
                seed, folder, _ = going.pop(pid)
                yield seed, *_result(seed, folder, status)
                shutil.rmtree(folder, ignore_errors=True)


def _one(seed: int, ready: list[Template], folder: Path, n_commands: int | None, only: str | None) -> None:
    """Damage a copy, ask, leave what went wrong in `result.json`."""
    rng = random.Random(seed)
    template = rng.choice(ready)
    damaged = folder / "run"
    shutil.copytree(template.folder, damaged)
    mutation = mutate(damaged, rng)
    (folder / "mutation.txt").write_text(str(mutation), errors="backslashreplace")
    asked.prepare(damaged)
    if (corpora := folder.parent / "cache" / "data").is_dir():  # tokenizing the corpus takes ten seconds
        (folder / "cache").mkdir()
        (folder / "cache" / "data").symlink_to(corpora)
    chosen = list(COMMANDS)
    if n_commands is not None:
        quick = [command for command in COMMANDS if not command.slow]
        some = rng.sample(quick, min(n_commands, len(quick)))
        chosen = [command for command in COMMANDS if command in some]  # in their order: the last one changes the run
    failures = []
    for command in chosen:
        if only in (None, command.name) and command.name not in {failure.command for failure in template.failures}:
            (folder / "command.txt").write_text(command.name)
            failures += [
                asdict(failure) for failure in _ask(seed, command, template, damaged, mutation, show=only is not None)
            ]
    (folder / "result.json").write_text(json.dumps(failures))


def _ask(
    seed: int, command: Command, template: Template, folder: Path, mutation: Mutation, *, show: bool
) -> list[Failure]:
    answer = asked.call(command, folder, SECONDS)
    if show:
        sys.stderr.write(
            f"{mutation}\nexit code {answer.code}\n{answer.out[:3000]}\n{answer.err[:3000]}\n{answer.raised}\n"
        )
    reference = template.references[command.name]
    faults = oracle.faults(command, answer, reference, mutation)
    if command.name == "verify" and answer.code == 0 and oracle.damaged(mutation):
        faults.append("it calls a damaged run sound")
    return [Failure(seed, command.name, str(mutation), fault) for fault in faults]


def _result(seed: int, folder: Path, status: int) -> tuple[str, list[Failure]]:
    told = folder / "mutation.txt"
    mutation = told.read_text() if told.is_file() else "nothing"
    if (folder / "result.json").is_file():
        return mutation, [Failure(**failure) for failure in json.loads((folder / "result.json").read_text())]
    command = (folder / "command.txt").read_text() if (folder / "command.txt").is_file() else "nothing"
    how = f"died of signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "ended"
    log = folder / "log.txt"
    last = log.read_text(errors="replace").strip().splitlines()[-1:] if log.is_file() else []
    return mutation, [Failure(seed, command, mutation, f"the process {how} {' '.join(last)[:300]}")]


def _start(work: object, folder: Path) -> int:
    """Fork; the child does the work and ends. Returns its id."""
    assert callable(work)
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.environ["PICO_CACHE"] = str(
            folder / "cache"
        )  # of its own: what one run was found to be is not known of others
        os.environ["HF_HUB_OFFLINE"] = "1"
        work()
        code = 0
    except BaseException:
        (folder / "log.txt").write_text(traceback.format_exc())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _ended(going: dict[int, tuple[int, Path, float]]) -> Iterator[tuple[int, int]]:
    """Children that have ended; those whose time is over are ended."""
    for pid in list(going):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            yield pid, status
        elif time.monotonic() > going[pid][2]:
            os.kill(pid, signal.SIGKILL)
    time.sleep(0.005)


def _wait(pids: list[int], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    for pid in pids:
        while not os.waitpid(pid, os.WNOHANG)[0]:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
