"""What a suite is, on disk: `suite.json` above its runs, and what may change of it once it is begun.

Members may be added. What may change of a run on a resume may change of a member; all else is refused, or with
`override` recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pico_schema import Membership, Producer, SuiteChange, SuiteManifest, SuiteMember, documents, layout
from pico_schema.files import replace_file
from pico_train.checkpoint import changes
from pico_train.checkpoint.lock import RunLock
from pico_train.checkpoint.storage import cannot_be_written
from pico_train.config import recorded
from pico_train.config.mistakes import did_you_mean
from pico_train.config.suites import Member, Suite, load_suite
from pico_train.counting import counted
from pico_train.errors import CheckpointError, ConfigError, StorageError, UsageError
from pico_train.version import __version__

RUNS = Path("runs")
"""Where a bare name is looked for."""
NOTES = ".suite"
"""Folder of a suite's directory for logs and outcomes of its members' processes."""
_PATIENCE = 30.0
_MOST_NAMED = 4


@dataclass(frozen=True)
class OpenSuite:
    """A suite that is begun."""

    directory: Path
    name: str
    axes: tuple[str, ...]
    members: tuple[Member, ...]

    def run_dir(self, member: Member) -> Path:
        """Directory of a member's run."""
        return self.directory / member.name

    def membership(self, member: Member) -> Membership:
        """What a member's manifest says of the suite."""
        return Membership(name=self.name, coordinates=dict(member.coordinates))

    def chosen(self, names: Sequence[str]) -> tuple[Member, ...]:
        """The members of these names, in the suite's order; all without a name.

        Raises:
            UsageError: there is none of a name; the message names the nearest.
        """
        known = [member.name for member in self.members]
        for name in names:
            if name not in known:
                more = ", …" if len(known) > 3 * _MOST_NAMED else ""
                raise UsageError(
                    f"suite {self.name} has no member {name!r}{did_you_mean(name, known)}: it has "
                    f"{', '.join(known[: 3 * _MOST_NAMED])}{more}"
                )
        return tuple(member for member in self.members if not names or member.name in names)


def is_suite(place: Path) -> bool:
    """Whether a directory is a suite's."""
    return (place / layout.SUITE_MANIFEST).is_file()


def find(place: str) -> Path:
    """The directory of a suite that is begun: by its path, or its name under ./runs.

    Raises:
        UsageError: there is none.
    """
    for path in (Path(place), RUNS / place):
        if is_suite(path):
            return path
    known = sorted(entry.parent.name for entry in RUNS.glob(f"*/{layout.SUITE_MANIFEST}"))
    there = f"; in {RUNS}/ there are {', '.join(known[: 3 * _MOST_NAMED])}" if known else ""
    raise UsageError(
        f"{place} is not a suite: it has no {layout.SUITE_MANIFEST}{did_you_mean(Path(place).name, known)}{there}; "
        "begin one with `pico-train suite run FILE`"
    )


def open_suite(directory: Path) -> OpenSuite:
    """A suite that is begun, as it was recorded.

    Raises:
        SchemaError: its document is damaged.
        ConfigError: a member's configuration is not one of this version of pico-train.
    """
    manifest = documents.read(directory / layout.SUITE_MANIFEST, SuiteManifest)
    return OpenSuite(directory, manifest.name, tuple(manifest.axes), tuple(_read(manifest, directory)))


def _read(manifest: SuiteManifest, directory: Path) -> list[Member]:
    return [
        Member(
            member.name,
            member.coordinates,
            recorded.read({**member.config, "name": member.name, "out": str(directory)}, f"the suite {manifest.name}"),
        )
        for member in manifest.members
    ]


def begin(suite: Suite, *, override: bool = False) -> tuple[OpenSuite, list[str]]:
    """Record a suite, or see that it is the one that was begun.

    Returns:
        The suite; sentences about what is new of one that was begun before.

    Raises:
        ConfigError: members were changed or taken away, and `override` is off, or it may not be at all.
        StorageError: the directory cannot be written.
    """
    directory = suite.directory
    try:
        (directory / NOTES).mkdir(parents=True, exist_ok=True)
        with RunLock(directory / NOTES, patience=_PATIENCE):  # the tasks of a job array begin together
            told = _reconcile(suite, override=override)
    except OSError as error:
        raise StorageError(cannot_be_written(directory, error)) from None
    return OpenSuite(directory, suite.name, tuple(suite.axes), suite.members), told


def _reconcile(suite: Suite, *, override: bool) -> list[str]:
    path, when = suite.directory / layout.SUITE_MANIFEST, datetime.now(UTC)
    if not path.is_file():
        if (suite.directory / layout.RUN_MANIFEST).is_file():
            raise CheckpointError(f"{suite.directory} is a run: give the suite another name, or another --out")
        replace_file(path, documents.dump(_manifest(suite, when)))
        return []
    before = documents.read(path, SuiteManifest)
    known = {member.name: member for member in _read(before, suite.directory)}
    now = {member.name: member for member in suite.members}
    what = _changes(known, now)
    if [*before.axes] != [*suite.axes]:
        what.insert(0, (f"its axes were {', '.join(before.axes)} and are {', '.join(suite.axes)}", False))
    refused = [sentence for sentence, may_be in what if not may_be]
    if refused and not override:
        more = f", and {counted(len(refused) - _MOST_NAMED, 'more change')}" if len(refused) > _MOST_NAMED else ""
        raise ConfigError(
            f"the suite {suite.name} was begun otherwise: {'; '.join(refused[:_MOST_NAMED])}{more}. Put it back, give "
            "the suite another name, or go on with --override"
        )
    for name in known.keys() & now.keys() if override else ():
        fields = changes.config_changes(*(each[name].config.model_dump(mode="json") for each in (known, now)))
        changes.accept_changes(fields, step=0, when=when, override=True)  # raises for what not even that changes
    if what:
        noted = tuple(SuiteChange(when=when, what=sentence[:2000]) for sentence, _ in what)
        after = _manifest(suite, before.created)
        replace_file(path, documents.dump(after.model_copy(update={"changes": (*before.changes, *noted)})))
    return [sentence for sentence, _ in what]


def _changes(before: dict[str, Member], after: dict[str, Member]) -> list[tuple[str, bool]]:
    """What differs, in sentences, and whether it may be of a suite that is begun."""
    found = [(f"member {name} is gone", False) for name in before if name not in after]
    for name, member in after.items():
        if name not in before:
            found.append((f"member {name} is new", True))
            continue
        was, now = dict(before[name].coordinates), dict(member.coordinates)
        if was != now:
            found.append((f"{name} was {was} and is {now}", False))
        old, new = (each.config.model_dump(mode="json") for each in (before[name], member))
        for field, value, other in changes.config_changes(old, new):
            found.append((f"{field} of {name} was {value!r} and is {other!r}", changes.is_free(field)))
    return found


def _manifest(suite: Suite, created: datetime) -> SuiteManifest:
    return SuiteManifest(
        name=suite.name,
        created=created,
        producer=Producer(name="pico-train", version=__version__),
        axes=dict(suite.axes),
        members=tuple(
            SuiteMember(name=m.name, coordinates=dict(m.coordinates), config=m.config.model_dump(mode="json"))
            for m in suite.members
        ),
    )


def open_or_begin(place: str, *, out: str | None = None, override: bool = False) -> tuple[OpenSuite, list[str]]:
    """The suite of a file, begun if it is not; or one that is begun, by its directory or name.

    Raises:
        UsageError: it is neither.
        ConfigError, StorageError: as `load_suite` and `begin`.
    """
    path = Path(place)
    if path.is_file():
        return begin(load_suite(path, out=out), override=override)
    if path.suffix in (".yaml", ".yml"):
        raise UsageError(f"{place}: there is no such file")
    return open_suite(find(place)), []
