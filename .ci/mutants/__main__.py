"""Mutation testing: small faults are put into the code, one at a time, and the tests must notice.

    python .ci/mutants                       all files of groups.toml
    python .ci/mutants metrics cca           one group, files whose path has "cca"
    python .ci/mutants --sample 20 --seed 1  twenty faults of each file, chosen by chance
    python .ci/mutants metrics cca --suite tests/metrics/test_cca.py --keep /tmp/cca   which of them these tests notice

Prints a table and each survivor; `--report FOLDER` writes both for each group that is measured whole, with the reasons
of reasons.toml for those that change nothing. Ends with 1 where a file lets more than a tenth through.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import covering
import trials
from mutations import Mutant, mutants

HERE = Path(__file__).parent.resolve()
ROOT = HERE.parent.parent
LEAST = 0.9


@dataclass
class Score:
    """What became of the faults of one file."""

    path: Path
    possible: int = 0
    tried: int = 0
    timed_out: int = 0
    survivors: list[Mutant] = field(default_factory=list)
    no_faults: list[tuple[Mutant, str]] = field(default_factory=list)

    def give_reasons(self, reasons: list[dict[str, str]]) -> None:
        """Take those that change nothing, as reasons.toml says, from the survivors."""
        file = str(self.path.relative_to(ROOT))
        survivors, self.survivors = self.survivors, []
        for one in survivors:
            for reason in reasons:
                if (
                    file == reason["file"]
                    and one.before == reason["before"]
                    and reason.get("after") in (None, one.after)
                ):
                    self.no_faults.append((one, reason["why"]))
                    break
            else:
                self.survivors.append(one)

    @property
    def killed(self) -> int:
        """How many were noticed."""
        return self.tried - len(self.survivors) - len(self.no_faults)

    @property
    def share(self) -> float:
        """Noticed, of those tried that change something; 1 where there are none."""
        return self.killed / faults if (faults := self.tried - len(self.no_faults)) else 1.0


def main() -> None:
    """Measure, print, write."""
    arguments = _arguments()
    groups = tomllib.loads((HERE / "groups.toml").read_text())
    words = [word for word in arguments.only if word not in groups]
    reasons = tomllib.loads((HERE / "reasons.toml").read_text()).get("survivor", [])
    too_many = False
    for name, group in groups.items():
        if len(words) < len(arguments.only) and name not in arguments.only:
            continue
        scores = _measure(group, words, arguments)
        if scores:
            for score in scores:
                score.give_reasons(reasons)
            report = _report(name, scores)
            print(report)
            too_many |= any(score.share < LEAST for score in scores)
        whole = not words and arguments.sample is None and arguments.suite is None
        if scores and arguments.report and whole:
            arguments.report.mkdir(exist_ok=True)
            (arguments.report / f"{name}.md").write_text(report)
    sys.exit(too_many)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="*", help="groups, or parts of paths")
    parser.add_argument("--sample", type=int, help="at most so many faults of each file")
    parser.add_argument("--seed", type=int, default=0, help="which ones")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seconds", type=float, default=20.0, help="of tests that one fault is tried with")
    parser.add_argument(
        "--keep",
        type=Path,
        default=ROOT / ".mutants",
        help="a folder for coverage and what was noticed; remove it to measure anew",
    )
    parser.add_argument(
        "--suite", nargs="+", help="files or folders of tests, relative to the package, that may notice"
    )
    parser.add_argument("--report", type=Path, help="a folder to write into")
    return parser.parse_args()


def _measure(group: dict[str, Any], words: list[str], arguments: argparse.Namespace) -> list[Score]:
    package, name = ROOT / str(group["package"]), str(group["name"])
    source = package / "src" / name
    leave = {source / one for one in group.get("leave", [])}
    files = sorted({file for pattern in group["files"] for file in source.glob(pattern)} - leave)
    files = [file for file in files if not words or any(word in str(file.relative_to(ROOT)) for word in words)]
    if not files:
        return []
    keep = arguments.keep / name
    covered = covering.measure(package, name, arguments.suite or group["suite"], keep)
    noticed = keep / "noticed"
    known = set(noticed.read_text().split()) if noticed.exists() else set()
    scores = [Score(file) for file in files]
    open_ones: list[tuple[Score, Mutant]] = []
    for score in scores:
        found = list(mutants(score.path.read_text()))
        score.possible = len(found)
        if arguments.sample is not None and len(found) > arguments.sample:
            found = random.Random(f"{arguments.seed} {score.path.name}").sample(found, arguments.sample)
        score.tried = len(found)
        open_ones += [(score, mutant) for mutant in found if mutant.digest not in known]
    witnesses = {
        test for score, mutant in open_ones for test in covered.tests(score.path, mutant.line, arguments.seconds)
    }
    trials.load_libraries(package, name, sorted({test.partition("::")[0] for test in witnesses}))
    covered = _without_false_alarms(covered, witnesses, package, keep / "sound.json", arguments.jobs)
    work: list[tuple[tuple[Score, Mutant], trials.Trial]] = []
    for score, mutant in open_ones:
        module = ".".join(score.path.relative_to(package / "src").with_suffix("").parts).removesuffix(".__init__")
        tests = covered.tests(score.path, mutant.line, arguments.seconds)
        if not tests:
            _tell(score, mutant)
            continue
        spent = sum(covered.seconds[test] for test in tests)
        work.append(((score, mutant), trials.Trial(package, module, score.path, mutant.source, tests, spent)))
    with noticed.open("a") as log:
        for n, ((score, mutant), outcome) in enumerate(trials.run(work, arguments.jobs), 1):
            score.timed_out += outcome == trials.TIMED_OUT
            if outcome == trials.SURVIVED:
                _tell(score, mutant)
            else:
                print(mutant.digest, file=log, flush=True)
            if n % 100 == 0:
                print(f"{name}: {n} of {len(work)}", flush=True)
    return scores


def _without_false_alarms(
    covered: covering.Covering, witnesses: set[str], package: Path, keep: Path, jobs: int
) -> covering.Covering:
    """Only the tests that pass as trials run them, with the seconds that they take there."""
    told: dict[str, float | None] = json.loads(keep.read_text()) if keep.exists() else {}
    passed = trials.sound(package, witnesses - told.keys(), jobs)
    told |= {test: passed.get(test) for test in witnesses - told.keys()}
    keep.write_text(json.dumps(told))
    for test in sorted(test for test in witnesses if told[test] is None):
        print(f"  not a witness, as it fails without a fault: {test}", flush=True)
    return covered.of({test: spent for test, spent in told.items() if spent is not None})


def _tell(score: Score, mutant: Mutant) -> None:
    score.survivors.append(mutant)
    print(f"  {score.path.relative_to(ROOT)}:{mutant.line}: {mutant.before}  ->  {mutant.after}", flush=True)


def _report(name: str, scores: list[Score]) -> str:
    lines = [
        f"# {name}: faults that tests notice, and those they do not",
        "",
        f"Written by `make mutants ONLY={name}`. The share is of the faults that change something: for the others,",
        "`.ci/mutants/reasons.toml` says why they do not.",
        "",
        "| file | changes | tried | noticed | of them by time | change nothing | share |",
        "|---|---|---|---|---|---|---|",
    ]
    rows = [
        (one.path.relative_to(ROOT), one.possible, one.tried, one.killed, one.timed_out, len(one.no_faults), one.share)
        for one in sorted(scores, key=lambda one: one.path)
    ]
    sums = [sum(row[column] for row in rows) for column in range(1, 6)]
    rows.append(("all", *sums, sums[2] / max(sums[1] - sums[4], 1)))
    lines += ["| " + " | ".join(map(str, row[:-1])) + f" | {row[-1]:.0%} |" for row in rows]
    for score in sorted(scores, key=lambda one: one.path):
        found = [(one, ": no test notices it") for one in score.survivors] + [
            (one, f": {why}") for one, why in score.no_faults
        ]
        if found:
            lines += ["", f"## {score.path.relative_to(ROOT)}", ""]
        for one, why in sorted(found, key=lambda pair: (pair[0].line, pair[0].operator, pair[0].after)):
            lines.append(f"- {one.line}: `{one.before}` → `{one.after or '(left out)'}`{why}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
