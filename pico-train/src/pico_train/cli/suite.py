"""The commands `suite …`: families of runs from one file. Mounted by `app`."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pico_train.cli.brief import Brief
from pico_train.cli.console import As, Format, print_table
from pico_train.cli.numbers import MOST, MOST_PROCESSES, finite

if TYPE_CHECKING:
    from pico_train.config import RunConfig
    from pico_train.suite.record import OpenSuite
    from pico_train.suite.running import Report

app = typer.Typer(
    cls=Brief, help="Train families of runs that differ in named things, from one file.", no_args_is_help=True
)

File = Annotated[Path, typer.Argument(metavar="FILE", help="YAML of a suite: a base, and axes.")]
FileOrSuite = Annotated[
    str,
    typer.Argument(metavar="FILE|SUITE", help="YAML of a suite; or one that is begun, as SUITE."),
]
Suite = Annotated[
    str, typer.Argument(metavar="SUITE", help="A suite that is begun: its name under ./runs, or its directory.")
]
Out = Annotated[str | None, typer.Option(help="Directory in which the suite's directory is made. [default: runs]")]
Parallel = Annotated[
    int,
    typer.Option(
        "--parallel", "-j", min=1, max=MOST_PROCESSES, help="Members at a time, sharing this machine's devices."
    ),
]
Shard = Annotated[
    str | None, typer.Option(metavar="I/N", help="Only the I-th of N shares of about equal work, for job arrays.")
]
Override = Annotated[bool, typer.Option(help="Go on though the file was changed in what would be refused.")]


@app.command()
def plan(
    file: File,
    devices: Annotated[
        int | None, typer.Option(min=1, max=MOST, help="Devices of each run. [default: as configured, or 1]")
    ] = None,
    peak_tflops: Annotated[
        float | None,
        typer.Option(min=0.001, max=1e9, callback=finite, help="Dense peak of one device at the runs' precision."),
    ] = None,
    mfu: Annotated[
        float, typer.Option(min=0.001, max=1.0, callback=finite, help="Part of the peak that is reached.")
    ] = 0.4,
    measure: Annotated[
        bool, typer.Option("--measure", help="Time a few real steps of each kind of member here.")
    ] = False,
    output: As = Format.table,
) -> None:
    """What the runs will take, each and in all: parameters, tokens, FLOPs, time, disk. Nothing is begun."""
    from pico_train.config.suites import load_suite
    from pico_train.suite import planning

    suite = load_suite(file)

    def timed(config: RunConfig) -> float:
        from pico_train.plan import configured_devices
        from pico_train.training.measure import seconds_per_step

        typer.echo(f"measuring steps of {config.name}", err=True)
        return seconds_per_step(config, devices=devices or configured_devices(config))

    report = planning.plan_suite(
        suite.members,
        devices=devices,
        peak_tflops=peak_tflops,
        mfu=mfu,
        step_seconds=timed if measure else None,
    )
    if output is Format.json:
        typer.echo(report.model_dump_json(indent=1))
        return
    print_table(planning.as_table(report))
    for line in planning.notes(report):
        typer.echo(line)


@app.command()
def run(
    file: FileOrSuite,
    out: Out = None,
    parallel: Parallel = 1,
    shard: Shard = None,
    member: Annotated[
        str | None,
        typer.Option(help="Train this member alone, in this process: what torchrun and srun are to start."),
    ] = None,
    override: Override = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print warnings and the result, no progress.")] = False,
) -> None:
    """Train the members here, or go on where each stands: one after the other, or several at a time."""
    from pico_train.errors import UsageError
    from pico_train.suite import record

    if member is not None:
        if shard is not None or parallel > 1:
            raise UsageError("--member is one run in this process: leave --shard and --parallel out")
        _train(file, out, member, override=override, quiet=quiet)
        return
    suite, told = record.open_or_begin(file, out=out, override=override)
    for sentence in told:
        typer.echo(f"suite {suite.name}: {sentence}", err=True)
    _run(suite, parallel=parallel, shard=shard, override=override, quiet=quiet)


@app.command()
def resume(
    suite: Suite,
    parallel: Parallel = 1,
    shard: Shard = None,
    override: Override = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print warnings and the result, no progress.")] = False,
) -> None:
    """Go on with a suite as it was recorded, without its file: each member where it stands."""
    from pico_train.suite import record

    _run(record.open_suite(record.find(suite)), parallel=parallel, shard=shard, override=override, quiet=quiet)


def _run(suite: OpenSuite, *, parallel: int, shard: str | None, override: bool, quiet: bool) -> None:
    from pico_train.suite import running

    members: Sequence[Any] = suite.members
    if shard is not None:
        members = running.shared_out(members, *running.parse_shard(shard))
    report = running.run_members(
        suite,
        members,
        parallel=parallel,
        override=override,
        say=(lambda _: None) if quiet else lambda line: typer.echo(line, err=True),
    )
    _print_report(suite, report)


def _print_report(suite: OpenSuite, report: Report) -> None:
    from pico_train.suite import running, table

    print_table(table.status_rows(suite, report.states))
    typer.echo(report.line)
    if report.failed:
        raise running.failure(suite, report)
    if all(each.state == "finished" for each in report.states):
        typer.echo(f"next    pico-analyze compute cka {shlex.quote(str(suite.directory))}")


def _train(place: str, out: str | None, name: str, *, override: bool, quiet: bool) -> None:
    """One member in this process, which may be one rank of several: the first alone records the suite."""
    import pico_train
    from pico_train import environment
    from pico_train.cli.progress import TerminalReporter
    from pico_train.config.suites import load_suite
    from pico_train.suite import record, running

    running.end_with_parent()
    path = Path(place)
    if path.is_file() and not environment.is_first_rank():
        made = load_suite(path, out=out)
        suite = record.OpenSuite(made.directory, made.name, tuple(made.axes), made.members)
    else:
        suite, _ = record.open_or_begin(place, out=out, override=override)
    [chosen] = suite.chosen([name])
    summary = pico_train.train(
        chosen.config, override=override, reporter=TerminalReporter(quiet=quiet), suite=suite.membership(chosen)
    )
    if summary is not None:
        loss = f", loss {summary.last_loss:.3f}" if summary.last_loss is not None else ""
        typer.echo(f"{summary.run_dir}: {summary.steps:,} steps{loss}")


@app.command()
def status(
    suite: Suite,
    watch: Annotated[
        float | None,
        typer.Option(
            min=0.1, max=86_400, callback=finite, help="Look again every so many seconds, until all have ended."
        ),
    ] = None,
    output: As = Format.table,
) -> None:
    """Where each member stands: step, loss, tokens/s, state, last error."""
    from pico_train.suite import record, state, table

    opened = record.open_suite(record.find(suite))
    while True:
        found = state.states(opened)
        if output is Format.json:
            rows = [
                each.as_row() | {"coordinates": dict(m.coordinates)}
                for each, m in zip(found, opened.members, strict=True)
            ]
            typer.echo(json.dumps({"suite": opened.name, "members": rows}, indent=1))
        else:
            if watch is not None and sys.stdout.isatty():
                typer.echo("\x1b[2J\x1b[H", nl=False)
            print_table(table.status_rows(opened, found))
            typer.echo(table.status_line(found))
        if watch is None or not any(each.state in ("waiting", "running") for each in found):
            return
        time.sleep(watch)


@app.command()
def publish(
    suite: Suite,
    repo: Annotated[str | None, typer.Option(help="Repository, org/name. [default: the runs' publish.repo]")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show commits and bytes; send nothing.")] = False,
    private: Annotated[
        bool | None, typer.Option("--private/--public", help="Visibility of a repository it creates.")
    ] = None,
    license: Annotated[str | None, typer.Option(help="Licence in the card, by the Hub's short name.")] = None,
    output: As = Format.table,
) -> None:
    """Publish all runs in one repository: a branch each, and on main the card of the family."""
    from pico_train.suite import publishing, record

    opened = record.open_suite(record.find(suite))
    overrides = {"repo": repo, "private": private, "license": license}
    report = publishing.publish_suite(
        opened,
        opened.members,
        {key: value for key, value in overrides.items() if value is not None},
        dry_run=dry_run,
        say=lambda line: typer.echo(line, err=True),
    )
    if output is Format.json:
        typer.echo(json.dumps(report.rows, indent=1))
    else:
        print_table(report.rows)
    if report.failed:
        name, error = next(iter(report.failed.items()))
        some = f"{len(report.failed)} of {len(report.rows)} members are not published"
        typer.echo(f"error: {some}: {name}: {error}", err=True)
        raise typer.Exit(report.exit_code)


Minutes = Annotated[int, typer.Option("--minutes", min=3, max=MOST, help="Minutes of each task.")]
Nodes = Annotated[int, typer.Option(min=1, max=MOST_PROCESSES, help="Nodes of each member.")]
Gpus = Annotated[int, typer.Option(min=0, max=MOST_PROCESSES, help="GPUs of each node, a process each; 0: the CPU.")]
Cpus = Annotated[int, typer.Option(min=1, max=MOST_PROCESSES, help="Cores of each process.")]
Memory = Annotated[int | None, typer.Option("--memory", min=1, max=MOST, help="Memory of each node, in GB.")]
Partition = Annotated[str | None, typer.Option(help="SLURM's partition.")]
Account = Annotated[str | None, typer.Option(help="Whose account is charged.")]
AtOnce = Annotated[int | None, typer.Option("--at-once", min=1, max=MOST, help="Most tasks that run at a time.")]
More = Annotated[
    list[str] | None, typer.Option("--slurm", metavar="KEY=VALUE", help="Another word of sbatch; repeatable.")
]


class Launcher(StrEnum):
    """What starts a member's processes."""

    slurm = "slurm"
    torchrun = "torchrun"


class Cluster(StrEnum):
    """Where tasks go."""

    slurm = "slurm"
    local = "local"


@app.command()
def script(
    launcher: Annotated[Launcher, typer.Argument(help="slurm: a job array; torchrun: one member after the other.")],
    file: File,
    out: Out = None,
    minutes: Minutes = 60,
    nodes: Nodes = 1,
    gpus: Gpus = 0,
    cpus: Cpus = 4,
    memory: Memory = None,
    partition: Partition = None,
    account: Account = None,
    at_once: AtOnce = None,
    more: More = None,
) -> None:
    """Print what would be submitted, readable, for clusters with rules of their own."""
    from pico_train.config.suites import load_suite
    from pico_train.suite import scripts

    wishes = scripts.Wishes(minutes, nodes, gpus, cpus, memory, partition, account, at_once, tuple(more or ()))
    write = scripts.slurm if launcher is Launcher.slurm else scripts.torchrun
    typer.echo(write(load_suite(file, out=out), file, wishes), nl=False)


@app.command()
def submit(
    file: FileOrSuite,
    out: Out = None,
    minutes: Minutes = 60,
    gpus: Gpus = 0,
    cpus: Cpus = 4,
    memory: Memory = None,
    partition: Partition = None,
    account: Account = None,
    at_once: AtOnce = None,
    more: More = None,
    cluster: Annotated[Cluster, typer.Option(help="slurm; or local, to try it on this machine.")] = Cluster.slurm,
    override: Override = False,
) -> None:
    """Submit the members that are not finished to SLURM, as one array that puts itself into the queue again."""
    from pico_train.suite import record, scripts, state, submitting

    suite, told = record.open_or_begin(file, out=out, override=override)
    for sentence in told:
        typer.echo(f"suite {suite.name}: {sentence}", err=True)
    waiting = [m for m in suite.members if state.member_state(suite, m).state not in ("finished", "running")]
    if not waiting:
        typer.echo("every member is finished or being trained: nothing is submitted")
        return
    wishes = scripts.Wishes(minutes, 1, gpus, cpus, memory, partition, account, at_once, tuple(more or ()))
    tasks, jobs = submitting.submit(suite, waiting, wishes, cluster=cluster.value)
    print_table([{"member": task.member, "job": task.job, "log": str(task.log)} for task in tasks])
    if cluster is Cluster.local:
        for job in jobs:
            job.wait()
    typer.echo(f"next    pico-train suite status {shlex.quote(str(suite.directory))}")
