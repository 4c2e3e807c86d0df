"""All checks of one run, and what they found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pico_analyze.auditing.beginning import beginning
from pico_analyze.auditing.distances import Distances, distances, groups_of
from pico_analyze.auditing.documents import documents
from pico_analyze.auditing.evidence import Evidence, gather
from pico_analyze.auditing.finding import COLUMNS, Finding, Severity, in_order, listed, named_steps
from pico_analyze.auditing.lineage import lineage
from pico_analyze.auditing.payloads import Same, same_weights
from pico_analyze.auditing.schedule import schedule, tokens
from pico_analyze.auditing.seals import complete, sealed
from pico_analyze.auditing.trajectory import Odd, detour, odd_steps
from pico_analyze.auditing.values import values

if TYPE_CHECKING:
    import pandas

    from pico_analyze.stores.base import ReadOptions, Store

_AGAIN = "publish it again, or leave the step out"
CLEARLY = 1.5
"""How many times longer the way over the next best step must be for one step to be said to be right."""


@dataclass(frozen=True)
class Audit:
    """What an audit of a run gave."""

    run: str
    n_checkpoints: int
    """Complete checkpoints that were looked at."""
    checks: tuple[str, ...]
    """The checks that could be made."""
    findings: tuple[Finding, ...]
    """By step, the run's own first."""

    def count(self, severity: str) -> int:
        """How many findings of this severity there are."""
        return sum(one.severity == severity for one in self.findings)

    def frame(self) -> pandas.DataFrame:
        """One row per finding, with the columns of `COLUMNS`; `step` is missing where it is the run's."""
        import pandas

        rows = [
            (self.run, one.step, one.name, one.check, one.severity, one.finding, dict(one.figures))
            for one in self.findings
        ]
        return pandas.DataFrame(rows, columns=list(COLUMNS)).astype({"step": "Int64"})


def audit_store(
    store: Store, advanced: Callable[[int], None] = lambda _: None, options: ReadOptions | None = None
) -> Audit:
    """Make every check that a run allows.

    Args:
        store: The run.
        advanced: Is told after each checkpoint that one more was read.
        options: How the parent of a fork is read, where that is a run at an address.

    Raises:
        StorageError: disk or network.
    """
    evidence = gather(store, advanced)
    lost = [one.step for one in store.unusable() if one.step is not None]
    weights = _weights(evidence)
    made: list[tuple[str, list[Finding] | None]] = [
        ("seals", sealed(store, evidence)),
        ("schedule", schedule(evidence, lost) if len(evidence) > 1 else None),
        ("tokens", tokens(evidence)),
        ("documents", documents(evidence)),
        ("values", values(evidence)),
        ("lineage", lineage(store, evidence, options)),
        *weights,
        ("complete", complete(store, evidence)),  # last: reading further may have shown faults
    ]
    checks = tuple(name for name, found in made if found is not None)
    findings = in_order(finding for _, found in made for finding in found or ())
    return Audit(store.run, len(evidence), checks, tuple(findings))


def _weights(evidence: Sequence[Evidence]) -> list[tuple[str, list[Finding] | None]]:
    """Checks of payloads, trajectory and step 0: each leaves out what the one before has found."""
    by_step = {one.step: one for one in evidence}
    space = distances(evidence)
    wrong: set[int] = set()
    payloads: list[Finding] = []
    same = same_weights(evidence)
    for one in same:
        finding, misfits = _same(one, by_step, space, {step for other in same for step in other.steps})
        payloads.append(finding)
        wrong |= set(misfits)
    trajectory: list[Finding] | None = None
    if space is not None and len(space.steps) > 2:
        trajectory = _trajectory(evidence, by_step, space, wrong)
        wrong |= {one.step for one in trajectory if one.step is not None}
    first = beginning(evidence, space, frozenset(wrong))
    return [
        ("payloads", payloads if len(evidence) > 1 else None),
        ("trajectory", trajectory),
        ("beginning", first),
    ]


def _same(
    same: Same, by_step: dict[int, Evidence], space: Distances | None, grouped: set[int]
) -> tuple[Finding, list[int]]:
    """What to say of steps that hold the same weights, and those that are passed over from then on."""
    right, certain = _fitting(same, space, grouped)
    others = [step for step in same.steps if step != right]
    step = others[0]
    what = f"the same {listed(same.shards)}" if same.shards else "the same weights"
    how = "" if same.by == "sha256" else " in every number that was compared"
    text = f"{named_steps(same.steps)} hold {what}{how}"
    if same.unmoved:
        text += ": as a learning rate that begins at 0 leaves them; if yours does not, publish the later ones again"
    elif certain:
        text += f", which fit step {right}: publish {named_steps(others)} again, or leave {_them(others)} out"
    else:
        text += ": at most one of them can be right: compare with the training, and publish the others again"
    severity: Severity = "warning" if same.unmoved else "error"
    figures: dict[str, Any] = {"steps": list(same.steps), "fits": right if certain else None, "by": same.by}
    if same.shards:
        figures["files"] = list(same.shards)
    return Finding(step, by_step[step].name, "payloads", severity, text, figures), others


def _them(steps: Sequence[int]) -> str:
    return "it" if len(steps) == 1 else "them"


def _fitting(same: Same, space: Distances | None, grouped: set[int]) -> tuple[int, bool]:
    """The step among those that hold the same weights to which these belong: where they make the way through the run
    least longer; and whether that can be told."""
    first = same.steps[0]
    if space is None or same.unmoved:
        return first, False
    inside = {step: n for step in same.steps if (n := space.index(step)) is not None}
    rest = [n for n, step in enumerate(space.steps) if step not in grouped]
    if len(inside) < 2 or len(rest) < 2:
        return first, False
    if same.shards:
        return _fitting_shard(same, space, rest)
    return _shortest({step: detour(space, sorted([*rest, n]), n) for step, n in inside.items()})


def _shortest(ways: dict[int, float]) -> tuple[int, bool]:
    """The step of the shortest way, and whether it is by far the shortest: of two neighbours no one can tell."""
    first, *others = sorted(ways, key=lambda step: ways[step])
    clear = bool(others) and ways[others[0]] > CLEARLY * max(ways[first], 1e-3 * max(ways.values()))
    return first, clear


def _fitting_shard(same: Same, space: Distances, rest: list[int]) -> tuple[int, bool]:
    """The same for single files: the other files are the step's own, so the step that lies off the way is wrong."""
    ways = {step: detour(space, sorted([*rest, n]), n) for step in same.steps if (n := space.index(step)) is not None}
    return _shortest(ways)


def _trajectory(
    evidence: Sequence[Evidence], by_step: dict[int, Evidence], space: Distances, wrong: Iterable[int]
) -> list[Finding]:
    """Steps off the way, by all files of weights together and by each; a file alone is named."""
    passed = frozenset(wrong)
    groups = groups_of(evidence)
    found: dict[int, tuple[Odd, list[str]]] = {odd.step: (odd, []) for odd in odd_steps(space, passed)}
    if len(groups) > 1:
        by_group = {
            group: odd_steps(own, passed) for group in groups if (own := distances(evidence, group)) is not None
        }
        for group, odds in by_group.items():
            for odd in odds:
                known = found.setdefault(odd.step, (odd, []))
                known[1].append(group)
    return [_off(by_step[step], odd, files, len(groups)) for step, (odd, files) in sorted(found.items())]


def _off(one: Evidence, odd: Odd, files: list[str], n_files: int) -> Finding:
    what = f"{', '.join(files)} of {one.label}" if 0 < len(files) < n_files else one.label
    if odd.why == "off":
        text = f"{what} is {odd.figures['excess']:.1f} times off the way from the step before to the step after"
        text += f", and nearly that of step {odd.other}" if odd.other is not None else ""
    elif odd.why == "back":
        text = f"{what} holds nearly the weights of step {odd.other}, from which other steps lie between"
    elif odd.why == "still":
        text = f"{what} and step {odd.other} hold nearly the same weights, while the steps around them move"
    else:
        text = f"{what} does not go on from step {odd.other}: their cosine is {odd.figures['cosine']:.3f}"
    return Finding(one.step, one.name, "trajectory", "error", f"{text}: {_AGAIN}", odd.figures | {"other": odd.other})
